//! Hello: who is let in, and as whom.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kurir_delivery::reading::{Device, Reading};
use kurir_directory::{DirectoryError, Route, RouteClaim, UserEntries};
use kurir_protocol::{
    name::{self, LoginId, Resource, UserKey},
    relay::Hello,
};
use kurir_socket::Outbox;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};
use tracing::Instrument;

use crate::{
    config::BareHello,
    connection::{self, Connection},
    link::{Link, Standing},
    metrics::HelloOutcome,
    readers,
    relay::Relay,
    tickets::Ticket,
};

/// Users whose claims wait for each other are few among this many.
const STRIPES: usize = 256;

/// How long the end of a login is remembered: longer than a claim can take.
const CLAIM_TAKES: Duration = Duration::from_secs(10);

/// A newer login of a device says hello within this time, or the connection of the older one is closed without it.
const SUCCESSOR_COMES: Duration = Duration::from_secs(2);

/// How many ends are remembered. Beyond that the audit finds whom an older one was meant for.
const ENDS: usize = 4096;

/// Claims of one user, one after another: the order in which the directory grants them is then the order in which
/// connections replace each other here.
#[derive(Debug)]
pub(crate) struct Claims {
    stripes: Box<[Mutex<()>]>,
    hash: RandomState,
    /// Logins ended lately: the word may come between the directory's grant and the connection's place in the table.
    ended: std::sync::Mutex<VecDeque<Ended>>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    user: Box<str>,
    resource: Box<str>,
    login: LoginId,
}

/// Why a hello is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// 401: this hello will not be admitted here or elsewhere.
    #[error("unauthorized: {0}")]
    Unauthorized(&'static str),
    /// 503: the same hello may be admitted soon.
    #[error("temporary failure")]
    Directory(#[from] DirectoryError),
    #[error("temporary failure: this relay may not act")]
    Fenced,
}

/// Who somebody is, checked.
struct Identity {
    user: UserKey,
    /// As registered.
    name: String,
    resource: Resource,
    login: LoginId,
    ticket: Option<Ticket>,
    device: Device,
}

impl Claims {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { stripes, hash: RandomState::new(), ended: std::sync::Mutex::default() }
    }

    fn remember_end(&self, user: &str, resource: &str, login: LoginId) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while ended.len() >= ENDS || ended.front().is_some_and(|first| now - first.at > CLAIM_TAKES) {
            ended.pop_front();
        }
        ended.push_back(Ended { at: now, user: user.into(), resource: resource.into(), login });
    }

    fn has_ended(&self, connection: &Connection) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().any(|end| {
            *end.user == *connection.user
                && *end.resource == *connection.resource.as_str()
                && connection.login <= end.login
        })
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder is below the number of stripes, which is not 0"
    )]
    async fn turn_of(&self, user: &UserKey) -> MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hash.hash_one(user) >> 32).unwrap_or_default();
        self.stripes[hash % self.stripes.len()].lock().await
    }
}

impl Relay {
    /// R5, R6: admits the device that `hello` speaks for, and closes the one that it replaces, wherever that is.
    pub(crate) async fn admit(
        &self,
        hello: Hello,
        address: IpAddr,
        outbox: &Arc<Outbox>,
    ) -> Result<Arc<Connection>, Refused> {
        let admitted = self.try_admit(hello, address, outbox).await;
        let outcome = match &admitted {
            Ok(connection) => {
                tracing::debug!(user = &*connection.user, session = connection.number, "hello");
                HelloOutcome::Admitted
            }
            Err(refused @ Refused::Unauthorized(_)) => {
                tracing::debug!(%address, error = %refused, "hello refused");
                HelloOutcome::Unauthorized
            }
            Err(refused) => {
                tracing::debug!(%address, error = kurir_rpc::chain(refused), "hello not possible now");
                HelloOutcome::TemporaryFailure
            }
        };
        self.metrics.hello(outcome);
        admitted
    }

