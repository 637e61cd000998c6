//! Another domain's server that refuses, cuts, stalls or floods: it harms what is meant for it,
//! and nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use impp_protocol::command::{Notify, Outcome, Ping, Subscribe};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Code, Error, MessageId, What};
use impp_tests::badpeer::BadPeer;
use impp_tests::peer::message;
use impp_tests::server::{Server, Start};
use impp_tests::wire::{bytes_of, raw_frame};
use impp_tests::{Domains, Peer, eventually};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsStream;

const MIB: u64 = 1024 * 1024;

/// The domain a.example with settings, and evil.example whose server is bad.
async fn one(settings: impl Fn(Start) -> Start) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| settings(start)).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

fn text(message: &impp_protocol::command::Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

/// Alice's messages: one poisoned, one behind it, and some to others; by id.
async fn poisoned(alice: &mut Peer) -> BTreeMap<MessageId, String> {
    let mut sent = BTreeMap::new();
    let mut texts = vec![("x", "poison".to_owned()), ("x", "behind".to_owned())];
    texts.extend((0..5).map(|n| ("y", format!("y{n}"))));
    texts.extend((0..5).map(|n| ("z", format!("z{n}"))));
    for (to, text) in texts {
        let id = alice.queue(&format!("{to}@evil.example"), &text).await;
        sent.insert(id, text);
    }
    sent
}

/// That all have come but those of the poisoned pair, in their order.
fn assert_others(taken: &[String]) {
    for to in ["y", "z"] {
        let of: Vec<_> = taken.iter().filter(|text| text.starts_with(to)).cloned().collect();
        assert_eq!(of, (0..5).map(|n| format!("{to}{n}")).collect::<Vec<_>>(), "{taken:?}");
    }
    assert!(taken.iter().all(|text| text != "behind"), "{taken:?}");
}

/// What is refused for now again and again holds up its own conversation alone.
#[tokio::test(flavor = "multi_thread")]
async fn f11_a_message_that_is_always_refused_holds_its_own_pair_alone() {
    let (domains, evil) = one(|start| start).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let sent = poisoned(&mut alice).await;
    let mut link = evil.accept().await;
    let (mut taken, mut refused) = (Vec::new(), 0);
    while taken.len() < 10 || refused < 5 {
        let (number, message) = link.message().await;
        if text(&message) == "poison" {
            refused += 1;
            link.refuse(number, Error::new(Code::Busy, "not today")).await;
        } else {
            taken.push(text(&message));
            link.take(number).await;
        }
    }
    assert_others(&taken);
    let poison = *sent.iter().find(|(_, text)| *text == "poison").unwrap().0;
    let told = alice.held_up(poison, "not today").await;
    assert_eq!(told.code, Some(Code::Busy));
    for expected in ["poison", "behind"] {
        let (number, message) = link.message().await;
        assert_eq!(text(&message), expected);
        link.take(number).await;
    }
    for id in sent.keys() {
        alice.until_delivered(*id).await;
    }
}

/// What cuts the link whenever it is seen is let out alone: the others get through between.
#[tokio::test(flavor = "multi_thread")]
async fn e9_f11_a_message_that_cuts_every_link_holds_its_own_pair_alone() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let sent = poisoned(&mut alice).await;
    let (mut taken, mut cuts, started) = (Vec::<String>::new(), 0_u32, Instant::now());
    while taken.len() < 10 || cuts < 5 {
        let mut link = evil.accept().await;
        while let Some((number, message)) = link.try_message().await {
            if text(&message) == "poison" {
                cuts += 1;
                link.cut();
                break;
            }
            // What was cut off with it comes again: once it counts.
            if !taken.contains(&text(&message)) {
                taken.push(text(&message));
            }
            link.take(number).await;
        }
        assert!(cuts < 100, "{taken:?}");
    }
    assert_others(&taken);
    assert!(cuts as f32 / started.elapsed().as_secs_f32() < 50.0, "a storm: {cuts} links");
    let mut link = evil.accept().await;
    for expected in ["poison", "behind"] {
        let (number, message) = link.message().await;
        assert_eq!(text(&message), expected);
        link.take(number).await;
    }
    for id in sent.keys() {
        alice.until_delivered(*id).await;
    }
}

/// Who opens links and closes each at once is not called ever faster.
#[tokio::test(flavor = "multi_thread")]
async fn f8_f11_links_that_are_closed_at_once_are_no_storm() {
    let (domains, evil) = one(|start| start.set("federation.retry_min_milliseconds", 200)).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("mallory@evil.example", "for once").await;
    let (mut links, until) = (0, Instant::now() + Duration::from_secs(3));
    while Instant::now() < until {
        evil.accept().await.cut();
        links += 1;
    }
    assert!((2..=30).contains(&links), "{links} links in 3 s");
    assert_eq!(alice.whereabouts(id).await.code, Some(Code::Unreachable));
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    alice.until_delivered(id).await;
}

