//! Rulings case by case; that they hold for any rules is in `tests/laws/rulings.rs`.

use super::*;
use crate::{
    DeliveryQuestion, Purpose, Question, RuleSet, Watcher, decide, decide_delivery, default_rules,
};
use impp_protocol::{Domain, Timestamp};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn handling(text: &str, watcher: &str) -> Handling {
    let question = Question {
        owner: &address("alice@localhost"),
        watcher: &Watcher::Principal(address(watcher)),
        purpose: Purpose::Subscribe,
        now: Timestamp::from_millis(0),
        sphere: None,
        contact: Grant::None,
        domain: crate::DomainPolicy::none(),
    };
    decide(&RuleSet::parse(text).unwrap(), &question).handling()
}

fn action(text: &str, sender: &str) -> DeliveryAction {
    let question = DeliveryQuestion {
        owner: &address("alice@localhost"),
        sender: &Watcher::Principal(address(sender)),
        now: Timestamp::from_millis(0),
        sphere: None,
        contact: Grant::None,
    };
    decide_delivery(&RuleSet::parse(text).unwrap(), &question).action()
}

fn defaults() -> String {
    default_rules(&Domain::parse("localhost").unwrap())
}

#[test]
fn a_request_allowed_denied_and_allowed_again() {
    let bob = address("bob@localhost");
    let status = Ruling::Allow(FieldSet::status());
    let mut text = defaults();
    for (ruling, expected) in [
        (&status, Handling::Allow),
        (&Ruling::Deny, Handling::Block),
        (&Ruling::Deny, Handling::Block),
        (&Ruling::Polite, Handling::PoliteBlock),
        (&Ruling::Allow(FieldSet::All), Handling::Allow),
        (&Ruling::Deny, Handling::Block),
        (&status, Handling::Allow),
    ] {
        text = with_decision(&text, &bob, ruling).unwrap();
        assert_eq!(handling(&text, "bob@localhost"), expected, "{text}");
        assert_eq!(handling(&text, "carol@localhost"), Handling::Confirm, "{text}");
    }
}

#[test]
fn messages_accepted_dropped_and_refused() {
    let x = address("x@b.example");
    let mut text = defaults();
    assert_eq!(action(&text, "x@b.example"), DeliveryAction::Hold);
    for (ruling, expected) in [
        (DeliveryRuling::Accept, DeliveryAction::Accept),
        (DeliveryRuling::Drop, DeliveryAction::Drop),
        (DeliveryRuling::Refuse, DeliveryAction::Refuse),
        (DeliveryRuling::Accept, DeliveryAction::Accept),
    ] {
        text = with_delivery_decision(&text, &x, ruling).unwrap();
        assert_eq!(action(&text, "x@b.example"), expected, "{text}");
        assert_eq!(action(&text, "y@b.example"), DeliveryAction::Hold, "{text}");
        assert_eq!(handling(&text, "x@b.example"), Handling::Confirm, "{text}");
    }
}

const MINE: &str = r#"# mine
[groups]
friends = [
  "dana@localhost", # since school
  "Bob@localhost",  # from work
]

[[rule]]
id = "friends" # the best
who = ["group:friends"]
except = ["bob@localhost"]   # not now
handling = "allow"
fields = ["note"]
"#;

#[test]
fn the_owners_words_and_exceptions_stay() {
    let bob = address("bob@localhost");
    let text = with_decision(MINE, &bob, &Ruling::Deny).unwrap();
    let text = with_decision(&text, &bob, &Ruling::Allow(FieldSet::status())).unwrap();
    for line in MINE.lines() {
        assert!(text.contains(line), "{line} is gone from\n{text}");
    }
    assert_eq!(handling(&text, "bob@localhost"), Handling::Allow);
    let rules = RuleSet::parse(&text).unwrap();
    assert!(rules.rules()[0].conditions().except.names(&bob));
}

