//! `impp send`: one message to one recipient.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use impp_client::outbox::{Outbox, Verdict, Written};
use impp_client::protocol::command::{BODY_BYTES_MAX, Message};
use impp_client::protocol::{Address, MessageId};
use impp_client::{Client, ClientError, Outgoing, Sent, local_time};
use serde::Serialize;

use super::from_file;
use super::later::{self, Became};
use super::outbox::WaitingJson;
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom.
    #[arg(value_name = "ADDRESS")]
    to: Address,
    /// The text; `-`, or none where stdin is no terminal, reads it from stdin.
    text: Option<String>,
    /// The media type of the body [default: text/plain].
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,
    /// The id of an earlier try: the message is never delivered twice.
    #[arg(long, value_name = "UUID")]
    id: Option<MessageId>,
    /// It is of no use any more after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u32>,
    /// Keep it in the outbox until a server has taken it, if none can be reached now: it goes with the
    /// next `send --later` or `outbox send`, once, in its order.
    #[arg(long, conflicts_with_all = ["id", "no_store", "format"])]
    later: bool,
    /// Do not store it: only devices that are connected now get it.
    #[arg(long)]
    no_store: bool,
    /// The conversation that it belongs to.
    #[arg(long)]
    thread: Option<String>,
    /// The text names a file (`-`: stdin) that holds the message in this format.
    #[arg(long, conflicts_with_all = ["content_type", "id", "expires", "thread"])]
    format: Option<Format>,
}

/// Formats of messages.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Message/CPIM (RFC 3862).
    Cpim,
}

/// A message that was taken.
#[derive(Serialize)]
pub(super) struct SentJson {
    id: String,
    to: String,
    outcome: &'static str,
    time: String,
}

pub(crate) async fn run(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    if args.later {
        return later(args, owner, client, outbox, out).await;
    }
    let sent = match args.format {
        Some(Format::Cpim) => {
            let path = Path::new(args.text.as_deref().unwrap_or("-"));
            let read = from_file::message(path, owner.unwrap_or(client.address()), &args.to, out)?;
            let (message, own_id) = read;
            let volatile = args.no_store;
            let from = owner.cloned();
            client.send_written(Message { volatile, from, ..message }, own_id).await?
        }
        None => client.send(outgoing(args, owner)?).await?,
    };
    SentJson::of(&sent, &args.to).print(out)
}

impl SentJson {
    pub(super) fn of(sent: &Sent, to: &Address) -> SentJson {
        SentJson {
            id: sent.id.to_string(),
            to: to.to_string(),
            outcome: sent.outcome.as_str(),
            time: sent.time.to_string(),
        }
    }

    pub(super) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        out.item(self, |item| format!("{} to {}, id {}", item.outcome, item.to, item.id))
    }
}

/// Writes it down, and sends what waits.
async fn later(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    let waits = Written::from(written(outgoing(args, owner)?)?);
    let (number, became) = later::written(waits.clone(), client, outbox, out).await?;
    let line = match became {
        Became::Told(Verdict::Sent(sent)) => return SentJson::of(&sent, &args.to).print(out),
        Became::Told(Verdict::Failed(error)) => return Err(ClientError::Answered(error).into()),
        Became::Told(verdict) | Became::Kept(verdict) => {
            WaitingJson::of(number, Some(&waits), &verdict)
        }
        Became::Taken => WaitingJson::new(number, Some(&waits), "taken", None),
        Became::Waits(cause) => WaitingJson::new(number, Some(&waits), "waiting", cause),
    };
    out.item(&line, WaitingJson::line)
}

/// The message as it waits, by the time of this machine.
fn written(outgoing: Outgoing) -> Result<Message, Failure> {
    let Outgoing { to, from, content_type, body, expires, thread, .. } = outgoing;
    let created = local_time();
    let message = Message {
        from,
        content_type,
        created: Some(created),
        expires: expires.map(|after| created.after(after)),
        thread,
        ..Message::new(MessageId([0; 16]), to, body)
    };
    match message.over_limit() {
        Some(over) => Err(ClientError::TooLarge(over).into()),
        None => Ok(message),
    }
}

fn outgoing(args: &Args, owner: Option<&Address>) -> Result<Outgoing, Failure> {
    Ok(Outgoing {
        to: args.to.clone(),
        from: owner.cloned(),
        id: args.id,
        content_type: args.content_type.clone(),
        body: body(args.text.as_deref())?,
        expires: args.expires.map(|seconds| Duration::from_secs(u64::from(seconds))),
        thread: args.thread.clone(),
        volatile: args.no_store,
    })
}

/// The text of the command line, or stdin as it is.
fn body(text: Option<&str>) -> Result<Bytes, Failure> {
    let stdin = std::io::stdin();
    match text {
        Some("-") => {}
        Some(text) => return Ok(Bytes::copy_from_slice(text.as_bytes())),
        None if stdin.is_terminal() => {
            let hint = "impp send ADDRESS TEXT, or - to read it from stdin";
            return Err(Failure::usage_hint("no text to send", hint));
        }
        None => {}
    }
    let mut body = Vec::new();
    // One byte more than fits, so that the library can say that it is too long.
    let mut limited = stdin.lock().take(BODY_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut body).map_err(|error| Failure::system("stdin", &error))?;
    Ok(body.into())
}
