//! Messages between two domains: found by DNS, proven by certificates, queued on the disk, each
//! with one fate.

use std::time::Duration;

use impp_protocol::command::Outcome;
use impp_protocol::state::{Fate, ItemKind};
use impp_tests::impp::Impp;
use impp_tests::{Domains, Peer, eventually};

/// The fates in a log, in order: of which message, and what.
async fn fates(peer: &mut Peer) -> Vec<(Vec<u8>, Fate)> {
    let log = peer.log().await;
    let fates = log.into_iter().filter(|item| item.kind == ItemKind::Fate);
    fates.filter_map(|item| item.fate).map(|fate| (fate.id.to_vec(), fate.fate)).collect()
}

/// The texts in an inbox, when there are so many.
async fn texts(peer: &mut Peer, count: usize) -> Vec<String> {
    let inbox = eventually("messages", async || {
        let inbox = peer.inbox().await;
        (inbox.len() >= count).then_some(inbox)
    });
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    inbox.await.iter().map(|message| text(&message.body)).collect()
}

const OPEN: &str = "[[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"accept\"\n";

/// Two domains that know nothing of each other but DNS write to each other at first contact.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_1_strangers_write_to_each_other_at_first_contact() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    alice.set_rules(OPEN).await;
    bob.set_rules(OPEN).await;
    assert_eq!(alice.send("bob@b.example", "hello").await, Outcome::Queued);
    assert_eq!(texts(&mut bob, 1).await, ["hello"]);
    assert_eq!(bob.inbox().await[0].from, Some("alice@a.example".parse().unwrap()));
    assert_eq!(bob.send("alice@a.example", "and to you").await, Outcome::Queued);
    assert_eq!(texts(&mut alice, 1).await, ["and to you"]);
    let told = eventually("a fate", async || {
        let fates = fates(&mut alice).await;
        (!fates.is_empty()).then_some(fates)
    });
    assert_eq!(told.await[0].1, Fate::Delivered);
    let links = domains["b.example"].metrics().get("impp_links");
    assert!((1.0..=2.0).contains(&links), "{links} links");
    let _ = (Impp::of(&domains["a.example"], "alice"), Duration::ZERO);
}
