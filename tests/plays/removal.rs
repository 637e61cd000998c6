//! An account that is removed: nothing of it stays on the disk, and whoever watched it, here or in
//! another domain, is told.

use std::time::Duration;

use impp_protocol::command::{Outcome, Subscribe};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Code, Command, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::peer::{fetch, subscribe};
use impp_tests::presence::{Watcher, open};
use impp_tests::server::Start;
use impp_tests::trace::Trace;
use impp_tests::wait::within;
use impp_tests::{BadPeer, Domains, Peer, Server, eventually};
use rusqlite::{Connection, OpenFlags};

use crate::settings::OPEN_PRESENCE;

/// What the store's tables are called in `server/src/core/records/mod.rs`.
const ACCOUNT: u8 = 1;
const WATCHER: u8 = 6;
const GHOST: u8 = 13;

/// The store of a server that runs, to be read.
fn store_of(server: &Server) -> Connection {
    let path = server.store().join("store.sqlite");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Records of an account that begin with its name, and which tables they are in.
pub(crate) fn records_of(server: &Server, name: &str) -> Vec<u8> {
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
pub(crate) async fn full_life(server: &Server) {
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

/// What an account is about to lose: all kinds of records; watchers here and in another domain; whom it
/// follows here and there; a message held for it, and one that waits for a domain out of reach.
async fn life_across(domains: &Domains, name: &str) {
    let (here, there) = (&domains["a.example"], &domains["b.example"]);
    here.add(name);
    let own = here.account(name);
    let mut owner = Peer::sign_in(here, name).await;
    let rules = OPEN_PRESENCE.to_owned()
        + "[[delivery]]\nid = \"hold\"\nwho = [\"authenticated\"]\naction = \"hold\"\n";
    owner.set_rules(&rules).await;
    owner.show_for(&open("for an hour"), 3600).await.unwrap();
    for followed in ["bob@a.example", "bob@b.example"] {
        owner.follow_for(followed, 3600).await.unwrap();
    }
    owner.queue("carol@c.example", "waits").await;
    let mut bob = Peer::sign_in(here, "bob").await;
    bob.follow_for(&own, 3600).await.unwrap();
    bob.send(&own, "held").await;
    let mut bob = Watcher::of(Peer::sign_in(there, "bob").await, &own).await;
    bob.until_note("for an hour").await;
    bob.peer.follow_for(&own, 3600).await.unwrap();
}

/// Which records name an account, whosever they are.
fn naming(server: &Server, name: &str) -> Vec<u8> {
    let store = store_of(server);
    let sql = "SELECT kind FROM record WHERE instr(key, CAST(?1 AS BLOB)) > 0 ORDER BY kind";
    let mut statement = store.prepare(sql).unwrap();
    let kinds = statement.query_map([name], |row| row.get(0)).unwrap();
    kinds.map(Result::unwrap).collect()
}

/// Killed as it enters the first, second, … sync of a removal, the server has finished it when it lets
/// people in again: nothing of the account is left, in whosever name, and nothing goes out in its own.
/// What it followed elsewhere ends with the lease between the domains at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn i9_g2_a_removal_that_was_cut_is_finished_at_the_next_start() {
    let names = ["a.example", "b.example", "c.example"];
    let short = |_: &str, start: Start| {
        start.set("times.lease_min_seconds", 1).set("federation.lease_seconds", 4)
    };
    let mut domains = Domains::with(&names, short).await;
    domains.cable("c.example").pull();
    for domain in ["a.example", "b.example"] {
        let mut bob = Peer::sign_in(&domains[domain], "bob").await;
        bob.set_rules(OPEN_PRESENCE).await;
    }
    let mut killed = 0;
    for when in 1.. {
        let name = format!("gone{when}");
        life_across(&domains, &name).await;
        let own = domains["a.example"].account(&name);
        let inject = format!("inject=fdatasync,fsync:signal=SIGKILL:when={when}");
        let options = ["-e", "trace=fdatasync,fsync", "-e", &inject];
        let Some(trace) = Trace::attach(&domains["a.example"], &options) else { return };
        let removed = domains["a.example"].user(&["remove", &own]).status.success();
        if !removed {
            domains["a.example"].ended();
            drop(trace);
            // Until it is looked for, nobody elsewhere asks for the name anew: that is kept as for any
            // name that nobody has.
            for domain in ["a.example", "b.example"] {
                domains.cable(domain).pull();
            }
            domains["a.example"].restart();
            // Some other sync may have come before the removal's first one.
            let still = domains["a.example"].user_ok(&["list"]).contains(&own);
            match still {
                true => drop(domains["a.example"].user_ok(&["remove", &own])),
                false => killed += 1,
            }
            assert_eq!(naming(&domains["a.example"], &name), [ACCOUNT], "killed at sync {when}");
            for domain in ["a.example", "b.example"] {
                domains.cable(domain).plug();
            }
        }
        nobody_is_shown(&domains, &name).await;
        if removed {
            break;
        }
        assert!(killed < 50, "a removal has no end");
    }
    assert!(killed > 3, "a removal is more than {killed} syncs");
    domains.cable("c.example").plug();
    let mut bob = Peer::sign_in(&domains["a.example"], "bob").await;
    bob.queue("carol@c.example", "the only one").await;
    let mut carol = Peer::sign_in(&domains["c.example"], "carol").await;
    let held = eventually("the message to come", async || {
        let held = carol.requests().await.entries;
        (!held.is_empty()).then_some(held)
    });
    let from: Vec<_> = held.await.into_iter().map(|entry| entry.from).collect();
    assert_eq!(from, ["bob@a.example".parse().unwrap()]);
}

/// Nobody here or elsewhere follows or is followed by an account that was removed. Whoever asks for it
/// elsewhere waits, as for any name that nobody has.
async fn nobody_is_shown(domains: &Domains, name: &str) {
    let server = &domains["a.example"];
    let own = server.account(name);
    let left = naming(server, name);
    assert!(left.iter().all(|kind| [ACCOUNT, WATCHER, GHOST].contains(kind)), "{left:?}");
    let mut here = Peer::sign_in(server, "bob").await;
    assert_eq!(here.refused(fetch(&own, What::Presence)).await, Code::NotFound);
    let mut there = Peer::sign_in(&domains["b.example"], "bob").await;
    eventually("everybody to hear of it", async || {
        let is_active = |state: SubscriptionState| state == SubscriptionState::Active;
        for bob in [&mut here, &mut there] {
            let watchers = bob.watchers().await;
            let watches = watchers.iter().any(|w| w.watcher.as_str() == own && is_active(w.state));
            let followed = bob.subscriptions().await;
            let shown = followed.iter().any(|s| s.presentity.as_str() == own && is_active(s.state));
            if watches || shown {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// What is left of a removal that was cut can be removed by asking again, also where no server runs;
/// what is removed whole cannot.
#[tokio::test]
async fn i9_a_removal_that_was_cut_is_finished_when_it_is_asked_for_again() {
    let mut server = Server::quickstart();
    full_life(&server).await;
    let inject = "inject=fdatasync,fsync:signal=SIGKILL:when=2";
    let options = ["-e", "trace=fdatasync,fsync", "-e", inject];
    let Some(trace) = Trace::attach(&server, &options) else { return };
    assert!(!server.user(&["remove", "alice@localhost"]).status.success());
    server.ended();
    drop(trace);
    assert!(records_of(&server, "alice").len() > 1, "it was not cut");
    server.user_ok(&["remove", "alice@localhost"]);
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    assert_eq!(server.user(&["remove", "alice@localhost"]).status.code(), Some(1));
}
