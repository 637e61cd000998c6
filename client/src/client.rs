//! A client that outlives its connections: it connects when asked something, and again when the
//! connection was lost.
//!
//! What is asked is in `calls`; following things across reconnects is in `follow`.

use std::time::Duration;

use impp_protocol::Address;
use impp_protocol::command::{Command, Done};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::{self, Backoff};
use crate::connection::{Connection, Incoming};
use crate::error::ClientError;
use crate::profile::{self, Profile};
use crate::sign_in::{Identity, Kept};
use crate::tls::Endpoint;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a call may take, connecting and signing in again included.
    pub timeout: Duration,
    /// The program, as the server's log will name it.
    pub agent: String,
    /// What the owner will recognise this device by.
    pub device_name: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(10),
            agent: concat!("impp-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            device_name: None,
        }
    }
}

/// A client of one account on one device.
pub struct Client {
    endpoint: Endpoint,
    identity: Identity,
    options: Options,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Spares work; thrown away when a sign-in fails.
    kept: Kept,
}

impl Client {
    /// A client that is not connected yet. A profile without a device gets one for as long as the
    /// client lives; [`profile::ensure_device`] makes it last.
    ///
    /// # Errors
    /// [`ClientError::Profile`] if a file that the profile names cannot be used.
    pub fn new(profile: &Profile, options: Options) -> Result<Client, ClientError> {
        let identity = Identity {
            address: profile.address.clone(),
            credentials: profile.credentials.clone(),
            device: profile.device.map_or_else(profile::new_device, Ok)?,
            device_name: options.device_name.clone(),
            agent: options.agent.clone(),
        };
        let endpoint = Endpoint::from_profile(profile)?;
        Ok(Client { endpoint, identity, options, state: Mutex::default() })
    }

    /// Whose client this is.
    pub fn address(&self) -> &Address {
        &self.identity.address
    }

    /// The device's id.
    pub fn device(&self) -> &[u8; 16] {
        &self.identity.device
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The connection, a new one if there is none; one try.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is none.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let mut state = self.state.lock().await;
        match &state.connection {
            Some(connection) if connection.ended().is_none() => Ok(connection.clone()),
            _ => self.open(&mut state).await.map(|(connection, _)| connection),
        }
    }

    /// A new connection in place of the one there may be, with what comes over it unasked.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is none.
    pub async fn connect_anew(
        &self,
    ) -> Result<(Connection, mpsc::Receiver<Incoming>), ClientError> {
        self.open(&mut *self.state.lock().await).await
    }

    /// Asks once: for what must not be done twice.
    ///
    /// # Errors
    /// [`ClientError`]; after a lost connection or a timeout nobody knows whether it was done.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Done, ClientError> {
        let asked = async { self.connect().await?.call(command).await };
        let limit = self.options.timeout;
        timeout(limit, asked).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    /// Asks until there is an answer or the time is over: for what may be repeated. A connection
    /// that cannot be made at all is an error at once; one that is lost is made again.
    ///
    /// # Errors
    /// [`ClientError`]: the answer, or the last failure.
    pub async fn call_repeatable(&self, command: impl Into<Command>) -> Result<Done, ClientError> {
        let command = command.into();
        let deadline = Instant::now() + self.options.timeout;
        let mut was_connected = self.state.lock().await.connection.is_some();
        let (mut backoff, mut last) = (Backoff::default(), None);
        loop {
            let once = async {
                let connection = self.connect().await?;
                was_connected = true;
                connection.call(command.clone()).await
            };
            let error = match timeout_at(deadline, once).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(last.unwrap_or(ClientError::Timeout(self.options.timeout))),
            };
            let answered = matches!(error, ClientError::Answered(_));
            if answered || !was_connected || !error.is_transient() {
                return Err(error);
            }
            let wait = backoff.next(error.retry_after(), backoff::random());
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            last = Some(error);
            sleep(wait).await;
        }
    }

    /// Ends the connection and the session, with all that is bound to it.
    pub async fn close(&self) {
        if let Some(connection) = self.state.lock().await.connection.take() {
            connection.bye().await;
        }
    }

    async fn open(
        &self,
        state: &mut State,
    ) -> Result<(Connection, mpsc::Receiver<Incoming>), ClientError> {
        state.connection = None;
        let opening = Connection::open(&self.endpoint, &self.identity, state.kept.clone());
        let limit = self.options.timeout;
        let opened = timeout(limit, opening).await.unwrap_or(Err(ClientError::Timeout(limit)));
        if opened.as_ref().is_err_and(ClientError::is_sign_in) {
            state.kept = Kept::default();
        }
        let (connection, incoming, kept) = opened?;
        state.kept = kept;
        state.connection = Some(connection.clone());
        Ok((connection, incoming))
    }
}
