//! Three mistakes that another server has made stay tests: it compared the lengths of domains, it
//! judged the validity of the first rule for all, and it stopped at the first rule that matched.

use impp_acl::{Decision, Grant, Handling, Purpose, Question, RuleSet, Watcher, decide};
use impp_protocol::{Address, Timestamp};

fn ask(rules: &str, watcher: &str, now: &str) -> Decision {
    let question = Question {
        owner: &Address::parse("alice@a.example").unwrap(),
        watcher: &Watcher::Principal(Address::parse(watcher).unwrap()),
        purpose: Purpose::Subscribe,
        now: Timestamp::parse(now).unwrap(),
        sphere: None,
        contact: Grant::None,
        domain: impp_acl::DomainPolicy::none(),
    };
    decide(&RuleSet::parse(rules).unwrap(), &question)
}

const NOW: &str = "2026-12-06T00:00:00Z";

/// A domain is equal to itself however it is written, and to none of the same length.
#[test]
fn req_2_3_1_domains_of_one_length_are_not_equal() {
    let rules = "[[rule]]\nid = \"d\"\nwho = [\"domain:BÜCHER.example\"]\nhandling = \"allow\"\n";
    for (watcher, handling) in [
        ("x@bücher.example", Handling::Allow),
        ("x@xn--bcher-kva.example", Handling::Allow),
        ("x@XN--BCHER-KVA.Example", Handling::Allow),
        ("x@xn--bcher-kvb.example", Handling::Block),
        ("x@aaaaaaaaaaaaa.example", Handling::Block),
        ("x@bucher.example", Handling::Block),
        ("x@bücher.example.org", Handling::Block),
        ("x@my.bücher.example", Handling::Block),
    ] {
        // What is no address at all is nobody that could ask.
        if Address::parse(watcher).is_ok() {
            assert_eq!(ask(rules, watcher, NOW).handling(), handling, "{watcher}");
        }
    }
    let except = "[[rule]]\nid = \"d\"\nwho = [\"authenticated\"]\nexcept = [\"domain:b.example\"]\n\
                  handling = \"allow\"\n";
    assert_eq!(ask(except, "x@c.example", NOW).handling(), Handling::Allow);
    assert_eq!(ask(except, "x@b.example", NOW).handling(), Handling::Block);
}

/// Each rule by its own time, wherever it stands.
#[test]
fn r5_2_3_validity_is_judged_rule_by_rule() {
    let rule = |id: &str, valid: &str, field: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n\
             valid = [\"{valid}\"]\nfields = [\"{field}\"]\n"
        )
    };
    let past = rule("past", "2025-12-01T00:00:00Z/2026-01-01T00:00:00Z", "mood");
    let now = rule("now", "2026-12-01T00:00:00Z/2027-01-01T00:00:00Z", "note");
    let later = rule("later", "2027-12-01T00:00:00Z/2028-01-01T00:00:00Z", "activities");
    for order in [[&past, &now, &later], [&later, &past, &now], [&now, &later, &past]] {
        let text: String = order.into_iter().map(String::as_str).collect();
        let decision = ask(&text, "bob@b.example", NOW);
        assert_eq!(decision.handling(), Handling::Allow);
        assert_eq!(decision.grants().words(), ["note"]);
        assert_eq!(decision.until(), Timestamp::parse("2027-01-01T00:00:00Z"));
    }
}

/// All that match count, each for its part.
#[test]
fn req_2_3_3_all_matching_rules_combine() {
    let text = r#"
        [[rule]]
        id = "one"
        who = ["bob@b.example"]
        handling = "polite-block"
        fields = ["note"]
        [[rule]]
        id = "domain"
        who = ["domain:b.example"]
        handling = "allow"
        fields = ["user-input:bare"]
        tuples = ["class:work"]
        persons = []
        [[rule]]
        id = "anyone"
        who = ["anyone"]
        handling = "block"
        fields = ["user-input:thresholds"]
        devices = ["id:phone"]
    "#;
    let decision = ask(text, "bob@b.example", NOW);
    assert_eq!(decision.handling(), Handling::Allow);
    let words = ["note", "user-input:thresholds", "class:work", "devices:id:phone"];
    assert_eq!(decision.grants().words(), words);
}
