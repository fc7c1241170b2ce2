//! Putting entries on record and taking them off. The same way for all: read, let the rule decide, swap what was read
//! for what is to be, and begin again if somebody was faster.

use kurir_protocol::name::{LoginId, Resource, UserKey};

use crate::backend::{Ended, Owned, Standing, Swap};
use crate::lease::{Claim, View};
use crate::membership::Membership;
use crate::pending::{Overflow, Removal};
use crate::record::{self, Entry, Record};
use crate::rules::{self, Current, Device, Life, Meanwhile, Ruling};
use crate::{
    DirectoryError, Fenced, Generation, NewSession, Reclaimed, Route, RouteClaim, Session, SessionClaim,
    SessionEnd,
};

/// How often somebody may be faster before it is an error.
const ATTEMPTS: usize = 16;

/// What is on record for a device when a claim is decided.
struct Found {
    /// The life that it is decided for.
    generation: Generation,
    current: Option<Current>,
    /// A live session of a newer login; only looked for where a new route is claimed.
    superseded: bool,
    ended: Option<LoginId>,
}

/// A claim and what was read for it.
struct Case<'a> {
    user: &'a UserKey,
    resource: &'a Resource,
    claim: Claim,
    view: View,
    standing: Standing,
    record: Record,
}

impl Case<'_> {
    fn on_record<E: Entry>(&self) -> Option<E> {
        self.record.entry(self.resource, self.standing.epoch.as_ref())
    }
}

/// Why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Somebody else has, or has had, a better right to the device.
    Taken,
    /// The login is over.
    Ended,
}

/// A claim that succeeded.
struct Granted<E> {
    generation: Generation,
    /// Those that may have lost the device to it, and then have nobody else to tell them.
    displaced: Vec<E>,
}

