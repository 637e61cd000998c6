//! `impp outbox`: what was written with `--later`, messages and edits of the contact list, and has not been
//! taken yet.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use impp_client::outbox::{Edit, Entry, Kept, Outbox, State, Verdict, Written};
use impp_client::protocol::state::Following;
use impp_client::protocol::{Address, Code};
use impp_client::{Client, ClientError, local_time};
use serde::Serialize;

use super::later;
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
    /// Let a message or edit be sent as a new one: one that failed, or one of which is not known whether it
    /// was taken (a message may come twice then). An edit is made on the contact list as it was last shown.
    Again {
        /// Its number in the list.
        number: u64,
    },
    /// Take a message or edit out.
    Remove {
        /// Its number in the list.
        number: u64,
    },
}

/// A message or edit that waits, or why it does not go.
#[derive(Default, Serialize)]
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
    /// What is changed, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<EditJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// An edit of the contact list.
#[derive(Default, Serialize)]
struct EditJson {
    address: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    follow: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    /// When it was tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    tried: Option<String>,
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
            Ok(Kept { written, state: State::Failed(error), .. }) => {
                WaitingJson::of(number, Some(&written), &Verdict::Failed(error))
            }
            Ok(Kept { written, state: State::Dropped, .. }) => {
                WaitingJson::of(number, Some(&written), &Verdict::Dropped)
            }
            Ok(kept) if kept.is_unknown(now) => {
                WaitingJson::of(number, Some(&kept.written), &Verdict::Unknown)
            }
            Ok(kept) => WaitingJson::new(number, Some(&kept.written), "waiting", None),
            Err(text) => WaitingJson::of(number, None, &Verdict::Broken(text)),
        };
        out.item(&item, WaitingJson::line)?;
    }
    Ok(())
}

/// Sends all; fails as the first that did not go.
async fn send(client: &Client, outbox: &Outbox, out: &mut Output) -> Result<(), Failure> {
    let (mut printed, mut first, mut asked) = (Ok(()), None, Vec::new());
    let told = |number: u64, kept: Option<&Kept>, verdict: Verdict| {
        let written = kept.map(|kept| &kept.written);
        if printed.is_ok() {
            printed = match (&verdict, written) {
                (Verdict::Sent(sent), Some(Written::Message(message))) => {
                    SentJson::of(sent, &message.to).print(out)
                }
                _ => out.item(&WaitingJson::of(number, written, &verdict), WaitingJson::line),
            };
        }
        asked.extend(written.and_then(|written| in_conflict(written, &verdict)));
        if !verdict.is_done() {
            first.get_or_insert(verdict);
        }
        false
    };
    client.send_outbox(outbox, told).await?;
    printed?;
    out.flush()?;
    for address in &asked {
        later::show_anew(client, address, out).await;
    }
    match first {
        None => Ok(()),
        Some(Verdict::Waits(error)) => Err(error.into()),
        Some(Verdict::Failed(error)) => Err(ClientError::Answered(error).into()),
        Some(_) => Err(Failure::Ended {
            message:
                "the outbox has something that is not sent by itself; impp outbox list shows it"
                    .to_owned(),
            name: "outbox",
        }),
    }
}

/// Whose entry an edit was to change that cannot be changed as the list is now.
pub(super) fn in_conflict(written: &Written, verdict: &Verdict) -> Option<Address> {
    let Written::Edit(edit) = written else { return None };
    let is_in_conflict = match verdict {
        Verdict::Dropped => true,
        Verdict::Failed(error) => error.code == Code::Conflict,
        _ => false,
    };
    edit.address().filter(|_| is_in_conflict).cloned()
}

impl WaitingJson {
    /// What became of what did not go, or of an edit.
    pub(super) fn of(number: u64, written: Option<&Written>, verdict: &Verdict) -> WaitingJson {
        let (outcome, cause) = match verdict {
            Verdict::Sent(sent) => (sent.outcome.as_str(), None),
            Verdict::Changed => ("done", None),
            Verdict::Gone => ("done", Some("it was no contact any more".to_owned())),
            Verdict::Failed(error) => ("failed", Some(error.to_string())),
            Verdict::Dropped => {
                ("dropped", Some("the entry was removed since; nothing changed".to_owned()))
            }
            Verdict::Unknown => ("unknown", None),
            Verdict::Another(writer) => ("another", Some(format!("written as {writer}"))),
            Verdict::Waits(error) => ("waiting", Some(error.to_string())),
            Verdict::Broken(text) => ("broken", Some(text.clone())),
        };
        WaitingJson::new(number, written, outcome, cause)
    }

    pub(super) fn new(
        number: u64,
        written: Option<&Written>,
        outcome: &'static str,
        cause: Option<String>,
    ) -> WaitingJson {
        let told = WaitingJson { number, outcome, cause, ..WaitingJson::default() };
        match written {
            None => told,
            Some(Written::Edit(edit)) => {
                WaitingJson { changed: Some("contacts"), edit: Some(EditJson::of(edit)), ..told }
            }
            Some(Written::Message(message)) => {
                let text = std::str::from_utf8(&message.body).ok().map(str::to_owned);
                let octets = Some(&message.body).filter(|_| text.is_none());
                WaitingJson {
                    // It has none before it was tried.
                    id: message.id.time().map(|_| message.id.to_string()),
                    to: Some(message.to.to_string()),
                    created: message.created.map(|time| time.to_string()),
                    body_base64: octets.map(|body| STANDARD.encode(body)),
                    body: text,
                    ..told
                }
            }
        }
    }

    /// Whether it goes by itself, when it can.
    pub(super) fn waits(&self) -> bool {
        self.outcome == "waiting"
    }

    pub(super) fn line(&self) -> String {
        let to = self.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
        let to = self.edit.as_ref().map(EditJson::line).unwrap_or(to);
        let body = self.body.as_ref().map(|body| format!("  {}", in_line(body)));
        let cause = self.cause.as_ref().map(|cause| format!(" ({})", in_line(cause)));
        let (body, cause) = (body.unwrap_or_default(), cause.unwrap_or_default());
        format!("{}  {}{to}{cause}{body}", self.number, self.outcome)
    }
}

impl EditJson {
    fn of(edit: &Edit) -> EditJson {
        let address = edit.address().map(ToString::to_string).unwrap_or_default();
        let tried = edit.tried.map(|time| time.to_string());
        let said = EditJson { address, base: edit.base, tried, ..EditJson::default() };
        match &edit.change.change {
            Some(change) => EditJson {
                name: change.name.clone(),
                more_groups: change.more_groups.clone(),
                follow: change.follow.map(|follow| follow == Following::Yes),
                ..said
            },
            None => EditJson { remove: edit.change.remove.is_some(), ..said },
        }
    }

    fn line(&self) -> String {
        if self.remove {
            return format!(": {} out of the contact list", self.address);
        }
        let mut line = format!(": {} in the contact list", self.address);
        if let Some(name) = &self.name {
            line.push_str(&format!(" as {}", in_line(name)));
        }
        if !self.more_groups.is_empty() {
            line.push_str(&format!(", in {}", in_line(&self.more_groups.join(", "))));
        }
        match self.follow {
            Some(true) => line.push_str(", followed"),
            Some(false) => line.push_str(", not followed"),
            None => {}
        }
        line
    }
}
