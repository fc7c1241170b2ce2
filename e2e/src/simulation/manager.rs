//! A manager: `manager::log` and what its calls do, over the simulated database.

use std::collections::VecDeque;

use kurir_delivery::storing::Message;

use super::net::Part;
use super::schedule::{MS, S, Time};
use super::store::Account;
use super::wire::{After, CallId, Request, Response};
use super::world::{Event, World};

/// Batches waiting for the transaction that is under way.
const WAITING: usize = 4;

/// Messages of one transaction, or one batch.
const MOST_MESSAGES: usize = 12;

/// A batch that has waited so long belongs to a relay that has given up.
const STALE: Time = 2 * S;

/// Entries of one page: few, so that there are many pages.
pub const PAGE: usize = 5;

/// A manager.
#[derive(Debug, Default)]
pub struct Manager {
    /// Counts starts.
    pub life: u32,
    /// It is not there.
    pub is_down: bool,
    /// Until then its transactions take long.
    pub slow: Time,
    waiting: VecDeque<Batch>,
    /// The transaction under way.
    committing: Option<Vec<Batch>>,
}

#[derive(Debug)]
struct Batch {
    call: CallId,
    came: Time,
    messages: Vec<Message>,
}

impl World {
    /// The process is gone. Its transaction may be committed all the same.
    pub fn manager_dies(&mut self, manager: usize) {
        let dead = &mut self.managers[manager];
        (dead.life, dead.is_down) = (dead.life + 1, true);
        dead.waiting.clear();
        let under_way = dead.committing.take();
        self.abandons(under_way);
    }

    fn reaches_database(&self, manager: usize) -> bool {
        let now = self.now();
        now >= self.store_away && self.net.is_open(Part::Manager(manager), Part::Database, now)
    }

    /// A call has arrived.
    pub fn asked(&mut self, call: CallId, manager: usize, request: Request) {
        if self.managers[manager].is_down {
            return;
        }
        let reaches = self.reaches_database(manager);
        let response = match request {
            Request::Append(messages) => return self.hands_in(call, manager, messages),
            _ if !reaches => Response::Failed,
            Request::Read { account, after } => {
                let after = match after {
                    After::Seq(seq) => seq,
                    After::CursorOf { device, named } => self.store.cursor(account, &device, named),
                };
                // The head first, and what is after it in another statement: more may have come between the two.
                let (last, between) = (self.store.head(account), self.random(2 * MS));
                return self.later(between, Event::Reads { call, manager, account, after, last });
            }
            Request::Heads(accounts) => {
                let heads = accounts.into_iter().map(|account| (account, self.store.head(account)));
                Response::Heads(heads.collect())
            }
            Request::MoveCursors(cursors) => {
                for (account, device, seq) in cursors {
                    self.moves(account, &device, seq);
                }
                Response::Moved
            }
        };
        self.answer(call, manager, response);
    }

    /// The second half of reading a page.
    pub fn reads(&mut self, call: CallId, manager: usize, (account, after, last): (Account, u64, u64)) {
        if self.managers[manager].is_down {
            return;
        }
        let entries = self.store.page(account, after, PAGE);
        let last = entries.last().map_or(last, |(seq, _)| last.max(*seq));
        self.answer(call, manager, Response::Page { after, last, entries });
    }

    fn hands_in(&mut self, call: CallId, manager: usize, messages: Vec<Message>) {
        let came = self.now();
        let at = &mut self.managers[manager];
        if at.waiting.len() >= WAITING {
            return self.answer(call, manager, Response::Failed);
        }
        at.waiting.push_back(Batch { call, came, messages });
        self.begins_transaction(manager);
    }

    fn begins_transaction(&mut self, manager: usize) {
        let now = self.now();
        let at = &mut self.managers[manager];
        if at.committing.is_some() {
            return;
        }
        let (mut batches, mut count) = (Vec::new(), 0);
        while count < MOST_MESSAGES
            && let Some(next) = at.waiting.pop_front()
        {
            count += next.messages.len();
            batches.push(next);
        }
        // A call that was given up is cancelled, where that is heard.
        let (calls, deaf) = (&self.calls, self.dice.once_in(3));
        batches.retain(|batch| now < batch.came + STALE && (deaf || calls.contains_key(&batch.call)));
        if batches.is_empty() {
            return;
        }
        let life = at.life;
        let slow = now < at.slow;
        at.committing = Some(batches);
        let takes = if slow { self.random(3 * S) } else { MS + self.random(8 * MS) };
        self.later(takes, Event::Commits { manager, life });
    }

    /// The transaction is over, one way or the other.
    pub fn commits(&mut self, manager: usize, life: u32) {
        if self.managers[manager].life != life {
            return;
        }
        let Some(batches) = self.managers[manager].committing.take() else { return };
        if self.reaches_database(manager) {
            let messages: Vec<Message> =
                batches.iter().flat_map(|batch| batch.messages.iter().cloned()).collect();
            let (appended, grown) = self.store.append(&messages);
            self.tell(|| format!("manager {manager} commits {messages:?}: {appended:?}"));
            let mut appended = appended.into_iter();
            for batch in batches {
                let outcomes = appended.by_ref().take(batch.messages.len()).collect();
                self.answer(batch.call, manager, Response::Appended(outcomes));
            }
            self.announces(manager, &grown.into_iter().collect::<Vec<_>>());
        } else {
            self.tell(|| format!("manager {manager} cannot commit"));
            for batch in &batches {
                self.answer(batch.call, manager, Response::Failed);
            }
            self.abandons(Some(batches));
        }
        self.begins_transaction(manager);
    }

    /// Whoever began a transaction does not know its end.
    fn abandons(&mut self, batches: Option<Vec<Batch>>) {
        let messages = batches.into_iter().flatten().flat_map(|batch| batch.messages).collect();
        let late = self.random(4 * S);
        match self.dice.below(3) {
            0 => self.commits_late(&messages),
            1 => self.later(late, Event::CommitsLate(messages)),
            _ => {}
        }
    }

    /// Nobody is told of it.
    pub fn commits_late(&mut self, messages: &Vec<Message>) {
        if !messages.is_empty() {
            let (appended, _) = self.store.append(messages);
            self.tell(|| format!("committed, and nobody knows: {messages:?}: {appended:?}"));
        }
    }

    fn announces(&mut self, manager: usize, grown: &[(usize, u64)]) {
        let now = self.now();
        for relay in 0..self.relays.len() {
            let way = (Part::Manager(manager), Part::Relay(relay));
            if now < self.relays[relay].hears_nothing {
                continue;
            }
            if let Some(at) = self.net.arrival(way, now, &mut self.dice) {
                self.schedule.at(at, Event::Heads { relay, heads: grown.to_vec() });
            }
        }
    }
}
