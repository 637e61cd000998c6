//! `impp-load PROTOCOL SCENARIO [OPTION...]`: puts load on a server of that protocol, and says in one
//! line of JSON what it delivered and what it used for that.
//!
//! The server is pinned to the first processor, this program with its one thread to the second. What
//! others on the machine use is told too: with more than a little of it the figures are worth
//! nothing. `bench/run` plays many, compares them, and writes down what came of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod crowd;
mod measured;
mod protocol;
mod protocols;
mod scenarios;
mod stamp;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use protocols::PROTOCOLS;
use scenarios::{Options, SCENARIOS};
use serde_json::json;
use tokio::task::LocalSet;

/// Puts load on a server, and says what it used.
#[derive(Parser)]
struct Arguments {
    /// Whose server.
    #[arg(value_parser = PossibleValuesParser::new(PROTOCOLS.map(|(name, _)| name)))]
    protocol: String,
    /// What is asked of it: s1, messages between pairs; s2a and s2b, status shown to many; s3,
    /// sessions that are idle; s4, sign-ins; s5, messages to who is absent, and a crash; s6, status
    /// shown to 10,000; s7, to 200 of whom a tenth reads no more; s9, 10,000 cut off who come back.
    #[arg(value_parser = PossibleValuesParser::new(SCENARIOS.map(|scenario| scenario.name)))]
    scenario: String,
    #[command(flatten)]
    options: Options,
}

fn main() {
    let Arguments { protocol, scenario, options } = Arguments::parse();
    let start = PROTOCOLS.iter().find(|(name, _)| *name == protocol).expect("a known one").1;
    let play = SCENARIOS.iter().find(|one| one.name == scenario).expect("a known one").play;
    impp_bench::usage::pin_to(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut figures = LocalSet::new().block_on(&runtime, play(start, &options));
    figures["protocol"] = json!(protocol);
    figures["scenario"] = json!(scenario);
    figures["void"] = json!(impp_bench::judged::faults(&figures));
    println!("{figures}");
}
