//! A component as the model runs it: a member's steps, and a caller that obeys the rules for callers.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kurir_protocol::name::{LoginId, Resource, UserKey};

use super::wire::Wire;
use crate::membership::Membership;
use crate::pending::Removal;
use crate::watch::Peers;
use crate::{
    ComponentId, DirectoryError, Event, Generation, NewSession, Reclaimed, Route, RouteClaim, Session,
    SessionClaim, SessionEnd,
};

/// Between two looks at whether all connections are on record.
const AUDIT_MS: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    Sessions,
    Routes,
}

/// One device of one user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    pub(super) user: UserKey,
    pub(super) resource: &'static str,
}

impl Device {
    pub(super) fn resource(&self) -> Resource {
        Resource::try_from(self.resource.to_owned()).unwrap()
    }

    fn is_named(&self) -> bool {
        self.resource() != Resource::default_device()
    }
}

/// A device's connection to a process.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) table: Table,
    pub(super) device: Device,
    pub(super) login: LoginId,
    pub(super) number: u64,
    /// What it was last claimed under.
    pub(super) generation: Generation,
    /// How often the store had lost its tables by then.
    pub(super) losses: u64,
    /// When it was claimed first.
    pub(super) since_ms: u64,
    /// The client has not gone and was not sent away; its copies share it.
    open: Arc<AtomicBool>,
    /// To be claimed again.
    again: bool,
    /// Somebody has replaced it and is telling its owner.
    pub(super) closing: bool,
    /// A claim that may have replaced it has come to nothing, so nobody will tell.
    pub(super) untold: bool,
}

impl Connection {
    pub(super) fn new(table: Table, device: Device, login: LoginId, number: u64) -> Self {
        Self {
            table,
            device,
            login,
            number,
            generation: Generation::new(),
            losses: 0,
            since_ms: 0,
            open: Arc::new(AtomicBool::new(true)),
            again: false,
            closing: false,
            untold: false,
        }
    }
    fn is(&self, other: &Self) -> bool {
        (self.table, &self.device, self.number) == (other.table, &other.device, other.number)
    }
}

/// Where the world stands: its time, and how often the store has lost its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) ms: u64,
    pub(super) losses: u64,
}

/// Another process's connection, by what identifies it there.
pub(super) type Displaced = (ComponentId, Table, Device, u64);

type Running<T> = Pin<Box<dyn Future<Output = T>>>;
type Claimed = Result<Option<(Generation, Vec<Displaced>)>, DirectoryError>;

/// A claim that is under way.
struct Claiming {
    connection: Connection,
    future: Running<Claimed>,
    again: bool,
    /// To be closed as soon as it is granted: another has replaced it already.
    doomed: bool,
}

impl Claiming {
    /// A new login never takes the default device from a live owner.
    fn may_replace(&self) -> bool {
        self.again || self.connection.table == Table::Routes || self.connection.device.is_named()
    }
}

pub(super) struct Process {
    pub(super) membership: Arc<Membership>,
    pub(super) wire: Arc<Wire>,
    pub(super) paused: bool,
    pub(super) cut: bool,
    /// The life that it must still have, for nothing has ever happened to it.
    pub(super) undisturbed: Option<Generation>,
    /// Its requests arrive one at a time, when the test says so.
    pub(super) slow: bool,
    pub(super) connections: Vec<Connection>,
    claims: Vec<Claiming>,
    releases: Vec<Running<()>>,
    renewing: Option<Running<bool>>,
    looking: Option<Running<Peers>>,
    peers: Option<Peers>,
    /// Devices for which a claim that could replace another's has come to nothing.
    pub(super) failed: Vec<(Table, Device)>,
    ticked_ms: u64,
    renew_ms: u64,
    look_ms: u64,
    audit_ms: u64,
}