    async fn try_admit(
        &self,
        hello: Hello,
        address: IpAddr,
        outbox: &Arc<Outbox>,
    ) -> Result<Arc<Connection>, Refused> {
        let name = hello.username.ok_or(Refused::Unauthorized("no username"))?;
        let user = UserKey::of(&name).map_err(|_| Refused::Unauthorized("bad username"))?;
        let device = hello.resume.map_or(Device::Plain, Device::Resuming);
        let identity = match hello.token {
            Some(token) => self.bearer(user, &token, device).await?,
            None => self.bare(user, address, device).await?,
        };
        let trace = identity.ticket.as_ref().and_then(|ticket| ticket.claims.trace.as_deref());
        let span = kurir_trace::span!("hello", user = identity.user.as_str());
        let span = kurir_trace::continued(span, trace);
        self.claim(identity, outbox).instrument(span).await
    }

    async fn bearer(&self, user: UserKey, token: &str, device: Device) -> Result<Identity, Refused> {
        let ticket = self.tickets.verify(token).await.map_err(|error| {
            tracing::debug!(user = user.as_str(), error = kurir_rpc::chain(&error), "bad ticket");
            Refused::Unauthorized("bad ticket")
        })?;
        let claims = &ticket.claims;
        if claims.sub != user {
            return Err(Refused::Unauthorized("somebody else's ticket"));
        }
        let (resource, login) = (claims.res.clone(), claims.login);
        let name = match self.domain.get() {
            Some(domain) if resource.is_named() => name::full(&claims.name, domain, resource.as_str()),
            _ => claims.name.clone(),
        };
        Ok(Identity { user, name, resource, login, ticket: Some(ticket), device })
    }

    /// The original's hello: believed as far as the configuration says.
    async fn bare(&self, user: UserKey, address: IpAddr, device: Device) -> Result<Identity, Refused> {
        if self.settings.bare_hello == BareHello::TicketOnly {
            return Err(Refused::Unauthorized("no ticket"));
        }
        let resource = Resource::default_device();
        let entries = self.directory.user(&user).await?;
        let (_, session) = entries.sessions.into_iter().find(|(device, _)| *device == resource).ok_or(
            if entries.complete {
                Refused::Unauthorized("not online at a manager")
            } else {
                Refused::Directory(DirectoryError::Recovering)
            },
        )?;
        let same = session.client_address.to_canonical() == address.to_canonical();
        if self.settings.bare_hello == BareHello::SameAddress && !same {
            return Err(Refused::Unauthorized("not from the manager connection's address"));
        }
        let (name, login) = (session.username, session.login);
        Ok(Identity { user, name, resource, login, ticket: None, device })
    }

    async fn claim(&self, identity: Identity, outbox: &Arc<Outbox>) -> Result<Arc<Connection>, Refused> {
        let Identity { user, name, resource, login, ticket, device } = identity;
        if !self.fence.may_act() && !self.fence.until_it_may_act().await {
            return Err(Refused::Fenced);
        }
        let turn = self.claims.turn_of(&user).await;
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let claim = self.member.claim_route(&user, &resource, login, number).await?;
        let RouteClaim::Granted { generation, replaced } = claim else {
            return Err(Refused::Unauthorized("a newer login has the device, or this one has ended"));
        };
        let identity =
            connection::Identity { user: user.as_str().into(), name: name.into(), resource, login, number };
        let connection = Connection::new(
            identity,
            Arc::clone(outbox),
            Reading::new(device),
            self.metrics.not_delivered.clone(),
        );
        let replaced_here = self.router.connect(&connection);
        // A new life may have begun since the claim, and then those who claim again may have missed this one.
        if !self.fence.is_claimed(generation) {
            self.leave(&connection);
            // On record under a life that goes on nobody else would remove it.
            if let Err(error) = self.member.release_route(&user, &connection.resource, number).await {
                tracing::debug!(
                    user = user.as_str(),
                    error = kurir_rpc::chain(&error),
                    "route not released yet"
                );
            }
            return Err(Refused::Fenced);
        }
        // At once: whoever finds it in the table finds it counted, and a burst of logins is spread by this.
        let promised = ticket.as_ref().filter(|ticket| ticket.claims.relay == self.member.id().as_str());
        self.load.connected(promised, unix_seconds());
        self.metrics.users.inc();
        if self.claims.has_ended(&connection) {
            connection.outbox.close("");
        }
        let plain = connection.reading().is_plain();
        let mut awaited = Vec::new();
        for old in &replaced {
            let parting = plain.then(|| self.handovers.awaits(old.generation, old.connection));
            let told = self.displace(&user, old, login);
            awaited.extend(parting.filter(|_| told));
        }
        self.meet_siblings(&user).await;
        drop(turn);
        if let Some(replaced) = replaced_here {
            // What that one has been sent is not sent to this one again.
            readers::store_last(self, &replaced).await;
        }
        if plain {
            // Where it goes on reading is known when its older connections are over.
            for old in replaced.iter().filter(|old| self.links.is_me(&old.relay)) {
                self.handovers.until_left(old.connection).await;
            }
            for old in &mut awaited {
                old.parted().await;
            }
        }
        Ok(connection)
    }

