//! What a delegate with the right to `rules` may make of its owner's: it hands on no more than it is
//! granted itself, and neither who may write nor who may act is its to say.
//!
//! Whether there is that right says `delegation`.

mod said;

use std::fmt;
use std::hash::Hash;

use impp_protocol::Address;
use impp_protocol::hashing::HashSet;

use crate::conditions::Conditions;
use crate::decide::Purpose;
use crate::domain::DomainPolicy;
use crate::edit::is_decided;
use crate::grants::Grants;
use crate::identity::Grant;
use crate::named::Sought;
use crate::rules::{Handling, Rule, RuleSet};
use said::{Access, Acts, Delivery};

/// Something that a delegate would make of rules and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widened(String);

/// What somebody may want.
const PURPOSES: [Purpose; 2] = [Purpose::Subscribe, Purpose::Fetch];

/// What somebody is granted at any time, in any sphere, in or out of the contact list.
struct Unconditional {
    handling: Handling,
    fetch: Handling,
    grants: Grants,
}

impl RuleSet {
    /// A delegate may put `new` in the place of these rules, beneath the policy of the owner's `domain`:
    /// each rule there is one of these, or grants no more than the delegate is granted here without
    /// conditions, shows nobody more of what others, or the domain's floor, grant, and looks at nothing that
    /// is not for the delegate to know; the rest is the same. Each group that was there is there with just
    /// its members, as what the owner decides later goes by its name.
    ///
    /// What it costs goes with the length of the texts: each rule is looked at a few times, none with each
    /// of the others.
    ///
    /// # Errors
    /// [`Widened`] naming the first thing that it may not.
    pub fn confine(
        &self,
        new: &RuleSet,
        delegate: &Address,
        domain: &DomainPolicy,
    ) -> Result<(), Widened> {
        let same = "is the owner's to change";
        if !alike(self.delegates.iter().map(Acts::of), new.delegates.iter().map(Acts::of)) {
            return Err(Widened(format!("[[delegate]] {same}")));
        }
        self.keeps_groups(new)?;
        self.keeps_decisions(new)?;
        if !alike(self.delivery.iter().map(Delivery::of), new.delivery.iter().map(Delivery::of)) {
            return Err(Widened(format!("[[delivery]] {same}")));
        }
        let before: HashSet<_> = self.rules.iter().map(Access::of).collect();
        let own = self.unconditional(delegate, domain);
        let beside = PURPOSES.map(|purpose| own.first_unshown(new, domain, purpose));
        for rule in new.rules.iter().filter(|rule| !before.contains(&Access::of(rule))) {
            if let Some(what) = rule.conditions.looks_beside_names() {
                let text = format!("is none of before, and looks at {what}: only the owner's do");
                return Err(Widened(format!("the rule \"{}\" {text}", rule.id)));
            }
            if !own.includes(rule) {
                let text = "is none of before, and lets others do more than you may yourself";
                return Err(Widened(format!("the rule \"{}\" {text}", rule.id)));
            }
            let opened = PURPOSES.into_iter().zip(&beside).find_map(|(purpose, unshown)| {
                unshown.as_ref().filter(|_| rule.handling_for(purpose) == Handling::Allow)
            });
            if let Some(other) = opened {
                let text = format!("would show what {other} grants and does not show");
                return Err(Widened(format!("the rule \"{}\" {text}", rule.id)));
            }
        }
        Ok(())
    }

    /// Whether `new` has the groups that are here with the members that they have here, and no other that
    /// decisions would take for theirs.
    fn keeps_groups(&self, new: &RuleSet) -> Result<(), Widened> {
        let changed = self.groups.iter().find(|(name, all)| new.groups.get(*name) != Some(*all));
        if let Some((name, _)) = changed {
            return Err(Widened(format!("the group \"{name}\" is the owner's to change")));
        }
        let taken =
            new.groups.keys().find(|name| is_decided(name) && !self.groups.contains_key(*name));
        match taken {
            Some(name) => {
                Err(Widened(format!("the group \"{name}\" is for the owner's decisions")))
            }
            None => Ok(()),
        }
    }

    /// Whether each rule of `new` that decisions would take for theirs is one that is here: from a rule of
    /// the owner's under such an id a decision would strike whom the owner has named there.
    fn keeps_decisions(&self, new: &RuleSet) -> Result<(), Widened> {
        let decided = |rule: &&Rule| is_decided(&rule.id);
        let before = self.rules.iter().filter(decided);
        let before: HashSet<_> = before.map(|rule| (rule.id(), Access::of(rule))).collect();
        let mut after = new.rules.iter().filter(decided);
        match after.find(|rule| !before.contains(&(rule.id(), Access::of(rule)))) {
            Some(Rule { id, .. }) => {
                Err(Widened(format!("the rule \"{id}\" is for the owner's decisions")))
            }
            None => Ok(()),
        }
    }

