//! Tracked messages as the session has them: the queue of what goes out, the place in the log of what comes in, and
//! the file that both are kept in.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kurir_delivery::inbox::Inbox;
use kurir_delivery::queue::{self, Next, Queue, is_known_again};
use kurir_protocol::manager::Session;
use kurir_protocol::name::UserKey;
use kurir_protocol::relay::Resume;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{SendError, StateError};
use crate::event::{Ended, Waiting};
use crate::journal::{self, Kept, Record};
use crate::keeper::Keeper;
use crate::message::{MessageId, NewMessage};
use crate::options::{Options, Timing};
use crate::state_file::{NotWritten, StateFile};

/// After a write that failed nobody's promise waits for, the next such comes after this.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// A message that is not settled.
pub(crate) type Queued = queue::Queued<MessageId>;

pub(crate) type Done = oneshot::Sender<Result<MessageId, SendError>>;

/// What outlives a connection, and with a file the process.
pub(crate) struct Tracking {
    username: String,
    /// Of the file: the account, and the device if it has a name.
    owner: String,
    queue: Queue<MessageId>,
    /// None: this device does not go by places.
    inbox: Option<Inbox>,
    keeper: Keeper,
    /// Senders who wait for the next write, and for the one under way. Nobody waits for a receipt.
    next: Vec<(MessageId, Option<Done>)>,
    writing: Vec<(MessageId, Option<Done>)>,
    /// What such a write takes out of the queue, by whom it waits for: without the write it stays.
    taken: Vec<(MessageId, Queued)>,
    place: Resume,
    writing_place: Option<Resume>,
    write_again: Option<Instant>,
    file: Option<PathBuf>,
    /// Somebody has been told that it cannot be written; and what the application is to be told of that.
    is_told: bool,
    complaint: Option<StateError>,
    /// From the last login; whether that is on disk, and whether the write under way brings it there.
    session: Option<Session>,
    session_is_kept: bool,
    writing_session: bool,
    backoff: Backoff,
    go_on: Option<Instant>,
}

/// What an earlier process has left, and the open file.
pub(crate) struct Opened {
    username: String,
    owner: String,
    path: Option<PathBuf>,
    file: Option<StateFile>,
    kept: Kept,
}

impl Opened {
    /// Reads the state file, if there is one.
    pub(crate) async fn open(options: &Options) -> Result<Self, StateError> {
        let name = &options.username;
        let mut owner = UserKey::map(name).map_or_else(|| name.clone(), |user| user.to_string());
        if let Some(resource) = &options.resource {
            owner = format!("{owner}/{resource}");
        }
        let username = name.clone();
        let Some(path) = options.state.clone() else {
            return Ok(Self { username, owner, path: None, file: None, kept: Kept::default() });
        };
        let (at, user) = (path.clone(), owner.clone());
        let opened = spawn_blocking(move || StateFile::open(&at, &user)).await;
        let failed = |error| StateError::Io { path: path.clone(), source: Arc::new(io::Error::other(error)) };
        let (file, kept) = opened.map_err(failed)??;
        Ok(Self { username, owner, path: Some(path), file: Some(file), kept })
    }

    /// What logs this device in.
    pub(crate) fn session(&self) -> Option<Session> {
        self.kept.session.clone()
    }
}

impl Tracking {
    pub(crate) fn new(opened: Opened, resume: Option<Resume>, timing: &Timing) -> Self {
        let Opened { username, owner, path, mut file, kept } = opened;
        let not_rewritten = file.as_mut().and_then(StateFile::not_rewritten);
        let none = || Resume { seq: 0, log: None };
        let from = resume.or_else(|| file.is_some().then(|| kept.place.clone().unwrap_or_else(none)));
        let mut tracking = Self {
            username,
            owner,
            queue: Queue::load(kept.queued),
            inbox: from.map(Inbox::new),
            keeper: Keeper::new(file),
            next: Vec::new(),
            writing: Vec::new(),
            taken: Vec::new(),
            place: kept.place.unwrap_or_else(none),
            writing_place: None,
            write_again: None,
            file: path,
            is_told: false,
            complaint: None,
            session: kept.session,
            session_is_kept: true,
            writing_session: false,
            backoff: Backoff::new(timing.first_retry, timing.longest_retry),
            go_on: None,
        };
        if let Some(error) = not_rewritten {
            tracking.complain(error);
        }
        tracking
    }

    pub(crate) fn inbox(&mut self) -> Option<&mut Inbox> {
        self.inbox.as_mut()
    }

    /// What the hello says.
    pub(crate) fn resume(&self) -> Option<Resume> {
        self.inbox.as_ref().map(Inbox::resume)
    }

