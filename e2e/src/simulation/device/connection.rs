//! A device's connections, and what comes on them.

use kurir_delivery::inbox::Inbox;
use kurir_delivery::queue::Queue;

use super::{GONE, LEAVES, LOOK, News, SILENT, message_of, place};
use crate::checker::history;
use crate::simulation::net::{Part, Stream};
use crate::simulation::relay::LOG;
use crate::simulation::schedule::MS;
use crate::simulation::store::Entry;
use crate::simulation::wire::{Ack, ConnId, FromDevice, ToDevice};
use crate::simulation::world::{Conn, Event, World};

impl World {
    /// It looks for a relay, and may find none.
    pub fn connects(&mut self, device: usize, life: u32) {
        let me = &self.devices[device];
        if me.life != life || !me.is_up || me.conn.is_some() || me.joining.is_some() {
            return;
        }
        let (relay, now) = (self.dice.below(self.relays.len()), self.now());
        let reaches = self.net.is_open(Part::Device(device), Part::Relay(relay), now);
        let manager = self.managers.iter().any(|manager| !manager.is_down);
        if self.relays[relay].is_down || !reaches || !manager || now < self.store_away {
            return self.connects_later(device);
        }
        self.logs_in(device);
        self.joins(device, relay);
    }

    /// It says hello to a relay, and uses an older connection until it is welcomed.
    pub fn joins(&mut self, device: usize, relay: usize) {
        let conn = self.conns.len();
        let relay_life = self.relays[relay].life;
        let (up, down) = (Stream::default(), Stream::default());
        self.conns.push(Conn { device, relay, relay_life, up, down, unread: 0 });
        let now = self.now();
        let me = &mut self.devices[device];
        (me.joining, me.heard) = (Some(conn), now);
        let resume = me.manner.resumes.then(|| me.inbox.resume().seq);
        self.tell(|| format!("device {device} says hello to relay {relay} on connection {conn}: {resume:?}"));
        self.sends(conn, FromDevice::Hello { resume });
        self.later(LOOK, Event::Looks { device, conn });
        if resume.is_none() {
            self.welcomed(device, conn);
        }
        self.goes(device);
    }

    pub(super) fn welcomed(&mut self, device: usize, conn: ConnId) {
        let me = &mut self.devices[device];
        (me.conn, me.joining, me.goes_on) = (Some(conn), None, false);
        me.queue.connected();
        self.oath.forgets_connection(device);
        self.records_online(device, self.conns[conn].relay);
    }

    pub(super) fn connects_later(&mut self, device: usize) {
        let (life, after) = (self.devices[device].life, MS + self.random(400 * MS));
        self.later(after, Event::Connects { device, life });
    }

    /// Its relay has closed.
    pub fn loses(&mut self, conn: ConnId) {
        let device = self.conns[conn].device;
        let me = &mut self.devices[device];
        if me.joining == Some(conn) {
            me.joining = None;
        } else if me.conn == Some(conn) {
            self.disconnects(device);
        } else {
            return;
        }
        self.tell(|| format!("device {device} loses connection {conn}"));
        self.connects_later(device);
    }

    /// It closes the connection.
    pub fn leaves(&mut self, device: usize) {
        if let Some(conn) = self.devices[device].conn {
            self.closes_own(conn);
        }
    }

    pub(super) fn closes_own(&mut self, conn: ConnId) {
        self.sends_up(conn, Event::Left(conn));
        self.loses(conn);
    }

    pub(super) fn disconnects(&mut self, device: usize) {
        let me = &mut self.devices[device];
        (me.conn, me.goes_on) = (None, false);
        me.queue.disconnected();
        self.records_offline(device);
    }

    /// Is the relay alive?
    pub fn looks(&mut self, device: usize, conn: ConnId) {
        let now = self.now();
        let me = &self.devices[device];
        if me.conn != Some(conn) && me.joining != Some(conn) {
            return;
        }
        let silent = now - me.heard;
        let restless = now < self.calm && self.dice.once_in(LEAVES);
        if silent > GONE || restless {
            return self.closes_own(conn);
        }
        if silent > SILENT {
            self.sends(conn, FromDevice::Ping);
        }
        self.later(LOOK, Event::Looks { device, conn });
    }

