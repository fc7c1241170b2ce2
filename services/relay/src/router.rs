//! All routing rules. A message goes to the receiver's connection here; otherwise over the link to the relay that its
//! cached route names; otherwise the directory is asked.
//!
//! Order: all messages of this relay's senders to one receiver take one way at a time. A receiver's next way is used only
//! when everything on the last one is settled: delivered, or back. Until then, and while the directory is asked, messages
//! wait in that receiver's line; nobody else's wait. What came back goes ahead of the line, unless a later
//! message of the same sender was delivered meanwhile: then it is answered R15, since nothing may overtake.
//!
//! A user may have several devices, at this relay and at others. What comes for all of them goes to those here and, as a
//! copy, to the other relays; those deliver a copy and pass it on no further. So senders need one way to any of the
//! relays, and relays with devices of one user know each other: each says so to the others when a device comes and when
//! its last one goes.
//!
//! No IO and no clock: look-ups are asked through [`LookUps`] and answered by [`Router::found`], links are moved by
//! [`crate::streams`].

use std::{mem, sync::Arc};

use bytes::Bytes;
use kurir_rpc::v1::{Batch, Delivery};
use kurir_socket::outbox::Fill;

use crate::{
    connection::{Author, Connection},
    link::{Link, Parcel, Position, Refusal, Rest, Settled, Trips},
    lookup::{Answer, LookUps, Question},
    table::{Line, Path, Shard, Spread, Table, Wait, Waiting},
};

/// A connection that has just claimed its route may not be in the table yet when the directory already names it.
const LOOKS: u8 = 2;

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Routed {
    /// The receiver is connected here, and nowhere else: the caller writes into its outbox, and again for every later message
    /// until that outbox is closed or the connection is not alone any more.
    Here(Arc<Connection>),
    /// Delivered to several devices of the receiver, or on its way to them.
    Spread(Fill),
    /// Put on its way to another relay; the caller wakes the link after the batch.
    Linked(Arc<Link>),
    /// Waits for the directory or for a link to settle. If it finds nobody the sender is told.
    Waiting,
    /// R15, now.
    NotDelivered,
}

/// What became of another relay's batch.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Indexes of the deliveries whose receiver is not here (R20).
    pub(crate) back: Vec<u32>,
    /// The fullest outbox of a receiver.
    pub(crate) fill: Fill,
}

#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) table: Table,
    pub(crate) lookups: LookUps,
    waiting: Arc<Waiting>,
}

impl Router {
    pub(crate) fn new(table: Table, lookups: LookUps, waiting: Arc<Waiting>) -> Self {
        Self { table, lookups, waiting }
    }

