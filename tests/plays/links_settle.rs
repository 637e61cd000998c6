//! Several links between the same two domains, and how links end: one is kept where one will do,
//! and what was asked on the others is answered first.

use std::time::{Duration, Instant};

use impp_protocol::command::{ByeReason, Hello, Message, Outcome, Ping, Subscribe};
use impp_protocol::{Code, Command, What};
use impp_tests::badpeer::{BadPeer, Link};
use impp_tests::peer::subscribe;
use impp_tests::presence::open;
use impp_tests::server::Start;
use impp_tests::wait::within;
use impp_tests::{Domains, Peer, eventually};

const OPEN_PRESENCE: &str =
    "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";

/// The domain m.example with settings, and another whose server is bad.
async fn one(other: &str, settings: impl Fn(Start) -> Start) -> (Domains, BadPeer) {
    let domains = Domains::with(&["m.example"], |_, start| settings(start)).await;
    let evil = BadPeer::among(&domains, other).await;
    (domains, evil)
}

/// So many links are open.
async fn links(domains: &Domains, count: f64) {
    let open = async || (domains["m.example"].metrics().get("impp_links") == count).then_some(());
    eventually("links", open).await;
}

fn to_alice(evil: &BadPeer, text: &str) -> Message {
    evil.message("mallory", "alice@m.example", text)
}

/// Asks two things in one flight with what makes the link be given up, and gets both answers.
async fn ends_as_redundant(mut link: Link, numbers: &[u64]) {
    for number in numbers {
        link.answer(*number).await.expect("an answer before the goodbye");
    }
    assert_eq!(link.bye().await.reason, ByeReason::Redundant);
    let ending = link.ending().await;
    assert!(ending.errors.is_empty(), "{ending:?}");
}

/// Both dial at once, and ours is kept: theirs ends when what was asked on it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_of_two_that_dial_at_once_the_smaller_names_link_is_kept_ours() {
    let (domains, evil) = one("z.example", |start| start).await;
    let server = &domains["m.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let first = alice.queue("mallory@z.example", "first").await;
    let mut ours = evil.accept().await;
    let (number, _) = ours.message().await;
    // The answer is still out when their own opens, on which they ask at once.
    let mut theirs = evil.call(server).await;
    let asked =
        [theirs.ask(to_alice(&evil, "one")).await, theirs.ask(to_alice(&evil, "two")).await];
    ends_as_redundant(theirs, &asked).await;
    ours.take(number).await;
    alice.until_delivered(first).await;
    let second = alice.queue("mallory@z.example", "second").await;
    let (number, message) = ours.message().await;
    assert_eq!(message.id, second);
    ours.take(number).await;
    assert_eq!(ours.deliver(to_alice(&evil, "three")).await, Outcome::Delivered);
    assert_eq!(alice.texts(3).await.len(), 3);
    links(&domains, 1.0).await;
}

/// Both dial at once, and theirs is kept: a message that is out on ours stays out on it alone.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_of_two_that_dial_at_once_the_smaller_names_link_is_kept_theirs() {
    let (domains, evil) = one("b.example", |start| start).await;
    let server = &domains["m.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let out = alice.queue("x@b.example", "out").await;
    let behind = alice.queue("x@b.example", "behind it").await;
    let mut ours = evil.accept().await;
    let (number, _) = ours.message().await;
    let mut theirs = evil.call(server).await;
    // Others use the new link; the one that is out is not asked twice, nor overtaken.
    let other = alice.queue("y@b.example", "another").await;
    let (on_theirs, message) = theirs.message().await;
    assert_eq!(message.id, other);
    theirs.take(on_theirs).await;
    assert!(theirs.message_within(Duration::from_millis(300)).await.is_none());
    ours.take(number).await;
    alice.until_delivered(out).await;
    assert_eq!(ours.bye().await.reason, ByeReason::Redundant);
    let (number, message) = theirs.message().await;
    assert_eq!(message.id, behind);
    theirs.take(number).await;
    alice.until_delivered(behind).await;
    links(&domains, 1.0).await;
}

