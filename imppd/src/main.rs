//! `imppd`: which command is whose. The server's are in `impp_server::cli`, the demonstration is
//! `impp_quickstart`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use impp_server::cli;

/// Presence and instant messaging server.
#[derive(Debug, Parser)]
#[command(name = "imppd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make everything that a first server needs, and run it.
    Quickstart(impp_quickstart::Arguments),
    #[command(flatten)]
    Server(cli::Command),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    cli::main(async {
        match command {
            Command::Quickstart(arguments) => impp_quickstart::run(arguments).await,
            Command::Server(command) => cli::run(command).await,
        }
    })
}
