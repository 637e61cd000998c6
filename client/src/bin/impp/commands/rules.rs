//! `impp rules`: who may see what and who may write to one; what the rules say about somebody.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use impp_client::protocol::state::Explanation;
use impp_client::protocol::{Address, Code};
use impp_client::{Client, ClientError, ExplainKind};
use serde::Serialize;
use serde_json::Value;

use super::{Watcher, dry_run, expected, supposed};
use crate::output::{Output, printable};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// The rules as they are, in TOML.
    Show,
    /// Replace them by those in a file.
    Set(Set),
    /// What somebody sees, and which rules say so.
    Explain(Explain),
    /// Your presence as somebody sees it.
    ViewAs(supposed::ViewAs),
    /// Whether the rules do what a file expects of them.
    Test(expected::Test),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The file, in TOML.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The version that the change starts from; without it the one that there is now.
    #[arg(long, value_name = "VERSION")]
    base: Option<u64>,
    /// Changes nothing: for whom something would be otherwise.
    #[arg(long, conflicts_with = "base")]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    who: Watcher,
    /// Whether they may write to you, instead of what they see.
    #[arg(long)]
    delivery: bool,
    #[command(flatten)]
    supposed: supposed::Suppose,
}

/// Largest file of rules that is read; more does not fit into a frame.
const RULES_BYTES_MAX: u64 = 60 * 1024;

#[derive(Serialize)]
struct VersionJson {
    version: String,
}

#[derive(Serialize)]
struct ExplanationJson {
    owner: String,
    watcher: String,
    /// What becomes of who follows, or of messages.
    #[serde(flatten)]
    ruling: RulingJson,
    /// The same of who looks once; not for delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch: Option<RulingJson>,
}

#[derive(PartialEq, Serialize)]
struct RulingJson {
    decision: String,
    fields: Vec<String>,
    rules: Vec<RuleJson>,
}

#[derive(PartialEq, Serialize)]
struct RuleJson {
    id: String,
    matched: bool,
    why: String,
    grants: Vec<String>,
}

pub(crate) async fn run(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    let another = owner;
    let owner = another.unwrap_or(client.address());
    match args {
        Args::Show => {
            let (rules, version) = client.rules_for(owner).await?;
            out.item(&object(&rules, version)?, |_| rules)
        }
        Args::Set(set) => {
            let rules = read(&set.file)?;
            if set.dry_run {
                return dry_run::run(&set.file, rules, another, client, out).await;
            }
            let base = match set.base {
                Some(base) => base,
                None => client.rules_for(owner).await?.1,
            };
            let changed = client.set_rules_for(owner, &rules, base).await;
            let version = changed.map_err(|error| located(error, &set.file))?;
            out.item(&VersionJson { version: version.to_string() }, |item| {
                format!("the rules are of version {} now", item.version)
            })
        }
        Args::Explain(explain) => {
            let kind = match explain.delivery {
                true => ExplainKind::Delivery,
                false => ExplainKind::Access,
            };
            let (who, supposed) = (&explain.who.address, explain.supposed.read(another)?);
            let explanation = client.explain(who, kind, &supposed).await;
            out.item(&json(explanation.map_err(|error| explain.supposed.located(error))?), text)
        }
        Args::ViewAs(view) => view.run(another, client, out).await,
        Args::Test(test) => test.run(another, client, out).await,
    }
}

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let fail = |error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}"));
    let length = std::fs::metadata(file).map_err(fail)?.len();
    if length > RULES_BYTES_MAX {
        let text = format!("{name}: {length} bytes, at most {RULES_BYTES_MAX} are taken");
        return Err(Failure::usage(text));
    }
    std::fs::read_to_string(file).map_err(fail)
}

/// Rules that the server cannot read are a fault of the file: `F:LINE: …`.
pub(super) fn located(error: ClientError, file: &Path) -> Failure {
    let mut answer = match error {
        ClientError::Answered(answer) if answer.code == Code::Malformed => answer,
        other => return other.into(),
    };
    let text = answer.text.as_deref().unwrap_or("malformed");
    let (what, hint) = match text.split_once("\nhint: ") {
        Some((what, hint)) => (what, Some(hint.trim().to_owned())),
        None => (text, None),
    };
    let numbered = what.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let message = match numbered {
        Some((line, what)) if line.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{}:{line}: {what}", file.display())
        }
        _ => format!("{}: {what}", file.display()),
    };
    answer.text = Some(message);
    Failure::Unreadable { answer: Box::new(answer), hint }
}

/// The rules as an object, with their version.
fn object(rules: &str, version: u64) -> Result<Value, Failure> {
    let broken = |error: toml::de::Error| {
        ClientError::Protocol(format!("rules that are no TOML: {}", error.message()))
    };
    let table: toml::Table = rules.parse().map_err(broken)?;
    let mut object = value(toml::Value::Table(table));
    if let Value::Object(entries) = &mut object {
        entries.insert("version".to_owned(), version.to_string().into());
    }
    Ok(object)
}

