//! Laws of the filter: idempotent, monotone, offline is offline (RFC 5025 3.3, RFC 2779 5.1.15).

use impp_acl::{Handling, decide};
use impp_protocol::presence::{Document, Fields, UserInput};
use proptest::prelude::*;

use super::any;

/// Whether all that the one shows, the other shows too. Offline says nothing, so all contain it.
fn contains(more: &Document, less: &Document) -> bool {
    let within = |more: &str, less: &str| {
        // Of user-input there may be less to see, but nothing else.
        let mut words = more.split(' ').filter(|_| UserInput::parse(more).is_some());
        more == less || less.split(' ').all(|word| words.any(|own| own == word))
    };
    let fields = |more: &Fields, less: &Fields| {
        less.iter().all(|(k, v)| more.get(k).is_some_and(|m| within(m, v)))
    };
    *less == Document::offline()
        || fields(&more.person, &less.person)
            && less.tuples.iter().all(|(id, f)| more.tuples.get(id).is_some_and(|m| fields(m, f)))
            && less.devices.iter().all(|(id, f)| more.devices.get(id).is_some_and(|m| fields(m, f)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn filtering_twice_is_filtering_once(
        spec in any::spec(), asking in any::asking(), full in any::document()
    ) {
        let decision = decide(&spec.parse(), &asking.question());
        if let Some(once) = decision.view(&full) {
            prop_assert_eq!(decision.view(once.document()), Some(once));
        }
    }

    #[test]
    fn a_rule_more_never_hides_a_field(
        spec in any::spec(), rule in any::rule(), asking in any::asking(), full in any::document()
    ) {
        let mut more = spec.clone();
        more.rules.push(rule);
        let less = decide(&spec.parse(), &asking.question()).view(&full);
        let more = decide(&more.parse(), &asking.question()).view(&full);
        if let Some(less) = less {
            prop_assert!(more.is_some_and(|more| contains(more.document(), less.document())));
        }
    }

    #[test]
    fn a_view_shows_nothing_that_is_not_in_the_document(
        spec in any::spec(), asking in any::asking(), full in any::document()
    ) {
        if let Some(view) = decide(&spec.parse(), &asking.question()).view(&full) {
            prop_assert!(contains(&full, view.document()));
        }
    }

    #[test]
    fn req_5_1_15_offline_looks_the_same_to_the_allowed_and_the_politely_blocked(
        spec in any::spec(), asking in any::asking(), full in any::document()
    ) {
        let decision = decide(&spec.parse(), &asking.question());
        let offline = decision.view(&Document::offline()).map(|view| view.into_document());
        let seen = decision.handling() >= Handling::PoliteBlock;
        prop_assert_eq!(offline, seen.then(Document::offline));
        if decision.handling() == Handling::PoliteBlock {
            prop_assert_eq!(decision.view(&full), decision.view(&Document::offline()));
        }
    }

    #[test]
    fn equal_keys_show_equal_documents(
        spec in any::spec(), a in any::asking(), b in any::asking(), full in any::document()
    ) {
        let rules = spec.parse();
        let (a, b) = (decide(&rules, &a.question()), decide(&rules, &b.question()));
        if a.view_key() == b.view_key() {
            prop_assert_eq!(a.view(&full), b.view(&full));
        }
    }
}
