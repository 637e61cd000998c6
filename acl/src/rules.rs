//! Rules as data: groups, access rules, delivery rules, delegates; and their limits.
//!
//! Reading them from text is in `parse`, changing the text in `edit`; keeping it, and the version
//! that an edit starts from, is left to the server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::conditions::Conditions;
use crate::delegation::Delegate;
use crate::error::RulesError;
use crate::grants::{FieldSet, Grants, PartSet};
use crate::marks::Marks;
use crate::named::Named;
use crate::parse;

/// Longest text of rules in bytes; it must travel in one frame of 64 KiB.
pub const RULES_BYTES_MAX: usize = 60 * 1024;
/// Most access rules, delivery rules, and delegates, of each.
pub const RULES_MAX: usize = 256;
/// Most groups.
pub const GROUPS_MAX: usize = 256;
/// Most members of a group.
pub const GROUP_MEMBERS_MAX: usize = 1000;
/// Most items of one `who` or `except`.
pub const WHO_MAX: usize = 1000;
/// Most names in one `fields`.
pub const FIELDS_MAX: usize = 64;
/// Most selectors in one `tuples`, `persons`, `devices`.
pub const SELECTORS_MAX: usize = 64;
/// Most spans in one `valid`.
pub const VALIDITIES_MAX: usize = 64;
/// Most words in one `sphere`.
pub const SPHERES_MAX: usize = 64;
/// Longest id of a rule, and name of a group, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// What an owner's rules say, complete and correct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    pub(crate) groups: BTreeMap<Arc<str>, Named>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) delivery: Vec<DeliveryRule>,
    pub(crate) delegates: Vec<Delegate>,
}

impl RuleSet {
    /// Reads the text that people write, which is also the form that is stored and sent.
    ///
    /// # Errors
    /// [`RulesError`] naming the line; a text with any fault grants nothing at all.
    pub fn parse(text: &str) -> Result<RuleSet, RulesError> {
        parse::parse(text)
    }

    /// The groups by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.groups.iter().map(|(name, members)| (&**name, members))
    }

    /// The access rules, in the order of the text, which means nothing.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The delivery rules, in the order of the text, which means nothing.
    pub fn delivery(&self) -> &[DeliveryRule] {
        &self.delivery
    }

    /// Whether any rule is about the members of a group of this name, by its `who`.
    pub(crate) fn is_about_group(&self, name: &str) -> bool {
        let access = self.rules.iter().map(|rule| &rule.conditions);
        let mut all = access.chain(self.delivery.iter().map(|rule| &rule.conditions));
        all.any(|conditions| conditions.who.groups.iter().any(|group| &*group.name == name))
    }

    /// Whether any delivery rule lets a sender be told a mark.
    pub fn grants_marks(&self) -> bool {
        self.delivery.iter().any(|rule| rule.marks.any())
    }

    /// The delegates, in the order of the text, which means nothing; what one may do says
    /// [`RuleSet::mandate`].
    pub fn delegates(&self) -> &[Delegate] {
        &self.delegates
    }

    /// Whether any access rule looks at the owner's sphere, so that a change of sphere can end
    /// subscriptions (RFC 5025 3.1.2).
    pub fn depends_on_sphere(&self) -> bool {
        self.rules.iter().any(|rule| !rule.conditions.spheres.is_empty())
    }
}

/// What becomes of a subscription or fetch; the largest wins (RFC 5025 3.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handling {
    /// Refused, and told so.
    #[default]
    Block,
    /// Pending until the owner decides; nothing is shown.
    Confirm,
    /// Taken, but the owner looks offline for ever.
    PoliteBlock,
    /// Taken; what is granted is shown.
    Allow,
}

impl Handling {
    /// Every handling, the least first.
    pub const EVERY: [Handling; 4] =
        [Handling::Block, Handling::Confirm, Handling::PoliteBlock, Handling::Allow];

    /// What is left of it beneath a ceiling. Who could not be allowed is not asked about either.
    pub(crate) fn beneath(self, ceiling: Handling) -> Handling {
        match (self, ceiling) {
            (Handling::Confirm, Handling::PoliteBlock) => ceiling,
            _ => self.min(ceiling),
        }
    }

    /// The word that rules use.
    pub fn as_str(self) -> &'static str {
        match self {
            Handling::Block => "block",
            Handling::Confirm => "confirm",
            Handling::PoliteBlock => "polite-block",
            Handling::Allow => "allow",
        }
    }
}

