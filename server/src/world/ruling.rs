//! Rules as people ask for them, and what a watcher sees by them, reckoned from docs/rules.md and
//! docs/protocol.md alone.

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::Address;
use impp_protocol::presence::{Document, FieldName, Fields, PartId};

use super::facts::Place;

/// The sphere by which some rules go, and another one.
const WORK: &str = "work";
pub(super) const SPHERES: [&str; 2] = [WORK, "home"];

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
#[derive(Clone, Debug, Default)]
pub(super) struct Ruling {
    /// What they make of whom.
    pub grants: BTreeMap<Address, Grant>,
    /// To whom all is shown while the owner is at work.
    pub at_work: BTreeSet<Address>,
    /// Whose messages wait for a decision.
    pub(super) holds: BTreeSet<Address>,
    /// When they were first asked for; none of it holds before.
    pub asked: Option<u64>,
    /// When it was answered that they hold.
    pub acked: Option<u64>,
    /// Where they were asked for, the last time.
    pub place: Option<Place>,
    /// By when the server has begun with them, if they come to hold by what was asked for last; not
    /// known if that may wait for something else that its device has asked for.
    pub arrives_by: Option<u64>,
    /// Somebody was shown what these rules alone, which were not answered yet, let them see.
    pub relied_on: bool,
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
        for (index, who) in self.at_work.iter().enumerate() {
            let words = format!("sphere = [\"{WORK}\"]\n{}", Grant::All.words());
            text += &format!("[[rule]]\nid = \"s{index}\"\nwho = [\"{who}\"]\n{words}\n");
        }
        text
    }

    /// What they make of a watcher while the owner's document is this, of which all is to be seen.
    pub(super) fn grant(&self, watcher: &Address, document: &Document) -> Option<Grant> {
        let at_work = document.person.get(&sphere()).is_some_and(|sphere| **sphere == *WORK);
        match at_work && self.at_work.contains(watcher) {
            true => Some(Grant::All),
            false => self.grants.get(watcher).copied(),
        }
    }
}

/// One device's layer: its tuple, and a note and the sphere of the person, which is the last word of what
/// is said.
pub(super) fn layer(device: &str, value: &str) -> Document {
    let mut document = Document::default();
    document.person.insert(note(), value.into());
    let said = value.rsplit(' ').next().unwrap_or_default();
    document.person.insert(sphere(), said.into());
    let mut tuple = Fields::default();
    tuple.insert(FieldName::parse("status").unwrap(), "open".into());
    tuple.insert(note(), value.into());
    document.tuples.insert(PartId::parse(device).unwrap(), tuple);
    document
}

/// These layers together, the one published last at the end (docs/protocol.md, section 9).
pub(super) fn composed(layers: &[Document]) -> Document {
    let mut whole = Document::default();
    for layer in layers {
        whole.tuples.extend(layer.tuples.clone());
        whole.person.extend(layer.person.clone());
    }
    whole
}

/// What a watcher with this grant sees of these layers (docs/protocol.md, section 10).
pub(super) fn seen(layers: &[Document], grant: Grant) -> Document {
    let mut whole = composed(layers);
    match grant {
        Grant::All if !layers.is_empty() => whole,
        Grant::Status if !layers.is_empty() => {
            whole.person.clear();
            for (_, tuple) in whole.tuples.iter_mut() {
                tuple.remove(&note());
            }
            whole
        }
        _ => Document::offline(),
    }
}

/// The field of a note.
pub(super) fn note() -> FieldName {
    FieldName::parse("note").unwrap()
}

/// The field of a sphere.
fn sphere() -> FieldName {
    FieldName::parse("sphere").unwrap()
}