impl Membership {
    pub(crate) async fn claim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        new: NewSession,
    ) -> Result<SessionClaim, DirectoryError> {
        let rule = |found: &Found| rules::new_session(new.displaces, new.login, found.current, found.ended);
        let granted =
            self.put(user, resource, Claim::New, |generation| self.session(&new, generation), rule).await?;
        Ok(match granted {
            Ok(Granted { generation, displaced }) => SessionClaim::Granted { generation, displaced },
            Err(Refused::Taken) => SessionClaim::AlreadyLoggedIn,
            Err(Refused::Ended) => SessionClaim::Ended,
        })
    }

    pub(crate) async fn reclaim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        old: NewSession,
        claimed_under: Generation,
        is_open: impl Fn() -> bool,
    ) -> Result<Reclaimed<Session>, DirectoryError> {
        let (device, login) = (Device::of(resource), old.login);
        let meanwhile = |now| if now == claimed_under { Meanwhile::Alive } else { Meanwhile::Dead };
        let rule = |found: &Found| {
            rules::old_session(device, login, meanwhile(found.generation), found.current, found.ended)
        };
        let granted =
            self.put(user, resource, Claim::Again, |generation| self.session(&old, generation), rule).await?;
        let (user, resource, end) = (user.clone(), resource.clone(), SessionEnd::Lost);
        Ok(self.reclaimed(granted, is_open, Removal::Session { user, resource, login, end }).await)
    }

    pub(crate) async fn claim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
    ) -> Result<RouteClaim, DirectoryError> {
        let rule =
            |found: &Found| rules::new_route(login, connection, found.current, found.superseded, found.ended);
        let route = |generation| self.route(login, connection, generation);
        let granted = self.put(user, resource, Claim::New, route, rule).await?;
        Ok(match granted {
            Ok(Granted { generation, displaced }) => RouteClaim::Granted { generation, replaced: displaced },
            Err(Refused::Taken | Refused::Ended) => RouteClaim::Stale,
        })
    }

    pub(crate) async fn reclaim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
        is_open: impl Fn() -> bool,
    ) -> Result<Reclaimed<Route>, DirectoryError> {
        let rule = |found: &Found| rules::old_route(login, connection, found.current, found.ended);
        let route = |generation| self.route(login, connection, generation);
        let granted = self.put(user, resource, Claim::Again, route, rule).await?;
        let (user, resource) = (user.clone(), resource.clone());
        Ok(self.reclaimed(granted, is_open, Removal::Route { user, resource, connection }).await)
    }

    /// A connection that has ended while it was claimed again may have been released before it was back on record: then
    /// it is released once more.
    async fn reclaimed<E>(
        &self,
        granted: Result<Granted<E>, Refused>,
        is_open: impl Fn() -> bool,
        removal: Removal,
    ) -> Reclaimed<E> {
        let Ok(Granted { generation, displaced }) = granted else { return Reclaimed::Lost };
        if !is_open()
            && let Err(error) = self.remove_or_keep(removal).await
        {
            tracing::debug!(%error, "ended while it was claimed again; to be released later");
        }
        Reclaimed::Kept { generation, displaced }
    }

    fn session(&self, new: &NewSession, generation: Generation) -> Session {
        Session {
            username: new.username.clone(),
            manager: self.me.clone(),
            generation,
            login: new.login,
            since_ms: new.since_ms,
            client_address: new.client_address,
            presence_counter: new.presence_counter,
            displaces: new.displaces,
        }
    }

    fn route(&self, login: LoginId, connection: u64, generation: Generation) -> Route {
        Route { relay: self.me.clone(), generation, login, connection }
    }

    async fn put<E: Entry>(
        &self,
        user: &UserKey,
        resource: &Resource,
        claim: Claim,
        make: impl Fn(Generation) -> E,
        rule: impl Fn(&Found) -> Ruling,
    ) -> Result<Result<Granted<E>, Refused>, DirectoryError> {
        let mut displaced = Vec::new();
        for _ in 0..ATTEMPTS {
            let view = self.view()?;
            let (fields, standing) = self.backend.look(&self.me, user).await?;
            self.admit(&view, &standing, claim)?;
            let case = Case { user, resource, claim, view, standing, record: Record::new(fields) };
            let entry = make(case.view.generation);
            match rule(&self.found(&case, &entry).await?) {
                Ruling::Refuse => return Ok(Err(Refused::Taken)),
                Ruling::Ended => return Ok(Err(Refused::Ended)),
                // Also if the swap fails: it may have been carried out all the same, see `write`.
                Ruling::Displace => displaced.extend(case.on_record::<E>()),
                Ruling::Take => {}
            }
            if self.write(&case, entry).await? {
                return Ok(Ok(Granted { generation: case.view.generation, displaced }));
            }
        }
        Err(DirectoryError::Contended)
    }

    async fn found<E: Entry>(&self, case: &Case<'_>, entry: &E) -> Result<Found, DirectoryError> {
        let current = match case.on_record::<E>() {
            Some(current) => {
                let life = self.life(current.owner(), &case.view).await?;
                let (login, unique, displaces) = (current.login(), current.unique(), current.displaces());
                Some(Current { login, unique, displaces, life })
            }
            None => None,
        };
        let is_new_route = E::TABLE == Route::TABLE && case.claim == Claim::New;
        let superseded = match case.on_record::<Session>() {
            Some(session) if is_new_route && session.login > entry.login() => {
                self.life(session.owner(), &case.view).await? != Life::Dead
            }
            _ => false,
        };
        let (generation, ended) = (case.view.generation, case.record.ended(case.resource));
        Ok(Found { generation, current, superseded, ended })
    }

    /// Swaps what was read for `entry`; false: something else was there, or this entry, where the request was sent again
    /// over a new connection. What can't be known to be written and still this generation's is taken back.
    async fn write<E: Entry>(&self, case: &Case<'_>, entry: E) -> Result<bool, DirectoryError> {
        let user = case.user.clone();
        let field = record::field::<E>(case.resource);
        let owned = Owned { user: user.clone(), field: field.clone(), unique: entry.unique() };
        let raw = record::write(entry, case.view.epoch()?, self.attempt())?;
        let swap = Swap {
            user: user.clone(),
            field: field.clone(),
            expected: case.record.raw::<E>(case.resource).map(str::to_owned),
            new: Some(raw.clone()),
            ended: Some((record::ended_field(case.resource), Ended::Is(case.record.ended(case.resource)))),
            owner: Some((self.me.clone(), case.view.generation, owned)),
        };
        let removal = Some(Removal::Attempt { user, field, raw });
        self.check()?;
        let mut attempt = Attempt { membership: self, removal };
        let (done, standing) = self.backend.swap(&self.me, std::slice::from_ref(&swap)).await?;
        if done.first() != Some(&true) {
            return Ok(false);
        }
        self.admit(&case.view, &standing, case.claim)?;
        self.check()?;
        // A new life or epoch that was announced meanwhile has had the caller's other entries written again, not this one.
        if !self.is_as_in(&case.view) {
            return Err(DirectoryError::Recovering);
        }
        attempt.removal = None;
        Ok(true)
    }

    pub(crate) async fn update_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        presence_counter: u64,
    ) -> Result<bool, DirectoryError> {
        for _ in 0..ATTEMPTS {
            let view = self.view()?;
            let (fields, standing) = self.backend.look(&self.me, user).await?;
            self.admit(&view, &standing, Claim::Again)?;
            let record = Record::new(fields);
            let Some(session) = record.entry::<Session>(resource, standing.epoch.as_ref()) else {
                // It may be on its way back onto record.
                return if standing.recovering { Err(DirectoryError::Recovering) } else { Ok(false) };
            };
            if session.owner() != (&self.me, view.generation) || session.login != login {
                return Ok(false);
            }
            let swap = Swap {
                user: user.clone(),
                field: record::field::<Session>(resource),
                expected: record.raw::<Session>(resource).map(str::to_owned),
                new: Some(record::write(
                    Session { presence_counter, ..session },
                    view.epoch()?,
                    self.attempt(),
                )?),
                ended: None,
                owner: None,
            };
            if self.swap(swap).await? {
                return Ok(true);
            }
        }
        Err(DirectoryError::Contended)
    }

    /// Does it now, or later if that fails.
    pub(crate) async fn remove_or_keep(&self, removal: Removal) -> Result<(), DirectoryError> {
        // Kept first: the caller may be cancelled, the entry must go all the same. Removing twice does no harm.
        let mut attempt = Attempt { membership: self, removal: Some(removal.clone()) };
        self.remove(&removal).await?;
        attempt.removal = None;
        Ok(())
    }

    pub(crate) async fn remove(&self, removal: &Removal) -> Result<(), DirectoryError> {
        match removal {
            Removal::Session { user, resource, login, end } => {
                let ended = (*end == SessionEnd::Ended).then_some(*login);
                self.remove_entry::<Session>(user, resource, login.0, ended).await
            }
            Removal::Logins { user, resource, up_to } => self.end_logins(user, resource, *up_to).await,
            Removal::Route { user, resource, connection } => {
                self.remove_entry::<Route>(user, resource, *connection, None).await
            }
            Removal::Attempt { user, field, raw } => {
                let swap = Swap {
                    user: user.clone(),
                    field: field.clone(),
                    expected: Some(raw.clone()),
                    new: None,
                    ended: None,
                    owner: None,
                };
                // It stays noted: another attempt of the same connection may be on record by now, or be so soon.
                self.swap(swap).await.map(drop)
            }
        }
    }

    async fn remove_entry<E: Entry>(
        &self,
        user: &UserKey,
        resource: &Resource,
        unique: u64,
        ended: Option<LoginId>,
    ) -> Result<(), DirectoryError> {
        self.take_off::<E>(user, resource, unique, ended).await?;
        let owned = Owned { user: user.clone(), field: record::field::<E>(resource), unique };
        let generation = self.lease().generation();
        self.backend.disown(&self.me, generation, &[owned]).await
    }

    async fn take_off<E: Entry>(
        &self,
        user: &UserKey,
        resource: &Resource,
        unique: u64,
        ended: Option<LoginId>,
    ) -> Result<(), DirectoryError> {
        for _ in 0..ATTEMPTS {
            let (fields, _) = self.backend.look(&self.me, user).await?;
            let record = Record::new(fields);
            let current = record.entry_of_any_epoch::<E>(resource);
            let mine =
                current.as_ref().is_some_and(|entry| *entry.owner().0 == self.me && entry.unique() == unique);
            // An older login that took the device back by the conflict rule must not be ended with the newer one.
            let ended =
                ended.filter(|ended| mine || current.as_ref().is_none_or(|entry| entry.login() > *ended));
            if !mine && ended.is_none() {
                return Ok(());
            }
            let expected = record.raw::<E>(resource).map(str::to_owned);
            let swap = Swap {
                user: user.clone(),
                field: record::field::<E>(resource),
                new: if mine { None } else { expected.clone() },
                expected,
                ended: ended.map(|login| (record::ended_field(resource), Ended::Raise(login))),
                owner: None,
            };
            if self.swap(swap).await? {
                return Ok(());
            }
        }
        Err(DirectoryError::Contended)
    }

    /// What is on record stays: its owner has the connection, and takes it off.
    async fn end_logins(
        &self,
        user: &UserKey,
        resource: &Resource,
        up_to: LoginId,
    ) -> Result<(), DirectoryError> {
        for _ in 0..ATTEMPTS {
            let (fields, _) = self.backend.look(&self.me, user).await?;
            let on_record = Record::new(fields).raw::<Session>(resource).map(str::to_owned);
            let swap = Swap {
                user: user.clone(),
                field: record::field::<Session>(resource),
                expected: on_record.clone(),
                new: on_record,
                ended: Some((record::ended_field(resource), Ended::Raise(up_to))),
                owner: None,
            };
            if self.swap(swap).await? {
                return Ok(());
            }
        }
        Err(DirectoryError::Contended)
    }

    async fn swap(&self, swap: Swap) -> Result<bool, DirectoryError> {
        let (done, _) = self.backend.swap(&self.me, std::slice::from_ref(&swap)).await?;
        Ok(done.first() == Some(&true))
    }

    /// What this component knows of itself, if it may act at all.
    pub(crate) fn view(&self) -> Result<View, Fenced> {
        self.check()?;
        Ok(self.lease().view())
    }

    /// Refuses a claim on tables that are not what this component thinks they are, and has that looked into.
    fn admit(&self, view: &View, standing: &Standing, claim: Claim) -> Result<(), DirectoryError> {
        view.admit(standing, claim).inspect_err(|_| self.hurry.notify_one())
    }
}

/// Something begun that must not stay half done when its future fails or is dropped.
struct Attempt<'a> {
    membership: &'a Membership,
    removal: Option<Removal>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(removal) = self.removal.take() else { return };
        if let Err(Overflow) = self.membership.pending.push(removal) {
            tracing::warn!(
                "too many entries to take off record while the directory is away: taking a new generation"
            );
            self.membership.lease_mut().renounce();
        }
    }
}
