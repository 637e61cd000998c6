//! The commands, one file each: its arguments, what it asks, what it prints.

pub mod contacts;
pub mod devices;
pub mod fate;
pub mod fetch;
pub mod inbox;
pub mod login;
pub mod requests;
pub mod rules;
pub mod send;
pub mod status;
pub mod subscriptions;
pub mod watch;
pub mod watchers;

use impp_client::Client;
use impp_client::protocol::Address;

use crate::args::Command;
use crate::output::Output;
use crate::report::Failure;

/// Does what the command line says.
pub async fn run(command: &Command, client: &Client, out: &mut Output) -> Result<(), Failure> {
    match command {
        // It makes the profile that the client here is of.
        Command::Login(_) => Ok(()),
        Command::Status(args) => status::run(args, client, out).await,
        Command::Fetch(args) => fetch::run(args, client, out).await,
        Command::Watch(args) => watch::run(args, client, out).await,
        Command::Subscriptions(args) => subscriptions::run(args, client, out).await,
        Command::Watchers(args) => watchers::run(args, client, out).await,
        Command::Requests(args) => requests::run(args, client, out).await,
        Command::Send(args) => send::run(args, client, out).await,
        Command::Fate(args) => fate::run(args, client, out).await,
        Command::Inbox(args) => inbox::run(args, client, out).await,
        Command::Contacts(args) => contacts::run(args, client, out).await,
        Command::Rules(args) => rules::run(args, client, out).await,
        Command::Devices(args) => devices::run(args, client, out).await,
    }
}

/// An address on the command line.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// Whom: user@domain.
    #[arg(value_name = "ADDRESS")]
    pub address: Address,
}
