//! What slow and silent peers cost, and programs that outlive the server.

use std::time::Duration;

use impp_protocol::command::{Done, Message, Ping};
use impp_protocol::presence::Document;
use impp_protocol::state::{self, ItemKind, Page};
use impp_protocol::{Command, Request, What};
use impp_tests::Server;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, message, subscribe};
use impp_tests::presence::{Held, Watcher, at_once, open, person};
use impp_tests::running::Running;
use impp_tests::server::Start;
use impp_tests::wire::Dial;
use serde_json::Value;

/// Requests that are on their way at once.
const FLIGHT: usize = 200;

/// As much as one likes may be asked and kept.
fn generous() -> Start {
    at_once().no_rates().set("limits.requests_burst", 1_000_000).set("inbox.items_max", 1_000_000)
}

/// Sends many messages, numbered, each of which has to be taken.
async fn send_many(from: &mut Peer, to: &str, numbers: std::ops::Range<usize>, padding: usize) {
    let all: Vec<usize> = numbers.collect();
    for some in all.chunks(FLIGHT) {
        let body = |n: &usize| format!("{n} {}", "x".repeat(padding));
        let flight: Vec<Command> = some.iter().map(|n| message(to, &body(n)).into()).collect();
        for request in from.flight(flight).await {
            from.answer(request).await.unwrap();
        }
    }
}

/// What a reader has got: the numbers of messages in the order in which they came, and presence.
#[derive(Default)]
struct Read {
    messages: Vec<usize>,
    presence: Held,
}

impl Read {
    /// Takes one frame.
    fn take(&mut self, command: Command) {
        let Command::Notify(notify) = command else { panic!("{command:?}") };
        if notify.what == What::Presence {
            return self.presence.take(&notify);
        }
        let page: Page = state::decode(notify.snapshot.unwrap()).unwrap();
        for item in page.items.into_iter().filter(|item| item.kind == ItemKind::Received) {
            let body = Message::decode(item.message.unwrap()).unwrap().body;
            let text = String::from_utf8(body.to_vec()).unwrap();
            self.messages.push(text.split(' ').next().unwrap().parse().unwrap());
        }
    }

    fn note(&self) -> Option<&str> {
        self.presence.content.as_ref().and_then(|(_, document)| person(document, "note"))
    }
}

/// A session that follows its log and bob's presence, and has little room in the system.
async fn reader(server: &Server, name: &str) -> Peer {
    let dial = Dial::to(server).receive_buffer(4096);
    let wire = dial.connect().await.unwrap();
    let mut peer = Peer::over(wire, &server.profile(name), 1).await.unwrap();
    let own = peer.address.to_string();
    peer.done(subscribe(&own, What::Log)).await;
    peer.follow("bob@localhost").await;
    peer
}

/// What a reader is due in one act: 10,000 messages, and a change of presence for each hundred.
const MESSAGES: usize = 10_000;
const CHANGES: usize = 100;
/// Together more than the system takes in for a connection.
const BODY_BYTES: usize = 600;

/// Who sends, who changes presence, and somebody else who watches that.
struct Cast {
    sender: Peer,
    bob: Peer,
    witness: Watcher,
}

impl Cast {
    /// Plays one act for a reader, who reads on the way or not. How many bytes of memory the
    /// server has more at its end than before the reader came.
    async fn act(&mut self, server: &Server, name: &str, reads: bool) -> (Peer, Read, u64) {
        let (before, step) = (server.resident_bytes(), MESSAGES / CHANGES);
        let (mut peer, mut read) = (reader(server, name).await, Read::default());
        for change in 0..CHANGES {
            let (address, numbers) = (peer.address.to_string(), change * step..(change + 1) * step);
            send_many(&mut self.sender, &address, numbers, BODY_BYTES).await;
            let note = format!("{name} {change}");
            self.bob.show(&open(&note)).await;
            self.witness.until_note(&note).await;
            while reads && (read.messages.len() < (change + 1) * step || read.note() != Some(&note))
            {
                read.take(peer.unsolicited().await);
            }
        }
        (peer, read, server.resident_bytes().saturating_sub(before))
    }
}

