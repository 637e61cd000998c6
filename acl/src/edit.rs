//! Decisions on pending requests, written into the owner's rules without touching other words.
//!
//! Listing requests, and telling the watcher, are left to the server.
//!
//! Rules only grant, so two kinds of change are needed. Letting somebody in adds the address to a
//! rule `decided-…`. Keeping somebody out adds the address to a group `decided-…`, and that group
//! to the `except` of each rule that would let this one in. Nobody else's decision changes, and
//! undoing takes the address out of the group, leaving the owner's own exceptions alone. A group
//! that some rule is about would let its members in: decisions make another one then.

mod grouped;
mod text;

use impp_protocol::Address;

use crate::conditions::Conditions;
use crate::error::RulesError;
use crate::grants::{FieldSet, PartSet};
use crate::identity::Grant;
use crate::named::{Named, Sought};
use crate::rules::{DeliveryAction, Handling, RuleSet};
pub use grouped::{NotGrouped, with_group};
use text::RulesText;

/// Groups of those kept from seeing, from writing.
const DENIED: &str = "decided-deny";
const POLITE: &str = "decided-polite";
const REFUSED: &str = "decided-refuse";
const DROPPED: &str = "decided-drop";
/// Ids of the rules that let in.
const ALLOW: &str = "decided-allow";
const ACCEPT: &str = "decided-accept";
/// What all ids of rules, and names of groups, that decisions have made begin with.
const DECIDED: &str = "decided-";

/// Whether decisions may take a group of this name for one that they have made.
pub(crate) fn is_decided(name: &str) -> bool {
    name.starts_with(DECIDED)
}

/// The owner's word on somebody who asks to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// May see these fields, of all tuples.
    Allow(FieldSet),
    /// Sees the owner offline.
    Polite,
    /// Is refused.
    Deny,
}

/// The owner's word on somebody who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryRuling {
    /// Messages go into the inbox.
    Accept,
    /// Messages are thrown away in silence.
    Drop,
    /// Messages are refused.
    Refuse,
}

/// The text with a ruling about `who`: from now on that is what becomes of this watcher, at any
/// time, in any sphere, by subscription and fetch alike. Nobody else's decision changes.
///
/// After an allow the watcher sees the fields, and what other matching rules grant beside them.
///
/// # Errors
/// [`RulesError`] if the text is no set of rules, or would grow beyond a limit.
pub fn with_decision(text: &str, who: &Address, ruling: &Ruling) -> Result<String, RulesError> {
    let change = match ruling {
        Ruling::Allow(fields) => Change {
            admit: Some(Admit {
                id: ALLOW,
                lines: vec![
                    ("handling", Line::Word(Handling::Allow.as_str())),
                    ("fields", Line::List(fields.words())),
                ],
            }),
            bar: None,
        },
        Ruling::Polite => Change {
            admit: Some(Admit {
                id: POLITE,
                lines: vec![("handling", Line::Word(Handling::PoliteBlock.as_str()))],
            }),
            bar: Some(POLITE),
        },
        Ruling::Deny => Change { admit: None, bar: Some(DENIED) },
    };
    let entries = |rules: &RuleSet| {
        rules
            .rules
            .iter()
            .map(|rule| Entry {
                id: rule.id.clone(),
                conditions: rule.conditions.clone(),
                too_strong: match ruling {
                    Ruling::Allow(_) => false,
                    Ruling::Polite => rule.strongest() > Handling::PoliteBlock,
                    Ruling::Deny => rule.strongest() > Handling::Block,
                },
                seat: rule.fetch.is_none()
                    && rule.tuples.as_ref().is_none_or(PartSet::is_all)
                    && rule.plain
                    && match ruling {
                        Ruling::Allow(fields) => {
                            rule.handling == Handling::Allow && rule.fields.as_ref() == Some(fields)
                        }
                        Ruling::Polite => {
                            rule.handling == Handling::PoliteBlock && rule.fields.is_none()
                        }
                        Ruling::Deny => false,
                    },
            })
            .collect()
    };
    change.write("rule", [DENIED, POLITE], text, who, &entries)
}

/// The text with a ruling about messages of `who`, as [`with_decision`] has it about presence.
///
/// # Errors
/// [`RulesError`] if the text is no set of rules, or would grow beyond a limit.
pub fn with_delivery_decision(
    text: &str,
    who: &Address,
    ruling: DeliveryRuling,
) -> Result<String, RulesError> {
    let (action, id, bar) = match ruling {
        DeliveryRuling::Accept => (DeliveryAction::Accept, Some(ACCEPT), None),
        DeliveryRuling::Drop => (DeliveryAction::Drop, Some(DROPPED), Some(DROPPED)),
        DeliveryRuling::Refuse => (DeliveryAction::Refuse, None, Some(REFUSED)),
    };
    let admit = id.map(|id| Admit { id, lines: vec![("action", Line::Word(action.as_str()))] });
    let entries = |rules: &RuleSet| {
        rules
            .delivery
            .iter()
            .map(|rule| Entry {
                id: rule.id.clone(),
                conditions: rule.conditions.clone(),
                too_strong: rule.action > action,
                seat: rule.action == action && rule.rate.is_none(),
            })
            .collect()
    };
    Change { admit, bar }.write("delivery", [REFUSED, DROPPED], text, who, &entries)
}

