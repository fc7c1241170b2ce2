//! The links to the other relays: one for each life of each. Of two relays the one whose life is the younger dials (R4), so
//! that there is one stream for a pair; the other waits for it (R17).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_directory::{ComponentId, Directory, Generation};
use kurir_rpc::{
    Peer,
    v1::{Component, LinkHello},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    fence::Fence,
    handover::Handovers,
    link::{Link, Rest, Standing},
    metrics::Metrics,
    router::Router,
    streams::{self, Turn},
};

/// A new link's messages wait this long for its first stream.
const OPENING: Duration = Duration::from_secs(2);

/// Between two attempts at a relay that does not answer: the first pause and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Lives known to be over. Older ones are forgotten: by then nobody speaks of them.
const OVER: usize = 1024;

#[derive(Debug)]
pub(crate) struct Links {
    id: ComponentId,
    limit_bytes: usize,
    pub(crate) router: Arc<Router>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) handovers: Arc<Handovers>,
    directory: Directory,
    /// What the trackers say, for addresses.
    components: watch::Receiver<Arc<Vec<Component>>>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// This relay's own life.
    generation: Generation,
    links: HashMap<ComponentId, Arc<Link>>,
    over: VecDeque<Generation>,
}

/// What links are made from.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) id: ComponentId,
    pub(crate) generation: Generation,
    pub(crate) limit_bytes: usize,
    pub(crate) router: Arc<Router>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) handovers: Arc<Handovers>,
    pub(crate) directory: Directory,
    pub(crate) components: watch::Receiver<Arc<Vec<Component>>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends all streams.
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Why another relay's stream is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedLink {
    #[error("hello names no component")]
    BadHello,
    #[error("that life of the relay is over")]
    Over,
    #[error("the younger of two relays dials, and that is the other one")]
    NotYours,
}

impl Links {
    pub(crate) fn new(setup: Setup) -> Arc<Self> {
        let Setup { id, generation, limit_bytes, router, fence, handovers, directory, components, .. } =
            setup;
        let state = State { generation, links: HashMap::new(), over: VecDeque::new() };
        let Setup { metrics, shutdown, tasks, .. } = setup;
        let state = Mutex::new(state);
        Arc::new(Self {
            id,
            limit_bytes,
            router,
            fence,
            handovers,
            directory,
            components,
            metrics,
            shutdown,
            tasks,
            state,
        })
    }

    pub(crate) fn is_me(&self, relay: &ComponentId) -> bool {
        self.id == *relay
    }

    /// The link to that life of a relay, made if there is none. None: that life is over.
    pub(crate) fn get(self: &Arc<Self>, peer: &ComponentId, generation: Generation) -> Option<Arc<Link>> {
        if self.is_me(peer) {
            return None;
        }
        let mut state = self.lock();
        if state.over.contains(&generation) {
            return None;
        }
        let older = match state.links.get(peer) {
            Some(link) if link.generation == generation => return Some(Arc::clone(link)),
            // A list may be older than what we know. The death of the one we know is announced if it is not.
            Some(link) if link.generation > generation => return None,
            older => older.cloned(),
        };
        let link = Link::new(peer.clone(), generation, self.limit_bytes, self.shutdown.child_token());
        state.links.insert(peer.clone(), Arc::clone(&link));
        let dials = state.generation > generation;
        drop(state);
        if let Some(older) = older {
            self.end(&older, Standing::Dead);
        }
        let (links, kept) = (Arc::clone(self), Arc::clone(&link));
        self.tasks.spawn(async move { links.keep(&kept, dials).await });
        Some(link)
    }

    /// The link to that life of a relay, if there is one.
    pub(crate) fn existing(&self, peer: &ComponentId, generation: Generation) -> Option<Arc<Link>> {
        self.lock().links.get(peer).filter(|link| link.generation == generation).cloned()
    }

    /// R24, R25: that life of a relay is over. Its streams are closed, what was on its way is answered, its routes are
    /// forgotten.
    pub(crate) fn died(&self, peer: &ComponentId, generation: Generation) {
        let mut state = self.lock();
        if !state.over.contains(&generation) {
            if state.over.len() >= OVER {
                state.over.pop_front();
            }
            state.over.push_back(generation);
        }
        let link = match state.links.get(peer) {
            Some(link) if link.generation == generation => state.links.remove(peer),
            _ => None,
        };
        drop(state);
        if let Some(link) = link {
            tracing::info!(peer = %peer, "relay is gone");
            self.end(&link, Standing::Dead);
        }
    }

    /// This relay has a new life: every link begins again, dialled from here.
    pub(crate) fn begin_again(&self, generation: Generation) {
        let mut state = self.lock();
        state.generation = generation;
        let links = std::mem::take(&mut state.links);
        drop(state);
        for link in links.values() {
            self.end(link, Standing::Dead);
        }
    }

    /// R17: the link that a stream of another relay belongs to.
    pub(crate) fn accept(self: &Arc<Self>, hello: &LinkHello) -> Result<Arc<Link>, RefusedLink> {
        let peer: ComponentId = hello.id.parse().map_err(|_| RefusedLink::BadHello)?;
        let generation: Generation = hello.generation.parse().map_err(|_| RefusedLink::BadHello)?;
        if self.lock().generation > generation {
            return Err(RefusedLink::NotYours);
        }
        self.get(&peer, generation).ok_or(RefusedLink::Over)
    }

