//! What is no way to open a link or to speak on it: each is answered, and what cannot be read
//! ends the link.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{
    Bye, ByeReason, Done, Hello, Message, Notify, Outcome, PROTOCOL_VERSION,
};
use impp_protocol::field::INTEGER_MAX;
use impp_protocol::frame::FRAME_BYTES_MAX;
use impp_protocol::state::{Fate, SubscriptionState};
use impp_protocol::{By, Code, Command, Error, MessageId, What};
use impp_tests::badpeer::{BadPeer, Link};
use impp_tests::peer::{fetch, id_at};
use impp_tests::server::Start;
use impp_tests::wire::{bytes_of, raw_frame};
use impp_tests::{Domains, Peer, eventually};

/// The domain a.example with settings, and evil.example whose server is bad.
async fn one(settings: impl Fn(Start) -> Start) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| settings(start)).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

fn error(code: Code, text: &str) -> Error {
    Error::new(code, text)
}

/// A HELLO that is incomplete, of another version, or our own.
#[tokio::test(flavor = "multi_thread")]
async fn a9_a_link_is_opened_by_a_whole_hello_and_nothing_else() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let hello = || evil.hello.clone();
    let boot = evil.call(server).await.hello.boot;
    for (wrong, code) in [
        (Hello { instance: None, ..hello() }, Code::Malformed),
        (Hello { boot: None, ..hello() }, Code::Malformed),
        (Hello { domains: Vec::new(), ..hello() }, Code::Malformed),
        (Hello { version: PROTOCOL_VERSION + 1, ..hello() }, Code::Unsupported),
        (Hello { version: 0, ..hello() }, Code::Unsupported),
        // The way leads back to the server itself.
        (Hello { boot, ..hello() }, Code::Loop),
    ] {
        let ending = evil.call_with(server, &wrong).await;
        assert_eq!(ending.code(), code, "{wrong:?}");
        assert_eq!(ending.bye.unwrap().reason, ByeReason::Protocol, "{wrong:?}");
        assert!(ending.clean && ending.others.is_empty(), "{wrong:?}");
    }
    let message = evil.message("mallory", "alice@a.example", "before HELLO");
    for early in [
        bytes_of(1, message.clone()),
        bytes_of(1, hello()),
        bytes_of(0, Done::empty()),
        bytes_of(1, impp_protocol::command::Ping::empty()),
        raw_frame(200, 0, b""),
    ] {
        assert_eq!(evil.call_saying(server, &early).await.code(), Code::Malformed, "{early:?}");
    }
    // Longer than any HELLO: refused by its head.
    let ending = evil.call_saying(server, &[0x00, 0x10, 0x01, 1]).await;
    assert_eq!(ending.code(), Code::TooLarge);
    // A second one is no HELLO any more.
    let mut link = evil.call(server).await;
    link.wire().send(0, hello()).await;
    assert_eq!(link.ending().await.code(), Code::Malformed);
    let mut alice = Peer::sign_in(server, "alice").await;
    assert!(alice.inbox().await.is_empty());
}

/// Who says nothing, or half a HELLO, is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn h2_no_hello_or_half_of_one_is_not_waited_for() {
    let (domains, evil) = one(|start| start.set("limits.sign_in_seconds", 1)).await;
    let server = &domains["a.example"];
    let hello = bytes_of(0, evil.hello.clone());
    for said in [&hello[..0], &hello[..3], &hello[..hello.len() - 1]] {
        let ending = evil.call_saying(server, said).await;
        assert_eq!(ending.code(), Code::Unreachable);
    }
}

/// A server that is dialled and is not the one that was called, or says nothing of use.
#[tokio::test(flavor = "multi_thread")]
async fn f1_f8_who_answers_must_be_who_was_called_and_somebody_else_than_we() {
    let (domains, evil) = one(|start| start.set("federation.dial_seconds", 2)).await;
    let server = &domains["a.example"];
    let boot = evil.call(server).await.hello.boot;
    let mut alice = Peer::sign_in(server, "alice").await;
    let id = alice.queue("mallory@evil.example", "to you").await;
    let other = vec!["bank.example".parse().unwrap()];
    let hello = || evil.hello.clone();
    for (said, code, words) in [
        (hello_frame(Hello { domains: other, ..hello() }), Code::Untrusted, "another answers"),
        (hello_frame(Hello { boot, ..hello() }), Code::Unreachable, "leads back"),
        (hello_frame(Hello { version: 9, ..hello() }), Code::Unreachable, "version 9"),
        (bytes_of(0, error(Code::Busy, "not today")), Code::Unreachable, "not today"),
        (bytes_of(1, Done::empty()), Code::Unreachable, "OK before HELLO"),
        (bytes::BytesMut::new(), Code::Unreachable, "in time"),
    ] {
        let told = eventually(words, async || {
            let mut wire = evil.accept_tls().await.unwrap();
            wire.hello().await;
            wire.write(&said).await;
            while wire.frame().await.is_some() {}
            let told = alice.whereabouts(id).await;
            (server.logged(words) > 0 && told.code == Some(code)).then_some(told)
        });
        let text = told.await.text.unwrap_or_default();
        assert!(!text.contains(words) && !text.contains("127."), "{text}");
    }
    // The right one takes it.
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, id);
    link.take(number).await;
    alice.until_delivered(id).await;
}