/// What waits for a domain that is away costs nothing until it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn f11_f12_waiting_for_a_peer_that_is_away_costs_no_processor() {
    let slow = |start: Start| start.set("federation.retry_min_milliseconds", 10_000);
    let (domains, evil) = one(|start| slow(start).set("federation.retry_max_seconds", 60)).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    // Of many waits some are short, wherever chance puts each.
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.queue(&format!("u{n}@evil.example"), "not now").await);
    }
    let mut link = evil.accept().await;
    for _ in 0..20 {
        let (number, _) = link.message().await;
        link.refuse(number, Error::new(Code::Busy, "later")).await;
    }
    alice.held_up(ids[19], "later").await;
    drop(evil);
    link.cut();
    alice.held_up(ids[0], "no server of evil.example").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.processor_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = server.processor_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in 2 s");
}

/// The server's own users and another domain are served, as a measure of what else goes on.
async fn others_are_served(server: &Server, alice: &mut Peer, bob: &mut Peer) {
    for n in 0..5 {
        let outcome = alice.send("bob@a.example", &format!("local {n}")).await;
        assert_eq!(outcome, Outcome::Delivered);
        let id = alice.queue("trent@good.example", &format!("good {n}")).await;
        alice.until_ended(id).await;
    }
    bob.texts(5).await;
    bob.ack_all().await;
    let memory = server.resident_bytes() / MIB;
    assert!(memory < 256, "{memory} MiB");
}

/// Messages for evil.example: more than is kept in memory, and then more than is kept at all. The ids
/// of those taken.
async fn more_than_is_kept(alice: &mut Peer) -> Vec<MessageId> {
    let (body, mut ids, mut full) = ("x".repeat(60_000), Vec::new(), 0);
    for n in 0..250 {
        let message = message(&format!("u{}@evil.example", n % 50), &body);
        let id = message.id;
        match alice.request(message).await {
            Ok(done) => {
                assert_eq!(done.outcome, Some(Outcome::Queued));
                ids.push(id);
            }
            Err(error) => {
                assert_eq!(error.code, Code::Full, "{error:?}");
                full += 1;
            }
        }
    }
    assert!(full > 20 && ids.len() > 150, "{} taken, {full} not", ids.len());
    ids
}

/// Takes so many messages, over as many links as it takes.
async fn take_all(evil: &BadPeer, count: usize) {
    let mut taken = 0;
    while taken < count {
        let Some(mut link) = evil.try_accept().await else { continue };
        while taken < count
            && let Some((number, _)) = link.try_message().await
        {
            link.take(number).await;
            taken += 1;
        }
    }
}

/// A peer that hardly reads, or not at all, at each place on the way to a link and on it.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_slow_or_dead_peer_holds_up_nobody_else() {
    // Nothing is given up by itself before the play gives up: whoever is served meanwhile has not
    // waited for that.
    let settings = |start: Start| {
        let start = start.set("federation.answer_seconds", 600).set("federation.dial_seconds", 600);
        let start = start.set("federation.idle_seconds", 600).set("limits.stall_seconds", 600);
        // Of which one sender has an eighth.
        start.set("federation.queue_bytes_max", 96 * MIB as i64)
    };
    let (domains, evil) = one(settings).await;
    let good = BadPeer::among(&domains, "good.example").await.be_good();
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut bob = Peer::open_inbox(server, "bob").await;
    others_are_served(server, &mut alice, &mut bob).await;
    let before = server.resident_bytes();
    let ids = more_than_is_kept(&mut alice).await;
    let id = *ids.last().unwrap();
    // Before TLS, before HELLO, and as soon as it is open: nothing is said, nothing read.
    let silent = evil.accept_tcp().await;
    others_are_served(server, &mut alice, &mut bob).await;
    server.set("federation.dial_seconds", 1);
    domains.reload();
    drop(silent);
    let silent = evil.accept_tcp().await;
    server.until_logged("in time", 1).await;
    server.set("federation.dial_seconds", 600);
    domains.reload();
    drop(silent);
    // Tries that were given up meanwhile are found ended.
    let half_open = loop {
        if let Ok(wire) = evil.accept_tls().await {
            break wire;
        }
    };
    others_are_served(server, &mut alice, &mut bob).await;
    drop(half_open);
    let dead = loop {
        if let Some(link) = evil.try_accept().await {
            break link;
        }
    };
    others_are_served(server, &mut alice, &mut bob).await;
    drop(dead);
    alice.held_up(id, "evil.example").await;
    // One octet now and then, below TLS.
    let mut wire = loop {
        if let Ok(mut wire) = evil.accept_tls().await
            && wire.frame().await.is_some()
        {
            break wire;
        }
    };
    wire.send(0, evil.hello.clone()).await;
    let TlsStream::Server(stream) = wire.into_stream() else { panic!("we accepted") };
    let (mut tcp, _) = stream.into_inner();
    let slow = tokio::spawn(async move {
        while let Ok(1..) = tcp.read(&mut [0]).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    others_are_served(server, &mut alice, &mut bob).await;
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "grown by {} MiB", grown / MIB);
    // It ends, and at last all get through.
    slow.abort();
    take_all(&evil, ids.len()).await;
    alice.until_ended(id).await;
    good.abort();
}

