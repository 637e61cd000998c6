//! What is not on the disk is not seen: while the disk takes its time, and when it is full. Fault G8.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use impp_protocol::command::Publish;
use impp_protocol::presence::Document;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Code, What};
use impp_tests::disk::SmallDisk;
use impp_tests::eventually;
use impp_tests::peer::{Peer, fetch, publish};
use impp_tests::presence::{Watcher, at_once, document, open, person};
use impp_tests::trace::Trace;

use crate::presence_leases::{alice_and_dave, brief};
use crate::rules::{ALL, rule, strangers};

/// Looks that are made while the disk hangs.
const LOOKS: usize = 20;

async fn rules_of(peer: &mut Peer, text: &str) -> Publish {
    let base = peer.done(fetch(peer.address.clone().as_str(), What::Rules)).await.number;
    let content = Some(Bytes::copy_from_slice(text.as_bytes()));
    Publish { base, ..publish(peer.address.clone().as_str(), What::Rules, content) }
}

/// While the disk hangs: who is being barred sees nothing more, who is being let in sees nothing yet,
/// and with the disk both are as the owner says.
#[tokio::test]
async fn g8_a_right_is_taken_at_once_and_given_when_it_is_stored() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (mut bob, mut carol) =
        (Peer::sign_in(&server, "bob").await, Peer::sign_in(&server, "carol").await);
    let (yes, no) = (|who| rule(who, "allow", ALL), |who| rule(who, "block", ""));
    alice.set_rules(&(no("bob") + &yes("carol"))).await;
    alice.show(&open("here")).await;
    let turned = rules_of(&mut alice, &(yes("bob") + &no("carol"))).await;
    let look = || fetch("alice@localhost", What::Presence);
    carol.look("alice@localhost").await;
    let Some(hangs) = Trace::hung_disk(&server) else { return };
    let asked = alice.ask(turned).await;
    eventually("carol to be barred", async || carol.request(look()).await.err()).await;
    for _ in 0..LOOKS {
        assert_eq!(bob.refused(look()).await, Code::Refused);
        assert_eq!(carol.refused(look()).await, Code::Refused);
    }
    drop(hangs);
    alice.answer(asked).await.expect("the rules are stored");
    assert_eq!(person(&bob.look("alice@localhost").await, "note"), Some("here"));
    assert_eq!(carol.refused(look()).await, Code::Refused);
}

/// A lease that runs out while the disk hangs has ended all the same: who followed by it is told, and
/// does not find it among its subscriptions.
#[tokio::test]
async fn d_6_6_a_lease_ends_also_while_the_disk_hangs() {
    let server = brief().start();
    let (_alice, mut dave) = alice_and_dave(&server).await;
    dave.follow_for("alice@localhost", 2).await.unwrap();
    let Some(_hangs) = Trace::hung_disk(&server) else { return };
    let presentity = "alice@localhost".into();
    let mut dave = Watcher { peer: dave, presentity, held: <_>::default() };
    dave.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    assert_eq!(dave.peer.subscriptions().await, vec![]);
}

/// A publication that is refused because the disk is full was seen by nobody, however often they
/// looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g8_on_a_full_disk_what_is_refused_was_never_seen() {
    const PUBLICATIONS: usize = 4000;
    let Some(disk) = SmallDisk::mount(48 * 1024 * 1024) else { return };
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let server = at_once().no_rates().store(&store).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    let said = |n: usize| document(&[("note", &n.to_string()), ("org.example.long", &LONG)], &[]);
    alice.show_for(&said(0), 3600).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let looking = {
        let over = over.clone();
        tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Acquire) {
                seen.insert(note(&bob.look("alice@localhost").await));
            }
            (bob, seen)
        })
    };
    disk.fill();
    let (mut stored, mut refused) = (BTreeSet::from([0]), 0);
    for n in 1..PUBLICATIONS {
        match alice.show_for(&said(n), 3600).await {
            Ok(_) => drop(stored.insert(n)),
            Err(error) => {
                assert_eq!(error.code, Code::Storage, "{error:?}");
                refused += 1;
            }
        }
        if refused > 200 {
            break;
        }
    }
    assert!(refused > 200, "the disk does not get full");
    over.store(true, Ordering::Release);
    let (mut bob, seen) = looking.await.unwrap();
    assert!(seen.is_subset(&stored), "{:?}", seen.difference(&stored).collect::<Vec<_>>());
    let last = stored.last().copied().unwrap();
    assert_eq!(note(&bob.look("alice@localhost").await), last, "the last that was stored stays");
}

/// Enough that a full disk is noticed soon.
static LONG: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(1000));

fn note(document: &Document) -> usize {
    person(document, "note").expect("a note").parse().expect("a number")
}
