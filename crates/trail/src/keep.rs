//! Handing events on to where they are kept longer.

use std::time::Duration;

use crate::{Event, Trail};

/// How often; what a component noted since is lost with it.
const EVERY: Duration = Duration::from_millis(500);

/// Events handed on at once.
const BATCH: usize = 512;

/// Hands every event on, in order, for as long as it is polled. `send` says whether they are kept: otherwise they are
/// handed on again. What is forgotten meanwhile is counted ([`crate::Counts::not_kept`]).
pub async fn keep<F: Future<Output = bool>>(trail: &Trail, send: impl Fn(Vec<Event>) -> F) {
    let mut next = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        loop {
            let (first, events) = trail.from(next, BATCH);
            trail.counts().not_kept.inc_by(first - next);
            next = first;
            let count = events.len();
            if count == 0 || !send(events).await {
                break;
            }
            next += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        sync::Arc,
    };

    use super::*;
    use crate::{Bounds, Counts, Device, Step};

    #[tokio::test(start_paused = true)]
    async fn every_event_is_handed_on_once_though_some_attempts_fail() {
        const COUNT: i64 = 1500;
        let bounds = Bounds { events: 10_000, age: Duration::from_hours(1) };
        let trail = Trail::new(bounds, Counts::default(), 0);
        let device = Arc::new(Device::elsewhere("esa", ""));
        trail.note_all((0..COUNT).map(|at| Event::new(at, Step::Accepted, &device)));
        let (attempts, kept) = (Cell::new(0), RefCell::new(Vec::new()));
        let send = |events: Vec<Event>| {
            attempts.set(attempts.get() + 1);
            let works = attempts.get() % 2 == 0;
            if works {
                kept.borrow_mut().extend(events.iter().map(|event| event.at_us));
            }
            std::future::ready(works)
        };
        let _ = tokio::time::timeout(EVERY * 10, keep(&trail, send)).await;
        assert_eq!(*kept.borrow(), (0..COUNT).collect::<Vec<_>>());
        assert_eq!(trail.counts().not_kept.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_before_it_is_kept_is_counted() {
        let trail = Trail::new(Bounds { events: 10, age: Duration::from_hours(1) }, Counts::default(), 0);
        let device = Arc::new(Device::elsewhere("esa", ""));
        trail.note_all((0..25).map(|at| Event::new(at, Step::Accepted, &device)));
        let _ = tokio::time::timeout(EVERY * 2, keep(&trail, |_| std::future::ready(true))).await;
        assert_eq!(trail.counts().not_kept.get(), 15);
    }
}
