//! Good texts are read, bad ones refused with the line and a hint.

use std::time::Duration;

use super::*;
use crate::rules::Rate;

fn fault(text: &str) -> (usize, String, Option<String>) {
    let error = RuleSet::parse(text).expect_err(text);
    (error.line, error.message, error.hint)
}

const EVERYTHING: &str = r#"
[groups]
friends = ["Bob@LOCALHOST", "dana@b.example"]

[[rule]]
id = "friends"
who = ["group:friends"] # and nobody else
except = ["bob@localhost"]
handling = "allow"
fields = ["status", "note", "org.example.seat"]
tuples = ["class:work", "id:im", "scheme:SIP"]
valid = ["2026-12-01T00:00:00Z/2026-12-24T00:00:00Z"]
sphere = ["Work"]
fetch = "confirm"

[[delivery]]
id = "domain"
who = ["domain:LocalHost"]
action = "accept"
rate = "60/min"

[[delegate]]
id = "calendar"
who = ["calendar@localhost"]
rights = ["publish:activities", "publish-tuple:desk", "inbox-read"]
until = "2026-12-31T00:00:00Z"
"#;

#[test]
fn every_word_of_the_form_is_understood() {
    let rules = RuleSet::parse(EVERYTHING).unwrap();
    let rule = &rules.rules()[0];
    assert_eq!((rule.handling(), rule.fetch()), (Handling::Allow, Handling::Confirm));
    let mut fields = rule.fields().unwrap().words();
    fields.sort();
    assert_eq!(fields, ["note", "org.example.seat", "status"]);
    let words = rule.grants.words();
    assert!(words.ends_with(&["class:work".into(), "id:im".into(), "scheme:sip".into()]));
    assert_eq!(rule.conditions().spheres, ["work"]);
    assert_eq!(rule.conditions().valid.len(), 1);
    let (name, members) = rules.groups().next().unwrap();
    assert_eq!((name, members.len()), ("friends", 2));
    assert!(members.contains(&Address::parse("bob@localhost").unwrap()));
    let rate = Rate { count: 60, period: Duration::from_secs(60) };
    assert_eq!(rules.delivery()[0].rate(), Some(rate));
    let rights = rules.delegates()[0].rights.iter().map(ToString::to_string);
    let rights: Vec<_> = rights.collect();
    assert_eq!(rights, ["publish:activities", "publish-tuple:desk", "inbox-read"]);
    assert!(rules.depends_on_sphere());
}

#[test]
fn d8_an_empty_text_is_a_set_that_grants_nothing() {
    assert_eq!(RuleSet::parse(""), Ok(RuleSet::default()));
    assert_eq!(RuleSet::parse("# nothing\n"), Ok(RuleSet::default()));
}

#[test]
fn d8_a_text_cut_anywhere_is_read_or_refused_whole() {
    for end in 0..EVERYTHING.len() {
        if let Err(error) = RuleSet::parse(&EVERYTHING[..end]) {
            assert!((1..=EVERYTHING.lines().count() + 1).contains(&error.line));
        }
    }
}

#[test]
fn d7_signs_that_are_patterns_elsewhere_are_letters_here() {
    for address in ["*@b.example", "+@b.example", "#@b.example"] {
        let text = format!("[[rule]]\nid = \"a\"\nwho = [\"{address}\"]\nhandling = \"allow\"\n");
        let who = &RuleSet::parse(&text).unwrap().rules[0].conditions.who;
        assert!(who.names(&Address::parse(address).unwrap()));
        assert!(!who.names(&Address::parse("bob@b.example").unwrap()));
    }
}

