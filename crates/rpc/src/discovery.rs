//! Membership at every configured tracker: one stream each, joined again with backoff for as long as we live.
//!
//! The list is for finding others, never for judging them: a tracker that is away leaves its last list standing,
//! and only the directory's leases say who is dead.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::{
    ConnectError, Peer, Streams, connect,
    transport::{CONNECT_TIMEOUT, chain},
    v1::{Component, JoinRequest, Load, join_request, tracker_client::TrackerClient},
};

/// How often the load is sent, changed or not: `kurir status` is never older than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Between attempts at a tracker that does not answer: a tracker that comes back knows everybody soon after.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Requests waiting for one tracker's stream. The sender is the only producer and waits when it is full.
const REQUESTS: usize = 4;

/// Membership at the trackers. Clones share it; it ends with the token given to [`Discovery::start`].
#[derive(Debug, Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: watch::Sender<Component>,
    draining: watch::Sender<bool>,
    load: watch::Sender<Load>,
    components: watch::Sender<Arc<Vec<Component>>>,
    /// The last list of each tracker that has ever answered, by its address.
    lists: Mutex<HashMap<String, Vec<Component>>>,
    joined: watch::Sender<bool>,
    streams: Streams,
}

#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the tracker ended the stream")]
    Stream(#[from] Status),
    #[error("the tracker closed the stream")]
    Closed,
    #[error("the tracker does not answer")]
    Silent,
}

impl Discovery {
    /// Joins every tracker of `trackers` (`http://host:port`) as `me`, and keeps joined until `shutdown`. Its tasks
    /// are `tracker`'s, and counted in `streams`.
    pub fn start(
        trackers: Vec<String>,
        me: Component,
        streams: Streams,
        shutdown: &CancellationToken,
        tracker: &TaskTracker,
    ) -> Discovery {
        let shared = Arc::new(Shared {
            me: watch::Sender::new(me),
            draining: watch::Sender::new(false),
            load: watch::Sender::new(Load::default()),
            components: watch::Sender::new(Arc::default()),
            lists: Mutex::default(),
            joined: watch::Sender::new(false),
            streams,
        });
        for url in trackers {
            let shared = Arc::clone(&shared);
            let shutdown = shutdown.clone();
            tracker.spawn(async move {
                let _ = shutdown.run_until_cancelled(shared.keep_joined(&url)).await;
            });
        }
        Discovery { shared }
    }

    /// The union of the trackers' lists; of several generations of one id the youngest.
    pub fn components(&self) -> watch::Receiver<Arc<Vec<Component>>> {
        self.shared.components.subscribe()
    }

    /// What `kurir status` shows of this component.
    pub fn set_load(&self, users: u64, connections: u64) {
        self.shared.load.send_replace(Load { users, connections });
    }

    /// Registers again as `me`: after fencing a component has a new generation.
    pub fn set_component(&self, me: Component) {
        self.shared.me.send_replace(me);
    }

    /// Has every tracker give this component to no more clients. Components still find it.
    pub fn set_draining(&self) {
        self.shared.draining.send_replace(true);
    }

    /// Waits until one tracker has answered with its list.
    pub async fn joined(&self) {
        // The sender lives in `shared`, so the wait can only end with the value.
        let _ = self.shared.joined.subscribe().wait_for(|joined| *joined).await;
    }
}

impl Shared {
    async fn keep_joined(&self, url: &str) {
        let _wanted = self.streams.wanted(Peer::Tracker);
        let mut reported = false;
        loop {
            let mut me = self.me.subscribe();
            let session = self.session(url, me.borrow_and_update().clone());
            tokio::select! {
                result = session => {
                    if let Err(error) = result {
                        // One line when a tracker goes away, not one for each attempt.
                        if reported {
                            tracing::debug!(tracker = url, error = chain(&error), "still no tracker");
                        } else {
                            tracing::warn!(tracker = url, error = chain(&error), "tracker is away; trying again");
                        }
                        reported = !matches!(error, JoinError::Stream(_) | JoinError::Closed);
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                // A new generation: leave the stream and register again at once.
                _ = me.changed() => {}
            }
        }
    }

    /// One stream to one tracker, from `register` to its end.
    async fn session(&self, url: &str, me: Component) -> Result<(), JoinError> {
        let mut client = TrackerClient::new(connect(url).await?);
        let (requests, outgoing) = tokio::sync::mpsc::channel(REQUESTS);
        let mut draining = self.draining.subscribe();
        let register = |draining| {
            let me = Component { draining, ..me.clone() };
            JoinRequest { message: Some(join_request::Message::Register(me)) }
        };
        // The channel is empty and its receiver is held here, so there is room.
        let _ = requests.try_send(register(*draining.borrow_and_update()));
        let joined = timeout(CONNECT_TIMEOUT, client.join(ReceiverStream::new(outgoing))).await;
        let mut lists = joined.map_err(|_| JoinError::Silent)??.into_inner();
        let _open = self.streams.open(Peer::Tracker);
        let mut every = tokio::time::interval(REPORT_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                list = lists.next() => {
                    let list = list.ok_or(JoinError::Closed)??;
                    self.learn(url, list.components);
                }
                // The sender is part of `self`. A tracker that takes nothing ends the stream, and is told by the next one.
                Ok(()) = draining.changed() => {
                    let now = *draining.borrow_and_update();
                    requests.send(register(now)).await.map_err(|_| JoinError::Closed)?;
                }
                _ = every.tick() => {
                    let load = *self.load.borrow();
                    let load = JoinRequest { message: Some(join_request::Message::Load(load)) };
                    // Full: the tracker is slow, the next report says more.
                    let _ = requests.try_send(load);
                }
            }
        }
    }

    fn learn(&self, url: &str, list: Vec<Component>) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert(url.to_owned(), list);
        let mut union: BTreeMap<(i32, &str), &Component> = BTreeMap::new();
        for component in lists.values().flatten() {
            let known = union.entry((component.kind, &component.id)).or_insert(component);
            // UUIDv7 in hyphenated form: the order of the text is the order of age.
            if known.generation < component.generation {
                *known = component;
            }
        }
        let union: Vec<Component> = union.into_values().cloned().collect();
        drop(lists);
        self.components.send_if_modified(|current| {
            let changed = **current != union;
            if changed {
                *current = Arc::new(union);
            }
            changed
        });
        self.joined.send_replace(true);
    }
}
