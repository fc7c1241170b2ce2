//! Thousands of seeds, and what a seed is worth.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;

/// How many seeds, where `KURIR_SEEDS` does not say so.
const SEEDS: u64 = 5000;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// `KURIR_SEED=n` runs that one and tells every step; `KURIR_SEEDS=n` runs so many.
#[test]
fn whatever_fails_no_seed_breaks_a_promise() {
    if let Some(seed) = number("KURIR_SEED") {
        let outcome = run(seed, true);
        println!("{outcome}");
        assert!(outcome.is_good(), "KURIR_SEED={seed}");
        return;
    }
    let (seeds, next, began) = (number("KURIR_SEEDS").unwrap_or(SEEDS), AtomicU64::new(0), Instant::now());
    let runs = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds);
        std::iter::from_fn(take).map(|seed| (seed, run(seed, false))).collect::<Vec<_>>()
    };
    let outcomes: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(runs)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<usize>();
    println!(
        "{seeds} seeds in {:.1?}: {} steps, {} messages sent, {} again, {} refusals, {} delivered; settled after {:.1?} at most",
        began.elapsed(),
        sum(|outcome| outcome.steps),
        sum(|outcome| outcome.verdict.figures.sent),
        sum(|outcome| outcome.verdict.figures.again),
        sum(|outcome| outcome.verdict.figures.refused),
        sum(|outcome| outcome.verdict.figures.delivered),
        outcomes.iter().map(|(_, outcome)| outcome.settled_after).max().unwrap_or_default(),
    );
    let mut bad: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.is_good()).collect();
    bad.sort_by_key(|(_, outcome)| outcome.steps);
    for (seed, outcome) in bad.iter().take(5) {
        println!("KURIR_SEED={seed}: {outcome}");
    }
    assert!(bad.is_empty(), "{} of {seeds} seeds; run the shortest with KURIR_SEED={}", bad.len(), bad[0].0);
}

#[test]
fn a_seed_is_the_same_run_again_and_again() {
    let figures = |seed| {
        let outcome = run(seed, false);
        (outcome.steps, outcome.verdict.figures, outcome.settled_after)
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}