impl Process {
    pub(super) fn new(membership: Arc<Membership>, wire: Arc<Wire>) -> Self {
        Self {
            membership,
            wire,
            paused: false,
            cut: false,
            undisturbed: None,
            slow: false,
            connections: Vec::new(),
            claims: Vec::new(),
            releases: Vec::new(),
            renewing: None,
            looking: None,
            peers: Some(Peers::default()),
            failed: Vec::new(),
            ticked_ms: 0,
            renew_ms: 0,
            look_ms: 0,
            audit_ms: 0,
        }
    }

    /// The connections it now acts for.
    pub(super) fn acting(&self) -> impl Iterator<Item = &Connection> {
        let generation = if self.paused { None } else { self.membership.check().ok() };
        self.connections.iter().filter(move |connection| Some(connection.generation) == generation)
    }

    pub(super) fn claim(&mut self, connection: Connection, at: At) {
        let connection = Connection { losses: at.losses, since_ms: at.ms, ..connection };
        let future = claim(Arc::clone(&self.membership), connection.clone());
        self.claims.push(Claiming { connection, future, again: false, doomed: false });
    }

    /// See [`Connection::untold`].
    pub(super) fn mark_untold(&mut self, table: Table, device: &Device) {
        let claimed = self.claims.iter_mut().map(|claim| &mut claim.connection);
        for connection in self.connections.iter_mut().chain(claimed) {
            connection.untold |= connection.table == table && connection.device == *device;
        }
    }

    /// Another has this connection's device, and its word to close it is under way.
    pub(super) fn mark_closing(&mut self, (_, table, device, number): &Displaced) {
        let claimed = self.claims.iter_mut().map(|claim| &mut claim.connection);
        for connection in self.connections.iter_mut().chain(claimed) {
            let is_meant =
                (connection.table, &connection.device, connection.number) == (*table, device, *number);
            connection.closing |= is_meant;
        }
    }

    /// The client goes away, or is sent away.
    pub(super) fn close(&mut self, table: Table, device: &Device, number: Option<u64>, end: SessionEnd) {
        let is_meant = |connection: &Connection| {
            connection.table == table
                && connection.device == *device
                && number.is_none_or(|number| number == connection.number)
        };
        for claim in self.claims.iter_mut().filter(|claim| number.is_some() && is_meant(&claim.connection)) {
            claim.doomed = true;
        }
        let Some(position) = self.connections.iter().position(is_meant) else { return };
        let Connection { device, login, number, open, .. } = self.connections.remove(position);
        open.store(false, Ordering::SeqCst);
        let (user, resource) = (device.user.clone(), device.resource());
        let removal = match table {
            Table::Sessions => Removal::Session { user, resource, login, end },
            Table::Routes => Removal::Route { user, resource, connection: number },
        };
        let membership = Arc::clone(&self.membership);
        self.releases.push(Box::pin(async move { drop(membership.remove_or_keep(removal).await) }));
    }

    /// Somebody removes the device: its logins up to this one are over.
    pub(super) fn end_logins(&mut self, device: &Device, up_to: LoginId) {
        let removal = Removal::Logins { user: device.user.clone(), resource: device.resource(), up_to };
        let membership = Arc::clone(&self.membership);
        self.releases.push(Box::pin(async move { drop(membership.remove_or_keep(removal).await) }));
    }

    /// Everything that a running process does by itself at this time. Who was displaced is told by the caller.
    pub(super) fn run(&mut self, at: At) -> Vec<Displaced> {
        let At { ms: now_ms, losses } = at;
        if self.paused {
            return Vec::new();
        }
        let timing = self.membership.timing;
        if now_ms >= self.ticked_ms + millis(timing.tick) {
            self.ticked_ms = now_ms;
            if !self.membership.tick() {
                self.renew_ms = now_ms;
            }
        }
        self.renew(now_ms);
        self.look(now_ms);
        self.hear();
        self.audit(now_ms);
        self.claim_again(losses);
        self.releases.retain_mut(|release| poll(release).is_none());
        let again = (0..self.claims.len()).rev().filter(|n| self.claims[*n].again).collect::<Vec<_>>();
        again.into_iter().flat_map(|n| self.step(n, losses)).collect()
    }

