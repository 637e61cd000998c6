//! `imppd explain`: what the operator is told of somebody's rules, and that it is written down who asked.
//!
//! Who may open the control socket is in `control`, what owners are told in `rules_words` and
//! `rules_supposed`.

use impp_protocol::Command;
use impp_protocol::presence::Document;
use impp_tests::Server;
use impp_tests::impp::Impp;
use impp_tests::peer::Peer;
use impp_tests::presence::{Watcher, document};
use impp_tests::server::imppd;
use serde_json::{Value, json};

use crate::domain_policy::lay_down;
use crate::rules::{rule, strangers};

/// The exit code, the objects on standard output, and all that was said.
pub(crate) fn explain(server: &Server, owner: &str, watcher: &str) -> (i32, Vec<Value>, String) {
    let data = server.data().to_str().unwrap();
    let output = imppd(&["explain", owner, watcher, "--data", data]);
    let said = String::from_utf8(output.stdout).unwrap();
    let objects = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), objects, said + &words)
}

const POLICY: &str = "[[floor]]\nid = \"help\"\nwho = [\"help@localhost\"]\nhandling = \"allow\"\n\
                      fields = [\"note\"]\n\n[[ceiling]]\nid = \"most\"\nwho = [\"bob@localhost\"]\n\
                      fields = [\"status\", \"note\"]\n";

/// Values and words that stand in her rules and presence, and that no operator needs.
const HIDDEN: [&str; 6] = ["suitors", "hideout", "class-x", "in love", "happy", "dana@"];

/// The decision, the ids of what made it, the names of fields: as the owner is told them, and no value.
/// It is in the log who asked, at whatever level; the owner's presence and watchers are as before.
#[tokio::test]
async fn d12_the_operator_is_told_names_alone_and_it_is_written_down_who_asked() {
    let server = strangers(&["bob", "carol", "help"]);
    server.set("log.level", "error");
    let mut server = server;
    server.stop();
    server.restart();
    lay_down(&server, POLICY);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = "[groups]\nsuitors = [\"bob@localhost\", \"dana@localhost\"]\n\n[[rule]]\n\
                 id = \"friends\"\nwho = [\"group:suitors\"]\nhandling = \"allow\"\n\
                 fields = [\"status\", \"note\", \"mood\"]\nsphere = [\"hideout\"]\n\
                 tuples = [\"class:class-x\", \"all\"]\n\n[[rule]]\nid = \"look\"\n\
                 who = [\"bob@localhost\"]\nhandling = \"polite-block\"\nfetch = \"block\"\n\n\
                 [[delivery]]\nid = \"letters\"\nwho = [\"bob@localhost\"]\naction = \"hold\"\n";
    alice.set_rules(&(rules.to_owned() + &rule("help", "polite-block", ""))).await;
    let full = [("mood", "happy"), ("note", "in love"), ("sphere", "hideout")];
    alice.show(&document(&full, &[("im", &[("status", "open")])])).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;

    let (code, told, said) = explain(&server, "alice@localhost", "bob@localhost");
    assert_eq!(code, 0, "{said}");
    let line = |watcher: &str, purpose, decision, fields: Value, rules: Value, domain: Value| {
        json!({"owner": "alice@localhost", "watcher": watcher, "purpose": purpose,
               "decision": decision, "fields": fields, "rules": rules, "domain": domain})
    };
    let (seen, both) = (json!(["note", "status"]), json!(["friends", "look"]));
    let bobs = [
        line("bob@localhost", "subscribe", "allow", seen.clone(), both.clone(), json!(["most"])),
        line("bob@localhost", "fetch", "allow", seen, both, json!(["most"])),
        line("bob@localhost", "message", "hold", json!([]), json!(["letters"]), json!([])),
    ];
    assert_eq!(told, bobs);
    let own = Impp::of(&server, "alice").run(&["rules", "explain", "bob@localhost"]).one();
    assert_eq!((&own["decision"], &own["fields"]), (&told[0]["decision"], &told[0]["fields"]));
    // By the domain, above what she says of it.
    let (_, told, _) = explain(&server, "alice@localhost", "help@localhost");
    assert_eq!(told[0]["decision"], "allow");
    assert_eq!((&told[0]["rules"], &told[0]["domain"]), (&json!(["help"]), &json!(["help"])));
    // The sphere is another: it is decided as things are now.
    alice.show(&document(&full[..2], &[])).await;
    bob.until(|held| *held.document() == Document::offline()).await;
    let (_, told, more) = explain(&server, "alice@localhost", "bob@localhost");
    assert_eq!(
        (&told[0]["decision"], &told[0]["rules"]),
        (&"polite-block".into(), &json!(["look"]))
    );
    assert_eq!(told[1]["decision"], "block");
    for word in HIDDEN {
        assert!(!said.contains(word) && !more.contains(word), "{word}: {said}{more}");
    }

    server.until_logged("impp::event", 3).await;
    let uid = rustix::process::getuid().as_raw();
    let log = server.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("impp::event")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    let names = [format!("uid={uid}"), "alice@localhost".to_owned(), "bob@localhost".to_owned()];
    assert!(names.iter().all(|name| lines[0].contains(&**name)), "{}", lines[0]);
    assert!(HIDDEN.iter().all(|word| !log.contains(word)), "{log}");
    // Who was asked about is no watcher by that, and is told nothing.
    let watchers: Vec<_> = alice.watchers().await.into_iter().map(|w| w.watcher).collect();
    assert_eq!(watchers, [bob.peer.address.clone()]);
    let presence = |come: &Command| matches!(come, Command::Notify(_));
    assert!(!bob.peer.fence().await.iter().any(presence));
}

/// Whom there is nothing to say of: nobody's account, no address, no server that runs.
#[tokio::test]
async fn what_cannot_be_explained_says_why() {
    let mut server = strangers(&["bob"]);
    for (owner, watcher, exit, words) in [
        ("nobody@localhost", "bob@localhost", 1, "nobody@localhost"),
        ("alice@elsewhere.example", "bob@localhost", 1, "alice@elsewhere.example"),
        ("alice@localhost", "bob", 2, "\"bob\" is no address"),
    ] {
        let (code, told, said) = explain(&server, owner, watcher);
        assert!(code == exit && told.is_empty() && said.contains(words), "{code}: {said}");
    }
    // Who is of elsewhere, or of nowhere, may be asked about.
    assert_eq!(explain(&server, "alice@localhost", "x@b.example").1[0]["decision"], "confirm");
    server.stop();
    let (code, _, said) = explain(&server, "alice@localhost", "bob@localhost");
    assert!(code == 3 && said.contains("no server listens on"), "{code}: {said}");
}
