//! `impp-bench OPERATION WATCHERS TIMES`: asks the same of a presentity so many times, for `.ci/bench`
//! to count what happens within [`World::counted`].

use std::process::ExitCode;

use impp_bench::{Operation, World};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::from(2),
    }
}

fn run(arguments: &[String]) -> Option<()> {
    let [operation, watchers, times] = arguments else { return None };
    let operation = Operation::parse(operation)?;
    let mut world = World::new(watchers.parse().ok()?)?;
    for _ in 0..times.parse().ok()? {
        let step = world.prepare(operation)?;
        world.counted(step);
        world.settle(operation)?;
    }
    Some(())
}