fn value(toml: toml::Value) -> Value {
    match toml {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(value).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, entry)| (key, value(entry))).collect())
        }
    }
}

fn json(explanation: Explanation) -> ExplanationJson {
    let rule = |rule: impp_client::protocol::state::RuleTrace| RuleJson {
        id: rule.id,
        matched: rule.matched,
        why: rule.why,
        grants: rule.grants,
    };
    let fetch = explanation.fetch_decision.map(|decision| RulingJson {
        decision,
        fields: explanation.fetch_fields,
        rules: explanation.fetch_rules.into_iter().map(rule).collect(),
    });
    ExplanationJson {
        owner: explanation.owner.to_string(),
        watcher: explanation.watcher.to_string(),
        ruling: RulingJson {
            decision: explanation.decision,
            fields: explanation.fields,
            rules: explanation.rules.into_iter().map(rule).collect(),
        },
        fetch,
    }
}

/// What becomes of somebody; twice where who follows and who looks once see different things.
fn text(item: &ExplanationJson) -> String {
    let watcher = &item.watcher;
    printable(&match item.fetch.as_ref().filter(|fetch| **fetch != item.ruling) {
        None => format!("{watcher}: {}", item.ruling.text()),
        Some(fetch) => format!(
            "{watcher} (to follow): {}\n{watcher} (to look once): {}",
            item.ruling.text(),
            fetch.text()
        ),
    })
}

impl RulingJson {
    fn text(&self) -> String {
        let mut text = self.decision.clone();
        if !self.fields.is_empty() {
            text.push_str(&format!(", sees {}", self.fields.join(", ")));
        }
        for rule in &self.rules {
            let mark = if rule.matched { '+' } else { '-' };
            text.push_str(&format!("\n{mark} {}: {}", rule.id, rule.why));
            if !rule.grants.is_empty() {
                text.push_str(&format!(" ({})", rule.grants.join(", ")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::Error;
    use impp_client::protocol::state::RuleTrace;

    fn told(text: &str) -> (String, Option<String>) {
        let error = ClientError::Answered(Error::new(Code::Malformed, text));
        match located(error, Path::new("r.toml")) {
            Failure::Unreadable { answer, hint } => (answer.text.unwrap(), hint),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_rules_are_named_by_file_and_line() {
        let (message, hint) = told("line 7: unknown key \"whoo\"\nhint: did you mean \"who\"?");
        assert_eq!(message, "r.toml:7: unknown key \"whoo\"");
        assert_eq!(hint.as_deref(), Some("did you mean \"who\"?"));
        assert_eq!(told("two rules \"a\"").0, "r.toml: two rules \"a\"");
        let conflict = ClientError::Answered(Error::new(Code::Conflict, "newer"));
        assert!(matches!(located(conflict, Path::new("r")), Failure::Client(_)));
    }

    #[test]
    fn rules_are_an_object_with_their_version() {
        let rules = "[groups]\nf = [\"b@a\"]\n[[rule]]\nid = \"x\"\nvalid = [2026-12-01]\n";
        let object = object(rules, 3).unwrap();
        assert_eq!(object["groups"]["f"][0], "b@a");
        assert_eq!(object["rule"][0]["valid"][0], "2026-12-01");
        assert_eq!(object["version"], "3");
    }

    #[test]
    fn an_explanation_is_as_in_the_contract() {
        let explanation = Explanation {
            owner: "alice@a.example".parse().unwrap(),
            watcher: "bob@a.example".parse().unwrap(),
            decision: "allow".to_owned(),
            fields: vec!["status".to_owned()],
            rules: vec![RuleTrace {
                id: "friends".to_owned(),
                matched: true,
                why: "in group friends".to_owned(),
                grants: vec!["status".to_owned()],
            }],
            fetch_decision: None,
            fetch_fields: vec![],
            fetch_rules: vec![],
            parts: vec![],
            fetch_parts: vec![],
            rate: None,
        };
        let apart = Explanation { fetch_decision: Some("block".to_owned()), ..explanation.clone() };
        assert_eq!(
            text(&json(apart)),
            concat!(
                "bob@a.example (to follow): allow, sees status\n+ friends: in group friends (status)",
                "\nbob@a.example (to look once): block"
            )
        );
        let item = json(explanation);
        assert_eq!(
            serde_json::to_string(&item).unwrap(),
            concat!(
                r#"{"owner":"alice@a.example","watcher":"bob@a.example","decision":"allow","#,
                r#""fields":["status"],"rules":[{"id":"friends","matched":true,"#,
                r#""why":"in group friends","grants":["status"]}]}"#
            )
        );
        assert_eq!(
            text(&item),
            "bob@a.example: allow, sees status\n+ friends: in group friends (status)"
        );
    }
}