/// The one that is given up is cut: what was out on it goes over the other, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_a_message_on_a_redundant_link_that_is_cut_goes_over_the_other() {
    let (domains, evil) = one("b.example", |start| start).await;
    let mut alice = Peer::sign_in(&domains["m.example"], "alice").await;
    let out = alice.queue("x@b.example", "out").await;
    let mut ours = evil.accept().await;
    ours.message().await;
    let mut theirs = evil.call(&domains["m.example"]).await;
    ours.cut();
    let (number, message) = theirs.message().await;
    assert_eq!(message.id, out);
    theirs.take(number).await;
    alice.until_delivered(out).await;
}

/// What comes late over the link that drains does not take a watcher away from the other.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_a_watcher_that_was_asked_for_anew_stays_with_the_newer_link() {
    let (domains, evil) = one("z.example", |start| start).await;
    let mut alice = Peer::sign_in(&domains["m.example"], "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    let watcher = Some(evil.account("mallory"));
    let subscribe = Subscribe {
        watcher,
        lease: Some(Duration::from_secs(600)),
        ..Subscribe::of(alice.address.clone(), What::Presence)
    };
    let mut older = evil.call(&domains["m.example"]).await;
    let mut newer = evil.call(&domains["m.example"]).await;
    newer.request(subscribe.clone()).await.unwrap();
    // Asked before, as far as the asker goes, and looked at later.
    assert_eq!(older.refused(subscribe).await, Code::Busy);
    alice.show(&open("here")).await;
    loop {
        let request = newer.try_asked().await.expect("a notification before the end");
        let Command::Notify(notify) = request.command else { continue };
        let content = notify.snapshot.or(notify.patch).unwrap_or_default();
        if content.windows(4).any(|part| part == b"here") {
            break;
        }
    }
}

/// Who dials again, or was started anew, has forgotten its older link.
#[tokio::test(flavor = "multi_thread")]
async fn f8_a_second_link_of_the_same_server_replaces_the_first() {
    let (domains, mut evil) = one("z.example", |start| start).await;
    for boot in [evil.hello.boot, Some([7; 16])] {
        let mut older = evil.call(&domains["m.example"]).await;
        let asked = older.ask(to_alice(&evil, "on the older")).await;
        evil.hello.boot = boot;
        let mut newer = evil.call(&domains["m.example"]).await;
        ends_as_redundant(older, &[asked]).await;
        assert_eq!(newer.deliver(to_alice(&evil, "on the newer")).await, Outcome::Delivered);
        newer.cut();
        links(&domains, 0.0).await;
    }
}

