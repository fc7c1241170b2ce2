//! A user who is logged in here, and what it has been shown of others.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_directory::{Generation, NewSession};
use kurir_protocol::{
    manager::Presence,
    name::{self, LoginId, Resource, UserKey, Username},
    replies::{self, StreamCondition},
};
use kurir_service::leave::Guest;
use kurir_socket::Outbox;

use crate::{
    news::{Location, News, Place, Reader, Version, What},
    shown::{Contact, Difference, Mark, Shown},
    store::AccountId,
};

/// What may wait for the replies of a request; beyond it the order is given up, and the outbox's own limit applies.
const HELD_BYTES: usize = 256 * 1024;

/// A user's session at this manager. It is only acted for while the member's generation is the one that the session was
/// claimed under.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) user: UserKey,
    pub(crate) username: Username,
    pub(crate) account: AccountId,
    pub(crate) device: Resource,
    /// Of a device that has a name.
    named: Option<Box<Named>>,
    pub(crate) login: LoginId,
    pub(crate) client_address: IpAddr,
    displaces: bool,
    since_ms: i64,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
}

/// How a named device is addressed.
#[derive(Debug)]
struct Named {
    domain: Arc<str>,
    /// The full address.
    jid: String,
}

#[derive(Debug)]
struct State {
    /// What the session was last claimed under.
    generation: Generation,
    /// How many presences were published.
    counter: u64,
    /// The last of them says that the user is gone.
    departed: bool,
    /// Whether the client has used Part II.
    part_two: bool,
    /// Something could not be told to everybody, as the directory or the database was away.
    owes_news: bool,
    /// Some while the replies of a request are being made: what others tell meanwhile comes after them.
    held: Option<Vec<u8>>,
    shown: Shown,
}

impl Online {
    pub(crate) fn new(
        account: &crate::store::Account,
        device: Resource,
        domain: &Arc<str>,
        session: &NewSession,
        generation: Generation,
        outbox: Arc<Outbox>,
    ) -> Self {
        let named = device.is_named().then(|| {
            let jid = name::full(account.username.as_str(), domain, device.as_str());
            Box::new(Named { domain: Arc::clone(domain), jid })
        });
        Self {
            device,
            named,
            user: account.key.clone(),
            username: account.username.clone(),
            account: account.id,
            login: session.login,
            client_address: session.client_address,
            displaces: session.displaces,
            since_ms: session.since_ms,
            outbox,
            state: Mutex::new(State::new(generation, session.presence_counter)),
        }
    }

