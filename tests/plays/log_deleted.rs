//! E12: an item that its owner deletes is gone on all devices, and stays gone.

use bytes::Bytes;
use impp_protocol::command::{Ack, EVERY_ITEM, Fetch, Hello, Publish, Subscribe};
use impp_protocol::state::ItemKind::{Deleted, Gone, Received};
use impp_protocol::state::{self, Deletion, Item, ItemKind, Page};
use impp_protocol::{Code, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::wire::hello;
use impp_tests::{Server, Wire};

/// Alice may read the inbox.
const LETS: &str = r#"
[[delegate]]
id = "a"
who = ["alice@localhost"]
rights = ["inbox-read"]
"#;

fn delete(owner: &str, cursor: &Bytes) -> Publish {
    publish(owner, What::Log, Some(state::encode(&Deletion { cursor: cursor.clone() })))
}

fn kinds(items: &[Item]) -> Vec<ItemKind> {
    items.iter().map(|item| item.kind).collect()
}

fn every() -> Hello {
    Hello { features: vec![EVERY_ITEM.to_owned()], ..hello() }
}

/// Signs bob in on a device that passes over items that it does not know.
async fn bob_on(server: &Server, device: u8) -> Peer {
    let (wire, profile) = (Wire::dial(server).await, server.profile("bob"));
    Peer::over_saying(every(), wire, &profile, device).await.unwrap()
}

async fn told(peer: &mut Peer) -> Page {
    state::decode(peer.notify().await.snapshot.unwrap()).unwrap()
}

/// Who follows is told which item is gone, who reads later finds its place empty, and all cursors hold;
/// after a crash too, and on a session that is resumed.
#[tokio::test]
async fn e12_what_is_deleted_is_gone_on_all_devices_and_does_not_come_back() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = bob_on(&server, 1).await;
    let mut other = bob_on(&server, 2).await;
    let mut sent = Vec::new();
    for text in ["one", "two", "three"] {
        sent.push(message("bob@localhost", text));
        alice.done(sent.last().unwrap().clone()).await;
    }
    let log = bob.log().await;
    let end = log[2].cursor.clone();
    let at_end = Subscribe { cursor: Some(end.clone()), ..subscribe("bob@localhost", What::Log) };
    other.done(at_end).await;
    bob.done(delete("bob@localhost", &log[1].cursor)).await;
    let page = told(&mut other).await;
    assert_eq!(kinds(&page.items), [Deleted]);
    let report = page.items[0].deleted.clone().unwrap();
    assert_eq!((report.cursor, report.id), (log[1].cursor.clone(), Some(sent[1].id)));
    // Once more changes nothing, and tells nobody.
    bob.done(delete("bob@localhost", &log[1].cursor)).await;
    server.kill9();
    server.restart();
    for mut bob in [bob_on(&server, 1).await, bob_on(&server, 3).await] {
        let after = bob.log().await;
        assert_eq!(kinds(&after), [Received, Gone, Received, Deleted]);
        assert_eq!((&after[0], &after[2]), (&log[0], &log[2]));
        let gone = Item { message: None, kind: Gone, ..log[1].clone() };
        assert_eq!(after[1], gone);
        for cursor in [&log[1].cursor, &end] {
            let fetch = Fetch { cursor: Some(cursor.clone()), ..fetch("bob@localhost", What::Log) };
            bob.done(fetch).await;
        }
        bob.done(Ack { address: bob.address.clone(), cursor: log[1].cursor.clone() }).await;
    }
    // Its sender repeats it, as it lost the answer: it is known, and does not come a second time.
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(sent[1].clone()).await;
    let mut bob = bob_on(&server, 1).await;
    assert_eq!(bob.inbox().await.len(), 2);
    assert_eq!(alice.log().await.len(), 6, "the sender keeps what it has");
}

/// A follower that was behind, and a session that is resumed, meet the mark and not the message.
#[tokio::test]
async fn e12_who_resumes_is_told_that_it_is_gone() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let bob = bob_on(&server, 1).await;
    let mut other = bob_on(&server, 2).await;
    let held = bob.held();
    bob.cut();
    alice.send("bob@localhost", "one").await;
    let log = other.log().await;
    other.done(delete("bob@localhost", &log[0].cursor)).await;
    let mut bob = Peer::resume_by(Wire::dial(&server).await, &held, |hello, _| *hello = every())
        .await
        .unwrap();
    bob.done(subscribe("bob@localhost", What::Log)).await;
    assert_eq!(kinds(&told(&mut bob).await.items), [Gone, Deleted]);
}

/// What was deleted makes room for what comes; a follower at the tail reads it from memory and from
/// the disk alike.
#[tokio::test]
async fn e12_what_is_deleted_gives_its_room_back() {
    let server = Server::with().set("inbox.items_max", 2).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = bob_on(&server, 1).await;
    alice.send("bob@localhost", "one").await;
    alice.send("bob@localhost", "two").await;
    assert_eq!(alice.refused(message("bob@localhost", "three")).await, Code::Full);
    let log = bob.log().await;
    bob.done(delete("bob@localhost", &log[0].cursor)).await;
    alice.send("bob@localhost", "three").await;
    assert_eq!(alice.refused(message("bob@localhost", "four")).await, Code::Full);
    assert_eq!(kinds(&bob.log().await), [Gone, Received, Deleted, Received]);
}

