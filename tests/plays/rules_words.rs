//! What the owner's and the watcher's commands do and print: rules, contacts, watchers, requests,
//! subscriptions, devices. Fields of objects are those that scripts rely on.

use impp_tests::Server;
use impp_tests::impp::{Impp, Ran};
use impp_tests::presence::at_once;
use impp_tests::running::Running;
use serde_json::Value;

use crate::rules::{ALL, rule, strangers};

/// The names of an object's fields, in the order of the alphabet.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(|key| &**key).collect();
    keys.sort_unstable();
    keys
}

/// Whether a text is a time as RFC 3339 has it, in UTC.
fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    impp_protocol::Timestamp::parse(text).is_some() && text.ends_with('Z')
}

/// The error object of a run that has to fail with this exit code.
fn error(ran: &Ran, code: i32) -> Value {
    assert_eq!(ran.code, code, "{ran:?}");
    let line = ran.stderr.lines().find(|line| line.starts_with('{')).expect("an error object");
    let object: Value = serde_json::from_str(line).unwrap();
    assert_eq!(keys(&object), ["error"]);
    object["error"].clone()
}

/// Has alice's rules be these.
fn set_rules(server: &Server, text: &str) -> Value {
    let file = server.data().join("rules.toml");
    std::fs::write(&file, text).unwrap();
    Impp::of(server, "alice").run(&["rules", "set", file.to_str().unwrap()]).one()
}

/// Rules replace those of the version that they start from; from an older one they are refused
/// and nothing changes.
#[test]
fn rules_from_a_stale_base_are_a_conflict() {
    let server = strangers(&["bob"]);
    let alice = Impp::of(&server, "alice");
    let first = alice.run(&["rules", "show"]).one();
    let base = first["version"].as_str().expect("a version").to_owned();
    let file = server.data().join("rules.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, rule("bob", "allow", ALL)).unwrap();
    let set = alice.run(&["rules", "set", file, "--base", &base]).one();
    std::fs::write(file, rule("bob", "block", "")).unwrap();
    let stale = alice.run(&["rules", "set", file, "--base", &base]);
    let told = error(&stale, 1);
    assert_eq!(told["name"], "conflict");
    let shown = alice.run(&["rules", "show"]).one();
    assert_eq!(shown["version"], set["version"]);
    assert_eq!(shown["rule"][0]["handling"], "allow");
    Impp::of(&server, "bob").run(&["fetch", "alice@localhost"]).one();
    // What was shown can be set again, to the same effect.
    let newest = shown["version"].as_str().unwrap();
    alice.run(&["rules", "set", file, "--base", newest]).one();
    assert_eq!(Impp::of(&server, "bob").run(&["fetch", "alice@localhost"]).code, 1);
}

/// A file of rules that cannot be read is refused with its name, the line and a hint; the rules
/// stay as they were.
#[test]
fn bad_rules_are_named_by_file_and_line() {
    let server = strangers(&["bob"]);
    let alice = Impp::of(&server, "alice");
    set_rules(&server, &rule("bob", "allow", ALL));
    let good = alice.run(&["rules", "show"]).one();
    let file = server.data().join("bad.toml");
    let name = file.to_str().unwrap();
    let cases = [
        ("# a\n[[rule]]\nid = \"x\"\nwhoo = [\"anyone\"]\nhandling = \"allow\"", 4, "who"),
        ("[[rule]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"alow\"", 4, "allow"),
        ("[[rule]]\nid = \"x\"\nwho = [\"group:none\"]\nhandling = \"allow\"", 3, ""),
        (
            "[[rule]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"mod\"]",
            5,
            "mood",
        ),
        ("[[delivery]]\nid = \"x\"\nwho = [\"bob\"]\naction = \"accept\"", 3, ""),
        ("[[rule]", 1, ""),
    ];
    for (text, line, hint) in cases {
        std::fs::write(&file, text).unwrap();
        let ran = alice.run(&["rules", "set", name]);
        let told = error(&ran, 2);
        let message = told["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{name}:{line}: ")), "{message}");
        let hinted = told["hint"].as_str().unwrap_or_default();
        assert!(hinted.contains(hint), "{message}; hint: {hinted}, expected {hint}");
        assert_eq!(alice.run(&["rules", "show"]).one(), good);
    }
    assert_eq!(alice.run(&["rules", "set", "/nowhere/rules.toml"]).code, 2);
    Impp::of(&server, "bob").run(&["fetch", "alice@localhost"]).one();
}