    /// How it is addressed, and others to it.
    pub(crate) fn reader(&self) -> Reader<'_> {
        match &self.named {
            Some(named) => Reader { to: &named.jid, domain: Some(&named.domain) },
            None => Reader { to: self.username.as_str(), domain: None },
        }
    }

    /// The full address of a device that has a name.
    pub(crate) fn jid(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.jid.as_str())
    }

    /// What the directory is to say of it.
    pub(crate) fn entry(&self) -> NewSession {
        NewSession {
            username: self.username.to_string(),
            login: self.login,
            since_ms: self.since_ms,
            client_address: self.client_address,
            presence_counter: self.lock().counter,
            // It was on record already.
            displaces: self.displaces,
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.lock().generation
    }

    pub(crate) fn claimed_under(&self, generation: Generation) {
        self.lock().generation = generation;
    }

    pub(crate) fn version(&self) -> Version {
        Version { login: self.login, counter: self.lock().counter }
    }

    /// Counts one more presence. None: the user is gone, and nothing may be told that is newer than that.
    pub(crate) fn next_version(&self) -> Option<Version> {
        let mut state = self.lock();
        if state.departed {
            return None;
        }
        state.counter += 1;
        Some(Version { login: self.login, counter: state.counter })
    }

    /// Whether nothing is told of this session any more.
    pub(crate) fn has_departed(&self) -> bool {
        self.lock().departed
    }

    /// The last presence: the user is gone.
    pub(crate) fn last_version(&self) -> Version {
        let mut state = self.lock();
        state.departed = true;
        state.counter += 1;
        Version { login: self.login, counter: state.counter }
    }

    pub(crate) fn used_part_two(&self) {
        self.lock().part_two = true;
    }

    pub(crate) fn owe_news(&self) {
        self.lock().owes_news = true;
    }

    pub(crate) fn owes_news(&self) -> bool {
        self.lock().owes_news
    }

    /// Whether something is owed, which from now on is not.
    pub(crate) fn settle_news(&self) -> bool {
        std::mem::take(&mut self.lock().owes_news)
    }

    /// What waits to be written to the user.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.waiting_bytes()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Another connection has this device now.
    pub(crate) fn close_for_conflict(&self) {
        // Nobody is told of it any more: the user is whom the other connection speaks for.
        self.lock().departed = true;
        self.close(StreamCondition::Conflict, replies::CONFLICT);
    }

    /// Its owner has removed this device.
    pub(crate) fn close_for_removal(&self) {
        self.close(StreamCondition::NotAuthorized, replies::UNAUTHORIZED);
    }

    /// Says why: a device that has a name, or has used Part II, is told in Part II's words as well as in `reply`.
    fn close(&self, why: StreamCondition, reply: &str) {
        self.outbox.close(&replies::last_words(reply, self.speaks_part_two().then_some(why)));
    }

    /// The last words as this process stops; another manager is as good.
    pub(crate) fn goodbye(&self) -> String {
        replies::goodbye(self.speaks_part_two())
    }

    fn speaks_part_two(&self) -> bool {
        self.named.is_some() || self.lock().part_two
    }

    /// Keeps back what others tell this user until [`release`](Self::release): the replies of a request say what was
    /// looked up before, so they go first.
    pub(crate) fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// The replies are written: what was kept back follows.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        if let Some(held) = state.held.take()
            && !held.is_empty()
        {
            // A closed connection has nobody to tell.
            let _ = self.outbox.push(&held);
        }
    }

    /// Tells this user, unless it has seen something newer of the same device.
    pub(crate) fn hear(&self, news: &News, place: Place) {
        let mut state = self.lock();
        if state.shown.hear(news, place) {
            let mut line = Vec::new();
            news.what.write(news.from.as_str(), self.reader(), &mut line);
            state.push(&self.outbox, &line);
        }
    }

    /// The moment before a look-up, for [`read`](Self::read).
    pub(crate) fn mark(&self) -> Mark {
        self.lock().shown.mark()
    }

    /// Takes down what a look-up begun at `mark` found of a contact, and says whether the contact is to be shown online:
    /// what was told meanwhile is newer than what was found.
    pub(crate) fn read(&self, contact: &Contact, found: &[Location], mark: Mark) -> bool {
        let mut state = self.lock();
        state.shown.compare(contact, found, mark);
        state.shown.is_online(contact.key)
    }

    /// Like [`read`](Self::read) for a user who asked for nothing: tells the difference only, and `Online` only where
    /// there is a presence to show.
    pub(crate) fn tell_difference(
        &self,
        contact: &Contact,
        found: &[Location],
        mark: Mark,
        presence: Option<Presence>,
    ) {
        let mut state = self.lock();
        let what = match (state.shown.compare(contact, found, mark), presence) {
            (Difference::Offline, _) => What::Unavailable { last: true },
            (Difference::Online, Some(presence)) => What::Presence(presence),
            (Difference::Online, None) | (Difference::None, _) => return,
        };
        let mut line = Vec::new();
        what.write(contact.username.as_str(), self.reader(), &mut line);
        state.push(&self.outbox, &line);
    }

    /// A former contact's presence is of no interest any more.
    pub(crate) fn forget(&self, about: &UserKey) {
        self.lock().shown.forget(about);
    }

    /// Where this user was last shown `about`, if online.
    pub(crate) fn shown(&self, about: &UserKey) -> Vec<Location> {
        self.lock().shown.locations(about)
    }

    /// Whom this user was shown as online at that generation.
    pub(crate) fn shown_at(&self, generation: Generation) -> Vec<(UserKey, Username)> {
        self.lock().shown.at(generation)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest for Online {
    fn ask_to_move(&self, after: Duration) -> bool {
        if !self.speaks_part_two() {
            return false;
        }
        let mut line = Vec::new();
        replies::move_away(&mut line, after);
        self.lock().push(&self.outbox, &line);
        true
    }

    fn send_away(&self) {
        self.outbox.send_away(self.goodbye());
    }
}

impl State {
    fn new(generation: Generation, counter: u64) -> Self {
        Self {
            generation,
            counter,
            departed: false,
            part_two: false,
            owes_news: false,
            held: None,
            shown: Shown::default(),
        }
    }

    fn push(&mut self, outbox: &Outbox, line: &[u8]) {
        if let Some(held) = &mut self.held {
            if held.len() + line.len() <= HELD_BYTES {
                held.extend_from_slice(line);
                return;
            }
            let held = std::mem::take(held);
            let _ = outbox.push(&held);
        }
        // Too slow a client is closed by the outbox; its connection's end tells everybody.
        let _ = outbox.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies say what was looked up before the news came, so they go first.
    #[test]
    fn news_that_come_during_a_request_wait_for_its_replies() {
        let mut state = State::new(Generation::new(), 0);
        let outbox = Outbox::new(1024);
        state.held = Some(Vec::new());
        state.push(&outbox, b"one\n");
        state.push(&outbox, b"two\n");
        assert_eq!(state.held.as_deref(), Some(&b"one\ntwo\n"[..]));
        // Beyond the limit the outbox takes it all, and closes a client that is too slow for it.
        state.push(&outbox, &vec![b'x'; HELD_BYTES]);
        assert_eq!(state.held.as_deref(), Some(&b""[..]));
        assert!(outbox.is_closed());
    }
}
