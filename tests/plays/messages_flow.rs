//! Messages as a stream: its order, its cuts, and readers who do not read: faults E4, E13, E14, H1.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Message, Ping, Subscribe};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::state::{self, Page};
use impp_protocol::{Code, Command, Request, What};
use impp_tests::cable::Cable;
use impp_tests::dice::Dice;
use impp_tests::peer::{Peer, message, subscribe};
use impp_tests::wire::Dial;
use impp_tests::{Server, eventually};

/// The number that a message of these plays begins with.
fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(&message.body).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn log_from(cursor: Option<Bytes>) -> Subscribe {
    Subscribe { cursor, ..subscribe("bob@localhost", What::Log) }
}

/// What is in the page of a NOTIFY about the log: the numbers of the messages, and the cursor.
fn page(command: Command) -> Option<(Vec<usize>, Bytes)> {
    let Command::Notify(notify) = command else { return None };
    let page: Page = state::decode(notify.snapshot?).unwrap();
    let messages = page.items.into_iter().map(|item| Message::decode(item.message.unwrap()));
    Some((messages.map(|message| number(&message.unwrap())).collect(), page.cursor))
}

/// Who follows is told what was just committed without a read of the store for each message, and so is
/// the sender's own session of its copies and fates. Behind a cut the store is asked again.
#[tokio::test]
async fn who_follows_is_told_from_memory() {
    const MESSAGES: usize = 60;
    let server = Server::with().no_rates().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.done(subscribe("alice@localhost", What::Log)).await;
    bob.done(log_from(None)).await;
    let mut cursor = None;
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &format!("{n} text")).await;
        let (numbers, next) = page(bob.notify().await.into()).unwrap();
        assert_eq!(numbers, [n]);
        cursor = Some(next);
    }
    let mut own = 0;
    while own < 2 * MESSAGES {
        let page: Page = state::decode(alice.notify().await.snapshot.unwrap()).unwrap();
        own += page.items.len();
    }
    let asked = server.metrics().get("impp_store_pages_total");
    assert!((1.0..=10.0).contains(&asked), "{asked} reads for {MESSAGES} messages");
    bob.cut();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(log_from(cursor)).await;
    alice.send("bob@localhost", "60 more").await;
    assert_eq!(page(bob.notify().await.into()).unwrap().0, [MESSAGES]);
}

/// A stream that is cut anywhere goes on from the cursor held: no gap, nothing twice, in order.
#[tokio::test]
async fn e4_a_stream_cut_anywhere_goes_on_where_it_was() {
    const MESSAGES: usize = 100;
    let server = Server::with().set("limits.sessions_max", 100_000).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let filler = "x".repeat(5000);
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &format!("{n} {filler}")).await;
    }
    let (mut received, mut cursor, mut cuts) = (Vec::new(), None, 0);
    while received.len() < MESSAGES {
        assert!(cuts < 1000, "{} of {MESSAGES} after {cuts} cuts", received.len());
        let mut bob = Peer::sign_in(&server, "bob").await;
        bob.ask(log_from(cursor.clone())).await;
        // Once after a page or two, once inside one, at other bytes each time.
        let mut left = 1 + cuts * 37_987 % 100_000;
        cuts += 1;
        let mut bytes = BytesMut::new();
        while left > 0 && received.len() < MESSAGES {
            let mut some = bob.wire().some(left).await;
            left -= some.len();
            bytes.unsplit(some.split());
            while let Some(frame) = frame::take(&mut bytes, FRAME_BYTES_MAX).unwrap() {
                if let Some((numbers, next)) = page(Request::decode(frame).unwrap().command) {
                    received.extend(numbers);
                    cursor = Some(next);
                }
            }
        }
        bob.cut_with(cuts % 2 == 0);
    }
    assert_eq!(received, (0..MESSAGES).collect::<Vec<_>>(), "after {cuts} cuts");
}

/// Over TLS, at octets that are drawn: whoever comes back with a ticket and the cursor held has no gap, nothing
/// twice, and all in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_stream_over_tls_is_cut_at_two_hundred_drawn_octets() {
    const MESSAGES: usize = 100;
    const CUTS: usize = 200;
    let server = Server::with().no_rates().start();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let dial = Dial::new(cable.address(), &server.trust());
    let carried = || (cable.bytes().0 + cable.bytes().1) as usize;
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &format!("{n} text")).await;
    }
    let bob = Peer::sign_in(&server, "bob").await;
    let mut held = bob.held();
    bob.cut();
    let (mut dice, mut whole, mut torn) = (Dice::new(41), 0, 0);
    for cut in 0..=CUTS {
        let (mut received, mut cursor, mut connections) = (Vec::new(), None, 0);
        while received.len() < MESSAGES {
            let mut bob = match Peer::resume(dial.connect().await.unwrap(), &held).await {
                Ok(bob) => bob,
                // What was asked on the connection before is still being done.
                Err(error) if error.code == Code::Busy => continue,
                Err(error) => panic!("at cut {cut}: {error}"),
            };
            let before = carried();
            // The first time nothing is cut, and then every first connection is.
            if whole > 0 && connections == 0 {
                cable.cut_after(dice.roll(whole) as u64);
            }
            connections += 1;
            bob.ask(log_from(cursor.clone())).await;
            while received.len() < MESSAGES
                && let Some(frame) = bob.wire().frame().await
            {
                if let Some((numbers, next)) = page(Request::decode(frame).unwrap().command) {
                    received.extend(numbers);
                    cursor = Some(next);
                }
            }
            whole = whole.max(carried() - before);
            cable.plug();
            held = bob.held();
            bob.cut();
        }
        torn += usize::from(connections > 1);
        assert_eq!(received, (0..MESSAGES).collect::<Vec<_>>(), "at cut {cut}");
    }
    assert!(torn > CUTS / 2, "{torn} of {CUTS} were cut");
}

