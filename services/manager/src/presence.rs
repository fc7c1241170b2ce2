//! Presence (PROTOCOL §4, rows M24–M31).

use kurir_directory::{Route, SessionEnd};
use kurir_protocol::{
    manager::{PresenceRequest, ToClient},
    name::{Address, LoginId, Resource, UserKey, Username},
};

use crate::{
    manager::{Manager, Temporary, now_ms},
    news::{Location, News, Version, What, presence_of, presence_of_account},
    online::Online,
    shown,
    store::{Account, AccountId, Contact, StoreError},
    whereabouts::Located,
};

/// A user who is gone and whose contacts are to be told.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    account: AccountId,
    user: UserKey,
    username: Username,
    device: Resource,
    login: LoginId,
    end: SessionEnd,
    /// Newer than everything else of that login.
    version: Version,
    at_ms: i64,
}

/// Why a session's relay connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfRelay {
    /// The user has logged out, or the device was removed.
    Ended,
    /// Another login has the device.
    Conflict,
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
            PresenceRequest::Bio { from: Some(from), .. } if !from.is(&online.user, &self.domain) => {
                ToClient::PresenceForbidden { to: online.reader().to }.write(replies);
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

        let placed = || contacts.iter().zip(&located.places);
        let audience = placed()
            .filter(|(contact, _)| contact.item.subscription.seen_by_contact())
            .map(|(contact, places)| (contact.profile.key.clone(), places.as_slice()));
        let what = What::Presence(presence_of_account(&account, true));
        self.tell(&news_of(online, version, what), audience);

        let reader = online.reader();
        for (contact, places) in placed().filter(|(contact, _)| contact.item.subscription.sees_contact()) {
            let profile = &contact.profile;
            let whose = shown::Contact { key: &profile.key, username: &profile.username };
            let presence = presence_of(profile, online.read(&whose, places, mark));
            let from = &*reader.address(&presence.username);
            ToClient::PresenceTo { presence: &presence, from, to: reader.to }.write(replies);
        }
        Ok(())
    }

    /// M27, M28: directed presence.
    async fn exchange(&self, online: &Online, target: &str, replies: &mut Vec<u8>) -> Result<(), Temporary> {
        let reader = online.reader();
        let account = match self.user_at(target) {
            Some(key) => self.store.account(&key).await?,
            None => None,
        };
        let Some(account) = account else {
            ToClient::PresenceUnknown { to: reader.to, target }.write(replies);
            return Ok(());
        };
        // Nothing is answered before everything is read that could fail.
        let mine = self.account_of(online).await?;
        online.hold();
        let located = self.locate(std::slice::from_ref(&account.key), Some(online)).await;
        let places = located.places.into_iter().next().unwrap_or_default();
        if places.is_empty() && !located.complete {
            return Err(Temporary::NotFound);
        }
        let presence = presence_of_account(&account, !places.is_empty());
        let from = &*reader.address(&presence.username);
        ToClient::PresenceDirected { presence: &presence, from, to: reader.to }.write(replies);
        if account.key != online.user {
            let what = What::Directed(presence_of_account(&mine, true));
            self.tell(&news_of(online, online.version(), what), [(account.key, places.as_slice())]);
        }
        Ok(())
    }

    /// Who an address of this system names.
    pub(crate) fn user_at(&self, address: &str) -> Option<UserKey> {
        let address = Address::of(address);
        if address.is_at(&self.domain) { UserKey::of(address.name).ok() } else { None }
    }

    /// M29–M31: the user goes offline, and its contacts are told. After a logout the relay connection is closed as well.
    /// Does nothing for a session that is over already.
    pub(crate) async fn depart(&self, online: &Online, end: SessionEnd) {
        if self.sessions.remove(online) {
            self.departed(online, end).await;
        }
    }

    /// The same for one that is not among the sessions, or not any more.
    pub(crate) async fn departed(&self, online: &Online, end: SessionEnd) {
        let at_ms = now_ms();
        self.release(online, end).await;
        if end == SessionEnd::Ended {
            self.end_relay_connection(online, EndOfRelay::Ended).await;
        }
        let departure = Departure {
            account: online.account,
            user: online.user.clone(),
            username: online.username.clone(),
            device: online.device.clone(),
            login: online.login,
            end,
            version: online.last_version(),
            at_ms,
        };
        if !self.tell_departure(&departure).await {
            self.differences.departed(departure);
        }
    }

    /// Takes a session off record.
    pub(crate) async fn release(&self, online: &Online, end: SessionEnd) {
        let Online { user, device, login, .. } = online;
        if let Err(error) = self.member.release_session(user, device, *login, end).await {
            // The member goes on trying by itself.
            tracing::debug!(%user, error = &error as &dyn std::error::Error, "session not released yet");
        }
    }

    /// Puts down when a user went, and tells the contacts. False: not all of that is done.
    pub(crate) async fn tell_departure(&self, departure: &Departure) -> bool {
        let read = async {
            self.store.touch(departure.account, departure.at_ms).await?;
            let device = (departure.account, departure.device.clone());
            self.store.devices_seen(&[device], departure.at_ms).await?;
            if departure.end == SessionEnd::Ended {
                let Departure { account, device, login, .. } = departure;
                self.store.revoke_session(*account, device, *login).await?;
            }
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
        let mut users: Vec<UserKey> = seen_by(&contacts).map(|contact| contact.profile.key.clone()).collect();
        // Whoever is still there keeps the user online.
        users.push(departure.user.clone());
        let mut located = self.locate(&users, None).await;
        users.pop();
        let others = located.places.pop().unwrap_or_default();
        let stays =
            |other: &Location| other.device != departure.device || other.version.login > departure.login;
        // While the directory is away, as far as is known here: contacts are not kept waiting, and are compared once it is back.
        let last = !others.iter().any(stays);
        let news = News {
            about: departure.user.clone(),
            from: departure.username.clone(),
            device: departure.device.clone(),
            version: departure.version,
            what: What::Unavailable { last },
        };
        self.tell(&news, pairs(users, &located));
        located.complete
    }

    /// Has the relay that a session's device is connected to close that connection. Another login that has the device instead
    /// may be older: its connection stays.
    pub(crate) async fn end_relay_connection(&self, online: &Online, end: EndOfRelay) {
        let Online { user, device, login, .. } = online;
        // A logout, whose session is released by now, ends all older logins as well: no ticket of theirs opens another one.
        let is_over = |route: &Route| match end {
            EndOfRelay::Ended => route.login <= *login,
            EndOfRelay::Conflict => route.login == *login,
        };
        let conflict = end == EndOfRelay::Conflict;
        match self.member.directory().user(user).await {
            Ok(entries) if entries.complete || conflict => {
                let routes = entries.routes.iter().filter(|(resource, _)| resource == device);
                for (_, route) in routes.filter(|(_, route)| is_over(route)) {
                    self.relays.end_session(Some(&route.relay), user, device, *login, conflict);
                }
            }
            read => {
                let error = read.as_ref().err().map(|error| error as &dyn std::error::Error);
                tracing::debug!(%user, error, "route not known: every relay is told of the end");
                self.relays.end_session(None, user, device, *login, conflict);
            }
        }
    }

    /// Puts one more presence on record. None: the user is gone.
    async fn publish(&self, online: &Online) -> Option<Version> {
        let version = online.next_version()?;
        let updated =
            self.member.update_session(&online.user, &online.device, online.login, version.counter).await;
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

    pub(crate) async fn account_of(&self, online: &Online) -> Result<Account, Temporary> {
        // Accounts are not removed; one that is missing is a database set back, and the operator's business.
        let missing = || StoreError::Other("the account of a logged-in user is gone".into());
        Ok(self.store.account(&online.user).await?.ok_or_else(missing)?)
    }
}

fn seen_by(contacts: &[Contact]) -> impl Iterator<Item = &Contact> {
    contacts.iter().filter(|contact| contact.item.subscription.seen_by_contact())
}

fn pairs(users: Vec<UserKey>, located: &Located) -> impl Iterator<Item = (UserKey, &[Location])> {
    users.into_iter().zip(&located.places).map(|(user, places)| (user, places.as_slice()))
}

fn news_of(online: &Online, version: Version, what: What) -> News {
    let (about, from) = (online.user.clone(), online.username.clone());
    News { about, from, device: online.device.clone(), version, what }
}
