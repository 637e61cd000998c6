//! Messages between two domains: found by DNS, proven by certificates, queued on the disk, each
//! with one fate.

use std::collections::BTreeSet;
use std::time::Duration;

use impp_protocol::command::{Message, Outcome};
use impp_protocol::state::{Fate, ItemKind};
use impp_protocol::{By, Code};
use impp_tests::impp::Impp;
use impp_tests::peer::message;
use impp_tests::wire::{integer, octets, raw_frame};
use impp_tests::{Domains, Peer, eventually};

/// The number of MESSAGE.
const MESSAGE: u8 = 10;

/// Two domains that know nothing of each other but DNS write to each other at first contact.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_1_strangers_write_to_each_other_at_first_contact() {
    let domains = Domains::two().await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let id = alice.queue("bob@b.example", "hello").await;
    assert_eq!(bob.texts(1).await, ["hello"]);
    assert_eq!(bob.inbox().await[0].from, Some("alice@a.example".parse().unwrap()));
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    bob.queue("alice@a.example", "and to you").await;
    assert_eq!(alice.texts(1).await, ["and to you"]);
    // What a carries to b does for b's own as well.
    assert_eq!(domains["b.example"].metrics().get("impp_links"), 1.0);
    assert_eq!(domains.cable("a.example").connections(), 0);
}

/// A message for an owner who has not decided waits there, and is delivered for its sender.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_a_held_message_is_delivered_for_its_sender_and_shown_when_allowed() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("bob@b.example", "may I?").await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    assert_eq!(bob.requests().await.entries[0].from, "alice@a.example".parse().unwrap());
    let bob = Impp::of(&domains["b.example"], "bob");
    assert_eq!(bob.run(&["requests", "allow", "alice@a.example"]).code, 0);
    assert_eq!(bob.run(&["inbox"]).objects[0]["body"], "may I?");
}

/// The link is away while twenty messages are written: they come once and in order, and the sender
/// could ask all along.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_messages_written_while_the_link_is_away_come_once_and_in_order() {
    let mut domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    alice.queue("bob@b.example", "0").await;
    bob.texts(1).await;
    domains.cable("b.example").pull();
    let mut ids = Vec::new();
    for text in 1..=20 {
        ids.push(alice.queue("bob@b.example", &text.to_string()).await);
    }
    let impp = Impp::of(&domains["a.example"], "alice");
    let told = eventually("a cause", async || {
        let told = impp.fate(ids[19]);
        (!told["cause"].is_null()).then_some(told)
    });
    let told = told.await;
    assert_eq!((&told["fate"], &told["to"]), (&"queued".into(), &"bob@b.example".into()));
    assert!(told["cause"].as_str().unwrap().starts_with("unreachable: "), "{told}");
    assert_eq!(told["by"], "server");
    assert!(!told["next_try"].is_null(), "{told}");
    // The sender's server is started anew meanwhile, in good order and not.
    let a = &mut domains["a.example"];
    a.kill9();
    a.restart();
    a.stop();
    a.restart();
    assert_eq!(impp.fate(ids[0])["fate"], "queued");
    domains.cable("b.example").plug();
    let expected: Vec<String> = (0..=20).map(|text| text.to_string()).collect();
    assert_eq!(bob.texts(21).await, expected);
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for id in &ids {
        assert_eq!(alice.fate(*id).await.fate, Fate::Delivered);
    }
    assert_eq!(impp.fate(ids[7])["fate"], "delivered");
    let order: Vec<_> = alice.fates().await.into_iter().map(|fate| fate.id).collect();
    assert_eq!(order[1..], ids, "fates in the order of the messages");
    assert_eq!(bob.inbox().await.len(), 21);
}

