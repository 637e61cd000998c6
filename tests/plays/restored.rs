//! A store that was put back from a copy: fault G15.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Ack, Command, Fetch, Outcome, Publish, Subscribe};
use impp_protocol::state::{self, ContactChange, ContactEdit, Grant};
use impp_protocol::{Code, What};
use impp_tests::dice::Dice;
use impp_tests::peer::{fetch, message, publish, subscribe};
use impp_tests::running::Running;
use impp_tests::server::refused_start;
use impp_tests::{Peer, Server};
use serde_json::Value;

/// Rounds of work that end by SIGKILL.
const KILLS: usize = 12;

/// Copies the files of a stopped server's store over those that are there, if any are.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["store.sqlite", "witness"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn store(server: &Server) -> PathBuf {
    server.data().join("store")
}

/// The cursor of bob's newest item.
async fn newest(server: &Server) -> Bytes {
    let mut bob = Peer::sign_in(server, "bob").await;
    bob.log().await.last().unwrap().cursor.clone()
}

/// Everything that takes a cursor.
fn uses(cursor: &Bytes) -> [Command; 3] {
    let address = "bob@localhost".parse().unwrap();
    let read = Fetch { cursor: Some(cursor.clone()), ..fetch("bob@localhost", What::Log) };
    let follow =
        Subscribe { cursor: Some(cursor.clone()), ..subscribe("bob@localhost", What::Log) };
    [read.into(), follow.into(), Ack { address, cursor: cursor.clone() }.into()]
}

async fn is_bad(server: &Server, cursor: &Bytes) {
    let mut bob = Peer::sign_in(server, "bob").await;
    for command in uses(cursor) {
        assert_eq!(bob.refused(command).await, Code::BadCursor);
    }
}

/// The bodies of messages that a running `impp` prints, until the last of these.
fn bodies(impp: &mut Running, last: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let object: Value = impp.object();
        let Some(body) = object["body"].as_str() else { continue };
        bodies.push(body.to_owned());
        if body == last {
            return bodies;
        }
    }
}

