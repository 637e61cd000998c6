//! A connection over a pipe in memory, with a test at the other end that speaks frames.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Fetch, Kind, Ping};
use impp_protocol::field::Writer;
use impp_protocol::frame::{self, FRAME_BYTES_MAX, Frame};
use impp_protocol::{Address, Code, Request, What};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::published::Published;

const IDLE: Duration = Duration::from_secs(60);

/// The server's end of the pipe.
struct Peer {
    stream: DuplexStream,
    input: BytesMut,
}

impl Peer {
    async fn write(&mut self, number: u64, command: impl Into<Command>) {
        let mut out = BytesMut::new();
        Request { number, command: command.into() }.put(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// A frame with fields that no table here has.
    async fn write_raw(&mut self, kind: Kind, number: u64, fields: Writer) {
        let fields = fields.into_bytes();
        let mut out = BytesMut::new();
        Frame { kind: kind.number(), request: number, fields }.put(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame; none at the end.
    async fn read(&mut self) -> Option<Request> {
        loop {
            if let Some(frame) = frame::take(&mut self.input, FRAME_BYTES_MAX).unwrap() {
                return Some(Request::decode(frame).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }
}

fn connected(requests_max: u64) -> (Connection, mpsc::Receiver<Incoming>, Peer) {
    let hello = Hello { idle: Some(IDLE), requests_max: Some(requests_max), ..Hello::empty() };
    connected_to(hello, Done::empty(), Kept::default())
}

fn connected_to(
    hello: Hello,
    done: Done,
    kept: Kept,
) -> (Connection, mpsc::Receiver<Incoming>, Peer) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (hello_at, rest) = (Instant::now(), BytesMut::new());
    let signed_in = SignedIn { hello, hello_at, done, kept, last_request: 2, rest };
    let (connection, incoming, _) = Connection::start(near, signed_in);
    (connection, incoming, Peer { stream: far, input: BytesMut::new() })
}

/// What was asked on a session and not answered has its number on the next connection of that; in another
/// session it is a request like any other. A PING says what has been answered.
#[tokio::test]
async fn e2_a_repeat_has_its_number_where_the_session_goes_on() {
    let of = |session: u8, kept: Kept| {
        let ticket = Ticket::new(SessionId([session; 16]), [0; 32]).encode().into();
        let hello = Hello { features: vec![REPEATS.to_owned()], ..Hello::empty() };
        connected_to(hello, Done { resume: Some(ticket), ..Done::empty() }, kept)
    };
    let (kept, mut asked) = (Kept::default(), None);
    let mut numbers = Vec::new();
    for session in [1, 1, 2] {
        let kept = if session == 1 { kept.clone() } else { Kept::default() };
        let (connection, _incoming, mut peer) = of(session, kept);
        let server = async {
            numbers.push(peer.read().await.unwrap().number);
            drop(peer);
        };
        let (answer, ()) =
            tokio::join!(connection.call_as(fetch("bob").into(), &mut asked), server);
        assert!(answer.unwrap_err().is_lost());
    }
    assert_eq!(numbers, [3, 3, 3]);
    // What is asked next on the first session goes on behind it.
    let (connection, _incoming, mut peer) = of(1, kept);
    let server = async {
        let Request { number, .. } = peer.read().await.unwrap();
        peer.write(number, numbered(1)).await;
        let asked = peer.read().await.unwrap();
        let ping = Ping { answered: Some(number) };
        assert_eq!((number, asked.command), (4, ping.into()));
        peer.write(asked.number, Done::empty()).await;
    };
    let asks = async {
        connection.call(fetch("bob")).await.unwrap();
        connection.ask_time().await.unwrap();
    };
    tokio::join!(asks, server);
}

fn fetch(local: &str) -> Fetch {
    Fetch::of(Address::parse(&format!("{local}@a.example")).unwrap(), What::Presence)
}

fn numbered(number: u64) -> Done {
    Done { number: Some(number), ..Done::empty() }
}

/// G12: the server's clock was set since its HELLO: what it says when it is asked is its time.
#[tokio::test]
async fn g12_the_servers_time_is_what_it_last_said() {
    let (connection, _incoming, mut peer) = connected(64);
    assert_eq!(connection.server_time(), None);
    for time in [5_000_000_000, 1_000_000_000] {
        let time = Timestamp::from_millis(time);
        let server = async {
            let asked = peer.read().await.unwrap();
            assert!(matches!(asked.command, Command::Ping(_)));
            peer.write(asked.number, Done { time: Some(time), ..Done::empty() }).await;
        };
        let (asked, ()) = tokio::join!(connection.ask_time(), server);
        asked.unwrap();
        let known = connection.server_time().unwrap();
        assert!(known >= time && known.since(time) < Duration::from_secs(1000), "{known}");
    }
}

/// Section 6: what answers nothing that is open, and a request that no feature has brought, are passed over.
#[tokio::test]
async fn what_was_not_asked_for_ends_nothing() {
    let (connection, _incoming, mut peer) = connected(64);
    let server = async {
        let asked = peer.read().await.unwrap();
        peer.write(0, Done::empty()).await;
        peer.write(asked.number + 90, numbered(1)).await;
        peer.write(asked.number + 91, Error::new(Code::Refused, "no")).await;
        peer.write(7, fetch("bob")).await;
        peer.write(asked.number, numbered(2)).await;
        // It was answered already.
        peer.write(asked.number, numbered(3)).await;
        let asked = peer.read().await.unwrap();
        peer.write(asked.number, numbered(4)).await;
    };
    let asks = async {
        let first = connection.call(fetch("bob")).await.unwrap().number;
        (first, connection.call(fetch("dan")).await.unwrap().number)
    };
    let (answers, ()) = tokio::join!(asks, server);
    assert_eq!(answers, (Some(2), Some(4)));
}

#[tokio::test]
async fn answers_in_any_order_find_who_asked() {
    let (connection, _incoming, mut peer) = connected(64);
    let server = async {
        let numbers = [peer.read().await.unwrap().number, peer.read().await.unwrap().number];
        assert_eq!(numbers, [3, 4]);
        peer.write(4, numbered(40)).await;
        peer.write(3, Error::new(Code::Refused, "no")).await;
    };
    let (first, second, ()) =
        tokio::join!(connection.call(fetch("bob")), connection.call(fetch("dan")), server);
    assert!(matches!(first, Err(ClientError::Answered(error)) if error.code == Code::Refused));
    assert_eq!(second.unwrap().number, Some(40));
}

#[tokio::test]
async fn an_answer_keeps_its_place_among_what_comes_unasked() {
    let (connection, mut incoming, mut peer) = connected(64);
    connection.reserve().await.unwrap().send(fetch("bob"), 77);
    assert_eq!(peer.read().await.unwrap().number, 3);
    let notify =
        |state| Notify::of(Address::parse("bob@a.example").unwrap(), What::Presence, state);
    use impp_protocol::state::SubscriptionState::{Active, Pending};
    peer.write(0, notify(Pending)).await;
    peer.write(3, numbered(1)).await;
    peer.write(0, notify(Active)).await;
    let state = |item| match item {
        Some(Incoming::Notify(notify)) => notify.state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(incoming.recv().await), Pending);
    assert!(matches!(incoming.recv().await, Some(Incoming::Answer { token: 77, answer: Ok(_) })));
    assert_eq!(state(incoming.recv().await), Active);
}

#[tokio::test]
async fn no_more_requests_wait_than_the_server_takes() {
    let (connection, _incoming, mut peer) = connected(1);
    let first = connection.reserve().await.unwrap();
    first.send(fetch("bob"), 1);
    let wait = Duration::from_millis(20);
    assert!(tokio::time::timeout(wait, connection.reserve()).await.is_err());
    peer.read().await.unwrap();
    peer.write(3, Done::empty()).await;
    connection.reserve().await.unwrap().send(fetch("dan"), 2);
    assert_eq!(peer.read().await.unwrap().number, 4);
}

#[tokio::test]
async fn a_ping_is_answered_under_its_number() {
    let (_connection, _incoming, mut peer) = connected(64);
    peer.write(9, Ping::empty()).await;
    let pong = peer.read().await.unwrap();
    assert!(pong.number == 9 && matches!(pong.command, Command::Ok(_)));
}

#[tokio::test(start_paused = true)]
async fn silence_is_pinged_and_then_the_end() {
    let (connection, mut incoming, mut peer) = connected(64);
    let start = tokio::time::Instant::now();
    assert!(matches!(peer.read().await.unwrap().command, Command::Ping(_)));
    assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
    assert!(incoming.recv().await.is_none());
    assert_eq!(start.elapsed().as_secs(), IDLE.as_secs() * 3 / 2);
    assert!(connection.ended().is_some_and(|error| error.is_lost()));
}

#[tokio::test]
async fn who_waits_hears_how_the_connection_ended() {
    let (connection, _incoming, mut peer) = connected(64);
    let server = async {
        peer.read().await.unwrap();
        let after = Some(Duration::from_secs(5));
        let text = None;
        let reason = ByeReason::Stopping;
        peer.write(0, Bye { reason, text, retry_after: after, server: None }).await;
    };
    let (answer, ()) = tokio::join!(connection.call(fetch("bob")), server);
    let error = answer.unwrap_err();
    assert!(error.is_lost() && error.retry_after() == Some(Duration::from_secs(5)));
    let later = connection.call(fetch("bob")).await;
    assert!(matches!(later, Err(ClientError::Bye(_) | ClientError::Lost(_))));
}

#[tokio::test]
async fn bye_is_the_last_word() {
    let (connection, incoming, mut peer) = connected(64);
    drop(incoming);
    connection.bye().await;
    assert!(matches!(peer.read().await.unwrap().command, Command::Bye(_)));
    assert_eq!(peer.read().await, None);
}

#[tokio::test]
async fn what_does_not_fit_a_frame_is_told_and_costs_no_number() {
    let (connection, _incoming, mut peer) = connected(64);
    let big = Fetch { cursor: Some(Bytes::from(vec![0; FRAME_BYTES_MAX])), ..fetch("bob") };
    assert!(matches!(connection.call(big).await, Err(ClientError::TooLarge(_))));
    connection.reserve().await.unwrap().send(fetch("bob"), 1);
    assert_eq!(peer.read().await.unwrap().number, 3);
}

/// What is published again keeps nobody waiting for longer than a call may take, where the server answers
/// nothing any more.
#[tokio::test(start_paused = true)]
async fn g10_what_is_published_again_ends_in_time() {
    let (connection, _incoming, mut peer) = connected(64);
    let (own, limit) = (Address::parse("alice@a.example").unwrap(), Duration::from_secs(10));
    let published = Published::default();
    let hold = |wait| published.hold(tokio::time::Instant::now() + wait, limit);
    let patch = impp_protocol::presence::Patch::default();
    let said = crate::published::Said::among(Default::default()).changed(&patch);
    *hold(limit).await.unwrap() = said;
    published.again(&own, &connection, limit);
    // Its first question has left, and is not answered.
    assert!(matches!(peer.read().await.unwrap().command, Command::Fetch(_)));
    assert!(
        matches!(hold(limit / 2).await, Err(crate::ClientError::Timeout(after)) if after == limit)
    );
    assert!(hold(limit).await.is_ok(), "the try was given up");
    assert_eq!(published.is_said(tokio::time::Instant::now()).await, None);
}

/// What a newer server says with numbers that came later is passed over; whoever asked is told that
/// the answer cannot be read, and all goes on.
#[tokio::test]
async fn what_came_later_is_passed_over() {
    let (connection, mut incoming, mut peer) = connected(8);
    let server = async {
        for number in [3, 4] {
            assert!(matches!(peer.read().await.unwrap().command, Command::Fetch(_)), "{number}");
        }
        // A thing, a state and an event that are none.
        for wrong in [2, 3, 8] {
            let mut fields = Writer::default();
            fields.field(1, &Bytes::from_static(b"bob@a.example"));
            fields.field(2, &if wrong == 2 { 999 } else { 1_u64 });
            fields.field(3, &if wrong == 3 { 999 } else { 2_u64 });
            if wrong == 8 {
                fields.field(8, &999_u64);
            }
            peer.write_raw(Kind::Notify, 0, fields).await;
        }
        let mut error = Writer::default();
        error.field(1, &999_u64);
        error.field(2, &1_u64);
        peer.write_raw(Kind::Error, 3, error).await;
        peer.write(4, numbered(4)).await;
    };
    let (alice, bob) = (connection.call(fetch("alice")), connection.call(fetch("bob")));
    let (unknown, known, ()) = tokio::join!(alice, bob, server);
    let Err(ClientError::Answered(error)) = unknown else { panic!("{unknown:?}") };
    assert_eq!(error.code, Code::Internal);
    assert!(error.text.unwrap().contains("\"code\" (1)"));
    assert_eq!(known.unwrap().number, Some(4));
    assert!(incoming.try_recv().is_err(), "nothing was told");
    // An end is an end, for whatever reason.
    let mut bye = Writer::default();
    bye.field(1, &999_u64);
    peer.write_raw(Kind::Bye, 0, bye).await;
    assert!(matches!(connection.call(fetch("carol")).await, Err(ClientError::Bye(_))));
}
