//! Decisions in words: which rule said so, and why the others did not.
//!
//! The decision itself comes from the same call that decides; only the words are made here, and
//! only when the owner asks.

use impp_protocol::Timestamp;

use crate::conditions::{Asked, Conditions, Outcome};
use crate::decide::{Decision, Question, Reasons, reasoned};
use crate::delivery::{
    DeliveryDecision, DeliveryQuestion, decide_delivery, decide_delivery_unsure,
};
use crate::identity::{ANONYMOUS, By};
use crate::rules::{Handling, RuleSet};

/// A decision about presence, and how each rule took the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The fields that the watcher may see, `status` among them where any tuple may be seen.
    pub fields: Vec<String>,
    /// What selects the parts that the watcher may see, see [`crate::Parts::words`].
    pub parts: Vec<String>,
    /// Every access rule.
    pub rules: Vec<RuleTrace>,
}

/// A decision about messages, and how each rule took the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryExplanation {
    /// The decision.
    pub decision: DeliveryDecision,
    /// Every delivery rule.
    pub rules: Vec<RuleTrace>,
}

/// How one rule took a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The rule's id.
    pub id: String,
    /// Whether it matched.
    pub matched: bool,
    /// Why, or why not.
    pub why: String,
    /// What it adds: fields and selectors of tuples, or a rate and marks.
    pub grants: Vec<String>,
    /// Whether it is the domain's, and not the owner's.
    pub by_domain: bool,
}

/// Decides, and says why.
pub fn explain(rules: &RuleSet, question: &Question<'_>) -> Explanation {
    let (decision, reasons) = reasoned(rules, question);
    explained(rules, question, (decision, &reasons), None)
}

/// Says why it was so decided where the owner's sphere is not known, until then at the latest.
pub fn explain_unsure(
    rules: &RuleSet,
    question: &Question<'_>,
    decision: Decision,
    until: Timestamp,
) -> Explanation {
    let question = &Question { sphere: None, ..*question };
    explained(rules, question, (decision, &reasoned(rules, question).1), Some(until))
}

fn explained(
    rules: &RuleSet,
    question: &Question<'_>,
    (decision, reasons): (Decision, &Reasons),
    lost: Option<Timestamp>,
) -> Explanation {
    let asked = question.asked();
    let trace = |(index, rule): (usize, &crate::Rule)| {
        let matched = reasons.matched.has(index);
        let outcome = rule.conditions.test(asked);
        let handling = rule.handling_for(question.purpose);
        let mut why = reason(&rule.conditions, asked, outcome, lost);
        let mut grants = Vec::new();
        if let Outcome::Matched(by) = outcome {
            why = if rule.grants_by_entry(by) {
                format!("{handling}: {why}, and the entry grants {}", question.contact.as_str())
            } else {
                format!("{handling}: {why}")
            };
            grants = rule.grants_for(question).words();
        }
        RuleTrace { id: rule.id.clone(), matched, why, grants, by_domain: false }
    };
    let mut traces = if reasons.by_owner { vec![] } else { trace_all(&rules.rules, trace) };
    traces.extend(by_domain(question, reasons));
    let (fields, parts) = (visible(&decision), selecting(&decision));
    Explanation { fields, parts, rules: traces, decision }
}

/// What of the domain's policy has a part in the decision; the rest is not the owner's concern.
fn by_domain(question: &Question<'_>, reasons: &Reasons) -> Vec<RuleTrace> {
    let asked = question.asked();
    let trace = |id: &str, conditions: &Conditions, what: String, grants| {
        let why = reason(conditions, asked, conditions.test(asked), None);
        let why = format!("by the domain, {what}: {why}");
        RuleTrace { id: id.to_owned(), matched: true, why, grants, by_domain: true }
    };
    let Reasons { floors, ceilings, .. } = reasons;
    let floors = floors.iter().filter_map(|index| question.domain.floors.get(index));
    let floors = floors.map(|rule| {
        let what = rule.handling_for(question.purpose).to_string();
        trace(&rule.id, &rule.conditions, what, rule.grants_for(question).words())
    });
    let ceilings = ceilings.iter().filter_map(|index| question.domain.ceilings.get(index));
    let ceilings = ceilings.map(|ceiling| {
        let what = format!("at most {}", ceiling.handling_for(question.purpose));
        trace(&ceiling.id, &ceiling.conditions, what, ceiling.fields.words())
    });
    floors.chain(ceilings).collect()
}

/// Decides about a message, and says why.
pub fn explain_delivery(rules: &RuleSet, question: &DeliveryQuestion<'_>) -> DeliveryExplanation {
    delivery_explained(rules, question, decide_delivery(rules, question), None)
}

/// The same where the owner's sphere is not known, until then at the latest.
pub fn explain_delivery_unsure(
    rules: &RuleSet,
    question: &DeliveryQuestion<'_>,
    until: Timestamp,
) -> DeliveryExplanation {
    let question = &DeliveryQuestion { sphere: None, ..*question };
    let decision = decide_delivery_unsure(rules, question);
    delivery_explained(rules, question, decision, Some(until))
}

