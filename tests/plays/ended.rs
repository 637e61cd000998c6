//! What has ended is not shown, whoever looks first: leases that ended while no server ran, and what
//! an account had that was disabled.

use std::time::Duration;

use impp_protocol::Code;
use impp_protocol::presence::Document;
use impp_protocol::state::{Fate, FateReport};
use impp_tests::peer::Peer;
use impp_tests::presence::{Watcher, open};
use impp_tests::{Server, eventually};

use crate::links_mended::one;

/// Nobody looked when the lease ended, as no server ran: the first who asks does not see it open.
#[tokio::test]
async fn a_lease_that_ended_while_no_server_ran_is_not_shown_to_the_first_who_asks() {
    let mut server = Server::with().set("times.lease_min_seconds", 1).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show_for(&open("here"), 1).await.unwrap();
    server.kill9();
    // The lease is of the wall clock: it has to pass.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.look("alice@localhost").await, Document::offline());
}

/// Disabled is at once: what the account shows ends, though it has a lease, and what it has waiting
/// for other domains is sent no more; its owner finds out when the account is enabled again.
#[tokio::test(flavor = "multi_thread")]
async fn c10_a_disabled_account_shows_nothing_and_sends_nothing() {
    let (domains, evil) = one(|start| start.set("federation.dial_seconds", 1)).await;
    let server = &domains["a.example"];
    let mut bob = Peer::sign_in(server, "bob").await;
    bob.show_for(&open("here"), 3600).await.unwrap();
    let mut alice = Watcher::sign_in(server, "alice", "bob@a.example").await;
    alice.until(|held| *held.document() != Document::offline()).await;
    bob.queue("mallory@evil.example", "too late").await;
    server.user_ok(&["disable", "bob@a.example"]);
    alice.until(|held| *held.document() == Document::offline()).await;
    eventually("an empty queue", async || {
        (server.metrics().get("impp_queued_messages") == 0.0).then_some(())
    })
    .await;
    server.user_ok(&["enable", "bob@a.example"]);
    let mut bob = Peer::sign_in(server, "bob").await;
    let fates: Vec<FateReport> = bob.log().await.into_iter().filter_map(|item| item.fate).collect();
    let [fate] = &fates[..] else { panic!("{fates:?}") };
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Refused)));
    assert_eq!(bob.look("bob@a.example").await, Document::offline());
    // What is sent from now on goes.
    bob.queue("mallory@evil.example", "in time").await;
    let mut link = eventually("a link", async || evil.try_accept().await).await;
    assert_eq!(&link.message().await.1.body[..], b"in time");
}

/// Disabled while no server ran: the server that starts sends nothing of what waited.
#[tokio::test(flavor = "multi_thread")]
async fn c10_an_account_disabled_while_no_server_ran_sends_nothing() {
    let (mut domains, _evil) = one(|start| start.set("federation.dial_seconds", 1)).await;
    let mut bob = Peer::sign_in(&domains["a.example"], "bob").await;
    bob.queue("mallory@evil.example", "too late").await;
    drop(bob);
    let server = &mut domains["a.example"];
    server.kill9();
    server.user_ok(&["disable", "bob@a.example"]);
    server.restart();
    eventually("an empty queue", async || {
        (server.metrics().get("impp_queued_messages") == 0.0).then_some(())
    })
    .await;
    server.user_ok(&["enable", "bob@a.example"]);
    let mut bob = Peer::sign_in(server, "bob").await;
    let fate = bob.log().await.into_iter().find_map(|item| item.fate).unwrap();
    // No link was open: it cannot have been taken.
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Refused)));
}