/// A new account's rules are visible as what they are, in the words in which rules are written.
#[test]
fn the_rules_of_a_new_account_are_visible() {
    let server = strangers(&["bob"]);
    let shown = Impp::of(&server, "alice").run(&["rules", "show"]).one();
    let ids = |kind: &str| -> Vec<(String, String)> {
        let rules = shown[kind].as_array().unwrap().iter();
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.map(|r| (text(r, "id"), text(r, "handling") + &text(r, "action"))).collect()
    };
    let handlings: Vec<_> = ids("rule").into_iter().map(|rule| rule.1).collect();
    assert_eq!(handlings, ["allow", "confirm", "block"]);
    let actions: Vec<_> = ids("delivery").into_iter().map(|rule| rule.1).collect();
    assert_eq!(actions, ["accept", "hold", "refuse"]);
    assert_eq!(ids("rule")[0].0, "contacts");
}

/// `rules explain` names the rules that grant and those that do not, and says what the watcher
/// then really sees.
#[test]
fn r2_3_3_explain_agrees_with_what_is_seen() {
    let server = strangers(&["bob", "carol", "dave", "erin", "fred"]);
    let alice = Impp::of(&server, "alice");
    set_rules(
        &server,
        &format!(
            "[groups]\nfriends = [\"bob@localhost\", \"erin@localhost\"]\n\
             [[rule]]\nid = \"friends\"\nwho = [\"group:friends\"]\n\
             except = [\"erin@localhost\"]\nhandling = \"allow\"\nfields = [\"note\"]\n\
             [[rule]]\nid = \"moods\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"mood\"]\n{}{}{}",
            rule("carol", "polite-block", ""),
            rule("dave", "confirm", ""),
            rule("erin", "allow", "fields = [\"status\"]"),
        ),
    );
    let fields = ["--note", "n", "--mood", "happy", "--activity", "meeting"];
    alice.run(&[&["status", "set", "open"], &fields[..]].concat()).one();
    let cases: [(&str, &str, &[&str], &[&str]); 5] = [
        ("bob", "allow", &["mood", "note", "status"], &["friends", "moods"]),
        ("carol", "polite-block", &[], &["carol"]),
        ("dave", "confirm", &[], &["dave"]),
        ("erin", "allow", &["status"], &["erin"]),
        ("fred", "block", &[], &[]),
    ];
    for (name, decision, fields, matched) in cases {
        let address = format!("{name}@localhost");
        let told = alice.run(&["rules", "explain", &address]).one();
        assert_eq!(keys(&told), ["decision", "fetch", "fields", "owner", "rules", "watcher"]);
        assert_eq!(
            (&told["owner"], &told["watcher"]),
            (&"alice@localhost".into(), &address.into())
        );
        assert_eq!(told["decision"], decision, "{told}");
        assert_eq!(told["fields"], serde_json::json!(fields), "{told}");
        let rules = told["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 5, "each rule is there: {told}");
        for rule in rules {
            assert_eq!(keys(rule), ["grants", "id", "matched", "why"]);
            assert!(!rule["why"].as_str().unwrap().is_empty());
        }
        let naming: Vec<_> = rules.iter().filter(|rule| rule["matched"] == true).collect();
        let naming: Vec<_> = naming.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
        assert_eq!(naming, matched, "{told}");
        let fetched = Impp::of(&server, name).run(&["fetch", "alice@localhost"]);
        match decision {
            "allow" | "polite-block" => {
                let document = fetched.one()["document"].clone();
                let mut seen = keys(&document["person"]);
                if document["tuples"][0]["status"] == "open" {
                    seen.push("status");
                }
                assert_eq!(seen, fields, "{name} sees {document}");
            }
            "confirm" => {
                let fetched = fetched.one();
                assert_eq!(fetched["state"], "pending");
                assert_eq!(keys(&fetched), ["presentity", "state"]);
            }
            _ => assert_eq!(error(&fetched, 1)["name"], "refused"),
        }
    }
}

/// Where looking once is handled apart, `rules explain` tells both, each as it is served.
#[test]
fn r2_3_2_explain_tells_of_following_and_of_looking_once() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    alice.run(&["status", "set", "open", "--note", "shown"]).one();
    set_rules(
        &server,
        "[[rule]]\nid = \"once\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n\
         fetch = \"allow\"\nfields = [\"all\"]\n",
    );
    let told = alice.run(&["rules", "explain", "bob@localhost"]).one();
    assert_eq!((&told["decision"], &told["fields"]), (&"block".into(), &serde_json::json!([])));
    let once = &told["fetch"];
    assert_eq!(
        (&once["decision"], &once["fields"]),
        (&"allow".into(), &serde_json::json!(["all"]))
    );
    assert_eq!(once["rules"][0]["id"], "once");
    // As it is served.
    let seen = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(seen["document"]["person"]["note"], "shown");
    let refused = bob.run(&["watch", "alice@localhost", "--count", "1", "--for", "20"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
}

/// `rules explain --delivery` says what becomes of somebody's messages, and by which rule.
#[test]
fn r2_3_5_explain_tells_of_delivery_too() {
    let server = strangers(&["bob"]);
    let alice = Impp::of(&server, "alice");
    let told = alice.run(&["rules", "explain", "bob@localhost", "--delivery"]).one();
    assert_eq!((&told["decision"], &told["fields"]), (&"accept".into(), &serde_json::json!([])));
    assert_eq!(told["rules"][0]["matched"], true);
    let told = alice.run(&["rules", "explain", "x@b.example", "--delivery"]).one();
    assert_eq!(told["decision"], "hold");
}

/// Adding a contact asks to follow them and grants the status, in words too; the entry shows how
/// that stands, on both sides.
#[test]
fn a_new_contact_is_granted_the_status() {
    let server = strangers(&["bob"]);
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    alice.run(&["status", "set", "open", "--note", "not for bob yet"]).one();
    let added = ["contacts", "add", "bob@localhost", "--name", "Bob", "--group", "work"];
    let ran = alice.run(&added);
    assert!(ran.stderr.contains("status"), "it does not say what it grants: {ran:?}");
    let entry = ran.one();
    assert_eq!(keys(&entry), ["address", "follow", "grants", "groups", "name", "subscription"]);
    assert_eq!(entry["grants"], "status");
    assert_eq!((&entry["follow"], &entry["subscription"]), (&true.into(), &"pending".into()));
    assert_eq!(entry["groups"], serde_json::json!(["work"]));
    let seen = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(keys(&seen), ["document", "presentity", "state", "version"]);
    assert_eq!(
        (&seen["state"], &seen["presentity"]),
        (&"active".into(), &"alice@localhost".into())
    );
    assert_eq!(seen["document"]["tuples"][0]["status"], "open");
    assert_eq!(seen["document"]["person"], serde_json::json!({}));
    let request = bob.run(&["requests", "list"]).one();
    assert_eq!(keys(&request), ["from", "kind", "since"]);
    assert_eq!(
        (&request["from"], &request["kind"]),
        (&"alice@localhost".into(), &"subscribe".into())
    );
    assert!(is_time(&request["since"]));
    let allowed = bob.run(&["requests", "allow", "alice@localhost"]);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    assert_eq!(alice.run(&["contacts", "list"]).one()["subscription"], "active");
    alice.run(&["contacts", "add", "bob@localhost", "--grant", "all"]).one();
    let seen = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(seen["document"]["person"]["note"], "not for bob yet");
    assert_eq!(alice.run(&["contacts", "remove", "bob@localhost"]).code, 0);
    assert_eq!(alice.run(&["contacts", "list"]).objects, Vec::<Value>::new());
    assert_eq!(bob.run(&["fetch", "alice@localhost"]).one()["state"], "pending");
    assert_eq!(bob.run(&["watchers"]).one()["state"], "terminated");
    assert_eq!(error(&alice.run(&["contacts", "remove", "bob@localhost"]), 1)["name"], "not-found");
}

/// Who watches, whom one follows: both lists say how it stands and why, and both ends may end it;
/// whoever watches is told.
#[test]
fn r5_1_10_r5_1_11_r5_1_16_both_ends_see_a_subscription_and_may_end_it() {
    let server = strangers(&["bob"]);
    set_rules(&server, &rule("bob", "allow", ALL));
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    for by_owner in [true, false] {
        let mut watch = Running::start(&server, "bob", &["watch", "alice@localhost"]);
        let first = watch.object();
        assert_eq!((&first["event"], &first["state"]), (&"subscribed".into(), &"active".into()));
        let notify = watch.object();
        assert_eq!((&notify["event"], &notify["kind"]), (&"notify".into(), &"snapshot".into()));
        for key in ["presentity", "state", "version", "document"] {
            assert!(!notify[key].is_null(), "{key} is missing: {notify}");
        }
        let watcher = alice.run(&["watchers"]).one();
        assert_eq!(keys(&watcher), ["by", "event", "proven", "since", "state", "watcher"]);
        assert_eq!(
            (&watcher["watcher"], &watcher["state"]),
            (&"bob@localhost".into(), &"active".into())
        );
        assert!(watcher["proven"] == true && is_time(&watcher["since"]), "{watcher}");
        let subscription = bob.run(&["subscriptions"]).one();
        assert_eq!(subscription["presentity"], "alice@localhost");
        assert_eq!(subscription["state"], "active");
        assert!(subscription["event"].is_string() && keys(&subscription).len() <= 4);
        let (ender, command) = match by_owner {
            true => (&alice, ["watchers", "remove", "bob@localhost"]),
            false => (&bob, ["subscriptions", "cancel", "alice@localhost"]),
        };
        let ran = ender.run(&command);
        assert_eq!(ran.code, 0, "{ran:?}");
        let ended = watch.until(|event| event["event"] == "ended");
        assert_eq!(
            (&ended["presentity"], &ended["state"]),
            (&"alice@localhost".into(), &"terminated".into())
        );
        let reason = if by_owner { "deactivated" } else { "timeout" };
        assert_eq!(ended["reason"], reason);
        assert_eq!(alice.run(&["watchers"]).one()["state"], "terminated");
        assert_eq!(bob.run(&["subscriptions"]).objects, Vec::<Value>::new());
        assert_eq!(error(&ender.run(&command), 1)["name"], "not-found");
    }
}

/// Ctrl-C ends a watch in good order: exit 0, and the subscription is gone.
#[test]
fn r5_1_7_ctrl_c_ends_the_subscription() {
    let server = strangers(&["bob"]);
    set_rules(&server, &rule("bob", "allow", ALL));
    let mut watch = Running::start(&server, "bob", &["watch", "alice@localhost"]);
    watch.until(|event| event["event"] == "notify");
    assert_eq!(watch.interrupt(), Some(0));
    assert_eq!(Impp::of(&server, "alice").run(&["watchers"]).one()["state"], "terminated");
    assert_eq!(Impp::of(&server, "bob").run(&["subscriptions"]).objects, Vec::<Value>::new());
}

/// The devices of an account are listed by it and may be removed; what a removed one published
/// ends.
#[test]
fn devices_are_listed_and_removed() {
    let server = at_once().start();
    let alice = Impp::of(&server, "alice");
    alice.run(&["status", "set", "open", "--note", "from the first"]).one();
    let first = alice.run(&["devices", "list"]).one();
    assert!(["current", "device", "last_seen"].iter().all(|key| keys(&first).contains(key)));
    assert!(first["current"] == true && is_time(&first["last_seen"]), "{first}");
    let id = first["device"].as_str().unwrap().to_owned();
    // A second profile without its device is another device of the same account.
    let text = std::fs::read_to_string(server.profile_path("alice")).unwrap();
    let without: Vec<_> = text.lines().filter(|line| !line.starts_with("device")).collect();
    let path = server.profile_path("second");
    std::fs::copy(server.profile_path("alice"), &path).unwrap();
    std::fs::write(&path, without.join("\n")).unwrap();
    let second = Impp::of(&server, "second");
    let devices = second.run(&["devices", "list"]);
    assert_eq!((devices.code, devices.objects.len()), (0, 2), "{devices:?}");
    let of_first = devices.objects.iter().find(|device| device["device"] == *id).unwrap();
    assert_eq!(of_first["current"], false);
    let bob = Impp::of(&server, "bob");
    let note = |seen: &Value| seen["document"]["person"]["note"].clone();
    assert_eq!(note(&bob.run(&["fetch", "alice@localhost"]).one()), "from the first");
    assert_eq!(second.run(&["devices", "remove", &id]).code, 0);
    assert_eq!(second.run(&["devices", "list"]).one()["current"], true);
    assert_eq!(note(&bob.run(&["fetch", "alice@localhost"]).one()), Value::Null);
    assert_eq!(error(&second.run(&["devices", "remove", &id]), 1)["name"], "not-found");
}
