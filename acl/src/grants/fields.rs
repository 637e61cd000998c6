//! Granted fields by name, and of `user-input` how much (RFC 5025 3.3.2).
//!
//! Which parts of a document they are shown of is left to the sets beside this one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use impp_protocol::presence::{FieldName, UserInput};

/// The one field that can be granted in steps.
const STEPPED: &str = "user-input";

/// Granted fields (RFC 5025 3.3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldSet {
    /// Each, also those that extensions bring (provide-all-attributes).
    All,
    /// These, each so far.
    Only(BTreeMap<FieldName, Depth>),
}

/// How much of a field is granted, the least first; the largest wins (RFC 5025 3.3.2.15). Not to be
/// granted at all is the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Of `user-input`, `active` or `idle`.
    Bare,
    /// The same with the threshold.
    Thresholds,
    /// All of it; of every other field there is no less.
    Full,
}

impl Depth {
    /// The steps that are less than all, by the words that rules use.
    pub(crate) const WORDS: [(&str, Depth); 3] =
        [("bare", Depth::Bare), ("thresholds", Depth::Thresholds), ("full", Depth::Full)];

    /// What is left of a value. Of a text that does not say what is what, nothing.
    fn of(self, value: &Arc<str>) -> Option<Arc<str>> {
        if self == Depth::Full {
            return Some(value.clone());
        }
        let input = UserInput::parse(value)?;
        let idle_threshold = input.idle_threshold.filter(|_| self == Depth::Thresholds);
        Some(UserInput { idle_threshold, last_input: None, ..input }.to_string().into())
    }
}

impl FieldSet {
    /// No field.
    pub fn nothing() -> FieldSet {
        FieldSet::Only(BTreeMap::new())
    }

    /// The status alone.
    pub fn status() -> FieldSet {
        FieldSet::of(FieldName::parse("status"))
    }

    /// These, each whole.
    pub fn of(names: impl IntoIterator<Item = FieldName>) -> FieldSet {
        FieldSet::Only(names.into_iter().map(|name| (name, Depth::Full)).collect())
    }

    /// Whether no field is among them.
    pub fn is_nothing(&self) -> bool {
        matches!(self, FieldSet::Only(names) if names.is_empty())
    }

    /// What is shown of a field with this value, if anything.
    pub fn shown(&self, name: &FieldName, value: &Arc<str>) -> Option<Arc<str>> {
        match self {
            FieldSet::All => Some(value.clone()),
            FieldSet::Only(names) => names.get(name).and_then(|depth| depth.of(value)),
        }
    }

    /// The words as rules write them: `all`, or names.
    pub fn words(&self) -> Vec<String> {
        let word = |(name, depth): (&FieldName, &Depth)| {
            let step = Depth::WORDS.iter().find(|(_, own)| own == depth && *own < Depth::Full);
            step.map_or_else(|| name.to_string(), |(word, _)| format!("{name}:{word}"))
        };
        match self {
            FieldSet::All => vec!["all".to_owned()],
            FieldSet::Only(names) => names.iter().map(word).collect(),
        }
    }

    /// Reads a word of a rule that names a field with a step, `user-input:bare`.
    pub(crate) fn stepped(word: &str) -> Option<(FieldName, Depth)> {
        let (name, step) = word.split_once(':').filter(|(name, _)| *name == STEPPED)?;
        let (_, depth) = Depth::WORDS.iter().find(|(word, _)| *word == step)?;
        Some((FieldName::parse(name)?, *depth))
    }

    pub(super) fn includes(&self, other: &FieldSet) -> bool {
        match (self, other) {
            (FieldSet::All, _) => true,
            (FieldSet::Only(_), FieldSet::All) => false,
            (FieldSet::Only(a), FieldSet::Only(b)) => {
                b.iter().all(|(name, depth)| a.get(name) >= Some(depth))
            }
        }
    }

    /// What both grant.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let (FieldSet::Only(a), FieldSet::Only(b)) = (self, other) else {
            return if *self == FieldSet::All { other.clone() } else { self.clone() };
        };
        let both = |(name, depth): (&FieldName, &Depth)| {
            b.get(name).map(|other| (name.clone(), (*depth).min(*other)))
        };
        FieldSet::Only(a.iter().filter_map(both).collect())
    }

    pub(super) fn union(&self, other: &FieldSet) -> FieldSet {
        let (FieldSet::Only(a), FieldSet::Only(b)) = (self, other) else { return FieldSet::All };
        let mut both = a.clone();
        for (name, depth) in b {
            match both.entry(name.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(*depth)),
                Entry::Occupied(mut entry) => *entry.get_mut() = (*entry.get()).max(*depth),
            }
        }
        FieldSet::Only(both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(depth: Depth) -> FieldSet {
        FieldSet::Only(FieldName::parse(STEPPED).map(|name| (name, depth)).into_iter().collect())
    }

    fn shown(depth: Depth, value: &str) -> Option<String> {
        let name = FieldName::parse(STEPPED).unwrap();
        input(depth).shown(&name, &value.into()).map(|value| value.to_string())
    }

    #[test]
    fn user_input_has_four_steps() {
        let value = "idle idle-threshold=600 last-input=2026-01-01T00:00:00Z";
        assert_eq!(
            FieldSet::nothing().shown(&FieldName::parse(STEPPED).unwrap(), &value.into()),
            None
        );
        assert_eq!(shown(Depth::Bare, value).as_deref(), Some("idle"));
        assert_eq!(shown(Depth::Thresholds, value).as_deref(), Some("idle idle-threshold=600"));
        assert_eq!(shown(Depth::Full, value).as_deref(), Some(value));
        assert_eq!(shown(Depth::Thresholds, "active").as_deref(), Some("active"));
    }

    #[test]
    fn a_text_that_says_not_what_is_what_shows_whole_or_not_at_all() {
        assert_eq!(shown(Depth::Bare, "idle since noon"), None);
        assert_eq!(shown(Depth::Thresholds, "idle since noon"), None);
        assert_eq!(shown(Depth::Full, "idle since noon").as_deref(), Some("idle since noon"));
    }

    #[test]
    fn the_larger_step_wins() {
        let both = input(Depth::Bare).union(&input(Depth::Thresholds));
        assert_eq!(both, input(Depth::Thresholds));
        assert_eq!(both.words(), ["user-input:thresholds"]);
        assert!(both.includes(&input(Depth::Bare)) && !input(Depth::Bare).includes(&both));
        assert!(!both.includes(&input(Depth::Full)));
        assert_eq!(input(Depth::Full).words(), ["user-input"]);
    }
}
