//! Small things that a change to the program could break and no larger play would notice.

use impp_protocol::What;
use impp_protocol::command::{Ack, ByeReason};
use impp_protocol::state::{
    self, ItemKind, Page, RequestEntry, SubscriptionEvent, SubscriptionState,
};
use impp_tests::peer::{fetch, first_auth};
use impp_tests::presence::{Watcher, open, person};
use impp_tests::wire::hello;
use impp_tests::{BadPeer, Domains, Peer, Server, Wire, eventually};

use crate::settings::OPEN_PRESENCE;

/// A first page of a log: the texts of what was received, and the whole.
async fn page(peer: &mut Peer) -> (Vec<String>, Page) {
    let own = peer.address.clone();
    let content = peer.done(fetch(own.as_str(), What::Log)).await.content.unwrap();
    let page: Page = state::decode(content).unwrap();
    let received = page.items.iter().filter(|item| item.kind == ItemKind::Received);
    let text = |item: &state::Item| {
        let message = item.message.clone().unwrap();
        let message = impp_protocol::command::Message::decode(message).unwrap();
        String::from_utf8(message.body.to_vec()).unwrap()
    };
    (received.map(text).collect(), page)
}

/// Custody is taken of what is named and of nothing more, though the next item lies directly
/// behind it; where nothing is retained, that alone goes, for all devices.
#[tokio::test(flavor = "multi_thread")]
async fn custody_is_taken_of_what_is_named_and_no_more() {
    let domains = Domains::with(&["a.example"], |_, start| {
        start.set("inbox.retention_days", 0).set("inbox.items_max", 3)
    })
    .await;
    let server = &domains["a.example"];
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut phone = Peer::open_inbox(server, "alice").await;
    let mut desk = Peer::sign_in_on(server, "alice", 2).await;
    let mut link = evil.call(server).await;
    // What a link brings is one item each, one directly behind the other.
    for text in ["1", "2", "3"] {
        link.deliver(evil.message("x", "alice@a.example", text)).await;
    }
    let (texts, first) = page(&mut phone).await;
    assert_eq!(texts, ["1", "2", "3"]);
    let address = phone.address.clone();
    phone.done(Ack { address, cursor: first.items[0].cursor.clone() }).await;
    for device in [&mut phone, &mut desk] {
        assert_eq!(page(device).await.0, ["2", "3"]);
    }
    // There is room for one more, and for one only.
    link.deliver(evil.message("x", "alice@a.example", "4")).await;
    let full = link.refused(evil.message("x", "alice@a.example", "5")).await;
    assert_eq!(full, impp_protocol::Code::Full);
    // The other device goes on behind what is gone.
    let address = desk.address.clone();
    desk.done(Ack { address, cursor: first.items[1].cursor.clone() }).await;
    assert_eq!(page(&mut phone).await.0, ["3", "4"]);
}

/// Within the grace after a lost connection nothing is seen of the loss.
#[tokio::test]
async fn within_its_grace_a_layer_stays() {
    let server = Server::with().set("times.grace_seconds", 600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show(&open("here")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let held = alice.held();
    alice.cut();
    eventually("the end of the connection", async || {
        (server.metrics().get("impp_connections") == 1.0).then_some(())
    })
    .await;
    // The session is parked before its connection is counted as gone.
    for _ in 0..50 {
        assert_eq!(bob.settle().await, 0);
    }
    assert_eq!(person(bob.held.document(), "note"), Some("here"));
    let mut alice = Peer::resume(Wire::dial(&server).await, &held).await.unwrap();
    alice.show(&open("back")).await;
    bob.until_note("back").await;
}

/// A block ends also a request that still waits, whether the one who asked is there and told, or
/// has left; and the owner is asked no more.
#[tokio::test]
async fn a_block_ends_a_request_that_waits() {
    let server = Server::quickstart();
    for name in ["dave", "erin"] {
        server.add(name);
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rule = |handling: &str| {
        let who = "[\"dave@localhost\", \"erin@localhost\"]";
        format!("[[rule]]\nid = \"d\"\nwho = {who}\nhandling = \"{handling}\"\n")
    };
    alice.set_rules(&rule("confirm")).await;
    let mut dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    assert_eq!(dave.held.state, Some(SubscriptionState::Pending));
    Watcher::sign_in(&server, "erin", "alice@localhost").await.peer.leave().await;
    let names = |entries: Vec<RequestEntry>| {
        entries.iter().map(|entry| entry.from.to_string()).collect::<Vec<_>>()
    };
    let both = ["dave@localhost", "erin@localhost"];
    assert_eq!(names(alice.requests().await.entries), both);
    alice.set_rules(&rule("block")).await;
    let told = dave.next().await;
    assert_eq!(told.state, SubscriptionState::Terminated);
    assert_eq!(told.event, Some(SubscriptionEvent::Rejected));
    assert_eq!(alice.requests().await.entries, []);
}

/// The third failed sign-in on a connection is the last one.
#[tokio::test]
async fn c7_the_third_failed_sign_in_ends_the_connection() {
    let server = Server::quickstart();
    let mut wire = Wire::dial(&server).await;
    wire.send(0, hello()).await;
    for number in 1..=10 {
        let profile = server.profile("alice");
        let first = b"n,a=bob@localhost,n=alice@localhost,r=abcdefghijkl".to_vec();
        wire.send(number, first_auth(&profile, 1, "SCRAM-SHA-256", first)).await;
    }
    let ending = wire.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Protocol));
    assert_eq!(ending.errors.len(), 3, "{:?}", ending.errors);
}
