//! A component's lease and fence, and what it may say of others: all as a function of `now` and of the answers it got.

use std::time::Duration;

use uuid::Uuid;

use crate::backend::{Acquired, Beat, Bid, Epoch, MARKS, Renewal, Standing};
use crate::clock::Moment;
use crate::{Component, DirectoryError, Event, Fenced, Generation, NewComponent, Timing};

/// What this process knows of its own lease.
#[derive(Debug)]
pub(crate) struct Lease {
    component: NewComponent,
    process: Uuid,
    timing: Timing,
    phase: Phase,
    /// The latest generation that held the lease.
    generation: Generation,
    /// The next one, while there is no lease.
    candidate: Option<Generation>,
    /// When this process last was seen to run.
    ticked: Moment,
    /// Until when nobody else can find the lease run out.
    until: Moment,
    touch: Touch,
    /// The number of the last beat that was sent, and of the last that was answered.
    sent: u64,
    answered: u64,
    epoch: Option<Epoch>,
    recovering: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Joining,
    Held,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    /// Nobody may be declared dead before `trusted`: the others need time to be back, too.
    In {
        trusted: Moment,
    },
    Away,
}

/// Which request is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Acquire(Bid),
    Renew(Bid),
}

/// A new epoch must be begun if this one (or none) still is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss(pub(crate) Option<Epoch>);

/// What kind of claim asks to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    New,
    /// Of an entry that this component had before: welcome while the tables are written again.
    Again,
}