    /// The floor grants beside these rules, and a ceiling that may be above the delegate cuts what both do.
    fn unconditional(&self, who: &Address, domain: &DomainPolicy) -> Unconditional {
        let sought = Sought::new(who);
        let counts = |rule: &&Rule| {
            let Conditions { who: named, except, valid, spheres } = &rule.conditions;
            let always = valid.is_empty() && spheres.is_empty();
            // Whatever the contact list says.
            let out = Grant::EVERY.iter().any(|grant| except.find(Some(sought), *grant).is_some());
            always && named.find(Some(sought), Grant::None).is_some() && !out
        };
        let mut own = Unconditional {
            handling: Handling::Block,
            fetch: Handling::Block,
            grants: Grants::nothing(),
        };
        for rule in self.rules.iter().chain(&domain.floors).filter(counts) {
            own.handling = own.handling.max(rule.handling);
            own.fetch = own.fetch.max(rule.fetch());
            own.grants.unite(&rule.grants);
        }
        let above = domain.ceilings.iter().filter(|ceiling| ceiling.conditions.may_match(sought));
        for ceiling in above {
            own.handling = own.handling.beneath(ceiling.handling_for(Purpose::Subscribe));
            own.fetch = own.fetch.beneath(ceiling.handling_for(Purpose::Fetch));
            own.grants = own.grants.cut(&ceiling.fields);
        }
        // They show to who is allowed.
        if own.handling.max(own.fetch) < Handling::Allow {
            own.grants = Grants::nothing();
        }
        own
    }
}

impl Unconditional {
    /// Whether whoever a rule is about gets no more by it.
    fn includes(&self, rule: &Rule) -> bool {
        rule.handling <= self.handling && rule.fetch() <= self.fetch && self.has(rule)
    }

    /// The first rule, in words, that grants more than this and does not show it to who wants that: one
    /// that allows beside it would, as rules unite what they grant. That nobody is named by both is not
    /// looked for.
    fn first_unshown(
        &self,
        rules: &RuleSet,
        domain: &DomainPolicy,
        purpose: Purpose,
    ) -> Option<String> {
        let more = |rule: &&Rule| rule.handling_for(purpose) != Handling::Allow && !self.has(rule);
        let own = rules.rules.iter().find(more).map(|rule| format!("\"{}\"", rule.id));
        let floor = || domain.floors.iter().find(more);
        own.or_else(|| floor().map(|rule| format!("the domain's \"{}\"", rule.id)))
    }

    /// Whether all that a rule grants to anybody is granted here.
    fn has(&self, rule: &Rule) -> bool {
        looked(1);
        let by_entry = rule.by_entry.iter().flatten();
        by_entry.chain([&rule.grants]).all(|grants| self.grants.includes(grants))
    }
}

