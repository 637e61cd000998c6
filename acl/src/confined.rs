//! What a delegate with the right to `rules` may make of its owner's: it hands on no more than it is
//! granted itself, and neither who may write nor who may act is its to say.
//!
//! Whether there is that right says `delegation`.

use std::fmt;

use impp_protocol::Address;

use crate::conditions::Conditions;
use crate::delegation::Delegate;
use crate::grants::Grants;
use crate::identity::{Grant, Who};
use crate::named::Sought;
use crate::rules::{DeliveryRule, Handling, Rule, RuleSet};

/// Something that a delegate would make of rules and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widened(String);

/// What somebody is granted at any time, in any sphere, in or out of the contact list.
struct Unconditional {
    handling: Handling,
    fetch: Handling,
    grants: Grants,
}

impl RuleSet {
    /// A delegate may put `new` in the place of these rules: each rule there is one of these, or grants
    /// no more than the delegate is granted here without conditions, and shows nobody more of what others
    /// grant; the rest is the same. Groups count by
    /// who is in them, and names count for nothing.
    ///
    /// # Errors
    /// [`Widened`] naming the first thing that it may not.
    pub fn confine(&self, new: &RuleSet, delegate: &Address) -> Result<(), Widened> {
        let same = "is the owner's to change";
        if !alike(&self.delegates, &new.delegates, nameless_delegate) {
            return Err(Widened(format!("[[delegate]] {same}")));
        }
        if !alike(&self.delivery, &new.delivery, nameless_delivery) {
            return Err(Widened(format!("[[delivery]] {same}")));
        }
        let old: Vec<Rule> = self.rules.iter().map(nameless).collect();
        let own = self.unconditional(delegate);
        for rule in new.rules.iter().filter(|rule| !old.contains(&nameless(rule))) {
            if !own.includes(rule) {
                let text = "is none of before, and lets others do more than you may yourself";
                return Err(Widened(format!("the rule \"{}\" {text}", rule.id)));
            }
            if let Some(other) = new.rules.iter().find(|other| own.opens(rule, other)) {
                let text = format!("would show what \"{}\" grants and does not show", other.id);
                return Err(Widened(format!("the rule \"{}\" {text}", rule.id)));
            }
        }
        Ok(())
    }

    fn unconditional(&self, who: &Address) -> Unconditional {
        let who = Some(Sought::new(who));
        let counts = |rule: &&Rule| {
            let Conditions { who: named, except, valid, spheres } = &rule.conditions;
            let always = valid.is_empty() && spheres.is_empty();
            // Whatever the contact list says.
            let out = Grant::EVERY.iter().any(|grant| except.find(who, *grant).is_some());
            always && named.find(who, Grant::None).is_some() && !out
        };
        let (mut handling, mut fetch, mut grants) = Default::default();
        for rule in self.rules.iter().filter(counts) {
            (handling, fetch) = (rule.handling.max(handling), rule.fetch().max(fetch));
            grants = Some(match grants {
                None => rule.grants.clone(),
                Some(grants) => rule.grants.clone().union(&grants),
            });
        }
        // They show to who is allowed.
        let shown = grants.filter(|_| handling.max(fetch) == Handling::Allow);
        Unconditional { handling, fetch, grants: shown.unwrap_or_else(Grants::nothing) }
    }
}

impl Unconditional {
    /// Whether whoever a rule is about gets no more by it.
    fn includes(&self, rule: &Rule) -> bool {
        rule.handling <= self.handling && rule.fetch() <= self.fetch && self.has(rule)
    }

    /// Whether one rule may let see what another grants beyond this: rules unite what they grant, and one
    /// that allows shows all of it. That nobody is named by both is not looked for.
    fn opens(&self, rule: &Rule, other: &Rule) -> bool {
        let shows = |of: &Rule| [of.handling, of.fetch()].map(|by| by == Handling::Allow);
        let more = shows(rule).into_iter().zip(shows(other)).any(|(one, other)| one && !other);
        more && !self.has(other)
    }

    /// Whether all that a rule grants to anybody is granted here.
    fn has(&self, rule: &Rule) -> bool {
        let by_entry = rule.by_entry.iter().flatten();
        by_entry.chain([&rule.grants]).all(|grants| self.grants.includes(grants))
    }
}

/// Whether two lists say the same, in whatever order.
fn alike<T: PartialEq>(old: &[T], new: &[T], nameless: impl Fn(&T) -> T) -> bool {
    let [old, new] = [old, new].map(|list| list.iter().map(&nameless).collect::<Vec<T>>());
    old.iter().all(|one| new.contains(one)) && new.iter().all(|one| old.contains(one))
}

fn nameless(rule: &Rule) -> Rule {
    Rule { id: String::new(), conditions: resolved(&rule.conditions), ..rule.clone() }
}

fn nameless_delivery(rule: &DeliveryRule) -> DeliveryRule {
    DeliveryRule { id: String::new(), conditions: resolved(&rule.conditions), ..rule.clone() }
}

fn nameless_delegate(delegate: &Delegate) -> Delegate {
    Delegate { id: String::new(), ..delegate.clone() }
}

/// The same conditions, with the members of groups in their place.
fn resolved(conditions: &Conditions) -> Conditions {
    let whole = |who: &Who| {
        let members = who.groups.iter().flat_map(|group| group.members().iter().cloned());
        let addresses = who.addresses.iter().cloned().chain(members).collect();
        Who { addresses, groups: Vec::new(), ..who.clone() }
    };
    let Conditions { who, except, .. } = conditions;
    Conditions { who: whole(who), except: whole(except), ..conditions.clone() }
}