impl Lease {
    pub(crate) fn new(
        component: NewComponent,
        timing: Timing,
        process: Uuid,
        generation: Generation,
        now: Moment,
    ) -> Self {
        Self {
            component,
            process,
            timing,
            phase: Phase::Joining,
            generation,
            candidate: Some(generation),
            ticked: now,
            until: now,
            touch: Touch::In { trusted: now + timing.lease },
            sent: 0,
            answered: 0,
            epoch: None,
            recovering: false,
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn component(&self) -> Component {
        self.component.of(self.generation)
    }

    /// Whether the component may act at `now`.
    pub(crate) fn check(&self, now: Moment) -> Result<Generation, Fenced> {
        if self.phase == Phase::Held && now < self.deadline() { Ok(self.generation) } else { Err(Fenced) }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.phase == Phase::Held && matches!(self.touch, Touch::In { .. })
    }

    /// Notices a pause. Everything that changes the lease begins with this, so that no change hides one.
    pub(crate) fn tick(&mut self, now: Moment) {
        if self.phase == Phase::Held && now >= self.deadline() {
            self.fence();
        }
        self.ticked = now;
    }

    /// The component may act until then without any further sign of life of its own.
    ///
    /// In touch, renewals keep `until` well ahead: only a pause lets it pass. Out of touch the lease may run out
    /// though the component was never paused: it goes on with what it has, until it is paused for a lease's time.
    fn deadline(&self) -> Moment {
        match self.touch {
            Touch::In { .. } => self.until,
            Touch::Away => self.ticked + self.term(),
        }
    }

    /// A lease's time less one tick, which is what acting takes at most after a check.
    fn term(&self) -> Duration {
        self.timing.lease.saturating_sub(self.timing.tick)
    }

    fn fence(&mut self) {
        self.phase = Phase::Fenced;
        self.candidate = None;
    }

    /// Gives the generation up: everything that it owns counts as absent once it has no lease.
    pub(crate) fn renounce(&mut self) {
        if self.phase == Phase::Held {
            self.fence();
        }
    }

    /// What to ask the store next. `fresh` is a generation that nobody had.
    pub(crate) fn request(&mut self, now: Moment, fresh: Generation) -> Request {
        self.tick(now);
        // The mark of this generation's death, if there is one, may soon be forgotten.
        if self.phase == Phase::Held && now.since(self.until) > MARKS / 2 {
            self.fence();
        }
        self.sent += 1;
        let beat = Beat { process: self.process, number: self.sent };
        let bid = |generation| Bid { component: self.component.of(generation), beat };
        match self.phase {
            Phase::Held => Request::Renew(bid(self.generation)),
            Phase::Joining | Phase::Fenced => {
                let candidate = *self.candidate.get_or_insert(fresh);
                Request::Acquire(bid(candidate))
            }
        }
    }

    /// The store can't be reached.
    pub(crate) fn failed(&mut self, now: Moment) -> Option<Event> {
        self.tick(now);
        let was_away = std::mem::replace(&mut self.touch, Touch::Away) == Touch::Away;
        (!was_away).then_some(Event::Away)
    }

    /// The answer to a bid for the lease that was sent at `sent`.
    pub(crate) fn acquired(&mut self, sent: Moment, now: Moment, bid: &Bid, answer: &Acquired) -> Vec<Event> {
        let back = self.answered_at(now);
        let mut events = Vec::from_iter(back);
        match answer {
            Acquired::Marked => self.candidate = None,
            Acquired::InUse { .. } => {}
            Acquired::Held if self.phase == Phase::Held || now >= sent + self.term() => {}
            Acquired::Held => {
                let old = std::mem::replace(&mut self.generation, bid.component.generation);
                if self.phase == Phase::Fenced {
                    events.push(Event::Renewed { old, new: self.generation });
                }
                self.phase = Phase::Held;
                self.candidate = None;
                self.until = sent + self.term();
                self.answered = bid.beat.number;
            }
        }
        events
    }

    /// The answer to a renewal that was sent at `sent`; whether the store lost what it had.
    pub(crate) fn renewed(
        &mut self,
        sent: Moment,
        now: Moment,
        bid: &Bid,
        answer: &Renewal,
    ) -> (Vec<Event>, bool) {
        self.tick(now);
        if self.phase != Phase::Held || self.generation != bid.component.generation {
            return (Vec::from_iter(self.answered_at(now)), false);
        }
        let Renewal::Held(before) = answer else {
            self.fence();
            return (Vec::from_iter(self.answered_at(now)), false);
        };
        let lost = match before {
            None => true,
            // Another process had the component's name meanwhile: says nothing of this one's beats.
            Some(before) => before.process == self.process && before.number < self.answered,
        };
        self.until = sent + self.term();
        self.answered = bid.beat.number;
        let events = Vec::from_iter(self.answered_at(now));
        // An answer that took a lease's time to be read renewed nothing.
        self.tick(now);
        (events, lost)
    }

    /// Any answer shows that the store is in reach.
    fn answered_at(&mut self, now: Moment) -> Option<Event> {
        self.tick(now);
        if matches!(self.touch, Touch::In { .. }) {
            return None;
        }
        self.touch = Touch::In { trusted: now + self.timing.lease * 2 };
        Some(Event::Back)
    }

    /// Compares the store's epoch with the one known. `rewound`: the store lost what it had though the epoch is the same.
    pub(crate) fn reconcile(&mut self, standing: &Standing, rewound: bool) -> (Vec<Event>, Option<Loss>) {
        let Some(epoch) = &standing.epoch else { return (Vec::new(), Some(Loss(None))) };
        let mut events = Vec::new();
        if self.epoch.as_ref() == Some(epoch) {
            if rewound {
                return (events, Some(Loss(Some(epoch.clone()))));
            }
        } else {
            let first = self.epoch.replace(epoch.clone()).is_none();
            if !first {
                events.push(Event::Epoch);
            }
            self.recovering = !first || standing.recovering;
        }
        if self.recovering && !standing.recovering {
            self.recovering = false;
            events.push(Event::Recovered);
        }
        (events, None)
    }

    /// What this component knows before it asks, to judge the answer by.
    pub(crate) fn view(&self) -> View {
        View {
            generation: self.generation,
            process: self.process,
            answered: self.answered,
            epoch: self.epoch.clone(),
        }
    }

    /// Whether a lease that is not there means that its component is dead, in the store that answered `standing`.
    pub(crate) fn may_judge(&self, now: Moment, view: &View, standing: &Standing) -> bool {
        let trusted = matches!(self.touch, Touch::In { trusted } if now >= trusted);
        trusted && self.check(now) == Ok(view.generation) && !standing.recovering && view.trusts(standing)
    }
}

/// What a component knew of itself and of the tables when it asked.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) generation: Generation,
    process: Uuid,
    answered: u64,
    epoch: Option<Epoch>,
}

impl View {
    /// Whether a claim may rely on what was read together with `standing`, or written before it.
    pub(crate) fn admit(&self, standing: &Standing, claim: Claim) -> Result<(), DirectoryError> {
        let refused = claim == Claim::New && standing.recovering;
        if refused || !self.trusts(standing) { Err(DirectoryError::Recovering) } else { Ok(()) }
    }

    /// The own lease is the canary: where it is there, in the epoch known, with the last beat that was answered, the
    /// store has lost nothing since.
    fn trusts(&self, standing: &Standing) -> bool {
        let beat =
            standing.beat.is_some_and(|beat| beat.process == self.process && beat.number >= self.answered);
        let epoch = self.epoch.is_some() && standing.epoch == self.epoch;
        epoch && beat && standing.holder == Some(self.generation)
    }
}