/// The link is cut after every number of bytes: no message is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_a_cut_at_any_byte_neither_loses_nor_doubles() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    alice.queue("bob@b.example", "first").await;
    bob.texts(1).await;
    let cable = domains.cable("b.example");
    let mut expected = vec!["first".to_owned()];
    // From within the frame, over the answer, into the handshake of the next link.
    for cut in (0..400).step_by(9).chain((400..6000).step_by(331)) {
        cable.cut_after(cut);
        let text = format!("cut after {cut}");
        let id = alice.queue("bob@b.example", &text).await;
        expected.push(text);
        assert_eq!(alice.fate(id).await.fate, Fate::Delivered, "cut after {cut}");
    }
    assert_eq!(bob.texts(expected.len()).await, expected);
}

/// An answer that is lost on the way is asked for again, also after a restart of the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn e2_a_repeat_is_known_after_a_restart_of_the_receiver() {
    let mut domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    alice.queue("bob@b.example", "first").await;
    bob.texts(1).await;
    // The message gets there, and no answer back.
    domains.cable("b.example").one_way(true);
    let id = alice.queue("bob@b.example", "second").await;
    assert_eq!(bob.texts(2).await, ["first", "second"]);
    domains["b.example"].kill9();
    domains["b.example"].restart();
    domains.cable("b.example").one_way(false);
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    assert_eq!(bob.texts(2).await, ["first", "second"]);
}

/// Each way in which a message can fail ends in one fate that says who said so and why.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_1_each_failure_is_told_with_its_cause_and_who_says_so() {
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("federation.tell_unknown", true).set("federation.queue_seconds", 3)
    })
    .await;
    domains.dns.not_offered("silent.example", "im");
    domains.dns.srv("down.example", "im", 0, 0, 1, "host.down.example");
    domains.dns.address_of("host.down.example", "127.0.3.1".parse().unwrap());
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    let refuse = "[[delivery]]\nid = \"no\"\nwho = [\"anyone\"]\naction = \"refuse\"\n";
    bob.set_rules(refuse).await;
    domains["b.example"].add_with("dana", "pres");
    for (to, code, by) in [
        ("nobody@b.example", Code::NotFound, By::Home),
        ("dana@b.example", Code::NotOffered, By::Home),
        ("bob@b.example", Code::Refused, By::Recipient),
        ("x@nowhere.example", Code::UnknownDomain, By::Server),
        ("x@silent.example", Code::NotOffered, By::Server),
        ("x@down.example", Code::Unreachable, By::Server),
    ] {
        let id = alice.queue(to, "hello").await;
        let fate = alice.fate(id).await;
        let got = (fate.fate, fate.code, fate.by, fate.to.to_string());
        assert_eq!(got, (Fate::Failed, Some(code), Some(by), to.to_owned()), "{fate:?}");
        assert!(fate.text.is_some_and(|text| !text.is_empty()));
    }
    // Its own time is over before the domain is back.
    let expires = message("x@down.example", "soon");
    let id = expires.id;
    let soon = id.time().unwrap().after(Duration::from_secs(1));
    alice.done(Message { expires: Some(soon), ..expires }).await;
    assert_eq!(alice.fate(id).await.fate, Fate::Expired);
}

/// Sent whole and never answered: nobody knows, and that is what is said.
#[tokio::test(flavor = "multi_thread")]
async fn r4_2_1_sent_whole_and_never_answered_is_unknown() {
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("federation.queue_seconds", 4).set("federation.answer_seconds", 1)
    })
    .await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let id = alice.queue("bob@b.example", "first").await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    bob.texts(1).await;
    domains.cable("b.example").one_way(true);
    let id = alice.queue("bob@b.example", "second").await;
    bob.texts(2).await;
    domains.cable("b.example").pull();
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.code), (Fate::Unknown, Some(Code::Unreachable)), "{fate:?}");
}

/// Without `tell_unknown` nobody elsewhere learns which addresses exist.
#[tokio::test(flavor = "multi_thread")]
async fn f14_an_address_that_does_not_exist_answers_as_one_that_never_signs_in() {
    let domains = Domains::two().await;
    domains["b.example"].add_with("dana", "pres");
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for to in ["bob@b.example", "nobody@b.example", "dana@b.example"] {
        let id = alice.queue(to, "hello").await;
        assert_eq!(alice.fate(id).await.fate, Fate::Delivered, "{to}");
    }
}

