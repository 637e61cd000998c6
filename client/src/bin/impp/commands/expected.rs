//! `impp rules test`: what a file expects of rules.
//!
//! It is the server that is asked what they do.

use std::path::PathBuf;

use impp_client::protocol::Address;
use impp_client::{Client, ExplainKind, Supposed};
use serde::{Deserialize, Serialize};

use super::rules;
use super::supposed::{Ruling, explained, time};
use crate::output::{Output, printable};
use crate::report::Failure;

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
        let told = explained(client, &who, ExplainKind::Access, &supposed).await;
        let told = told.map_err(|error| match &self.rules {
            Some(file) => rules::located(error, file),
            None => error.into(),
        })?;
        let [follow, once] = Ruling::access(told);
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
