//! What is damaged in the store while the server runs on it, or before it starts: faults C13, D8, E9,
//! G5, G6.

use impp_protocol::command::{Fetch, Outcome};
use impp_protocol::state::{Contact, ContactEdit, Fate, Grant};
use impp_protocol::{Code, Command, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{fetch, message, subscribe};
use impp_tests::presence::open;
use impp_tests::running::Running;
use impp_tests::server::imppd;
use impp_tests::wire::Dial;
use impp_tests::{Domains, Peer, Server, records};
use serde_json::Value;

/// Kinds, as `server/src/core/records/mod.rs` numbers them.
const ACCOUNT: u8 = 1;
const RULES: u8 = 2;
const CONTACT: u8 = 3;
const FOLLOWED: u8 = 9;
const QUEUED: u8 = 10;

/// Changes something in a stopped server's store behind its back, where it stands.
pub(crate) fn damage(server: &Server, sql: &str) {
    let store = rusqlite::Connection::open(server.data().join("store/store.sqlite")).unwrap();
    let changed = store.execute(sql, []).unwrap();
    assert_eq!(changed, 1, "{sql}");
}

/// Changes the first letter of the value of somebody's first record of a kind.
pub(crate) fn damage_record(server: &Server, kind: u8, key: &str) {
    damage(
        server,
        &format!(
            "UPDATE record SET value = CAST('X' || substr(CAST(value AS TEXT), 2) AS BLOB)
             WHERE kind = {kind} AND key = (SELECT min(key) FROM record WHERE kind = {kind}
             AND substr(key, 1, {}) = CAST('{key}' AS BLOB))",
            key.len()
        ),
    );
}

/// Changes bytes where they stand in a stopped server's database.
fn overwrite(server: &Server, from: &[u8], to: &[u8]) {
    let path = server.data().join("store/store.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).expect("what to change");
    bytes[at..at + to.len()].copy_from_slice(to);
    std::fs::write(&path, bytes).unwrap();
}

/// What signing in is refused with.
pub(crate) async fn no_sign_in(server: &Server, name: &str) -> Code {
    let wire = Dial::to(server).connect().await.unwrap();
    Peer::over(wire, &server.profile(name), 1).await.expect_err("a closed account").code
}

/// Bob's account is closed, and nothing else is.
async fn bob_alone_is_closed(server: &Server, what: &str) {
    assert_eq!(no_sign_in(server, "bob").await, Code::Storage, "{what}");
    let mut alice = Peer::sign_in(server, "alice").await;
    assert_eq!(alice.refused(message("bob@localhost", "x")).await, Code::Storage, "{what}");
    let presence = fetch("bob@localhost", What::Presence);
    assert_eq!(alice.refused(presence).await, Code::Storage, "{what}");
    assert_eq!(alice.send("carol@localhost", "x").await, Outcome::Delivered, "{what}");
    for command in ["add", "passwd", "enable", "disable"] {
        let output = server.user(&[command, "bob@localhost"]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{what}: {command}: {words}");
        assert!(words.contains("bob@localhost") && words.contains("damaged"), "{what}: {words}");
    }
    assert_eq!(server.metrics().get("impp_accounts_closed"), 1.0, "{what}");
}

/// An account that cannot be read: never another one, never nobody's, and no matter of the others.
#[tokio::test]
async fn d8_g6_c13_a_damaged_account_is_closed_alone() {
    type Damage = fn(&Server);
    fn edit(server: &Server, damage: fn(&str) -> String) {
        let edited = records::edit(server, ACCOUNT, |key, value| {
            (key == b"bob").then(|| damage(std::str::from_utf8(value).unwrap()).into())
        });
        assert_eq!(edited, 1);
    }
    let damages: [(&str, Damage); 5] = [
        ("a flipped bit", |server| damage_record(server, ACCOUNT, "bob")),
        ("not JSON", |server| edit(server, |_| "{".to_owned())),
        ("a field too many", |server| {
            edit(server, |text| text.replace("\"services\"", "\"x\":1,\"services\""));
        }),
        ("a short key", |server| {
            edit(server, |text| text.replace("\"stored_key\":\"", "\"stored_key\":\"AA"));
        }),
        ("no password", |server| edit(server, |_| "{}".to_owned())),
    ];
    for (what, damage) in damages {
        let mut server = Server::quickstart();
        server.stop();
        damage(&server);
        server.restart();
        server.until_logged("bob@localhost", 1).await;
        bob_alone_is_closed(&server, what).await;
        let mut alice = Peer::sign_in(&server, "alice").await;
        let nobody = fetch("nobody@localhost", What::Presence);
        assert_eq!(alice.refused(nobody).await, Code::NotFound, "{what}");
    }
}

/// What another domain sends to an account that cannot be read waits there, and is neither dropped nor
/// told as "no such address"; nothing of it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn d8_g6_another_domain_waits_for_a_damaged_account() {
    let mut domains = Domains::two().await;
    let server = &mut domains["a.example"];
    server.stop();
    damage_record(server, ACCOUNT, "alice");
    server.restart();
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    let id = bob.queue("alice@a.example", "x").await;
    bob.held_up(id, "damaged").await;
    let presence = fetch("alice@a.example", What::Presence);
    assert_eq!(bob.refused(presence).await, Code::Storage);
}

/// An account of which not even the name can be read: it is nobody's, and no name may be its.
#[tokio::test]
async fn d8_g6_an_account_without_a_name_closes_those_that_are_not_known() {
    let mut server = Server::quickstart();
    server.stop();
    // A record's domain and key, with nothing between them where the kind is 1.
    overwrite(&server, b"localhostbob", b"localhostzob");
    server.restart();
    bob_alone_is_closed(&server, "another name").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    for name in ["zob@localhost", "nobody@localhost"] {
        assert_eq!(alice.refused(fetch(name, What::Presence)).await, Code::Storage, "{name}");
    }
    // Nor is one of them taken away for another.
    for command in [["add", "new@localhost"], ["remove", "bob@localhost"]] {
        assert_eq!(server.user(&command).status.code(), Some(5), "{command:?}");
    }
}

/// A server of a domain that has links, with nobody at their other ends.
fn alone(accounts: [&str; 2]) -> Server {
    Server::with()
        .domain("a.example")
        .accounts(accounts)
        .set("federation.dns", toml_edit::Array::from_iter(["127.0.0.1:1"]))
        .start()
}

/// What waits for another domain and is damaged stands in the way of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn e9_g6_a_damaged_message_in_the_queue_keeps_none_of_the_others() {
    let mut server = alone(["alice", "bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let _damaged = alice.queue("x@far.example", "first").await;
    let well =
        [alice.queue("x@far.example", "second").await, alice.queue("y@far.example", "third").await];
    server.stop();
    damage_record(&server, QUEUED, "alice");
    // Each has been tried for long enough.
    server.set("federation.queue_seconds", 1);
    server.restart();
    server.until_logged("record 10 of a.example (alice", 1).await;
    assert_eq!(server.metrics().get("impp_store_damaged"), 1.0);
    let mut alice = Peer::sign_in(&server, "alice").await;
    for id in well {
        assert_eq!(alice.fate(id).await.fate, Fate::Failed);
    }
    // It is still there for who looks into it.
    server.stop();
    assert_eq!(check_deep(&server).0, Some(1));
}

/// What somebody follows in another domain and is damaged: the others go on to follow.
#[tokio::test(flavor = "multi_thread")]
async fn d8_g6_a_damaged_follower_is_alone_in_not_following() {
    let mut server = alone(["alice", "bob"]);
    let contact = Contact {
        address: "x@far.example".parse().unwrap(),
        name: None,
        groups: Vec::new(),
        follow: true,
        grant: Grant::None.into(),
        subscription: None,
    };
    let edit = ContactEdit::set(contact);
    for name in ["alice", "bob"] {
        Peer::sign_in(&server, name).await.edit_contacts(&edit).await;
    }
    server.stop();
    damage_record(&server, FOLLOWED, "alice");
    server.restart();
    server.until_logged("record 9 of a.example (alice", 1).await;
    let followed = Peer::sign_in(&server, "bob").await.subscriptions().await;
    assert!(followed.iter().any(|entry| entry.presentity.as_str() == "x@far.example"));
}

/// What `imppd check --deep` finds of the store, and its exit code.
pub(crate) fn check_deep(server: &Server) -> (Option<i32>, Vec<Value>) {
    let config = server.config().display().to_string();
    let output = imppd(&["check", "--deep", "--config", &config]);
    let found = String::from_utf8(output.stdout).unwrap();
    let found = found.lines().map(|line| serde_json::from_str(line).unwrap());
    let of_store = |finding: &Value| finding["area"] == "store";
    (output.status.code(), found.filter(of_store).collect())
}

/// The operator looks at the whole store: not while a server has it, and then each thing is named.
#[tokio::test]
async fn g5_g6_check_deep_names_what_is_damaged() {
    let mut server = Server::quickstart();
    Peer::sign_in(&server, "alice").await.set_rules("# none\n").await;
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(1), Some("error")), "{found:?}");
    assert!(said["message"].as_str().unwrap().contains(&server.pid().to_string()), "{said}");
    assert!(said["hint"].as_str().unwrap().contains("stop the server"), "{said}");
    server.stop();
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(0), Some("ok")), "{found:?}");
    assert!(said["message"].as_str().unwrap().contains("nothing is damaged"), "{said}");
    damage_record(&server, RULES, "alice");
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(1), Some("error")), "{found:?}");
    let expected = "record 2 of localhost (alice): it does not fit its digest";
    assert_eq!(said["message"], expected);
    server.restart();
    assert!(!server.stderr().contains("put back"), "a look is no copy");
}

