//! `impp history`: what was written with somebody, the last of it, in the order in which it was written.

use bytes::Bytes;
use impp_client::protocol::Address;
use impp_client::protocol::state::{Item, ItemKind};
use impp_client::{Client, ClientError};
use serde::Serialize;

use super::inbox::item;
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// With whom: user@domain.
    #[arg(value_name = "ADDRESS")]
    with: Address,
    /// At most so many messages, the newest.
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    max: u64,
    /// Only what was before this cursor: the one that the last call printed.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true, value_parser = item::parse_cursor)]
    before: Option<Bytes>,
}

/// Most messages that are printed at once: all of them are held until the oldest is there.
const MESSAGES_MAX: u64 = 10_000;

#[derive(Serialize)]
struct EndJson {
    item: &'static str,
    before: String,
    more: bool,
    /// Messages from them that were not read, as far as the server counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    /// There may be more of these.
    unread_more: bool,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (mut before, mut found) = (args.before.clone(), Vec::<Item>::new());
    let more = loop {
        let left = args.max - found.len() as u64;
        let page = client.history(Some(&args.with), before.take(), Some(left)).await?;
        let kinds = [ItemKind::Received, ItemKind::Sent, ItemKind::Damaged];
        found.extend(page.items.into_iter().filter(|item| kinds.contains(&item.kind)));
        before = Some(page.cursor);
        if !page.more || found.len() as u64 >= args.max {
            break page.more;
        }
    };
    for message in found.iter().rev() {
        out.item(&item::json(message), item::text)?;
    }
    let before = before.as_ref().map(item::cursor).unwrap_or_default();
    let mark = match client.read_mark(&args.with).await {
        // The messages are printed: where they go on is said all the same.
        Err(ClientError::Answered(_)) => None,
        mark => mark?,
    };
    let (unread, unread_more) = mark.map_or((None, false), |mark| (mark.unread, mark.more));
    out.item(&EndJson { item: "end", before, more, unread, unread_more }, text)
}

fn text(end: &EndJson) -> String {
    let more = end.more.then(|| format!("(more: --before {})", end.before));
    let unread = end.unread.filter(|unread| *unread > 0).map(|unread| match end.unread_more {
        true => format!("({unread} or more not read)"),
        false => format!("({unread} not read)"),
    });
    more.into_iter().chain(unread).collect::<Vec<_>>().join("\n")
}