impl fmt::Display for Widened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
[groups]
friends = ["bob@a.example", "dan@a.example"]

[[rule]]
id = "friends"
who = ["group:friends"]
handling = "allow"
fields = ["all"]

[[rule]]
id = "help"
who = ["help@a.example"]
handling = "allow"
fields = ["status", "note"]
tuples = ["id:desk"]

[[rule]]
id = "at work"
who = ["help@a.example"]
handling = "allow"
fields = ["mood"]
tuples = ["all"]
sphere = ["work"]

[[delivery]]
id = "in"
who = ["group:friends"]
action = "accept"

[[delegate]]
id = "d"
who = ["help@a.example"]
rights = ["rules"]
"#;

    /// What is wrong with a text that says this in the place of that.
    fn edited(old: &str, new: &str) -> Result<(), String> {
        assert!(OLD.contains(old), "{old}");
        with(&OLD.replace(old, new))
    }

    fn with(text: &str) -> Result<(), String> {
        let [old, new] = [OLD, text].map(|text| RuleSet::parse(text).unwrap());
        let help = Address::parse("help@a.example").unwrap();
        old.confine(&new, &help).map_err(|widened| widened.to_string())
    }

    fn rule(handling: &str, rest: &str) -> String {
        format!(
            "{OLD}\n[[rule]]\nid = \"new\"\nwho = [\"eve@a.example\"]\nhandling = \"{handling}\"\n{rest}"
        )
    }

    #[test]
    fn d_4_what_stays_and_what_goes_is_no_more_than_before() {
        assert_eq!(with(OLD), Ok(()));
        assert_eq!(edited("id = \"friends\"", "id = \"others\""), Ok(()));
        // The same people, named otherwise.
        let named = "who = [\"dan@a.example\", \"bob@a.example\"]\nhandling";
        assert_eq!(edited("who = [\"group:friends\"]\nhandling", named), Ok(()));
        assert_eq!(
            edited(
                "sphere = [\"work\"]",
                "sphere = [\"work\"]\n\n[[rule]]\nid = \"b\"\n\
            who = [\"bob@a.example\"]\nhandling = \"block\""
            ),
            Ok(())
        );
    }

    #[test]
    fn d_4_a_group_that_grows_is_another_rule() {
        let grown = "friends = [\"bob@a.example\", \"dan@a.example\", \"eve@a.example\"]";
        let error = edited("friends = [\"bob@a.example\", \"dan@a.example\"]", grown);
        assert_eq!(error, Err("[[delivery]] is the owner's to change".to_owned()));
        let apart =
            OLD.replace("group:friends\"]\naction", "bob@a.example\", \"dan@a.example\"]\naction");
        let old = "friends = [\"bob@a.example\", \"dan@a.example\"]";
        let error = with(&apart.replace(old, grown)).unwrap_err();
        assert!(error.starts_with("the rule \"friends\" is none of before"), "{error}");
    }

    #[test]
    fn d_4_a_new_rule_grants_what_its_author_is_granted_always() {
        let desk = "tuples = [\"id:desk\"]\n";
        for (handling, rest, fits) in [
            ("allow", "fields = [\"note\"]\ntuples = [\"id:desk\"]\n", true),
            ("confirm", "fields = [\"status\"]\ntuples = [\"id:desk\"]\n", true),
            ("block", "", true),
            ("allow", "fields = [\"all\"]\ntuples = [\"id:desk\"]\n", false),
            // In one sphere alone.
            ("allow", "fields = [\"mood\"]\ntuples = [\"id:desk\"]\n", false),
            // Without any named they are all.
            ("allow", "fields = [\"note\"]\n", false),
            ("allow", "fields = [\"note\"]\ntuples = [\"id:im\"]\n", false),
        ] {
            assert_eq!(with(&rule(handling, rest)).is_ok(), fits, "{handling} {rest}");
        }
        // To contacts what their entries grant may be all.
        let contacts =
            rule("allow", desk).replace("who = [\"eve@a.example\"]", "who = [\"contacts\"]");
        assert!(with(&contacts).is_err());
    }

    #[test]
    fn d_4_what_waits_for_the_owner_is_not_opened() {
        // Rules unite: who is let in by one is shown what the other grants.
        let asks = "[[rule]]\nid = \"ask\"\nwho = [\"eve@a.example\"]\nhandling = \"confirm\"\nfields = [\"all\"]\n";
        let [old, new] = ["", "fields = [\"note\"]\ntuples = [\"id:desk\"]\n"].map(|rest| {
            let more = if rest.is_empty() { String::new() } else { rule("allow", rest) };
            let text = if rest.is_empty() { OLD.to_owned() } else { more };
            RuleSet::parse(&format!("{text}\n{asks}")).unwrap()
        });
        let help = Address::parse("help@a.example").unwrap();
        let error = old.confine(&new, &help).unwrap_err().to_string();
        assert_eq!(error, "the rule \"new\" would show what \"ask\" grants and does not show");
    }

    #[test]
    fn d_4_who_may_act_and_who_may_write_is_not_a_delegates_to_say() {
        let is = |what: &str| Err(format!("[[{what}]] is the owner's to change"));
        assert_eq!(
            edited("rights = [\"rules\"]", "rights = [\"rules\", \"send-as\"]"),
            is("delegate")
        );
        assert_eq!(edited("rights = [\"rules\"]", "rights = []"), is("delegate"));
        assert_eq!(edited("action = \"accept\"", "action = \"hold\""), is("delivery"));
    }
}