    /// Where the device is in its log, as far as that is kept.
    pub(crate) fn place(&self) -> u64 {
        self.place.seq
    }

    /// A login has given this: to be used once it is on disk.
    pub(crate) fn logged_in(&mut self, session: Session) {
        self.keeper.put(&Record::session(Some(&session)), true);
        self.session = Some(session);
        self.session_is_kept = false;
        self.writing_session = false;
    }

    /// A logout ends the session.
    pub(crate) fn logs_out(&mut self) {
        if self.session.take().is_some() {
            self.session_is_kept = true;
            self.keeper.put(&Record::session(None), false);
        }
    }

    // What goes out.

    pub(crate) fn send(&mut self, id: MessageId, stanza: String, done: Option<Done>) {
        let queued = Queued { id, since_ms: now_ms(), stanza };
        let record = Record::queued(&queued);
        if !self.queue.has_room() {
            refuse(done, SendError::QueueFull);
            return;
        }
        self.keeper.put(&record, true);
        if self.queue.push(queued).is_ok() {
            self.next.push((id, done));
        }
    }

    /// Sends a message that has expired once more, as a new one.
    pub(crate) fn send_again(&mut self, old: MessageId, new: MessageId, done: Done) {
        if !self.queue.has_room() {
            return refuse(Some(done), SendError::QueueFull);
        }
        let Some(queued) = self.queue.take_expired(old) else {
            return refuse(Some(done), SendError::NotExpired);
        };
        let Some(message) = NewMessage::read(&queued.stanza) else {
            self.queue.restore_expired(queued);
            return refuse(Some(done), SendError::NotExpired);
        };
        // One write has both: neither twice nor never.
        self.taken.push((new, queued));
        self.send(new, message.stanza(&self.username, new), Some(done));
        self.keeper.put(&Record::Done { id: old }, true);
    }

    /// Gives up a message that has expired.
    pub(crate) fn discard(&mut self, id: MessageId, done: Done) {
        let Some(queued) = self.queue.take_expired(id) else {
            return refuse(Some(done), SendError::NotExpired);
        };
        self.taken.push((id, queued));
        self.keeper.put(&Record::Done { id }, true);
        self.next.push((id, Some(done)));
    }