#[test]
fn a_denial_excepts_the_group_and_shows_in_the_text() {
    let text = with_decision(MINE, &address("dana@localhost"), &Ruling::Deny).unwrap();
    assert!(text.contains(r#"except = ["bob@localhost", "group:decided-deny"]   # not now"#));
    assert!(text.contains(r#"decided-deny = ["dana@localhost"]"#), "{text}");
    assert_eq!(handling(&text, "dana@localhost"), Handling::Block);
}

#[test]
fn one_rule_holds_all_who_are_allowed_the_same() {
    let mut text = defaults();
    for name in ["a", "b", "c"] {
        let who = address(&format!("{name}@localhost"));
        text = with_decision(&text, &who, &Ruling::Allow(FieldSet::status())).unwrap();
    }
    text = with_decision(&text, &address("d@localhost"), &Ruling::Allow(FieldSet::All)).unwrap();
    assert!(text.contains(r#"who = ["a@localhost", "b@localhost", "c@localhost"]"#), "{text}");
    let ids: Vec<String> =
        RuleSet::parse(&text).unwrap().rules().iter().map(|r| r.id().to_owned()).collect();
    assert_eq!(ids[3..], ["decided-allow", "decided-allow-2"]);
}

/// A name of the owner's that begins like one of decisions is the owner's.
#[test]
fn a_ruling_takes_nobody_out_of_a_group_that_is_only_called_alike() {
    let text = "[groups]\ndecided-deny-coworkers = [\"bob@localhost\"]\n\
                decided-deny-2 = [\"bob@localhost\"]\n\n[[rule]]\nid = \"all\"\n\
                who = [\"authenticated\"]\nexcept = [\"group:decided-deny-2\"]\nhandling = \"allow\"\n";
    let status = Ruling::Allow(FieldSet::status());
    let text = with_decision(text, &address("bob@localhost"), &status).unwrap();
    assert!(text.contains("decided-deny-coworkers = [\"bob@localhost\"]"), "{text}");
    assert!(!text.contains("decided-deny-2 = [\"bob@localhost\"]"), "{text}");
    assert_eq!(handling(&text, "bob@localhost"), Handling::Allow);
}

#[test]
fn lists_of_one_item_to_a_line_stay_so() {
    let list = "[[rule]]\nid = \"decided-allow\"\nwho = [\n  \"a@localhost\", # one\n  \
                \"b@localhost\",\n]\nhandling = \"allow\"\nfields = [\"status\"]\n";
    let status = Ruling::Allow(FieldSet::status());
    let text = with_decision(list, &address("c@localhost"), &status).unwrap();
    assert!(text.contains("\n  \"b@localhost\",\n  \"c@localhost\",\n]"), "{text}");
    let text = with_decision(&text, &address("b@localhost"), &Ruling::Deny).unwrap();
    assert!(text.contains("# one"), "{text}");
    assert!(!text.contains("  \"b@localhost\""), "{text}");
}

#[test]
fn someone_already_in_the_group_keeps_what_a_later_rule_gives() {
    let text = "[groups]\ndecided-deny = [\"bob@localhost\"]\n\n[[rule]]\nid = \"all\"\n\
                who = [\"authenticated\"]\nhandling = \"allow\"\n";
    let text = with_decision(text, &address("carol@localhost"), &Ruling::Deny).unwrap();
    assert_eq!(handling(&text, "carol@localhost"), Handling::Block);
    assert_eq!(handling(&text, "bob@localhost"), Handling::Allow);
}

#[test]
fn a_text_with_faults_is_not_edited() {
    let error = with_decision("[[rule]]\n", &address("b@localhost"), &Ruling::Deny).unwrap_err();
    assert_eq!(error.line, 1);
}

#[test]
fn into_a_group_of_the_owners_and_out_again() {
    let dave = address("dave@localhost");
    let text = with_decision(MINE, &dave, &Ruling::Deny).unwrap();
    let text = with_group(&text, &dave, "friends").unwrap();
    assert_eq!(handling(&text, "dave@localhost"), Handling::Allow);
    for line in MINE.lines().filter(|line| !line.contains("ob@localhost")) {
        assert!(text.contains(line), "{line} is gone from\n{text}");
    }
    // Once is enough, in whatever spelling.
    let dana = address("dana@localhost");
    let twice = with_group(&text, &dana, "friends").unwrap();
    assert_eq!(twice, text);
    let text = with_decision(&text, &dave, &Ruling::Deny).unwrap();
    assert_eq!(handling(&text, "dave@localhost"), Handling::Block);
    assert_eq!(handling(&text, "dana@localhost"), Handling::Allow);
}

#[test]
fn a_group_that_is_not_there_or_lets_nobody_in_is_said() {
    let words = |text: &str, who: &str, group: &str| {
        with_group(text, &address(who), group).map_err(|error| error.to_string())
    };
    let unknown = "the rules have no group \"friend\"; they have friends";
    assert_eq!(words(MINE, "dave@localhost", "friend"), Err(unknown.to_owned()));
    let none = "the rules have no group \"friends\"; they have none";
    assert_eq!(words("", "dave@localhost", "friends"), Err(none.to_owned()));
    // Whom the rule leaves out by name, and a group that is only blocked.
    let out = "no rule lets bob@localhost see anything as a member of \"friends\"";
    assert_eq!(words(MINE, "bob@localhost", "friends"), Err(out.to_owned()));
    let ex = MINE.replace("\"allow\"", "\"polite-block\"");
    assert!(words(&ex, "dave@localhost", "friends").is_err());
}

/// Whoever is denied is in no group that lets in, whatever it is called, and out of it with the next word.
#[test]
fn a_decision_makes_its_own_group_where_some_rule_is_about_that_one() {
    let eve = address("eve@localhost");
    let text = |group: &str| {
        let named = format!("who = [\"group:{group}\"]");
        format!(
            "[groups]\n{group} = [\"bob@localhost\"]\n\n\
             [[rule]]\nid = \"in\"\n{named}\nhandling = \"allow\"\n\n\
             [[rule]]\nid = \"ask\"\nwho = [\"authenticated\"]\nhandling = \"confirm\"\n\n\
             [[delivery]]\nid = \"in\"\n{named}\naction = \"accept\"\n\n\
             [[delivery]]\nid = \"ask\"\nwho = [\"authenticated\"]\naction = \"hold\"\n"
        )
    };
    for group in [DENIED, POLITE, REFUSED, DROPPED] {
        let before = text(group);
        for (ruling, written, seen, done) in [
            (Ruling::Deny, DeliveryRuling::Refuse, Handling::Block, DeliveryAction::Refuse),
            (Ruling::Polite, DeliveryRuling::Drop, Handling::PoliteBlock, DeliveryAction::Drop),
        ] {
            let text = with_decision(&before, &eve, &ruling).unwrap();
            assert_eq!(action(&text, "eve@localhost"), DeliveryAction::Hold, "{text}");
            let text = with_delivery_decision(&text, &eve, written).unwrap();
            assert_eq!(handling(&text, "eve@localhost"), seen, "{text}");
            assert_eq!(action(&text, "eve@localhost"), done, "{text}");
            assert_eq!(handling(&text, "bob@localhost"), Handling::Allow, "{text}");
            assert_eq!(action(&text, "bob@localhost"), DeliveryAction::Accept, "{text}");
            let text = with_decision(&text, &eve, &Ruling::Allow(FieldSet::All)).unwrap();
            let text = with_delivery_decision(&text, &eve, DeliveryRuling::Accept).unwrap();
            assert_eq!(handling(&text, "eve@localhost"), Handling::Allow, "{text}");
            assert_eq!(action(&text, "eve@localhost"), DeliveryAction::Accept, "{text}");
            let rules = RuleSet::parse(&text).unwrap();
            let kept = rules.groups.values().all(|members| !members.contains(&eve));
            assert!(kept, "an earlier word stays in {text}");
        }
    }
}