fn delivery_explained(
    rules: &RuleSet,
    question: &DeliveryQuestion<'_>,
    decision: DeliveryDecision,
    lost: Option<Timestamp>,
) -> DeliveryExplanation {
    let asked = question.asked();
    let trace = |(index, rule): (usize, &crate::DeliveryRule)| {
        let matched = decision.matched().has(index);
        let outcome = rule.conditions.test(asked);
        let mut why = reason(&rule.conditions, asked, outcome, lost);
        let mut grants = Vec::new();
        if let Outcome::Matched(_) = outcome {
            why = format!("{}: {why}", rule.action);
            grants.extend(rule.rate.map(|rate| rate.to_string()));
            grants.extend(rule.marks.words().map(|word| format!("mark:{word}")));
        }
        RuleTrace { id: rule.id.clone(), matched, why, grants, by_domain: false }
    };
    let traces = if decision.by_owner() { Vec::new() } else { trace_all(&rules.delivery, trace) };
    DeliveryExplanation { rules: traces, decision }
}

fn trace_all<'r, R>(
    rules: &'r [R],
    trace: impl FnMut((usize, &'r R)) -> RuleTrace,
) -> Vec<RuleTrace> {
    rules.iter().enumerate().map(trace).collect()
}

fn selecting(decision: &Decision) -> Vec<String> {
    match decision.handling() {
        Handling::Allow => decision.grants().parts().words(),
        _ => Vec::new(),
    }
}

fn visible(decision: &Decision) -> Vec<String> {
    if decision.handling() != Handling::Allow {
        return Vec::new();
    }
    let mut words = decision.grants().fields().words();
    let parts = decision.grants().parts();
    let always = [
        ("status", parts.tuples.is_named()),
        ("timestamp", parts.persons.is_named()),
        ("device-id", parts.devices.is_named()),
    ];
    for (name, shows) in always {
        if shows && !words.iter().any(|word| word == "all" || word == name) {
            words.push(name.to_owned());
        }
    }
    words.sort_unstable();
    words
}

fn reason(
    conditions: &Conditions,
    asked: Asked<'_>,
    outcome: Outcome<'_>,
    lost: Option<Timestamp>,
) -> String {
    let watcher = match asked.watcher {
        Some(sought) => sought.address().as_str(),
        None => ANONYMOUS,
    };
    match outcome {
        Outcome::Matched(By::Address) => format!("it names {watcher}"),
        Outcome::Matched(by) => format!("{watcher} is one of \"{by}\""),
        Outcome::NotNamed => format!("it does not name {watcher}"),
        Outcome::Excepted(By::Address) => format!("it excepts {watcher}"),
        Outcome::Excepted(by) => format!("it excepts \"{by}\", and {watcher} is one of them"),
        Outcome::SphereUnknown => match lost {
            Some(until) => format!(
                "it needs a sphere, which a crash of the server has lost: until you publish again, \
                 or {until}, it shows nothing and ends nothing"
            ),
            None => "it needs a sphere, and none is published".to_owned(),
        },
        Outcome::OtherSphere => {
            let sphere = asked.sphere.unwrap_or_default();
            format!("the sphere is \"{sphere}\", not \"{}\"", conditions.spheres.join("\" or \""))
        }
        Outcome::NotNow => not_now(conditions.next_change(asked.now)),
    }
}

fn not_now(next: Option<Timestamp>) -> String {
    match next {
        Some(next) => format!("it is not valid now, but from {next}"),
        None => "it is not valid any more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Purpose;
    use crate::identity::{Grant, Watcher};
    use impp_protocol::Address;

    const RULES: &str = r#"
        [groups]
        out = ["bob@localhost"]

        [[rule]]
        id = "contacts"
        who = ["contacts"]
        handling = "allow"

        [[rule]]
        id = "all but out"
        who = ["anyone"]
        except = ["group:out"]
        handling = "allow"

        [[rule]]
        id = "home"
        who = ["anyone"]
        sphere = ["home", "garden"]
        handling = "allow"

        [[rule]]
        id = "later"
        who = ["bob@localhost"]
        valid = ["2026-12-01T00:00:00Z/2026-12-24T00:00:00Z"]
        handling = "allow"

        [[rule]]
        id = "dana"
        who = ["dana@localhost"]
        handling = "block"
    "#;

    fn ask(watcher: &str, sphere: Option<&str>) -> Explanation {
        let question = Question {
            owner: &Address::parse("alice@localhost").unwrap(),
            watcher: &Watcher::Principal(Address::parse(watcher).unwrap()),
            purpose: Purpose::Subscribe,
            now: Timestamp::from_millis(0),
            sphere,
            contact: Grant::Status,
            domain: crate::DomainPolicy::none(),
        };
        explain(&RuleSet::parse(RULES).unwrap(), &question)
    }

    #[test]
    fn each_rule_says_why() {
        let bob = ask("bob@localhost", Some("work"));
        let whys: Vec<&str> = bob.rules.iter().map(|rule| &*rule.why).collect();
        assert_eq!(
            whys,
            [
                "allow: bob@localhost is one of \"contacts\", and the entry grants status",
                "it excepts \"group:out\", and bob@localhost is one of them",
                "the sphere is \"work\", not \"home\" or \"garden\"",
                "it is not valid now, but from 2026-12-01T00:00:00Z",
                "it does not name bob@localhost",
            ]
        );
        assert_eq!(bob.rules[0].grants, ["status"]);
        assert_eq!(bob.fields, ["status"]);
        let unknown = ask("bob@localhost", None);
        assert_eq!(unknown.rules[2].why, "it needs a sphere, and none is published");
        let dana = ask("dana@localhost", None);
        let lost = || {
            let rules = RuleSet::parse(RULES).unwrap();
            let question = Question {
                owner: &Address::parse("alice@localhost").unwrap(),
                watcher: &Watcher::Principal(Address::parse("bob@localhost").unwrap()),
                purpose: Purpose::Subscribe,
                now: Timestamp::from_millis(0),
                sphere: Some("home"),
                contact: Grant::Status,
                domain: crate::DomainPolicy::none(),
            };
            let (decision, _) = crate::decide_unsure(&rules, &question);
            explain_unsure(&rules, &question, decision, Timestamp::from_millis(60_000))
        };
        let why = &lost().rules[2].why;
        assert!(why.contains("lost") && why.contains("1970-01-01T00:01:00Z"), "{why}");
        assert!(!lost().rules[2].matched);
        assert_eq!(dana.rules[4].why, "block: it names dana@localhost");
        assert!(dana.rules[4].grants.is_empty());
    }

    /// Where parts alone are granted otherwise the fields are the same, and the parts tell it.
    #[test]
    fn the_parts_that_are_granted_are_told() {
        let parts = |more: &str| {
            let rules = format!(
                "[[rule]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n\
                 fields = [\"status\"]\n{more}"
            );
            let question = Question {
                owner: &Address::parse("alice@localhost").unwrap(),
                watcher: &Watcher::Principal(Address::parse("bob@localhost").unwrap()),
                purpose: Purpose::Subscribe,
                now: Timestamp::from_millis(0),
                sphere: None,
                contact: Grant::Status,
                domain: crate::DomainPolicy::none(),
            };
            let told = explain(&RuleSet::parse(&rules).unwrap(), &question);
            assert!(told.fields.contains(&"status".to_owned()), "{more}");
            told.parts
        };
        let by_fields = ["persons:by-fields", "devices:by-fields"];
        assert_eq!(parts(""), [&["tuples:all"][..], &by_fields].concat());
        let work = "tuples = [\"class:work\", \"uri:sip:a@a.example\"]";
        let named = ["tuples:class:work", "tuples:uri:sip:a@a.example"];
        assert_eq!(parts(work), [&named[..], &by_fields].concat());
        assert_eq!(
            parts("devices = [\"id:d1\"]\npersons = [\"class:home\"]"),
            ["tuples:all", "persons:class:home", "devices:id:d1"]
        );
    }

    #[test]
    fn the_owner_needs_no_rule() {
        let own = ask("alice@localhost", None);
        assert!(own.rules.is_empty());
        assert_eq!(own.fields, ["all"]);
    }

    #[test]
    fn a_floor_that_matches_is_told_as_the_domains() {
        let [owner, bob] = ["alice", "bob"].map(|n| Address::parse(&format!("{n}@localhost")));
        let domain = "[[floor]]\nid = \"f\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
                      fields = [\"note\"]\n[[floor]]\nid = \"g\"\nwho = [\"eve@localhost\"]\n\
                      handling = \"allow\"\n";
        let question = Question {
            owner: &owner.unwrap(),
            watcher: &Watcher::Principal(bob.unwrap()),
            purpose: Purpose::Subscribe,
            now: Timestamp::from_millis(0),
            sphere: None,
            contact: Grant::None,
            domain: &crate::DomainPolicy::parse(domain).unwrap(),
        };
        let told = explain(&RuleSet::parse("").unwrap(), &question).rules;
        let told: Vec<_> = told.iter().map(|rule| (&*rule.id, &*rule.why)).collect();
        assert_eq!(told, [("f", "by the domain, allow: it names bob@localhost")]);
    }

    #[test]
    fn a_lost_sphere_is_none_to_messages_whatever_is_named() {
        let [owner, bob] = ["alice", "bob"].map(|n| Address::parse(&format!("{n}@localhost")));
        let question = DeliveryQuestion {
            owner: &owner.unwrap(),
            sender: &Watcher::Principal(bob.unwrap()),
            now: Timestamp::from_millis(0),
            sphere: Some("home"),
            contact: Grant::None,
        };
        let rules = "[[delivery]]\nid = \"h\"\nwho = [\"anyone\"]\nsphere = [\"home\"]\naction = \"accept\"";
        let rules = RuleSet::parse(rules).unwrap();
        let told = explain_delivery_unsure(&rules, &question, Timestamp::from_millis(60_000));
        assert_eq!(told.decision.action(), crate::DeliveryAction::Hold);
        assert!(told.rules[0].why.contains("lost") && !told.rules[0].matched, "{told:?}");
    }
}