/// What a ruling needs: a rule that lets in, or a group that others except, or both.
struct Change {
    admit: Option<Admit>,
    bar: Option<&'static str>,
}

/// A rule to stand in; one of this id, or of a numbered one, is made if there is none that fits.
struct Admit {
    id: &'static str,
    lines: Vec<(&'static str, Line)>,
}

/// The value of one line of a new rule.
enum Line {
    Word(&'static str),
    List(Vec<String>),
}

/// A rule as a change sees it.
struct Entry {
    id: String,
    conditions: Conditions,
    /// It lets in further than the ruling does.
    too_strong: bool,
    /// Apart from its conditions it does just what the ruling says.
    seat: bool,
}

type Entries<'a> = dyn Fn(&RuleSet) -> Vec<Entry> + 'a;

impl Change {
    /// Three steps, each seeing the text that the one before has made: forget earlier rulings
    /// about `who`; name `who` in the group and the rule; except the group where it matters.
    fn write(
        &self,
        section: &'static str,
        groups: [&str; 2],
        text: &str,
        who: &Address,
        entries: &Entries<'_>,
    ) -> Result<String, RulesError> {
        let ids = entries(&RuleSet::parse(text)?).into_iter().map(|entry| entry.id);
        let mut edited = forgotten(section, groups, text, who, ids)?;

        let rules = RuleSet::parse(&edited.to_text())?;
        if let Some(admit) = &self.admit {
            let entries = entries(&rules);
            match entries.iter().position(|entry| admit.fits(entry, who)) {
                Some(index) => edited.append(index, "who", who.as_str()),
                None => edited.push_rule(&admit.free_id(&entries), who, &admit.lines),
            }
        }
        if let Some(name) = self.bar {
            let group = free_name(name, |group| rules.is_about_group(group));
            edited.add_member(&group, who);
            let rules = RuleSet::parse(&edited.to_text())?;
            bar(&mut edited, &entries(&rules), &group, &members_but(&rules, &group, who), who);
        }
        let text = edited.to_text();
        RuleSet::parse(&text)?;
        Ok(text)
    }
}

/// The text, which says rules of these ids, without earlier rulings about `who`.
fn forgotten(
    section: &'static str,
    groups: [&str; 2],
    text: &str,
    who: &Address,
    ids: impl Iterator<Item = impl AsRef<str>>,
) -> Result<RulesText, RulesError> {
    let mut edited = RulesText::open(text, section)?;
    for name in groups {
        edited.remove_member(|group| is_numbered(name, group), who);
    }
    for (index, id) in ids.enumerate() {
        if id.as_ref().starts_with(DECIDED) {
            edited.remove_from(index, "who", who);
        }
    }
    Ok(edited)
}

impl Admit {
    /// Whether a rule that decisions have made does what this one is to do, unconditionally.
    fn fits(&self, entry: &Entry, who: &Address) -> bool {
        let conditions = &entry.conditions;
        let watcher = Sought::new(who);
        entry.seat
            && is_numbered(self.id, &entry.id)
            && conditions.valid.is_empty()
            && conditions.spheres.is_empty()
            && Grant::EVERY.iter().all(|c| conditions.except.find(Some(watcher), *c).is_none())
    }

    fn free_id(&self, entries: &[Entry]) -> String {
        free_name(self.id, |id| entries.iter().any(|entry| entry.id == id))
    }
}

/// This name, or the first numbered one that is not taken.
fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut all = std::iter::once(name.to_owned()).chain(numbered);
    all.find(|name| !taken(name)).unwrap_or_default()
}

/// Whether one is that name, or a numbered one of it.
fn is_numbered(name: &str, one: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = one.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number))
}

/// Makes each rule that lets `who` in too far except the group; or, where that would change what
/// becomes of somebody already in the group, except `who` alone.
fn bar(edited: &mut RulesText, entries: &[Entry], group: &str, others: &[Address], who: &Address) {
    let watcher = Sought::new(who);
    let others: Vec<Sought<'_>> = others.iter().map(Sought::new).collect();
    for (index, entry) in entries.iter().enumerate() {
        if !entry.too_strong || !entry.conditions.may_match(watcher) {
            continue;
        }
        if others.iter().any(|other| entry.conditions.may_match(*other)) {
            edited.append(index, "except", who.as_str());
        } else {
            edited.append(index, "except", &format!("group:{group}"));
        }
    }
}

fn members_but(rules: &RuleSet, group: &str, who: &Address) -> Vec<Address> {
    let members = rules.groups.get(group).into_iter().flat_map(Named::iter);
    members.filter(|member| *member != who).cloned().collect()
}

#[cfg(test)]
mod tests;
