//! Somebody who does as always: a PING and a MESSAGE at a steady rate, each at its time whatever
//! became of those before (an open loop). A time counts from when the request was due.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use impp_protocol::command::Ping;
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::{Command, Request};
use impp_tests::peer::{Peer, message};
use impp_tests::wire::bytes_of;
use impp_tests::{Server, fates::OPEN_INBOX};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsStream;

const PING_INTERVAL: Duration = Duration::from_millis(20);
const MESSAGE_INTERVAL: Duration = Duration::from_millis(50);
/// What has no answer after so long counts as if it had come then.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Bystander {
    pings: Line,
    messages: Line,
    /// To whom the messages go.
    friend: String,
}

/// What was seen of both.
pub(crate) struct Seen {
    pub pings: Times,
    pub messages: Times,
}

/// How long answers took, from the shortest.
pub(crate) struct Times {
    all: Vec<Duration>,
    /// How many of them were refusals.
    refused: usize,
}

/// A connection on which requests leave at their times.
struct Line {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// Numbers of answers, when they came, and whether they are OK.
    answers: UnboundedReceiver<(u64, Instant, bool)>,
    next: u64,
}

impl Bystander {
    /// ann asks, ben sends to cy.
    pub(crate) async fn start(server: &Server) -> Bystander {
        let mut cy = Peer::sign_in(server, "cy").await;
        cy.set_rules(OPEN_INBOX).await;
        cy.leave().await;
        Bystander {
            pings: Line::of(Peer::sign_in(server, "ann").await),
            messages: Line::of(Peer::sign_in(server, "ben").await),
            friend: server.account("cy"),
        }
    }

    /// Goes on for so long.
    pub(crate) async fn watch(&mut self, span: Duration) -> Seen {
        let Bystander { pings, messages, friend } = self;
        let (pings, messages) = tokio::join!(
            pings.run(span, PING_INTERVAL, || Ping::empty().into()),
            messages.run(span, MESSAGE_INTERVAL, || message(friend, "as always").into()),
        );
        Seen { pings, messages }
    }
}

impl Line {
    fn of(peer: Peer) -> Line {
        let (next, wire) = peer.into_wire();
        let (reader, writer) = tokio::io::split(wire.into_stream());
        let (sender, answers) = unbounded_channel();
        tokio::spawn(read(reader, sender));
        Line { writer, answers, next }
    }

    async fn run(&mut self, span: Duration, every: Duration, make: impl Fn() -> Command) -> Times {
        let (start, first) = (Instant::now(), self.next);
        let count = (span.as_nanos() / every.as_nanos()) as u32;
        let due = |n: u32| start + every * n;
        for n in 0..count {
            sleep_until(due(n)).await;
            let written = self.writer.write_all(&bytes_of(self.next, make())).await;
            written.expect("a bystander is not cut off");
            self.writer.flush().await.unwrap();
            self.next += 1;
        }
        let (mut times, mut refused) = (Vec::new(), 0);
        while times.len() < count as usize {
            let Ok(Some((number, at, is_ok))) = timeout(ANSWER_MAX, self.answers.recv()).await
            else {
                break;
            };
            refused += usize::from(!is_ok);
            // Those that came late for the time before are counted there.
            if let Some(n) = number.checked_sub(first) {
                times.push(at.duration_since(due(n as u32)));
            }
        }
        times.resize(count as usize, ANSWER_MAX);
        times.sort_unstable();
        Times { all: times, refused }
    }
}

/// Takes answers until the connection ends.
async fn read(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    answers: UnboundedSender<(u64, Instant, bool)>,
) {
    let mut input = BytesMut::new();
    while reader.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        while let Some(frame) = frame::take(&mut input, FRAME_BYTES_MAX).unwrap() {
            let Request { number, command } = Request::decode(frame).unwrap();
            if matches!(command, Command::Ok(_) | Command::Error(_)) {
                let is_ok = matches!(command, Command::Ok(_));
                let _ = answers.send((number, Instant::now(), is_ok));
            }
        }
    }
}

impl Times {
    fn at(&self, share: f64) -> f64 {
        let place = (self.all.len() as f64 * share) as usize;
        self.all.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}/{:.1}", self.at(0.5), self.at(0.99))?;
        if self.refused > 0 { write!(f, " ({} refused)", self.refused) } else { Ok(()) }
    }
}