/// An access rule (RFC 4745 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) id: String,
    pub(crate) conditions: Conditions,
    pub(crate) handling: Handling,
    pub(crate) fetch: Option<Handling>,
    pub(crate) fields: Option<FieldSet>,
    pub(crate) tuples: Option<PartSet>,
    /// Whether it says nothing about the person and devices.
    pub(crate) plain: bool,
    /// What the rule grants apart from contact list entries.
    pub(crate) grants: Grants,
    /// What it grants instead to contacts whose entry grants the status, or all.
    pub(crate) by_entry: Option<[Grants; 2]>,
}

impl Rule {
    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it applies.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What it does with subscriptions.
    pub fn handling(&self) -> Handling {
        self.handling
    }

    /// What it does with single fetches (RFC 2779 2.3.2); as with subscriptions if not said.
    pub fn fetch(&self) -> Handling {
        self.fetch.unwrap_or(self.handling)
    }

    /// The fields it grants. Without any said, a contact gets what its entry grants from a rule
    /// whose `who` has `contacts`; nobody else gets more than what is always shown.
    pub fn fields(&self) -> Option<&FieldSet> {
        self.fields.as_ref()
    }

    /// The tuples it grants. Without any said they are all, if the rule allows anything; a rule
    /// that only blocks or asks would otherwise open what others select.
    pub fn tuples(&self) -> &PartSet {
        &self.grants.parts().tuples
    }

    pub(crate) fn strongest(&self) -> Handling {
        self.handling.max(self.fetch())
    }
}

/// What becomes of a message; the largest wins.
///
/// Owners write narrow rules that let through and broad ones that keep out, so what lets a message
/// further in is larger: `hold` over `drop` keeps what one rule would keep, `drop` over `refuse`
/// does not tell a sender off whom another rule keeps in the dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryAction {
    /// Refused, and told so.
    #[default]
    Refuse,
    /// Taken and thrown away; to the sender it looks delivered.
    Drop,
    /// Kept until the owner decides; to the sender it looks delivered.
    Hold,
    /// Put into the inbox.
    Accept,
}

impl DeliveryAction {
    /// Every action, the least first.
    pub const EVERY: [DeliveryAction; 4] = [
        DeliveryAction::Refuse,
        DeliveryAction::Drop,
        DeliveryAction::Hold,
        DeliveryAction::Accept,
    ];

    /// The word that rules use.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryAction::Refuse => "refuse",
            DeliveryAction::Drop => "drop",
            DeliveryAction::Hold => "hold",
            DeliveryAction::Accept => "accept",
        }
    }
}

/// How many messages a sender may send in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Messages.
    pub count: u32,
    /// The time for them.
    pub period: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} s", self.count, self.period.as_secs())
    }
}

impl Rate {
    /// The one that lets more through; of equal ones that with the larger burst.
    #[must_use]
    pub fn larger(self, other: Rate) -> Rate {
        let key =
            |rate: Rate, by: Rate| (u128::from(rate.count) * by.period.as_millis(), rate.count);
        if key(self, other) >= key(other, self) { self } else { other }
    }

    /// Of two, either of which may be none, the one that lets less through.
    #[must_use]
    pub fn stricter(one: Option<Rate>, other: Option<Rate>) -> Option<Rate> {
        match (one, other) {
            (Some(a), Some(b)) => Some(if a.larger(b) == a { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A delivery rule: who may send to the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRule {
    pub(crate) id: String,
    pub(crate) conditions: Conditions,
    pub(crate) action: DeliveryAction,
    pub(crate) rate: Option<Rate>,
    pub(crate) marks: Marks,
}

impl DeliveryRule {
    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it applies.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What it does with messages.
    pub fn action(&self) -> DeliveryAction {
        self.action
    }

    /// How many of them; no limit if not said.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Which marks their senders may be told.
    pub fn marks(&self) -> Marks {
        self.marks
    }
}

impl fmt::Display for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DeliveryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlings_and_actions_are_ordered_least_first() {
        assert!(Handling::EVERY.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(DeliveryAction::EVERY.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Handling::default(), Handling::Block);
        assert_eq!(DeliveryAction::default(), DeliveryAction::Refuse);
    }

    #[test]
    fn the_larger_rate_lets_more_through() {
        let rate = |count, seconds| Rate { count, period: Duration::from_secs(seconds) };
        assert_eq!(rate(2, 60).larger(rate(100, 3600)), rate(2, 60));
        assert_eq!(rate(1, 60).larger(rate(60, 3600)), rate(60, 3600));
        assert_eq!(rate(60, 3600).larger(rate(1, 60)), rate(60, 3600));
        let stricter = |a, b| Rate::stricter(a, b);
        assert_eq!(stricter(Some(rate(2, 60)), Some(rate(1, 60))), Some(rate(1, 60)));
        assert_eq!(
            (stricter(None, Some(rate(2, 60))), stricter(None, None)),
            (Some(rate(2, 60)), None)
        );
    }
}