/// A domain may have several servers, but not any number: the oldest link makes room.
#[tokio::test(flavor = "multi_thread")]
async fn f13_links_of_one_domain_are_bounded() {
    let (domains, evil) = one("z.example", |start| start).await;
    let server = &domains["m.example"];
    let hello = |n: u8| Hello { instance: Some([n; 16]), ..evil.hello.clone() };
    let mut open = Vec::new();
    for n in 0..4 {
        let mut wire = evil.dial(server).connect().await.unwrap();
        wire.send(0, hello(n)).await;
        let said = wire.hello().await;
        open.push(Link::open(wire, said));
    }
    links(&domains, 4.0).await;
    for link in &mut open {
        assert_eq!(link.deliver(to_alice(&evil, "all are open")).await, Outcome::Delivered);
    }
    // Twenty more at once, and none of those before reads or closes. They are connected before the
    // first says who it is: those that make room leave after a farewell, which is not waited for.
    let (mut refused, mut connected) = (0, Vec::new());
    for _ in 4..24 {
        connected.push(evil.dial(server).connect().await.unwrap());
    }
    for (n, mut wire) in (4..).zip(connected) {
        wire.send(0, hello(n)).await;
        let said = wire.hello().await;
        wire.send(1, Ping::empty()).await;
        match wire.next().await.command {
            Command::Ok(_) => open.push(Link::open(wire, said)),
            Command::Error(error) => {
                assert_eq!(error.code, Code::Busy);
                assert_eq!(wire.ending().await.bye.unwrap().reason, ByeReason::Busy);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(server.metrics().get("impp_links") <= 16.0);
    links(&domains, 4.0).await;
    assert_eq!(refused, 8);
    let newest = open.last_mut().unwrap();
    assert_eq!(newest.deliver(to_alice(&evil, "the newest")).await, Outcome::Delivered);
    let oldest = open.swap_remove(0);
    ends_as_redundant(oldest, &[]).await;
}

/// A peer that says when to come back is left alone until then, and what it owes is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn i4_a_goodbye_with_a_time_is_kept_to() {
    let (domains, evil) = one("z.example", |start| start).await;
    let server = &domains["m.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let first = alice.queue("x@z.example", "first").await;
    let second = alice.queue("x@z.example", "second").await;
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    let asked = link.ask(to_alice(&evil, "asked before")).await;
    link.leave(ByeReason::Stopping, Some(Duration::from_secs(2))).await;
    let said = Instant::now();
    link.answer(asked).await.expect("an answer after the goodbye");
    link.take(number).await;
    alice.until_delivered(first).await;
    let ending = within("the end", link.ending()).await;
    assert!(ending.errors.is_empty(), "{ending:?}");
    let told = alice.whereabouts(second).await;
    assert_eq!(told.fate, None);
    let mut link = evil.accept().await;
    assert!(said.elapsed() >= Duration::from_secs(2), "{:?}", said.elapsed());
    let (number, message) = link.message().await;
    assert_eq!(message.id, second);
    link.take(number).await;
    // For ever is as long as it does not come itself.
    link.leave(ByeReason::Done, Some(Duration::from_secs(u64::from(u32::MAX)))).await;
    let third = alice.queue("x@z.example", "third").await;
    let called = tokio::time::timeout(Duration::from_millis(500), evil.accept_tcp()).await;
    assert!(called.is_err(), "it was called");
    let mut link = evil.call(server).await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, third);
    link.take(number).await;
    alice.until_delivered(third).await;
}

/// Where nothing is said the link is closed, and dialled when something is; where nothing is heard
/// it is given up.
#[tokio::test(flavor = "multi_thread")]
async fn r3_2_4_an_idle_link_is_closed_and_a_silent_one_is_given_up() {
    let (domains, evil) = one("z.example", |start| {
        start.set("federation.close_seconds", 3).set("federation.idle_seconds", 1)
    })
    .await;
    let server = &domains["m.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    for text in ["one", "two"] {
        let id = alice.queue("x@z.example", text).await;
        let mut link = evil.accept().await;
        let (number, message) = link.message().await;
        assert_eq!(message.id, id);
        link.take(number).await;
        // PINGs are answered, and are nothing said.
        assert_eq!(link.bye().await.reason, ByeReason::Idle);
        assert!(link.ending().await.errors.is_empty());
    }
    let link = evil.call(server).await;
    let ending = link.ending().await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
    assert_eq!(ending.others.len(), 1, "one PING: {:?}", ending.others);
}

/// A watcher is asked for over the link that is kept: a late request would take its place there.
#[tokio::test(flavor = "multi_thread")]
async fn r3_3_3_nobody_begins_to_watch_over_a_link_that_is_given_up() {
    let (domains, evil) = one("z.example", |start| start).await;
    let server = &domains["m.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.queue("mallory@z.example", "first").await;
    let mut ours = evil.accept().await;
    let (number, _) = ours.message().await;
    let mut theirs = evil.call(server).await;
    let watcher = Some(evil.account("mallory"));
    let lease = Some(Duration::from_secs(60));
    let watch = Subscribe { watcher, lease, ..subscribe("alice@m.example", What::Presence) };
    let end = Subscribe { lease: Some(Duration::ZERO), ..watch.clone() };
    assert_eq!(theirs.refused(watch.clone()).await, Code::Busy);
    // To end is no late beginning.
    assert!(theirs.request(end).await.is_ok());
    let answer = ours.request(watch).await;
    assert!(answer.is_ok(), "{answer:?}");
    ours.take(number).await;
}
