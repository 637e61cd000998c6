//! Decisions in names alone, for whom contents do not concern: the operator of the server.
//!
//! Why each rule matched, and what it grants, is for the owner, by [`crate::explain`].

use crate::explain::{DeliveryExplanation, Explanation, RuleTrace};

/// What was decided of somebody, in names alone: those of rules and of fields. Nothing that stands in a
/// rule, in a group or in the document is in it, nor what a condition has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The handling, or the action for messages.
    pub decision: &'static str,
    /// The fields that they may see, as [`Explanation::fields`].
    pub fields: Vec<String>,
    /// The ids of the owner's rules that matched.
    pub rules: Vec<String>,
    /// The ids of what matched of the domain's policy.
    pub domain: Vec<String>,
}

impl Explanation {
    /// The same in names alone.
    pub fn outline(self) -> Outline {
        let decision = self.decision.handling().as_str();
        Outline { decision, fields: self.fields, ..Outline::of(self.rules) }
    }
}

impl DeliveryExplanation {
    /// The same in names alone.
    pub fn outline(self) -> Outline {
        Outline { decision: self.decision.action().as_str(), ..Outline::of(self.rules) }
    }
}

impl Outline {
    fn of(rules: Vec<RuleTrace>) -> Outline {
        let matched = rules.into_iter().filter(|rule| rule.matched);
        let (domain, own): (Vec<_>, Vec<_>) = matched.partition(|rule| rule.by_domain);
        let [rules, domain] =
            [own, domain].map(|all| all.into_iter().map(|rule| rule.id).collect());
        Outline { decision: "", fields: vec![], rules, domain }
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::{Address, Timestamp};

    use crate::{DomainPolicy, Grant, Purpose, Question, RuleSet, Watcher, explain};

    /// Sphere, group, class and address are in the rules, and nowhere in what is told of them.
    #[test]
    fn d12_an_outline_has_names_of_rules_and_fields_alone() {
        let rules = RuleSet::parse(
            "[groups]\nsuitors = [\"bob@localhost\"]\n\n[[rule]]\nid = \"one\"\n\
             who = [\"group:suitors\"]\nhandling = \"allow\"\nfields = [\"note\"]\n\
             tuples = [\"class:secret\"]\nsphere = [\"hideout\"]\n\n[[rule]]\nid = \"other\"\n\
             who = [\"dana@localhost\"]\nhandling = \"allow\"\nfields = [\"mood\"]\n",
        );
        let domain = DomainPolicy::parse(
            "[[ceiling]]\nid = \"most\"\nwho = [\"anyone\"]\nfields = [\"note\"]\n",
        );
        let question = Question {
            owner: &Address::parse("alice@localhost").unwrap(),
            watcher: &Watcher::Principal(Address::parse("bob@localhost").unwrap()),
            purpose: Purpose::Subscribe,
            now: Timestamp::from_millis(0),
            sphere: Some("hideout"),
            contact: Grant::None,
            domain: &domain.unwrap(),
        };
        let outline = explain(&rules.unwrap(), &question).outline();
        let told = (outline.decision, &*outline.rules, &*outline.domain);
        assert_eq!(told, ("allow", &["one".to_owned()][..], &["most".to_owned()][..]));
        assert_eq!(outline.fields, ["note", "status"]);
        for value in ["suitors", "secret", "hideout", "bob", "dana"] {
            assert!(!format!("{outline:?}").contains(value), "{value}: {outline:?}");
        }
    }
}