    /// What is not settled, in order.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        self.queue.iter().filter_map(waiting).collect()
    }

    pub(crate) fn connected(&mut self) {
        self.queue.connected();
        self.go_on = None;
    }

    pub(crate) fn disconnected(&mut self) {
        self.queue.disconnected();
        self.go_on = None;
    }

    /// What to do now.
    pub(crate) fn next_to_send(&mut self) -> Next<'_, MessageId> {
        self.queue.next(now_ms())
    }

    /// The log that this device has a place in.
    pub(crate) fn log(&self) -> Option<&str> {
        self.place.log.as_deref()
    }

    /// False: it was settled before, or is not one of ours.
    pub(crate) fn settle(&mut self, id: MessageId) -> bool {
        let settled = self.queue.settle(id);
        if settled {
            self.keeper.put(&Record::Done { id }, false);
            self.backoff.worked(Duration::MAX);
        }
        settled
    }

    /// A message that was asked for is not in the archive, of which nothing was ever dropped: it is as new.
    pub(crate) fn renew(&mut self, id: MessageId) {
        if let Some(queued) = self.queue.renew(id, now_ms()) {
            self.keeper.put(&Record::queued(queued), false);
        }
    }

    /// The archive cannot say whether a message is stored.
    pub(crate) fn expire(&mut self, id: MessageId) -> Option<Waiting> {
        self.queue.expire(id).and_then(waiting).map(|waiting| Waiting { expired: true, ..waiting })
    }

    pub(crate) fn is_queued(&self, id: MessageId) -> bool {
        self.queue.iter().any(|queued| queued.id == id)
    }

    /// Not now.
    pub(crate) fn wait(&mut self, id: MessageId) {
        self.queue.wait(id);
    }

    /// Sees to it that what was refused is sent again, after a while.
    pub(crate) fn plan(&mut self, now: Instant) {
        if self.go_on.is_none() && self.queue.can_go_on() {
            self.go_on = Some(now + self.backoff.next(rand::random()));
        }
    }

    /// Nothing is left to be sent or written.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_idle() && !self.keeper.is_writing() && !self.keeper.has_lines() && !self.place_moved()
    }

    // What is kept.

    /// Queues the receipts that the application's reading calls for. `hurry`: this is the end.
    pub(crate) fn answer(&mut self, username: &str, hurry: bool) {
        while self.queue.has_room()
            && let Some(owed) = self.inbox.as_mut().and_then(|inbox| inbox.receipt(hurry))
        {
            let id = MessageId::new();
            let receipt = NewMessage::received(owed.to, owed.stanza_id);
            self.send(id, receipt.stanza(username, id), None);
        }
    }

    /// Writes what is to be kept, unless a write is under way.
    pub(crate) fn keep(&mut self) {
        if self.keeper.is_writing() {
            return;
        }
        let place = self.inbox.as_ref().map(Inbox::place).filter(|place| *place != self.place);
        if !self.keeper.has_lines() && (place.is_none() || self.write_again.is_some()) {
            return;
        }
        if let Some(place) = &place {
            self.keeper.put(&Record::place(place), false);
        }
        self.writing_place = place;
        self.writing = std::mem::take(&mut self.next);
        self.writing_session = !self.session_is_kept;
        let kept = self.writing_place.as_ref().unwrap_or(&self.place);
        let (owner, queue, session) = (&self.owner, &self.queue, self.session.as_ref());
        self.keeper.begin(|| journal::whole(owner, queue.iter(), Some(kept), session));
    }

    /// The end of a write, for [`Tracking::written`]. Cancel-safe.
    pub(crate) async fn write(&mut self) -> Result<(), NotWritten> {
        self.keeper.next().await
    }

    /// What the last login has given, once: it is on disk now.
    pub(crate) fn session_kept(&mut self) -> Option<Session> {
        (std::mem::take(&mut self.writing_session) && self.session_is_kept)
            .then(|| self.session.clone())
            .flatten()
    }

    /// A write has ended. The device's place, if that has moved.
    pub(crate) fn written(&mut self, written: Result<(), NotWritten>) -> Option<u64> {
        let place = self.writing_place.take();
        let Err(NotWritten { error, left }) = written else {
            self.write_again = None;
            self.is_told = false;
            self.session_is_kept |= self.writing_session;
            for (id, done) in self.writing.drain(..) {
                self.queue.saved(id);
                self.taken.retain(|(by, _)| *by != id);
                // Whoever sent it may not want to know.
                let _ = done.map(|done| done.send(Ok(id)));
            }
            self.place = place?;
            return Some(self.place.seq);
        };
        tracing::debug!(%error, "the state file cannot be written");
        self.write_again = Some(Instant::now() + WRITE_AGAIN);
        for (id, done) in self.writing.drain(..) {
            // The next write has the whole queue: a receipt can wait for it in there.
            let Some(done) = done else {
                self.queue.saved(id);
                continue;
            };
            self.queue.settle(id);
            for (_, queued) in self.taken.extract_if(.., |(by, _)| *by == id) {
                self.queue.restore_expired(queued);
            }
            let kind = error.kind();
            let refusal = if left { SendError::PerhapsKept { kind } } else { SendError::NotKept { kind } };
            refuse(Some(done), refusal);
            self.is_told = true;
        }
        self.complain(error);
        None
    }

    /// The application is to know that the file cannot be written, unless somebody has been told.
    fn complain(&mut self, error: io::Error) {
        if !std::mem::replace(&mut self.is_told, true)
            && let Some(path) = self.file.clone()
        {
            self.complaint = Some(StateError::Io { path, source: Arc::new(error) });
        }
    }

    /// What the application is to be told of the file, once.
    pub(crate) fn complaint(&mut self) -> Option<StateError> {
        self.complaint.take()
    }

    /// When [`Tracking::on_time`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.go_on, self.write_again].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        if self.go_on.take_if(|at| *at <= now).is_some() {
            self.queue.go_on();
        }
        if self.write_again.take_if(|at| *at <= now).is_some()
            && let Some(session) = self.session.as_ref().filter(|_| !self.session_is_kept)
        {
            self.keeper.put(&Record::session(Some(session)), true);
        }
    }

    /// Writes what is left. Nobody sends any more.
    pub(crate) async fn end(&mut self, username: &str, ended: &Ended) {
        self.write_again = None;
        self.answer(username, true);
        loop {
            self.keep();
            if !self.keeper.is_writing() {
                break;
            }
            let written = self.write().await;
            let failed = written.is_err();
            self.written(written);
            if failed {
                break;
            }
        }
        for (_, done) in self.next.drain(..) {
            refuse(done, SendError::Ended(ended.clone()));
        }
    }

    fn place_moved(&self) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| inbox.place() != self.place)
    }
}

fn refuse(done: Option<Done>, error: SendError) {
    // Whoever sent it may not want to know.
    let _ = done.map(|done| done.send(Err(error)));
}

fn waiting(queued: &Queued) -> Option<Waiting> {
    let message = NewMessage::read(&queued.stanza)?;
    let expired = !is_known_again(queued.since_ms, now_ms());
    Some(Waiting { id: queued.id, since_ms: queued.since_ms, expired, message })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
