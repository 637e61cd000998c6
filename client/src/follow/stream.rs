//! The shell around the machine: it connects, writes what the machine asks, reads what comes.

use std::time::Instant;

use bytes::Bytes;
use impp_locate::Service;
use impp_protocol::command::ByeReason;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::{Event, Machine, Wanted};
use crate::backoff::{self, Backoff};
use crate::client::{Client, known_to};
use crate::connection::{BYE_TIMEOUT, Connection, Incoming};
use crate::error::ClientError;

/// The least wait after another connection of this device took over: two programs that share a
/// profile shall not wrest it from each other without a pause.
const REPLACED_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// A stream of what is followed, over as many connections as it takes.
pub struct Follower<'a> {
    client: &'a Client,
    service: Service,
    machine: Machine,
    link: Option<Link>,
    backoff: Backoff,
    retry_at: Instant,
}

type Link = (Connection, mpsc::Receiver<Incoming>);

impl Client {
    /// Follows things. This connects; a connection lost later is made again, but the first one
    /// must come about.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is no connection.
    pub async fn follow(&self, wanted: Wanted) -> Result<Follower<'_>, ClientError> {
        let service = wanted.service();
        let mut machine = Machine::new(self.address().clone(), wanted);
        let link = self.connect_anew(service, machine.says_versions()).await?;
        machine.handle_connected();
        Ok(Follower {
            client: self,
            service,
            machine,
            link: Some(link),
            backoff: Backoff::default(),
            retry_at: Instant::now(),
        })
    }
}

impl Follower<'_> {
    /// The next event. A call that is given up loses nothing.
    ///
    /// # Errors
    /// [`ClientError`] that no further try will help.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Ok(event);
            }
            match &mut self.link {
                Some(link) => match step(link, &mut self.machine).await? {
                    Stepped::Took => self.backoff.reset(),
                    Stepped::Sent => {}
                    Stepped::Ended(error) => return self.handle_failure(error),
                },
                None => {
                    sleep_until(self.retry_at.into()).await;
                    match self.client.connect_anew(self.service, self.machine.says_versions()).await
                    {
                        Ok(link) => self.link = Some(link),
                        Err(error) => return self.handle_failure(error),
                    }
                    self.machine.handle_connected();
                    return Ok(Event::Back);
                }
            }
        }
    }

    /// Tells the server that this device has all up to a cursor. [`Event::Acked`] comes when it
    /// knows; until then this is repeated on new connections.
    pub fn ack(&mut self, cursor: Bytes) {
        self.machine.ack(cursor);
    }

    /// Whether the server may not know yet of the last [`Follower::ack`].
    pub fn is_acking(&self) -> bool {
        self.machine.is_acking()
    }

    /// Whether anybody's presence, or the log, is still followed.
    pub fn is_following(&self) -> bool {
        self.machine.is_following()
    }

    /// Ends what is followed, then the connection and its session.
    pub async fn end(mut self) {
        if let Some((connection, incoming)) = self.link.take() {
            // Nobody takes what comes any more; the connection must not wait for that.
            drop(incoming);
            let unsubscribe = async {
                for (command, token) in self.machine.end() {
                    let Ok(slot) = connection.reserve().await else { return };
                    slot.send(command, token);
                }
            };
            drop(timeout(BYE_TIMEOUT, unsubscribe).await);
        }
        self.client.close().await;
    }

    fn handle_failure(&mut self, error: ClientError) -> Result<Event, ClientError> {
        self.link = None;
        if error.is_sign_in() || !error.is_transient() {
            return Err(error);
        }
        let mut wait = self.backoff.next(error.retry_after(), backoff::random());
        if matches!(&error, ClientError::Bye(bye) if bye.reason == ByeReason::Replaced) {
            wait += REPLACED_WAIT;
        }
        self.retry_at = Instant::now() + wait;
        Ok(Event::Lost { error, wait })
    }
}

enum Stepped {
    Took,
    Sent,
    Ended(ClientError),
}

/// Waits for one thing: something comes, there is room for a request, or it is time.
async fn step(link: &mut Link, machine: &mut Machine) -> Result<Stepped, ClientError> {
    let (connection, incoming) = link;
    let ended = |connection: &Connection| {
        let dropped = || ClientError::Lost("closed".to_owned());
        Stepped::Ended(connection.ended().unwrap_or_else(dropped))
    };
    let wake = machine.poll_timeout();
    tokio::select! {
        biased;
        item = incoming.recv() => match item {
            Some(item) => machine.handle(Instant::now(), item).map(|()| Stepped::Took),
            None => Ok(ended(connection)),
        },
        slot = connection.reserve(), if machine.has_request() => match slot {
            Ok(slot) => {
                if let Some((command, token)) = machine.poll_request() {
                    known_to(connection.hello(), &command)?;
                    slot.send(command, token);
                }
                Ok(Stepped::Sent)
            }
            Err(error) => Ok(Stepped::Ended(error)),
        },
        () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
            machine.handle_timeout(Instant::now());
            Ok(Stepped::Sent)
        }
    }
}
