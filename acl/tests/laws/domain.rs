//! Laws of a domain's policy: its floor is rules beside the owner's, its ceiling is above them all.

use impp_acl::{DomainPolicy, Grants, Handling, Question, RuleSet, decide, decide_unsure, explain};
use proptest::collection::vec;
use proptest::prelude::*;

use super::any::{self, RuleSpec, Spec};

/// Rules of users that could stand in a floor: those that ask no sphere.
pub(super) fn floor() -> impl Strategy<Value = RuleSpec> {
    any::rule().prop_map(|rule| RuleSpec { sphere: vec![], ..rule })
}

/// A ceiling cuts fields and handling; the rest of a rule is not its concern.
pub(super) fn ceiling() -> impl Strategy<Value = RuleSpec> {
    floor().prop_map(|rule| RuleSpec {
        handling: [0, 2, 3, 3][rule.handling],
        fetch: rule.fetch.map(|fetch| [0, 2, 3, 3][fetch]),
        tuples: None,
        persons: None,
        devices: None,
        ..rule
    })
}

/// The text of such rules, with other headings.
fn text(groups: &Spec, rules: &[RuleSpec], heading: &str) -> String {
    let spec = Spec { rules: rules.to_vec(), delivery: vec![], ..groups.clone() };
    let text = spec.text().replace("[[rule]]", &format!("[[{heading}]]"));
    text.replace("[groups]", "").replace("\ng = ", "\n#").replace("\nh = ", "\n#")
}

fn groups(spec: &Spec) -> String {
    let members = spec.groups.iter().map(|(name, members)| format!("{name} = {members:?}\n"));
    "[groups]\n".to_owned() + &members.collect::<String>()
}

/// A policy of these, with the groups of a user's rules; none if it would say nothing.
pub(super) fn policy(spec: &Spec, floors: &[RuleSpec], ceilings: &[RuleSpec]) -> DomainPolicy {
    if floors.is_empty() && ceilings.is_empty() {
        return DomainPolicy::default();
    }
    let rules = text(spec, floors, "floor") + &text(spec, ceilings, "ceiling");
    DomainPolicy::parse(&(groups(spec) + &rules)).unwrap()
}

pub(super) fn of<'a>(asking: &'a any::Asking, domain: &'a DomainPolicy) -> Question<'a> {
    Question { domain, ..asking.question() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_floor_is_one_more_rule(
        spec in any::spec(), floors in vec(floor(), 1..4), asking in any::asking(),
        full in any::document()
    ) {
        let policy = groups(&spec) + &text(&spec, &floors, "floor");
        let policy = DomainPolicy::parse(&policy).unwrap();
        let mut more = spec.clone();
        more.rules.extend(floors);
        let (rules, question) = (spec.parse(), of(&asking, &policy));
        let (x, y) = (decide(&rules, &question), decide(&more.parse(), &asking.question()));
        prop_assert_eq!((x.handling(), x.grants(), x.until()), (y.handling(), y.grants(), y.until()));
        prop_assert_eq!(x.view(&full), y.view(&full));
        let (x, y) = (decide_unsure(&rules, &question), decide_unsure(&more.parse(), &asking.question()));
        prop_assert_eq!((x.0.handling(), x.1), (y.0.handling(), y.1));
    }

    #[test]
    fn nothing_shows_above_the_ceiling_and_all_below_it_does(
        spec in any::spec(), ceilings in vec(ceiling(), 1..4), asking in any::asking(),
        full in any::document()
    ) {
        let rules = spec.parse();
        // What a ceiling would let through, were it a rule that matches alone.
        let alone = |ceiling: &RuleSpec| {
            let only = Spec { rules: vec![ceiling.clone()], ..spec.clone() };
            let decision = decide(&only.parse(), &asking.question());
            let fields = match &ceiling.fields {
                Some(_) => decision.grants().fields().clone(),
                None => impp_acl::FieldSet::All,
            };
            let why = explain(&only.parse(), &asking.question());
            why.rules.iter().any(|rule| rule.matched).then(|| (decision.handling(), fields))
        };
        let texts: Vec<RuleSpec> = ceilings.clone();
        let policy = groups(&spec) + &text(&spec, &texts, "ceiling");
        let policy = DomainPolicy::parse(&policy).unwrap();
        let plain = decide(&rules, &asking.question());
        let cut = decide(&rules, &of(&asking, &policy));
        prop_assume!(asking.watcher != impp_acl::Watcher::Principal(asking.owner.clone()));
        let most: Vec<_> = ceilings.iter().filter_map(alone).collect();
        let least = most.iter().map(|(handling, _)| *handling).min().unwrap_or(Handling::Allow);
        // Who could not be allowed is not asked about either.
        let handling = match (plain.handling(), least) {
            (Handling::Confirm, Handling::PoliteBlock) => least,
            (handling, least) => handling.min(least),
        };
        prop_assert_eq!(cut.handling(), handling);
        let name = |name: &str| impp_protocol::presence::FieldName::parse(name).unwrap();
        for value in any::INPUTS {
            for field in any::FIELDS.iter().copied().chain(["org.example.unheard-of"]) {
                let shown = |grants: &Grants| grants.fields().shown(&name(field), &value.into());
                let bounds = most.iter().map(|(_, fields)| fields.shown(&name(field), &value.into()));
                let length = |shown: Option<std::sync::Arc<str>>| shown.map(|text| text.len());
                let least = bounds.map(length).chain([length(shown(plain.grants()))]).min();
                prop_assert_eq!(length(shown(cut.grants())), least.flatten(), "{}", field);
            }
        }
        // The cut view is a view, and says why.
        if let Some(once) = cut.view(&full) {
            prop_assert_eq!(cut.view(once.document()), Some(once));
        }
        let explained = explain(&rules, &of(&asking, &policy));
        let by_domain = explained.rules.iter().filter(|rule| rule.why.starts_with("by the domain"));
        prop_assert_eq!(by_domain.count(), most.len());
    }

    /// Also where the sphere is lost: what hangs on it is what differs beneath the ceiling.
    #[test]
    fn what_hangs_on_the_sphere_is_seen_beneath_the_ceiling(
        spec in any::spec(), ceilings in vec(ceiling(), 1..3), asking in any::asking()
    ) {
        let policy = groups(&spec) + &text(&spec, &ceilings, "ceiling");
        let policy = DomainPolicy::parse(&policy).unwrap();
        let rules: RuleSet = spec.parse();
        let seen = [None, Some("work"), Some("home"), Some("x")].map(|sphere| {
            let asking = any::Asking { sphere, ..asking.clone() };
            let decision = decide(&rules, &of(&asking, &policy));
            (decision.handling(), decision.view_key())
        });
        let (decision, hangs) = decide_unsure(&rules, &of(&asking, &policy));
        prop_assert_eq!((decision.handling(), decision.view_key()), seen[0].clone());
        prop_assert_eq!(hangs, seen.iter().any(|other| *other != seen[0]));
    }
}
