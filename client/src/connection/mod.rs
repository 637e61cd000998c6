//! One TLS connection, signed in: requests pipelined by number, and what comes unasked.
//!
//! A task writes (`writer`), a task reads (`reader`); `pending` joins a request to its answer.
//! Reconnecting is left to `client`, the meaning of what comes to `follow`.

mod pending;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use impp_protocol::command::{
    Bye, ByeReason, Command, Done, Hello, Message, Notify, Ping, REPEATS, REPEATS_MAX,
};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::{Error, SessionId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::dial::Dialled;
use crate::error::ClientError;
use crate::sign_in::{Identity, Kept, SignedIn, sign_in};
use pending::{Pending, Reply};
use writer::Order;

/// Most requests that wait to be written.
pub const OUTGOING_REQUESTS_MAX: usize = 64;
/// Most notifications, messages and answers that wait to be taken. When so many do, the
/// connection is read no further: the server conflates presence and keeps the log meanwhile.
pub const INCOMING_ITEMS_MAX: usize = 256;
/// Most unanswered requests, if the server's HELLO does not say.
pub const REQUESTS_MAX: usize = 64;
/// A PING is due after so much silence, if the server's HELLO does not say.
pub const IDLE_DEFAULT: Duration = Duration::from_secs(60);
/// How long the end of a connection may take before it is cut.
pub const BYE_TIMEOUT: Duration = Duration::from_secs(2);

/// What comes over a connection without [`Connection::call`] waiting for it, in its order.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// What changed in a thing that is followed.
    Notify(Notify),
    /// A message that is not stored (`volatile`).
    Message(Message),
    /// The answer to a request sent by [`Slot::send`] with this token.
    Answer {
        /// The sender's own word for its request.
        token: u64,
        /// What the server said.
        answer: Result<Done, Error>,
    },
}

/// A connection. Cloning gives another handle; the connection ends when all are dropped.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Order>,
}

struct Shared {
    hello: Hello,
    /// What the server last said of its time, and when.
    time: Mutex<Option<(Timestamp, Instant)>>,
    signed_in: Done,
    pending: Arc<Pending>,
    unanswered: Arc<Semaphore>,
}

/// Room for one request.
pub struct Slot<'a> {
    order: mpsc::Permit<'a, Order>,
    unanswered: OwnedSemaphorePermit,
}

impl Connection {
    /// Signs in over a new TLS connection. Also gives what comes unasked; who does not want that drops it.
    pub(crate) async fn open(
        dialled: Dialled,
        identity: &Identity,
        kept: Kept,
    ) -> Result<(Connection, mpsc::Receiver<Incoming>, Kept), ClientError> {
        let Dialled { mut stream, exporter, .. } = dialled;
        let signed_in = sign_in(&mut stream, exporter, identity, kept).await?;
        Ok(Connection::start(stream, signed_in))
    }