fn hello_frame(hello: Hello) -> bytes::BytesMut {
    bytes_of(0, hello)
}

/// A message that lacks what links need, or has what they do not carry: refused, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a7_a14_wrong_messages_are_refused_one_by_one() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let mut link = evil.call(server).await;
    let good = || evil.message("mallory", "alice@a.example", "wrong");
    const HOUR: i64 = 3600;
    let long = "x".repeat(256);
    for (wrong, code) in [
        (Message { from: None, ..good() }, Code::Malformed),
        (Message { hops: None, ..good() }, Code::Malformed),
        (Message { hops: Some(0), ..good() }, Code::Loop),
        (Message { id: MessageId([0; 16]), ..good() }, Code::Malformed),
        (Message { id: MessageId(*uuid::Uuid::new_v4().as_bytes()), ..good() }, Code::Malformed),
        (Message { id: id_at(48 * HOUR), ..good() }, Code::OutOfWindow),
        (Message { id: MessageId([255; 16]), ..good() }, Code::Malformed),
        (Message { id: id_at(-24 * 30 * HOUR), ..good() }, Code::OutOfWindow),
        (Message { expires: Some(past()), ..good() }, Code::Expired),
        (Message { body: vec![b'x'; 61_441].into(), ..good() }, Code::TooLarge),
        (Message { thread: Some(long.clone()), ..good() }, Code::TooLarge),
        (Message { content_type: Some(long.clone()), ..good() }, Code::TooLarge),
    ] {
        let error = link.request(wrong.clone()).await.unwrap_err();
        assert_eq!((error.code, error.by), (code, By::Server), "{:?}", wrong.id);
    }
    // As large as can be, as many hops as can be said.
    let large = Message { body: vec![b'x'; 61_440].into(), hops: Some(INTEGER_MAX), ..good() };
    assert_eq!(link.deliver(large.clone()).await, Outcome::Delivered);
    assert_eq!(link.deliver(Message { hops: Some(1), ..large.clone() }).await, Outcome::Duplicate);
    // The same id for something else.
    let other = Message { body: Bytes::from_static(b"else"), ..large };
    assert_eq!(link.refused(other).await, Code::Conflict);
    let inbox = alice.inbox().await;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].hops, None, "the way is not the recipient's business");
}

fn past() -> impp_protocol::Timestamp {
    impp_protocol::Timestamp::from_millis(1_000_000)
}

/// Kinds that links do not have are answered, frames that cannot be read end the link.
#[tokio::test(flavor = "multi_thread")]
async fn a7_a8_kinds_of_no_use_are_answered_and_what_cannot_be_read_ends_the_link() {
    let (domains, evil) = one(|start| start.set("limits.frame_seconds", 1)).await;
    let server = &domains["a.example"];
    let message = evil.message("mallory", "alice@a.example", "number 0");
    let mut link = evil.call(server).await;
    link.wire().write(&raw_frame(200, 7, b"anything")).await;
    assert_eq!(link.answer(7).await.unwrap_err().code, Code::Unsupported);
    link.wire().send(8, evil.hello.clone()).await;
    assert_eq!(link.answer(8).await.unwrap_err().code, Code::WrongState);
    assert_eq!(link.request(impp_protocol::command::Ping::empty()).await, Ok(Done::empty()));
    let mut too_large = raw_frame(10, 1, b"").to_vec();
    too_large[..3].copy_from_slice(&[0xff; 3]);
    for (frame, code) in [
        (bytes_of(0, message.clone()).to_vec(), Code::Malformed),
        (raw_frame(10, 1, b"\x00").to_vec(), Code::Malformed),
        (vec![0, 0, 0, 10], Code::Malformed),
        (too_large, Code::TooLarge),
        ([&[1u8, 0, 1, 10][..], &[0; 16]].concat(), Code::TooLarge),
    ] {
        let mut link = evil.call(server).await;
        link.wire().write(&frame).await;
        let ending = link.ending().await;
        assert_eq!(ending.code(), code, "{frame:?}");
        assert_eq!(ending.bye.unwrap().reason, ByeReason::Protocol);
    }
    assert_eq!(FRAME_BYTES_MAX, 65_536);
    // Half a frame, and then silence.
    let mut link = evil.call(server).await;
    let whole = bytes_of(1, message);
    link.wire().write(&whole[..whole.len() - 1]).await;
    let ending = link.ending().await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
}

