//! A component's lease and fence, and what it may say of others: all as a function of `now` and of the answers it got.

use std::time::Duration;

use uuid::Uuid;

use crate::backend::{Acquired, Bid, Epoch, MARKS, Renewal, Standing};
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

/// The tables have no epoch: one must be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoEpoch;

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

    /// Whether owners are still writing their entries again, as far as this component has heard.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering
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

        let bid = |generation| Bid { component: self.component.of(generation), process: self.process };
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
            }
        }
        events
    }

    /// The answer to a renewal that was sent at `sent`, and how this component stood after it.
    pub(crate) fn renewed(
        &mut self,
        sent: Moment,
        now: Moment,
        bid: &Bid,
        (answer, standing): (&Renewal, &Standing),
    ) -> Option<Event> {
        self.tick(now);
        let is_current = self.phase == Phase::Held && self.generation == bid.component.generation;
        // The lease may have run out in the lost tables, and this generation may have been declared dead there.
        let mark_may_be_lost = sent >= self.until && standing.epoch != self.epoch;
        match answer {
            _ if !is_current => {}
            Renewal::Held if !mark_may_be_lost => self.until = sent + self.term(),
            Renewal::Held | Renewal::Refused => self.fence(),
        }
        let back = self.answered_at(now);
        // An answer that took a lease's time to be read renewed nothing.
        self.tick(now);
        back
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

    /// Compares the store's epoch with the one known.
    pub(crate) fn reconcile(&mut self, standing: &Standing) -> Result<Vec<Event>, NoEpoch> {
        let epoch = standing.epoch.as_ref().ok_or(NoEpoch)?;
        let mut events = Vec::new();
        if self.epoch.as_ref() != Some(epoch) {
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
        Ok(events)
    }

    /// What this component knows before it asks, to judge the answer by.
    pub(crate) fn view(&self) -> View {
        View { generation: self.generation, epoch: self.epoch.clone() }
    }

    /// Whether what was true when `view` was taken still is: the same life, in the same life of the tables.
    pub(crate) fn is_as_in(&self, now: Moment, view: &View) -> bool {
        self.check(now) == Ok(view.generation) && self.epoch == view.epoch
    }

    /// Whether the lease may have run out although the component was never paused: it is cut off, and may go on.
    #[cfg(test)]
    pub(crate) fn is_cut_off(&self, now: Moment) -> bool {
        self.touch == Touch::Away && now >= self.until
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
    epoch: Option<Epoch>,
}

impl View {
    /// The life of the tables that a claim is written in.
    pub(crate) fn epoch(&self) -> Result<Epoch, DirectoryError> {
        self.epoch.clone().ok_or(DirectoryError::Recovering)
    }
    /// Whether a claim may rely on what was read together with `standing`, or written before it.
    pub(crate) fn admit(&self, standing: &Standing, claim: Claim) -> Result<(), DirectoryError> {
        let refused = claim == Claim::New && standing.recovering;
        if refused || !self.trusts(standing) { Err(DirectoryError::Recovering) } else { Ok(()) }
    }

    /// Where the epoch is the one known and the own lease is held, the store has lost nothing, and nobody has taken
    /// this component for dead.
    fn trusts(&self, standing: &Standing) -> bool {
        self.knows(standing) && standing.holder == Some(self.generation)
    }

    /// Whether the tables are in the life that is known.
    pub(crate) fn knows(&self, standing: &Standing) -> bool {
        self.epoch.is_some() && standing.epoch == self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Kind};

    const TIMING: Timing = Timing {
        lease: Duration::from_secs(6),
        renew: Duration::from_secs(2),
        poll: Duration::from_secs(1),
        tick: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        ended: Duration::from_mins(5),
    };

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(1_000_000 + ms))
    }

    /// A lease that was taken at 0, in an epoch that goes on.
    fn held() -> Lease {
        let component = NewComponent {
            kind: Kind::Relay,
            id: "r1".parse().unwrap(),
            client: Address { host: "localhost".to_owned(), port: 1 },
            grpc: String::new(),
        };
        let mut lease = Lease::new(component, TIMING, Uuid::nil(), Generation::new(), at(0));
        take(&mut lease, 0);
        lease.reconcile(&standing(&lease)).unwrap();
        lease
    }

    fn take(lease: &mut Lease, ms: u64) -> Vec<Event> {
        let Request::Acquire(bid) = lease.request(at(ms), Generation::new()) else { panic!("has a lease") };
        lease.acquired(at(ms), at(ms), &bid, &Acquired::Held)
    }

    fn renew(lease: &mut Lease, sent: u64, read: u64) -> Option<Event> {
        let Request::Renew(bid) = lease.request(at(sent), Generation::new()) else { panic!("has no lease") };
        let standing = standing(lease);
        lease.renewed(at(sent), at(read), &bid, (&Renewal::Held, &standing))
    }

    fn standing(lease: &Lease) -> Standing {
        Standing {
            epoch: Some(Epoch("first".to_owned())),
            recovering: false,
            holder: Some(lease.generation()),
        }
    }

    #[test]
    fn a_pause_past_the_lease_shows_at_once_and_for_good() {
        let mut lease = held();
        assert!(lease.check(at(5_499)).is_ok());
        assert_eq!(lease.check(at(5_500)), Err(Fenced));
        lease.tick(at(7_000));
        assert_eq!(lease.check(at(7_000)), Err(Fenced));
    }

    #[test]
    fn ticks_without_renewals_do_not_stretch_the_lease() {
        let mut lease = held();
        for ms in (0..6_000).step_by(500) {
            lease.tick(at(ms));
        }
        assert_eq!(lease.check(at(6_000)), Err(Fenced));
    }

    #[test]
    fn an_answer_read_too_late_renews_nothing() {
        let mut lease = held();
        renew(&mut lease, 2_000, 7_500);
        assert_eq!(lease.check(at(7_500)), Err(Fenced));
    }

    #[test]
    fn a_failure_after_a_pause_does_not_hide_it() {
        let mut lease = held();
        lease.request(at(2_000), Generation::new());
        lease.failed(at(8_000));
        assert_eq!(lease.check(at(8_000)), Err(Fenced));
    }

    #[test]
    fn who_is_cut_off_acts_on_until_it_is_paused_for_a_lease() {
        let mut lease = held();
        assert_eq!(lease.failed(at(3_000)), Some(Event::Away));
        for ms in (3_000..60_000).step_by(500) {
            lease.tick(at(ms));
            assert!(lease.check(at(ms)).is_ok());
        }
        lease.tick(at(64_000));
        assert!(lease.check(at(64_000)).is_ok());
        lease.tick(at(69_500));
        assert_eq!(lease.check(at(69_500)), Err(Fenced));
    }

    #[test]
    fn who_comes_back_unmarked_keeps_its_generation_and_judges_after_two_leases() {
        let mut lease = held();
        let generation = lease.generation();
        lease.failed(at(3_000));
        for ms in (3_000..20_000).step_by(500) {
            lease.tick(at(ms));
        }
        assert_eq!(renew(&mut lease, 20_000, 20_010), Some(Event::Back));
        assert_eq!(lease.check(at(20_010)), Ok(generation));
        let (view, standing) = (lease.view(), standing(&lease));
        for ms in [22_000, 24_000, 26_000, 28_000, 30_000] {
            renew(&mut lease, ms, ms);
        }
        assert!(!lease.may_judge(at(32_000), &view, &standing));
        assert!(lease.may_judge(at(32_010), &view, &standing));
    }

    #[test]
    fn who_was_marked_dead_takes_a_new_generation() {
        let mut lease = held();
        let old = lease.generation();
        let Request::Renew(bid) = lease.request(at(2_000), Generation::new()) else { unreachable!() };
        let standing = standing(&lease);
        lease.renewed(at(2_000), at(2_000), &bid, (&Renewal::Refused, &standing));
        assert_eq!(lease.check(at(2_000)), Err(Fenced));
        let events = take(&mut lease, 2_001);
        assert_eq!(events, [Event::Renewed { old, new: lease.generation() }]);
        assert_eq!(lease.check(at(2_001)), Ok(lease.generation()));
    }

    #[test]
    fn who_was_away_past_its_lease_when_the_tables_were_lost_takes_a_new_generation() {
        for (away_until, acts) in [(5_000, true), (6_000, false)] {
            let mut lease = held();
            lease.failed(at(3_000));
            lease.tick(at(away_until));
            let lost = Standing { epoch: Some(Epoch("second".to_owned())), ..standing(&lease) };
            let Request::Renew(bid) = lease.request(at(away_until), Generation::new()) else {
                unreachable!()
            };
            lease.renewed(at(away_until), at(away_until), &bid, (&Renewal::Held, &lost));
            assert_eq!(lease.check(at(away_until)).is_ok(), acts);
        }
    }

    #[test]
    fn a_lease_whose_answer_was_lost_is_asked_for_again_by_the_same_generation() {
        let mut lease = held();
        lease.tick(at(10_000));
        let Request::Acquire(first) = lease.request(at(10_000), Generation::new()) else { unreachable!() };
        lease.failed(at(11_000));
        let Request::Acquire(second) = lease.request(at(11_500), Generation::new()) else { unreachable!() };
        assert_eq!(first.component, second.component);
    }

    #[test]
    fn who_was_away_for_longer_than_marks_are_kept_is_dead_by_its_own_judgement() {
        let mut lease = held();
        lease.failed(at(1_000));
        let hours = u64::try_from(MARKS.as_millis()).unwrap() / 2;
        for ms in (1_000..hours + 8_000).step_by(5_000) {
            lease.tick(at(ms));
        }
        assert!(matches!(lease.request(at(hours + 8_000), Generation::new()), Request::Acquire(_)));
    }

    #[test]
    fn an_epoch_is_announced_when_it_is_another_and_when_it_is_whole() {
        let mut lease = held();
        let first = standing(&lease);
        let lost = Standing { epoch: None, ..first.clone() };
        assert_eq!(lease.reconcile(&lost), Err(NoEpoch));
        let next = Standing { epoch: Some(Epoch("second".to_owned())), recovering: true, ..first };
        assert_eq!(lease.reconcile(&next), Ok(vec![Event::Epoch]));
        assert_eq!(lease.reconcile(&next), Ok(vec![]));
        let whole = Standing { recovering: false, ..next };
        assert_eq!(lease.reconcile(&whole), Ok(vec![Event::Recovered]));
    }

    #[test]
    fn a_store_without_ones_own_lease_is_not_believed() {
        let lease = held();
        let view = lease.view();
        let whole = standing(&lease);
        assert!(view.admit(&whole, Claim::New).is_ok());
        let recovering = Standing { recovering: true, ..whole.clone() };
        assert!(view.admit(&recovering, Claim::New).is_err());
        assert!(view.admit(&recovering, Claim::Again).is_ok());
        for broken in [
            Standing { holder: None, ..whole.clone() },
            Standing { epoch: None, ..whole.clone() },
            Standing { epoch: Some(Epoch("second".to_owned())), ..whole.clone() },
        ] {
            assert!(view.admit(&broken, Claim::Again).is_err(), "{broken:?}");
        }
    }
}
