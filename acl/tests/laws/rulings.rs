//! Laws of rulings: they hold whatever the rules were, and for that one watcher alone.

use impp_acl::{
    DeliveryAction, DeliveryRuling, FieldSet, Grant, Handling, Purpose, RuleSet, Ruling, Watcher,
    decide, decide_delivery, with_decision, with_delivery_decision,
};
use impp_protocol::Address;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::any::{self, Asking, OWNER, Spec, WATCHERS};

/// Random rules, some of them under the names that rulings use themselves.
fn spec() -> impl Strategy<Value = String> {
    (
        any::spec(),
        select(vec!["g", "decided-deny", "decided-polite", "decided-drop"]),
        proptest::bool::ANY,
    )
        .prop_map(|(spec, name, rename)| {
            let text = spec.text().replace("\"group:g\"", &format!("\"group:{name}\""));
            let text = text.replace("\ng = ", &format!("\n{name} = "));
            if !rename {
                return text;
            }
            text.replace("\"r0\"", "\"decided-allow\"")
                .replace("\"r1\"", "\"decided-polite\"")
                .replace("\"d0\"", "\"decided-accept\"")
        })
}

fn ruling() -> impl Strategy<Value = Ruling> {
    select(vec![
        Ruling::Allow(FieldSet::status()),
        Ruling::Allow(FieldSet::All),
        Ruling::Polite,
        Ruling::Deny,
    ])
}

fn delivery_ruling() -> impl Strategy<Value = DeliveryRuling> {
    select(vec![DeliveryRuling::Accept, DeliveryRuling::Drop, DeliveryRuling::Refuse])
}

fn everybody() -> Vec<Asking> {
    let mut all = Vec::new();
    for watcher in WATCHERS {
        for (purpose, contact) in [Purpose::Subscribe, Purpose::Fetch]
            .into_iter()
            .flat_map(|purpose| Grant::EVERY.iter().map(move |&contact| (purpose, contact)))
        {
            for (now, sphere) in [(1, None), (4, Some("work")), (6, Some("home"))] {
                all.push(Asking {
                    owner: Address::parse(OWNER).unwrap(),
                    watcher: Address::parse(watcher).map_or(Watcher::Anonymous, Watcher::Principal),
                    purpose,
                    now,
                    sphere,
                    contact,
                });
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_ruling_holds_for_its_watcher_and_for_nobody_else(
        text in spec(),
        rulings in vec((select(WATCHERS[..4].to_vec()), ruling()), 1..6),
    ) {
        let mut text = text;
        for (who, ruling) in rulings {
            let who = Address::parse(who).unwrap();
            let before = RuleSet::parse(&text).unwrap();
            text = with_decision(&text, &who, &ruling).unwrap();
            let after = RuleSet::parse(&text).unwrap();
            for asking in everybody() {
                let decision = decide(&after, &asking.question());
                if asking.watcher != Watcher::Principal(who.clone()) {
                    let old = decide(&before, &asking.question());
                    prop_assert_eq!(decision.handling(), old.handling(), "{}", text);
                    prop_assert_eq!(decision.grants(), old.grants(), "{}", text);
                    continue;
                }
                let (expected, fields) = match &ruling {
                    Ruling::Allow(fields) => (Handling::Allow, fields.clone()),
                    Ruling::Polite => (Handling::PoliteBlock, FieldSet::nothing()),
                    Ruling::Deny => (Handling::Block, FieldSet::nothing()),
                };
                prop_assert_eq!(decision.handling(), expected, "{}", text);
                let fields = impp_acl::Grants::new(fields, impp_acl::Parts::tuples(impp_acl::PartSet::nothing()));
                prop_assert!(decision.grants().includes(&fields), "{}", text);
            }
            for asking in everybody() {
                if asking.watcher != Watcher::Principal(who.clone()) {
                    let action = |rules| decide_delivery(rules, &asking.letter()).action();
                    prop_assert_eq!(action(&before), action(&after), "{}", text);
                }
            }
        }
    }

    #[test]
    fn a_delivery_ruling_holds_for_its_sender_and_for_nobody_else(
        text in spec(),
        rulings in vec((select(WATCHERS[..4].to_vec()), delivery_ruling()), 1..6),
    ) {
        let mut text = text;
        for (who, ruling) in rulings {
            let who = Address::parse(who).unwrap();
            let before = RuleSet::parse(&text).unwrap();
            text = with_delivery_decision(&text, &who, ruling).unwrap();
            let after = RuleSet::parse(&text).unwrap();
            for asking in everybody() {
                let action = decide_delivery(&after, &asking.letter()).action();
                let expected = match ruling {
                    _ if asking.watcher != Watcher::Principal(who.clone()) => {
                        decide_delivery(&before, &asking.letter()).action()
                    }
                    DeliveryRuling::Accept => DeliveryAction::Accept,
                    DeliveryRuling::Drop => DeliveryAction::Drop,
                    DeliveryRuling::Refuse => DeliveryAction::Refuse,
                };
                prop_assert_eq!(action, expected, "{}", text);
            }
        }
    }

    #[test]
    fn the_same_ruling_twice_changes_nothing(
        spec in any::spec(), who in select(WATCHERS[..4].to_vec()), ruling in ruling()
    ) {
        let who = Address::parse(who).unwrap();
        let once = with_decision(&Spec::text(&spec), &who, &ruling).unwrap();
        prop_assert_eq!(&with_decision(&once, &who, &ruling).unwrap(), &once);
    }
}