/// Whether two lists say the same, in whatever order.
fn alike<T: Hash + Eq>(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> bool {
    old.collect::<HashSet<T>>() == new.collect::<HashSet<T>>()
}

impl fmt::Display for Widened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So often something was looked at: a test counts it.
fn looked(_times: usize) {
    #[cfg(test)]
    tests::LOOKED.set(tests::LOOKED.get() + _times);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::rules::{GROUP_MEMBERS_MAX, RULES_BYTES_MAX, RULES_MAX};

    thread_local! {
        pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
    }

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
        confined(OLD, text)
    }

    /// What is wrong with the one text in the place of the other.
    fn confined(old: &str, new: &str) -> Result<(), String> {
        let [old, new] = [old, new].map(|text| RuleSet::parse(text).unwrap());
        let help = Address::parse("help@a.example").unwrap();
        old.confine(&new, &help, DomainPolicy::none()).map_err(|widened| widened.to_string())
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
    fn d_4_a_group_keeps_its_name_and_its_members() {
        let friends = "friends = [\"bob@a.example\", \"dan@a.example\"]";
        let owners = Err("the group \"friends\" is the owner's to change".to_owned());
        let grown = "friends = [\"bob@a.example\", \"dan@a.example\", \"eve@a.example\"]";
        for other in [grown, "friends = [\"bob@a.example\"]", "friends = []"] {
            assert_eq!(edited(friends, other), owners, "{other}");
        }
        // Whom the owner denies later would be a member, and let in.
        for name in ["decided-deny", "decided-refuse", "decided-drop-7", "mates"] {
            assert_eq!(with(&OLD.replace("friends", name)), owners, "{name}");
            let beside = format!("{friends}\n{name} = [\"bob@a.example\"]");
            let fits = edited(friends, &beside);
            assert_eq!(fits.is_ok(), name == "mates", "{fits:?}");
        }
        let order = "friends = [\"dan@a.example\", \"bob@a.example\"]";
        assert_eq!(edited(friends, order), Ok(()));
    }

    #[test]
    fn d_4_a_group_is_its_name_and_not_who_is_in_it_now() {
        // Another group of the same members, and those written out.
        let old = OLD.replace("[groups]", "[groups]\nacq = [\"dan@a.example\", \"bob@a.example\"]");
        let named = "who = [\"group:friends\"]";
        for other in ["\"group:acq\"", "\"dan@a.example\", \"bob@a.example\""] {
            let other = format!("who = [{other}]");
            let access = old.replacen(named, &other, 1);
            let error = confined(&old, &access).unwrap_err();
            assert!(error.starts_with("the rule \"friends\" is none of before"), "{error}");
            let error = confined(&access, &old).unwrap_err();
            assert!(error.starts_with("the rule \"friends\" is none of before"), "{error}");
            let delivery = old.replace(&format!("{named}\naction"), &format!("{other}\naction"));
            let error = Err("[[delivery]] is the owner's to change".to_owned());
            assert_eq!(confined(&old, &delivery), error);
        }
    }

    #[test]
    fn d_4_a_new_rule_looks_at_nothing_but_names_and_time() {
        let desk = "fields = [\"note\"]\ntuples = [\"id:desk\"]\n";
        for (handling, more, what) in [
            ("allow", "except = [\"contacts\"]\n", Some("contacts")),
            ("block", "except = [\"contacts\"]\n", Some("contacts")),
            ("allow", "sphere = [\"work\"]\n", Some("the sphere")),
            ("polite-block", "sphere = [\"work\"]\n", Some("the sphere")),
            ("allow", "except = [\"group:friends\"]\n", None),
            ("allow", "valid = [\"2030-01-01T00:00:00Z/2031-01-01T00:00:00Z\"]\n", None),
        ] {
            let rest = if handling == "allow" { desk } else { "" };
            let words = |what: &str| {
                format!(
                    "the rule \"new\" is none of before, and looks at {what}: only the owner's do"
                )
            };
            let error = what.map_or(Ok(()), |what| Err(words(what)));
            assert_eq!(with(&rule(handling, &format!("{more}{rest}"))), error, "{handling} {more}");
        }
        let contacts = rule("block", "").replace("\"eve@a.example\"", "\"contacts\"");
        assert!(with(&contacts).unwrap_err().contains("looks at contacts"));
        // One that the owner has stays.
        let [old, new] = [&contacts, &contacts.replace("id = \"new\"", "id = \"mine\"")];
        assert_eq!(confined(old, new), Ok(()));
    }

    #[test]
    fn d_4_a_new_rule_grants_what_its_author_is_granted_always() {
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
        // Who waits itself is granted nothing that it could hand on.
        let note = rule("confirm", "fields = [\"note\"]\ntuples = [\"id:desk\"]\n");
        let waits = |text: &str| {
            let text = text.replace(
                "\"allow\"\nfields = [\"status\", \"note\"]",
                "\"confirm\"\nfields = [\"note\"]",
            );
            RuleSet::parse(&text).unwrap()
        };
        let help = Address::parse("help@a.example").unwrap();
        let confined = waits(OLD).confine(&waits(&note), &help, DomainPolicy::none());
        assert!(confined.unwrap_err().to_string().contains("may yourself"));
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
        let error = old.confine(&new, &help, DomainPolicy::none()).unwrap_err().to_string();
        assert_eq!(error, "the rule \"new\" would show what \"ask\" grants and does not show");
    }

    #[test]
    fn d_4_rules_under_the_ids_of_decisions_are_the_owners() {
        let is = |id: &str| Err(format!("the rule \"{id}\" is for the owner's decisions"));
        let friends = "id = \"friends\"";
        assert_eq!(edited(friends, "id = \"decided-friends\""), is("decided-friends"));
        assert_eq!(edited(friends, "id = \"decided-allow\""), is("decided-allow"));
        assert_eq!(edited(friends, "id = \"decides\""), Ok(()));
        // One of before stays, as it is, or goes.
        let old = OLD.replace(friends, "id = \"decided-allow\"");
        assert_eq!(confined(&old, &old), Ok(()));
        assert_eq!(
            confined(&old, &old.replace("decided-allow", "decided-allow-2")),
            is("decided-allow-2")
        );
        assert_eq!(confined(&old, OLD), Ok(()));
    }

    #[test]
    fn d_4_who_may_act_and_who_may_write_is_not_a_delegates_to_say() {
        let is = |what: &str| Err(format!("[[{what}]] is the owner's to change"));
        assert_eq!(
            edited("rights = [\"rules\"]", "rights = [\"rules\", \"send-as\"]"),
            is("delegate")
        );
        assert_eq!(edited("rights = [\"rules\"]", "rights = []"), is("delegate"));
        for other in ["hold\"", "accept\"\nrate = \"9/h\"", "accept\"\nmarks = [\"read\"]"] {
            let other = format!("action = \"{other}");
            assert_eq!(edited("action = \"accept\"", &other), is("delivery"), "{other}");
        }
        let until = "rights = [\"rules\"]\nuntil = \"2030-01-01T00:00:00Z\"";
        assert_eq!(edited("rights = [\"rules\"]", until), is("delegate"));
    }

    /// What is wrong with alice's text if this rule is added to it, beneath this policy.
    fn beneath(policy: &str, added: &str) -> Result<(), String> {
        let domain = DomainPolicy::parse(policy).unwrap();
        let [old, new] =
            [OLD.to_owned(), format!("{OLD}\n{added}")].map(|text| RuleSet::parse(&text).unwrap());
        let help = Address::parse("help@a.example").unwrap();
        old.confine(&new, &help, &domain).map_err(|widened| widened.to_string())
    }

    #[test]
    fn d_4_the_domains_policy_counts_as_it_does_for_who_watches() {
        let note = rule("allow", "fields = [\"note\"]\ntuples = [\"id:desk\"]\n");
        let note = note.strip_prefix(OLD).unwrap();
        let mood = note.replace("note", "mood");
        let floor = |who: &str, rest: &str| {
            format!("[[floor]]\nid = \"f\"\nwho = [\"{who}\"]\nhandling = {rest}\n")
        };
        // A floor is one more rule: what it grants the delegate always, it may grant.
        assert!(beneath(&floor("domain:b.example", "\"block\""), &mood).is_err());
        let grants = "\"allow\"\nfields = [\"mood\"]\ntuples = []";
        assert_eq!(beneath(&floor("domain:a.example", grants), &mood), Ok(()));
        // What it grants and does not show, no rule of a delegate may show.
        let asks = floor("eve@a.example", "\"confirm\"\nfields = [\"mood\", \"activities\"]");
        let shows = "would show what the domain's \"f\" grants and does not show";
        assert_eq!(beneath(&asks, note), Err(format!("the rule \"new\" {shows}")));
        // To look once is another wish.
        let once = "\"confirm\"\nfetch = \"allow\"\nfields = [\"activities\"]\ntuples = []";
        assert_eq!(
            beneath(&floor("eve@a.example", once), note),
            Err(format!("the rule \"new\" {shows}"))
        );
        let looks = note.replace("\"allow\"", "\"block\"\nfetch = \"allow\"");
        assert_eq!(beneath(&floor("eve@a.example", once), &looks), Ok(()));
        // Who is cut by a ceiling hands on what is left.
        let ceiling =
            |rest: &str| format!("[[ceiling]]\nid = \"c\"\nwho = [\"domain:a.example\"]\n{rest}\n");
        assert!(beneath(&ceiling("fields = [\"status\"]"), note).is_err());
        assert!(beneath(&ceiling("handling = \"polite-block\""), note).is_err());
        assert_eq!(beneath(&ceiling("fields = [\"status\", \"note\"]"), note), Ok(()));
    }

    /// Each rule of two texts as large as they may be is looked at a few times, and none with each other.
    #[test]
    fn d_4_what_comparing_costs_goes_with_the_texts_and_not_with_their_square() {
        let text = |from: usize| {
            let members =
                (0..GROUP_MEMBERS_MAX).map(|n| format!("\"u{n}@a.b\"")).collect::<Vec<_>>();
            let mut text = String::from("[groups]\n");
            for group in ["f", "g"] {
                text += &format!("{group} = [{}]\n", members.join(","));
            }
            let own = "who=[\"help@a.b\"]\nhandling=\"allow\"\nfields=[\"all\"]\n";
            text += &format!("[[rule]]\nid=\"own\"\n{own}");
            for id in 1..RULES_MAX {
                let who = format!("\"group:f\",\"group:g\",\"w{}@a.b\"", id + from);
                text += &format!("[[rule]]\nid=\"{id}\"\nwho=[{who}]\nhandling=\"confirm\"\n");
            }
            assert!(text.len() * 5 > RULES_BYTES_MAX * 3 && text.len() <= RULES_BYTES_MAX);
            RuleSet::parse(&text).unwrap()
        };
        let (old, help) = (text(0), Address::parse("help@a.b").unwrap());
        // All of them are of before, or none and no more than its author is granted.
        for new in [text(0), text(RULES_MAX)] {
            LOOKED.set(0);
            assert_eq!(old.confine(&new, &help, DomainPolicy::none()), Ok(()));
            let looked = LOOKED.get();
            assert!((RULES_MAX..=16 * RULES_MAX).contains(&looked), "{looked}");
        }
    }
}
