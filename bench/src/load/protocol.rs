//! What the scenarios know of a protocol: a server that runs, people who sign in, and what they say
//! and hear. What is said in it, and how the server is set up, is in `protocols/`.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Something that comes later, on this thread.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a scenario asks of a server before it starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// So many people have accounts; they are called by their numbers.
    pub people: usize,
    /// So many of the first may be followed by all.
    pub watched: usize,
    /// What these show is seen in so many views, where there is such a thing.
    pub views: usize,
    /// Messages are stored before they are acknowledged, and acknowledged when they have come.
    pub stored: bool,
    /// Nothing is set otherwise than it is by default.
    pub defaults: bool,
    /// Who signs in shows first that it is there.
    pub present: bool,
}

/// A server that runs, and ends when this is dropped.
pub(crate) trait Protocol {
    /// Its processes.
    fn processes(&self) -> Vec<u32>;

    /// Signs somebody in over a new connection with a full handshake.
    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>>;

    /// Takes up somebody's session again, who has lost the connection; none if there is no such
    /// thing. The handshake is short if `by_ticket`.
    fn resume(&self, _who: usize, _by_ticket: bool) -> Option<Later<'_, io::Result<Client>>> {
        None
    }

    /// How often it has made sure that what it wrote is on the disk; none if it does not tell.
    fn syncs(&self) -> Option<f64> {
        None
    }

    /// Bytes that have gone between servers; none if there is one only.
    fn carried(&self) -> Option<u64> {
        None
    }

    /// What is set otherwise than by default.
    fn settings(&self) -> Vec<String>;

    /// Kills it on the spot, and starts it again on what it has stored.
    fn crash(&mut self) {}

    /// The bodies of what waits for somebody.
    fn waiting(&self, who: usize) -> Later<'_, io::Result<Vec<Bytes>>>;
}

/// Somebody who has signed in.
pub(crate) struct Client {
    pub stream: TlsStream<TcpStream>,
    pub speech: Box<dyn Speech>,
}

/// What has come.
#[derive(Debug)]
pub(crate) enum Came {
    /// A message, with its body or more.
    Message(Bytes),
    /// What somebody who is followed shows, with its text or more.
    Status(Bytes),
    /// A message of one's own has been taken.
    Taken,
    /// A request has been refused.
    Refused,
    /// One has been refused because there were too many.
    Throttled,
    /// Something else.
    Else,
}

/// How somebody talks: pure, bytes in and out.
pub(crate) trait Speech {
    /// Sends a message.
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut);

    /// Shows a status of two fields, of which one is this text.
    fn publish(&mut self, text: &str, out: &mut BytesMut);

    /// Asks to be told what somebody shows.
    fn follow(&mut self, whom: usize, out: &mut BytesMut);

    /// Takes what has come and is whole. What has to be answered to it goes out.
    fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut, came: &mut Vec<Came>);
}
