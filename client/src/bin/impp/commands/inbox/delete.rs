//! `impp inbox delete`: a message goes from the log of the account, with what tells of it.

use impp_client::Client;
use impp_client::protocol::MessageId;
use impp_client::protocol::command::Message;
use impp_client::protocol::state::{Item, ItemKind};
use serde::Serialize;

use super::PAGE_ITEMS_MAX;
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The message's id, as `inbox` or `send` printed it.
    #[arg(value_name = "ID")]
    id: MessageId,
}

#[derive(Serialize)]
struct DeletedJson {
    id: String,
    deleted: usize,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let page = client.read_metadata(cursor, Some(PAGE_ITEMS_MAX)).await?;
        let about = page.items.iter().filter(|item| is_about(item, args.id));
        found.extend(about.map(|item| item.cursor.clone()));
        if !page.more {
            break;
        }
        cursor = Some(page.cursor);
    }
    if found.is_empty() {
        let what = format!("no message with the id {} is in your log", args.id);
        return Err(Failure::Missing(what));
    }
    let deleted = found.len();
    for cursor in found {
        client.delete_item(cursor).await?;
    }
    let (id, items) = (args.id.to_string(), if deleted == 1 { "item" } else { "items" });
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
