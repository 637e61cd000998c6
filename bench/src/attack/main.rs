//! `impp-attack [--seconds N] [NAME...]`: what one who asks too much costs somebody else.
//!
//! Each attack is played against a server of its own, the real one with its default settings. A
//! bystander asks and sends at a steady rate, first in quiet and then under the attack; what
//! counts is how long an answer took from when its request was due. A line is printed for each: the
//! bystander's times, what the server used, what the attacker was answered.
//!
//! Attackers and bystander are pinned to the second processor, the server to the first. The
//! bystander's thread comes before the attackers', so that its times are the server's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod arena;
mod attacks;
mod bystander;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use arena::Arena;
use attacks::{ATTACKS, Attack};
use bystander::{Bystander, Times};
use impp_bench::usage::{be_nice, pin_to};
use tokio::runtime::Handle;
use usage::Usage;

/// How long the bystander is watched in quiet and under the attack, if nothing is said.
const SECONDS: u64 = 10;
/// What the attackers have before the bystander is watched again.
const UNDER_WAY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.iter().position(|argument| argument == "--seconds") {
        Some(at) => {
            let figure = arguments
                .drain(at..arguments.len().min(at + 2))
                .nth(1)
                .and_then(|text| text.parse().ok());
            let Some(seconds) = figure else { return usage() };
            seconds
        }
        None => SECONDS,
    };
    if arguments.iter().any(|name| ATTACKS.iter().all(|attack| attack.name != *name)) {
        return usage();
    }
    pin_to(1);
    let mut attackers = tokio::runtime::Builder::new_multi_thread();
    attackers.worker_threads(1).on_thread_start(be_nice).enable_all();
    let attackers = attackers.build().unwrap();
    let bystander = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{HEAD}");
    for attack in &ATTACKS {
        if arguments.is_empty() || arguments.iter().any(|name| name == attack.name) {
            let line =
                bystander.block_on(play(attack, Duration::from_secs(seconds), attackers.handle()));
            println!("{line}");
        }
    }
    ExitCode::SUCCESS
}

const HEAD: &str = "\
attack | PING p50/p99 ms quiet → attacked | MESSAGE p50/p99 ms quiet → attacked \
| CPU | RSS MiB | store MiB/s | log kB/s | the attacker was answered, per second
--- | --- | --- | --- | --- | --- | --- | ---";

#[expect(clippy::print_stderr, reason = "a program by hand")]
fn usage() -> ExitCode {
    eprintln!("usage: impp-attack [--seconds N] [NAME...]; the attacks are:");
    for attack in &ATTACKS {
        eprintln!("  {:<16} {}", attack.name, attack.what);
    }
    ExitCode::from(2)
}

/// One line of the table.
async fn play(attack: &Attack, span: Duration, attackers: &Handle) -> String {
    let arena = Arena::start().await;
    let mut bystander = Bystander::start(arena.server()).await;
    let tasks = (attack.prepare)(arena.clone()).await;
    bystander.watch(UNDER_WAY).await;
    let quiet = bystander.watch(span).await;
    let at_rest = arena.usage();
    arena.tally.clear();
    let running: Vec<_> = tasks.into_iter().map(|task| attackers.spawn(task)).collect();
    bystander.watch(UNDER_WAY).await;
    let before = arena.usage();
    let attacked = bystander.watch(span).await;
    let after = arena.usage();
    let answered = arena.tally.take();
    running.iter().for_each(tokio::task::JoinHandle::abort);
    for task in running {
        drop(task.await);
    }
    let lasted = after.at.duration_since(at_rest.at).as_secs_f64();
    let answered: Vec<_> =
        answered.iter().map(|(what, n)| format!("{what} {:.0}", *n as f64 / lasted)).collect();
    let Usage { store, log, process, .. } = after.since(&before);
    let during = after.at.duration_since(before.at).as_secs_f64();
    format!(
        "{} | {} | {} | {:.0} % | {:.0} → {:.0} | {:.1} | {:.1} | {}",
        attack.name,
        of(&quiet.pings, &attacked.pings),
        of(&quiet.messages, &attacked.messages),
        process.cpu.as_secs_f64() / during * 100.0,
        at_rest.process.resident as f64 / 1024.0 / 1024.0,
        after.process.resident as f64 / 1024.0 / 1024.0,
        store as f64 / 1024.0 / 1024.0 / during,
        log as f64 / 1000.0 / during,
        answered.join(", "),
    )
}

fn of(quiet: &Times, attacked: &Times) -> String {
    format!("{quiet} → {attacked}")
}
