//! A user who is logged in here, and what it has been shown of others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurir_directory::{Generation, NewSession};
use kurir_protocol::{
    manager::Presence,
    name::{self, LoginId, Resource, UserKey, Username},
    replies::{self, StreamCondition},
};
use kurir_socket::Outbox;

use crate::{
    news::{Location, News, Place, Reader, Version, What},
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
    /// Counts what was shown, to tell what came during a look-up from what came before.
    changes: u64,
    /// The last that this user was shown of each contact.
    shown: HashMap<UserKey, Shown>,
}

/// What a user is shown of another: the devices that it was told of, and, of all of them, one presence.
#[derive(Debug, Clone)]
struct Shown {
    /// As registered.
    from: Username,
    /// Online, or not.
    online: bool,
    /// A device has said since the last presence that it was the last: the word of one that went before it, which knew of
    /// it, may come later.
    last_said: bool,
    devices: Vec<ShownDevice>,
}

#[derive(Debug, Clone)]
struct ShownDevice {
    device: Resource,
    version: Version,
    /// None: gone.
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

    /// This process stops; another manager is as good.
    pub(crate) fn close_for_shutdown(&self) {
        self.close(StreamCondition::SystemShutdown, "");
    }

    /// Says why: a device that has a name, or has used Part II, is told in Part II's words as well as in `reply`.
    fn close(&self, why: StreamCondition, reply: &str) {
        let part_two = self.named.is_some() || self.lock().part_two;
        self.outbox.close(&replies::last_words(reply, part_two.then_some(why)));
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
        let current = match &news.what {
            What::Presence(presence) => state.show(news, presence.online.then_some(place)),
            What::Unavailable { last } => state.end(news, *last),
            What::Directed(_) => !state.has_seen_newer(news),
            What::Subscribed(_) => true,
        };
        if current {
            let mut line = Vec::new();
            news.what.write(news.from.as_str(), self.reader(), &mut line);
            state.push(&self.outbox, &line);
        }
    }

