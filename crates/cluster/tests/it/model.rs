//! Three nodes and their clients do random things while the world and the ways to it fail, and then all must be as it is.
//!
//! `FANFARE_MODEL_SEEDS=N` runs so many seeds, `FANFARE_MODEL_SEED=N` repeats one, and with
//! `FANFARE_MODEL_TRACE=1` says what happens.

mod client;
mod oracle;
mod plan;
mod receivers;
mod run;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_engine::testing::run_paused;

/// Runs, if the environment does not say how many.
const SEEDS: u64 = 2400;
/// How often a seed that is repeated may come out well before it counts as good: the order of what happens at the same
/// moment is not in its hands.
const REPEATS: u64 = 25;

thread_local! {
    /// What a task of this thread panicked with.
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

#[test]
fn whatever_happens_to_nodes_and_world_clients_know_what_is_true_and_miss_nothing_unnoticed() {
    note_panics();
    if let Some(seed) = number("FANFARE_MODEL_SEED") {
        let failed = (0..REPEATS).find_map(|_| failure(seed));
        if let Some(failure) = failed {
            panic!("seed {seed}: {failure}");
        }
        return;
    }
    let seeds = number("FANFARE_MODEL_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failed = Vec::new();
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < seeds
        {
            if let Some(failure) = failure(seed) {
                failed.push((seed, failure));
            }
        }
        failed
    };
    let mut failed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let failed = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        failed.collect()
    });
    failed.sort();
    let lines: Vec<_> = failed
        .iter()
        .map(|(seed, failure)| format!("seed {seed}: {failure}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} runs failed:\n{}\nrepeat one with FANFARE_MODEL_SEED={} cargo test -p fanfare-cluster --test it model",
        failed.len(),
        lines.join("\n"),
        failed[0].0
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is no setting of the server"
)]
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// What is wrong with a run, if anything is.
fn failure(seed: u64) -> Option<String> {
    PANIC.set(None);
    let run = || run_paused(run::run(seed));
    let result = catch_unwind(AssertUnwindSafe(run));
    match (PANIC.take(), result) {
        (None, Ok(())) => None,
        (panic, _) => Some(panic.unwrap_or_default()),
    }
}

/// A panic in a task is a failure as well, though nobody waits for the task.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            // The test's own threads have no name.
            if thread.name().is_some() {
                before(panic);
            }
            let known = PANIC.take();
            PANIC.set(known.or_else(|| Some(panic.to_string())));
        }));
    });
}