/// Rules or a contact list that cannot be read: nobody is shown anything by them, nothing is delivered
/// by them, and nothing else stands in for them; the others are served.
#[tokio::test]
async fn d8_g6_damaged_rules_and_contacts_close_what_hangs_on_them() {
    for kind in [RULES, CONTACT] {
        let mut server = Server::quickstart();
        let mut alice = Peer::sign_in(&server, "alice").await;
        let all = "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n";
        alice.set_rules(all).await;
        assert!(alice.show_for(&open("here"), 3600).await.is_ok());
        server.stop();
        damage_record(&server, kind, "alice");
        server.restart();
        let mut bob = Peer::sign_in(&server, "bob").await;
        for command in [
            fetch("alice@localhost", What::Presence).into(),
            subscribe("alice@localhost", What::Presence).into(),
            Command::from(message("alice@localhost", "x")),
        ] {
            assert_eq!(bob.refused(command).await, Code::Storage, "{kind}");
        }
        assert_eq!(bob.send("carol@localhost", "x").await, Outcome::Delivered);
        let name = format!("record {kind} of localhost (alice");
        server.until_logged(&name, 1).await;
    }
}

/// Damages one of bob's items, by its place in his log.
pub(crate) fn damage_item(server: &Server, place: usize) {
    damage(
        server,
        &format!(
            "UPDATE item SET kind = 9 WHERE seq = (SELECT seq FROM item WHERE log =
             (SELECT id FROM log WHERE local = 'bob') ORDER BY seq LIMIT 1 OFFSET {place})"
        ),
    );
}

