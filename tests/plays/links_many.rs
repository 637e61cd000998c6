//! Very many other domains, and what stands between two: no ceiling on their number, those that are
//! slow hold up no other, intermediaries change nothing.

use std::net::Ipv4Addr;

use impp_protocol::Code;
use impp_protocol::command::Message;
use impp_protocol::state::Fate;
use impp_tests::peer::message;
use impp_tests::presence::{Watcher, open};
use impp_tests::{Domains, Peer, eventually};
use tokio::net::TcpListener;

/// Ten thousand domains, of which the server was told nothing, in one run.
#[tokio::test(flavor = "multi_thread")]
async fn r2_1_5_ten_thousand_domains_are_tried_and_nothing_is_kept_of_them() {
    const DOMAINS: usize = 10_000;
    const AT_ONCE: usize = 500;
    let domains = Domains::with(&["a.example"], |_, start| start.no_rates()).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut told = 0;
    for first in (0..DOMAINS).step_by(AT_ONCE) {
        let texts = (first..first + AT_ONCE).map(|n| message(&format!("x@d{n}.example.net"), "hi"));
        let numbers = alice.flight(texts.map(Into::into)).await;
        for number in numbers {
            alice.answer(number).await.expect("a message that is queued");
        }
        eventually("fates", async || {
            let queued = domains["a.example"].metrics().get("impp_queued_messages");
            (queued == 0.0).then_some(())
        })
        .await;
        alice.ack_all().await;
        told += AT_ONCE;
    }
    let fates = alice.fates().await;
    assert_eq!((told, fates.len()), (DOMAINS, DOMAINS));
    let unknown = |code: Option<Code>| code == Some(Code::UnknownDomain);
    assert!(fates.iter().all(|fate| fate.fate == Fate::Failed && unknown(fate.code)));
}

/// Three hundred domains whose servers accept and say nothing hold up neither another domain nor
/// each other's senders.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_6_three_hundred_slow_domains_hold_up_no_other() {
    const SLOW: usize = 300;
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("federation.dial_seconds", 5)
    })
    .await;
    let hole = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    domains.dns.a("hole.example.net", Ipv4Addr::LOCALHOST);
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let slow = |n: usize| format!("d{n}.example.net");
    for n in 0..SLOW {
        domains.dns.srv(
            &slow(n),
            "im",
            0,
            0,
            hole.local_addr().unwrap().port(),
            "hole.example.net",
        );
    }
    let texts: Vec<Message> =
        (0..SLOW).map(|n| message(&format!("x@{}", slow(n)), "anybody?")).collect();
    let numbers = alice.flight(texts.into_iter().map(Into::into)).await;
    for number in numbers {
        alice.answer(number).await.expect("a message that is queued");
    }
    let id = alice.queue("bob@b.example", "at once").await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    assert_eq!(bob.texts(1).await, ["at once"]);
    let metrics = domains["a.example"].metrics();
    assert_eq!(metrics.get("impp_queued_messages"), SLOW as f64);
    // One connection to each at most, however long they take.
    assert!(domains["a.example"].open_files() < (SLOW + 200) as u64);
}

/// Through no, one and two intermediaries, which carry the link and cannot look into it: the same
/// subscriptions, notifications and messages, in the same order.
#[tokio::test(flavor = "multi_thread")]
async fn r2_4_1_r2_4_2_r2_4_3_intermediaries_in_the_path_change_nothing() {
    for more in 0..3 {
        let mut domains = Domains::two().await;
        domains.lengthen("b.example", more).await;
        let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
        let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
        bob.set_rules(&format!(
            "{}[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n\
             fields = [\"all\"]\n",
            impp_tests::fates::OPEN_INBOX
        ))
        .await;
        let ids =
            [alice.queue("bob@b.example", "1").await, alice.queue("bob@b.example", "2").await];
        assert_eq!(bob.texts(2).await, ["1", "2"]);
        for id in ids {
            assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
        }
        let mut alice = Watcher::of(alice, "bob@b.example").await;
        for note in ["one", "two", "three"] {
            bob.show(&open(note)).await;
            alice.until_note(note).await;
        }
        assert_eq!(domains["b.example"].metrics().get("impp_links"), 1.0);
    }
}
