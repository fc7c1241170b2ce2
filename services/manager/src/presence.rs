//! Presence (PROTOCOL §4, rows M24–M31).

use kurir_directory::{Route, SessionEnd};
use kurir_protocol::{
    manager::{PresenceRequest, ToClient},
    name::{LoginId, Resource, UserKey, Username},
};

use crate::{
    manager::{Manager, Temporary, now_ms},
    news::{Location, News, Version, What, presence_of, presence_of_account},
    online::{self, Online},
    store::{Account, AccountId, Contact, StoreError},
    whereabouts::Located,
};

/// A user who is gone and whose contacts are to be told.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    account: AccountId,
    user: UserKey,
    username: Username,
    /// Newer than everything else of that login.
    version: Version,
    at_ms: i64,
}

impl Manager {
    /// Does what a presence of the client asks for, logout apart.
    pub(crate) async fn presence(
        &self,
        online: &Online,
        request: PresenceRequest,
        replies: &mut Vec<u8>,
    ) -> Result<(), Temporary> {
        match request {
            PresenceRequest::Bio { from, .. } if from.as_ref().is_some_and(|from| !from.is(&online.user)) => {
                ToClient::PresenceForbidden { to: online.username.as_str() }.write(replies);
                Ok(())
            }
            PresenceRequest::Bio { bio, .. } => self.change_bio(online, &bio).await,
            PresenceRequest::Directed { to } => self.exchange(online, &to, replies).await,
            PresenceRequest::Initial => self.initial(online, replies).await,
            PresenceRequest::Logout => Ok(()),
        }
    }

    /// M25, M26.
    async fn change_bio(&self, online: &Online, bio: &str) -> Result<(), Temporary> {
        self.store.set_bio(online.account, bio, now_ms()).await?;
        self.announce(online).await
    }

    /// Tells the contacts the presence as it is stored. Order matters: publish the own entry, then read the contacts',
    /// then tell; whoever comes online meanwhile reads what was published.
    pub(crate) async fn announce(&self, online: &Online) -> Result<(), Temporary> {
        let Some(version) = self.publish(online).await else { return Ok(()) };
        let announced = async {
            let account = self.account_of(online).await?;
            let contacts = self.store.roster(online.account).await?;
            let audience: Vec<UserKey> =
                seen_by(&contacts).map(|contact| contact.profile.key.clone()).collect();
            let located = self.locate(&audience, Some(online)).await;
            let what = What::Presence(presence_of_account(&account, true));
            self.tell(&news_of(online, version, what), pairs(audience, &located));
            self.owe_unless(located.complete, online);
            Ok::<_, Temporary>(())
        };
        // What is stored is not undone by a failure to tell of it: that is made good for later.
        announced.await.inspect_err(|_| self.owe_unless(false, online))
    }

    /// M24: mine to those who see me, theirs to me.
    async fn initial(&self, online: &Online, replies: &mut Vec<u8>) -> Result<(), Temporary> {
        self.store.touch(online.account, now_ms()).await?;
        online.hold();
        let Some(version) = self.publish(online).await else { return Ok(()) };
        let account = self.account_of(online).await?;
        let contacts = self.store.roster(online.account).await?;
        let keys: Vec<UserKey> = contacts.iter().map(|contact| contact.profile.key.clone()).collect();
        let mark = online.mark();
        let located = self.locate(&keys, Some(online)).await;
        self.owe_unless(located.complete, online);

        let placed = || contacts.iter().zip(located.places.iter().copied());
        let audience = placed()
            .filter(|(contact, _)| contact.item.subscription.seen_by_contact())
            .filter_map(|(contact, place)| Some((contact.profile.key.clone(), place?)));
        let what = What::Presence(presence_of_account(&account, true));
        self.tell(&news_of(online, version, what), audience);

        let to = online.username.as_str();
        for (contact, place) in placed().filter(|(contact, _)| contact.item.subscription.sees_contact()) {
            let profile = &contact.profile;
            let whose = online::Contact { key: &profile.key, username: &profile.username };
            let presence = presence_of(profile, online.read(&whose, place, mark));
            ToClient::PresenceTo { presence: &presence, to }.write(replies);
        }
        Ok(())
    }

    /// M27, M28: directed presence.
    async fn exchange(&self, online: &Online, target: &str, replies: &mut Vec<u8>) -> Result<(), Temporary> {
        let to = online.username.as_str();
        let account = match UserKey::of(target) {
            Ok(key) => self.store.account(&key).await?,
            Err(_) => None,
        };
        let Some(account) = account else {
            ToClient::PresenceUnknown { to, target }.write(replies);
            return Ok(());
        };
        // Nothing is answered before everything is read that could fail.
        let mine = self.account_of(online).await?;
        online.hold();
        let located = self.locate(std::slice::from_ref(&account.key), Some(online)).await;
        let place = located.places.into_iter().next().flatten();
        if place.is_none() && !located.complete {
            return Err(Temporary::NotFound);
        }
        let presence = presence_of_account(&account, place.is_some());
        ToClient::PresenceDirected { presence: &presence, to }.write(replies);
        if let Some(place) = place
            && account.key != online.user
        {
            let what = What::Directed(presence_of_account(&mine, true));
            self.tell(&news_of(online, online.version(), what), [(account.key, place)]);
        }
        Ok(())
    }

