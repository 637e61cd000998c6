//! Frames cut, bent, out of place: faults A1 to A9, H2.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Challenge, Done, Hello, Notify, Ping};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Code, Command, Error, What};
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::wire::{Dial, Ending, Wire, bytes_of, hello, raw_frame};
use impp_tests::{Server, eventually};

use crate::corpus;

/// The connection ended as it should after a broken rule: one ERROR, BYE, close.
fn broken_off(ending: &Ending) -> Code {
    assert!(ending.clean, "{ending:?}");
    assert_eq!(ending.bye.as_ref().map(|bye| bye.reason), Some(ByeReason::Protocol), "{ending:?}");
    ending.code()
}

/// A whole session, a byte in each segment, goes as it does at once.
#[tokio::test]
async fn a1_byte_at_a_time_is_the_same_as_at_once() {
    let server = Server::quickstart();
    let slow = Wire::dial(&server).await.in_chunks(1);
    let mut slow = Peer::over(slow, &server.profile("alice"), 1).await.unwrap();
    let mut fast = Peer::sign_in_on(&server, "alice", 2).await;
    for what in [What::Rules, What::Contacts, What::Subscriptions] {
        let fetch = fetch("alice@localhost", what);
        assert_eq!(slow.request(fetch.clone()).await, fast.request(fetch).await);
    }
    slow.send("bob@localhost", "from the slow one").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.inbox().await.len(), 1);
}

/// Two requests in two writes, wherever the cut is, get their two answers.
#[tokio::test]
async fn a1_a_split_at_any_offset_changes_nothing() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = alice.done(fetch("alice@localhost", What::Rules)).await;
    let length =
        bytes_of(3, fetch("alice@localhost", What::Rules)).len() + bytes_of(3, Ping::empty()).len();
    for offset in 1..length {
        // Numbers of one byte, so that the length stays.
        let first = bytes_of(100, fetch("alice@localhost", What::Rules));
        let bytes = [&first[..], &bytes_of(101, Ping::empty())].concat();
        alice.wire().write(&bytes[..offset]).await;
        alice.wire().write(&bytes[offset..]).await;
        assert_eq!(alice.answer(100).await.as_ref(), Ok(&rules), "cut at {offset}");
        assert!(alice.answer(101).await.is_ok(), "cut at {offset}");
    }
}

/// A length over the limit is refused when the head is there, without waiting for a body.
#[tokio::test]
async fn a2_a_huge_length_is_refused_on_the_head() {
    let server = Server::quickstart();
    for length in [4 * 1024 + 1, 64 * 1024, (1 << 24) - 1_u32] {
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.write(&(length << 8 | 2).to_be_bytes()).await;
        assert_eq!(broken_off(&wire.ending().await), Code::TooLarge, "{length}");
    }
    for length in [64 * 1024 + 1, (1 << 24) - 1_u32] {
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.wire().write(&(length << 8 | 12).to_be_bytes()).await;
        assert_eq!(broken_off(&alice.ending().await), Code::TooLarge, "{length}");
    }
}

/// Who announces a frame and falls silent is cut at the deadline, signed in or not.
#[tokio::test]
async fn a3_a_length_and_then_silence_is_cut_at_the_deadline() {
    let server = Server::with().set("limits.frame_seconds", 1).start();
    let head = [0, 16, 0, 12, 1];
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.wire().write(&head).await;
    let ending = alice.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Timeout));
    let (mut wire, _) = Wire::greeted(&server).await;
    wire.write(&head).await;
    assert_eq!(wire.ending().await.bye.map(|bye| bye.reason), Some(ByeReason::Timeout));
}

/// A frame without a request number is none.
#[tokio::test]
async fn a4_an_empty_frame_is_refused() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.wire().write(&[0, 0, 0, 12]).await;
    assert_eq!(broken_off(&alice.ending().await), Code::Malformed);
}

/// Small frames without end are counted by the rate limit, and the connection is closed; others
/// are served meanwhile.
#[tokio::test]
async fn a4_a_flood_of_small_frames_meets_the_rate_limit() {
    let server = Server::with()
        .set("limits.requests_per_second", 1)
        .set("limits.requests_burst", 50)
        .start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    // Half of it is enough, unless the server takes a second for a thousand.
    let flood: Vec<u8> = (10..20_000).flat_map(|number| bytes_of(number, Ping::empty())).collect();
    let (mut answered, mut limited) = (0, 0);
    for flight in flood.chunks(4096) {
        if alice.wire().try_write(flight).await.is_err() {
            break;
        }
    }
    while let Some(frame) = alice.wire().frame().await {
        match impp_protocol::Request::decode(frame).unwrap().command {
            Command::Ok(_) => answered += 1,
            Command::Error(error) => {
                assert_eq!(error.code, Code::RateLimited);
                assert!(error.retry_after.is_some());
                limited += 1;
            }
            Command::Bye(bye) => assert_eq!(bye.reason, ByeReason::Protocol),
            other => panic!("{other:?}"),
        }
    }
    assert!(limited > 0, "{answered} answered, {limited} limited");
    bob.done(Ping::empty()).await;
}

