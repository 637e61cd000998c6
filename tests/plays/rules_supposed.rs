//! What rules would do, said by the server: seeing oneself as somebody else does, other rules before
//! they are set, and expectations of rules in a file.

use impp_protocol::command::Fetch;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, What};
use impp_tests::Server;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch};
use impp_tests::presence::{Watcher, document, open};

use crate::rules::{ALL, rule, strangers};

/// A file beside the server's.
fn file(server: &Server, name: &str, text: &str) -> String {
    let path = server.data().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whoever is asked about, the owner sees just what they see, by each way of seeing; and of who would
/// be refused, or wait, that.
#[tokio::test]
async fn r2_3_3_an_owner_sees_itself_just_as_others_see_it() {
    let server = strangers(&["bob", "carol", "dave", "erin"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = rule("bob", "allow", "fetch = \"polite-block\"\nfields = [\"note\"]")
        + &rule("carol", "polite-block", "")
        + &rule("dave", "confirm", "fetch = \"allow\"\nfields = [\"all\"]");
    alice.set_rules(&rules).await;
    alice
        .show(&document(&[("mood", "sad"), ("note", "x")], &[("im", &[("status", "open")])]))
        .await;
    for name in ["bob", "carol", "dave", "erin"] {
        let mut watcher = Peer::sign_in(&server, name).await;
        for once in [true, false] {
            let view = Fetch {
                about: Some(watcher.address.clone()),
                view: true,
                once,
                ..fetch("alice@localhost", What::Explain)
            };
            let told = alice.done(view).await;
            if once {
                let look = watcher.request(fetch("alice@localhost", What::Presence)).await;
                match look {
                    Ok(done) => {
                        let seen = (done.state, done.version, done.content);
                        assert_eq!((told.state, told.version, told.content), seen, "{name}");
                    }
                    Err(error) => {
                        assert_eq!(error.code, Code::Refused, "{name}");
                        assert_eq!(told.state, Some(SubscriptionState::Terminated), "{name}");
                        assert_eq!(told.content, None, "{name}");
                    }
                }
                continue;
            }
            match told.state.unwrap() {
                SubscriptionState::Active => {
                    let follows = Watcher::sign_in(&server, name, "alice@localhost").await;
                    assert_eq!(told.version, Some(follows.held.version()), "{name}");
                    assert_eq!(told.content, Some(follows.held.document().encode()), "{name}");
                }
                SubscriptionState::Pending => {
                    assert_eq!((name, told.content), ("dave", None));
                }
                _ => assert_eq!((name, told.content), ("erin", None)),
            }
        }
    }
    // It is the owner's alone.
    let mut bob = Peer::sign_in(&server, "bob").await;
    let about: Option<Address> = Some(bob.address.clone());
    let ask = Fetch { about, view: true, ..fetch("alice@localhost", What::Explain) };
    assert_eq!(bob.refused(ask).await, Code::Refused);
}

/// Other rules, another time, another sphere: what is said comes true when they do, and saying it
/// changes nothing.
#[tokio::test]
async fn r5_2_3_what_rules_would_do_is_told_before_they_are_set() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice
        .set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "allow", "fields = [\"note\"]")))
        .await;
    alice.show(&open("in")).await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    let own = Impp::of(&server, "alice");
    let before = own.run(&["rules", "show"]).one();
    let december = "valid = [\"2026-12-01T00:00:00Z/2027-01-01T00:00:00Z\"]\nsphere = [\"work\"]";
    let then = rule("bob", "allow", &format!("fields = [\"mood\"]\n{december}"))
        + &rule("carol", "allow", "fields = [\"note\", \"mood\"]");
    let then = file(&server, "then.toml", &then);

    let ran = own.run(&["rules", "set", &then, "--dry-run"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = ran.objects;
    let of = |who: &str| {
        let found =
            told.iter().find(|item| item["watcher"] == who && item["purpose"] == "subscribe");
        found.unwrap_or_else(|| panic!("{who} in {told:?}")).clone()
    };
    let (one, other) = (of("bob@localhost"), of("carol@localhost"));
    assert_eq!((&one["before"], &one["after"]), (&"allow".into(), &"block".into()));
    assert_eq!(one["loses"], serde_json::json!(["all"]));
    assert_eq!(other["after"], "allow");
    assert_eq!(
        (&other["gains"], &other["loses"]),
        (&serde_json::json!(["mood"]), &serde_json::json!([]))
    );
    assert_eq!(own.run(&["rules", "show"]).one(), before);
    assert_eq!((bob.held.document(), carol.held.document()), (&open("in"), &open("in")));

    let expect = |handling: &str, more: &str| {
        format!("[[expect]]\nwho = \"bob@localhost\"\nhandling = \"{handling}\"\n{more}\n")
    };
    let at = "at = \"2026-12-06T00:00:00Z\"\nsphere = \"Work\"\nfields = [\"mood\"]\nnot_fields = [\"note\"]";
    let good = expect("allow", at) + &expect("block", "sphere = \"\"");
    let good = file(&server, "good.toml", &good);
    let ran = own.run(&["rules", "test", &good, "--rules", &then]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.objects.iter().all(|item| item["ok"] == true));
    // By the rules that there are it is otherwise.
    let ran = own.run(&["rules", "test", &good]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let told = ran.objects;
    assert_eq!(told[0]["wrong"], serde_json::json!(["sees note"]));
    assert_eq!(told[1]["wrong"], serde_json::json!(["handling is allow, not block"]));

    let seen = own.run(&["rules", "view-as", "bob@localhost", "--rules", &then]).one();
    assert_eq!((&seen["state"], seen.get("document")), (&"terminated".into(), None));
    let args = ["rules", "view-as", "bob@localhost", "--rules", &then, "--sphere", "work"];
    let args = [&args[..], &["--at", "2026-12-06T00:00:00Z"]].concat();
    let seen = own.run(&args).one();
    assert_eq!(seen["document"]["tuples"][0]["status"], "open");
    assert!(seen["document"]["person"].get("note").is_none());

    // Rules with a fault are named by their line, expectations by their file.
    let bad = file(&server, "bad.toml", "[[rule]]\nid = \"x\"\nwhoo = []\n");
    for args in [
        &["rules", "set", &bad, "--dry-run"][..],
        &["rules", "view-as", "bob@localhost", "--rules", &bad],
        &["rules", "explain", "bob@localhost", "--rules", &bad],
        &["rules", "test", &good, "--rules", &bad],
        &["rules", "test", &bad],
    ] {
        let ran = own.run(args);
        assert!(ran.code == 2 && ran.stderr.contains("bad.toml"), "{args:?}: {ran:?}");
    }
    // What would not be taken is not tried either.
    let far = "[[delegate]]\nid = \"c\"\nwho = [\"cal@b.example\"]\nrights = [\"watchers\"]\n";
    let far = file(&server, "far.toml", far);
    for args in [&["rules", "set", &far, "--dry-run"][..], &["rules", "set", &far]] {
        let ran = own.run(args);
        assert!(ran.code == 2 && ran.stderr.contains("not of this server"), "{args:?}: {ran:?}");
    }
}

/// What is granted of parts alone, and what becomes of messages alone, makes a difference too.
#[tokio::test]
async fn r5_2_3_a_dry_run_tells_of_parts_and_of_messages() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    alice.show(&open("in")).await;
    let _bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let own = Impp::of(&server, "alice");
    let dry_run = |name: &str, text: &str| {
        let file = file(&server, name, text);
        let ran = own.run(&["rules", "set", &file, "--dry-run"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let told = |item: &serde_json::Value| {
            ["purpose", "before", "after", "gains", "loses"].map(|key| item[key].clone())
        };
        serde_json::json!(ran.objects.iter().map(told).collect::<Vec<_>>())
    };
    assert_eq!(dry_run("same.toml", &rule("bob", "allow", ALL)), serde_json::json!([]));
    let work = rule("bob", "allow", &format!("{ALL}\ntuples = [\"class:work\"]"));
    let (gains, loses) = (["tuples:class:work"], ["tuples:all"]);
    assert_eq!(
        dry_run("work.toml", &work),
        serde_json::json!([
            ["subscribe", "allow", "allow", gains, loses],
            ["fetch", "allow", "allow", gains, loses]
        ])
    );
    let write = "[[delivery]]\nid = \"w\"\nwho = [\"bob@localhost\"]\naction = \"accept\"\nrate = \"5/min\"\n";
    assert_eq!(
        dry_run("write.toml", &(rule("bob", "allow", ALL) + write)),
        serde_json::json!([["message", "refuse", "accept, at most 5 in 60 s", [], []]])
    );
}

/// A contact who does not follow is among those of whom it is told; who is neither is not.
#[tokio::test]
async fn r5_2_3_a_dry_run_tells_of_a_contact_who_does_not_follow() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("nobody", "allow", ALL)).await;
    let own = Impp::of(&server, "alice");
    let added = own.run(&["contacts", "add", "bob@localhost", "--no-follow", "--grant", "none"]);
    assert_eq!(added.code, 0, "{added:?}");
    let all = rule("nobody", "allow", ALL).replace("nobody@localhost", "authenticated");
    let ran = own.run(&["rules", "set", &file(&server, "all.toml", &all), "--dry-run"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = |who: &str| ran.objects.iter().filter(|item| item["watcher"] == who).count();
    assert_eq!((told("bob@localhost"), told("carol@localhost")), (2, 0), "{ran:?}");
}

/// What cannot fail would pass for ever: it is refused before anything is asked.
#[tokio::test]
async fn an_expectation_that_cannot_fail_is_refused() {
    let server = strangers(&["bob"]);
    let own = Impp::of(&server, "alice");
    let whole = "[[expect]]\nwho = \"bob@localhost\"\nhandling = \"block\"\n";
    for (more, words) in [("", "expects nothing"), ("not_fields = [\"mooood\"]\n", "did you mean")]
    {
        let text = format!("{whole}[[expect]]\nwho = \"bob@localhost\"\n{more}");
        let ran = own.run(&["rules", "test", &file(&server, "bad.toml", &text)]);
        assert!(ran.code == 2 && ran.objects.is_empty(), "{ran:?}");
        assert!(ran.stderr.contains("bad.toml") && ran.stderr.contains(words), "{ran:?}");
    }
}
