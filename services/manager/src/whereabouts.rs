//! Finding where users are online, and telling them something there.

use std::{collections::HashMap, sync::Arc};

use kurir_directory::{DirectoryError, Generation, UserEntries};
use kurir_protocol::name::UserKey;

use crate::{
    manager::{Manager, Temporary},
    news::{Location, News, Place, Version},
    online::Online,
};

/// Users read from the directory at once; its answers stay small whatever the size of a roster.
const PAGE: usize = 512;

/// Where some users are.
#[derive(Debug)]
pub(crate) struct Located {
    /// In the order asked for, each user's devices; none: offline.
    pub(crate) places: Vec<Vec<Location>>,
    /// False: the directory could not be read, and whoever is elsewhere may be missing.
    pub(crate) complete: bool,
}

impl Manager {
    /// Where each of `users` is online. While the directory is away, those elsewhere are where `asker` last saw them.
    pub(crate) async fn locate(&self, users: &[UserKey], asker: Option<&Online>) -> Located {
        let mut places: Vec<Vec<Location>> = users.iter().map(|user| self.locations_here(user)).collect();
        let mut complete = true;
        for (page, places) in users.chunks(PAGE).zip(places.chunks_mut(PAGE)) {
            let found = self.read(page).await;
            let whole = self.may_see_everybody()
                && found.as_ref().is_some_and(|found| found.iter().all(|entries| entries.complete));
            complete &= whole;
            for (position, (user, places)) in page.iter().zip(places).enumerate() {
                let entries = found.as_ref().and_then(|found| found.get(position));
                places.extend(entries.into_iter().flat_map(|entries| self.locations_elsewhere(entries)));
                if places.is_empty() && !whole {
                    places.extend(asker.into_iter().flat_map(|asker| asker.shown(user)));
                }
            }
        }
        self.meet(places.iter().flatten()).await;
        Located { places, complete }
    }

    /// All that stands for a user; an error while some of it may only be late.
    pub(crate) async fn entries_of(&self, user: &UserKey) -> Result<UserEntries, Temporary> {
        let entries = self.member.directory().user(user).await?;
        if entries.complete { Ok(entries) } else { Err(DirectoryError::Recovering.into()) }
    }

    /// Whether everybody who is online could be located now.
    pub(crate) async fn can_locate(&self) -> bool {
        self.may_see_everybody()
            && !self.member.is_recovering()
            && self.member.directory().components().await.is_ok()
    }

    /// A test may say no, as if the directory were being written again.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only a test looks"))]
    fn may_see_everybody(&self) -> bool {
        #[cfg(test)]
        return !self.blind.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(test))]
        true
    }

    /// Tells each of those users, on every device, here or through their manager. Takes no time: other managers have queues.
    pub(crate) fn tell<'a>(&self, news: &News, to: impl IntoIterator<Item = (UserKey, &'a [Location])>) {
        let mut elsewhere: HashMap<Generation, Vec<UserKey>> = HashMap::new();
        for (user, locations) in to {
            if locations.iter().any(|location| location.place == Place::Here) {
                for online in self.acting(&user) {
                    online.hear(news, Place::Here);
                }
            }
            for location in locations {
                let Place::At(generation) = location.place else { continue };
                let told = elsewhere.entry(generation).or_default();
                if told.last() != Some(&user) {
                    told.push(user.clone());
                }
            }
        }
        for (generation, to) in elsewhere {
            self.peers.send(generation, &to, news);
        }
    }

    async fn read(&self, users: &[UserKey]) -> Option<Vec<UserEntries>> {
        match self.member.directory().users(users).await {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the directory was not read");
                None
            }
        }
    }

    fn locations_here(&self, user: &UserKey) -> Vec<Location> {
        let location = |online: Arc<Online>| Location {
            device: online.device.clone(),
            place: Place::Here,
            version: online.version(),
        };
        self.acting(user).into_iter().map(location).collect()
    }

    fn locations_elsewhere(&self, entries: &UserEntries) -> impl Iterator<Item = Location> {
        let own = self.member.generation();
        // An entry of our own without a session here is about to be released, or its user is not told of the login yet.
        let others = entries.sessions.iter().filter(move |(_, session)| session.generation != own);
        others.map(|(device, session)| Location {
            device: device.clone(),
            place: Place::At(session.generation),
            version: Version { login: session.login, counter: session.presence_counter },
        })
    }

    /// A manager may have joined and taken users before the event that says so has come.
    async fn meet(&self, locations: impl Iterator<Item = &Location>) {
        let unknown = |location: &Location| match location.place {
            Place::Here => false,
            Place::At(generation) => !self.peers.knows(generation),
        };
        let mut locations = locations;
        if !locations.any(unknown) {
            return;
        }
        match self.member.directory().components().await {
            Ok(components) => components.into_iter().for_each(|component| self.peers.meet(component)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the components were not read");
            }
        }
    }
}
