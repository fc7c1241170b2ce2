//! A member without its tasks: one step of everything, with no timer and no runtime, so that a test can interleave
//! steps as it likes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::backend::{Acquired, Backend, Standing};
use crate::clock::Clock;
use crate::lease::{Lease, NoEpoch, Request, View};
use crate::pending::Pending;
use crate::rules::Life;
use crate::{Address, ComponentId, DirectoryError, Event, Fenced, Generation, NewComponent, Timing};

#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) me: ComponentId,
    pub(crate) timing: Timing,
    pub(crate) pending: Pending,
    /// Wakes the renewing task before its time.
    pub(crate) hurry: Notify,
    clock: Clock,
    lease: RwLock<Lease>,
    attempts: AtomicU64,
    announcements: Mutex<VecDeque<Event>>,
}

/// How one exchange with the store went.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// Ask again when it is time.
    Done,
    /// Ask again at once.
    Again,
    /// Another process has this component's name.
    InUse { client: Address, left: Duration },
}

impl Membership {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        component: NewComponent,
        timing: Timing,
        clock: Clock,
    ) -> Self {
        let me = component.id.clone();
        let lease = Lease::new(component, timing, Uuid::now_v7(), Generation::new(), clock.now());
        Self {
            backend,
            me,
            timing,
            pending: Pending::default(),
            hurry: Notify::new(),
            clock,
            lease: RwLock::new(lease),
            attempts: AtomicU64::new(0),
            announcements: Mutex::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<Generation, Fenced> {
        let lease = self.lease();
        // The clock is read last: a pause before this line shows.
        lease.check(self.clock.now())
    }

    /// Notices a pause; whether the component may act.
    pub(crate) fn tick(&self) -> bool {
        let mut lease = self.lease_mut();
        let now = self.clock.now();
        lease.tick(now);
        lease.check(now).is_ok()
    }

    pub(crate) fn lease(&self) -> RwLockReadGuard<'_, Lease> {
        self.lease.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lease_mut(&self) -> RwLockWriteGuard<'_, Lease> {
        self.lease.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for what is written next.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Renews the lease, or takes a new one where it is lost, and begins a new epoch where the store has none.
    pub(crate) async fn renew(&self) -> Result<Exchange, DirectoryError> {
        let exchange = self.exchange().await;
        if exchange.is_err() {
            let event = self.lease_mut().failed(self.clock.now());
            self.announce(event);
        }
        exchange
    }

    async fn exchange(&self) -> Result<Exchange, DirectoryError> {
        let (request, sent) = {
            let mut lease = self.lease_mut();
            let sent = self.clock.now();
            (lease.request(sent, Generation::new()), sent)
        };
        let (standing, next) = match request {
            Request::Acquire(bid) => {
                let (answer, standing) = self.backend.acquire(&bid).await?;
                let events = self.lease_mut().acquired(sent, self.clock.now(), &bid, &answer);
                self.announce(events);
                let next = match answer {
                    Acquired::Held => Exchange::Done,
                    Acquired::Marked => Exchange::Again,
                    Acquired::InUse { client, left } => Exchange::InUse { client, left },
                };
                (standing, next)
            }
            Request::Renew(bid) => {
                let (answer, standing) = self.backend.renew(&bid).await?;
                let event = self.lease_mut().renewed(sent, self.clock.now(), &bid, (&answer, &standing));
                self.announce(event);
                let next = if self.check().is_ok() { Exchange::Done } else { Exchange::Again };
                (standing, next)
            }
        };
        self.follow_epoch(standing).await?;
        Ok(next)
    }

    async fn follow_epoch(&self, mut standing: Standing) -> Result<(), DirectoryError> {
        loop {
            let followed = self.lease_mut().reconcile(&standing);
            match followed {
                Ok(events) => {
                    self.announce(events);
                    return Ok(());
                }
                Err(NoEpoch) => standing = self.backend.begin_epoch(&self.me).await?,
            }
        }
    }

    /// Whether the owner of an entry lives. Where it says that it is dead, it is so for good.
    pub(crate) async fn life(
        &self,
        (id, generation): (&ComponentId, Generation),
        view: &View,
    ) -> Result<Life, DirectoryError> {
        if *id == self.me {
            // This process has the name now, so whoever had it before is gone.
            return Ok(if generation == view.generation { Life::Own } else { Life::Dead });
        }
        let epoch = view.epoch()?;
        let (holder, standing) = self.backend.suspect(&self.me, id, &epoch).await?;
        let may_be_dead = match holder {
            // A successor took the lease only after it had run out: that is death without any judging.
            Some(holder) => holder != generation,
            None => self.may_judge(view, &standing),
        };
        let dead = may_be_dead && self.backend.confirm_dead(id, generation, &epoch).await?;
        Ok(if dead { Life::Dead } else { Life::Live })
    }

    pub(crate) fn is_as_in(&self, view: &View) -> bool {
        self.lease().is_as_in(self.clock.now(), view)
    }

    pub(crate) fn may_judge(&self, view: &View, standing: &Standing) -> bool {
        self.lease().may_judge(self.clock.now(), view, standing)
    }

    /// Queues events of this component's own lease. Of each kind only the last is kept: the queue stays short however
    /// long nobody reads.
    fn announce(&self, events: impl IntoIterator<Item = Event>) {
        let mut queue = self.announcements.lock().unwrap_or_else(PoisonError::into_inner);
        for mut event in events {
            if let Event::Renewed { old, .. } = &mut event
                && let Some(Event::Renewed { old: first, .. }) =
                    queue.iter().find(|earlier| matches!(earlier, Event::Renewed { .. }))
            {
                *old = *first;
            }
            queue.retain(|earlier| !supersedes(&event, earlier));
            queue.push_back(event);
        }
    }

    pub(crate) fn next_announcement(&self) -> Option<Event> {
        self.announcements.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn supersedes(event: &Event, earlier: &Event) -> bool {
    match event {
        Event::Away | Event::Back => matches!(earlier, Event::Away | Event::Back),
        Event::Epoch | Event::Recovered => event == earlier,
        Event::Renewed { .. } => matches!(earlier, Event::Renewed { .. }),
        Event::Joined(_) | Event::Died(_) => false,
    }
}
