//! `impp inbox delete`: a message goes from the log of the account, with what tells of it; or all that one
//! person has sent.

use impp_client::Client;
use impp_client::protocol::command::Message;
use impp_client::protocol::state::{Item, ItemKind};
use impp_client::protocol::{Address, MessageId};
use serde::Serialize;

use super::PAGE_ITEMS_MAX;
use crate::output::Output;
use crate::report::Failure;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(override_usage = "impp inbox delete <ID>\n       impp inbox delete --from <ADDRESS>")]
pub(super) struct Args {
    /// The message's id, as `inbox` or `send` printed it.
    #[arg(value_name = "ID", required_unless_present = "from")]
    id: Option<MessageId>,
    /// All that came from this address, the newest first.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "id")]
    from: Option<Address>,
}

#[derive(Serialize)]
struct DeletedFromJson {
    from: String,
    deleted: usize,
    /// What was there when it began is gone.
    complete: bool,
}

#[derive(Serialize)]
struct DeletedJson {
    id: String,
    deleted: usize,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    match (args.id, &args.from) {
        (Some(id), _) => one(id, client, out).await,
        (None, Some(from)) => all_from(from, client, out).await,
        (None, None) => Err(Failure::usage("an ID, or --from ADDRESS")),
    }
}

/// Deletes what somebody has sent, a page at a time. What was deleted is told however it ends.
async fn all_from(from: &Address, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (mut deleted, mut stop) = (0, Stop::new()?);
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => None,
        outcome = go_back(from, client, &mut deleted) => Some(outcome),
    };
    let complete = matches!(outcome, Some(Ok(())));
    if complete && deleted == 0 {
        return Err(Failure::Missing(format!("no message from {from} is in your log")));
    }
    let from = from.to_string();
    out.item(&DeletedFromJson { from, deleted, complete }, |done| {
        let items = if deleted == 1 { "message" } else { "messages" };
        format!("{deleted} {items} from {} deleted", done.from)
    })?;
    match outcome {
        Some(outcome) => outcome,
        None => {
            let message = "stopped before the end: the same again deletes the rest".to_owned();
            Err(Failure::Ended { message, name: "stopped" })
        }
    }
}

/// Counts each that is deleted, as soon as it is.
async fn go_back(from: &Address, client: &Client, deleted: &mut usize) -> Result<(), Failure> {
    let mut before = None;
    loop {
        let max = Some(PAGE_ITEMS_MAX);
        let page = client.history_metadata(Some(from), before.take(), max).await?;
        for item in page.items.into_iter().filter(|item| item.kind == ItemKind::Received) {
            client.delete_item(item.cursor).await?;
            *deleted += 1;
        }
        if !page.more {
            return Ok(());
        }
        before = Some(page.cursor);
    }
}

async fn one(id: MessageId, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let page = client.read_metadata(cursor, Some(PAGE_ITEMS_MAX)).await?;
        let about = page.items.iter().filter(|item| is_about(item, id));
        found.extend(about.map(|item| item.cursor.clone()));
        if !page.more {
            break;
        }
        cursor = Some(page.cursor);
    }
    if found.is_empty() {
        let what = format!("no message with the id {id} is in your log");
        return Err(Failure::Missing(what));
    }
    let deleted = found.len();
    for cursor in found {
        client.delete_item(cursor).await?;
    }
    let (id, items) = (id.to_string(), if deleted == 1 { "item" } else { "items" });
    out.item(&DeletedJson { id, deleted }, |done| format!("{}: {deleted} {items} deleted", done.id))
}

/// The message, a copy of it, or its fate.
fn is_about(item: &Item, id: MessageId) -> bool {
    match item.kind {
        ItemKind::Received | ItemKind::Sent => {
            let message = item.message.clone().map(Message::decode);
            message.and_then(Result::ok).is_some_and(|message| message.id == id)
        }
        ItemKind::Fate => item.fate.as_ref().is_some_and(|report| report.id == id),
        _ => false,
    }
}
