//! `impp outbox`: what was written with `send --later` and has not been taken yet.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use impp_client::outbox::{Entry, Kept, Outbox, State, Verdict};
use impp_client::protocol::command::Message;
use impp_client::{Client, ClientError, local_time};
use serde::Serialize;

use super::send::SentJson;
use crate::output::{Output, in_line};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What waits, oldest first. This is what it does if nothing is said.
    List,
    /// Send what waits.
    Send,
    /// Let a message be sent as a new one: one that failed, or one of which is not known whether it was
    /// taken (it may come twice then).
    Again {
        /// Its number in the list.
        number: u64,
    },
    /// Take a message out.
    Remove {
        /// Its number in the list.
        number: u64,
    },
}

/// A message that waits, or why it does not go.
#[derive(Serialize)]
pub(super) struct WaitingJson {
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

pub(crate) async fn run(
    args: &Args,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    match args.what {
        None | Some(What::List) => list(outbox, out),
        Some(What::Send) => send(client, outbox, out).await,
        Some(What::Again { number }) => {
            outbox.lock()?.again(number, local_time()).map_err(Failure::from)
        }
        Some(What::Remove { number }) => outbox.lock()?.remove(number).map_err(Failure::from),
    }
}

fn list(outbox: &Outbox, out: &mut Output) -> Result<(), Failure> {
    let now = local_time();
    for Entry { number, kept } in outbox.entries()? {
        let item = match kept {
            Ok(Kept { message, state: State::Failed(error), .. }) => {
                WaitingJson::of(number, Some(&message), &Verdict::Failed(error))
            }
            Ok(kept) if kept.is_unknown(now) => {
                WaitingJson::of(number, Some(&kept.message), &Verdict::Unknown)
            }
            Ok(kept) => WaitingJson::new(number, Some(&kept.message), "waiting", None),
            Err(text) => WaitingJson::of(number, None, &Verdict::Broken(text)),
        };
        out.item(&item, WaitingJson::line)?;
    }
    Ok(())
}

/// Sends all; fails as the first that did not go.
async fn send(client: &Client, outbox: &Outbox, out: &mut Output) -> Result<(), Failure> {
    let (mut printed, mut first) = (Ok(()), None);
    let told = |number: u64, kept: Option<&Kept>, verdict: Verdict| {
        let message = kept.map(|kept| &kept.message);
        if printed.is_ok() {
            printed = match (&verdict, message) {
                (Verdict::Sent(sent), Some(message)) => SentJson::of(sent, &message.to).print(out),
                _ => out.item(&WaitingJson::of(number, message, &verdict), WaitingJson::line),
            };
        }
        if !matches!(verdict, Verdict::Sent(_)) {
            first.get_or_insert(verdict);
        }
        false
    };
    client.send_outbox(outbox, told).await?;
    printed?;
    match first {
        None => Ok(()),
        Some(Verdict::Waits(error)) => Err(error.into()),
        Some(Verdict::Failed(error)) => Err(ClientError::Answered(error).into()),
        Some(_) => Err(Failure::Ended {
            message: "the outbox has messages that are not sent by themselves; impp outbox list \
                      shows them"
                .to_owned(),
            name: "outbox",
        }),
    }
}

impl WaitingJson {
    /// What became of a message that did not go.
    pub(super) fn of(number: u64, message: Option<&Message>, verdict: &Verdict) -> WaitingJson {
        let (outcome, cause) = match verdict {
            Verdict::Sent(sent) => (sent.outcome.as_str(), None),
            Verdict::Failed(error) => ("failed", Some(error.to_string())),
            Verdict::Unknown => ("unknown", None),
            Verdict::Another(writer) => ("another", Some(format!("written as {writer}"))),
            Verdict::Waits(error) => ("waiting", Some(error.to_string())),
            Verdict::Broken(text) => ("broken", Some(text.clone())),
        };
        WaitingJson::new(number, message, outcome, cause)
    }

    pub(super) fn new(
        number: u64,
        message: Option<&Message>,
        outcome: &'static str,
        cause: Option<String>,
    ) -> WaitingJson {
        let body = message.map(|message| &message.body);
        let text = body.and_then(|body| std::str::from_utf8(body).ok()).map(str::to_owned);
        let octets = body.filter(|_| text.is_none());
        WaitingJson {
            number,
            // It has none before it was tried.
            id: message.filter(|m| m.id.time().is_some()).map(|m| m.id.to_string()),
            to: message.map(|message| message.to.to_string()),
            outcome,
            created: message.and_then(|message| message.created).map(|time| time.to_string()),
            body_base64: octets.map(|body| STANDARD.encode(body)),
            body: text,
            cause,
        }
    }

    pub(super) fn line(&self) -> String {
        let to = self.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
        let body = self.body.as_ref().map(|body| format!("  {}", in_line(body)));
        let cause = self.cause.as_ref().map(|cause| format!(" ({})", in_line(cause)));
        let (body, cause) = (body.unwrap_or_default(), cause.unwrap_or_default());
        format!("{}  {}{to}{cause}{body}", self.number, self.outcome)
    }
}
