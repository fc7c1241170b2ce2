//! What users here were not told, because the directory, the database or another manager was away or has died: found
//! by reading again and comparing with what each was shown.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use kurir_directory::Generation;
use kurir_protocol::name::{UserKey, Username};
use tokio::sync::Notify;

use crate::{
    manager::{Manager, Temporary},
    news::presence_of,
    online::Online,
    presence::Departure,
    roster::Subscribed,
    shown::{self, Mark},
    store::Profile,
};

/// Between two attempts while something is away.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Sessions looked at in parallel; each takes a database connection.
const AT_ONCE: usize = 4;

/// Users asked for in one go.
const PAGE: usize = 256;

/// What is still to be told. Each part is bounded by the users who are or were online here.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    work: Mutex<Work>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Work {
    /// Generations of managers that died.
    dead: HashSet<Generation>,
    /// Anything may have been missed.
    everything: bool,
    /// Users who went offline while it could not be told.
    departures: Vec<Departure>,
    /// Contacts of users here who could not be found.
    subscribed: HashSet<Subscribed>,
    /// Some session owes news of itself ([`Online::settle_news`]).
    owed: bool,
}

impl Differences {
    /// That generation of another manager is dead: its users are offline unless they are elsewhere by now.
    pub(crate) fn died(&self, generation: Generation) {
        self.add(|work| {
            work.dead.insert(generation);
        });
    }

    /// Everybody here may have missed something.
    pub(crate) fn everything(&self) {
        self.add(|work| work.everything = true);
    }

    pub(crate) fn departed(&self, departure: Departure) {
        self.add(|work| work.departures.push(departure));
    }

    /// A contact could not be found.
    pub(crate) fn subscribed(&self, subscribed: Subscribed) {
        self.add(|work| {
            work.subscribed.insert(subscribed);
        });
    }

    /// A session owes news.
    pub(crate) fn retry(&self) {
        self.add(|work| work.owed = true);
    }

    fn add(&self, add: impl FnOnce(&mut Work)) {
        add(&mut self.lock());
        self.wake.notify_one();
    }

    fn take(&self) -> Work {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.dead.is_empty()
            && !self.everything
            && self.departures.is_empty()
            && self.subscribed.is_empty()
            && !self.owed
    }

    fn extend(&mut self, other: Work) {
        self.dead.extend(other.dead);
        self.everything |= other.everything;
        self.departures.extend(other.departures);
        self.subscribed.extend(other.subscribed);
        self.owed |= other.owed;
    }
}

/// The database or the directory is away: try again.
struct Away;