/// What `impp inbox` prints: bodies, or what else an item is.
fn printed(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    text("body").or(text("item")).unwrap_or_default()
}

/// The reader of a log is told that something is missing where a damaged item stands, once, and reads
/// and acknowledges the others.
#[tokio::test(flavor = "multi_thread")]
async fn g5_g6_a_damaged_item_is_told_to_its_reader() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..4 {
        alice.send("bob@localhost", &n.to_string()).await;
    }
    server.stop();
    // In the midst, and the last one.
    damage_item(&server, 1);
    damage_item(&server, 3);
    server.restart();
    let bob = Impp::of(&server, "bob");
    let ran = bob.run(&["inbox"]);
    let all: Vec<String> = ran.objects.iter().map(printed).collect();
    assert_eq!(
        (ran.code, all),
        (0, ["0", "damaged", "2", "damaged", "end"].map(Into::into).into())
    );
    // Whoever goes on from there misses nothing, and hears of the last one again.
    let since = ran.objects.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    let ran = bob.run(&["inbox", "--since", &since]);
    assert_eq!(ran.objects.iter().map(printed).collect::<Vec<_>>(), ["damaged", "end"]);
    let mut follower = Running::start(&server, "bob", &["inbox", "--follow", "--ack"]);
    let mut next = || printed(&follower.object());
    for expected in ["0", "damaged", "2", "damaged"] {
        assert_eq!(next(), expected);
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "4").await;
    alice.send("bob@localhost", "5").await;
    assert_eq!([next(), next()], ["4", "5"]);
    // A client that knows of no such items reads the others.
    let mut old = Peer::sign_in(&server, "bob").await;
    let texts: Vec<_> = old.inbox().await.into_iter().map(|message| message.body).collect();
    assert_eq!(texts, ["0", "2", "4", "5"]);
}

/// The fate of a message whose item cannot be read is not "no such message".
#[tokio::test]
async fn g6_the_fate_of_a_message_among_damaged_items_is_not_absent() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let sent = message("bob@localhost", "x");
    alice.done(sent.clone()).await;
    let of = |id| Fetch { id: Some(id), ..fetch("alice@localhost", What::Fate) };
    alice.done(of(sent.id)).await;
    server.stop();
    damage(&server, "UPDATE item SET kind = 9 WHERE kind = 3");
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.refused(of(sent.id)).await, Code::Storage);
}
