//! What has been asked and answered in a world, and what the specification makes of it. Nothing here
//! shares code with what decides, composes or filters presence in the server.

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::command::Outcome;
use impp_protocol::presence::{Document, FieldName, PartId};
use impp_protocol::{Address, Code};

/// What a ruling makes of one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// All is shown.
    All,
    /// Of the tuples their status, and no more.
    Status,
    /// Somebody is shown who is offline for ever.
    Polite,
    /// It waits for the owner.
    Confirm,
    /// It is refused.
    Block,
}

impl Grant {
    /// All of them.
    pub(super) const EVERY: [Grant; 5] =
        [Grant::All, Grant::Status, Grant::Polite, Grant::Confirm, Grant::Block];

    fn words(self) -> &'static str {
        match self {
            Grant::All => "handling = \"allow\"\nfields = [\"all\"]",
            Grant::Status => "handling = \"allow\"",
            Grant::Polite => "handling = \"polite-block\"",
            Grant::Confirm => "handling = \"confirm\"",
            Grant::Block => "handling = \"block\"",
        }
    }
}

/// Rules that an owner has asked for.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    /// What they make of whom.
    pub grants: BTreeMap<Address, Grant>,
    /// Whose messages wait for a decision.
    pub(super) holds: BTreeSet<Address>,
    /// When they were first asked for; none of it holds before.
    pub asked: Option<u64>,
    /// When it was answered that they hold.
    pub acked: Option<u64>,
}

impl Ruling {
    /// As a text (docs/rules.md).
    pub(super) fn text(&self) -> String {
        let held: Vec<String> = self.holds.iter().map(|who| format!("\"{who}\"")).collect();
        let held = held.join(", ");
        let mut text = format!(
            "[[delivery]]\nid = \"d\"\nwho = [\"authenticated\"]\nexcept = [{held}]\n\
             action = \"accept\"\n[[delivery]]\nid = \"h\"\nwho = [{held}]\naction = \"hold\"\n"
        );
        for (index, (who, grant)) in self.grants.iter().enumerate() {
            let words = grant.words();
            text += &format!("[[rule]]\nid = \"r{index}\"\nwho = [\"{who}\"]\n{words}\n");
        }
        text
    }
}

/// A message as its sender knows of it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Its id.
    pub id: [u8; 16],
    /// Who has written it.
    pub from: Address,
    /// On which device.
    pub device: String,
    /// To whom.
    pub to: Address,
    /// The last answer.
    pub answer: Option<Result<Outcome, Code>>,
    /// It was asked for again after an error that says nothing for good: its place among the others
    /// is then its own affair.
    pub again: bool,
}

/// What was published: when, by whom.
#[derive(Clone, Debug)]
struct Said {
    owner: Address,
    asked: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Facts {
    /// Messages in the order in which they were written.
    pub messages: Vec<Sent>,
    /// Rules in the order in which they were asked for.
    pub rulings: BTreeMap<Address, Vec<Ruling>>,
    said: BTreeMap<String, Said>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

/// The field of a note.
pub(super) fn note() -> FieldName {
    FieldName::parse("note").unwrap()
}

impl Facts {
    /// It must not have happened.
    pub(super) fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Somebody is about to publish this, a text that nobody else publishes.
    pub(super) fn says(&mut self, owner: &Address, value: &str, now: u64) {
        let said = || Said { owner: owner.clone(), asked: now };
        self.said.entry(value.to_owned()).or_insert_with(said);
    }

    /// A watcher is shown a document: it must be of that presentity, and some rules that may have held
    /// since it was published must have let the watcher see it.
    pub(super) fn shown(&mut self, watcher: &Address, of: &Address, document: &Document) {
        if watcher == of {
            return;
        }
        let (note, tuples) = (note(), document.tuples.values());
        let notes = tuples.chain([&document.person]).filter_map(|fields| fields.get(&note));
        for value in notes.map(ToString::to_string).collect::<Vec<_>>() {
            let Some(said) = self.said.get(&value) else {
                self.wrong(format!("{watcher} was shown \"{value}\", which nobody has said"));
                continue;
            };
            let (owner, asked) = (said.owner.clone(), said.asked);
            if owner != *of {
                self.wrong(format!("{watcher} was shown \"{value}\" of {owner} as {of}'s"));
            } else if !self.may_have_seen(watcher, of, asked) {
                self.wrong(format!("{watcher} was shown \"{value}\" of {of} against all rules"));
            }
        }
    }

    /// Whether rules that may have held at some time since then let a watcher see all.
    fn may_have_seen(&self, watcher: &Address, of: &Address, since: u64) -> bool {
        let rulings = self.rulings.get(of).map_or(&[][..], |rulings| rulings);
        rulings.iter().enumerate().any(|(index, ruling)| {
            // It was over for sure when later ones were answered.
            let over = rulings[index + 1..].iter().filter_map(|later| later.acked).min();
            ruling.asked.is_some()
                && over.is_none_or(|over| over >= since)
                && ruling.grants.get(watcher) == Some(&Grant::All)
        })
    }
}

/// One device's layer: its tuple, and a note of the person.
pub(super) fn layer(device: &str, value: &str) -> Document {
    let mut document = Document::default();
    document.person.insert(note(), value.into());
    let mut tuple = std::collections::BTreeMap::new();
    tuple.insert(FieldName::parse("status").unwrap(), "open".into());
    tuple.insert(note(), value.into());
    document.tuples.insert(PartId::parse(device).unwrap(), tuple);
    document
}

/// What a watcher with this grant sees of these layers, the one published last at the end
/// (docs/protocol.md, sections 9 and 10).
pub(super) fn seen(layers: &[Document], grant: Grant) -> Document {
    let mut whole = Document::default();
    for layer in layers {
        whole.tuples.extend(layer.tuples.clone());
        whole.person.extend(layer.person.clone());
    }
    match grant {
        Grant::All if !layers.is_empty() => whole,
        Grant::Status if !layers.is_empty() => {
            whole.person.clear();
            for tuple in whole.tuples.values_mut() {
                tuple.remove(&note());
            }
            whole
        }
        _ => Document::offline(),
    }
}