/// A user who is elsewhere is written to there, and a ring of redirects ends.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_3_2_a_redirect_is_followed_and_a_ring_of_them_ends() {
    let domains =
        Domains::with(&["a.example", "example.org", "people.example.org"], |_, start| start).await;
    domains["example.org"].redirect(Some("people.example.org"), &["erin", "nobody"]);
    domains["people.example.org"].redirect(Some("example.org"), &["nobody"]);
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    domains["people.example.org"].add("erin");
    let mut erin = Peer::open_inbox(&domains["people.example.org"], "erin").await;
    let id = alice.queue("erin@example.org", "where are you?").await;
    let came = erin.received(1).await;
    assert_eq!(came[0].body, "where are you?");
    assert_eq!(came[0].redirected_from, Some("erin@example.org".parse().unwrap()));
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.to), (Fate::Delivered, "erin@example.org".parse().unwrap()));
    let id = alice.queue("nobody@example.org", "hello").await;
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Loop)), "{fate:?}");
    // To another's domain nobody is led, also not by an operator's mistake.
    domains["people.example.org"].redirect(Some("a.example"), &["nobody"]);
    let id = erin.queue("nobody@example.org", "and you?").await;
    let fate = erin.fate(id).await;
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Moved)), "{fate:?}");
    assert_eq!(fate.address, Some("nobody@a.example".parse().unwrap()));
}

/// What a full inbox refuses waits, and holds up nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn f11_a_full_inbox_holds_up_its_own_senders_alone() {
    let domains = Domains::with(&["a.example", "b.example"], |name, start| match name {
        "b.example" => start.set("inbox.items_max", 2),
        _ => start,
    })
    .await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let mut carol = Peer::open_inbox(&domains["b.example"], "carol").await;
    for text in ["1", "2", "3", "4"] {
        alice.queue("bob@b.example", text).await;
    }
    let id = alice.queue("bob@b.example", "5").await;
    alice.queue("carol@b.example", "for carol").await;
    assert_eq!(carol.texts(1).await, ["for carol"]);
    let impp = Impp::of(&domains["a.example"], "alice");
    assert_eq!(impp.fate(id)["fate"], "queued");
    assert_eq!(bob.texts(2).await, ["1", "2"]);
    for _ in 0..2 {
        bob.ack_all().await;
        eventually("two more", async || {
            let count = bob.inbox().await.len();
            (count == 4 || count == 5).then_some(())
        })
        .await;
    }
    bob.ack_all().await;
    assert_eq!(bob.texts(5).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
}

/// One user's flood does not hold up another user's message; all share one link.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_5_4_a_small_flow_passes_a_huge_one_on_the_same_link() {
    const FLOOD: usize = 600;
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        // Of which one sender has an eighth.
        start.set("federation.queue_bytes_max", 128 * 1024 * 1024)
    })
    .await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut carol = Peer::sign_in(&domains["a.example"], "carol").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    domains.cable("b.example").pull();
    let body = "x".repeat(20_000);
    let flood: Vec<_> =
        (0..FLOOD).map(|n| message("bob@b.example", &format!("{n} {body}"))).collect();
    for part in flood.chunks(50) {
        let numbers = alice.flight(part.iter().cloned().map(Into::into)).await;
        for number in numbers {
            let outcome = alice.answer(number).await.unwrap().outcome;
            assert_eq!(outcome, Some(Outcome::Queued));
        }
    }
    let small = carol.queue("bob@b.example", "small").await;
    domains.cable("b.example").plug();
    assert_eq!(carol.fate(small).await.fate, Fate::Delivered);
    eventually("the end of the flood", async || {
        let metrics = domains["a.example"].metrics();
        (metrics.get("impp_queued_messages") == 0.0).then_some(())
    })
    .await;
    let all = bob.inbox().await;
    let before = all.iter().position(|m| &m.body[..] == b"small").unwrap();
    assert!(before < FLOOD / 10, "{before} of the flood came before it");
    let ids: BTreeSet<_> = all.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), FLOOD + 1);
    let order: Vec<_> = all.iter().filter(|m| &m.body[..] != b"small").map(|m| m.id).collect();
    let sent: Vec<_> = flood.iter().map(|message| message.id).collect();
    assert_eq!(order, sent, "each sender's order is kept");
    assert_eq!(domains["b.example"].metrics().get("impp_links"), 1.0);
}

