//! The other managers: what is to be told to users who are connected there, on one stream to each.
//!
//! A queue holds what the other manager has not acknowledged; after a broken stream it is sent again from there. When it is
//! full it is dropped as a whole, and the next stream begins with the word that something was missed: the other
//! manager then reads its users' contacts again. Nobody ever waits for a queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_directory::{Component, Generation, Kind, Member};
use kurir_protocol::name::{LoginId, Resource, UserKey};
use kurir_rpc::{
    ConnectError,
    transport::CONNECT_TIMEOUT,
    v1::{self, manager_client::ManagerClient, notice::What, notify_request::Message},
};
use rand::RngExt;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::{metrics::Metrics, news::News, online::Online, rpc};

/// Notices sent and not acknowledged; more wait in the queue. Full: the sender waits for acknowledgements.
const WINDOW: usize = 1024;

/// Between gRPC and the sending task, which waits when it is full.
const STREAM: usize = 64;

/// The first wait before another attempt to connect; each is twice the one before, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The most receivers of one notice, which stays far below what gRPC takes at once whoever the receivers are.
const RECEIVERS: usize = 512;

/// What a notice costs in the queue beside its text, and each of its receivers beside the name.
const NOTICE_BYTES: usize = 256;
const RECEIVER_BYTES: usize = 24;

/// The managers that are alive, by generation.
#[derive(Debug)]
pub(crate) struct Peers {
    member: Member,
    limit_bytes: usize,
    metrics: Metrics,
    /// The tasks that hold the streams.
    tasks: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
    by_generation: Mutex<HashMap<Generation, Arc<Peer>>>,
    /// Streams from other managers, by their generation: closed when it is dead.
    incoming: Mutex<HashMap<Generation, CancellationToken>>,
}

#[derive(Debug)]
struct Peer {
    component: Component,
    queue: Mutex<Queue>,
    /// There is something to send, or the stream is to begin again.
    wake: Notify,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    /// The first `sent` of them are under way.
    notices: VecDeque<(Message, usize)>,
    sent: usize,
    bytes: usize,
    /// Something was dropped since the other manager was last told so.
    missed: bool,
    /// The stream in use does not fit what is in the queue any more.
    begin_again: bool,
}

/// Why a stream to another manager ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the stream failed")]
    Failed(#[from] Status),
    #[error("the stream ended")]
    Ended,
    #[error("the other manager does not answer")]
    Silent,
    #[error("this manager is fenced")]
    Fenced,
}