/// Only from one's own log: nobody else's, no delegate, and by no cursor that is none of it. What says
/// that something is gone stays.
#[tokio::test]
async fn only_the_owner_deletes_and_only_what_is_there() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = bob_on(&server, 1).await;
    bob.set_rules(&format!("{OPEN_INBOX}\n{LETS}")).await;
    alice.send("bob@localhost", "one").await;
    let log = bob.log().await;
    alice.done(fetch("bob@localhost", What::Log)).await;
    assert_eq!(alice.refused(delete("bob@localhost", &log[0].cursor)).await, Code::Refused);
    assert_eq!(alice.refused(delete("alice@localhost", &log[0].cursor)).await, Code::BadCursor);
    let forged = Bytes::from_static(b"forged");
    assert_eq!(bob.refused(delete("bob@localhost", &forged)).await, Code::BadCursor);
    assert_eq!(bob.refused(publish("bob@localhost", What::Log, None)).await, Code::Malformed);
    bob.done(delete("bob@localhost", &log[0].cursor)).await;
    let after = bob.log().await;
    let report = delete("bob@localhost", &after[1].cursor);
    assert_eq!(bob.refused(report).await, Code::Unsupported);
    assert_eq!(bob.log().await, after);
}

/// Who does not say that it passes over what it does not know gets pages without it, and the same
/// cursors.
#[tokio::test]
async fn clients_of_before_are_told_nothing_of_it() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = bob_on(&server, 1).await;
    for text in ["one", "two"] {
        alice.send("bob@localhost", text).await;
    }
    let log = bob.log().await;
    bob.done(delete("bob@localhost", &log[0].cursor)).await;
    let end = bob.log().await.pop().unwrap().cursor;
    let mut older = Peer::sign_in_on(&server, "bob", 2).await;
    let content = older.done(fetch("bob@localhost", What::Log)).await.content.unwrap();
    let page: Page = state::decode(content).unwrap();
    assert_eq!((kinds(&page.items), page.cursor), (vec![Received], end));
}

/// `impp inbox delete` takes away the message and what tells of it.
#[tokio::test]
async fn the_client_deletes_a_message_by_its_id() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let sent = alice.run(&["send", "bob@localhost", "hello"]).one();
    let id = sent["id"].as_str().unwrap();
    let ran = bob.run(&["inbox", "delete", id]).one();
    assert_eq!((ran["id"].as_str(), ran["deleted"].as_u64()), (Some(id), Some(1)));
    let inbox = bob.run(&["inbox"]);
    let told: Vec<_> = inbox.objects.iter().map(|item| item["item"].as_str().unwrap()).collect();
    assert_eq!((told, inbox.objects[0]["id"].as_str()), (vec!["deleted", "end"], Some(id)));
    let again = bob.run(&["inbox", "delete", id]);
    assert_eq!((again.code, again.stderr.contains("not-found")), (1, true), "{again:?}");
    // The copy and the fate.
    assert_eq!(alice.run(&["inbox", "delete", id]).one()["deleted"], 2);
    assert_eq!(alice.run(&["fate", id]).code, 1);
    let message = |item: &serde_json::Value| item["item"] == "message" || item["item"] == "sent";
    assert!(!alice.run(&["inbox", "--all"]).objects.iter().any(message));
}

/// E12: all that one person has sent goes, however much it is, and nothing of others or of one's own.
#[tokio::test(flavor = "multi_thread")]
async fn e12_the_command_line_deletes_what_one_person_sent() {
    let server = Server::with().no_rates().accounts(["alice", "bob", "carol"]).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut peer = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    peer.set_rules(OPEN_INBOX).await;
    alice.set_rules(OPEN_INBOX).await;
    for _ in 0..3 {
        let flight = (0..90).map(|_| message("bob@localhost", "noise").into());
        for number in alice.flight(flight).await {
            alice.answer(number).await.unwrap();
        }
        carol.send("bob@localhost", "keep").await;
    }
    peer.send("alice@localhost", "my own").await;
    let bob = Impp::of(&server, "bob");
    let ran = bob.run(&["inbox", "delete", "--from", "alice@localhost"]).one();
    let (from, complete) = (ran["from"].as_str(), ran["complete"].as_bool());
    assert_eq!((from, ran["deleted"].as_u64()), (Some("alice@localhost"), Some(270)));
    assert_eq!(complete, Some(true));
    let all = bob.run(&["inbox", "--all"]);
    let bodies: Vec<_> = all.objects.iter().filter_map(|item| item["body"].as_str()).collect();
    assert_eq!(bodies, ["keep", "keep", "keep", "my own"]);
    let again = bob.run(&["inbox", "delete", "--from", "alice@localhost"]);
    assert_eq!((again.code, again.stderr.contains("not-found")), (1, true), "{again:?}");
    assert_eq!(bob.run(&["inbox", "delete"]).code, 2);
}