    /// Sets the tasks to work on a stream that is signed in.
    fn start<S: AsyncRead + AsyncWrite + Send + 'static>(
        stream: S,
        signed_in: SignedIn,
    ) -> (Connection, mpsc::Receiver<Incoming>, Kept) {
        let SignedIn { hello, hello_at, done, kept, last_request, rest } = signed_in;
        let (read_half, write_half) = tokio::io::split(stream);
        let (outgoing, orders) = mpsc::channel(OUTGOING_REQUESTS_MAX);
        let (incoming, receiver) = mpsc::channel(INCOMING_ITEMS_MAX);
        let pending = Arc::new(Pending::default());
        kept.numbers.fetch_max(last_request, Ordering::Relaxed);
        tokio::spawn(writer::run(write_half, orders, pending.clone(), kept.numbers.clone()));
        let reader = reader::Reader {
            pending: pending.clone(),
            orders: outgoing.downgrade(),
            incoming,
            idle: hello.idle.filter(|idle| !idle.is_zero()).unwrap_or(IDLE_DEFAULT),
        };
        tokio::spawn(reader.run(read_half, rest));

        let unanswered_max = hello.requests_max.and_then(|max| usize::try_from(max).ok());
        // Of more at once some might be forgotten, if the connection is lost then.
        let repeats = hello.features.iter().any(|feature| feature == REPEATS);
        let most = if repeats { REPEATS_MAX } else { REQUESTS_MAX };
        let unanswered_max = unanswered_max.unwrap_or(most).clamp(1, most);
        let shared = Shared {
            time: Mutex::new(hello.time.map(|time| (time, hello_at))),
            hello,
            signed_in: done,
            pending,
            unanswered: Arc::new(Semaphore::new(unanswered_max)),
        };
        (Connection { shared: Arc::new(shared), outgoing }, receiver, kept)
    }

    /// Sends a request and waits for its answer.
    ///
    /// Others may be on the way meanwhile. Who takes [`Incoming`] must go on taking it while this
    /// waits, or else send by [`Connection::reserve`].
    ///
    /// # Errors
    /// [`ClientError`]: what the server answered, or how the connection ended.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Done, ClientError> {
        let (reply, answer) = oneshot::channel();
        let Slot { order, unanswered } = self.reserve().await?;
        order.send(Order::Ask(Box::new(command.into()), Reply::Call(reply, unanswered)));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.ended().unwrap_or_else(dropped)),
        }
    }

    /// The same for what may be asked again: on a connection of the session on which it was asked before it
    /// has the number of then, so that it is done once.
    pub(crate) async fn call_as(
        &self,
        command: Command,
        asked: &mut Option<AskedOn>,
    ) -> Result<Done, ClientError> {
        let Some(session) = self.session() else { return self.call(command).await };
        let as_before = asked.take().filter(|asked| asked.session == session);
        let asked = asked.insert(as_before.unwrap_or_else(|| AskedOn::new(session)));
        let (reply, answer) = oneshot::channel();
        let Slot { order, unanswered } = self.reserve().await?;
        let reply = Reply::Call(reply, unanswered);
        order.send(Order::AskAs(Box::new(command), reply, asked.number.clone()));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.ended().unwrap_or_else(dropped)),
        }
    }

    /// The session whose repeats the server knows by their numbers, if it does.
    pub(crate) fn session(&self) -> Option<SessionId> {
        let repeats = self.shared.hello.features.iter().any(|feature| feature == REPEATS);
        let ticket = self.shared.signed_in.resume.as_deref().and_then(Ticket::decode)?;
        repeats.then(|| ticket.session())
    }

    /// Room for one request whose answer comes as [`Incoming::Answer`], in order with all else.
    ///
    /// # Errors
    /// [`ClientError`] saying how the connection ended.
    pub async fn reserve(&self) -> Result<Slot<'_>, ClientError> {
        let ended = || self.ended().unwrap_or_else(dropped);
        let unanswered = self.shared.unanswered.clone();
        let order = self.outgoing.reserve().await.map_err(|_| ended())?;
        let unanswered = unanswered.acquire_owned().await.map_err(|_| ended())?;
        Ok(Slot { order, unanswered })
    }

    /// The server's HELLO.
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// What the server said when it took the sign-in.
    pub fn signed_in(&self) -> &Done {
        &self.shared.signed_in
    }

    /// The server's time now, if it tells it.
    pub fn server_time(&self) -> Option<Timestamp> {
        let (time, at) = (*self.shared.time.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(time.after(at.elapsed()))
    }

    /// Asks the server for its time: its clock may have been set since it was last told.
    pub(crate) async fn ask_time(&self) -> Result<(), ClientError> {
        if let Some(time) = self.call(Ping::empty()).await?.time {
            let mut known = self.shared.time.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some((time, Instant::now()));
        }
        Ok(())
    }

    /// Whether another handle is one to this connection.
    pub(crate) fn is_same(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// How the connection ended, if it has.
    pub fn ended(&self) -> Option<ClientError> {
        self.shared.pending.ended()
    }

    /// Ends the connection and its session: waits until the word is written, but not for long.
    pub async fn bye(self) {
        let bye = Bye { reason: ByeReason::Done, text: None, retry_after: None, server: None };
        let (written, done) = oneshot::channel();
        let finish = async {
            if self.outgoing.send(Order::Bye(bye, written)).await.is_ok() {
                drop(done.await);
            }
        };
        drop(tokio::time::timeout(BYE_TIMEOUT, finish).await);
    }
}

/// A request that was asked on a session: under which number, once it is on its way.
#[derive(Debug)]
pub(crate) struct AskedOn {
    session: SessionId,
    number: Arc<AtomicU64>,
}

impl AskedOn {
    fn new(session: SessionId) -> AskedOn {
        AskedOn { session, number: Arc::default() }
    }

    /// Whether the server may have had it, and if so knows a repeat of it on this connection.
    pub(crate) fn may_be_asked_on(&self, connection: &Connection) -> bool {
        connection.session() == Some(self.session)
    }
}

impl Slot<'_> {
    /// Sends the request. `token` is the sender's own word for it.
    pub fn send(self, command: impl Into<Command>, token: u64) {
        let reply = Reply::Incoming(token, self.unanswered);
        self.order.send(Order::Ask(Box::new(command.into()), reply));
    }
}

fn dropped() -> ClientError {
    ClientError::Lost("closed".to_owned())
}