    /// The moment before a look-up, for [`read`](Self::read).
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.lock().changes)
    }

    /// Takes down what a look-up begun at `mark` found of a contact, and says whether the contact is to be shown online:
    /// what was told meanwhile is newer than what was found.
    pub(crate) fn read(&self, contact: &Contact, found: &[Location], mark: Mark) -> bool {
        let mut state = self.lock();
        state.compare(contact, found, mark);
        state.shown.get(contact.key).is_some_and(|shown| shown.online)
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
        let what = match (state.compare(contact, found, mark), presence) {
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
        self.lock().shown.remove(about);
    }

    /// Where this user was last shown `about`, if online.
    pub(crate) fn shown(&self, about: &UserKey) -> Vec<Location> {
        let state = self.lock();
        let devices = state.shown.get(about).map_or(&[][..], |shown| &shown.devices);
        let location = |shown: &ShownDevice| {
            Some(Location { device: shown.device.clone(), place: shown.place?, version: shown.version })
        };
        devices.iter().filter_map(location).collect()
    }

    /// Whom this user was shown as online at that generation.
    pub(crate) fn shown_at(&self, generation: Generation) -> Vec<(UserKey, Username)> {
        let there = Some(Place::At(generation));
        let state = self.lock();
        // Online by a device that was never shown: it may have been there.
        let somewhere = |shown: &Shown| shown.online && shown.devices.iter().all(|of| of.place.is_none());
        let is_there = |shown: &Shown| shown.devices.iter().any(|of| of.place == there) || somewhere(shown);
        let shown = state.shown.iter().filter(|(_, shown)| is_there(shown));
        shown.map(|(user, shown)| (user.clone(), shown.from.clone())).collect()
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

    fn has_seen_newer(&self, news: &News) -> bool {
        let shown = self.shown.get(&news.about);
        let known = shown.and_then(|shown| shown.devices.iter().find(|of| of.device == news.device));
        known.is_some_and(|known| known.version > news.version)
    }

    /// Takes down what is about to be shown; false: it is older than what was shown.
    fn show(&mut self, news: &News, place: Option<Place>) -> bool {
        if self.has_seen_newer(news) {
            return false;
        }
        let location = |place| Location { device: news.device.clone(), place, version: news.version };
        match place {
            Some(place) => self.place(&news.about, &news.from, &location(place)),
            None => drop(self.gone(&news.about, &news.from, &news.device, news.version)),
        }
        true
    }

    /// A device is gone. True: the user is, as far as is known here, and is to be shown so.
    fn end(&mut self, news: &News, last: bool) -> bool {
        let ended = |known: &ShownDevice| known.device == news.device && known.version == news.version;
        // This end may be told again: for the sake of others who were not told, or as it is known only now that it is the last.
        let again = self.shown.get(&news.about).is_some_and(|shown| {
            let ended = shown.devices.iter().any(|known| ended(known) && known.place.is_none());
            ended && !(last && shown.online)
        });
        if again || self.has_seen_newer(news) {
            return false;
        }
        let was_online = self.shown.get(&news.about).is_some_and(|shown| shown.online);
        let shown = self.gone(&news.about, &news.from, &news.device, news.version);
        shown.last_said |= last;
        let last = shown.last_said;
        // Another device, which this user was not told of, is online.
        shown.online |= was_online && !last;
        !shown.online && last
    }

    /// A device is online there.
    fn place(&mut self, about: &UserKey, from: &Username, location: &Location) {
        let Location { device, place, version } = location;
        let shown = self.set(about, from, device, *version, Some(*place));
        (shown.online, shown.last_said) = (true, false);
    }

    fn gone(&mut self, about: &UserKey, from: &Username, device: &Resource, version: Version) -> &mut Shown {
        let shown = self.set(about, from, device, version, None);
        shown.online = shown.devices.iter().any(|known| known.place.is_some());
        shown
    }

    fn set(
        &mut self,
        about: &UserKey,
        from: &Username,
        device: &Resource,
        version: Version,
        place: Option<Place>,
    ) -> &mut Shown {
        self.changes += 1;
        let now = ShownDevice { device: device.clone(), version, place, change: self.changes };
        let none =
            || Shown { from: from.clone(), online: false, last_said: false, devices: Vec::with_capacity(1) };
        let shown = self.shown.entry(about.clone()).or_insert_with(none);
        shown.from.clone_from(from);
        match shown.devices.iter_mut().find(|known| known.device == *device) {
            Some(known) => *known = now,
            None => shown.devices.push(now),
        }
        shown
    }

    fn compare(&mut self, contact: &Contact, found: &[Location], mark: Mark) -> Difference {
        let known = self.shown.get(contact.key);
        let was_online = known.is_some_and(|known| known.online);
        let known = known.map_or(&[][..], |known| &known.devices);
        let of = |device: &Resource| known.iter().find(|known| known.device == *device);
        let current: Vec<&Location> = found
            .iter()
            .filter(|found| of(&found.device).is_none_or(|known| known.version <= found.version))
            .collect();
        let news = |found: &Location| {
            of(&found.device).is_none_or(|known| known.version != found.version || known.place.is_none())
        };
        let is_news = current.iter().any(|found| news(found));
        // What was shown since the look-up began is newer than the absence that it found.
        let absent = |known: &ShownDevice| {
            known.place.is_some()
                && known.change <= mark.0
                && !found.iter().any(|found| found.device == known.device)
        };
        let absent: Vec<(Resource, Version)> =
            known.iter().filter(|known| absent(known)).map(|of| (of.device.clone(), of.version)).collect();
        for (device, version) in &absent {
            self.gone(contact.key, contact.username, device, *version);
        }
        for found in current {
            self.place(contact.key, contact.username, found);
        }
        let is_online = self.shown.get_mut(contact.key).is_some_and(|shown| {
            shown.online = shown.devices.iter().any(|known| known.place.is_some());
            shown.online
        });
        match (was_online, is_online) {
            (true, false) => Difference::Offline,
            (false, true) => Difference::Online,
            (true, true) if is_news => Difference::Online,
            _ => Difference::None,
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
    const PHONE: &str = "phone";
    const LAPTOP: &str = "laptop";

    fn version(login: u64, counter: u64) -> Version {
        Version { login: LoginId(login), counter }
    }

    fn here(device: &str, login: u64, counter: u64) -> Location {
        Location {
            device: Resource::try_from(device).unwrap(),
            place: Place::Here,
            version: version(login, counter),
        }
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

        fn news(&self, device: &str, version: Version, what: What) -> News {
            let device = Resource::try_from(device).unwrap();
            News { about: self.key.clone(), from: self.username.clone(), device, version, what }
        }

        fn show(&mut self, device: &str, version: Version, place: Option<Place>) -> bool {
            let news = self.news(device, version, What::Unavailable { last: true });
            self.state.show(&news, place)
        }

        fn end(&mut self, device: &str, version: Version, last: bool) -> bool {
            let news = self.news(device, version, What::Unavailable { last });
            self.state.end(&news, last)
        }

        fn compare(&mut self, found: &[Location], mark: Mark) -> Difference {
            let contact = Contact { key: &self.key, username: &self.username };
            self.state.compare(&contact, found, mark)
        }

        fn mark(&self) -> Mark {
            Mark(self.state.changes)
        }

        fn is_online(&self) -> bool {
            self.state.shown.get(&self.key).is_some_and(|shown| shown.online)
        }
    }

    #[test]
    fn older_presence_is_dropped_and_an_equal_one_is_not() {
        let mut watched = Watched::new();
        assert!(watched.show(PHONE, version(2, 5), HERE));
        assert!(!watched.show(PHONE, version(2, 4), HERE));
        assert!(
            !watched.end(PHONE, version(1, 9), true),
            "the end of an older login says nothing of this one"
        );
        assert!(
            watched.show(PHONE, version(2, 5), HERE),
            "the bio may be newer than what was read with this version"
        );
        assert!(watched.show(PHONE, version(3, 0), HERE));
    }

    #[test]
    fn only_what_differs_from_what_was_shown_is_told() {
        let mut watched = Watched::new();
        let mark = watched.mark();
        assert_eq!(watched.compare(&[], mark), Difference::None, "never shown, and offline");
        assert_eq!(watched.compare(&[here(PHONE, 1, 0)], mark), Difference::Online);
        let mark = watched.mark();
        assert_eq!(watched.compare(&[here(PHONE, 1, 0)], mark), Difference::None);
        assert_eq!(watched.compare(&[here(PHONE, 1, 1)], mark), Difference::Online, "a bio that was missed");
        let mark = watched.mark();
        assert_eq!(watched.compare(&[], mark), Difference::Offline);
        assert_eq!(watched.compare(&[], mark), Difference::None);
    }

    #[test]
    fn what_came_during_a_look_up_is_newer_than_what_it_found() {
        let mut watched = Watched::new();
        let mark = watched.mark();
        watched.show(PHONE, version(1, 1), HERE);
        assert_eq!(watched.compare(&[], mark), Difference::None, "came after the look-up");
        assert!(watched.is_online());
        let mark = watched.mark();
        assert!(watched.end(PHONE, version(1, 2), true));
        assert_eq!(watched.compare(&[here(PHONE, 1, 1)], mark), Difference::None, "went after the look-up");
        assert!(!watched.is_online());
    }

    #[test]
    fn a_user_is_shown_offline_when_the_last_device_goes() {
        let mut watched = Watched::new();
        watched.show(LAPTOP, version(1, 0), HERE);
        watched.show(PHONE, version(2, 7), HERE);
        assert!(watched.show(LAPTOP, version(1, 1), HERE), "each device has its own order");
        assert!(!watched.end(PHONE, version(2, 8), false));
        assert!(watched.is_online());
        assert!(watched.end(LAPTOP, version(1, 2), true));
        assert!(!watched.is_online());
        assert!(!watched.end(LAPTOP, version(1, 2), true), "told again for the sake of others");
    }

    #[test]
    fn a_device_that_was_never_shown_keeps_its_user_online() {
        let mut watched = Watched::new();
        watched.show(PHONE, version(2, 0), HERE);
        assert!(!watched.end(PHONE, version(2, 1), false));
        assert!(watched.is_online());
        assert!(watched.end(PHONE, version(2, 1), true), "it was the last, as is known only now");
        watched.show(PHONE, version(3, 0), HERE);
        assert!(!watched.end(PHONE, version(3, 1), false));
        let mark = watched.mark();
        assert_eq!(watched.compare(&[here(LAPTOP, 1, 0)], mark), Difference::Online);
        let mark = watched.mark();
        assert_eq!(watched.compare(&[], mark), Difference::Offline);
    }

    #[test]
    fn of_two_devices_that_go_at_once_the_later_word_shows_the_user_offline() {
        let mut watched = Watched::new();
        watched.show(LAPTOP, version(1, 0), HERE);
        watched.show(PHONE, version(2, 0), HERE);
        assert!(!watched.end(LAPTOP, version(1, 1), true), "the phone was shown, and not gone yet");
        assert!(watched.end(PHONE, version(2, 1), true));

        let mut watched = Watched::new();
        watched.show(LAPTOP, version(1, 0), HERE);
        watched.show(PHONE, version(2, 0), HERE);
        assert!(!watched.end(LAPTOP, version(1, 1), true), "the phone's word is on its way");
        assert!(watched.end(PHONE, version(2, 1), false), "which was said before the laptop's");
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
