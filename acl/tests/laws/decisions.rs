//! Laws of decisions: order means nothing, rules only grant, words and deeds are one.

use impp_acl::{
    DeliveryAction, Handling, Purpose, RuleSet, Watcher, decide, decide_delivery,
    decide_delivery_unsure, decide_unsure, explain, explain_delivery,
};
use impp_protocol::Timestamp;
use proptest::prelude::*;

use super::{any, domain};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn order_means_nothing(spec in any::spec(), asking in any::asking(), turn in 0..6usize) {
        let mut turned = spec.clone();
        let (rules, delivery) = (turned.rules.len().max(1), turned.delivery.len().max(1));
        turned.rules.reverse();
        turned.rules.rotate_left(turn % rules);
        turned.delivery.reverse();
        turned.delivery.rotate_left(turn % delivery);
        let (a, b) = (spec.parse(), turned.parse());
        let (x, y) = (decide(&a, &asking.question()), decide(&b, &asking.question()));
        prop_assert_eq!((x.handling(), x.grants()), (y.handling(), y.grants()));
        prop_assert_eq!((x.until(), x.view_key()), (y.until(), y.view_key()));
        let (x, y) = (decide_delivery(&a, &asking.letter()), decide_delivery(&b, &asking.letter()));
        prop_assert_eq!((x.action(), x.rate(), x.until()), (y.action(), y.rate(), y.until()));
    }

    #[test]
    fn a_rule_more_never_hides(
        spec in any::spec(), rule in any::rule(), asking in any::asking()
    ) {
        let mut more = spec.clone();
        more.rules.push(rule.clone());
        more.delivery.push(rule);
        let (a, b) = (spec.parse(), more.parse());
        let (x, y) = (decide(&a, &asking.question()), decide(&b, &asking.question()));
        prop_assert!(x.handling() <= y.handling());
        prop_assert!(y.grants().includes(x.grants()));
        let x = decide_delivery(&a, &asking.letter()).action();
        prop_assert!(x <= decide_delivery(&b, &asking.letter()).action());
    }

    #[test]
    fn d_4_what_a_delegate_may_set_shows_nobody_more_than_before_or_than_itself(
        old in any::spec(), kept in any::spec(), more in prop::collection::vec(any::rule(), 0..4),
        keeps in prop::collection::vec(any::<bool>(), 6), asking in any::asking(),
        floors in prop::collection::vec(domain::floor(), 0..3),
        ceilings in prop::collection::vec(domain::ceiling(), 0..2),
    ) {
        let policy = domain::policy(&old, &floors, &ceilings);
        let delegate = impp_protocol::Address::parse("b@x.example").unwrap();
        let mut old = old;
        let plain = any::RuleSpec {
            who: vec!["b@x.example"],
            except: vec![],
            handling: 3,
            fetch: None,
            fields: Some(vec!["note", "status"]),
            tuples: Some(vec!["all"]),
            persons: None,
            devices: None,
            valid: vec![],
            sphere: vec![],
        };
        old.rules.push(plain.clone());
        // Some of what there was, what is random or mostly what the delegate is granted, and groups of
        // either.
        let mut new = old.clone();
        let mut keeps = keeps.into_iter();
        new.rules.retain(|_| keeps.next().unwrap_or(true));
        new.rules.extend(more.into_iter().enumerate().map(|(at, rule)| match at {
            2 => rule,
            _ => any::RuleSpec { who: rule.who, except: rule.except, ..plain.clone() },
        }));
        if new.rules.len() % 2 == 0 {
            new.groups = kept.groups;
        }
        let (a, b) = (old.parse(), new.parse());
        if a.confine(&b, &delegate, &policy).is_err() {
            return Ok(());
        }
        let own = any::Asking { watcher: Watcher::Principal(delegate), ..asking.clone() };
        let [before, own, after] = [(&a, &asking), (&a, &own), (&b, &asking)]
            .map(|(rules, asking)| decide(rules, &domain::of(asking, &policy)));
        // Who would only be asked about is blocked politely beneath some ceilings, and shown nothing.
        let is_cut = !ceilings.is_empty() && after.handling() == Handling::PoliteBlock;
        prop_assert!(is_cut || after.handling() <= before.handling().max(own.handling()));
        if after.handling() == Handling::Allow {
            let shown = |of: &impp_acl::Decision| match of.handling() {
                Handling::Allow => of.grants().clone(),
                _ => impp_acl::Grants::nothing(),
            };
            prop_assert!(shown(&before).union(&shown(&own)).includes(after.grants()));
        }
    }

    #[test]
    fn an_explanation_is_the_decision(spec in any::spec(), asking in any::asking()) {
        let rules = spec.parse();
        let explained = explain(&rules, &asking.question());
        prop_assert_eq!(&explained.decision, &decide(&rules, &asking.question()));
        prop_assert_eq!(
            explained.fields.is_empty(),
            explained.decision.handling() != Handling::Allow
                || explained.decision.grants() == &impp_acl::Grants::nothing()
        );
        let explained = explain_delivery(&rules, &asking.letter());
        prop_assert_eq!(&explained.decision, &decide_delivery(&rules, &asking.letter()));
    }

    #[test]
    fn req_2_3_3_fetched_and_notified_views_are_the_same(
        spec in any::spec(), asking in any::asking(), full in any::document()
    ) {
        let rules = spec.parse();
        let by = |purpose| {
            let decision = decide(&rules, &any::Asking { purpose, ..asking.clone() }.question());
            (decision.handling(), decision.view(&full))
        };
        let (subscribed, fetched) = (by(Purpose::Subscribe), by(Purpose::Fetch));
        prop_assert!(subscribed.0 != fetched.0 || subscribed == fetched);
    }

    #[test]
    fn until_is_the_next_moment_at_which_anything_changes(
        spec in any::spec(), asking in any::asking()
    ) {
        let rules = spec.parse();
        let at = |now| decide(&rules, &any::Asking { now, ..asking.clone() }.question());
        let now = at(asking.now);
        let until = now.until().map_or(20, |moment| moment.as_millis() / 1000);
        prop_assert!(now.until() > Some(Timestamp::from_millis(asking.now * 1000)) || until == 20);
        for later in asking.now..until {
            let then = at(later);
            prop_assert_eq!((then.handling(), then.grants()), (now.handling(), now.grants()));
        }
    }

    /// Without the owner's sphere, what is the same in every sphere is decided, and nothing else; a
    /// message that some sphere would let in is not sent away.
    #[test]
    fn what_hangs_on_the_sphere_differs_between_spheres(
        spec in any::spec(), asking in any::asking()
    ) {
        let rules = spec.parse();
        let spheres = [None, Some("work"), Some("home"), Some("x")];
        let all: Vec<_> = spheres.map(|sphere| any::Asking { sphere, ..asking.clone() }).into();
        let decisions: Vec<_> = all.iter().map(|asking| decide(&rules, &asking.question())).collect();
        let (decision, hangs) = decide_unsure(&rules, &asking.question());
        prop_assert_eq!(&decision, &decisions[0]);
        let seen: Vec<_> = decisions.iter().map(|d| (d.handling(), d.view_key())).collect();
        prop_assert_eq!(hangs, seen.iter().any(|other| *other != seen[0]), "{:?}", seen);
        let hidden = impp_protocol::presence::Document::offline();
        for waits in [true, false] {
            let view = decision.clone().put_off(waits).view_key().map(|key| key.apply(&any::full()));
            prop_assert_eq!(view.map(|view| view.document().clone()), (!waits).then(|| hidden.clone()));
        }
        let letters = all.iter().map(|asking| decide_delivery(&rules, &asking.letter()).action());
        let letters: Vec<_> = letters.collect();
        let most = letters.iter().copied().max().unwrap().min(DeliveryAction::Hold);
        let most = if most == DeliveryAction::Hold { most } else { letters[0] };
        prop_assert_eq!(
            decide_delivery_unsure(&rules, &asking.letter()).action(),
            letters[0].max(most)
        );
    }

    #[test]
    fn any_text_is_rules_or_an_error(text in "[a-z\\[\\]=\"\\n, :{}.]{0,80}") {
        let _ = RuleSet::parse(&text);
    }
}
