//! Tracked messages on their way out: which one to send now, and what an answer means. No IO, no clock.
//!
//! They are sent in order, a window of them at a time, and again with the same id on every new connection until each is
//! answered. After "wait" the relay stores nothing more on this connection before the refused id comes again: then all
//! answers that are still due are waited for, and it goes on from the first that is not stored.

use std::collections::VecDeque;

/// Messages on a connection without an answer, and their bytes.
const WINDOW: usize = 64;
const WINDOW_BYTES: usize = 256 * 1024;

/// Messages kept, and their bytes.
const MAX_MESSAGES: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long servers surely know an id again, and how many later ones of the account they know.
const KNOWN_AGAIN_MS: i64 = 24 * 60 * 60 * 1000;
const KNOWN_AGAIN: usize = 10_000;

// What may have been stored without our knowing is in the window: no more ids than these can have come after it.
const _: () = assert!(WINDOW < KNOWN_AGAIN);

/// A message that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued<Id> {
    /// The same however often it is sent.
    pub id: Id,
    /// Wall clock.
    pub since_ms: i64,
    /// One line without LF.
    pub stanza: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Not on disk yet: whoever sends it has no promise, and so nobody else hears of it.
    Unsaved,
    /// To be sent on this connection, or the next.
    Ready,
    /// Sent on this connection, unanswered.
    Sent,
    /// The answer was "wait".
    Wait,
    /// Too old to be sent again before the archive has said whether it is stored.
    Asked,
    /// That could not be said: the application decides.
    Expired,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a, Id> {
    /// This one.
    Send {
        /// The message.
        queued: &'a Queued<Id>,
        /// It was sent before.
        again: bool,
    },
    /// The archive is to be asked for this one, which is too old to be sent again just so: [`Queue::settle`],
    /// [`Queue::renew`] or [`Queue::expire`] follows. Nothing later is sent before that.
    Ask(&'a Queued<Id>),
    /// The relay waits for a message that will not come: only another connection helps.
    Reconnect,
    /// Until something happens.
    Nothing,
}

/// There is no room for another message.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Slot<Id> {
    queued: Queued<Id>,
    step: Step,
    sent_before: bool,
}

impl<Id> Slot<Id> {
    fn new(queued: Queued<Id>, step: Step) -> Self {
        Self { queued, step, sent_before: false }
    }
}

/// The messages that are not settled, in the order in which they were given.
#[derive(Debug)]
pub struct Queue<Id> {
    entries: VecDeque<Slot<Id>>,
    bytes: usize,
    connected: bool,
    /// The relay does not go on before this one.
    held: Option<Id>,
    stuck: bool,
}

impl<Id: Copy + Eq> Queue<Id> {
    /// Messages that an earlier process has left, in order.
    pub fn load(queued: impl IntoIterator<Item = Queued<Id>>) -> Self {
        let entries: VecDeque<_> = queued.into_iter().map(|queued| Slot::new(queued, Step::Ready)).collect();
        let bytes = entries.iter().map(|slot| slot.queued.stanza.len()).sum();
        Self { entries, bytes, connected: false, held: None, stuck: false }
    }