    /// Finds the other relays that the user is connected to, and tells them of this one. Read after the route was written: of two
    /// devices that come at once, one finds the other. If nothing can be read the audit finds them.
    pub(crate) async fn meet_siblings(&self, user: &UserKey) {
        let Ok(entries) = self.directory.user(user).await else { return };
        for link in self.elsewhere(&entries) {
            link.sibling(user.as_str(), true);
            self.router.sibling(user.as_str(), &link, true);
        }
    }

    /// The links to the other relays that a user's devices are connected to.
    pub(crate) fn elsewhere(&self, entries: &UserEntries) -> Vec<Arc<Link>> {
        let mut links: Vec<Arc<Link>> = Vec::new();
        for (_, route) in entries.routes.iter().filter(|(_, route)| !self.links.is_me(&route.relay)) {
            let link = self.links.get(&route.relay, route.generation);
            links.extend(link.filter(|link| !links.iter().any(|known| Arc::ptr_eq(known, link))));
        }
        links
    }

    /// A connection leaves the table; the user's other relays are told if it was the last one here.
    fn leave(&self, connection: &Arc<Connection>) {
        for link in self.router.disconnect(connection) {
            link.sibling(&connection.user, false);
        }
    }

    /// Has another relay close the connection that has lost its device to that login. False: it can't be told, and its audit finds
    /// it; one at this relay was closed by [`crate::router::Router::connect`].
    pub(crate) fn displace(&self, user: &UserKey, replaced: &Route, by: LoginId) -> bool {
        let link = self.links.existing(&replaced.relay, replaced.generation);
        if let Some(link) = &link {
            link.displaced(user.as_str(), replaced.connection, replaced.login < by);
        }
        link.is_some_and(|link| *link.standing().borrow() == Standing::Up)
    }

    /// R9 to R12: an admitted connection is over.
    pub(crate) async fn dismiss(&self, connection: &Arc<Connection>) {
        let leaving = self.handovers.leaving(connection.number);
        self.leave(connection);
        self.load.disconnected();
        self.metrics.users.dec();
        // Before another connection of the device may begin to read.
        readers::store_last(self, connection).await;
        drop(leaving);
        let Ok(user) = UserKey::of(&connection.user) else { return };
        let released = self.member.release_route(&user, &connection.resource, connection.number).await;
        if let Err(error) = released {
            // The directory's member does it later.
            tracing::debug!(user = user.as_str(), error = kurir_rpc::chain(&error), "route not released yet");
        }
    }

    /// M29, R9: a manager has ended a login of a device, and all before it. `conflict`: a newer one has the device.
    pub(crate) fn end_session(&self, user: &str, resource: &str, login: LoginId, conflict: bool) {
        self.claims.remember_end(user, resource, login);
        let ended = |here: &Arc<Connection>| here.resource.as_str() == resource && here.login <= login;
        if let Some(here) = self.router.here(user).into_iter().find(ended) {
            tracing::debug!(user, session = here.number, "session ended by its manager");
            if conflict { self.await_successor(here) } else { here.ended() }
        }
    }

    /// The device has logged in anew. If that is a client that goes to another manager it comes here, or to another relay, in a
    /// moment: until then this connection works.
    fn await_successor(&self, connection: Arc<Connection>) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            if over.run_until_cancelled(sleep(SUCCESSOR_COMES)).await.is_some() {
                connection.displaced(true);
            }
        });
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