/// Frames at full speed of every kind: not read faster than the rate, and answered no more than
/// is read.
#[tokio::test(flavor = "multi_thread")]
async fn f13_floods_take_no_more_than_their_link() {
    let settings = |start: Start| {
        let start = start.set("federation.frames_per_second", 200);
        start.set("federation.frames_burst", 400).set("limits.stall_seconds", 3)
    };
    let (domains, evil) = one(settings).await;
    let good = BadPeer::among(&domains, "good.example").await.be_good();
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let mut bob = Peer::open_inbox(server, "bob").await;
    others_are_served(server, &mut alice, &mut bob).await;
    let before = server.resident_bytes();
    let kinds: [&dyn Fn(u64) -> BytesMut; 5] = [
        &|_| {
            let address = "mallory@evil.example".parse().unwrap();
            bytes_of(0, Notify::of(address, What::Presence, SubscriptionState::Active))
        },
        &|number| bytes_of(number, Ping::empty()),
        &|number| bytes_of(number, evil.message("mallory", "nobody@a.example", "flood")),
        &|number| raw_frame(200, number, &[0; 1024]),
        &|number| {
            let address = format!("u{number}@a.example").parse().unwrap();
            let watcher = Some(evil.account(&format!("w{}", number % 100)));
            let lease = Some(Duration::from_secs(3600));
            let asked = Subscribe { watcher, lease, ..Subscribe::of(address, What::Presence) };
            bytes_of(number, asked)
        },
    ];
    for kind in kinds {
        let link = evil.call(server).await;
        let mut stream = link.into_wire().into_stream();
        let flood: Vec<u8> = (1..20_000).flat_map(kind).collect();
        let flooding = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            // It ends when the server has had enough, or all of it is said.
            let _ = stream.write_all(&flood).await;
            stream
        });
        let accepted = server.metrics().get("impp_messages_total");
        let started = Instant::now();
        others_are_served(server, &mut alice, &mut bob).await;
        let accepted = server.metrics().get("impp_messages_total") - accepted;
        let most = 400.0 + 250.0 * (started.elapsed().as_secs_f64() + 1.0) + 10.0;
        assert!(accepted < most, "{accepted} messages in {:?}", started.elapsed());
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "grown by {} MiB", grown / MIB);
        flooding.abort();
    }
    good.abort();
}

/// A domain that cannot be reached takes its own share of the queue and no other's.
#[tokio::test(flavor = "multi_thread")]
async fn f12_e7_a_full_queue_is_full_for_its_domain_alone() {
    let (domains, evil) = one(|start| start.set("federation.queue_items_max", 3)).await;
    let good = BadPeer::among(&domains, "good.example").await.be_good();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut messages = Vec::new();
    for n in 0..3 {
        messages.push(message("mallory@evil.example", &n.to_string()));
    }
    for message in &messages {
        assert_eq!(alice.done(message.clone()).await.outcome, Some(Outcome::Queued));
    }
    let further = message("mallory@evil.example", "further");
    assert_eq!(alice.refused(further.clone()).await, Code::Full);
    // What was taken before is not refused now.
    assert_eq!(alice.done(messages[1].clone()).await.outcome, Some(Outcome::Duplicate));
    let id = alice.queue("trent@good.example", "there is room").await;
    alice.until_delivered(id).await;
    let mut link = evil.accept().await;
    for n in 0..3 {
        let (number, message) = link.message().await;
        assert_eq!(text(&message), n.to_string());
        link.take(number).await;
    }
    alice.until_delivered(messages[2].id).await;
    assert_eq!(alice.done(further).await.outcome, Some(Outcome::Queued));
    let (number, _) = link.message().await;
    link.take(number).await;
    good.abort();
}

/// An answer that the other side never read: it asks again, also of a server that was killed.
#[tokio::test(flavor = "multi_thread")]
async fn e2_a_peer_that_lost_the_answer_and_repeats_finds_one_copy() {
    let (mut domains, evil) = one(|start| start).await;
    Peer::open_inbox(&domains["a.example"], "alice").await.leave().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let message = evil.message("mallory", "alice@a.example", &format!("message {n}"));
        let before = domains["a.example"].metrics().get("impp_messages_total");
        let mut link = evil.call(&domains["a.example"]).await;
        link.ask(message.clone()).await;
        if n % 2 == 0 {
            // Cut as soon as it is written; it may have been read or not.
            link.cut();
        } else {
            // Answered, and the answer not read.
            let server = &domains["a.example"];
            let count = || server.metrics().get("impp_messages_total");
            let stored = async || (count() > before).then_some(());
            eventually("the message", stored).await;
            link.cut();
        }
        if n >= 2 {
            domains["a.example"].kill9();
            domains["a.example"].restart();
        }
        let mut link = evil.call(&domains["a.example"]).await;
        let again = link.deliver(message.clone()).await;
        assert!(n % 2 == 0 || again == Outcome::Duplicate, "{again:?}");
        assert_eq!(link.deliver(message.clone()).await, Outcome::Duplicate);
        ids.push(message.id);
    }
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let inbox: Vec<_> = alice.inbox().await.iter().map(|message| message.id).collect();
    assert_eq!(inbox, ids, "one copy of each");
}
