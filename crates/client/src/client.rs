//! The handle and its requests.

use std::sync::{Arc, OnceLock};

use kurir_protocol::client::{Archived, Draft, ToServer};
use kurir_protocol::framing::Limits;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::error::{ConnectError, PresenceError, Refusal, RequestError, SendError};
use crate::event::{
    Displayed, Ended, Events, Explanation, ListedDevice, Message, Outlet, Page, Presence, RosterItem, Search,
    Waiting, name,
};
use crate::message::{ChatState, MessageId, NewMessage};
use crate::options::{Options, Timing};
use crate::pending::{Answer, Ask, Request};
use crate::relay::Outgoing;
use crate::session::{Command, Session};
use crate::tracking::{Done, Opened};

/// Commands on their way to the session's task; callers wait when it is full.
const COMMANDS: usize = 256;

/// As long as an `id` gets.
const LONGEST_ID: &str = "18446744073709551615";

/// A connected user. Clones are handles of the same session; when the last one is dropped, the connections are closed,
/// which counts as a logout (M31).
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Shared {
    username: String,
    timing: Timing,
    ended: Arc<OnceLock<Ended>>,
}

impl Client {
    /// Finds a manager (U1), registers or logs in there (U2–U4), connects to a relay (U5), sends the initial presence and
    /// asks for the roster (U6). Returns once all of that is answered; from then on the session reconnects by itself.
    ///
    /// What may pass is tried again until [`Timing::connect`]. Must be called in a tokio runtime.
    pub async fn connect(options: Options) -> Result<(Self, Events), ConnectError> {
        if options.trackers.is_empty() {
            return Err(ConnectError::NoTrackers);
        }
        let opened = Opened::open(&options).await?;
        if options.password.is_empty() && opened.session().is_none() {
            return Err(Refusal::SessionOver.into());
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (outlet, events) = Outlet::new();
        let (done, online) = oneshot::channel();
        let ended = Arc::new(OnceLock::new());
        let shared = Shared {
            username: options.username.clone(),
            timing: options.timing.clone(),
            ended: Arc::clone(&ended),
        };
        let session = Session::new(options, opened, receiver, outlet, ended, done);
        // It ends by itself when the last `Client` is gone, this one included if this future is dropped.
        tokio::spawn(session.run());
        let client = Self { shared: Arc::new(shared), commands };
        // The session always answers, at its deadline at the latest.
        online.await.unwrap_or(Err(ConnectError::NoTrackers))?;
        Ok((client, events))
    }

    /// The name that this client was given.
    pub fn username(&self) -> &str {
        &self.shared.username
    }

    /// Sends a message that is stored for its receiver, online or not. `Ok` when it is in the queue, and in the state file
    /// if there is one: from then on it is sent, by this session or a later one, until there is an
    /// [`Event::Stored`](crate::Event::Stored) or a reason against it. Messages are stored in the order of the calls.
    pub async fn send(&self, message: NewMessage) -> Result<MessageId, SendError> {
        let id = MessageId::new();
        let stanza = message.stanza(self.username(), id);
        if let Some(limit) = too_large(stanza.len()) {
            return Err(SendError::TooLarge { limit });
        }
        self.queued(|done| Command::Send { id, stanza, done }).await
    }

    /// Tells the sender of a markable message that it has been read, and with it all earlier ones of the conversation.
    /// `stanza_id` is in the message's [`Entry`](crate::Entry).
    pub async fn displayed(&self, from: &str, stanza_id: &str) -> Result<MessageId, SendError> {
        self.send(NewMessage::displayed(from.to_owned(), stanza_id.to_owned())).await
    }

    /// Messages that are neither stored nor refused, in order.
    pub async fn waiting(&self) -> Vec<Waiting> {
        let (reply, waiting) = oneshot::channel();
        if self.commands.send(Command::Waiting(reply)).await.is_err() {
            return Vec::new();
        }
        waiting.await.unwrap_or_default()
    }

    /// Sends a message that has [expired](crate::Event::Expired) as a new one: its new id. If the old one was stored all the
    /// same, the receiver has it twice.
    pub async fn send_again(&self, id: MessageId) -> Result<MessageId, SendError> {
        let new = MessageId::new();
        self.queued(|done| Command::SendAgain { old: id, new, done }).await
    }

    /// Gives up a message that has [expired](crate::Event::Expired).
    pub async fn discard(&self, id: MessageId) -> Result<(), SendError> {
        self.queued(|done| Command::Discard(id, done)).await.map(|_| ())
    }

    /// Sends a message as the original does (U14): to whoever is connected now, and kept by nobody. `Ok` when the relay's
    /// socket took all of it; if it reaches nobody, an [`Event::MessageFailed`](crate::Event::MessageFailed) follows. While
    /// the relay is being connected again it waits, up to [`Timing::request`].
    pub async fn send_untracked(&self, to: &str, body: &str) -> Result<(), SendError> {
        self.live(Draft { to, body: Some(body), ..Draft::default() }).await
    }

    /// Tells somebody what this user is doing in the conversation with them. It is kept by nobody.
    pub async fn chat_state(&self, to: &str, state: ChatState) -> Result<(), SendError> {
        self.live(Draft { to, state: Some(state), ..Draft::default() }).await
    }

    async fn queued(&self, command: impl FnOnce(Done) -> Command) -> Result<MessageId, SendError> {
        let (done, kept) = oneshot::channel();
        if self.commands.send(command(done)).await.is_err() {
            return Err(SendError::Ended(self.ended()));
        }
        kept.await.unwrap_or_else(|_| Err(SendError::Ended(self.ended())))
    }

    async fn live(&self, draft: Draft<'_>) -> Result<(), SendError> {
        let mut line = Vec::new();
        ToServer::Message(Draft { from: self.username(), ..draft }).write(&mut line);
        // The LF does not count.
        if let Some(limit) = too_large(line.len() - 1) {
            return Err(SendError::TooLarge { limit });
        }
        let (done, sent) = oneshot::channel();
        let message = Command::Message(Outgoing { line, done });
        let sent = async {
            if self.commands.send(message).await.is_err() {
                return Err(self.ended());
            }
            sent.await.unwrap_or_else(|_| Err(self.ended()))
        };
        timeout(self.shared.timing.request, sent)
            .await
            .map_err(|_| SendError::TimedOut)?
            .map_err(SendError::Ended)
    }

    /// The roster (U7).
    pub async fn roster(&self) -> Result<Vec<RosterItem>, RequestError> {
        match self.request(Ask::Roster).await? {
            Answer::Roster(items) => Ok(items),
            _ => Err(RequestError::Incomplete),
        }
    }

    /// A part of the account's log: messages that were sent and received, also by other devices, as far as the servers keep
    /// them.
    pub async fn archive(&self, search: &Search) -> Result<Page, RequestError> {
        let Answer::Archive(page) = self.request(Ask::Archive(search.clone())).await? else {
            return Err(RequestError::Incomplete);
        };
        let message = |Archived { message, stanza }| Message::new(message, self.username(), true, stanza);
        let messages = page.messages.into_iter().map(message).collect();
        Ok(Page { messages, complete: page.complete, first: page.first })
    }

    /// How far this account has read each conversation, on whichever device, the one read last first.
    pub async fn read_up_to(&self) -> Result<Vec<Displayed>, RequestError> {
        let Answer::Displayed(conversations) = self.request(Ask::Displayed).await? else {
            return Err(RequestError::Incomplete);
        };
        let with = |read: Displayed| Displayed { with: name(&read.with), ..read };
        Ok(conversations.into_iter().map(with).collect())
    }

    /// What became of a message that this account has sent, as far as the servers remember it (an hour as a rule).
    /// `stanza_id` is in its [`Event::Stored`](crate::Event::Stored). For people who wonder.
    pub async fn explain(&self, stanza_id: &str) -> Result<Explanation, RequestError> {
        match self.request(Ask::Explain { stanza_id: stanza_id.to_owned() }).await? {
            Answer::Explained(explanation) => Ok(explanation),
            _ => Err(RequestError::Incomplete),
        }
    }

    /// The account's devices.
    pub async fn devices(&self) -> Result<Vec<ListedDevice>, RequestError> {
        match self.request(Ask::Devices).await? {
            Answer::Devices(devices) => Ok(devices),
            _ => Err(RequestError::Incomplete),
        }
    }

    /// Removes a device of the account: its connections are closed, its session ends, and how far it has read is forgotten.
    /// Of this device itself it is a logout, after which [`Ended::LoggedOut`] comes.
    pub async fn remove_device(&self, resource: &str) -> Result<(), RequestError> {
        self.request(Ask::RemoveDevice { resource: resource.to_owned() }).await.map(|_| ())
    }

    /// Adds a contact (U8); the item as it is then.
    pub async fn add(&self, jid: &str, name: Option<&str>) -> Result<RosterItem, RequestError> {
        let ask = Ask::Set { jid: jid.to_owned(), name: name.map(str::to_owned) };
        match self.request(ask).await? {
            Answer::Item(item) => Ok(item),
            _ => Err(RequestError::Incomplete),
        }
    }

    /// Renames a contact (U9); the item as it is then. The protocol knows no difference to adding: who is not in the
    /// roster is added.
    pub async fn rename(&self, jid: &str, name: Option<&str>) -> Result<RosterItem, RequestError> {
        self.add(jid, name).await
    }

    /// Removes a contact (U10).
    pub async fn remove(&self, jid: &str) -> Result<(), RequestError> {
        self.request(Ask::Remove { jid: jid.to_owned() }).await.map(|_| ())
    }

    /// Changes what others see of this user (U12). `Ok` when the manager has handled it. An empty one is refused as
    /// `bad-request`: with an empty `bio` the packet would be an initial presence.
    pub async fn bio(&self, bio: &str) -> Result<(), RequestError> {
        if bio.is_empty() {
            let (kind, condition) = ("modify".to_owned(), "bad-request".to_owned());
            return Err(RequestError::Refused { kind, condition });
        }
        self.request(Ask::Bio { bio: bio.to_owned() }).await.map(|_| ())
    }

    /// Asks for anybody's presence, showing them one's own (U11).
    pub async fn presence(&self, of: &str) -> Result<Presence, PresenceError> {
        match self.request(Ask::Presence { of: of.to_owned() }).await {
            Ok(Answer::Presence(presence)) => Ok(presence),
            // Nor has a user a name that does not fit into a packet.
            Ok(_) | Err(RequestError::TooLarge { .. }) => Err(PresenceError::UserNotFound),
            Err(RequestError::Refused { kind, condition }) => Err(PresenceError::Refused { kind, condition }),
            Err(RequestError::Ended(ended)) => Err(PresenceError::Ended(ended)),
            Err(RequestError::TimedOut | RequestError::Incomplete) => Err(PresenceError::TimedOut),
        }
    }

    /// Logs out (U13) and ends the session, after the relay has taken every message already sent. Bounded by
    /// [`Timing::logout`].
    pub async fn logout(&self) {
        let (done, left) = oneshot::channel();
        let left = async {
            if self.commands.send(Command::Logout(done)).await.is_ok() {
                // An error says the same: the session is over.
                let _ = left.await;
            }
        };
        // The session has the same deadline; this one holds even if it is stuck.
        let _ = timeout(self.shared.timing.logout * 2, left).await;
    }

    /// Asks, and asks again while the manager is only temporarily unable to answer.
    async fn request(&self, ask: Ask) -> Result<Answer, RequestError> {
        let mut line = Vec::new();
        ask.write(self.username(), LONGEST_ID, &mut line);
        // The LF does not count.
        if let Some(limit) = too_large(line.len() - 1) {
            return Err(RequestError::TooLarge { limit });
        }
        let timing = &self.shared.timing;
        let deadline = Instant::now() + timing.request;
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        loop {
            let answer =
                timeout_at(deadline, self.ask(ask.clone())).await.map_err(|_| RequestError::TimedOut)?;
            let (kind, condition) = match answer {
                Answer::Refused { kind, condition } => (kind, condition),
                Answer::Ended(ended) => return Err(RequestError::Ended(ended)),
                answer => return Ok(answer),
            };
            let delay = backoff.next(rand::random());
            if kind != "wait" || Instant::now() + delay >= deadline {
                return Err(RequestError::Refused { kind, condition });
            }
            sleep(delay).await;
        }
    }

    async fn ask(&self, ask: Ask) -> Answer {
        let (reply, answer) = oneshot::channel();
        let request = Command::Request(Request { ask, reply: Some(reply) });
        if self.commands.send(request).await.is_err() {
            return Answer::Ended(self.ended());
        }
        answer.await.unwrap_or_else(|_| Answer::Ended(self.ended()))
    }

    fn ended(&self) -> Ended {
        self.shared.ended.get().cloned().unwrap_or(Ended::LoggedOut)
    }
}

/// The limit, if the servers' default limits refuse so many bytes.
fn too_large(bytes: usize) -> Option<usize> {
    let limit = Limits::default().max_value_bytes;
    (bytes > limit).then_some(limit)
}