#[test]
fn unknown_keys_and_words_are_refused_with_their_line_and_a_hint() {
    let mean = |word: &str| Some(format!("did you mean \"{word}\"?"));
    for (text, line, message, hint) in [
        ("[[rules]]\n", 1, "unknown key \"rules\"", mean("rule")),
        ("\n\n[group]\na = []\n", 3, "unknown key \"group\"", mean("groups")),
        (
            "[[rule]]\nid = \"a\"\nwho = []\nhandling = \"alow\"\n",
            4,
            "unknown handling \"alow\"",
            mean("allow"),
        ),
        (
            "[[rule]]\nid = \"a\"\nwho = []\nhandling = \"allow\"\nshpere = [\"x\"]\n",
            5,
            "unknown key \"shpere\"",
            mean("sphere"),
        ),
        (
            "[[rule]]\nid = \"a\"\nwho = []\nhandling = \"allow\"\nfields = [\n\"mood\",\n\
             \"noet\"]",
            7,
            "unknown field \"noet\"",
            mean("note"),
        ),
        (
            "[groups]\nfriends = []\n[[rule]]\nid = \"a\"\nwho = [\"group:freinds\"]\n\
             handling = \"allow\"\n",
            5,
            "unknown group \"freinds\"",
            mean("friends"),
        ),
        (
            "[[delivery]]\nid = \"a\"\nwho = []\naction = \"acept\"\n",
            4,
            "unknown action \"acept\"",
            mean("accept"),
        ),
        (
            "[[delegate]]\nid = \"a\"\nwho = []\nrights = [\"ruels\"]\n",
            4,
            "unknown right \"ruels\"",
            mean("rules"),
        ),
    ] {
        assert_eq!(fault(text), (line, message.to_owned(), hint), "{text}");
    }
}

#[test]
fn r2_3_4_a_delegate_is_an_address_and_nobody_else() {
    for (who, message) in [
        ("group:g", "\"group:g\" in a [[delegate]]: only addresses are"),
        ("domain:a.example", "\"domain:a.example\" in a [[delegate]]: only addresses are"),
        ("contacts", "\"contacts\" in a [[delegate]]: only addresses are"),
        ("anyone", "\"anyone\" in a [[delegate]]: only addresses are"),
    ] {
        let delegate = format!("[[delegate]]\nid = \"a\"\nwho = [\"{who}\"]\nrights = []\n");
        let text = format!("[groups]\ng = [\"bob@a.example\"]\n{delegate}");
        let hint = Some("name each one: who = [\"calendar@a.example\"]".to_owned());
        assert_eq!(fault(&text), (5, message.to_owned(), hint));
    }
}

#[test]
fn bad_values_are_refused_in_words() {
    let rule = |lines: &str| format!("[[rule]]\nid = \"a\"\nhandling = \"allow\"\n{lines}\n");
    for (lines, message) in [
        ("who = [\"bob\"]", "bad address \"bob\": no domain: expected user@domain"),
        ("who = [\"*\"]", "bad address"),
        ("who = [\"domain:*.example\"]", "bad domain"),
        ("who = [\"anyon\"]", "bad address"),
        ("who = \"anyone\"", "\"who\" is string, expected a list"),
        ("who = [1]", "\"who\" holds a integer, expected strings"),
        ("who = []\ntuples = [\"klass:x\"]", "bad selector"),
        ("who = []\ntuples = [\"scheme:1\"]", "bad selector"),
        ("who = []\nvalid = [\"2026-12-01T00:00:00Z\"]", "bad span"),
        ("who = []\nvalid = [\"2026-12-01T00:00:00Z/tomorrow\"]", "bad time"),
        ("who = []\nvalid = [\"2026-12-02T00:00:00Z/2026-12-01T00:00:00Z\"]", "the span"),
        ("who = []\nvalid = []", "\"valid\" is empty"),
        ("who = []\nsphere = []", "\"sphere\" is empty"),
        ("who = []\nfetch = \"yes\"", "unknown fetch"),
        ("", "[[rule]] \"a\" has no \"who\""),
    ] {
        let (_, found, _) = fault(&rule(lines));
        assert!(found.starts_with(message), "{lines}: {found}");
    }
    let hint = |lines: &str| fault(&rule(lines)).2.unwrap();
    assert_eq!(hint("who = [\"anyon\"]"), "did you mean \"anyone\"?");
    assert_eq!(hint("who = \"anyone\""), "who = [\"anyone\"]");
    assert!(hint("who = [\"*\"]").starts_with("there are no patterns"));
    assert_eq!(hint("who = [\"a.example\"]"), "everybody of that domain is \"domain:a.example\"");
}