/// What waits for one domain is bounded; others are not touched by it.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_full_queue_refuses_before_it_takes_and_for_that_domain_alone() {
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("federation.queue_items_max", 3)
    })
    .await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    domains.dns.srv("down.example", "im", 0, 0, 1, "host.down.example");
    domains.dns.address_of("host.down.example", "127.0.3.1".parse().unwrap());
    let first = message("x@down.example", "0");
    alice.done(first.clone()).await;
    for text in ["1", "2"] {
        alice.queue("x@down.example", text).await;
    }
    assert_eq!(alice.refused(message("x@down.example", "3")).await, Code::Full);
    // A repeat is known all the same.
    assert_eq!(alice.done(first).await.outcome, Some(Outcome::Duplicate));
    let through = alice.queue("bob@b.example", "through").await;
    assert_eq!(bob.texts(1).await, ["through"]);
    assert_eq!(alice.fate(through).await.fate, Fate::Delivered);
    assert_eq!(domains["a.example"].metrics().get("impp_queued_messages"), 3.0);
}

/// An answer goes where the sender wants it, in a third domain.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_4_a_reply_reaches_an_address_that_differs_from_the_senders() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut carol = Peer::open_inbox(&domains["a.example"], "carol").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let reply_to = Some("carol@a.example".parse().unwrap());
    alice.done(Message { reply_to, ..message("bob@b.example", "answer carol") }).await;
    let got = bob.received(1).await.remove(0);
    bob.queue(got.reply_to.unwrap().as_str(), "dear carol").await;
    assert_eq!(carol.texts(1).await, ["dear carol"]);
}

/// What a later version of the protocol says in a message goes to its reader as it is: in its own
/// domain, to another one, and in the sender's copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_later_versions_say_in_a_message_is_passed_on() {
    let domains = Domains::two().await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let mut carol = Peer::open_inbox(&domains["a.example"], "carol").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let later = [octets(14, b"since 2.0"), integer(47, 7)].concat();
    let mut sent = Vec::new();
    for (number, to) in [(1000, "bob@b.example"), (1001, "carol@a.example")] {
        let fields = [&message(to, "hi").encode()[..], &later].concat();
        alice.wire().write(&raw_frame(MESSAGE, number, &fields)).await;
        assert!(alice.answer(number).await.is_ok(), "to {to}");
        let from = Some("alice@a.example".parse().unwrap());
        sent.push(Message { from, ..Message::decode(fields.into()).unwrap() });
    }
    assert!(sent.iter().all(|message| message.encode().ends_with(&later)));
    let got = [bob.received(1).await, carol.received(1).await].concat();
    assert_eq!(got, sent);
    let copies = alice.log().await.into_iter().filter(|item| item.kind == ItemKind::Sent);
    let copies: Vec<_> =
        copies.map(|item| Message::decode(item.message.unwrap()).unwrap()).collect();
    assert_eq!(copies, sent);
}

/// Accounts come and go in a domain while the other is away.
#[tokio::test(flavor = "multi_thread")]
async fn r2_1_4_a_domain_is_administered_with_no_help_from_others() {
    let mut domains = Domains::two().await;
    domains["b.example"].kill9();
    let a = &domains["a.example"];
    a.add("erin");
    let mut erin = Peer::open_inbox(a, "erin").await;
    Peer::sign_in(a, "alice").await.send("erin@a.example", "hello").await;
    assert_eq!(erin.texts(1).await, ["hello"]);
    a.user_ok(&["remove", "erin@a.example"]);
    assert_eq!(domains.cable("b.example").connections(), 0);
    assert_eq!(domains.dns.asked_since(), 0, "nobody was asked");
}
