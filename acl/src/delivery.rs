//! May this sender write, and how much: delivery rules into a decision (RFC 2779 2.3.5).
//!
//! Counting against the rate, holding messages and answering the sender are left to the server.

use impp_protocol::{Address, Timestamp};

use crate::conditions::{Asked, Outcome};
use crate::identity::{Grant, Watcher};
use crate::marks::Marks;
use crate::matched::Matched;
use crate::rules::{DeliveryAction, DeliveryRule, Rate, RuleSet};

/// All that a decision about a message looks at beside the rules.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryQuestion<'a> {
    /// Whose inbox it is.
    pub owner: &'a Address,
    /// Who writes.
    pub sender: &'a Watcher,
    /// The time.
    pub now: Timestamp,
    /// The owner's sphere, if it is known.
    pub sphere: Option<&'a str>,
    /// What the owner's contact list grants to the sender.
    pub contact: Grant,
}

/// What becomes of a message, and which rules made it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryDecision {
    action: DeliveryAction,
    rate: Option<Rate>,
    marks: Marks,
    matched: Matched,
    by_owner: bool,
    until: Option<Timestamp>,
}

impl DeliveryDecision {
    /// What becomes of the message.
    pub fn action(&self) -> DeliveryAction {
        self.action
    }

    /// How many such messages the sender may send; no limit from the rules if `None`.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// What the sender may be told of its messages; nothing but of what is accepted.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// The matching rules, by their place in [`RuleSet::delivery`].
    pub fn matched(&self) -> Matched {
        self.matched
    }

    /// Whether no rule was asked because the owner writes to itself.
    pub fn by_owner(&self) -> bool {
        self.by_owner
    }