impl Manager {
    /// Tells what is still to be told, for as long as the manager lives.
    pub(crate) async fn tell_differences(&self) {
        loop {
            self.differences.wake.notified().await;
            loop {
                let undone = self.settle(self.differences.take()).await;
                if undone.is_empty() {
                    break;
                }
                self.differences.lock().extend(undone);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Returns what cannot be done now.
    async fn settle(&self, work: Work) -> Work {
        // Those who can be found were told the first time, and would be told again at each attempt to find the others.
        if !self.can_locate().await {
            return work;
        }
        let mut undone = Work::default();
        for generation in work.dead {
            if self.tell_dead(generation).await.is_err() {
                undone.dead.insert(generation);
            }
        }
        undone.everything = work.everything && self.tell_everything().await.is_err();
        undone.owed = work.owed && self.tell_owed().await.is_err();
        for told in work.subscribed {
            match self.tell_subscribed_late(&told).await {
                Ok(true) => {}
                Ok(false) | Err(_) => drop(undone.subscribed.insert(told)),
            }
        }
        let mut departures = work.departures.into_iter();
        while let Some(departure) = departures.next() {
            if !self.tell_departure(&departure).await {
                // Each would wait as long as this one did.
                undone.departures.push(departure);
                undone.departures.extend(departures.by_ref());
            }
        }
        undone
    }

    async fn tell_owed(&self) -> Result<(), Away> {
        let away = AtomicBool::new(false);
        stream::iter(self.sessions.all())
            .for_each_concurrent(AT_ONCE, async |online| {
                if away.load(Ordering::Relaxed) || !online.settle_news() {
                    return;
                }
                let told = self.announce(&online).await.inspect_err(|error| log(&online, error)).is_ok();
                if !told || online.owes_news() {
                    online.owe_news();
                    away.store(true, Ordering::Relaxed);
                } else if self.compare(&online).await.is_err() {
                    // What has been told is not told again for that.
                    self.differences.everything();
                }
            })
            .await;
        if away.into_inner() { Err(Away) } else { Ok(()) }
    }

    async fn tell_dead(&self, generation: Generation) -> Result<(), Away> {
        let mut watched: HashMap<UserKey, (Username, Vec<Arc<Online>>)> = HashMap::new();
        for online in self.sessions.all() {
            for (user, username) in online.shown_at(generation) {
                watched.entry(user).or_insert((username, Vec::new())).1.push(Arc::clone(&online));
            }
        }
        let watched: Vec<_> = watched.into_iter().collect();
        for page in watched.chunks(PAGE) {
            let users: Vec<UserKey> = page.iter().map(|(user, _)| user.clone()).collect();
            let watchers = page.iter().flat_map(|(_, (_, watchers))| watchers);
            let marks: Vec<Mark> = watchers.map(|online| online.mark()).collect();
            let located = self.locate(&users, None).await;
            if !located.complete {
                return Err(Away);
            }
            let mut marks = marks.into_iter();
            for ((user, (username, watchers)), places) in page.iter().zip(&located.places) {
                let whose = shown::Contact { key: user, username };
                for (online, mark) in watchers.iter().zip(&mut marks) {
                    // Whoever is online elsewhere by now was announced by the manager there.
                    online.tell_difference(&whose, places, mark, None);
                }
            }
        }
        Ok(())
    }

    async fn tell_everything(&self) -> Result<(), Away> {
        let sessions = self.sessions.all().into_iter().map(Ok);
        stream::iter(sessions)
            .try_for_each_concurrent(AT_ONCE, async |online| self.compare(&online).await)
            .await
    }

    /// Reads where a user's contacts are, and tells how that differs from what the user was shown.
    async fn compare(&self, online: &Online) -> Result<(), Away> {
        let contacts = self.store.roster(online.account).await.map_err(|error| {
            log(online, &error.into());
            Away
        })?;
        let seen: Vec<Profile> = contacts
            .into_iter()
            .filter(|contact| contact.item.subscription.sees_contact())
            .map(|contact| contact.profile)
            .collect();
        let keys: Vec<UserKey> = seen.iter().map(|profile| profile.key.clone()).collect();
        let mark = online.mark();
        let located = self.locate(&keys, None).await;
        if !located.complete {
            return Err(Away);
        }
        for (profile, places) in seen.iter().zip(&located.places) {
            let whose = shown::Contact { key: &profile.key, username: &profile.username };
            online.tell_difference(&whose, places, mark, Some(presence_of(profile, true)));
        }
        Ok(())
    }
}

fn log(online: &Online, error: &Temporary) {
    let error = error as &dyn std::error::Error;
    tracing::debug!(user = %online.user, error, "contacts not compared yet");
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use kurir_directory::SessionEnd;
    use kurir_protocol::manager::FromClient;
    use kurir_socket::Outbox;

    use super::*;
    use crate::tests::{esa_and_fajar, manager, registered, registered_on};

    fn told(outbox: &Outbox) -> String {
        let mut lines = Vec::new();
        let _ = outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[tokio::test]
    async fn while_not_everybody_can_be_found_nobody_is_told_the_same_twice() {
        let manager = manager().await;
        let (esa, fajar) = esa_and_fajar(&manager).await;
        let gita = registered(&manager, "gita").await;
        manager.store.add_contact(gita.account, &esa.user, None).await.unwrap();
        assert!(
            manager.sessions.remove(&gita),
            "she sees esa, and is somewhere that the directory does not say"
        );
        manager.blind.store(true, Ordering::Relaxed);
        let retry = async || {
            let undone = manager.settle(manager.differences.take()).await;
            let settled = undone.is_empty();
            manager.differences.lock().extend(undone);
            settled
        };

        manager.announce(&esa).await.unwrap();
        let told_online = fajar.mark();
        assert!(!retry().await);
        assert_eq!(fajar.mark(), told_online);

        manager.depart(&esa, SessionEnd::Lost).await;
        assert!(fajar.shown(&esa.user).is_empty(), "who is found is told at once");
        let told_offline = fajar.mark();
        assert!(!retry().await);
        manager.blind.store(false, Ordering::Relaxed);
        assert!(retry().await);
        assert_eq!(fajar.mark(), told_offline);
    }

    #[tokio::test]
    async fn a_contact_who_could_not_be_found_is_told_of_her_subscription_later_m18() {
        let manager = manager().await;
        let (esa, outbox) = (registered(&manager, "esa").await, Outbox::new(1024 * 1024));
        let fajar = registered_on(&manager, "fajar", Arc::clone(&outbox)).await;
        manager.store.add_contact(fajar.account, &esa.user, None).await.unwrap();
        manager.blind.store(true, Ordering::Relaxed);
        assert!(manager.sessions.remove(&fajar), "he is somewhere that the directory does not say");
        let set = r#"{"stanza":"iq","namespace":"roster","from":"esa","type":"set","query":{"item":{"jid":"fajar"}}}"#;
        let FromClient::Roster(set) = FromClient::parse(set).unwrap() else { unreachable!() };
        manager.roster(&esa, &set, &mut Vec::new()).await;
        let work = manager.settle(manager.differences.take()).await;
        assert_eq!(work.subscribed.len(), 1);
        assert_eq!(told(&outbox), "");

        manager.blind.store(false, Ordering::Relaxed);
        manager.sessions.insert(fajar).unwrap();
        assert!(manager.settle(work).await.is_empty());
        assert!(told(&outbox).contains(r#""from":"esa","to":"fajar","type":"subscribed""#));
    }
}
