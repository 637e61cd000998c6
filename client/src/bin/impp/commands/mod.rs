//! The commands, one file each: its arguments, what it asks, what it prints.

pub(crate) mod contacts;
pub(crate) mod delegated;
pub(crate) mod delegations;
pub(crate) mod devices;
pub(crate) mod dry_run;
pub(crate) mod expected;
pub(crate) mod fate;
pub(crate) mod fetch;
mod followed;
pub(crate) mod from_file;
pub(crate) mod history;
pub(crate) mod inbox;
mod later;
pub(crate) mod login;
pub(crate) mod outbox;
pub(crate) mod read;
pub(crate) mod requests;
pub(crate) mod rules;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod supposed;
pub(crate) mod watch;
pub(crate) mod watchers;

use impp_client::Client;
use impp_client::outbox::Outbox;
use impp_client::protocol::Address;

use crate::args::Command;
use crate::output::Output;
use crate::report::Failure;

/// Whether a command can be for somebody else, if it is said to be.
pub(crate) fn goes_for(owner: Option<&Address>, command: &Command) -> Result<(), Failure> {
    let Some(owner) = owner else { return Ok(()) };
    let can = match command {
        Command::Status(_) | Command::Send(_) | Command::Rules(_) => true,
        Command::Watchers(args) => args.can_be_for_another(),
        Command::Inbox(args) => args.can_be_for_another(),
        _ => false,
    };
    if can {
        return Ok(());
    }
    let only = match command {
        Command::Inbox(_) => Some(("inbox", "only messages that came are read for somebody else")),
        Command::Watchers(_) => {
            Some(("watchers", "only who watches now is read for somebody else"))
        }
        _ => None,
    };
    if let Some((name, text)) = only {
        let hint = format!("impp --for {owner} {name}");
        return Err(Failure::usage_hint(format!("--for {owner}: {text}"), hint));
    }
    let text = "`status`, `send`, `rules`, `watchers` and `inbox` can";
    let message = format!("--for {owner}: that cannot be for somebody else; {text}");
    Err(Failure::usage_hint(message, format!("impp --for {owner} status set --help")))
}

/// Does what the command line says.
pub(crate) async fn run(
    command: &Command,
    owner: Option<&Address>,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    match command {
        // It makes the profile that the client here is of.
        Command::Login(_) => Ok(()),
        Command::Status(args) => match owner {
            Some(owner) => delegated::status(args, owner, client, out).await,
            None => status::run(args, client, out).await,
        },
        Command::Fetch(args) => fetch::run(args, client, out).await,
        Command::Watch(args) => watch::run(args, client, out).await,
        Command::Subscriptions(args) => subscriptions::run(args, client, out).await,
        Command::Watchers(args) => watchers::run(args, owner, client, out).await,
        Command::Requests(args) => requests::run(args, client, out).await,
        Command::Send(args) => send::run(args, owner, client, outbox, out).await,
        Command::Outbox(args) => outbox::run(args, client, outbox, out).await,
        Command::Fate(args) => fate::run(args, client, out).await,
        Command::Inbox(args) => inbox::run(args, owner, client, out).await,
        Command::History(args) => history::run(args, client, out).await,
        Command::Read(args) => read::run(args, client, out).await,
        Command::Contacts(args) => contacts::run(args, client, outbox, out).await,
        Command::Rules(args) => rules::run(args, owner, client, out).await,
        Command::Devices(args) => devices::run(args, client, out).await,
        Command::Delegations(args) => delegations::run(args, client, out).await,
    }
}

/// An address on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Who {
    /// Whom: user@domain.
    #[arg(value_name = "ADDRESS")]
    pub address: Address,
}

/// One who watches, on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Watcher {
    /// Whom: user@domain, or `anonymous` for those who prove no name.
    #[arg(value_name = "ADDRESS", value_parser = watcher)]
    pub address: Address,
}

/// The word for those who prove no name.
pub(crate) const ANONYMOUS: &str = "anonymous";

fn watcher(text: &str) -> Result<Address, String> {
    match text {
        ANONYMOUS => Ok(Address::anonymous().clone()),
        text => Address::parse(text).map_err(|error| error.to_string()),
    }
}
