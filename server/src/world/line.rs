//! One connection of a world: it delays what goes over it, delivers it in other pieces than it was
//! written, and hands up what TLS would have proven.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use impp_protocol::{Address, Domain};
use impp_trust::Unproven;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::net::Net;
use crate::wire::channel::Channel;

/// Bytes that are on their way in one direction before a writer waits.
const WINDOW_BYTES: usize = 32 * 1024;

/// How long a connection takes at most for everything, and for some of it more.
pub(super) const LINE_MILLIS: u64 = 60;
const MORE_MILLIS: u64 = 10;
/// So what is written has come by then, if it comes.
pub(super) const DELAY_MAX_MILLIS: u64 = LINE_MILLIS + MORE_MILLIS;

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Who has made it, and the how-manieth it is.
    pub(super) name: String,
    /// The domains whose servers it leads to or comes from.
    pub(super) domains: Vec<Domain>,
    /// What each end has written.
    pub(super) halves: [Half; 2],
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    /// It is broken, and both ends feel it.
    Cut,
    /// Nothing arrives any more, and nobody is told.
    Silent,
    /// Who has made it writes nothing more, and reads on.
    HalfClosed,
}

#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) flying: VecDeque<(Instant, Bytes)>,
    pub(super) bytes: usize,
    /// Nothing more is written.
    pub(super) ended: bool,
    /// The other end does not read any more.
    pub(super) gone: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// What a handshake has proven.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) called: Option<Domain>,
    pub(super) exporter: [u8; 32],
    pub(super) addresses: Vec<Address>,
    pub(super) server_of: Option<Domain>,
    /// Of which reading of the settings the server's side of it was.
    pub(super) reading: u64,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) line: Arc<Mutex<Line>>,
    /// Which of the halves it writes.
    pub(super) side: usize,
    pub(super) proof: Proof,
    pub(super) net: Net,
    pub(super) delay: Duration,
    pub(super) wait: Option<Pin<Box<Sleep>>>,
}

impl Line {
    /// This becomes of it.
    pub(super) fn falls(&mut self, fate: Fate) {
        match (self.fate, fate) {
            (Fate::Cut, _) => return,
            (_, Fate::HalfClosed) => self.halves[0].ended = true,
            _ => self.fate = fate,
        }
        self.wake();
    }

    fn wake(&mut self) {
        for half in &mut self.halves {
            for waker in [half.reader.take(), half.writer.take()].into_iter().flatten() {
                waker.wake();
            }
        }
    }
}

impl End {
    fn waits(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if wait.deadline() != until {
            wait.as_mut().reset(until);
        }
        match wait.as_mut().poll(context) {
            Poll::Ready(()) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.line.clone();
        let mut line = line.lock();
        let Line { name, halves, fate, .. } = &mut *line;
        let half = &mut halves[1 - self.side];
        half.reader = Some(context.waker().clone());
        match fate {
            Fate::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Fate::Silent => return Poll::Pending,
            Fate::Open | Fate::HalfClosed => {}
        }
        let Some((due, bytes)) = half.flying.front_mut() else {
            return if half.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if *due > Instant::now() {
            let due = *due;
            return self.waits(due, context);
        }
        let taken = bytes.split_to(bytes.len().min(buffer.remaining()));
        if !bytes.has_remaining() {
            half.flying.pop_front();
        }
        half.bytes -= taken.len();
        if let Some(writer) = half.writer.take() {
            writer.wake();
        }
        let digest = Sha256::digest(&taken);
        let digest =
            digest[..4].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        self.net.note(&format!("{name} {} {} bytes {digest}", self.side, taken.len()));
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut line = self.line.lock();
        let fate = line.fate;
        let half = &mut line.halves[self.side];
        match fate {
            Fate::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            // It is kept here until it is full, as a socket would.
            Fate::Silent | Fate::Open | Fate::HalfClosed if half.bytes >= WINDOW_BYTES => {
                half.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            _ if half.gone || half.ended => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            _ => {}
        }
        let mut dice = self.net.dice();
        let most = bytes.len().min(WINDOW_BYTES - half.bytes);
        // Now and then a piece.
        let taken = if most > 1 && dice.u8(..) < 32 { dice.usize(1..most) } else { most };
        let due = Instant::now() + self.delay + Duration::from_millis(dice.u64(0..MORE_MILLIS));
        let due = half.flying.back().map_or(due, |(last, _)| due.max(*last));
        half.bytes += taken;
        half.flying.push_back((due, Bytes::copy_from_slice(&bytes[..taken])));
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.line.lock();
        line.halves[self.side].ended = true;
        line.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut line = self.line.lock();
        line.halves[self.side].ended = true;
        line.halves[1 - self.side].gone = true;
        line.wake();
        drop(line);
        for who in &self.proof.addresses {
            self.net.left(who);
        }
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("line", &self.line.lock().name).finish_non_exhaustive()
    }
}

impl Channel for End {
    fn called(&self) -> Option<Domain> {
        self.proof.called.clone()
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        Some(self.proof.exporter)
    }

    fn end_point(&self) -> Option<[u8; 32]> {
        None
    }

    fn addresses(&self) -> Vec<Address> {
        self.proof.addresses.clone()
    }

    fn proves(&self, domain: &Domain) -> Result<(), Unproven> {
        match &self.proof.server_of {
            Some(proven) if proven == domain => Ok(()),
            _ => Err(Unproven::NoCertificate),
        }
    }
}