    fn renew(&mut self, now_ms: u64) {
        let membership = &self.membership;
        if self.renewing.is_none() && now_ms >= self.renew_ms {
            let membership = Arc::clone(membership);
            self.renewing = Some(Box::pin(async move {
                let exchange = membership.renew().await;
                matches!(exchange, Ok(crate::membership::Exchange::Again))
            }));
        }
        if let Some(at_once) = self.renewing.as_mut().and_then(poll) {
            self.renewing = None;
            let timing = self.membership.timing;
            let wait = if self.membership.lease().is_settled() { timing.renew } else { timing.tick };
            self.renew_ms = if at_once { now_ms } else { now_ms + millis(wait) };
        }
    }

    fn look(&mut self, now_ms: u64) {
        if now_ms >= self.look_ms
            && let Some(mut peers) = self.peers.take()
        {
            let membership = Arc::clone(&self.membership);
            self.looking = Some(Box::pin(async move {
                if membership.look_around(&mut peers).await.is_ok() && membership.settle().await.is_ok() {
                    drop(membership.sweep(&peers).await);
                }
                peers
            }));
        }
        if let Some(peers) = self.looking.as_mut().and_then(poll) {
            self.looking = None;
            self.peers = Some(peers);
            self.look_ms = now_ms + millis(self.membership.timing.poll);
        }
    }

    /// What callers must do when they are told of their lease.
    fn hear(&mut self) {
        while let Some(event) = self.membership.next_announcement() {
            if matches!(event, Event::Renewed { .. } | Event::Epoch) {
                self.connections.iter_mut().for_each(|connection| connection.again = true);
            }
        }
    }

    /// Callers do so now and then: a claim that displaced theirs may have come to nothing afterwards.
    fn audit(&mut self, now_ms: u64) {
        if now_ms >= self.audit_ms {
            self.audit_ms = now_ms + AUDIT_MS;
            for connection in self.connections.iter_mut().filter(|connection| connection.untold) {
                connection.again = true;
            }
        }
    }

    fn claim_again(&mut self, losses: u64) {
        for connection in &mut self.connections {
            if !connection.again || self.claims.iter().any(|claim| claim.connection.is(connection)) {
                continue;
            }
            connection.again = false;
            let connection = Connection { losses, ..connection.clone() };
            let future = claim_again(Arc::clone(&self.membership), connection.clone());
            self.claims.push(Claiming { connection, future, again: true, doomed: false });
        }
    }

    /// Whether a claim is under way that may have replaced another's entry without its owner being told yet.
    pub(super) fn may_be_replacing(&self, table: Table, device: &Device) -> bool {
        let is_meant =
            |claim: &Claiming| claim.connection.table == table && claim.connection.device == *device;
        self.claims.iter().any(|claim| is_meant(claim) && claim.may_replace())
    }

    /// The process is killed: what it had under way comes to nothing.
    pub(super) fn killed(self) -> Vec<(Table, Device)> {
        let lost = self.claims.into_iter().filter(Claiming::may_replace);
        lost.map(|claim| (claim.connection.table, claim.connection.device)).collect()
    }

    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Lets a claim take one step.
    pub(super) fn step(&mut self, number: usize, losses: u64) -> Vec<Displaced> {
        let Some(claim) = self.claims.get_mut(number) else { return Vec::new() };
        let Some(claimed) = poll(&mut claim.future) else {
            // Its next request is sent now, and carried out later.
            claim.connection.losses = losses;
            return Vec::new();
        };
        let claim = self.claims.remove(number);
        // Refused, too: an attempt before may have replaced another all the same.
        if !matches!(claimed, Ok(Some(_))) && claim.may_replace() {
            self.failed.push((claim.connection.table, claim.connection.device.clone()));
        }
        let Claiming { mut connection, again, doomed, .. } = claim;
        if again && !connection.open.load(Ordering::SeqCst) {
            // Closed while it was claimed again, and released with that.
            return claimed.ok().flatten().map(|(_, displaced)| self.tell(displaced)).unwrap_or_default();
        }
        let on_list = self.connections.iter_mut().find(|other| other.is(&connection));
        match (claimed, on_list) {
            (Ok(Some((generation, displaced))), Some(on_list)) => {
                on_list.generation = generation;
                on_list.losses = connection.losses;
                on_list.untold = false;
                self.tell(displaced)
            }
            (Ok(Some((generation, displaced))), None) => {
                connection.generation = generation;
                let (table, device, unique) =
                    (connection.table, connection.device.clone(), connection.number);
                self.connections.push(connection);
                if doomed {
                    // Replaced before it was on the list, so whoever was to close it has not found it.
                    self.close(table, &device, Some(unique), SessionEnd::Lost);
                }
                self.tell(displaced)
            }
            (Ok(None), Some(_)) => {
                self.close(
                    connection.table,
                    &connection.device.clone(),
                    Some(connection.number),
                    SessionEnd::Lost,
                );
                Vec::new()
            }
            (Err(_), Some(on_list)) => {
                on_list.again |= again;
                Vec::new()
            }
            (Ok(None) | Err(_), None) => Vec::new(),
        }
    }

