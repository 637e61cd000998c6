//! What rules would do: what a question supposes, `impp rules view-as`, and an answer as `test` and
//! `set --dry-run` look at it. It is the server that decides, as it would if it were so; nothing
//! here reads rules.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use impp_client::protocol::state::{Explanation, SubscriptionState};
use impp_client::protocol::{Address, Code, Timestamp};
use impp_client::{Client, ClientError, ExplainKind, Supposed};
use serde::Serialize;

use super::{Watcher, rules};
use crate::document::{self, DocumentJson};
use crate::output::{Output, printable};
use crate::report::Failure;

/// What a question supposes.
#[derive(Debug, clap::Args)]
pub(crate) struct Suppose {
    /// As if these were the rules: a file, in TOML.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// As if it were this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
    /// As if you were in this sphere; "" for in none.
    #[arg(long, value_name = "SPHERE")]
    sphere: Option<String>,
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "expected RFC 3339, as 2026-12-01T08:00:00Z".to_owned())
}

impl Suppose {
    /// What is supposed of this owner's rules, if they are another's.
    pub(super) fn read(&self, owner: Option<&Address>) -> Result<Supposed, Failure> {
        let rules = self.rules.as_deref().map(rules::read).transpose()?;
        let (at, sphere, owner) = (self.at, self.sphere.clone(), owner.cloned());
        Ok(Supposed { rules, at, sphere, owner })
    }

    /// An error of the server's, which may be about the file.
    pub(super) fn located(&self, error: ClientError) -> Failure {
        match &self.rules {
            Some(file) => rules::located(error, file),
            None => error.into(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ViewAs {
    #[command(flatten)]
    who: Watcher,
    /// As who looks once sees it, not as who follows.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    suppose: Suppose,
}

#[derive(Serialize)]
struct ViewJson {
    watcher: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentJson>,
    /// Fields that they see and you do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

impl ViewAs {
    pub(super) async fn run(
        &self,
        owner: Option<&Address>,
        client: &Client,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let supposed = self.suppose.read(owner)?;
        let seen = client.view_as(&self.who.address, self.once, &supposed).await;
        let (seen, names) = seen.map_err(|error| self.suppose.located(error))?;
        let (version, document) = seen.content.unzip();
        let item = ViewJson {
            watcher: self.who.address.to_string(),
            state: seen.state.as_str(),
            version: version.map(|version| version.to_string()),
            document: document.as_ref().map(DocumentJson::of),
            names,
        };
        out.item(&item, |item| match (&document, seen.state) {
            (Some(document), _) => {
                let (line, lines) = (document::line(document), document::lines(document));
                let hidden = match item.names.is_empty() {
                    true => String::new(),
                    false => format!("\nand, which you do not see: {}", item.names.join(", ")),
                };
                let who = owner.map_or("you are".to_owned(), |owner| format!("{owner} is"));
                format!("to {} {who} {line}\n{lines}{}", item.watcher, printable(&hidden))
            }
            (None, SubscriptionState::Pending) => {
                format!("{} waits for a decision, and sees nothing", item.watcher)
            }
            (None, _) => format!("{} is refused", item.watcher),
        })
    }
}

/// What becomes of one purpose of somebody's.
#[derive(Debug, PartialEq)]
pub(super) struct Ruling {
    pub(super) purpose: &'static str,
    pub(super) decision: String,
    pub(super) fields: BTreeSet<String>,
    /// What selects the parts of the document.
    pub(super) parts: BTreeSet<String>,
}

impl Ruling {
    /// Of who follows, and of who looks once.
    pub(super) fn access(told: Explanation) -> [Ruling; 2] {
        [
            Ruling {
                purpose: "subscribe",
                decision: told.decision,
                fields: told.fields.into_iter().collect(),
                parts: told.parts.into_iter().collect(),
            },
            Ruling {
                purpose: "fetch",
                decision: told.fetch_decision.unwrap_or_default(),
                fields: told.fetch_fields.into_iter().collect(),
                parts: told.fetch_parts.into_iter().collect(),
            },
        ]
    }

    /// Of who writes.
    pub(super) fn delivery(told: Explanation) -> Ruling {
        let decision = match told.rate {
            Some(rate) => format!("{}, at most {rate}", told.decision),
            None => told.decision,
        };
        let (fields, parts) = (BTreeSet::new(), BTreeSet::new());
        Ruling { purpose: "message", decision, fields, parts }
    }
}

/// Longest that is waited for the server's leave to go on.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long, where it does not say.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// One of many questions about rules.
pub(super) async fn explained(
    client: &Client,
    who: &Address,
    kind: ExplainKind,
    supposed: &Supposed,
) -> Result<Explanation, ClientError> {
    patiently(|| client.explain(who, kind, supposed)).await
}

/// Asks again where only too much was asked in too short a time, when the server says so: who is
/// one of many to be asked about is not left out.
pub(super) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match pause(&error) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}

fn pause(error: &ClientError) -> Option<Duration> {
    match error {
        ClientError::Answered(answer) if answer.code == Code::RateLimited => {
            let pause = answer.retry_after.unwrap_or_default().max(PAUSE_DEFAULT);
            Some(pause).filter(|pause| *pause <= PAUSE_MAX)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use impp_client::protocol::Error;

    use super::*;

    async fn asked(refusals: &[Error]) -> (Result<usize, ClientError>, usize, Duration) {
        let (asked, begun) = (Cell::new(0), tokio::time::Instant::now());
        let answered = patiently(|| {
            let number = asked.replace(asked.get() + 1);
            let refusal = refusals.get(number).cloned();
            async move { refusal.map_or(Ok(number), |error| Err(ClientError::Answered(error))) }
        });
        (answered.await, asked.get(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_much_waits_as_told_and_goes_on() {
        let limited = |seconds| {
            let error = Error::new(Code::RateLimited, "later");
            error.retry_after(Duration::from_secs(seconds))
        };
        let (answer, times, took) = asked(&[limited(3), limited(2)]).await;
        assert_eq!((answer.unwrap(), times), (2, 3));
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
        let unsaid = Error::new(Code::RateLimited, "later");
        let (answer, times, took) = asked(&[unsaid]).await;
        assert_eq!((answer.unwrap(), times), (1, 2));
        assert!(took >= PAUSE_DEFAULT, "{took:?}");
        for gone in [limited(3600), Error::new(Code::Malformed, "line 1: no")] {
            let (answer, times, took) = asked(&[gone]).await;
            assert!(answer.is_err() && times == 1 && took.is_zero());
        }
    }
}