    /// R18: who this relay is, first on every stream.
    pub(crate) fn hello(&self) -> LinkHello {
        LinkHello { id: self.id.to_string(), generation: self.lock().generation.to_string() }
    }

    /// Carries a stream that the other relay has dialled.
    pub(crate) fn carry_in_background(
        self: &Arc<Self>,
        link: Arc<Link>,
        incoming: impl streams::Incoming + 'static,
        outgoing: streams::Outgoing,
    ) {
        let links = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(turn) = Turn::take(&link).await {
                links.carry(&link, turn, incoming, outgoing).await;
            }
        });
    }

    /// Moves frames until the stream is over, and settles what it leaves. Returns how long that was.
    pub(crate) async fn carry(
        &self,
        link: &Arc<Link>,
        turn: Turn,
        incoming: impl streams::Incoming,
        outgoing: streams::Outgoing,
    ) -> Duration {
        let began = Instant::now();
        if !link.up() {
            return Duration::ZERO;
        }
        tracing::info!(peer = %link.peer, "link is up");
        let open = self.metrics.streams.open(Peer::Relay);
        let ended = streams::run(self, link, &turn, incoming, outgoing).await;
        drop(open);
        self.end(link, Standing::Down);
        match ended {
            Ok(()) => tracing::info!(peer = %link.peer, "link is closed"),
            Err(error) => {
                tracing::warn!(peer = %link.peer, error = kurir_rpc::chain(&error), "link is broken");
            }
        }
        began.elapsed()
    }

    /// Waits until each of `peers` has a stream or has failed to get one; the caller bounds it.
    pub(crate) async fn opened(&self) {
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        for link in links {
            // The sender lives in `link`.
            let _ = link.standing().wait_for(|standing| *standing != Standing::Opening).await;
        }
    }

    /// Waits until nothing is on its way; the caller bounds it.
    pub(crate) async fn settled(&self) {
        while self.lock().links.values().any(|link| !link.is_idle()) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// One life's task: its patience, and its stream if that is ours to dial.
    async fn keep(&self, link: &Arc<Link>, dials: bool) {
        let _wanted = self.metrics.streams.wanted(Peer::Relay);
        let kept = async {
            let dialled = async {
                if dials {
                    self.keep_dialled(link).await;
                }
            };
            tokio::join!(self.wait_until_open(link), dialled);
        };
        let _: Option<()> = link.over.run_until_cancelled(kept).await;
        // Who waits to be dialled has nothing more to do, and still wants its stream.
        link.over.cancelled().await;
    }

    /// Messages wait for the first stream no longer than that, whatever an attempt to get one takes.
    async fn wait_until_open(&self, link: &Arc<Link>) {
        let mut standing = link.standing();
        let open = standing.wait_for(|standing| *standing != Standing::Opening);
        if timeout(OPENING, open).await.is_err() {
            self.settle(link, &link.give_up());
        }
    }

    async fn keep_dialled(&self, link: &Arc<Link>) {
        let mut pause = RETRY.0;
        loop {
            match streams::dial(self, link).await {
                // A stream that always breaks at once is no better than none.
                Ok(lasted) if lasted > RETRY.1 => pause = RETRY.0,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(peer = %link.peer, error = kurir_rpc::chain(&error), "cannot dial relay");
                }
            }
            self.end(link, Standing::Down);
            if self.is_unknown(link).await {
                return self.unlist(link);
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Where that life of a relay is dialled. None: neither the trackers nor the directory know it.
    pub(crate) async fn address(&self, link: &Link) -> Option<String> {
        let generation = link.generation.to_string();
        let known =
            |component: &&Component| component.id == link.peer.as_str() && component.generation == generation;
        let listed = self.components.borrow().iter().find(known).map(|component| component.grpc_url.clone());
        if listed.is_some() {
            return listed;
        }
        let components = self.directory.components().await.ok()?;
        components.into_iter().find(|other| other.generation == link.generation).map(|other| other.grpc)
    }

    /// Gives up a peer whose end may have come before we listened. No verdict: after a loss of the tables it may only not be
    /// on record yet, and a new link is made when it is met again.
    fn unlist(&self, link: &Arc<Link>) {
        let mut state = self.lock();
        if state.links.get(&link.peer).is_some_and(|listed| Arc::ptr_eq(listed, link)) {
            state.links.remove(&link.peer);
        }
        drop(state);
        tracing::debug!(peer = %link.peer, "nobody knows that relay any more");
        self.end(link, Standing::Dead);
    }

    /// Whether the directory is in reach and doesn't know that life.
    async fn is_unknown(&self, link: &Link) -> bool {
        match self.directory.components().await {
            Ok(components) => !components.iter().any(|other| other.generation == link.generation),
            Err(_) => false,
        }
    }

    fn end(&self, link: &Arc<Link>, standing: Standing) {
        self.settle(link, &link.close(standing));
        if standing == Standing::Dead {
            self.router.table.forget(link);
        }
    }

    fn settle(&self, link: &Arc<Link>, rest: &Rest) {
        self.metrics.lost.inc_by(rest.parcels.len() as u64);
        self.router.lost(link, rest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
