//! Layers that ended while their device was away: which end is told, and what is published over what.
//! That the device is away and comes back is in `resume`.

use impp_protocol::command::Publish;
use impp_protocol::presence::Document;
use impp_protocol::{Code, What};
use impp_tests::peer::{Peer, fetch, publish};
use impp_tests::presence::{Watcher, document, layer, open, person};
use impp_tests::server::Server;
use impp_tests::wire::Wire;

use crate::presence_leases::{alice_and_dave, brief};

/// Has the peer's connection lost, and its layer with it; then it is back.
async fn away_and_back(server: &Server, peer: Peer, watcher: &mut Watcher) -> Peer {
    let held = peer.held();
    peer.cut();
    watcher.until(|held| held.document() == &Document::offline()).await;
    Peer::resume(Wire::dial(server).await, &held).await.expect("resumed")
}

/// That a layer has ended is told to whose it was, if its time was over: not if it was taken back, nor to
/// who had published before another session of the device has.
#[tokio::test]
async fn e4_only_a_layer_that_ended_by_itself_has_ended() {
    let server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let mut other = Peer::sign_in_on(&server, "alice", 1).await;
    // Taken back by another session of the device.
    alice.show(&open("first")).await;
    dave.until_note("first").await;
    other.hide().await;
    let mut alice = away_and_back(&server, alice, &mut dave).await;
    assert!(!alice.welcome.layer_ended, "{:?}", alice.welcome);
    // Replaced by it, and then taken back.
    alice.show(&open("second")).await;
    other.show_for(&open("third"), 3000).await.unwrap();
    dave.until_note("third").await;
    other.hide().await;
    let mut alice = away_and_back(&server, alice, &mut dave).await;
    assert!(!alice.welcome.layer_ended, "{:?}", alice.welcome);
    // What was refused has replaced nothing.
    alice.show(&open("fourth")).await;
    dave.until_note("fourth").await;
    let big = Publish {
        replace: true,
        ..publish("alice@localhost", What::Presence, Some(layer(&too_large())))
    };
    assert_eq!(other.refused(big).await, Code::TooLarge);
    let alice = away_and_back(&server, alice, &mut dave).await;
    assert!(alice.welcome.layer_ended, "{:?}", alice.welcome);
}

/// A layer beyond the limits of a document, of values that are within theirs.
fn too_large() -> Document {
    let value = "x".repeat(4096);
    let names: Vec<String> = (0..13).map(|n| format!("org.example.f{n}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    document(&pairs, &[])
}

/// What is published only where there is nothing yet is refused where there is, whoever has done it.
#[tokio::test]
async fn e4_what_starts_from_nothing_replaces_nothing() {
    let server = brief().start();
    let (mut alice, _) = alice_and_dave(&server).await;
    let again = |note: &str| Publish {
        replace: true,
        base: Some(0),
        ..publish("alice@localhost", What::Presence, Some(layer(&open(note))))
    };
    alice.done(again("first")).await;
    assert_eq!(alice.refused(again("second")).await, Code::Conflict);
    let mut other = Peer::sign_in_on(&server, "alice", 1).await;
    assert_eq!(other.refused(again("third")).await, Code::Conflict);
    let shown =
        Document::decode(other.done(fetch("alice@localhost", What::Layer)).await.content.unwrap());
    assert_eq!(person(&shown.unwrap(), "note"), Some("first"));
    other.hide().await;
    other.done(again("fourth")).await;
    // Another device is another layer.
    Peer::sign_in_on(&server, "alice", 2).await.done(again("fifth")).await;
}