/// A connection that ends inside a frame, wherever and however, has no effect and harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_truncation_at_every_byte_has_no_effect() {
    let server = Server::with().set("limits.sessions_max", 1_000_000).start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let opening = corpus::opening();
    for offset in 0..opening.len() {
        let mut wire = Wire::dial(&server).await;
        wire.write(&opening[..offset]).await;
        wire.cut(offset % 2 == 0);
    }
    for frame in corpus::requests() {
        for offset in 1..frame.len() {
            let mut alice = Peer::sign_in(&server, "alice").await;
            alice.wire().write(&frame[..offset]).await;
            alice.cut_with(offset % 2 == 0);
        }
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.refused(fetch("alice@localhost", What::Layer)).await, Code::NotFound);
    assert_eq!(alice.log().await, vec![]);
    assert_eq!(bob.log().await, vec![]);
    assert_eq!(bob.requests().await.entries, vec![]);
    eventually("all lost connections to be gone", async || {
        (server.metrics().get("impp_connections") <= 2.0).then_some(())
    })
    .await;
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// Any bit of any frame may flip: an answer or an orderly end comes, never a fall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_bit_flips_get_an_error_or_an_answer() {
    let server = Server::with().set("limits.sessions_max", 1_000_000).no_rates().start();
    let opening = corpus::opening();
    for bit in 0..opening.len() * 8 {
        let mut wire = Wire::dial(&server).await;
        wire.write(&flipped(&opening, bit)).await;
        wire.cut(bit % 2 == 0);
    }
    for frame in corpus::requests() {
        let mut peer = None;
        for bit in 0..frame.len() * 8 {
            let mut alice = match peer.take() {
                Some(alice) => alice,
                None => Peer::sign_in(&server, "alice").await,
            };
            alice.wire().write(&flipped(&frame, bit)).await;
            if bit < 24 {
                // The length: the server waits for more, or takes the rest for a frame.
                alice.cut_with(false);
            } else if alive(&mut alice).await {
                peer = Some(alice);
            }
        }
    }
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    let mut bob = Peer::sign_in(&server, "bob").await;
    for message in bob.inbox().await {
        assert_eq!(message.from.unwrap().as_str(), "alice@localhost");
    }
}

/// Whether the server still answers here; else it must have said ERROR and BYE.
async fn alive(peer: &mut Peer) -> bool {
    let ping = peer.ask(Ping::empty()).await;
    if peer.try_answer(ping).await.is_some() {
        return true;
    }
    let last = std::iter::from_fn(|| peer.try_unsolicited()).last();
    assert!(matches!(last, Some(Command::Bye(_))), "an end without BYE, but {last:?}");
    false
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
    bytes
}

/// A kind from the future gets an error, and the connection lives.
#[tokio::test]
async fn a7_an_unknown_kind_gets_an_error_and_the_connection_lives() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for (number, kind) in [(20, 0), (21, 14), (22, 63), (23, 200), (24, 255)] {
        alice.wire().write(&raw_frame(kind, number, b"\x03\x01x")).await;
        assert_eq!(alice.answer(number).await.unwrap_err().code, Code::Unsupported, "{kind}");
    }
    alice.done(Ping::empty()).await;
}

/// An unknown field is skipped if its number is below 64, and refused from there on.
#[tokio::test]
async fn a7_an_unknown_field_is_skipped_unless_critical() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    // PING with field 63, once of each shape.
    for (number, fields) in [(20, &b"\x7e\x05"[..]), (21, b"\x7f\x02hi")] {
        alice.wire().write(&raw_frame(12, number, fields)).await;
        assert!(alice.answer(number).await.is_ok());
    }
    // Field 64: varint keys 128 and 129.
    for fields in [&b"\x80\x01\x05"[..], b"\x81\x01\x02hi"] {
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.wire().write(&raw_frame(12, 20, fields)).await;
        let ending = alice.ending().await;
        assert!(matches!(ending.code(), Code::Malformed | Code::Unsupported), "{ending:?}");
    }
    let mut wire = Wire::dial(&server).await;
    wire.send(0, Hello { version: 2, ..hello() }).await;
    assert_eq!(broken_off(&wire.ending().await), Code::Unsupported);
}

