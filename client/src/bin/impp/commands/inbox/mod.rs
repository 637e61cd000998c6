//! `impp inbox`: messages that came, once or as they come, and what became of the account's devices.
//! Nothing is acknowledged unless asked.
//!
//! What an item looks like is left to `item`, deleting one to `delete`.

mod delete;
pub(super) mod item;

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use impp_client::protocol::Address;
use impp_client::protocol::state::{Item, ItemKind, Page};
use impp_client::{Client, Event, Follower, Wanted};
use impp_convert::cpim;
use serde::Serialize;
use tokio::time::Instant;

use super::followed::{self, Until};
use crate::output::{Output, quoted};
use crate::report::Failure;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Go on as messages come, until Ctrl-C or --count.
    #[arg(long)]
    follow: bool,
    /// Tell the server that this device has what was printed.
    #[arg(long)]
    ack: bool,
    /// Print at most so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Start behind this cursor; without it at the oldest item held.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true, value_parser = item::parse_cursor)]
    since: Option<Bytes>,
    /// With --follow: only what comes from now on.
    #[arg(long, requires = "follow", conflicts_with = "since")]
    from_now: bool,
    /// If there is nothing to print, wait so many seconds for something.
    #[arg(long, value_name = "SECONDS", conflicts_with = "follow",
          value_parser = clap::value_parser!(u32).range(1..))]
    wait: Option<u32>,
    /// With --follow: stop after so many messages.
    #[arg(long, value_name = "N", requires = "follow",
          value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print copies of messages sent, and fates, too.
    #[arg(long)]
    all: bool,
    /// Print one message in this format: its octets; with --json as `cpim_base64`.
    #[arg(long, requires = "max", conflicts_with_all = ["follow", "all"])]
    format: Option<Format>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Delete a message from your log, or all that one person has sent, for all your devices; its sender
    /// keeps what it has.
    Delete(delete::Args),
}

/// Formats of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Message/CPIM (RFC 3862).
    Cpim,
}

/// Most items asked for at once.
const PAGE_ITEMS_MAX: u64 = 200;

#[derive(Serialize)]
struct BeginsJson {
    item: &'static str,
    cursor: String,
}

#[derive(Serialize)]
struct EndJson {
    item: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
}

impl Args {
    /// Whether it is only read what there is. Custody is taken by the owner's devices, and who waits for
    /// messages of somebody else's asks again.
    pub(crate) fn can_be_for_another(&self) -> bool {
        self.action.is_none() && !self.follow && !self.ack && !self.all && self.wait.is_none()
    }
}

pub(crate) async fn run(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    if let Some(Action::Delete(args)) = &args.action {
        return delete::run(args, client, out).await;
    }
    let owner = owner.unwrap_or(client.address());
    if args.format.is_some() && args.max != Some(1) {
        let hint = "--max 1, and --since CURSOR for the next one";
        return Err(Failure::usage_hint("--format prints one message at a time", hint));
    }
    let mut reading = Reading {
        all: args.all,
        told: false,
        format: args.format,
        left: [args.max, args.count].into_iter().flatten().min(),
        cursor: args.since.clone().filter(|cursor| !cursor.is_empty()),
        oldest: None,
        more: false,
    };
    let outcome = match args.follow {
        true => follow(args, client, &mut reading, out).await,
        false => read(args, owner, client, &mut reading, out).await,
    };
    outcome?;
    out.item(&reading.end(), |_| String::new())?;
    out.flush()
}

async fn read(
    args: &Args,
    owner: &Address,
    client: &Client,
    reading: &mut Reading,
    out: &mut Output,
) -> Result<(), Failure> {
    let wait = Duration::from_secs(args.wait.unwrap_or(0).into());
    let by = Instant::now() + wait;
    let mut stop = Stop::new()?;
    // What there is comes first.
    let mut left = Duration::ZERO;
    loop {
        let (cursor, max) = (reading.cursor.clone(), Some(PAGE_ITEMS_MAX));
        let page = async {
            match left.is_zero() {
                true => client.read_log_for(owner, cursor, max).await,
                false => client.wait_log(cursor, max, left).await,
            }
        };
        let page = tokio::select! {
            page = page => page?,
            () = stop.wait() => return Ok(()),
        };
        // A page may be empty where its items are of a kind that is not known here.
        let progress = reading.cursor.as_ref() != Some(&page.cursor);
        let newest = reading.print(page, out)?;
        out.flush()?;
        if let (true, Some(cursor)) = (args.ack, newest) {
            client.ack(cursor).await?;
        }
        if reading.more && progress && !reading.is_enough() {
            continue;
        }
        left = by.saturating_duration_since(Instant::now());
        if reading.told || left.is_zero() {
            return Ok(());
        }
    }
}