#[test]
fn what_a_rule_needs_must_be_there() {
    assert_eq!(fault("[[rule]]\nwho = []\n").1, "[[rule]] has no \"id\"");
    assert_eq!(
        fault("[[rule]]\nid = \"a\"\nwho = []\n"),
        (
            2,
            "[[rule]] \"a\" has no \"handling\"".to_owned(),
            Some("one of: block, confirm, polite-block, allow".to_owned())
        )
    );
    assert_eq!(
        fault("[[delivery]]\nid = \"a\"\nwho = []\n").1,
        "[[delivery]] \"a\" has no \"action\""
    );
    assert!(fault("rule = [{ id = \"a\" }]").1.contains("[[rule]]"));
    assert!(
        fault("[[delivery]]\nid = \"a\"\nwho=[]\naction = \"drop\"\nrate = \"1/s\"")
            .1
            .contains("rate")
    );
}

#[test]
fn d7_groups_hold_addresses_so_no_cycle_can_be_written() {
    let (line, message, hint) = fault("[groups]\na = []\nb = [\"group:a\"]\n");
    assert_eq!((line, &*message), (3, "\"group:a\" in a group: its members are addresses only"));
    assert!(hint.unwrap().contains("who"));
}

#[test]
fn an_id_stands_once() {
    let one = "[[rule]]\nid = \"a\"\nwho = []\nhandling = \"allow\"\n";
    assert_eq!(fault(&one.repeat(2)), (6, "a second [[rule]] with the id \"a\"".to_owned(), None));
    assert!(fault("[[rule]]\nid = \"\"\nwho = []\nhandling = \"allow\"\n").1.starts_with("bad id"));
}

#[test]
fn syntax_errors_have_a_line() {
    assert_eq!(fault("[groups]\na = [\"x\"\n\n[[rule]]\n").0, 4);
    assert_eq!(fault("[groups]\na = []\na = []\n").0, 3);
}

#[test]
fn limits_are_kept() {
    let long = format!("# {}", "x".repeat(RULES_BYTES_MAX));
    assert!(fault(&long).1.contains("at most"));
    let members = vec!["\"a@b.example\""; GROUP_MEMBERS_MAX + 1].join(",");
    assert!(fault(&format!("[groups]\na = [{members}]\n")).1.contains("at most"));
    let rule = |n| format!("[[rule]]\nid = \"{n}\"\nwho = []\nhandling = \"block\"\n");
    let many: String = (0..=RULES_MAX).map(rule).collect();
    assert!(fault(&many).1.contains("at most"));
    let many: String = (0..RULES_MAX).map(rule).collect();
    assert!(RuleSet::parse(&many).is_ok());
}

#[test]
fn parts_are_selected_by_the_words_of_their_kind() {
    let rule = |line: &str| {
        format!("[[rule]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n{line}")
    };
    let words = |line| RuleSet::parse(&rule(line)).unwrap().rules()[0].grants.words();
    let line = "tuples = [\"uri:SIP:a@x\"]\npersons = [\"class:work\"]\n\
                devices = [\"id:p\", \"device-id:urn:x:1\"]\nfields = [\"user-input:bare\"]";
    assert_eq!(
        words(line),
        [
            "user-input:bare",
            "uri:SIP:a@x",
            "persons:class:work",
            "devices:id:p",
            "devices:device-id:urn:x:1"
        ]
    );
    assert_eq!(words("fields = [\"user-input:bare\", \"user-input:full\"]"), ["user-input"]);
    assert_eq!(words("fields = [\"mood\"]\npersons = []"), ["mood", "persons:none"]);
    for (line, message, hint) in [
        ("persons = [\"id:x\"]", "bad selector \"id:x\"", "one of: class:, all"),
        (
            "devices = [\"scheme:im\"]",
            "bad selector \"scheme:im\"",
            "one of: class:, id:, device-id:, all",
        ),
        (
            "tuples = [\"uri:nothing\"]",
            "bad selector \"uri:nothing\"",
            "one of: class:, id:, scheme:, uri:, all",
        ),
        ("fields = [\"user-input:some\"]", "unknown field \"user-input:some\"", "user-input:bare"),
        ("fields = [\"mood:bare\"]", "unknown field \"mood:bare\"", "user-input:bare"),
    ] {
        let (at, said, hinted) = fault(&rule(line));
        assert_eq!((at, &*said), (5, message));
        assert!(hinted.unwrap().contains(hint), "{line}");
    }
}
