//! A relay's readers: what is stored, sent to devices, and their cursors.

use std::collections::BTreeSet;

use kurir_delivery::page::{Place, Step, Writing};
use kurir_delivery::reading::From;

use super::{ASK_EVERY, Page, Purpose, RETRY, Reader, SOCKET, STORE_EVERY};
use crate::simulation::device::message_of;
use crate::simulation::net::Part;
use crate::simulation::outbox::Fill;
use crate::simulation::relay::LOG;
use crate::simulation::schedule::Time;
use crate::simulation::store::{Account, Entry};
use crate::simulation::wire::{Ack, After, ConnId, Request, ToDevice};
use crate::simulation::world::{Event, World};

impl World {
    /// Logs have grown.
    pub fn hears(&mut self, relay: usize, heads: &[(Account, u64)]) {
        for (account, seq) in heads {
            let conns: Vec<ConnId> = self.relays[relay].conns.keys().copied().collect();
            for conn in conns {
                if self.devices[self.conns[conn].device].account == *account
                    && let Some(client) = self.client(conn).filter(|client| !client.outbox.is_closed())
                    && client.reading.hear(*seq)
                {
                    self.begins_reading(conn);
                }
            }
        }
    }

    pub(super) fn begins_reading(&mut self, conn: ConnId) {
        if let Some(client) = self.client(conn) {
            (client.reader, client.pause) = (Reader::Reads, RETRY.0);
            self.reads_page(conn);
        }
    }

    pub(super) fn reads_page(&mut self, conn: ConnId) {
        let (relay, device) = (self.conns[conn].relay, &self.devices[self.conns[conn].device]);
        let (account, named, resource) = (device.account, device.is_named(), device.resource.clone());
        let Some(client) = self.client(conn) else { return };
        client.reader = Reader::Reads;
        if client.outbox.is_closed() {
            client.reader = Reader::None;
            return;
        }
        let after = match client.reading.from() {
            From::After(seq) => After::Seq(seq),
            From::Cursor => After::CursorOf { device: resource, named },
        };
        let first = self.relays[relay].reads_at;
        self.begins_call(relay, first, Purpose::Read(conn), Request::Read { account, after });
    }

    pub(super) fn pauses(&mut self, conn: ConnId) {
        let (relay, life) = (self.conns[conn].relay, self.conns[conn].relay_life);
        let Some(client) = self.client(conn) else { return };
        let pause = client.pause;
        client.pause = (2 * pause).min(RETRY.1);
        self.later(pause, Event::Retries { relay, life, conn });
    }

    /// The pause is over.
    pub fn retries(&mut self, relay: usize, life: u32, conn: ConnId) {
        if self.relays[relay].life == life {
            self.reads_page(conn);
        }
    }

    pub(super) fn writes_page(&mut self, conn: ConnId, after: u64, last: u64, entries: Vec<(u64, Entry)>) {
        let device = self.conns[conn].device;
        let place =
            |(seq, entry): &(u64, Entry)| Place { seq: *seq, hidden: self.devices[device].hides(entry) };
        let places = entries.iter().map(place).collect();
        let Some(client) = self.client(conn) else { return };
        if client.reading.seq().is_none() {
            self.begins(conn, after);
        }
        let writing = Writing::new(LOG, after, (1, last), places);
        self.writes_on(conn, Page { writing, last, entries });
    }

    pub(super) fn writes_on(&mut self, conn: ConnId, mut page: Page) {
        loop {
            let Some(client) = self.client(conn) else { return };
            let step = page.writing.next(&mut client.reading);
            let pushed = match step {
                Step::Ready { reset } => {
                    let _ = client.outbox.push(ToDevice::Ready { seq: page.last, reset });
                    self.pumps(conn);
                    if reset {
                        return self.goes_on_reading(conn, true);
                    }
                    continue;
                }
                Step::Acks(acks) => {
                    let _ = client.outbox.push(ToDevice::Acks(acks));
                    self.pumps(conn);
                    continue;
                }
                Step::Acknowledge(ack) => client.outbox.push(ToDevice::Acks(ack)),
                Step::Gap { .. } => {
                    let wrong = format!("connection {conn} is told that entries are gone");
                    return self.wrong(&wrong);
                }
                Step::Skip(_) => Ok(Fill::Light),
                Step::Tell(index) => {
                    let (seq, entry) = &page.entries[index];
                    let (number, stanza_id) = (message_of(entry).number, entry.stanza_id);
                    client.outbox.push(ToDevice::Acks(Ack { number, stanza_id, seq: *seq }.write()))
                }
                Step::Show(index) => {
                    let (seq, entry) = page.entries[index].clone();
                    client.outbox.push(ToDevice::Entry { seq, entry })
                }
                Step::Done { more } => return self.has_written(conn, more, !page.entries.is_empty()),
            };
            let Ok(fill) = pushed else {
                client.reader = Reader::None;
                return self.has_read(conn);
            };
            page.writing.pushed(&mut client.reading);
            self.has_read(conn);
            if fill == Fill::Heavy {
                return self.waits(conn, Reader::Writes(Box::new(page)));
            }
        }
    }

