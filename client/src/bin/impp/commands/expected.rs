//! `impp rules test`: what a file expects of rules.
//!
//! It is the server that is asked what they do.

use std::path::PathBuf;

use impp_client::protocol::presence::FieldName;
use impp_client::protocol::{Address, Timestamp};
use impp_client::{Client, ExplainKind, Supposed};
use serde::{Deserialize, Serialize};

use super::supposed::{Ruling, explained, time};
use super::{rules, status};
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
    pub(super) async fn run(
        &self,
        owner: Option<&Address>,
        client: &Client,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let Expectations { expect } = toml::from_str(&rules::read(&self.file)?)
            .map_err(|error| self.unreadable(error.to_string().trim()))?;
        // Before anything is asked: what cannot fail would pass for ever.
        if expect.is_empty() {
            return Err(self.unreadable("no [[expect]]: nothing is expected"));
        }
        for (number, expected) in (1..).zip(&expect) {
            expected.usable().map_err(|wrong| {
                self.unreadable(&format!("[[expect]] {number}, of {}: {wrong}", expected.who))
            })?;
        }
        let rules = self.rules.as_deref().map(rules::read).transpose()?;
        let tried = Supposed { rules, owner: owner.cloned(), ..Supposed::default() };
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
        tried: Supposed,
        client: &Client,
    ) -> Result<TestedJson, Failure> {
        let unusable = |wrong: String| self.unreadable(&wrong);
        let (who, at) = expected.whom_and_when().map_err(unusable)?;
        let sphere = expected.sphere.clone();
        let supposed = Supposed { at, sphere, ..tried };
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
    /// About whom it is, and when.
    fn whom_and_when(&self) -> Result<(Address, Option<Timestamp>), String> {
        let who = self.who.parse().map_err(|wrong| format!("who: \"{}\": {wrong}", self.who))?;
        let at = self.at.as_deref().map(time).transpose();
        Ok((who, at.map_err(|wrong| format!("at: {wrong}"))?))
    }

    /// Whether it can fail.
    fn usable(&self) -> Result<(), String> {
        self.whom_and_when()?;
        if self.handling.is_none() && self.fields.is_empty() && self.not_fields.is_empty() {
            return Err("expects nothing: no handling, no fields, no not_fields".to_owned());
        }
        // A handling that there is not never comes true, whatever the rules say.
        if let Some(word) = self.handling.iter().find(|word| !HANDLINGS.contains(&&***word)) {
            return Err(format!("unknown handling \"{word}\", one of: {}", HANDLINGS.join(", ")));
        }
        let wrong = |field: &&String| {
            let stepped = field.split_once(':');
            let stepped =
                stepped.is_some_and(|(name, step)| name == STEPPED && STEPS.contains(&step));
            !(stepped || *field == "all" || FieldName::parse(field).is_some())
        };
        match self.fields.iter().chain(&self.not_fields).find(wrong) {
            Some(field) => Err(format!("unknown field \"{field}\", {}", status::meant(field))),
            None => Ok(()),
        }
    }

    /// What is otherwise.
    fn wrong(&self, ruling: &Ruling) -> Vec<String> {
        let all = ruling.fields.contains("all");
        // What is shown of a field may be more than a step of it.
        let shown = |field: &String| {
            let (name, step) = stepped(field);
            let enough = |own: &String| stepped(own).0 == name && stepped(own).1 >= step;
            all || ruling.fields.iter().any(enough)
        };
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

/// What can become of somebody who follows or looks.
const HANDLINGS: [&str; 4] = ["block", "confirm", "polite-block", "allow"];
/// The one field that is shown in steps, and what is less than all of it, the least first.
const STEPPED: &str = "user-input";
const STEPS: [&str; 2] = ["bare", "thresholds"];

/// A field's name, and how much of it.
fn stepped(word: &str) -> (&str, usize) {
    let (name, step) = word.split_once(':').unwrap_or((word, ""));
    (name, STEPS.iter().position(|own| *own == step).unwrap_or(STEPS.len()))
}

impl TestedJson {
    fn text(&self) -> String {
        let mark = if self.ok { "ok" } else { "FAILED" };
        let wrong: String = self.wrong.iter().map(|wrong| format!("\n  {wrong}")).collect();
        printable(&format!("{mark}: {} ({}){wrong}", self.who, self.purpose))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whom_it_is_about_is_an_address() {
        let nobody: Expect = toml::from_str("who = \"bob\"\nhandling = \"allow\"").unwrap();
        assert!(nobody.usable().unwrap_err().starts_with("who: \"bob\": no domain"));
    }

    fn expect(text: &str) -> Expect {
        toml::from_str(&format!("who = \"bob@a.example\"\n{text}")).unwrap()
    }

    #[test]
    fn what_cannot_fail_is_refused() {
        for text in [
            "handling = \"allow\"",
            "fields = [\"status\", \"org.example.seat\"]",
            "not_fields = [\"user-input:bare\", \"user-input:thresholds\"]",
            "not_fields = [\"all\"]",
        ] {
            assert_eq!(expect(text).usable(), Ok(()), "{text}");
        }
        for (text, words) in [
            ("", "expects nothing"),
            ("at = \"tomorrow\"\nhandling = \"allow\"", "at: expected RFC 3339"),
            ("at = \"2026-12-06T00:00:00Z\"\nsphere = \"work\"", "expects nothing"),
            ("handling = \"alow\"", "unknown handling \"alow\", one of: block, confirm,"),
            ("not_fields = [\"mooood\"]", "unknown field \"mooood\", did you mean \"mood\"?"),
            ("fields = [\"status\", \"notes\"]", "did you mean \"note\"?"),
            ("not_fields = [\"Mood\"]", "unknown field \"Mood\""),
            ("not_fields = [\"seat\"]", "your own fields are named by a domain"),
            ("not_fields = [\"user-input:bar\"]", "unknown field \"user-input:bar\""),
            ("not_fields = [\"user-input:full\"]", "unknown field \"user-input:full\""),
            ("not_fields = [\"mood:bare\"]", "unknown field \"mood:bare\""),
        ] {
            let wrong = expect(text).usable().unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_step_of_a_field_is_seen_where_more_of_it_is() {
        let wrong = |text: &str, shown: &str| {
            let fields = BTreeSet::from([shown.to_owned()]);
            let (decision, parts) = ("allow".to_owned(), BTreeSet::new());
            expect(text).wrong(&Ruling { purpose: "subscribe", decision, fields, parts })
        };
        let bare = "not_fields = [\"user-input:bare\"]";
        for shown in ["user-input:bare", "user-input:thresholds", "user-input", "all"] {
            assert_eq!(wrong(bare, shown), ["sees user-input:bare"], "{shown}");
        }
        assert!(wrong(bare, "note").is_empty());
        assert!(wrong("not_fields = [\"user-input:thresholds\"]", "user-input:bare").is_empty());
        let whole = "fields = [\"user-input\"]";
        assert_eq!(wrong(whole, "user-input:bare"), ["does not see user-input"]);
        assert!(wrong(whole, "user-input").is_empty());
        assert_eq!(wrong("not_fields = [\"user-input\"]", "user-input:bare"), ["sees user-input"]);
    }
}
