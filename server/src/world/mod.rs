//! Whole servers in virtual time: two domains and their people over a network and disks in memory, all
//! of it following from one number. What must hold is written from docs/protocol.md and shares no code
//! with `impp_presence`. Compiled for tests alone.
//!
//! | file | holds |
//! |---|---|
//! | `net`, `line` | who reaches whom; connections that delay, break and fall silent |
//! | `disk` | disks that forget, hang, fill up and fail |
//! | `house` | a domain's server as it starts, reads its settings again, stops and is killed |
//! | `readings` | the settings of servers, and which of them people are answered by |
//! | `device` | somebody's device, written from the specification |
//! | `facts` | what was asked and answered, and what may be shown of it |
//! | `ruling` | rules, and what is seen by them |
//! | `plot` | what happens |
//! | `verdict` | what must be so in the end |
//!
//! `IMPP_WORLD=FROM..UNTIL` plays these seeds instead of the usual ones, `IMPP_WORLD_TRACE=1` prints
//! what happened.

mod device;
mod disk;
mod facts;
mod house;
mod line;
mod net;
mod plot;
mod readings;
mod ruling;
mod verdict;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use impp_protocol::hashing;

use plot::Told;

/// Seeds that are played if nothing else is said: as many as an ordinary test run has time for.
const SEEDS: Range<u64> = 0..60;
/// Seeds that are played twice.
const TWICE: u64 = 50;

/// What a double does wrong although it says nothing: to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// With a kill a disk forgets what it said was synced.
    Forgets,
    /// With a kill something is done twice.
    Doubles,
    /// With a kill two things are in the wrong order.
    Swaps,
    /// What was asked by somebody whose connection has gone meanwhile is done, and nobody hears of it.
    Deserts,
    /// Settings that are read again are put in force one half after the other.
    Halves,
    /// The certificates that were read with them are used later than they.
    Lags,
}

/// One world from its beginning to its end.
fn play(seed: u64, lie: Option<Lie>) -> Told {
    hashing::seed(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let told = runtime.block_on(plot::run(seed, lie));
    drop(runtime);
    hashing::seed(None);
    told
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("IMPP_WORLD") else { return SEEDS };
    let parsed = match text.split_once("..") {
        Some((from, until)) => from.parse().ok().zip(until.parse().ok()),
        None => text.parse().ok().map(|seed: u64| (seed, seed + 1)),
    };
    let (from, until) = parsed.expect("IMPP_WORLD: a seed, or FROM..UNTIL");
    from..until
}

/// What is wrong in the worlds of these seeds, on as many threads as there are processors.
#[expect(clippy::print_stdout, reason = "asked for")]
fn wrong_in(seeds: Range<u64>) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let trace = std::env::var_os("IMPP_WORLD_TRACE").is_some();
    let work = || {
        let mut wrong = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return wrong;
            }
            let told = play(seed, None);
            if trace {
                println!("{}", told.trace.join("\n"));
            }
            if !told.violations.is_empty() {
                let what = told.violations.join("\n  ");
                wrong.push(format!(
                    "seed {seed}:\n  {what}\n  again: IMPP_WORLD={seed} IMPP_WORLD_TRACE=1 cargo test \
                     --release -p impp-server --lib -- --nocapture world::a_world"
                ));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// In every world nothing acknowledged is lost or doubled, order is kept, each message has one fate,
/// nobody is shown what no rule grants, and in the end every watcher sees what the rules say.
#[test]
fn a_world_ends_as_the_specification_says() {
    let wrong = wrong_in(seeds());
    assert!(wrong.is_empty(), "{} seeds:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same number gives the same world, to the last octet.
#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..TWICE {
        let (first, second) = (play(seed, None).trace, play(seed, None).trace);
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        let at = differs.unwrap_or(first.len().min(second.len()));
        let around =
            |trace: &[String]| trace[at.saturating_sub(5)..trace.len().min(at + 3)].join("\n");
        let same = differs.is_none() && first.len() == second.len();
        assert!(same, "seed {seed}:\n{}\n--\n{}", around(&first), around(&second));
        assert!(first.len() > 100, "seed {seed}: nothing happened");
    }
}

/// Who lies is found out: what is looked for can be found.
#[test]
#[expect(clippy::print_stdout, reason = "how soon it is found")]
fn a_double_that_lies_is_found_out() {
    for lie in [Lie::Forgets, Lie::Doubles, Lie::Swaps, Lie::Deserts, Lie::Halves, Lie::Lags] {
        let found = (0..500).find(|seed| !play(*seed, Some(lie)).violations.is_empty());
        println!("{lie:?}: found at seed {found:?}");
        assert!(found.is_some(), "{lie:?} was not found in 500 worlds");
    }
}