    /// What all messages that wait here weigh.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// R14: where the message to `to` (case-mapped), to all of its devices or to one, goes. `write` appends it as a canonical
    /// line.
    pub(crate) fn route(
        &self,
        (to, device): (&str, Option<&str>),
        from: &Arc<Connection>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Routed {
        let parcel = |to: Bytes| {
            let mut line = Vec::new();
            write(&mut line);
            let (from, device) = (Some(Author::new(from)), device.map(Into::into));
            Parcel { from, to, line: line.into(), device, trips: Trips::Fresh }
        };
        let mut shard = self.table.shard(to);
        let Some(entry) = shard.get_mut(to) else {
            let Some(mut line) = self.line(to, from) else { return Routed::NotDelivered };
            line.push(parcel(Bytes::copy_from_slice(to.as_bytes())));
            shard.entry(to).path = Path::line(line);
            return Routed::Waiting;
        };
        match &mut entry.path {
            Path::None => {
                if let (Some(here), None) = (entry.only(), device) {
                    return Routed::Here(Arc::clone(here));
                }
                if entry.is_open() {
                    let Parcel { to, line, .. } = parcel(Bytes::copy_from_slice(to.as_bytes()));
                    let spread = entry.spread(Spread { to: &to, device, line: &line });
                    return spread.map_or(Routed::NotDelivered, Routed::Spread);
                }
                let Some(mut line) = self.line(to, from) else { return Routed::NotDelivered };
                line.push(parcel(Bytes::copy_from_slice(to.as_bytes())));
                entry.path = Path::line(line);
                Routed::Waiting
            }
            Path::Link { link, to: name, last } => match link.push(parcel(name.clone())) {
                Ok(number) => {
                    *last = number;
                    Routed::Linked(Arc::clone(link))
                }
                Err((Refusal::Full, _)) => Routed::NotDelivered,
                // Whatever was on that link is settled, and the receiver may be elsewhere by now.
                Err((Refusal::Down, parcel)) => {
                    let line = self.line(to, from);
                    let routed = if line.is_some() { Routed::Waiting } else { Routed::NotDelivered };
                    entry.path = line.map_or(Path::None, |mut line| {
                        line.push(parcel);
                        Path::line(line)
                    });
                    shard.forgot_route();
                    shard.tidy(to);
                    routed
                }
            },
            Path::Line(line) if line.is_full() => Routed::NotDelivered,
            Path::Line(line) => {
                line.push(parcel(Bytes::copy_from_slice(to.as_bytes())));
                Routed::Waiting
            }
        }
    }

    /// R19, R16: messages of another relay, delivered here or nowhere, and passed on to where else the receiver is.
    pub(crate) fn arrived(&self, batch: &Batch) -> Arrived {
        let mut arrived = Arrived { back: Vec::new(), fill: Fill::Light };
        let mut last: Option<(&[u8], Arc<Connection>)> = None;
        for (index, delivery) in (0..).zip(&batch.deliveries) {
            let to: &[u8] = &delivery.to;
            let goes_on = |(name, here): &(&[u8], Arc<Connection>)| {
                *name == to && here.is_alone() && !here.outbox.is_closed()
            };
            if !last.as_ref().is_some_and(goes_on) {
                let only = str::from_utf8(to).ok().and_then(|to| self.only(to));
                if let Some((_, before)) = mem::replace(&mut last, only.map(|here| (to, here))) {
                    before.outbox.wake();
                }
            }
            let alone = last.as_ref().filter(|_| delivery.resource.is_none());
            let fill = match alone {
                Some((_, here)) => here.deliver(&delivery.stanza).ok(),
                None => self.spread(delivery),
            };
            match fill {
                Some(Fill::Light) => {}
                Some(Fill::Heavy) => arrived.fill = Fill::Heavy,
                None => arrived.back.push(index),
            }
        }
        if let Some((_, here)) = last {
            here.outbox.wake();
        }
        arrived
    }

    fn spread(&self, delivery: &Delivery) -> Option<Fill> {
        let user = str::from_utf8(&delivery.to).ok()?;
        let mut shard = self.table.shard(user);
        let entry = shard.get_mut(user).filter(|entry| entry.is_open())?;
        let line: Bytes = [&*delivery.stanza, b"\n"].concat().into();
        let message = Spread { to: &delivery.to, device: delivery.resource.as_deref(), line: &line };
        if delivery.copy {
            // It comes back only where nobody is: then no more are sent.
            return Some(entry.deliver(message).unwrap_or(Fill::Light));
        }
        entry.spread(message)
    }

    /// R6, R21: a user's device is reachable here from now on. Returns the connection that it replaces, closed.
    pub(crate) fn connect(&self, connection: &Arc<Connection>) -> Option<Arc<Connection>> {
        let mut shard = self.table.shard(&connection.user);
        let entry = shard.entry(&connection.user);
        let replaced = entry.add(connection);
        if let Some(replaced) = &replaced {
            // Closed before anybody can find its successor: who has cached it asks again.
            replaced.displaced(replaced.login < connection.login);
        }
        match mem::take(&mut entry.path) {
            Path::None => {}
            Path::Link { link, to, last } => {
                if link.settles_later(last, &to) {
                    entry.path = Path::line(Line::new(Wait::Settled(link), &self.waiting));
                }
                shard.forgot_route();
            }
            Path::Line(line) if matches!(line.wait, Wait::Settled(_)) => entry.path = Path::Line(line),
            Path::Line(line) => line.deliver(entry),
        }
        replaced
    }

    /// R9, R12, R22: that connection is over. Returns the links to those who have to be told that the user has none here any
    /// more.
    pub(crate) fn disconnect(&self, connection: &Arc<Connection>) -> Vec<Arc<Link>> {
        let mut shard = self.table.shard(&connection.user);
        let Some(entry) = shard.get_mut(&connection.user) else { return Vec::new() };
        let told = entry.remove(connection);
        shard.tidy(&connection.user);
        told
    }

    /// The open connections of a user.
    pub(crate) fn here(&self, user: &str) -> Vec<Arc<Connection>> {
        self.table.shard(user).get_mut(user).map_or_else(Vec::new, |entry| entry.open().cloned().collect())
    }

    /// A connection of a user, until it has left the table; it may be closed.
    pub(crate) fn held(&self, user: &str, number: u64) -> Option<Arc<Connection>> {
        self.table.shard(user).get_mut(user)?.held(number).cloned()
    }

    /// That relay has, or has not any more, connections of a user.
    pub(crate) fn sibling(&self, user: &str, link: &Arc<Link>, here: bool) {
        let mut shard = self.table.shard(user);
        let Some(entry) = shard.get_mut(user) else { return };
        if here { entry.at(link) } else { entry.not_at(link) }
    }

    fn only(&self, user: &str) -> Option<Arc<Connection>> {
        self.table.shard(user).get_mut(user).and_then(|entry| entry.only().cloned())
    }

    /// The directory's answer to a question of [`Router::lookups`].
    pub(crate) fn found(&self, question: &Question, answer: &Answer) {
        self.lookups.answered(question);
        let to = &*question.user;
        let mut shard = self.table.shard(to);
        let Some(entry) = shard.get_mut(to) else { return };
        // The receiver may have connected here meanwhile, and even be looked up again.
        let current = |line: &Line| matches!(line.wait, Wait::Answer(number, _) if number == question.number);
        let Some(line) = entry.take_line(current) else { return };
        let look = if let Wait::Answer(_, look) = line.wait { look } else { LOOKS };
        match (entry.is_open(), answer) {
            (true, _) => line.deliver(entry),
            (false, Answer::Link(link)) => {
                entry.path = line.forward(link);
                if matches!(entry.path, Path::Link { .. }) {
                    shard.learned_route();
                }
            }
            (false, Answer::Here) if look < LOOKS => match self.ask(to, look + 1, &question.asker) {
                Some(again) => entry.path = Path::line(line.waiting_for(again)),
                None => line.refuse(),
            },
            (false, Answer::Here | Answer::Nobody | Answer::Failed) => line.refuse(),
        }
        shard.tidy(to);
    }

    /// R20, R23: deliveries came back over `link`. The route is forgotten; each may make one more trip.
    pub(crate) fn bounced(&self, link: &Arc<Link>, back: Vec<(Position, Parcel)>) {
        for (position, parcel) in back {
            let to = parcel.to.clone();
            let Ok(user) = str::from_utf8(&to) else { continue };
            let mut shard = self.table.shard(user);
            if parcel.from.is_none() {
                // A copy: that relay has no connection of the user any more.
                if let Some(entry) = shard.get_mut(user) {
                    entry.not_at(link);
                }
                continue;
            }
            let entry = shard.entry(user);
            if let Path::Link { link: on, last, .. } = &entry.path
                && Arc::ptr_eq(on, link)
            {
                let (last, waits) = (*last, Wait::Settled(Arc::clone(link)));
                entry.path = Path::line(Line::new(waits, &self.waiting));
                let settled = !link.settles_later(last, &to);
                entry.bounced(link, position, parcel);
                shard.forgot_route();
                if settled {
                    self.go_on(&mut shard, user);
                }
            } else {
                entry.bounced(link, position, parcel);
                shard.tidy(user);
            }
        }
    }

    /// The peer has handled batches: lines that waited for that go on.
    pub(crate) fn settled(&self, link: &Arc<Link>, settled: &Settled) {
        for (position, parcel) in &settled.delivered {
            self.overtaken(link, *position, parcel);
        }
        self.go_on_all(&settled.waiting);
    }

    /// R24, R25: a stream of `link` is over, and with it everything that was on its way. It may have been delivered.
    pub(crate) fn lost(&self, link: &Arc<Link>, rest: &Rest) {
        for (position, parcel) in &rest.parcels {
            if !rest.waiting.is_empty() {
                self.overtaken(link, *position, parcel);
            }
            parcel.not_delivered();
        }
        self.go_on_all(&rest.waiting);
    }

    fn overtaken(&self, link: &Arc<Link>, position: Position, by: &Parcel) {
        let (Ok(user), Some(from)) = (str::from_utf8(&by.to), &by.from) else { return };
        if let Some(entry) = self.table.shard(user).get_mut(user) {
            entry.overtaken(link, position, from);
        }
    }

    fn go_on_all(&self, waiting: &[Bytes]) {
        for to in waiting {
            if let Ok(user) = str::from_utf8(to) {
                self.go_on(&mut self.table.shard(user), user);
            }
        }
    }

    /// The last way is settled: the line goes to the connection here, or waits for the directory.
    fn go_on(&self, shard: &mut Shard<'_>, user: &str) {
        let Some(entry) = shard.get_mut(user) else { return };
        let Some(line) = entry.take_line(|line| matches!(line.wait, Wait::Settled(_))) else { return };
        if entry.is_open() {
            line.deliver(entry);
        } else if let Some(sender) = line.first_sender() {
            match self.ask(user, 1, sender) {
                Some(asked) => entry.path = Path::line(line.waiting_for(asked)),
                None => line.refuse(),
            }
        }
        shard.tidy(user);
    }

    /// A new line; none when too much waits already, or too many look-ups are open.
    fn line(&self, user: &str, from: &Arc<Connection>) -> Option<Line> {
        if self.waiting.is_full() || self.lookups.is_enough_for(from) {
            return None;
        }
        self.ask(user, 1, from).map(|wait| Line::new(wait, &self.waiting))
    }

    fn ask(&self, user: &str, look: u8, asker: &Arc<Connection>) -> Option<Wait> {
        self.lookups.ask(user, asker).map(|number| Wait::Answer(number, look))
    }
}

#[cfg(test)]
mod devices;
#[cfg(test)]
mod model;