/// An answer that nobody waits for ends the link, and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f9_answers_that_nobody_asked_for() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let done = || Command::from(Done::empty());
    let not_done = || Command::from(error(Code::NotFound, "no"));
    for (number, answer) in [(1, done()), (1, not_done()), (INTEGER_MAX, done()), (0, done())] {
        let mut link = evil.call(server).await;
        link.wire().send(number, answer).await;
        assert_eq!(link.ending().await.code(), Code::Malformed);
    }
    // Of two answers the first counts.
    let mut alice = Peer::sign_in(server, "alice").await;
    let first = alice.queue("mallory@evil.example", "first").await;
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, first);
    link.write([bytes_of(number, done()), bytes_of(number, not_done())]).await;
    assert_eq!(link.ending().await.code(), Code::Malformed);
    alice.until_delivered(first).await;
    // An answer to a message of an earlier link answers nothing on the next.
    let second = alice.queue("mallory@evil.example", "second").await;
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.cut();
    let mut link = evil.accept().await;
    let (again, message) = link.message().await;
    assert_eq!(message.id, second);
    link.wire().send(again + number + 1, done()).await;
    assert_eq!(link.ending().await.code(), Code::Malformed);
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, second);
    link.take(number).await;
    alice.until_delivered(second).await;
}

/// Presence that nobody here has asked for is shown to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn f9_a_notification_that_nobody_asked_for() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    for address in ["mallory@evil.example", "bob@a.example", "x@third.example"] {
        let mut link = evil.call(server).await;
        let active = SubscriptionState::Active;
        let mut notify = Notify::of(address.parse().unwrap(), What::Presence, active);
        notify.watchers = vec![alice.address.clone()];
        link.wire().send(0, notify).await;
        // Whether that ends the link or not: it has been looked at when this is answered.
        link.ask(impp_protocol::command::Ping::empty()).await;
        link.wire().some(1).await;
    }
    assert_eq!(alice.so_far().await, []);
}

/// What another domain is asked and does not answer is not waited for until the link is given up.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_6_a_fetch_that_is_never_answered_is_answered_here() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut link = evil.call(server).await;
    let number = alice.ask(fetch("mallory@evil.example", What::Presence)).await;
    let asked = link.try_asked().await.expect("a request over the link").command;
    assert!(matches!(asked, Command::Fetch(_)), "{asked:?}");
    let error = alice.answer(number).await.expect_err("nobody has answered");
    assert_eq!(error.code, Code::Unreachable);
    // The link is there as before.
    assert!(link.request(impp_protocol::command::Ping::empty()).await.is_ok());
}

/// What the other side says in words is passed on as far as a line goes, and does not fill logs.
#[tokio::test(flavor = "multi_thread")]
async fn b10_long_words_of_a_peer_harm_no_log() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let long = "\u{1f4a9}\n".repeat(13_000);
    let refused = alice.queue("mallory@evil.example", "refused").await;
    let held = alice.queue("trent@evil.example", "held").await;
    let mut link = evil.accept().await;
    for _ in 0..2 {
        let (number, message) = link.message().await;
        let code = if message.id == refused { Code::Refused } else { Code::Busy };
        link.refuse(number, error(code, &long)).await;
    }
    let report = alice.fate(refused).await;
    assert_eq!(
        (report.fate, report.code, report.by),
        (Fate::Failed, Some(Code::Refused), Some(By::Home))
    );
    assert!(report.text.unwrap().len() < 8192);
    let told = eventually("the cause", async || {
        let told = alice.whereabouts(held).await;
        told.code.is_some().then_some(told)
    });
    assert!(told.await.text.unwrap().len() < 8192);
    // Words beside a goodbye, again and again.
    let flood = "x\n2026-01-01T00:00:00Z ERROR imppd: all is lost\n".repeat(1000);
    for _ in 0..20 {
        let mut link = evil.call(server).await;
        let frame = bytes_of(0, error(Code::Internal, &flood));
        link.write(std::iter::repeat_n(frame, 20)).await;
        let _ = link.ending().await;
        let frame = bytes_of(0, error(Code::Internal, &flood[..4000]));
        evil.call_saying(server, &frame).await;
    }
    let log = server.stderr();
    assert!(log.len() < 64 * 1024, "{} bytes", log.len());
    // Each line begins with our own time, not with a peer's.
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    let farewell =
        Bye { reason: ByeReason::Protocol, text: Some(flood), retry_after: None, server: None };
    let mut link = evil.call(server).await;
    link.wire().send(0, farewell).await;
    link.ending().await;
    assert!(server.stderr().len() < 64 * 1024);
}

/// How many requests may be open is the other side's word, as far as ours goes.
#[tokio::test(flavor = "multi_thread")]
async fn a14_the_requests_that_a_peer_takes_at_once_are_kept_to() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(alice.queue(&format!("u{n}@evil.example"), "hello").await);
    }
    for (says, most) in
        [(Some(0), 1), (None, 1), (Some(1), 1), (Some(2), 2), (Some(INTEGER_MAX), 64)]
    {
        let hello = Hello { requests_max: says, ..evil.hello.clone() };
        let mut link: Link = evil.accept_as(&hello).await;
        let mut open = 0;
        while link.message_within(Duration::from_millis(300)).await.is_some() {
            open += 1;
        }
        assert!((1..=most).contains(&open), "{open} of {says:?}");
        link.cut();
    }
    let mut link = evil.accept().await;
    for _ in 0..6 {
        let (number, _) = link.message().await;
        link.take(number).await;
    }
    for id in ids {
        alice.until_delivered(id).await;
    }
}