    /// The next moment at which time alone may change the decision.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// Decides by the delivery rules; without a matching one the message is refused.
///
/// The largest action wins. The rate is the largest among the rules that say that action; one of
/// them without a rate lifts it. Who is dropped has the rate of those whom the rules let in that
/// except it: by a limit that others have nobody finds out what becomes of its messages. The owner may
/// always write to itself.
pub fn decide_delivery(rules: &RuleSet, question: &DeliveryQuestion<'_>) -> DeliveryDecision {
    let mut decision = DeliveryDecision {
        action: DeliveryAction::Refuse,
        rate: None,
        marks: Marks::NONE,
        matched: Matched::default(),
        by_owner: false,
        until: None,
    };
    if matches!(question.sender, Watcher::Principal(address) if address == question.owner) {
        decision.action = DeliveryAction::Accept;
        decision.by_owner = true;
        return decision;
    }
    let (mut said, mut excepting) = (None, None);
    let asked = question.asked();
    for (index, rule) in rules.delivery.iter().enumerate() {
        let outcome = rule.conditions.test(asked);
        if matches!(outcome, Outcome::Matched(_)) {
            said = Some(larger(said, rule));
            decision.marks = decision.marks.or(rule.marks);
            decision.matched.add(index);
        }
        if matches!(outcome, Outcome::Excepted(_))
            && rule.action > DeliveryAction::Drop
            && rule.conditions.hold_but_for_exceptions(asked)
        {
            excepting = Some(larger(excepting, rule));
        }
        if matches!(outcome, Outcome::Matched(_) | Outcome::NotNow) {
            let next = rule.conditions.next_change(question.now);
            decision.until = decision.until.into_iter().chain(next).min();
        }
    }
    if let Some((action, rate)) = said {
        (decision.action, decision.rate) = (action, rate);
    }
    if decision.action != DeliveryAction::Accept {
        decision.marks = Marks::NONE;
    }
    if decision.action == DeliveryAction::Drop {
        decision.rate = excepting.and_then(|(_, rate)| rate);
    }
    decision
}

/// The larger action of what was said so far and of a rule, with the rate that goes with it.
fn larger(
    said: Option<(DeliveryAction, Option<Rate>)>,
    rule: &DeliveryRule,
) -> (DeliveryAction, Option<Rate>) {
    match said {
        Some((action, rate)) if action == rule.action => {
            (action, rate.zip(rule.rate).map(|(a, b)| a.larger(b)))
        }
        Some(said) if said.0 > rule.action => said,
        _ => (rule.action, rule.rate),
    }
}

/// Decides where the owner's sphere is not known for now: what is not let in where there is none, and
/// may be in some sphere, is held.
pub fn decide_delivery_unsure(
    rules: &RuleSet,
    question: &DeliveryQuestion<'_>,
) -> DeliveryDecision {
    let question = &DeliveryQuestion { sphere: None, ..*question };
    let decision = decide_delivery(rules, question);
    let asked = question.asked();
    let more = rules.delivery.iter().filter(|rule| rule.conditions.hang_on_sphere(asked));
    let most = more.map(|rule| rule.action).max().filter(|_| !decision.by_owner);
    if most >= Some(DeliveryAction::Hold) && decision.action < DeliveryAction::Hold {
        return DeliveryDecision { action: DeliveryAction::Hold, rate: None, ..decision };
    }
    decision
}

impl<'a> DeliveryQuestion<'a> {
    pub(crate) fn asked(&self) -> Asked<'a> {
        Asked {
            watcher: self.sender.sought(),
            contact: self.contact,
            now: self.now,
            sphere: self.sphere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ask(text: &str, sender: &str) -> DeliveryDecision {
        let sender = Address::parse(sender).map_or(Watcher::Anonymous, Watcher::Principal);
        let question = DeliveryQuestion {
            owner: &Address::parse("alice@localhost").unwrap(),
            sender: &sender,
            now: Timestamp::from_millis(0),
            sphere: None,
            contact: Grant::None,
        };
        decide_delivery(&RuleSet::parse(text).unwrap(), &question)
    }

    fn rule(id: u32, who: &str, action: &str, rate: &str) -> String {
        format!("[[delivery]]\nid = \"{id}\"\nwho = [\"{who}\"]\naction = \"{action}\"\n{rate}\n")
    }

    #[test]
    fn the_largest_action_wins_and_nothing_is_refuse() {
        let text = rule(1, "anyone", "drop", "") + &rule(2, "domain:localhost", "accept", "");
        assert_eq!(ask(&text, "bob@localhost").action(), DeliveryAction::Accept);
        assert_eq!(ask(&text, "bob@b.example").action(), DeliveryAction::Drop);
        assert_eq!(ask(&text, "").action(), DeliveryAction::Drop);
        assert_eq!(ask("", "bob@localhost").action(), DeliveryAction::Refuse);
        assert_eq!(ask("", "alice@localhost").action(), DeliveryAction::Accept);
    }

    /// Marks are granted by rules, as all is: by each that matches, and where the message comes in.
    #[test]
    fn marks_are_what_the_matching_rules_grant_of_what_is_accepted() {
        let words = |text: &str, who: &str| ask(text, who).marks().words().collect::<Vec<_>>();
        let one = rule(1, "anyone", "accept", "marks = [\"received\"]");
        let other = rule(2, "bob@localhost", "accept", "marks = [\"typing\", \"read\"]");
        let both = one.clone() + &other;
        assert_eq!(words(&both, "bob@localhost"), ["received", "read", "typing"]);
        assert_eq!(words(&both, "carol@localhost"), ["received"]);
        // The owner is told nothing of itself, and by default nobody is told anything.
        assert_eq!(words(&both, "alice@localhost"), [""; 0]);
        assert_eq!(words(&rule(1, "anyone", "accept", ""), "bob@localhost"), [""; 0]);
        let error = |more: &str| RuleSet::parse(&rule(1, "anyone", "hold", more)).unwrap_err();
        assert!(error("marks = [\"read\"]").to_string().contains("lets nothing into the inbox"));
        assert!(error("marks = [\"seen\"]").to_string().contains("unknown mark"));
    }

    #[test]
    fn the_rate_belongs_to_the_action_that_wins() {
        let minute = |count| Some(Rate { count, period: Duration::from_secs(60) });
        let hold = rule(1, "anyone", "hold", "");
        let slow = rule(2, "anyone", "accept", "rate = \"1/min\"");
        let fast = rule(3, "anyone", "accept", "rate = \"9/min\"");
        let free = rule(4, "anyone", "accept", "");
        let rate = |parts: &[&String]| {
            let text: String = parts.iter().map(|part| part.as_str()).collect();
            ask(&text, "bob@localhost").rate()
        };
        assert_eq!(rate(&[&hold, &slow]), minute(1));
        assert_eq!(rate(&[&slow, &hold]), minute(1));
        assert_eq!(rate(&[&slow, &fast]), minute(9));
        assert_eq!(rate(&[&fast, &free]), None);
        assert_eq!(rate(&[&free, &slow]), None);
    }

    #[test]
    fn d6_who_is_dropped_has_the_rate_of_those_who_are_let_in() {
        let minute = |count| Some(Rate { count, period: Duration::from_secs(60) });
        let drop = rule(1, "bob@localhost", "drop", "");
        let rest = "rate = \"9/min\"\nexcept = [\"bob@localhost\"]";
        let slow = rule(2, "anyone", "accept", rest);
        let held = rule(3, "anyone", "hold", &rest.replace('9', "1"));
        let others = rule(4, "domain:b.example", "accept", "");
        let of = |text: &str, who: &str| {
            let decision = ask(text, who);
            (decision.action(), decision.rate())
        };
        let all = drop.clone() + &held + &slow + &others;
        assert_eq!(of(&all, "bob@localhost"), (DeliveryAction::Drop, minute(9)));
        assert_eq!(of(&all, "carol@localhost"), (DeliveryAction::Accept, minute(9)));
        assert_eq!(of(&(drop.clone() + &held), "bob@localhost").1, minute(1));
        assert_eq!(of(&drop, "bob@localhost"), (DeliveryAction::Drop, None));
        // A rule that lets nobody in now has no rate for anybody.
        let over = "\nvalid = [\"2020-01-01T00:00:00Z/2020-01-02T00:00:00Z\"]";
        let over = rule(5, "anyone", "accept", &(rest.to_owned() + over));
        assert_eq!(of(&(drop + &over), "bob@localhost").1, None);
    }
}