    /// M29–M31: the user goes offline, and its contacts are told. After a logout the relay connection is closed as well.
    /// Does nothing for a session that is over already.
    pub(crate) async fn depart(&self, online: &Online, end: SessionEnd) {
        if !self.sessions.remove(online) {
            return;
        }
        let at_ms = now_ms();
        let device = Resource::default_device();
        if let Err(error) = self.member.release_session(&online.user, &device, online.login, end).await {
            // The member goes on trying by itself.
            tracing::debug!(user = %online.user, error = &error as &dyn std::error::Error, "session not released yet");
        }
        if end == SessionEnd::Ended {
            self.end_relay_connection(&online.user, online.login, end).await;
        }
        let departure = Departure {
            account: online.account,
            user: online.user.clone(),
            username: online.username.clone(),
            version: online.last_version(),
            at_ms,
        };
        if !self.tell_departure(&departure).await {
            self.differences.departed(departure);
        }
    }

    /// Puts down when a user went, and tells the contacts. False: not all of that is done.
    pub(crate) async fn tell_departure(&self, departure: &Departure) -> bool {
        let read = async {
            self.store.touch(departure.account, departure.at_ms).await?;
            self.store.roster(departure.account).await
        };
        let contacts = match read.await {
            Ok(contacts) => contacts,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(user = %departure.user, error, "contacts not told yet");
                return false;
            }
        };
        let audience: Vec<UserKey> = seen_by(&contacts).map(|contact| contact.profile.key.clone()).collect();
        let located = self.locate(&audience, None).await;
        let news = News {
            about: departure.user.clone(),
            from: departure.username.clone(),
            version: departure.version,
            what: What::Unavailable,
        };
        self.tell(&news, pairs(audience, &located));
        located.complete
    }

    /// Has the relay that the user is connected to close that connection. After a logout, which ends all older logins as
    /// well, the session is released by now, so no ticket of it opens another one. Another login that has the device
    /// instead may be older: its connection stays.
    pub(crate) async fn end_relay_connection(&self, user: &UserKey, login: LoginId, end: SessionEnd) {
        let device = Resource::default_device();
        let is_over = |route: &Route| match end {
            SessionEnd::Ended => route.login <= login,
            SessionEnd::Lost => route.login == login,
        };
        match self.member.directory().user(user).await {
            Ok(entries) if entries.complete || end == SessionEnd::Lost => {
                let routes = entries.routes.iter().filter(|(resource, _)| *resource == device);
                for (_, route) in routes.filter(|(_, route)| is_over(route)) {
                    self.relays.end_session(Some(&route.relay), user, &device, login);
                }
            }
            read => {
                let error = read.as_ref().err().map(|error| error as &dyn std::error::Error);
                tracing::debug!(%user, error, "route not known: every relay is told of the logout");
                self.relays.end_session(None, user, &device, login);
            }
        }
    }

    /// Puts one more presence on record. None: the user is gone.
    async fn publish(&self, online: &Online) -> Option<Version> {
        let version = online.next_version()?;
        let device = Resource::default_device();
        let updated = self.member.update_session(&online.user, &device, online.login, version.counter).await;
        match updated {
            Ok(true) => {}
            Ok(false) => {
                tracing::debug!(user = %online.user, "presence of a session that is not on record");
                self.restore_soon(online).await;
                if online.has_departed() {
                    return None;
                }
            }
            Err(error) => {
                self.owe_unless(false, online);
                let error = &error as &dyn std::error::Error;
                tracing::debug!(user = %online.user, error, "presence not published yet");
            }
        }
        Some(version)
    }

    pub(crate) fn owe_unless(&self, complete: bool, online: &Online) {
        if !complete {
            online.owe_news();
            self.differences.retry();
        }
    }

    async fn account_of(&self, online: &Online) -> Result<Account, Temporary> {
        // Accounts are not removed; one that is missing is a database set back, and the operator's business.
        let missing = || StoreError::Other("the account of a logged-in user is gone".into());
        Ok(self.store.account(&online.user).await?.ok_or_else(missing)?)
    }
}

fn seen_by(contacts: &[Contact]) -> impl Iterator<Item = &Contact> {
    contacts.iter().filter(|contact| contact.item.subscription.seen_by_contact())
}

fn pairs(users: Vec<UserKey>, located: &Located) -> impl Iterator<Item = (UserKey, Location)> {
    users.into_iter().zip(&located.places).filter_map(|(user, place)| Some((user, (*place)?)))
}

fn news_of(online: &Online, version: Version, what: What) -> News {
    News { about: online.user.clone(), from: online.username.clone(), version, what }
}
