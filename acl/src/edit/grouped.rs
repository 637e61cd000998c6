//! A decision that makes somebody a member of one of the owner's groups: from now on they are let in as
//! far as the owner's rules let that group in.

use impp_protocol::Address;

use super::{DENIED, POLITE, forgotten};
use crate::error::RulesError;
use crate::named::Sought;
use crate::rules::{Handling, RuleSet};

/// Why somebody is made no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGrouped {
    /// The text is no set of rules, or would grow beyond a limit.
    #[error(transparent)]
    Unusable(#[from] RulesError),
    /// There is no such group.
    #[error("the rules have no group \"{group}\"; they have {}", listed(.known))]
    Unknown {
        /// Its name.
        group: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// As a member they would wait as before.
    #[error("no rule lets {who} see anything as a member of \"{group}\"")]
    ShutOut {
        /// Who.
        who: Address,
        /// The group.
        group: String,
    },
}

/// The text with `who` as a member of this group of the owner's, and earlier rulings about them taken
/// back, as [`with_decision`](super::with_decision) does. A rule has to let members see, though it may be
/// for some time or sphere alone.
///
/// # Errors
/// [`NotGrouped`].
pub fn with_group(text: &str, who: &Address, group: &str) -> Result<String, NotGrouped> {
    let rules = RuleSet::parse(text)?;
    if !rules.groups.contains_key(group) {
        let known = rules.groups.keys().map(|name| name.to_string()).collect();
        return Err(NotGrouped::Unknown { group: group.to_owned(), known });
    }
    let ids = rules.rules.iter().map(|rule| rule.id.as_str());
    let mut edited = forgotten("rule", [DENIED, POLITE], text, who, ids)?;
    let is_member = |rules: &RuleSet| rules.groups.get(group).is_some_and(|all| all.contains(who));
    if !is_member(&RuleSet::parse(&edited.to_text())?) {
        edited.add_member(group, who);
    }
    let text = edited.to_text();
    let rules = RuleSet::parse(&text)?;
    let lets_in = rules.rules.iter().any(|rule| {
        let mut groups = rule.conditions.who.groups.iter();
        rule.strongest() == Handling::Allow
            && groups.any(|named| &*named.name == group)
            && rule.conditions.may_match(Sought::new(who))
    });
    match lets_in {
        true => Ok(text),
        false => Err(NotGrouped::ShutOut { who: who.clone(), group: group.to_owned() }),
    }
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}
