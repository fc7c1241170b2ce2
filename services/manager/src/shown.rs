//! What a user was shown of its contacts: plain rules, device by device.

use std::collections::HashMap;

use kurir_directory::Generation;
use kurir_protocol::name::{Resource, UserKey, Username};

use crate::news::{Location, News, Place, Version, What};

/// What a user was shown of its contacts.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Counts what was shown, to tell what came during a look-up from what came before.
    changes: u64,
    /// The last of each contact.
    contacts: HashMap<UserKey, ShownContact>,
}

/// One contact: the devices that the user was told of, and, of all of them, one presence.
#[derive(Debug)]
struct ShownContact {
    /// As registered.
    from: Username,
    /// Online, or not.
    online: bool,
    /// A device has said since the last presence that it was the last: the word of one that went before it, which knew of
    /// it, may come later.
    last_said: bool,
    devices: Vec<ShownDevice>,
}

#[derive(Debug)]
struct ShownDevice {
    device: Resource,
    version: Version,
    /// None: gone.
    place: Option<Place>,
    /// The value of `changes` then.
    change: u64,
}

/// A moment in what a user is shown: see [`Shown::mark`].
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
pub(crate) enum Difference {
    None,
    /// To be shown online, or with newer content.
    Online,
    Offline,
}

impl Shown {
    /// Takes down what is told; false: something newer of the same device was shown, or nothing is to be.
    pub(crate) fn hear(&mut self, news: &News, place: Place) -> bool {
        match &news.what {
            What::Presence(presence) => self.show(news, presence.online.then_some(place)),
            What::Unavailable { last } => self.end(news, *last),
            What::Directed(_) => !self.has_seen_newer(news),
            What::Subscribed(_) => true,
        }
    }

    /// The moment before a look-up, for [`compare`](Self::compare).
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    pub(crate) fn is_online(&self, about: &UserKey) -> bool {
        self.contacts.get(about).is_some_and(|shown| shown.online)
    }

    /// A former contact's presence is of no interest any more.
    pub(crate) fn forget(&mut self, about: &UserKey) {
        self.contacts.remove(about);
    }

    /// Where a contact was last shown, if online.
    pub(crate) fn locations(&self, about: &UserKey) -> Vec<Location> {
        let devices = self.contacts.get(about).map_or(&[][..], |shown| &shown.devices);
        let location = |shown: &ShownDevice| {
            Some(Location { device: shown.device.clone(), place: shown.place?, version: shown.version })
        };
        devices.iter().filter_map(location).collect()
    }

    /// Who was shown as online at that generation.
    pub(crate) fn at(&self, generation: Generation) -> Vec<(UserKey, Username)> {
        let there = Some(Place::At(generation));
        // Online by a device that was never shown: it may have been there.
        let somewhere =
            |shown: &ShownContact| shown.online && shown.devices.iter().all(|of| of.place.is_none());
        let is_there =
            |shown: &ShownContact| shown.devices.iter().any(|of| of.place == there) || somewhere(shown);
        let shown = self.contacts.iter().filter(|(_, shown)| is_there(shown));
        shown.map(|(user, shown)| (user.clone(), shown.from.clone())).collect()
    }

    fn has_seen_newer(&self, news: &News) -> bool {
        let shown = self.contacts.get(&news.about);
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
        let again = self.contacts.get(&news.about).is_some_and(|shown| {
            let ended = shown.devices.iter().any(|known| ended(known) && known.place.is_none());
            ended && !(last && shown.online)
        });
        if again || self.has_seen_newer(news) {
            return false;
        }
        let was_online = self.contacts.get(&news.about).is_some_and(|shown| shown.online);
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

    fn gone(
        &mut self,
        about: &UserKey,
        from: &Username,
        device: &Resource,
        version: Version,
    ) -> &mut ShownContact {
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
    ) -> &mut ShownContact {
        self.changes += 1;
        let now = ShownDevice { device: device.clone(), version, place, change: self.changes };
        let none = || ShownContact {
            from: from.clone(),
            online: false,
            last_said: false,
            devices: Vec::with_capacity(1),
        };
        let shown = self.contacts.entry(about.clone()).or_insert_with(none);
        shown.from.clone_from(from);
        match shown.devices.iter_mut().find(|known| known.device == *device) {
            Some(known) => *known = now,
            None => shown.devices.push(now),
        }
        shown
    }

    /// Takes down what a look-up begun at `mark` found of a contact: what was told meanwhile is newer than that.
    pub(crate) fn compare(&mut self, contact: &Contact, found: &[Location], mark: Mark) -> Difference {
        let known = self.contacts.get(contact.key);
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
        let is_online = self.contacts.get_mut(contact.key).is_some_and(|shown| {
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
}

#[cfg(test)]
mod tests {
    use kurir_protocol::name::LoginId;

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
        shown: Shown,
        key: UserKey,
        username: Username,
    }

    impl Watched {
        fn new() -> Self {
            let username = Username::register("Esa").unwrap();
            Self { shown: Shown::default(), key: username.key(), username }
        }

        fn news(&self, device: &str, version: Version, what: What) -> News {
            let device = Resource::try_from(device).unwrap();
            News { about: self.key.clone(), from: self.username.clone(), device, version, what }
        }

        fn show(&mut self, device: &str, version: Version, place: Option<Place>) -> bool {
            let news = self.news(device, version, What::Unavailable { last: true });
            self.shown.show(&news, place)
        }

        fn end(&mut self, device: &str, version: Version, last: bool) -> bool {
            let news = self.news(device, version, What::Unavailable { last });
            self.shown.end(&news, last)
        }

        fn compare(&mut self, found: &[Location], mark: Mark) -> Difference {
            let contact = Contact { key: &self.key, username: &self.username };
            self.shown.compare(&contact, found, mark)
        }

        fn mark(&self) -> Mark {
            self.shown.mark()
        }

        fn is_online(&self) -> bool {
            self.shown.is_online(&self.key)
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
}
