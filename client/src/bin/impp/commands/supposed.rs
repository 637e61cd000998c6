//! What rules would do: what a question supposes, `impp rules view-as`, and an answer as `test` and
//! `set --dry-run` look at it. It is the server that decides, as it would if it were so; nothing
//! here reads rules.

use std::collections::BTreeSet;
use std::path::PathBuf;

use impp_client::protocol::state::{Explanation, SubscriptionState};
use impp_client::protocol::{Address, Timestamp};
use impp_client::{Client, ClientError, ExplainKind, Supposed};
use serde::Serialize;

use super::{Who, rules};
use crate::document::{self, DocumentJson};
use crate::output::Output;
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
    pub(super) fn read(&self) -> Result<Supposed, Failure> {
        let rules = self.rules.as_deref().map(rules::read).transpose()?;
        Ok(Supposed { rules, at: self.at, sphere: self.sphere.clone() })
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
    who: Who,
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
}

impl ViewAs {
    pub(super) async fn run(&self, client: &Client, out: &mut Output) -> Result<(), Failure> {
        let supposed = self.suppose.read()?;
        let seen = client.view_as(&self.who.address, self.once, &supposed).await;
        let seen = seen.map_err(|error| self.suppose.located(error))?;
        let (version, document) = seen.content.unzip();
        let item = ViewJson {
            watcher: self.who.address.to_string(),
            state: seen.state.as_str(),
            version: version.map(|version| version.to_string()),
            document: document.as_ref().map(DocumentJson::of),
        };
        out.item(&item, |item| match (&document, seen.state) {
            (Some(document), _) => {
                let line = document::line(document);
                format!("to {} you are {line}\n{}", item.watcher, document::lines(document))
            }
            (None, SubscriptionState::Pending) => {
                format!("{} waits for your decision, and sees nothing", item.watcher)
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

/// One of many questions about rules.
pub(super) async fn explained(
    client: &Client,
    who: &Address,
    kind: ExplainKind,
    supposed: &Supposed,
) -> Result<Explanation, ClientError> {
    client.explain(who, kind, supposed).await
}