    pub(super) fn has_written(&mut self, conn: ConnId, more: bool, found: bool) {
        self.has_read(conn);
        self.moved(conn);
        if more {
            return self.waits(conn, Reader::GoesOn { found });
        }
        if let Some(client) = self.client(conn) {
            client.reader = Reader::None;
        }
        self.pumps(conn);
    }

    pub(super) fn goes_on_reading(&mut self, conn: ConnId, found: bool) {
        let Some(client) = self.client(conn) else { return };
        if found {
            client.pause = RETRY.0;
            self.reads_page(conn);
        } else {
            self.pauses(conn);
        }
    }

    /// Until the socket has taken what is in the outbox.
    pub(super) fn waits(&mut self, conn: ConnId, reader: Reader) {
        if let Some(client) = self.client(conn) {
            client.reader = reader;
            client.outbox.wait_until_taken();
            self.pumps(conn);
        }
    }

    // Writing.

    /// The device has read a line.
    pub fn has_room(&mut self, conn: ConnId) {
        self.conns[conn].unread -= 1;
        self.pumps(conn);
    }

    /// The connection's task writes what its socket takes.
    pub(super) fn pumps(&mut self, conn: ConnId) {
        while self.conns[conn].unread < SOCKET {
            let Some(line) = self.client(conn).and_then(|client| client.outbox.pop()) else { break };
            self.conns[conn].unread += 1;
            self.is_taken(conn, &line);
            self.sends_down(conn, Event::Down { conn, what: line });
        }
        let Some(client) = self.client(conn) else { return };
        if client.outbox.is_taken() {
            match std::mem::replace(&mut client.reader, Reader::None) {
                Reader::Writes(page) => self.writes_on(conn, *page),
                Reader::GoesOn { found } => self.goes_on_reading(conn, found),
                other => client.reader = other,
            }
        }
    }

    pub(super) fn sends_down(&mut self, conn: ConnId, event: Event) {
        let (relay, device, now) = (self.conns[conn].relay, self.conns[conn].device, self.now());
        let way = (Part::Relay(relay), Part::Device(device));
        let down = &mut self.conns[conn].down;
        if let Some(at) = self.net.on(down, way, now.max(self.devices[device].slow), &mut self.dice) {
            self.schedule.at(at, event);
        }
    }

    // Cursors.

    pub(super) fn moved(&mut self, conn: ConnId) {
        let relay = self.conns[conn].relay;
        self.relays[relay].moved.insert(conn);
        self.stores_after(relay, STORE_EVERY);
    }

    pub(super) fn stores_after(&mut self, relay: usize, after: Time) {
        let at = &mut self.relays[relay];
        if !std::mem::replace(&mut at.stores_soon, true) {
            let life = at.life;
            self.later(after, Event::Stores { relay, life });
        }
    }

    /// It is time to.
    pub fn stores(&mut self, relay: usize, life: u32) {
        if self.relays[relay].life != life {
            return;
        }
        self.relays[relay].stores_soon = false;
        let moved: Vec<ConnId> = std::mem::take(&mut self.relays[relay].moved).into_iter().collect();
        self.stores_some(relay, &moved);
    }

    pub(super) fn stores_some(&mut self, relay: usize, moved: &[ConnId]) {
        let (mut cursors, mut stored) = (Vec::new(), Vec::new());
        for conn in moved {
            let device = &self.devices[self.conns[*conn].device];
            let (account, resource) = (device.account, device.resource.clone());
            let Some(client) = self.client(*conn) else { continue };
            let (read, written) = (client.reading.seq(), client.outbox.is_written());
            if let Some(seq) = read.filter(|_| written) {
                client.reading.written(seq);
            }
            let (cursor, closed) = (client.reading.cursor(), client.outbox.is_closed());
            if let Some(seq) = cursor {
                cursors.push((*conn, seq));
                stored.push((account, resource, seq));
            }
            if !written && !closed {
                self.moved(*conn);
            }
        }
        if !cursors.is_empty() {
            let first = self.relays[relay].reads_at;
            self.begins_call(relay, first, Purpose::Cursors(cursors), Request::MoveCursors(stored));
        }
    }

    // Asking.

    /// Where do all logs end that are read here?
    pub fn asks(&mut self, relay: usize, life: u32) {
        if self.relays[relay].life != life {
            return;
        }
        self.later(ASK_EVERY, Event::Asks { relay, life });
        let conns = self.relays[relay].conns.iter().filter(|(_, client)| !client.outbox.is_closed());
        let accounts: BTreeSet<Account> =
            conns.map(|(conn, _)| self.devices[self.conns[*conn].device].account).collect();
        if !accounts.is_empty() {
            let first = self.relays[relay].reads_at;
            self.begins_call(relay, first, Purpose::Ask, Request::Heads(accounts.into_iter().collect()));
        }
    }

    /// How far a connection's log has been read.
    pub fn read_up_to(&mut self, conn: ConnId) -> u64 {
        self.client(conn).and_then(|client| client.reading.seq()).unwrap_or_default()
    }
}
