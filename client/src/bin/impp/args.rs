//! The command line: global flags and the list of commands.
//!
//! The arguments of a command are beside what it does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use impp_client::protocol::Address;

use crate::commands::{
    contacts, delegations, devices, fate, fetch, history, inbox, login, outbox, read, requests,
    rules, send, status, subscriptions, watch, watchers,
};

/// IMPP/1 client: presence and messages from the command line.
#[derive(Debug, Parser)]
#[command(name = "impp", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub global: Global,
    /// For whom, if it is not you: somebody whose rules let you. It goes before `status`, `send`,
    /// `rules`, `watchers`, `inbox`.
    #[arg(long = "for", value_name = "ADDRESS")]
    pub owner: Option<Address>,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 answered no, or it failed here; 2 a wrong command line or profile; \
                          3 no server, no answer, or not now; 4 the sign-in failed";

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Print one JSON object per line, errors too.
    #[arg(long, global = true)]
    pub json: bool,
    /// Who you are: a profile made by `impp login`.
    ///
    /// Without it IMPP_PROFILE names one, or it is the only one in the folder of profiles.
    #[arg(long, global = true, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Sign in as no device, for scripts: the server keeps nothing of it.
    ///
    /// So it can acknowledge and publish nothing; --since says where the log is read from.
    #[arg(long, global = true)]
    pub no_device: bool,
    /// How many seconds an answer may take.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX))]
    timeout: u64,
}

/// Longest time that an answer may be waited for.
const TIMEOUT_SECONDS_MAX: u64 = 24 * 3600;

impl Global {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in once and keep how in a profile.
    Login(login::Args),
    /// Publish your presence, show it, take it back.
    #[command(subcommand)]
    Status(status::Args),
    /// Somebody's presence, once.
    Fetch(fetch::Args),
    /// Somebody's presence, or that of all your contacts, as it changes.
    Watch(watch::Args),
    /// Whom you follow.
    Subscriptions(subscriptions::Args),
    /// Who watches you.
    Watchers(watchers::Args),
    /// Who waits for your decision.
    Requests(requests::Args),
    /// Send a message.
    Send(send::Args),
    /// What you wrote and no server has taken yet.
    Outbox(outbox::Args),
    /// Where a message that you sent is, or how it ended.
    Fate(fate::Args),
    /// Messages that came.
    Inbox(inbox::Args),
    /// What you and somebody wrote to each other.
    History(history::Args),
    /// How far your conversations were read, on any of your devices; or that one was.
    Read(read::Args),
    /// Your contact list.
    Contacts(contacts::Args),
    /// Who may see what, and who may write to you.
    #[command(subcommand)]
    Rules(rules::Args),
    /// Your devices.
    Devices(devices::Args),
    /// Who may act for you, and for whom you may.
    Delegations(delegations::Args),
}

impl Command {
    /// Whose presence is asked for without a name, if it is.
    pub(crate) fn nameless(&self) -> Option<&Address> {
        match self {
            Command::Fetch(args) if args.anonymous => Some(&args.who.address),
            Command::Watch(args) if args.anonymous => args.addresses.first(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_behind_the_command() {
        let args =
            Args::try_parse_from(["impp", "fetch", "bob@a.example", "--json", "--timeout", "3"]);
        let args = args.unwrap();
        assert!(args.global.json && args.global.timeout() == Duration::from_secs(3));
        assert!(matches!(args.command, Command::Fetch(_)));
    }

    #[test]
    fn what_the_contract_lists_is_taken() {
        for line in [
            "login alice@a.example --server h:1 --trust f --password-stdin",
            "status set open --note T --activity a --activity b --mood m --field sphere=work",
            "status set closed --lease 60",
            "status set --from f --lease 60",
            "fetch bob@a.example --format pidf",
            "send bob@a.example f --format cpim --no-store",
            "inbox --max 1 --format cpim",
            "inbox --follow --from-now",
            "--no-device inbox --since abc",
            "inbox --no-device --follow --from-now",
            "history bob@a.example --max 5 --before abc",
            "inbox delete 019f0000-0000-7000-8000-000000000000",
            "inbox delete --from bob@a.example",
            "status show",
            "status clear",
            "--for alice@a.example status set --activity meeting --lease 60",
            "--for alice@a.example status set open --tuple desk",
            "--for alice@a.example status clear",
            "--for alice@a.example rules set f --base 3",
            "--for alice@a.example rules test f --rules g",
            "--for alice@a.example inbox --max 3",
            "--for alice@a.example send bob@a.example hello",
            "delegations",
            "delegations acts",
            "fate 019f0000-0000-7000-8000-000000000000",
            "watch",
            "watch bob@a.example dan@a.example --count 3 --for 5",
            "subscriptions",
            "subscriptions cancel bob@a.example",
            "watchers",
            "watchers remove bob@a.example",
            "requests list",
            "requests polite bob@a.example",
            "send bob@a.example hello",
            "send bob@a.example - --type text/plain --expires 5 --no-store --thread t",
            "send bob@a.example x --id 01890a5d-ac96-774b-bcce-b302099a8057",
            "inbox --follow --ack --max 3 --since abc --count 2 --all",
            "read",
            "read bob@a.example",
            "read bob@a.example 019f0000-0000-7000-8000-000000000000",
            "contacts list",
            "contacts add bob@a.example --name B --group g --group h --grant all --no-follow",
            "contacts add bob@a.example --name B --group g --later",
            "contacts remove bob@a.example",
            "contacts remove bob@a.example --later",
            "rules show",
            "rules set f --base 3",
            "rules explain bob@a.example --delivery",
            "rules explain bob@a.example --rules f --at 2026-12-01T00:00:00Z --sphere work",
            "rules set f --dry-run",
            "rules view-as bob@a.example --once",
            "rules test f --rules g",
            "devices list",
            "devices remove 000102030405060708090a0b0c0d0e0f",
        ] {
            let words = ["impp"].into_iter().chain(line.split(' '));
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "fetch bob",
            "status set busy",
            "status set open --from f",
            "send bob@a.example f --format cpim --thread t",
            "inbox --format cpim",
            "status set open --lease 1x",
            "contacts add bob@a.example --grant some",
            "contacts add bob@a.example --grant all --later",
            "devices remove 12",
            "inbox --since ***",
            "inbox --count 2",
            "inbox --ack delete 019f0000-0000-7000-8000-000000000000",
            "fetch bob@a.example --timeout 0",
        ] {
            let words = ["impp"].into_iter().chain(line.split(' '));
            assert!(Args::try_parse_from(words).is_err(), "{line}");
        }
    }
}