/// What only servers send.
fn servers_frames() -> Vec<Command> {
    vec![
        Challenge { data: "r=x".into() }.into(),
        Done::empty().into(),
        Error::new(Code::Refused, "no").into(),
        Notify::of("bob@localhost".parse().unwrap(), What::Presence, SubscriptionState::Active)
            .into(),
    ]
}

/// A client cannot send what only servers send, before its sign-in or after.
#[tokio::test]
async fn a8_a_servers_frame_from_a_client_is_refused() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("alice@localhost", What::Presence)).await;
    for command in servers_frames() {
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.send(1, command.clone()).await;
        assert!(matches!(wire.ending().await.code(), Code::NotSignedIn | Code::WrongState));
        let mut alice = Peer::sign_in(&server, "alice").await;
        assert_eq!(alice.refused(command.clone()).await, Code::WrongState, "{command:?}");
    }
    let heard = bob.so_far().await;
    assert!(
        heard.iter().all(|command| matches!(command, Command::Notify(n) if n.version.is_some())),
        "{heard:?}"
    );
}

/// Nothing but HELLO opens a connection, nothing but AUTH follows, and nobody is anybody before.
#[tokio::test]
async fn a9_a_first_frame_out_of_order_is_refused() {
    let server = Server::quickstart();
    let commands: Vec<Command> = vec![
        message("bob@localhost", "from nobody").into(),
        publish("alice@localhost", What::Presence, Some(corpus::note("x").encode())).into(),
        subscribe("alice@localhost", What::Presence).into(),
        fetch("alice@localhost", What::Presence).into(),
        fetch("alice@localhost", What::Log).into(),
        Ping::empty().into(),
    ];
    for command in commands.into_iter().chain(servers_frames()) {
        let mut wire = Wire::dial(&server).await;
        wire.send(1, command.clone()).await;
        let code = broken_off(&wire.ending().await);
        assert!(matches!(code, Code::WrongState | Code::NotSignedIn), "{command:?}: {code:?}");
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.send(1, command.clone()).await;
        let code = broken_off(&wire.ending().await);
        assert!(matches!(code, Code::WrongState | Code::NotSignedIn), "{command:?}: {code:?}");
    }
    // AUTH before HELLO, and HELLO twice.
    let opening = corpus::opening();
    let mut wire = Wire::dial(&server).await;
    wire.write(&opening[bytes_of(0, hello()).len()..]).await;
    assert_eq!(broken_off(&wire.ending().await), Code::WrongState);
    let (mut wire, _) = Wire::greeted(&server).await;
    wire.send(0, hello()).await;
    broken_off(&wire.ending().await);
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.log().await, vec![]);
}

/// A byte a second is cut at the frame's deadline.
#[tokio::test]
async fn h2_a_slow_writer_is_cut_at_the_frames_deadline() {
    let server = Server::with().set("limits.frame_seconds", 1).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let bytes = bytes_of(9, message("bob@localhost", "a message that takes far too long"));
    for byte in &bytes[..bytes.len() - 1] {
        if alice.wire().try_write(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ending = alice.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Timeout));
}

/// The deadline is each frame's own: who always has the next one begun, and ends each in time, is
/// not slow.
#[tokio::test]
async fn h2_a_stream_without_a_pause_is_not_slow() {
    let server = Server::with().set("limits.frame_seconds", 4).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    // Each write brings the end of one frame and the first byte of the next.
    let mut bytes = bytes_of(10, Ping::empty()).to_vec();
    for number in 10..70 {
        bytes.extend(bytes_of(number + 1, Ping::empty()));
        let next = bytes_of(number + 1, Ping::empty()).len() - 1;
        let rest = bytes.split_off(bytes.len() - next);
        alice.wire().write(&bytes).await;
        bytes = rest;
        let answer = alice.try_answer(number).await;
        assert!(answer.is_some(), "cut off at frame {number}, each took 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Compression is neither offered nor granted, and TLS before 1.3, which had it, is not spoken.
#[tokio::test]
async fn a15_compression_is_not_offered() {
    let server = Server::quickstart();
    let mut wire = Wire::dial(&server).await;
    let features = ["compress", "deflate", "zstd", "zlib"].map(str::to_owned);
    wire.send(0, Hello { features: features.clone().into(), ..hello() }).await;
    let named = wire.hello().await.features;
    assert!(!named.iter().any(|feature| features.contains(feature)), "{named:?}");
    assert_eq!(wire.tls().protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert!(Dial::to(&server).tls12().connect().await.is_err());
}
