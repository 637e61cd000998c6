//! `impp-bench OPERATION WATCHERS TIMES`: asks the same of a presentity so many times, for `.ci/bench`
//! to count what happens within [`World::counted`]; `impp-bench part PART TIMES`: does a part so many
//! times, within [`Parts::counted`], or compiles the largest rules, within [`Compiled::counted`].

use std::process::ExitCode;

use impp_bench::compiled::Compiled;
use impp_bench::parts::{Part, Parts};
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
    if operation == "part" {
        if watchers == "compile-rules" {
            let compiled = Compiled::new()?;
            for _ in 0..times.parse().ok()? {
                std::hint::black_box(compiled.counted()?);
            }
            return Some(());
        }
        let (part, parts) = (Part::parse(watchers)?, Parts::new()?);
        for _ in 0..times.parse().ok()? {
            std::hint::black_box(parts.counted(std::hint::black_box(part))?);
        }
        return Some(());
    }
    let operation = Operation::parse(operation)?;
    let mut world = World::new(watchers.parse().ok()?)?;
    for _ in 0..times.parse().ok()? {
        let step = world.prepare(operation)?;
        world.counted(step);
        world.settle(operation)?;
    }
    Some(())
}