    /// Puts a message at the end. It is sent once it is [`Queue::saved`].
    pub fn push(&mut self, queued: Queued<Id>) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        self.bytes += queued.stanza.len();
        self.entries.push_back(Slot::new(queued, Step::Unsaved));
        Ok(())
    }

    /// Whether another message finds a place.
    pub fn has_room(&self) -> bool {
        self.entries.len() < MAX_MESSAGES && self.bytes < MAX_BYTES
    }

    /// Everything that is not settled.
    pub fn iter(&self) -> impl Iterator<Item = &Queued<Id>> {
        self.entries.iter().map(|slot| &slot.queued)
    }

    /// Nothing waits for a connection or an answer.
    pub fn is_idle(&self) -> bool {
        self.entries.iter().all(|slot| slot.step == Step::Expired)
    }

    /// It is on disk.
    pub fn saved(&mut self, id: Id) {
        self.step(id, Step::Unsaved, Step::Ready);
    }

    /// A new connection: everything unanswered is sent again.
    pub fn connected(&mut self) {
        (self.connected, self.held, self.stuck) = (true, None, false);
        self.unsend();
    }

    /// Nothing is sent before the next connection.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.unsend();
    }

    /// The message to send now, which then counts as sent; or to ask for.
    pub fn next(&mut self, now_ms: i64) -> Next<'_, Id> {
        if !self.connected {
            return Next::Nothing;
        }
        let (mut count, mut bytes) = (0, 0);
        // What is unanswered comes before what is to be sent.
        for Slot { queued, step, sent_before } in &mut self.entries {
            match step {
                Step::Expired => {}
                Step::Sent => (count, bytes) = (count + 1, bytes + queued.stanza.len()),
                // What is not on disk yet, or asked for, is not overtaken.
                Step::Wait | Step::Unsaved | Step::Asked => break,
                Step::Ready if !is_known_again(queued.since_ms, now_ms) => {
                    *step = Step::Asked;
                    return Next::Ask(queued);
                }
                Step::Ready if self.stuck || count >= WINDOW || bytes >= WINDOW_BYTES => break,
                Step::Ready => {
                    *step = Step::Sent;
                    self.held = self.held.filter(|held| *held != queued.id);
                    return Next::Send { queued, again: std::mem::replace(sent_before, true) };
                }
            }
        }
        if self.stuck { Next::Reconnect } else { Next::Nothing }
    }

    /// The message is settled: stored, refused for good, or given up. False: it is none of these here.
    pub fn settle(&mut self, id: Id) -> bool {
        let Some(index) = self.position(id) else { return false };
        let Some(Slot { queued, step, .. }) = self.entries.remove(index) else { return false };
        self.bytes -= queued.stanza.len();
        self.stuck |= step == Step::Wait || self.held == Some(id);
        true
    }

    /// The archive does not have it, and would: it is as new.
    pub fn renew(&mut self, id: Id, now_ms: i64) -> Option<&Queued<Id>> {
        let slot = self.slot(id, Step::Asked)?;
        slot.queued.since_ms = now_ms;
        slot.step = Step::Ready;
        Some(&slot.queued)
    }

    /// The archive cannot say whether it is stored: it is left to the application, and later ones go on.
    pub fn expire(&mut self, id: Id) -> Option<&Queued<Id>> {
        self.slot(id, Step::Asked)?.step = Step::Expired;
        self.stuck |= self.held == Some(id);
        self.iter().find(|queued| queued.id == id)
    }

    /// "Not now": to be sent again, before any later one.
    pub fn wait(&mut self, id: Id) {
        // One that the log has shown to be stored meanwhile will not come again, and the relay waits for it.
        self.stuck |= self.position(id).is_none();
        self.step(id, Step::Sent, Step::Wait);
    }

    /// Something was refused, and every answer has come: time to go on, after a while.
    pub fn can_go_on(&self) -> bool {
        // What is unanswered comes before what is to be sent.
        let handled = self.entries.iter().map(|slot| slot.step);
        let mut handled = handled.take_while(|step| !matches!(step, Step::Ready | Step::Unsaved));
        let mut waits = false;
        handled.all(|step| {
            waits |= step == Step::Wait;
            step != Step::Sent
        }) && waits
    }

    /// Goes on from the first message that was refused.
    pub fn go_on(&mut self) {
        let refused = self.entries.iter().find(|slot| slot.step == Step::Wait);
        self.held = refused.map(|slot| slot.queued.id);
        self.unsend();
    }

    /// Takes a message that has expired away.
    pub fn take_expired(&mut self, id: Id) -> Option<Queued<Id>> {
        let index = self.position(id)?;
        if self.entries.get(index)?.step != Step::Expired {
            return None;
        }
        let Slot { queued, .. } = self.entries.remove(index)?;
        self.bytes -= queued.stanza.len();
        Some(queued)
    }

    /// What [`Queue::take_expired`] has taken stays after all. It is older than everything that is to be sent.
    pub fn restore_expired(&mut self, queued: Queued<Id>) {
        self.bytes += queued.stanza.len();
        self.entries.push_front(Slot::new(queued, Step::Expired));
    }

    fn unsend(&mut self) {
        for slot in &mut self.entries {
            if matches!(slot.step, Step::Sent | Step::Wait) {
                slot.step = Step::Ready;
            }
        }
    }

    fn step(&mut self, id: Id, from: Step, to: Step) {
        if let Some(slot) = self.slot(id, from) {
            slot.step = to;
        }
    }

    fn slot(&mut self, id: Id, step: Step) -> Option<&mut Slot<Id>> {
        self.entries.iter_mut().find(|slot| slot.queued.id == id && slot.step == step)
    }

    fn position(&self, id: Id) -> Option<usize> {
        self.entries.iter().position(|slot| slot.queued.id == id)
    }
}

/// Whether servers surely know an id of then again. Not if that is in the future: the clock was set back since.
pub fn is_known_again(since_ms: i64, now_ms: i64) -> bool {
    (0..=KNOWN_AGAIN_MS).contains(&now_ms.saturating_sub(since_ms))
}

#[cfg(test)]
mod tests;
