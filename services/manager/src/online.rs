//! A user who is logged in here, and what it has been shown of others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurir_directory::{Generation, NewSession};
use kurir_protocol::{
    manager::Presence,
    name::{LoginId, UserKey, Username},
    replies::{self, StreamCondition},
};
use kurir_socket::Outbox;

use crate::{
    news::{Location, News, Place, Version, What},
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
    pub(crate) login: LoginId,
    pub(crate) client_address: IpAddr,
    since_ms: i64,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
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
    /// Counts what was shown, to tell what came during a look-up from what came before.
    changes: u64,
    /// The last that this user was shown of each contact.
    shown: HashMap<UserKey, Shown>,
}

#[derive(Debug, Clone)]
struct Shown {
    /// As registered.
    from: Username,
    version: Version,
    /// None: shown offline.
    place: Option<Place>,
    /// The value of `changes` then.
    change: u64,
}

/// A moment in what a user is shown: see [`Online::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Whose presence is read.
#[derive(Debug)]
pub(crate) struct Contact<'a> {
    pub(crate) key: &'a UserKey,
    /// As registered.
    pub(crate) username: &'a Username,
}

/// How what the directory says differs from what a user was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    None,
    /// To be shown online, or with newer content.
    Online,
    Offline,
}

impl Online {
    pub(crate) fn new(
        account: &crate::store::Account,
        session: &NewSession,
        generation: Generation,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            user: account.key.clone(),
            username: account.username.clone(),
            account: account.id,
            login: session.login,
            client_address: session.client_address,
            since_ms: session.since_ms,
            outbox,
            state: Mutex::new(State::new(generation, session.presence_counter)),
        }
    }

    /// What the directory is to say of it.
    pub(crate) fn entry(&self) -> NewSession {
        NewSession {
            username: self.username.to_string(),
            login: self.login,
            since_ms: self.since_ms,
            client_address: self.client_address,
            presence_counter: self.lock().counter,
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

    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Another connection has this device now.
    pub(crate) fn close_for_conflict(&self) {
        // Nobody is told of it any more: the user is whom the other connection speaks for.
        self.lock().departed = true;
        self.close(StreamCondition::Conflict, replies::CONFLICT);
    }

    /// This process stops; another manager is as good.
    pub(crate) fn close_for_shutdown(&self) {
        self.close(StreamCondition::SystemShutdown, "");
    }

    /// Says why to a client that has used Part II, and `otherwise` to one of the original's.
    fn close(&self, why: StreamCondition, otherwise: &str) {
        let mut error = Vec::new();
        if self.lock().part_two {
            replies::stream_error(&mut error, why, None);
        }
        let error = str::from_utf8(error.trim_ascii_end()).unwrap_or_default();
        self.outbox.close(if error.is_empty() { otherwise } else { error });
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

    /// Tells this user, unless it has seen something newer of the same user.
    pub(crate) fn hear(&self, news: &News, place: Place) {
        let mut state = self.lock();
        let current = match &news.what {
            What::Presence(presence) => {
                let place = presence.online.then_some(place);
                state.show(&news.about, &news.from, news.version, place)
            }
            What::Unavailable => {
                // This end may be told again for the sake of others who were not told.
                !state.has_seen_end(&news.about, news.version)
                    && state.show(&news.about, &news.from, news.version, None)
            }
            What::Directed(_) => !state.has_seen_newer(&news.about, news.version),
            What::Subscribed(_) => true,
        };
        if current {
            let mut line = Vec::new();
            news.write(&self.username, &mut line);
            state.push(&self.outbox, &line);
        }
    }

    /// The moment before a look-up, for [`read`](Self::read).
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.lock().changes)
    }

    /// Takes down what a look-up begun at `mark` found of a contact, and says whether the contact is to be shown online:
    /// what was told meanwhile is newer than what was found.
    pub(crate) fn read(&self, contact: &Contact, found: Option<Location>, mark: Mark) -> bool {
        let mut state = self.lock();
        state.compare(contact, found, mark);
        state.shown.get(contact.key).is_some_and(|shown| shown.place.is_some())
    }

    /// Like [`read`](Self::read) for a user who asked for nothing: tells the difference only, and `Online` only where
    /// there is a presence to show.
    pub(crate) fn tell_difference(
        &self,
        contact: &Contact,
        found: Option<Location>,
        mark: Mark,
        presence: Option<Presence>,
    ) {
        let mut state = self.lock();
        let what = match (state.compare(contact, found, mark), presence) {
            (Difference::Offline, _) => What::Unavailable,
            (Difference::Online, Some(presence)) => What::Presence(presence),
            (Difference::Online, None) | (Difference::None, _) => return,
        };
        let Some(version) = state.shown.get(contact.key).map(|shown| shown.version) else { return };
        let (about, from) = (contact.key.clone(), contact.username.clone());
        let mut line = Vec::new();
        News { about, from, version, what }.write(&self.username, &mut line);
        state.push(&self.outbox, &line);
    }

    /// A former contact's presence is of no interest any more.
    pub(crate) fn forget(&self, about: &UserKey) {
        self.lock().shown.remove(about);
    }

    /// Where this user was last shown `about`, if online.
    pub(crate) fn shown(&self, about: &UserKey) -> Option<Location> {
        let state = self.lock();
        let shown = state.shown.get(about)?;
        shown.place.map(|place| Location { place, version: shown.version })
    }

    /// Whom this user was shown as online at that generation.
    pub(crate) fn shown_at(&self, generation: Generation) -> Vec<(UserKey, Username)> {
        let state = self.lock();
        let there = state.shown.iter().filter(|(_, shown)| shown.place == Some(Place::At(generation)));
        there.map(|(user, shown)| (user.clone(), shown.from.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            changes: 0,
            shown: HashMap::new(),
        }
    }

    fn has_seen_newer(&self, about: &UserKey, version: Version) -> bool {
        self.shown.get(about).is_some_and(|shown| shown.version > version)
    }

    fn has_seen_end(&self, about: &UserKey, version: Version) -> bool {
        self.shown.get(about).is_some_and(|shown| shown.version == version && shown.place.is_none())
    }

    /// Takes down what is about to be shown; false: it is older than what was shown.
    fn show(&mut self, about: &UserKey, from: &Username, version: Version, place: Option<Place>) -> bool {
        if self.has_seen_newer(about, version) {
            return false;
        }
        self.changes += 1;
        let shown = Shown { from: from.clone(), version, place, change: self.changes };
        self.shown.insert(about.clone(), shown);
        true
    }

    fn compare(&mut self, contact: &Contact, found: Option<Location>, mark: Mark) -> Difference {
        let known = self.shown.get(contact.key);
        let Some(found) = found else {
            // What was shown since the look-up began is newer than the absence that it found.
            let Some(known) = known.filter(|known| known.place.is_some() && known.change <= mark.0) else {
                return Difference::None;
            };
            let version = known.version;
            self.show(contact.key, contact.username, version, None);
            return Difference::Offline;
        };
        let same = known.is_some_and(|known| known.version == found.version && known.place.is_some());
        if self.show(contact.key, contact.username, found.version, Some(found.place)) && !same {
            Difference::Online
        } else {
            Difference::None
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

    const HERE: Option<Place> = Some(Place::Here);

    fn version(login: u64, counter: u64) -> Version {
        Version { login: LoginId(login), counter }
    }

    fn here(login: u64, counter: u64) -> Location {
        Location { place: Place::Here, version: version(login, counter) }
    }

    struct Watched {
        state: State,
        key: UserKey,
        username: Username,
    }

    impl Watched {
        fn new() -> Self {
            let username = Username::register("Esa").unwrap();
            Self { state: State::new(Generation::new(), 0), key: username.key(), username }
        }

        fn show(&mut self, version: Version, place: Option<Place>) -> bool {
            self.state.show(&self.key, &self.username, version, place)
        }

        fn compare(&mut self, found: Option<Location>, mark: Mark) -> Difference {
            let contact = Contact { key: &self.key, username: &self.username };
            self.state.compare(&contact, found, mark)
        }

        fn mark(&self) -> Mark {
            Mark(self.state.changes)
        }
    }

    #[test]
    fn older_presence_is_dropped_and_an_equal_one_is_not() {
        let mut watched = Watched::new();
        assert!(watched.show(version(2, 5), HERE));
        assert!(!watched.show(version(2, 4), HERE));
        assert!(!watched.show(version(1, 9), None), "the end of an older login says nothing of this one");
        assert!(
            watched.show(version(2, 5), HERE),
            "the bio may be newer than what was read with this version"
        );
        assert!(watched.show(version(3, 0), HERE));
    }

    #[test]
    fn only_what_differs_from_what_was_shown_is_told() {
        let mut watched = Watched::new();
        let mark = watched.mark();
        assert_eq!(watched.compare(None, mark), Difference::None, "never shown, and offline");
        assert_eq!(watched.compare(Some(here(1, 0)), mark), Difference::Online);
        let mark = watched.mark();
        assert_eq!(watched.compare(Some(here(1, 0)), mark), Difference::None);
        assert_eq!(watched.compare(Some(here(1, 1)), mark), Difference::Online, "a bio that was missed");
        let mark = watched.mark();
        assert_eq!(watched.compare(None, mark), Difference::Offline);
        assert_eq!(watched.compare(None, mark), Difference::None);
        assert_eq!(watched.compare(Some(here(2, 0)), mark), Difference::Online);
    }

    #[test]
    fn what_was_told_during_a_look_up_is_newer_than_what_it_found() {
        let mut watched = Watched::new();
        let mark = watched.mark();
        watched.show(version(1, 1), HERE);
        assert_eq!(watched.compare(None, mark), Difference::None, "came after the look-up");
        assert!(watched.state.shown[&watched.key].place.is_some());

        watched.show(version(1, 2), None);
        assert_eq!(watched.compare(Some(here(1, 1)), mark), Difference::None, "went after the look-up");
        assert!(watched.state.shown[&watched.key].place.is_none());
    }

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