/// The store is put back while a client follows its inbox. What it holds of before is of no use, and
/// never comes to be of use; it goes on by itself, with all that is there.
async fn put_back(put_back: impl Fn(&Path, &Path)) {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let kept = message("bob@localhost", "kept");
    assert_eq!(alice.done(kept.clone()).await.outcome, Some(Outcome::Delivered));
    server.stop();
    let copied = server.data().join("copy");
    copy(&store(&server), &copied);
    server.restart();

    let mut follower = Running::start(&server, "bob", &["inbox", "--follow", "--ack"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let lost: Vec<_> = (0..5).map(|n| message("bob@localhost", &format!("lost {n}"))).collect();
    for message in &lost {
        alice.done(message.clone()).await;
    }
    let expected = ["kept", "lost 0", "lost 1", "lost 2", "lost 3", "lost 4"];
    assert_eq!(bodies(&mut follower, "lost 4"), expected);
    let cursor = newest(&server).await;
    server.stop();
    put_back(&copied, &store(&server));
    server.restart();
    assert!(server.stderr().contains("put back"), "{}", server.stderr());

    is_bad(&server, &cursor).await;
    follower.until_it_says("again from the oldest");
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.done(kept).await.outcome, Some(Outcome::Duplicate));
    // What the copy does not know is taken, not called a repeat; and the log grows past the place
    // where it was cut off.
    for message in &lost {
        assert_eq!(alice.done(message.clone()).await.outcome, Some(Outcome::Delivered));
    }
    for n in 0..30 {
        alice.send("bob@localhost", &format!("new {n}")).await;
    }
    let expected = expected.map(str::to_owned).into_iter();
    let expected: Vec<_> = expected.chain((0..30).map(|n| format!("new {n}"))).collect();
    assert_eq!(bodies(&mut follower, "new 29"), expected);
    assert_eq!(follower.interrupt(), Some(0));
    is_bad(&server, &cursor).await;

    // It is this store from now on.
    let cursor = newest(&server).await;
    server.stop();
    server.restart();
    assert!(!server.stderr().contains("put back"), "{}", server.stderr());
    let mut bob = Peer::sign_in(&server, "bob").await;
    for command in uses(&cursor) {
        bob.done(command).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g15_after_an_older_database_is_put_back_clients_begin_anew() {
    put_back(|copy, store| {
        std::fs::copy(copy.join("store.sqlite"), store.join("store.sqlite")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g15_after_all_files_are_put_back_clients_begin_anew() {
    put_back(copy).await;
}

/// As the documents say: the database alone in an empty folder.
#[tokio::test(flavor = "multi_thread")]
async fn g15_after_a_database_is_put_into_an_empty_folder_clients_begin_anew() {
    put_back(|copy, store| {
        std::fs::remove_dir_all(store).unwrap();
        std::fs::create_dir(store).unwrap();
        std::fs::copy(copy.join("store.sqlite"), store.join("store.sqlite")).unwrap();
    })
    .await;
}

/// What devices know of a contact list that was lost is not taken for what comes instead: its numbers are
/// given to nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn g15_numbers_of_a_contact_list_are_not_given_twice() {
    let bob = || ContactChange { add: true, ..ContactChange::of("bob@localhost".parse().unwrap()) };
    let named = |name: &str| ContactChange { name: Some(name.to_owned()), ..bob() };
    let grants = |grant| ContactChange { grant: Some(grant), ..bob() };
    let mut server = Server::quickstart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    phone.edit_contacts(&ContactEdit::change(grants(Grant::Status))).await;
    server.stop();
    let copied = server.data().join("copy");
    copy(&store(&server), &copied);
    server.restart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    for name in ["one", "two", "three"] {
        phone.edit_contacts(&ContactEdit::change(named(name))).await;
    }
    let known = phone.done(fetch("alice@localhost", What::Contacts)).await.number.unwrap();
    server.stop();
    copy(&copied, &store(&server));
    server.restart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    // Others than before; one takes back what was granted.
    phone.edit_contacts(&ContactEdit::change(named("first"))).await;
    phone.edit_contacts(&ContactEdit::change(grants(Grant::None))).await;
    phone.edit_contacts(&ContactEdit::change(named("third"))).await;
    let now = phone.done(fetch("alice@localhost", What::Contacts)).await.number.unwrap();
    assert!(now > known, "{now} after {known}");
    // The laptop has not heard of it. What it knows is of before.
    let mut laptop = Peer::sign_in_on(&server, "alice", 2).await;
    let content = Some(state::encode(&ContactEdit::change(grants(Grant::All))));
    let edit = Publish { base: Some(known), ..publish("alice@localhost", What::Contacts, content) };
    assert_eq!(laptop.refused(edit).await, Code::Conflict);
}

/// A start that finds a copy and then fails has said so: the next one may not find it any more.
#[tokio::test]
async fn g15_a_copy_is_told_though_its_start_fails() {
    let mut server = Server::quickstart();
    server.stop();
    let store = server.data().join("store");
    std::fs::remove_file(store.join("witness")).unwrap();
    // Where the new one is to be made, something stands that does not give way.
    std::fs::create_dir(store.join("witness.new")).unwrap();
    let config = server.config().display().to_string();
    let (code, said) = refused_start(&["serve", "--config", &config]);
    assert!(code == Some(5) && said.contains("put back"), "{code:?}: {said}");
    std::fs::remove_dir(store.join("witness.new")).unwrap();
    server.restart();
}

/// However a server ends, its store is the same one at the next start: cursors stay good.
#[tokio::test(flavor = "multi_thread")]
async fn g15_g2_no_kill_makes_another_store() {
    // A quick machine stores more than an inbox holds by default.
    let start = Server::with().no_rates();
    let mut server = start.set("inbox.items_max", 1_000_000).start();
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_be_bytes(seed);
    #[expect(clippy::print_stdout, reason = "shown only when it fails, to see it again")]
    {
        println!("seed {seed}");
    }
    let mut dice = Dice::new(seed);
    Peer::sign_in(&server, "alice").await.send("bob@localhost", "first").await;
    let cursor = newest(&server).await;
    for round in 0..KILLS {
        let mut alice = Peer::sign_in(&server, "alice").await;
        // Some rounds are longer than the file beside the database is left alone for.
        let end = tokio::time::Instant::now() + Duration::from_millis(dice.roll(1500) as u64);
        while tokio::time::Instant::now() < end {
            alice.send("bob@localhost", &format!("round {round}")).await;
        }
        server.kill9();
        server.restart();
        assert!(!server.stderr().contains("put back"), "{}", server.stderr());
        Peer::sign_in(&server, "bob").await.done(uses(&cursor)[0].clone()).await;
    }
}