impl Peers {
    pub(crate) fn new(
        member: Member,
        limit_bytes: usize,
        metrics: Metrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            member,
            limit_bytes,
            metrics,
            tasks,
            stop,
            by_generation: Mutex::default(),
            incoming: Mutex::default(),
        }
    }

    pub(crate) fn knows(&self, generation: Generation) -> bool {
        self.peers().contains_key(&generation)
    }

    pub(crate) fn count(&self) -> usize {
        self.peers().len()
    }

    /// Takes note of another manager, and begins to connect to it.
    pub(crate) fn meet(&self, component: Component) {
        if component.kind != Kind::Manager || component.generation == self.member.generation() {
            return;
        }
        let mut peers = self.peers();
        if peers.contains_key(&component.generation) {
            return;
        }
        let peer = Arc::new(Peer {
            queue: Mutex::default(),
            wake: Notify::new(),
            stop: self.stop.child_token(),
            component,
        });
        peers.insert(peer.component.generation, Arc::clone(&peer));
        drop(peers);
        let (member, metrics) = (self.member.clone(), self.metrics.clone());
        self.tasks.spawn(async move {
            peer.stop.run_until_cancelled(peer.keep_telling(&member, &metrics)).await;
        });
    }

    /// That generation is dead: nothing is sent to it and nothing more taken from it.
    pub(crate) fn died(&self, generation: Generation) {
        if let Some(peer) = self.peers().remove(&generation) {
            peer.stop.cancel();
        }
        if let Some(stop) = self.incoming().remove(&generation) {
            stop.cancel();
        }
    }

    /// This manager has a new generation: streams begin again in its name.
    pub(crate) fn renewed(&self) {
        for peer in self.peers().values() {
            peer.queue().begin_again = true;
            peer.wake.notify_one();
        }
    }

    /// Has the users `to`, connected to that manager, told of `news`. Without such a manager they are offline by now.
    pub(crate) fn send(&self, generation: Generation, to: &[UserKey], news: &News) {
        let Some(peer) = self.peers().get(&generation).cloned() else { return };
        let mut queue = peer.queue();
        for to in to.chunks(RECEIVERS) {
            let dropped = queue.push(Message::Notice(rpc::notice(to, news)), self.limit_bytes);
            if dropped > 0 {
                tracing::warn!(peer = %peer.component.id, "a manager takes no presence; it will read its own again");
                self.metrics.notices_dropped(dropped);
                break;
            }
        }
        drop(queue);
        peer.wake.notify_one();
    }

    /// Another session has that device, whose session at that manager is to be closed. Lost with the queue: the audit there
    /// finds it.
    pub(crate) fn displaced(&self, generation: Generation, by: &Online, login: LoginId) {
        self.over(generation, &by.user, &by.device, login, false);
    }

    /// A device was removed: its session at that manager is to be closed.
    pub(crate) fn removed(&self, generation: Generation, user: &UserKey, device: &Resource, login: LoginId) {
        self.over(generation, user, device, login, true);
    }

    fn over(&self, generation: Generation, user: &UserKey, device: &Resource, login: LoginId, removed: bool) {
        let Some(peer) = self.peers().get(&generation).cloned() else { return };
        let (user, resource) = (user.to_string(), device.to_string());
        let over = v1::SessionOver { user, resource, login: login.0, removed };
        peer.queue().push(Message::Over(over), self.limit_bytes);
        peer.wake.notify_one();
    }

    /// A stream from that generation begins; the token ends it. The one before, if it still is, ends now.
    pub(crate) fn incoming_from(&self, generation: Generation) -> CancellationToken {
        let stop = self.stop.child_token();
        if let Some(older) = self.incoming().insert(generation, stop.clone()) {
            older.cancel();
        }
        stop
    }

    /// Waits until everything was taken by the others. Cancel-safe.
    pub(crate) async fn flushed(&self) {
        let unsent = || self.peers().values().any(|peer| !peer.queue().notices.is_empty());
        while unsent() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Generation, Arc<Peer>>> {
        self.by_generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn incoming(&self) -> MutexGuard<'_, HashMap<Generation, CancellationToken>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// One stream after the other for as long as that manager is alive.
    async fn keep_telling(&self, member: &Member, metrics: &Metrics) {
        let _wanted = metrics.streams.wanted(kurir_rpc::Peer::Manager);
        let mut wait = FIRST_WAIT;
        loop {
            match self.stream(member, metrics, &mut wait).await {
                Ok(()) => continue,
                Err(error) => {
                    let (peer, error) = (&self.component.id, &error as &dyn std::error::Error);
                    tracing::debug!(%peer, error, "no stream to a manager; trying again");
                }
            }
            // Not all managers at the same moment.
            let part = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(wait.mul_f64(part)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One stream, from `hello` to its end. Ok: it is to begin again at once.
    async fn stream(
        &self,
        member: &Member,
        metrics: &Metrics,
        wait: &mut Duration,
    ) -> Result<(), StreamError> {
        let mut client = ManagerClient::new(kurir_rpc::connect(&self.component.grpc).await?);
        let (requests, outgoing) = mpsc::channel(STREAM);
        let missed = self.queue().begin();
        let generation = member.check().map_err(|_| StreamError::Fenced)?;
        let hello =
            v1::ManagerHello { id: member.id().to_string(), generation: generation.to_string(), missed };
        // The channel is empty and its receiver is held here, so there is room.
        let _ = requests.try_send(v1::NotifyRequest { message: Some(Message::Hello(hello)) });
        let opened = timeout(CONNECT_TIMEOUT, client.notify(ReceiverStream::new(outgoing))).await;
        let mut acknowledgements = opened.map_err(|_| StreamError::Silent)??.into_inner();
        let _open = metrics.streams.open(kurir_rpc::Peer::Manager);
        self.queue().said(missed);
        *wait = FIRST_WAIT;
        let mut handled = 0;
        loop {
            let next = self.queue().next();
            tokio::select! {
                acknowledged = acknowledgements.next() => {
                    let acknowledged = acknowledged.ok_or(StreamError::Ended)??;
                    self.queue().acknowledged(acknowledged.handled.saturating_sub(handled));
                    handled = acknowledged.handled.max(handled);
                }
                room = requests.reserve(), if next == Next::Send => {
                    let room = room.map_err(|_| StreamError::Ended)?;
                    // A fenced manager says nothing more in the name of a life that is over.
                    if member.check() != Ok(generation) {
                        return Err(StreamError::Fenced);
                    }
                    if let Some(notice) = self.queue().take() {
                        room.send(v1::NotifyRequest { message: Some(notice) });
                        metrics.notice_sent();
                    }
                }
                () = self.wake.notified() => {}
                () = std::future::ready(()), if next == Next::BeginAgain => return Ok(()),
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stream is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Send,
    Wait,
    BeginAgain,
}

impl Queue {
    /// Returns how many were dropped because it is full.
    fn push(&mut self, notice: Message, limit_bytes: usize) -> usize {
        let bytes = weight(&notice);
        if self.bytes + bytes > limit_bytes {
            let dropped = self.notices.len() + 1;
            *self = Queue { missed: true, begin_again: true, ..Queue::default() };
            return dropped;
        }
        self.bytes += bytes;
        self.notices.push_back((notice, bytes));
        0
    }

    /// A stream begins: all that is not acknowledged is sent on it. Returns whether something was dropped.
    fn begin(&mut self) -> bool {
        self.sent = 0;
        self.begin_again = false;
        self.missed
    }

    /// The other manager has heard `hello` and in it whether something was missed.
    fn said(&mut self, missed: bool) {
        // Unless more was dropped meanwhile: then another stream says so again.
        if missed && !self.begin_again {
            self.missed = false;
        }
    }

    fn next(&self) -> Next {
        if self.begin_again {
            Next::BeginAgain
        } else if self.sent < self.notices.len().min(WINDOW) {
            Next::Send
        } else {
            Next::Wait
        }
    }

    fn take(&mut self) -> Option<Message> {
        if self.begin_again {
            return None;
        }
        let (notice, _) = self.notices.get(self.sent)?;
        self.sent += 1;
        Some(notice.clone())
    }

    fn acknowledged(&mut self, count: u64) {
        if self.begin_again {
            // These were counted on the stream that is about to end; they are sent again.
            return;
        }
        for _ in 0..count.min(self.sent as u64) {
            if let Some((_, bytes)) = self.notices.pop_front() {
                self.bytes -= bytes;
                self.sent -= 1;
            }
        }
    }
}

/// About what a notice takes in memory.
fn weight(message: &Message) -> usize {
    let notice = match message {
        Message::Notice(notice) => notice,
        Message::Over(over) => return NOTICE_BYTES + over.user.len() + over.resource.len(),
        Message::Hello(_) => return NOTICE_BYTES,
    };
    let to: usize = notice.to.iter().map(|to| to.len() + RECEIVER_BYTES).sum();
    let what = match &notice.what {
        Some(What::Presence(presence)) => presence.bio.len(),
        Some(What::Subscribed(item)) => item.jid.len() + item.name.as_ref().map_or(0, String::len),
        Some(What::Unavailable(_)) | None => 0,
    };
    NOTICE_BYTES + to + what
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(count: u64) -> Queue {
        let mut queue = Queue::default();
        for number in 0..count {
            let over = v1::SessionOver { login: number, ..v1::SessionOver::default() };
            queue.bytes += 10;
            queue.notices.push_back((Message::Over(over), 10));
        }
        queue
    }

    fn take_all(queue: &mut Queue) -> Vec<u64> {
        let mut taken = Vec::new();
        while queue.next() == Next::Send {
            let Some(Message::Over(over)) = queue.take() else { unreachable!() };
            taken.push(over.login);
        }
        taken
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_on_the_next_stream() {
        let mut queue = queue(4);
        assert_eq!(take_all(&mut queue), [0, 1, 2, 3]);
        queue.acknowledged(2);
        assert_eq!(queue.bytes, 20);
        assert!(!queue.begin(), "nothing was missed");
        assert_eq!(take_all(&mut queue), [2, 3]);
        queue.acknowledged(2);
        assert_eq!((queue.next(), queue.bytes), (Next::Wait, 0));
    }

    #[test]
    fn no_more_than_a_window_is_under_way() {
        let mut queue = queue(WINDOW as u64 + 2);
        assert_eq!(take_all(&mut queue).len(), WINDOW);
        queue.acknowledged(1);
        assert_eq!(take_all(&mut queue).len(), 1);
    }

    #[test]
    fn acknowledgements_of_a_stream_that_is_to_end_count_for_nothing() {
        let mut queue = queue(3);
        take_all(&mut queue);
        queue.begin_again = true;
        queue.acknowledged(3);
        assert_eq!(queue.notices.len(), 3);
    }

    #[test]
    fn what_was_dropped_meanwhile_is_said_on_the_next_stream_too() {
        let mut queue = Queue { missed: true, ..Queue::default() };
        assert!(queue.begin());
        // Full again before the other manager has heard of the first time.
        queue = Queue { missed: true, begin_again: true, ..Queue::default() };
        queue.said(true);
        assert!(queue.begin());
        queue.said(true);
        assert!(!queue.begin());
    }
}