/// A reader that stops reading, with 10,000 messages (7 MB) due to it and presence changing, costs the
/// server less than 4 MiB, most of it what the store remembers of any messages, and others nothing. When
/// it reads again, each message comes once and in order, and of presence the newest without all between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_reader_that_stops_costs_no_memory_and_presence_is_conflated() {
    const GROWTH_BYTES_MAX: u64 = 4 * 1024 * 1024;
    let server = generous()
        .accounts(["alice", "bob", "carol", "dave", "erin", "frank"])
        .set("limits.stall_seconds", 3600)
        .start();
    let mut cast = Cast {
        sender: Peer::sign_in_on(&server, "bob", 2).await,
        bob: Peer::sign_in(&server, "bob").await,
        witness: Watcher::sign_in(&server, "erin", "bob@localhost").await,
    };
    // The same for three that read, so that the store's caches are as large as they get.
    for name in ["carol", "dave", "frank"] {
        let (attentive, read, _) = cast.act(&server, name, true).await;
        assert_eq!(read.messages.len(), MESSAGES);
        attentive.leave().await;
    }
    let (mut slow, mut read, growth) = cast.act(&server, "alice", false).await;
    let last = format!("alice {}", CHANGES - 1);
    while read.messages.len() < MESSAGES || read.note() != Some(&last) {
        read.take(slow.unsolicited().await);
    }
    for command in slow.fence().await {
        read.take(command);
    }
    assert!(read.messages.iter().copied().eq(0..MESSAGES), "not each once and in order");
    assert_eq!(read.note(), Some(&*last));
    let told = read.presence.count;
    assert!(told < CHANGES / 2, "told of {told} changes: it never was slow, or nothing conflated");
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more");
}

/// Whoever makes no progress at all for the time set is closed; whoever reads slowly is not,
/// however long it takes. What was due to the closed one is there when it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_only_who_makes_no_progress_is_closed() {
    const MESSAGES: usize = 600;
    // As long as the one who reads slowly could be held up by the machine, and a third of what it
    // takes to read all.
    let server = generous().set("limits.stall_seconds", 10).start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut slow = reader(&server, "alice").await;
    let stopped = reader(&server, "carol").await;
    let connections = server.metrics().get("impp_connections");
    for to in ["alice@localhost", "carol@localhost"] {
        send_many(&mut bob, to, 0..MESSAGES, 8000).await;
    }
    let mut read = Read::default();
    let is_closed = || server.metrics().get("impp_connections") < connections;
    // One frame at a time, of which there are more than a hundred, until the other one is closed.
    while !is_closed() {
        assert!(read.messages.len() < MESSAGES, "who reads slowly has all, and nobody was closed");
        read.take(slow.unsolicited().await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    while read.messages.len() < MESSAGES {
        read.take(slow.unsolicited().await);
    }
    assert!(read.messages.iter().copied().eq(0..MESSAGES), "not each once and in order");
    slow.done(Ping::empty()).await;
    assert_eq!(server.metrics().get("impp_connections"), connections - 1.0);
    drop(stopped);
    let mut back = Peer::sign_in_on(&server, "carol", 2).await;
    assert_eq!(back.inbox().await.len(), MESSAGES);
}

/// Who asks and does not read the answers is not read from any more: what it asked for takes no
/// memory, and others are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_who_reads_no_answers_is_not_listened_to() {
    const GROWTH_BYTES_MAX: u64 = 2 * 1024 * 1024;
    let server = generous().set("limits.stall_seconds", 3600).start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    send_many(&mut bob, "alice@localhost", 0..50, 8000).await;
    let mut alice = reader(&server, "alice").await;
    let before = server.resident_bytes();
    // Each answer is a page of 48 KiB.
    let fetch = impp_tests::peer::fetch("alice@localhost", What::Log);
    let asking = impp_tests::wire::bytes_of(900, fetch).repeat(2000);
    let writing = alice.wire().try_write(&asking);
    // It may be that the server does not take all of it; it is not to answer all of it.
    let _ = tokio::time::timeout(Duration::from_secs(3), writing).await;
    for n in 0..20 {
        bob.show(&open(&format!("others are served {n}"))).await;
        bob.send("carol@localhost", "others are served").await;
    }
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more");
}

