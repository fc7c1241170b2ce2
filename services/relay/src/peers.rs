//! Who else is there, from the trackers and the directory: links to relays and attachments to managers follow it, and so
//! does what this relay's own lease demands.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kurir_directory::{Component, Event, Generation, Kind};
use kurir_rpc::v1::{self, ComponentKind, RelayHello};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{attach, audit, relay::Relay};

/// How often the directory's list is read: for peers that no tracker has told us of, because none is there.
const READ_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Peers {
    relay: Arc<Relay>,
    /// This relay as others are told of it.
    me: v1::Component,
    attached: HashMap<String, Attached>,
    /// Claims of every connection that are under way, and why.
    claiming: Option<(CancellationToken, audit::Cause)>,
}

struct Attached {
    generation: String,
    over: CancellationToken,
}

impl Peers {
    pub(crate) fn new(relay: Arc<Relay>, me: v1::Component) -> Self {
        Self { relay, me, attached: HashMap::new(), claiming: None }
    }

    /// Meets everybody on the trackers' list and in the directory.
    pub(crate) async fn meet_all(&mut self) {
        let listed = self.relay.discovery.components().borrow().clone();
        for component in listed.iter() {
            self.meet(component);
        }
        // Away: the next reading is soon.
        let Ok(alive) = self.relay.directory.components().await else { return };
        let alive: Vec<_> = alive.iter().map(announced).collect();
        for component in &alive {
            self.meet(component);
        }
        self.attached.retain(|_, attached| {
            let known =
                alive.iter().chain(listed.iter()).any(|other| other.generation == attached.generation);
            if !known {
                attached.over.cancel();
            }
            known
        });
    }

    /// Follows everything until this relay is over.
    pub(crate) async fn follow(mut self, mut events: mpsc::Receiver<Event>) {
        let over = self.relay.over.clone();
        let mut listed = self.relay.discovery.components();
        let mut every = interval(READ_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                event = events.recv() => match event {
                    Some(event) => self.heard(event).await,
                    // The member has left.
                    None => return,
                },
                changed = listed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let list = listed.borrow_and_update().clone();
                    list.iter().for_each(|component| self.meet(component));
                }
                _ = every.tick() => self.meet_all().await,
            }
        }
    }

    async fn heard(&mut self, event: Event) {
        match event {
            Event::Joined(component) => self.meet(&announced(&component)),
            Event::Died(component) if component.kind == Kind::Relay => {
                self.relay.links.died(&component.id, component.generation);
            }
            Event::Died(component) => self.left(&component),
            Event::Renewed { new, .. } => self.begin_again(new).await,
            Event::Epoch => self.claim_all(audit::Cause::Lost),
            Event::Recovered => {}
            Event::Away => tracing::warn!("directory is away: no hellos and no new routes until it is back"),
            Event::Back => tracing::info!("directory is back"),
        }
    }

    /// R2, R4.
    fn meet(&mut self, component: &v1::Component) {
        match ComponentKind::try_from(component.kind) {
            Ok(ComponentKind::Relay) => {
                if let (Ok(id), Ok(generation)) = (component.id.parse(), component.generation.parse()) {
                    let _ = self.relay.links.get(&id, generation);
                }
            }
            Ok(ComponentKind::Manager) => self.attach(component),
            Ok(ComponentKind::Unspecified) | Err(_) => {}
        }
    }

    fn attach(&mut self, manager: &v1::Component) {
        let known = self.attached.get(&manager.id);
        // UUIDv7 in hyphenated form: the order of the text is the order of age. A list may be older than what we know.
        if known.is_some_and(|known| {
            known.generation == manager.generation
                || (known.generation > manager.generation && !known.over.is_cancelled())
        }) {
            return;
        }
        let over = self.relay.over.child_token();
        let attached = Attached { generation: manager.generation.clone(), over: over.clone() };
        if let Some(before) = self.attached.insert(manager.id.clone(), attached) {
            before.over.cancel();
        }
        let me = RelayHello {
            id: self.me.id.clone(),
            generation: self.me.generation.clone(),
            client_host: self.me.client_host.clone(),
            client_port: self.me.client_port,
        };
        self.relay.tasks.spawn(attach::keep(Arc::clone(&self.relay), manager.clone(), me, over));
    }

    fn left(&mut self, manager: &Component) {
        let generation = manager.generation.to_string();
        if let Some(known) = self.attached.get(manager.id.as_str())
            && known.generation == generation
        {
            known.over.cancel();
            tracing::info!(peer = %manager.id, "manager is gone");
            // The entry stays, so that a tracker's stale list does not attach to it again.
        }
    }

    /// This relay was fenced, or dead to the others: everything that named its old life begins again.
    async fn begin_again(&mut self, generation: Generation) {
        tracing::warn!(%generation, "this relay was out of touch for longer than its lease, claiming its users again");
        let relay = Arc::clone(&self.relay);
        relay.fence.close();
        relay.load.begin_again();
        relay.links.begin_again(generation);
        self.me.generation = generation.to_string();
        relay.discovery.set_component(self.me.clone());
        for (_, attached) in self.attached.drain() {
            attached.over.cancel();
        }
        self.meet_all().await;
        self.claim_all(audit::Cause::NewLife(generation));
    }

    /// Puts every connection on record again, in a task of its own: the next event may be about this.
    fn claim_all(&mut self, cause: audit::Cause) {
        let mut cause = cause;
        if let Some((before, why)) = self.claiming.take() {
            // What has not been completed for a new life still has to be.
            if matches!(cause, audit::Cause::Lost) && !before.is_cancelled() {
                cause = why;
            }
            before.cancel();
        }
        let over = self.relay.over.child_token();
        self.claiming = Some((over.clone(), cause));
        let relay = Arc::clone(&self.relay);
        self.relay.tasks.spawn(async move {
            let claimed = over.run_until_cancelled(audit::claim_all(&relay, cause)).await;
            if claimed.is_some() {
                over.cancel();
            }
        });
    }
}

/// A component of the directory as the trackers would announce it.
fn announced(component: &Component) -> v1::Component {
    let kind = match component.kind {
        Kind::Manager => ComponentKind::Manager,
        Kind::Relay => ComponentKind::Relay,
    };
    v1::Component {
        kind: kind.into(),
        id: component.id.to_string(),
        generation: component.generation.to_string(),
        client_host: component.client.host.clone(),
        client_port: component.client.port.into(),
        grpc_url: component.grpc.clone(),
        private: false,
        draining: false,
    }
}
