//! What is damaged in the store, and what its operator can do about it: faults G6, G15, I9.

use impp_protocol::state::SubscriptionState;
use impp_protocol::{Code, What};
use impp_tests::peer::fetch;
use impp_tests::presence::{Watcher, open};
use impp_tests::{Peer, Server};
use serde_json::Value;

use crate::damaged::{check_deep, damage, damage_record, no_sign_in};
use crate::removal::{full_life, records_of};
use crate::settings::OPEN_PRESENCE;

/// Kinds, as `server/src/core/records/mod.rs` numbers them.
const ACCOUNT: u8 = 1;
const RULES: u8 = 2;
const DEVICE: u8 = 4;
const WATCHER: u8 = 6;

/// What the operator is told in the end, and on standard error.
fn asked(server: &Server, args: &[&str]) -> (Option<i32>, String) {
    let output = server.user(args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// An account that cannot be read is taken away like any other: nothing of it is left, nobody is told
/// that it may be there, and its name is not given again.
#[tokio::test]
async fn i9_g6_c13_an_account_that_cannot_be_read_is_removed() {
    let mut server = Server::quickstart();
    full_life(&server).await;
    server.stop();
    damage_record(&server, ACCOUNT, "alice");
    server.restart();
    assert_eq!(no_sign_in(&server, "alice").await, Code::Storage);
    let (_, words) = asked(&server, &["passwd", "alice@localhost"]);
    assert!(words.contains("hint:") && words.contains("user remove alice@localhost"), "{words}");
    assert_eq!(asked(&server, &["remove", "alice@localhost"]), (Some(0), String::new()));
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    assert_eq!(server.metrics().get("impp_accounts_closed"), 0.0);
    let (code, words) = asked(&server, &["add", "alice@localhost"]);
    assert!(code == Some(1) && words.contains("not given again"), "{code:?}: {words}");
    for start in 0..2 {
        let mut bob = Peer::sign_in(&server, "bob").await;
        let gone = fetch("alice@localhost", What::Presence);
        assert_eq!(bob.refused(gone).await, Code::NotFound, "{start}");
        assert_eq!(asked(&server, &["remove", "alice@localhost"]).0, Some(1));
        server.stop();
        server.restart();
        assert_eq!(server.metrics().get("impp_accounts_closed"), 0.0);
    }
}

/// Whatever of an account is damaged, all of it goes when it is removed, and nobody is left that watches
/// it or is watched by it.
#[tokio::test]
async fn i9_g6_what_is_damaged_of_an_account_goes_with_it() {
    // The kinds of all that it has; of 6 and 9 the other ends are at dave's and erin's.
    for kind in [RULES, 3, DEVICE, 5, WATCHER, 7, 9, 12] {
        let mut server = Server::quickstart();
        full_life(&server).await;
        server.stop();
        damage_record(&server, kind, "alice");
        server.restart();
        let (code, words) = asked(&server, &["remove", "alice@localhost"]);
        assert_eq!((code, words.as_str()), (Some(0), ""), "{kind}");
        assert_eq!(records_of(&server, "alice"), [ACCOUNT], "{kind}");
        nobody_knows_alice(&server, kind).await;
        server.stop();
        server.restart();
        assert!(!server.stderr().contains("damaged"), "{kind}: {}", server.stderr());
        nobody_knows_alice(&server, kind).await;
    }
}

async fn nobody_knows_alice(server: &Server, kind: u8) {
    let active = |state: SubscriptionState| state == SubscriptionState::Active;
    for name in ["bob", "dave", "erin"] {
        let mut peer = Peer::sign_in(server, name).await;
        let watchers = peer.watchers().await;
        let by_alice = |w: &&_| is_alice(w);
        fn is_alice(w: &impp_protocol::state::WatcherEntry) -> bool {
            w.watcher.as_str() == "alice@localhost"
        }
        let watched = watchers.iter().filter(by_alice).any(|w| active(w.state));
        let followed = peer.subscriptions().await;
        let follows =
            followed.iter().any(|s| s.presentity.as_str() == "alice@localhost" && active(s.state));
        assert!(!watched && !follows, "{kind}: {name}: {watchers:?} {followed:?}");
    }
}

/// Of two watchers the one that can be read is told that an account is gone.
#[tokio::test]
async fn i9_g6_who_is_beside_a_damaged_watcher_is_told_of_a_removal() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show_for(&open("here"), 3600).await.unwrap();
    for name in ["bob", "carol"] {
        let mut watcher = Peer::sign_in(&server, name).await;
        watcher.follow_for("alice@localhost", 3600).await.unwrap();
    }
    server.stop();
    damage_record(&server, WATCHER, "alice");
    server.restart();
    let mut carol = Peer::sign_in(&server, "carol").await;
    let names_alice = |s: &impp_protocol::state::Subscription| {
        s.presentity.as_str() == "alice@localhost" && s.state == SubscriptionState::Active
    };
    assert_eq!(asked(&server, &["remove", "alice@localhost"]).0, Some(0));
    for peer in [&mut carol, &mut Peer::sign_in(&server, "bob").await] {
        assert!(!peer.subscriptions().await.iter().any(names_alice));
    }
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
}

/// Which items are whose is not known where a log is damaged: the rest goes, and that is said.
#[tokio::test]
async fn i9_g6_the_operator_is_told_what_a_removal_leaves() {
    let mut server = Server::quickstart();
    full_life(&server).await;
    server.stop();
    damage(&server, "UPDATE log SET custody = custody + 1 WHERE local = 'alice'");
    server.restart();
    let (code, words) = asked(&server, &["remove", "alice@localhost"]);
    assert!(code == Some(0) && words.contains("warning: what was in the inbox"), "{words}");
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    server.stop();
    server.restart();
    assert!(!server.stderr().contains("removal"), "{}", server.stderr());
}

/// What cannot be read is shown to nobody: an account is disabled all the same, and that is said.
#[tokio::test]
async fn d8_g6_an_account_with_damaged_rules_is_disabled() {
    let mut server = Server::quickstart();
    Peer::sign_in(&server, "alice").await.set_rules(OPEN_PRESENCE).await;
    server.stop();
    damage_record(&server, RULES, "alice");
    server.restart();
    let (code, words) = asked(&server, &["disable", "alice@localhost"]);
    assert!(code == Some(0) && words.starts_with("warning: "), "{code:?}: {words}");
    for _ in 0..2 {
        assert_eq!(no_sign_in(&server, "alice").await, Code::AuthFailed);
        let listed = server.user_ok(&["list"]);
        let alice = listed.lines().find(|line| line.contains("alice@")).unwrap();
        assert!(alice.contains("\"disabled\""), "{alice}");
        server.stop();
        server.restart();
    }
}

/// A damaged device is listed as such and taken away, and there is room for new ones again.
#[tokio::test]
async fn g6_a_damaged_device_is_taken_away_by_the_operator() {
    let mut server = Server::quickstart();
    for device in [1, 2] {
        Peer::sign_in_on(&server, "alice", device).await.leave().await;
    }
    server.stop();
    damage_record(&server, DEVICE, "alice");
    server.restart();
    let listed = || -> Vec<Value> {
        let text = server.user_ok(&["devices", "alice@localhost"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let is_damaged = |device: &&Value| device["damaged"] == true;
    let all = listed();
    assert_eq!((all.len(), all.iter().filter(is_damaged).count()), (2, 1), "{all:?}");
    let device = all.iter().find(is_damaged).unwrap();
    assert!(device.get("last_seen").is_none(), "{device}");
    let id = device["device"].as_str().unwrap();
    // Another one is not taken for it.
    let none = "0123456789abcdef0123456789abcdef";
    let (code, words) = asked(&server, &["devices", "alice@localhost", "--remove", none]);
    assert!(code == Some(1), "{code:?}: {words}");
    let removed = asked(&server, &["devices", "alice@localhost", "--remove", id]);
    assert_eq!(removed, (Some(0), String::new()));
    let all = listed();
    assert_eq!((all.len(), all.iter().filter(is_damaged).count()), (1, 0), "{all:?}");
    for device in [1, 2, 3] {
        Peer::sign_in_on(&server, "alice", device).await.leave().await;
    }
}

/// When devices made room, or the password was changed, is damaged: `check --deep` names it, and a device
/// that is known or finds a place is let in all the same. The one is well by that, the other by another
/// password.
#[tokio::test]
async fn g6_i9_devices_find_their_places_where_it_is_not_known_who_made_room() {
    for (name, is_mended) in [("made", true), ("password", false)] {
        let mut server = Server::quickstart();
        Peer::sign_in_on(&server, "alice", 1).await.leave().await;
        new_password(&server);
        Peer::sign_in_on(&server, "alice", 1).await.leave().await;
        server.stop();
        let key: String = format!("alice\0{name}").bytes().map(|b| format!("{b:02x}")).collect();
        let value = "CAST('X' || substr(CAST(value AS TEXT), 2) AS BLOB)";
        damage(&server, &format!("UPDATE record SET value = {value} WHERE key = X'{key}'"));
        let (_, found) = check_deep(&server);
        let named = format!("record 12 of localhost (alice {name})");
        assert!(found.iter().any(|found| found.to_string().contains(&named)), "{found:?}");
        server.restart();
        for device in [1, 2, 3] {
            Peer::sign_in_on(&server, "alice", device).await.leave().await;
        }
        if !is_mended {
            new_password(&server);
        }
        server.stop();
        let (code, found) = check_deep(&server);
        assert_eq!(code, Some(0), "{name}: {found:?}");
    }
}

/// Gives alice another one, and puts it into her profile.
fn new_password(server: &Server) {
    let told = server.user_ok(&["passwd", "alice@localhost"]);
    let (path, old) = (server.profile_path("alice"), server.profile("alice").password);
    let text = std::fs::read_to_string(&path).unwrap();
    let new = told.trim().strip_prefix("password: ").unwrap();
    std::fs::write(path, text.replace(&old, new)).unwrap();
}

/// The row by which a copy is told is damaged: the server starts, and takes the store for a copy.
#[tokio::test]
async fn g6_g15_a_damaged_place_keeps_no_store_closed() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "still there").await;
    server.stop();
    damage(&server, "UPDATE place SET starts = 77");
    server.restart();
    let said = server.stderr();
    assert!(said.contains("store.sqlite: place") && said.contains("put back"), "{said}");
    let inbox = Peer::sign_in(&server, "bob").await.inbox().await;
    assert_eq!(inbox[0].body, "still there");
    server.stop();
    server.restart();
    assert!(!server.stderr().contains("put back"), "{}", server.stderr());
    let _ = Watcher::sign_in(&server, "bob", "carol@localhost").await;
}