/// After a silence the server asks whether the client is there; who answers lives, for as long as
/// it likes.
#[tokio::test]
async fn who_answers_pings_lives() {
    let server = at_once().set("times.idle_seconds", 1).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for _ in 0..4 {
        match alice.wire().next().await {
            Request { number, command: Command::Ping(_) } => {
                assert_ne!(number, 0, "a PING is a request");
                alice.wire().send(number, Done::empty()).await;
            }
            other => panic!("{other:?}"),
        }
    }
    alice.done(Ping::empty()).await;
    assert_eq!(
        server.metrics().get("impp_sign_ins_total{mechanism=\"SCRAM-SHA-256-PLUS\",result=\"ok\"}"),
        1.0
    );
}

/// `impp watch` outlives kill -9 of the server and its restart, again and again: it says what has
/// changed meanwhile, and nothing twice.
#[test]
fn a_watch_survives_kill_9_of_the_server() {
    let mut server = at_once().start();
    let alice = Impp::of(&server, "alice");
    let set = |note: &str| alice.run(&["status", "set", "open", "--note", note]).one();
    set("round 0");
    let mut watch = Running::start(&server, "bob", &["watch", "alice@localhost"]);
    let note = |event: &Value| event["document"]["person"]["note"].clone();
    let mut notes = Vec::new();
    for round in 0..3 {
        let expected = format!("round {round}");
        let mut event = Value::Null;
        while note(&event) != *expected {
            event = watch.object();
            if event["event"] == "notify" {
                notes.push(note(&event).as_str().unwrap_or_default().to_owned());
            }
        }
        server.kill9();
        server.restart();
        set(&format!("round {}", round + 1));
    }
    watch.until(|event| note(event) == "round 3");
    assert_eq!(notes, ["round 0", "round 1", "round 2"]);
    assert_eq!(watch.interrupt(), Some(0));
}

/// `impp inbox --follow` outlives kill -9 of the server and its restart: each message comes once
/// and in order, sent before, between and after.
#[test]
fn an_inbox_that_is_followed_survives_kill_9_of_the_server() {
    for ack in [false, true] {
        let mut server = at_once().start();
        let carol = Impp::of(&server, "carol");
        let send = |text: &str| {
            let sent = carol.run(&["send", "bob@localhost", text]).one();
            assert_eq!(sent["outcome"], "delivered");
        };
        send("before");
        let args: &[&str] =
            if ack { &["inbox", "--follow", "--ack"] } else { &["inbox", "--follow"] };
        let mut inbox = Running::start(&server, "bob", args);
        let mut bodies = vec![inbox.object()["body"].clone()];
        for round in 0..2 {
            send(&format!("{round} while it runs"));
            bodies.push(inbox.object()["body"].clone());
            send(&format!("{round} just before the end"));
            server.kill9();
            server.restart();
            send(&format!("{round} after the start"));
            bodies.push(inbox.object()["body"].clone());
            bodies.push(inbox.object()["body"].clone());
        }
        let expected = [
            "before",
            "0 while it runs",
            "0 just before the end",
            "0 after the start",
            "1 while it runs",
            "1 just before the end",
            "1 after the start",
        ];
        assert_eq!(bodies, expected);
        // Nothing more comes: the end is next.
        send("the last");
        assert_eq!(inbox.object()["body"], "the last");
        assert_eq!(inbox.interrupt(), Some(0));
        let kept = Impp::of(&server, "bob").run(&["inbox"]);
        let items = kept.objects.iter().filter(|object| object["item"] == "message").count();
        assert!(items == expected.len() + 1, "{} are kept: {kept:?}", items);
    }
}

/// Messages are not delayed by a storm of presence, nor is the newest presence by a flood of
/// messages, to a reader that follows both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h4_messages_and_presence_do_not_starve_each_other() {
    let server = generous().start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut alice = reader(&server, "alice").await;
    let (mut read, mut sent) = (Read::default(), 0);
    for n in 0..20 {
        send_many(&mut bob, "alice@localhost", sent..sent + 50, 100).await;
        sent += 50;
        let last = format!("change {n}");
        for change in 0..20 {
            bob.show(&open(&if change == 19 { last.clone() } else { format!("{n}-{change}") }))
                .await;
        }
        while read.messages.len() < sent || read.note() != Some(&*last) {
            read.take(alice.unsolicited().await);
        }
    }
    assert!(read.messages.iter().copied().eq(0..sent));
    bob.hide().await;
    while read.presence.document() != &Document::offline() {
        read.take(alice.unsolicited().await);
    }
}