async fn follow(
    args: &Args,
    client: &Client,
    reading: &mut Reading,
    out: &mut Output,
) -> Result<(), Failure> {
    let cursor = reading.cursor.clone();
    let wanted = Wanted { log: true, cursor, at_end: args.from_now, ..Wanted::default() };
    let until = Until { count: reading.left, seconds: None };
    let tell = |event, follower: &mut Follower<'_>, out: &mut Output| {
        tell(event, args.ack, reading, follower, out)
    };
    followed::follow(until, wanted, client, out, tell).await
}

/// Prints what has come; says how many messages it was.
fn tell(
    event: Event,
    ack: bool,
    reading: &mut Reading,
    follower: &mut Follower<'_>,
    out: &mut Output,
) -> Result<u64, Failure> {
    let before = reading.left;
    match event {
        Event::Page(page) => {
            let newest = reading.print(page, out)?;
            out.flush()?;
            // Only what is out is there to be read.
            if let (true, Some(cursor)) = (ack, newest) {
                follower.ack(cursor);
            }
        }
        Event::Message(message) => {
            reading.count();
            out.item(&item::volatile(&message), item::text)?;
        }
        Event::Begins(cursor) => {
            // Where who comes again goes on, also if nothing comes, and this is killed.
            let begins = BeginsJson { item: "begins", cursor: item::cursor(&cursor) };
            out.item(&begins, |_| String::new())?;
            reading.cursor = Some(cursor);
        }
        Event::Anew => {
            reading.cursor = None;
            out.note("the server's store was put back from a copy: again from the oldest message");
        }
        _ => {}
    }
    let left = |left: Option<u64>| left.unwrap_or_default();
    Ok(left(before) - left(reading.left))
}

/// How far the log was read, and how much more is to be.
struct Reading {
    all: bool,
    /// Whether anything was printed.
    told: bool,
    format: Option<Format>,
    /// So many messages are still to be printed; None for any number.
    left: Option<u64>,
    cursor: Option<Bytes>,
    oldest: Option<Bytes>,
    more: bool,
}

impl Reading {
    /// Prints a page, or as much of it as is wanted. Gives the cursor behind the last item that
    /// was looked at, if there was one.
    fn print(&mut self, page: Page, out: &mut Output) -> Result<Option<Bytes>, Failure> {
        let (count, mut newest) = (page.items.len(), None);
        self.oldest = Some(page.oldest);
        self.more = page.more;
        self.cursor = Some(page.cursor);
        for (index, entry) in page.items.into_iter().enumerate() {
            if entry.kind == ItemKind::Received {
                self.count();
            }
            // What became of a device its owner should see, whoever did it, and what is missing
            // or was deleted.
            let told = [ItemKind::Received, ItemKind::Device, ItemKind::Damaged, ItemKind::Deleted];
            let told = if self.format.is_some() { &told[..1] } else { &told };
            if self.all || told.contains(&entry.kind) {
                self.print_item(&entry, out)?;
                self.told = true;
            }
            newest = Some(entry.cursor);
            if self.is_enough() {
                self.more |= index + 1 < count;
                self.cursor = newest.clone();
                break;
            }
        }
        Ok(newest)
    }

    fn print_item(&self, entry: &Item, out: &mut Output) -> Result<(), Failure> {
        let mut json = item::json(entry);
        let format = self.format.map(|Format::Cpim| item::message(entry));
        if let Some(Some(message)) = format {
            let (cpim, lost) = cpim::from_message(&message);
            let octets = cpim.write();
            for name in lost {
                out.note(&format!("not in Message/CPIM: the header {}", quoted(&name)));
            }
            if out.octets(&octets)? {
                return Ok(());
            }
            json.carry(&octets);
        }
        out.item(&json, item::text)
    }

    fn count(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    fn is_enough(&self) -> bool {
        self.left == Some(0)
    }

    fn end(&self) -> EndJson {
        EndJson {
            item: "end",
            cursor: self.cursor.as_ref().map(item::cursor),
            more: self.more,
            oldest: self.oldest.as_ref().map(item::cursor),
        }
    }
}
