//! What rules would do: `impp rules view-as`, `test`, `set --dry-run`. It is the server that decides,
//! as it would if it were so; nothing here reads rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use impp_client::protocol::state::{Explanation, SubscriptionState};
use impp_client::protocol::{Address, Timestamp};
use impp_client::{Client, ClientError, ExplainKind, Supposed};
use serde::{Deserialize, Serialize};

use super::{Who, rules};
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

fn time(text: &str) -> Result<Timestamp, String> {
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

/// Who would see more or less by other rules.
#[derive(Serialize)]
struct ChangeJson {
    watcher: String,
    purpose: &'static str,
    before: String,
    after: String,
    gains: Vec<String>,
    loses: Vec<String>,
}

/// What becomes of one purpose of somebody's.
struct Ruling {
    purpose: &'static str,
    decision: String,
    fields: BTreeSet<String>,
}

fn rulings(explanation: Explanation) -> [Ruling; 2] {
    let once = explanation.fetch_decision.unwrap_or_default();
    [
        Ruling {
            purpose: "subscribe",
            decision: explanation.decision,
            fields: explanation.fields.into_iter().collect(),
        },
        Ruling {
            purpose: "fetch",
            decision: once,
            fields: explanation.fetch_fields.into_iter().collect(),
        },
    ]
}

/// Asks about all who follow now, and all in the contact list.
pub(super) async fn dry_run(
    file: &Path,
    rules: String,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    let watchers = client.watchers().await?.into_iter().map(|entry| entry.watcher);
    let contacts = client.contacts().await?.into_iter().map(|contact| contact.address);
    let all: BTreeSet<Address> = watchers.chain(contacts).collect();
    let (now, then) = (Supposed::default(), Supposed { rules: Some(rules), ..Supposed::default() });
    // A file with a fault is refused though nobody is there to be asked about.
    let own = client.explain(client.address(), ExplainKind::Access, &then).await;
    own.map_err(|error| rules::located(error, file))?;
    let mut changed = 0;
    for who in &all {
        let before = client.explain(who, ExplainKind::Access, &now).await?;
        let after = client.explain(who, ExplainKind::Access, &then).await?;
        for (before, after) in rulings(before).into_iter().zip(rulings(after)) {
            if before.decision == after.decision && before.fields == after.fields {
                continue;
            }
            changed += 1;
            let item = ChangeJson {
                watcher: who.to_string(),
                purpose: before.purpose,
                gains: after.fields.difference(&before.fields).cloned().collect(),
                loses: before.fields.difference(&after.fields).cloned().collect(),
                before: before.decision,
                after: after.decision,
            };
            out.item(&item, ChangeJson::text)?;
        }
    }
    if changed == 0 {
        out.note(&format!("nothing changes for the {} who follow or are contacts", all.len()));
    }
    Ok(())
}

impl ChangeJson {
    fn text(&self) -> String {
        let marked = |mark: char, fields: &[String]| -> String {
            fields.iter().map(|field| format!(" {mark}{field}")).collect()
        };
        let (gains, loses) = (marked('+', &self.gains), marked('-', &self.loses));
        let decision = match self.before == self.after {
            true => self.after.clone(),
            false => format!("{} becomes {}", self.before, self.after),
        };
        printable(&format!("{} ({}): {decision}{gains}{loses}", self.watcher, self.purpose))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// The file of expectations, in TOML: `[[expect]]` with who, and any of purpose, at, sphere,
    /// handling, fields, not_fields.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The rules to be tried, instead of those that there are.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    expect: Vec<Expect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    who: String,
    #[serde(default)]
    purpose: Purpose,
    at: Option<String>,
    sphere: Option<String>,
    handling: Option<String>,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    not_fields: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    #[default]
    Subscribe,
    Fetch,
}

#[derive(Serialize)]
struct TestedJson {
    who: String,
    purpose: &'static str,
    ok: bool,
    handling: String,
    fields: Vec<String>,
    wrong: Vec<String>,
}

impl Test {
    pub(super) async fn run(&self, client: &Client, out: &mut Output) -> Result<(), Failure> {
        let Expectations { expect } = toml::from_str(&rules::read(&self.file)?)
            .map_err(|error| self.unreadable(error.to_string().trim()))?;
        let tried = self.rules.as_deref().map(rules::read).transpose()?;
        let mut failed = 0;
        for expected in &expect {
            let item = self.try_one(expected, tried.clone(), client).await?;
            failed += usize::from(!item.ok);
            out.item(&item, TestedJson::text)?;
        }
        match failed {
            0 => Ok(()),
            _ => {
                let message = format!("{failed} of {} expectations do not hold", expect.len());
                Err(Failure::Ended { message, name: "not-as-expected" })
            }
        }
    }

    async fn try_one(
        &self,
        expected: &Expect,
        rules: Option<String>,
        client: &Client,
    ) -> Result<TestedJson, Failure> {
        let at = expected.at.as_deref().map(time).transpose();
        let at = at.map_err(|wrong| self.unreadable(&format!("at: {wrong}")))?;
        let who = expected.who.parse::<Address>();
        let who =
            who.map_err(|wrong| self.unreadable(&format!("who: \"{}\": {wrong}", expected.who)))?;
        let supposed = Supposed { rules, at, sphere: expected.sphere.clone() };
        let explained = client.explain(&who, ExplainKind::Access, &supposed).await;
        let explained = explained.map_err(|error| match &self.rules {
            Some(file) => rules::located(error, file),
            None => error.into(),
        })?;
        let [follow, once] = rulings(explained);
        let ruling = if expected.purpose == Purpose::Fetch { once } else { follow };
        let wrong = expected.wrong(&ruling);
        Ok(TestedJson {
            who: who.to_string(),
            purpose: ruling.purpose,
            ok: wrong.is_empty(),
            handling: ruling.decision,
            fields: ruling.fields.into_iter().collect(),
            wrong,
        })
    }

    fn unreadable(&self, what: &str) -> Failure {
        Failure::usage(format!("{}: {what}", self.file.display()))
    }
}

impl Expect {
    /// What is otherwise.
    fn wrong(&self, ruling: &Ruling) -> Vec<String> {
        let all = ruling.fields.contains("all");
        let shown = |field: &String| all || ruling.fields.contains(field);
        // Of a field of which less is shown than all, something is shown.
        let steps = |field: &String| {
            let step =
                |own: &String| own.strip_prefix(&**field).is_some_and(|s| s.starts_with(':'));
            ruling.fields.iter().any(step)
        };
        let handling = self.handling.iter().filter(|handling| **handling != ruling.decision);
        let hidden = self.fields.iter().filter(|field| !shown(field));
        let told = self.not_fields.iter().filter(|field| shown(field) || steps(field));
        handling
            .map(|handling| format!("handling is {}, not {handling}", ruling.decision))
            .chain(hidden.map(|field| format!("does not see {field}")))
            .chain(told.map(|field| format!("sees {field}")))
            .collect()
    }
}

impl TestedJson {
    fn text(&self) -> String {
        let mark = if self.ok { "ok" } else { "FAILED" };
        let wrong: String = self.wrong.iter().map(|wrong| format!("\n  {wrong}")).collect();
        printable(&format!("{mark}: {} ({}){wrong}", self.who, self.purpose))
    }
}