    /// Closes those displaced here; those displaced elsewhere are for the caller to tell.
    fn tell(&mut self, displaced: Vec<Displaced>) -> Vec<Displaced> {
        let (here, elsewhere) =
            displaced.into_iter().partition::<Vec<_>, _>(|(id, ..)| *id == self.membership.me);
        for (_, table, device, number) in here {
            self.close(table, &device, Some(number), SessionEnd::Lost);
        }
        elsewhere
    }
}

fn new_session(connection: &Connection) -> NewSession {
    NewSession {
        username: connection.device.user.to_string(),
        login: connection.login,
        since_ms: 0,
        client_address: Ipv4Addr::LOCALHOST.into(),
        presence_counter: 0,
        displaces: connection.device.resource().is_named(),
    }
}

fn claim(membership: Arc<Membership>, connection: Connection) -> Running<Claimed> {
    Box::pin(async move {
        let Connection { device, login, number, .. } = &connection;
        let (user, resource) = (&device.user, device.resource());
        Ok(match connection.table {
            Table::Sessions => {
                match membership.claim_session(user, &resource, new_session(&connection)).await? {
                    SessionClaim::Granted { generation, displaced } => {
                        Some((generation, sessions(device, displaced)))
                    }
                    SessionClaim::AlreadyLoggedIn | SessionClaim::Ended => None,
                }
            }
            Table::Routes => match membership.claim_route(user, &resource, *login, *number).await? {
                RouteClaim::Granted { generation, replaced } => Some((generation, routes(device, replaced))),
                RouteClaim::Stale => None,
            },
        })
    })
}

fn claim_again(membership: Arc<Membership>, connection: Connection) -> Running<Claimed> {
    Box::pin(async move {
        let Connection { device, login, number, open, generation, .. } = &connection;
        let (user, resource, is_open) = (&device.user, device.resource(), || open.load(Ordering::SeqCst));
        Ok(match connection.table {
            Table::Sessions => {
                let session = new_session(&connection);
                match membership.reclaim_session(user, &resource, session, *generation, is_open).await? {
                    Reclaimed::Kept { generation, displaced } => {
                        Some((generation, sessions(device, displaced)))
                    }
                    Reclaimed::Lost => None,
                }
            }
            Table::Routes => {
                match membership.reclaim_route(user, &resource, *login, *number, is_open).await? {
                    Reclaimed::Kept { generation, displaced } => {
                        Some((generation, routes(device, displaced)))
                    }
                    Reclaimed::Lost => None,
                }
            }
        })
    })
}

fn sessions(device: &Device, displaced: Vec<Session>) -> Vec<Displaced> {
    let displaced = displaced.into_iter();
    displaced.map(|it| (it.manager, Table::Sessions, device.clone(), it.login.0)).collect()
}

fn routes(device: &Device, displaced: Vec<Route>) -> Vec<Displaced> {
    let displaced = displaced.into_iter();
    displaced.map(|it| (it.relay, Table::Routes, device.clone(), it.connection)).collect()
}

fn poll<T>(future: &mut Running<T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap()
}
