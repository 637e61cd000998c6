//! What the administrator lays down above users' rules: a floor and a ceiling, from a file that is
//! used whole or not at all.

use impp_protocol::presence::Document;
use impp_protocol::{Code, What};
use impp_tests::Server;
use impp_tests::impp::Impp;
use impp_tests::peer::Peer;
use impp_tests::presence::{Watcher, document, open};
use impp_tests::server::{imppd, refused_start};

use crate::rules::{ALL, rule, strangers};

/// Writes the policy, and names it in the configuration.
pub(crate) fn write(server: &Server, policy: &str) {
    std::fs::write(server.config().with_file_name("policy.toml"), policy).unwrap();
    let text = std::fs::read_to_string(server.config()).unwrap();
    std::fs::write(server.config(), text.replace("# policy = ", "policy = ")).unwrap();
}

/// The exit code of a reload, and its words.
pub(crate) fn reload(server: &Server) -> (Option<i32>, String) {
    let output = imppd(&["reload", "--config", server.config().to_str().unwrap()]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The exit code of a command about an account, and its words.
fn user(server: &Server, what: &str, address: &str) -> (Option<i32>, String) {
    let output = imppd(&["user", what, address, "--config", server.config().to_str().unwrap()]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

pub(crate) fn lay_down(server: &Server, policy: &str) {
    write(server, policy);
    assert_eq!(reload(server), (Some(0), String::new()));
}

const HELP: &str = "[[floor]]\nid = \"help\"\nwho = [\"help@localhost\"]\nhandling = \"allow\"\n\
                    fields = [\"note\"]\n";
const MOST: &str = "[[ceiling]]\nid = \"most\"\nwho = [\"bob@localhost\"]\nfields = [\"status\"]\n";
const SHUT: &str = "[[ceiling]]\nid = \"shut\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n";

/// A floor beats a polite block, a ceiling cuts what rules grant, both at once for who follows and
/// for who looks; `explain` says by whom.
#[tokio::test]
async fn r2_3_3_a_domain_lays_down_a_floor_and_a_ceiling_above_all_rules() {
    let server = strangers(&["bob", "help"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("help", "polite-block", ""))).await;
    let full = document(&[("mood", "happy"), ("note", "in")], &[("im", &[("status", "open")])]);
    let (status, noted) = (document(&[], &[("im", &[("status", "open")])]), open("in"));
    alice.show(&full).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut help = Watcher::sign_in(&server, "help", "alice@localhost").await;
    assert_eq!((bob.held.document(), help.held.document()), (&full, &Document::offline()));

    lay_down(&server, &format!("{HELP}{MOST}"));
    bob.until(|held| *held.document() == status).await;
    help.until(|held| *held.document() == noted).await;
    assert_eq!(bob.peer.look("alice@localhost").await, status);
    assert_eq!(help.peer.look("alice@localhost").await, noted);
    let explained = |who: &str| {
        let told = Impp::of(&server, "alice").run(&["rules", "explain", who]).one();
        let rules = told["rules"].as_array().unwrap().clone();
        let last = rules.last().unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&told["decision"]), text(&last["id"]), text(&last["why"]))
    };
    let (decision, id, why) = explained("help@localhost");
    assert_eq!((&*decision, &*id), ("allow", "help"));
    assert!(why.starts_with("by the domain, allow: "), "{why}");
    let (_, id, why) = explained("bob@localhost");
    assert!(id == "most" && why.starts_with("by the domain, at most allow: "), "{why}");

    // Other rules of hers do not go below the floor.
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("help", "block", ""))).await;
    assert_eq!(help.peer.look("alice@localhost").await, noted);
}

/// A file that is missing, empty or wrong: no start; at a reload all stays as it was. Whoever has to
/// be shut out is all the same.
#[tokio::test]
async fn d8_a_domain_policy_that_cannot_be_used_is_none() {
    let mut server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    alice.show(&open("in")).await;
    lay_down(&server, SHUT);
    let mut bob = Peer::sign_in(&server, "bob").await;
    let look = || impp_tests::peer::fetch("alice@localhost", What::Presence);
    assert_eq!(bob.refused(look()).await, Code::Refused);
    let file = server.config().with_file_name("policy.toml");
    let name = file.display().to_string();
    let wrong = [
        (Some(""), format!("{name}:1: no [[floor]] and no [[ceiling]]")),
        (
            Some("[[floor]]\nid = \"x\"\nwho = [\"any\"]\nhandling = \"allow\"\n"),
            format!("{name}:3: "),
        ),
        (Some("[[ceiling]"), format!("{name}:1: ")),
        (Some("[[rule]]\nid = \"x\"\n"), format!("{name}:1: unknown key \"rule\"")),
        (None, format!("{name}: cannot be read")),
    ];
    for (text, words) in &wrong {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (code, told) = reload(&server);
        assert!(code == Some(2) && told.contains(&**words), "{code:?} {told}, expected {words}");
        assert_eq!(bob.refused(look()).await, Code::Refused, "{words}");
        assert_eq!(
            user(&server, "disable", "carol@localhost"),
            (Some(0), String::new()),
            "{words}"
        );
        assert_eq!(user(&server, "enable", "carol@localhost"), (Some(0), String::new()), "{words}");
    }
    drop((alice, bob));
    server.stop();
    // Nor does it need a server that runs.
    assert_eq!(user(&server, "disable", "carol@localhost"), (Some(0), String::new()));
    for (text, words) in &wrong {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (code, told) = refused_start(&["serve", "--config", server.config().to_str().unwrap()]);
        assert!(code == Some(2) && told.contains(&**words), "{code:?} {told}, expected {words}");
    }
}