/// Messages from one to another stay in the order of their requests, however many are under way
/// and whoever else writes; each log has them in one order.
#[tokio::test]
async fn e14_messages_keep_their_order() {
    const FLIGHTS: usize = 8;
    const FLIGHT: usize = 25;
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for flight in 0..FLIGHTS {
        let text = |n| format!("{}", flight * FLIGHT + n);
        let sends = || (0..FLIGHT).map(|n| Command::from(message("bob@localhost", &text(n))));
        let (of_alice, of_carol) = (alice.flight(sends()).await, carol.flight(sends()).await);
        for number in of_alice {
            alice.answer(number).await.unwrap();
        }
        for number in of_carol {
            carol.answer(number).await.unwrap();
        }
        if flight % 3 == 2 {
            alice.cut();
            alice = Peer::sign_in(&server, "alice").await;
        }
    }
    let inbox = bob.inbox().await;
    for sender in ["alice@localhost", "carol@localhost"] {
        let from = |message: &&Message| message.from.as_ref().unwrap().as_str() == sender;
        let numbers: Vec<_> = inbox.iter().filter(from).map(number).collect();
        assert_eq!(numbers, (0..FLIGHTS * FLIGHT).collect::<Vec<_>>(), "{sender}");
    }
    let mut other = Peer::sign_in_on(&server, "bob", 2).await;
    assert_eq!(other.inbox().await, inbox);
}

/// Who sends more than the rate is told so, request by request, and loses nothing by it.
#[tokio::test]
async fn e13_a_storm_of_messages_is_told_to_slow_down() {
    let server = Server::with()
        .set("limits.requests_per_second", 1)
        .set("limits.requests_burst", 20)
        .start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let storm = (0..100).map(|n| message("bob@localhost", &format!("{n} storm")).into());
    let (mut taken, mut limited) = (Vec::new(), 0);
    for (n, asked) in alice.flight(storm).await.into_iter().enumerate() {
        match alice.answer(asked).await {
            Ok(_) => taken.push(n),
            Err(error) => {
                assert_eq!(error.code, Code::RateLimited);
                assert!(error.retry_after.is_some());
                limited += 1;
            }
        }
    }
    assert!(taken.len() >= 10 && limited > 0, "{} taken, {limited} limited", taken.len());
    assert_eq!(bob.inbox().await.iter().map(number).collect::<Vec<_>>(), taken);
}

/// Who follows the log and does not read costs the server little, and loses nothing; others are
/// served.
#[tokio::test]
async fn h1_a_slow_reader_is_bounded_and_loses_nothing() {
    const MESSAGES: usize = 1000;
    // The store's cache of pages, 16 MiB, fills up meanwhile.
    const GROWTH_BYTES_MAX: u64 = 20 * 1024 * 1024;
    let server = Server::with().no_rates().set("inbox.bytes_max", 1_i64 << 30).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(log_from(None)).await;
    let filler = "x".repeat(50_000);
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut before = 0;
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &format!("{n} {filler}")).await;
        if n == 100 {
            // The sockets' buffers are full by now, and the caches warm.
            before = server.resident_bytes();
        }
    }
    carol.done(Ping::empty()).await;
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes for 45 MB that nobody reads");
    let mut received = Vec::new();
    while received.len() < MESSAGES {
        received.extend(page(bob.unsolicited().await).unwrap().0);
    }
    assert_eq!(received, (0..MESSAGES).collect::<Vec<_>>());
}

/// Who takes nothing at all for too long is cut; what waits for them is there when they return.
#[tokio::test]
async fn h1_a_reader_without_progress_is_cut_and_returns() {
    const MESSAGES: usize = 300;
    let server = Server::with()
        .no_rates()
        .set("inbox.bytes_max", 1_i64 << 30)
        .set("limits.stall_seconds", 2)
        .start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(log_from(None)).await;
    let filler = "x".repeat(50_000);
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &format!("{n} {filler}")).await;
    }
    eventually("the connection that stalls to be cut", async || {
        alice.done(Ping::empty()).await;
        (server.metrics().get("impp_connections") == 1.0).then_some(())
    })
    .await;
    let mut again = Peer::sign_in_on(&server, "bob", 2).await;
    assert_eq!(again.inbox().await.iter().map(number).collect::<Vec<_>>().len(), MESSAGES);
    drop(bob);
}