    /// The process is gone; of a write under way all is on the disk, or nothing.
    pub fn crashes(&mut self, device: usize) {
        if !self.devices[device].is_up {
            return;
        }
        self.tell(|| format!("device {device} crashes"));
        if let Some(conn) = self.devices[device].joining.take() {
            self.sends_up(conn, Event::Left(conn));
        }
        if let Some(conn) = self.devices[device].conn {
            self.sends_up(conn, Event::Left(conn));
            self.disconnects(device);
        }
        let written = self.dice.once_in(2);
        let me = &mut self.devices[device];
        if let Some((disk, _)) = me.writing.take().filter(|_| written) {
            me.disk = disk;
        }
        (me.life, me.is_up) = (me.life + 1, false);
    }

    /// It starts from what was kept.
    pub fn starts(&mut self, device: usize) {
        let me = &mut self.devices[device];
        let from = if me.manner.keeps_place { me.app.seen } else { me.disk.place };
        me.app.again = me.app.seen;
        me.queue = Queue::load(me.disk.queued.iter().cloned());
        me.inbox = Inbox::new(place(from));
        me.place = me.disk.place;
        me.outlet.clear();
        me.unsaved.clear();
        (me.is_up, me.dirty, me.taken, me.put) = (true, false, 0, 0);
        self.tell(|| format!("device {device} starts from {from}"));
        self.connects_later(device);
        self.goes(device);
    }

    // What comes from relays.

    /// A line arrives, and is read.
    pub fn comes_down(&mut self, conn: ConnId, what: ToDevice) {
        let device = self.conns[conn].device;
        self.tell(|| format!("device {device} reads on connection {conn}: {what:?}"));
        self.sends_up(conn, Event::Room(conn));
        let me = &mut self.devices[device];
        let welcome = me.joining == Some(conn) && matches!(what, ToDevice::Ready { .. });
        // What comes on any other is answered, or in the log.
        if me.conn != Some(conn) && !welcome {
            return;
        }
        self.devices[device].heard = self.now();
        match what {
            ToDevice::Ready { seq, reset } => {
                let me = &mut self.devices[device];
                me.inbox.ready(seq, LOG.into(), reset);
                if reset {
                    self.wrong(&format!("device {device} is sent everything again"));
                }
                self.acks(device, conn);
                self.welcomed(device, conn);
            }
            ToDevice::Acks(acks) => {
                for ack in Ack::read(&acks) {
                    self.hears_stored(device, ack);
                }
            }
            ToDevice::Wait(number) => {
                self.oath.is_answered(
                    device,
                    number,
                    self.devices[device].queue.iter().any(|of| of.id == number),
                );
                self.devices[device].queue.wait(number);
                self.records_refusal(device, number);
            }
            ToDevice::NoAccount(number) => {
                self.oath.is_answered(device, number, false);
                let me = &mut self.devices[device];
                me.dirty |= me.queue.settle(number);
            }
            ToDevice::Entry { seq, entry } => self.gets(device, seq, &entry),
            ToDevice::Pong => {}
        }
        self.goes(device);
    }

    pub(super) fn hears_stored(&mut self, device: usize, ack: Ack) {
        let Ack { number, stanza_id, seq } = ack;
        self.oath.is_answered(device, number, false);
        let me = &mut self.devices[device];
        let settled = me.queue.settle(number);
        me.dirty |= settled;
        let message = history::Message { from: device, number };
        if !me.manner.resumes {
            if settled {
                self.records_plain_ack(device, message, stanza_id);
            }
            return;
        }
        if settled {
            self.tells(device, News { seq, stanza_id, message, stored: true });
        }
        self.came(device, seq);
    }

    pub(super) fn gets(&mut self, device: usize, seq: u64, entry: &Entry) {
        let message = message_of(entry);
        let me = &mut self.devices[device];
        if !me.manner.resumes || !me.inbox.is_new(seq) {
            return;
        }
        let stanza_id = entry.stanza_id;
        if message.from == device && me.queue.iter().any(|queued| queued.id == message.number) {
            // Its acknowledgement was lost with an earlier connection.
            return self.hears_stored(device, Ack { number: message.number, stanza_id, seq });
        }
        self.tells(device, News { seq, stanza_id, message, stored: false });
        self.came(device, seq);
    }

    pub(super) fn came(&mut self, device: usize, seq: u64) {
        let me = &mut self.devices[device];
        if me.inbox.is_new(seq) {
            me.inbox.came(seq, me.put);
        }
    }
}
