//! An account that is removed: nothing of it stays on the disk, and whoever watched it, here or in
//! another domain, is told.

use std::time::Duration;

use impp_protocol::command::{Outcome, Subscribe};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Command, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::peer::{fetch, subscribe};
use impp_tests::presence::{Watcher, open};
use impp_tests::wait::within;
use impp_tests::{BadPeer, Domains, Peer, Server, eventually};
use rusqlite::{Connection, OpenFlags};

use crate::settings::OPEN_PRESENCE;

/// What the store's tables are called in `server/src/records.rs`.
const ACCOUNT: u8 = 1;

/// The store of a server that runs, to be read.
fn store_of(server: &Server) -> Connection {
    let path = server.data().join("store/store.sqlite");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Records of an account that begin with its name, and which tables they are in.
fn records_of(server: &Server, name: &str) -> Vec<u8> {
    let store = store_of(server);
    let sql = "SELECT kind FROM record WHERE CAST(key AS TEXT) = ?1
               OR substr(key, 1, length(?1) + 1) = CAST(?1 || char(0) AS BLOB) ORDER BY kind";
    let mut statement = store.prepare(sql).unwrap();
    let kinds = statement.query_map([name], |row| row.get(0)).unwrap();
    kinds.map(Result::unwrap).collect()
}

fn count(server: &Server, sql: &str) -> usize {
    let count: i64 = store_of(server).query_row(sql, [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

/// Alice has one record of each kind, and one message in her inbox, and no one else has any.
async fn full_life(server: &Server) {
    for name in ["dave", "erin"] {
        server.add(name);
    }
    let mut alice = Peer::sign_in(server, "alice").await;
    let rules = "[[rule]]\nid = \"dave\"\nwho = [\"dave@localhost\"]\nhandling = \"confirm\"\n\
                 [[delivery]]\nid = \"dave\"\nwho = [\"dave@localhost\"]\naction = \"hold\"\n"
        .to_owned()
        + &OPEN_INBOX.replace("authenticated", "bob@localhost");
    alice.set_rules(&rules).await;
    alice.show_for(&open("for an hour"), 3600).await.unwrap();
    alice.follow_for("erin@localhost", 3600).await.unwrap();
    let mut dave = Peer::sign_in(server, "dave").await;
    dave.follow("alice@localhost").await;
    dave.send("alice@localhost", "held").await;
    let mut bob = Peer::sign_in(server, "bob").await;
    bob.send("alice@localhost", "a body of alice's").await;
}

/// Of a removed account nothing is kept but its name, which is not given again.
#[tokio::test]
async fn i9_nothing_of_a_removed_account_stays_on_the_disk() {
    let server = Server::quickstart();
    full_life(&server).await;
    let kinds = records_of(&server, "alice");
    // The account, rules, contacts, devices, layers, watchers, what is held and what is followed, and
    // who makes room.
    for kind in [ACCOUNT, 2, 3, 4, 5, 6, 7, 9, 12] {
        assert!(kinds.contains(&kind), "table {kind} has nothing of alice: {kinds:?}");
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    server.user_ok(&["remove", "alice@localhost"]);
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    // Bob's log has his copy; hers goes by and by.
    let of_others = bob.log().await.len() + Peer::sign_in(&server, "dave").await.log().await.len();
    eventually("the inbox to go", async || {
        (count(&server, "SELECT count(*) FROM item") == of_others).then_some(())
    })
    .await;
}

/// Whoever watches an account that is removed is told at once, and gets nothing any more.
#[tokio::test]
async fn i9_watchers_of_a_removed_account_are_told() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show_for(&open("here"), 3600).await.unwrap();
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    server.user_ok(&["remove", "alice@localhost"]);
    let told = bob.next().await;
    assert_eq!(told.state, SubscriptionState::Terminated);
    assert_eq!(told.event, Some(SubscriptionEvent::Noresource));
    let gone = fetch("alice@localhost", What::Presence);
    assert_eq!(bob.peer.refused(gone).await, impp_protocol::Code::NotFound);
}

/// And so is the other domain's server for its watchers.
#[tokio::test(flavor = "multi_thread")]
async fn i9_watchers_elsewhere_of_a_removed_account_are_told() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let server = &domains["a.example"];
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show_for(&open("here"), 3600).await.unwrap();
    let mut link = evil.call(server).await;
    let watcher = evil.account("w");
    let follow = Subscribe {
        watcher: Some(watcher.clone()),
        lease: Some(Duration::from_secs(600)),
        ..subscribe("alice@a.example", What::Presence)
    };
    link.request(follow).await.unwrap();
    server.user_ok(&["remove", "alice@a.example"]);
    let told = within("word of the end", async {
        loop {
            let request = link.try_asked().await.expect("a NOTIFY before the end of the link");
            if let Command::Notify(told) = request.command
                && told.state != SubscriptionState::Active
            {
                return told;
            }
        }
    });
    let told = told.await;
    assert_eq!(told.state, SubscriptionState::Terminated);
    assert_eq!(told.event, Some(SubscriptionEvent::Noresource));
    assert_eq!(told.watchers, [watcher]);
}

/// What it followed does not name it any more.
#[tokio::test]
async fn i9_whom_a_removed_account_followed_is_not_watched_by_it() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.follow_for("bob@localhost", 3600).await.unwrap();
    let watches = |entries: &[impp_protocol::state::WatcherEntry]| {
        entries.iter().any(|entry| {
            entry.watcher.as_str() == "alice@localhost" && entry.state == SubscriptionState::Active
        })
    };
    assert!(watches(&bob.watchers().await));
    server.user_ok(&["remove", "alice@localhost"]);
    assert!(!watches(&bob.watchers().await));
    assert_eq!(bob.send("carol@localhost", "others go on").await, Outcome::Delivered);
}
