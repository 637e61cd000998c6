//! A client that outlives its connections: it connects when asked something, and again when the
//! connection was lost. Where a domain's presence and messages are on different servers, it has a
//! connection to each.
//!
//! What is asked is in `calls`; following things across reconnects is in `follow`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use impp_locate::{NotReachedKind, Service};
use impp_protocol::command::{Command, Done, Hello, INTO_GROUP, Publish, SERIES, SUPPOSE};
use impp_protocol::state::{self, RequestEdit};
use impp_protocol::{Address, DeviceId, What};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::{self, Backoff};
use crate::connection::{Connection, Incoming};
use crate::dial::Endpoint;
use crate::error::ClientError;
use crate::profile::{self, Profile};
use crate::published::Published;
use crate::sign_in::{Identity, Kept};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a call may take, connecting and signing in again included.
    pub timeout: Duration,
    /// The program, as the server's log will name it.
    pub agent: String,
    /// What the owner will recognise this device by.
    pub device_name: Option<String>,
    /// Signs in as no device: nothing is kept for it, so it can acknowledge, lease and publish nothing, and
    /// resumes no session.
    pub deviceless: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(10),
            agent: concat!("impp-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            device_name: None,
            deviceless: false,
        }
    }
}

/// A client of one account on one device.
pub struct Client {
    endpoint: Endpoint,
    identity: Identity,
    options: Options,
    /// What is bound to the session, and has to be said again where that has ended.
    pub(crate) published: Published,
    state: Mutex<State>,
    /// Held while a connection is opened, so that two calls share it: the first one for the server
    /// of both services, or of presence; the second one for that of messages. So a server that does
    /// not answer holds up only what is asked of it.
    opening: [tokio::sync::Mutex<()>; 2],
}

/// The ways to the servers of the two services; with one server for both they are the same.
#[derive(Default)]
struct State {
    presence: Lane,
    messages: Lane,
    /// The services are known to be on different servers.
    apart: bool,
}

#[derive(Default)]
struct Lane {
    connection: Option<Connection>,
    /// Spares work; thrown away when a sign-in fails.
    kept: Kept,
}

impl State {
    fn lane(&mut self, service: Service) -> &mut Lane {
        match service {
            Service::Presence => &mut self.presence,
            Service::Messages => &mut self.messages,
        }
    }

    /// Takes a service's connection away, also from the other one if that has the same.
    fn take(&mut self, service: Service) -> Option<Connection> {
        let taken = self.lane(service).connection.take()?;
        for lane in [&mut self.presence, &mut self.messages] {
            if lane.connection.as_ref().is_some_and(|other| other.is_same(&taken)) {
                lane.connection = None;
            }
        }
        Some(taken)
    }

    /// A connection that has not ended.
    fn connected(&mut self, service: Service) -> Option<Connection> {
        let connection = self.lane(service).connection.as_ref()?;
        connection.ended().is_none().then(|| connection.clone())
    }
}

/// Of this share of the time for a connection a server may be looked for; the rest is for signing
/// in.
const LOCATE_TENTHS: u32 = 8;

/// The service that a request belongs to.
fn service_of(command: &Command) -> Service {
    let what = match command {
        Command::Message(_) | Command::Ack(_) => return Service::Messages,
        Command::Fetch(fetch) => fetch.what,
        Command::Subscribe(subscribe) => subscribe.what,
        Command::Publish(publish) => publish.what,
        _ => return Service::Presence,
    };
    what.service().unwrap_or(Service::Presence)
}

/// Whether nothing is known any more of what was asked under this number.
fn is_forgotten(error: &ClientError) -> bool {
    matches!(error, ClientError::Answered(error) if error.forgotten)
}

/// Refuses to ask a server what it does not know: it would end the connection, or take it for less.
pub(crate) fn known_to(server: &Hello, command: &Command) -> Result<(), ClientError> {
    let (feature, what) = match command {
        Command::Fetch(fetch) if fetch.supposes() => (SUPPOSE, "it cannot say what rules would do"),
        Command::Fetch(fetch) if fetch.is_of_series() => (SERIES, READS_ON),
        Command::Subscribe(subscribe) if subscribe.at_end => (SERIES, READS_ON),
        Command::Publish(publish) if goes_into_group(publish) => {
            (INTO_GROUP, "it cannot make somebody a member of a group")
        }
        _ => return Ok(()),
    };
    let knows = server.features.iter().any(|known| known == feature);
    knows.then_some(()).ok_or(ClientError::Older(what))
}

/// What a server of before does with a log.
const READS_ON: &str = "it reads the log from a place on, and in no other way";

fn goes_into_group(publish: &Publish) -> bool {
    let edit = || state::decode::<RequestEdit>(publish.content.clone().unwrap_or_default());
    publish.what == What::Requests && edit().is_ok_and(|edit| edit.group.is_some())
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
            deviceless: options.deviceless,
            device_name: options.device_name.clone(),
            agent: options.agent.clone(),
        };
        let endpoint = Endpoint::from_profile(profile)?;
        Ok(Client {
            endpoint,
            identity,
            options,
            published: Published::default(),
            state: Mutex::default(),
            opening: Default::default(),
        })
    }

    /// Whose client this is.
    pub fn address(&self) -> &Address {
        &self.identity.address
    }

    /// The device's id.
    pub fn device(&self) -> DeviceId {
        self.identity.device
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The connection to the server of presence, or of messages where there is only that; a new one
    /// if there is none; one try.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is none.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        match self.connect_for(Service::Presence).await {
            Err(ClientError::NotLocated(error)) if error.kind == NotReachedKind::NotOffered => {
                self.connect_for(Service::Messages).await
            }
            connected => connected,
        }
    }

    /// The connection to the server of a service, a new one if there is none; one try.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is none.
    pub async fn connect_for(&self, service: Service) -> Result<Connection, ClientError> {
        let _opening = self.opening(service).lock().await;
        let connected = self.state().connected(service);
        match connected {
            Some(connection) => Ok(connection),
            None => self.open(service, false).await.map(|(connection, _)| connection),
        }
    }

    /// A new connection in place of the one there may be, with what comes over it unasked. With
    /// `versions_follow` presence comes when a SUBSCRIBE of the contacts has said what is held of it.
    ///
    /// # Errors
    /// [`ClientError`] saying why there is none.
    pub async fn connect_anew(
        &self,
        service: Service,
        versions_follow: bool,
    ) -> Result<(Connection, mpsc::Receiver<Incoming>), ClientError> {
        let _opening = self.opening(service).lock().await;
        self.open(service, versions_follow).await
    }

    /// Asks for what must not be done twice: once, and after a loss again only on the session on which it
    /// was asked, which knows whether it was done.
    ///
    /// # Errors
    /// [`ClientError`]; after a lost connection or a timeout nobody knows whether it was done.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Done, ClientError> {
        let command = command.into();
        let service = service_of(&command);
        let limit = self.options.timeout;
        let asked = self.ask_on_one_session(service, command);
        timeout(limit, asked).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    async fn ask_on_one_session(
        &self,
        service: Service,
        command: Command,
    ) -> Result<Done, ClientError> {
        let (mut backoff, mut asked, mut before) = (Backoff::default(), None, None);
        let mut connection = self.connect_for(service).await?;
        known_to(connection.hello(), &command)?;
        loop {
            let lost = match connection.call_as(command.clone(), &mut asked).await {
                Err(error) if error.is_lost() && asked.is_some() => error,
                // What was answered is not kept any more: nobody knows whether it was done.
                Err(error) if is_forgotten(&error) => return Err(before.unwrap_or(error)),
                answer => return answer,
            };
            connection = loop {
                sleep(backoff.next(lost.retry_after(), backoff::random())).await;
                match self.connect_for(service).await {
                    Ok(connection) => break connection,
                    Err(error) if error.is_transient() => {}
                    Err(_) => return Err(lost),
                }
            };
            if !asked.as_ref().is_some_and(|asked| asked.may_be_asked_on(&connection)) {
                return Err(lost);
            }
            before = Some(lost);
        }
    }

    /// Asks until there is an answer or the time is over: for what may be repeated. A connection
    /// that cannot be made at all is an error at once; one that is lost is made again.
    ///
    /// # Errors
    /// [`ClientError`]: the answer, or the last failure.
    pub async fn call_repeatable(&self, command: impl Into<Command>) -> Result<Done, ClientError> {
        self.call_repeatable_by(command, Instant::now() + self.options.timeout).await
    }

    /// The same, of a call that has taken some of its time already.
    pub(crate) async fn call_repeatable_by(
        &self,
        command: impl Into<Command>,
        deadline: Instant,
    ) -> Result<Done, ClientError> {
        let command = command.into();
        let service = service_of(&command);
        let mut was_connected = self.state().lane(service).connection.is_some();
        let (mut backoff, mut last, mut asked) = (Backoff::default(), None, None);
        loop {
            let once = async {
                let connection = self.connect_for(service).await?;
                was_connected = true;
                known_to(connection.hello(), &command)?;
                connection.call_as(command.clone(), &mut asked).await
            };
            let error = match timeout_at(deadline, once).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(last.unwrap_or(ClientError::Timeout(self.options.timeout))),
            };
            // What was answered to a repeat is not kept any more. This may be done twice.
            if last.is_some() && is_forgotten(&error) && asked.take().is_some() {
                last = None;
                continue;
            }
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

    /// Ends the connections and their sessions, with all that is bound to them.
    pub async fn close(&self) {
        for service in Service::ALL {
            let connection = self.state().take(service);
            if let Some(connection) = connection {
                connection.bye().await;
            }
        }
    }

    async fn open(
        &self,
        service: Service,
        versions_follow: bool,
    ) -> Result<(Connection, mpsc::Receiver<Incoming>), ClientError> {
        let limit = self.options.timeout;
        let kept = {
            let mut state = self.state();
            drop(state.take(service));
            Kept { versions_follow, ..state.lane(service).kept.clone() }
        };
        let opening = async {
            let by = Instant::now() + limit * LOCATE_TENTHS / 10;
            let dialled = self.endpoint.dial(service, by).await?;
            let services = dialled.services.clone();
            let opened = Connection::open(dialled, &self.identity, kept).await;
            opened.map(|opened| (opened, services))
        };
        let opened = timeout(limit, opening).await.unwrap_or(Err(ClientError::Timeout(limit)));
        if opened.as_ref().is_err_and(ClientError::is_sign_in) {
            self.state().lane(service).kept = Kept::default();
        }
        let ((connection, incoming, kept), services) = opened?;
        let mut state = self.state();
        if services.contains(&Service::Presence) {
            self.published.again(self.address(), &connection, limit);
        }
        state.apart = !Service::ALL.iter().all(|service| services.contains(service));
        for service in services {
            let (connection, kept) = (Some(connection.clone()), kept.clone());
            *state.lane(service) = Lane { connection, kept };
        }
        drop(state);
        Ok((connection, incoming))
    }

    fn opening(&self, service: Service) -> &tokio::sync::Mutex<()> {
        let apart = self.state().apart;
        match service {
            Service::Messages if apart => &self.opening[1],
            _ => &self.opening[0],
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::command::{Fetch, Ping, Publish, Subscribe};

    use super::*;

    #[test]
    fn requests_go_to_the_server_of_their_service() {
        let own = Address::parse("alice@a.example").unwrap();
        for what in What::EVERY.iter().copied() {
            // What is had of either is asked of that of presence.
            let service = what.service().unwrap_or(Service::Presence);
            assert_eq!(service_of(&Fetch::of(own.clone(), what).into()), service, "{what}");
            assert_eq!(service_of(&Subscribe::of(own.clone(), what).into()), service, "{what}");
            let publish = Publish::of(own.clone(), what, None);
            assert_eq!(service_of(&publish.into()), service, "{what}");
        }
        assert_eq!(service_of(&Ping::empty().into()), Service::Presence);
    }

    #[test]
    fn a_server_is_not_asked_what_it_does_not_know() {
        let own = Address::parse("alice@a.example").unwrap();
        let plain = Fetch::of(own, What::Explain);
        let dry_run = Fetch { rules: Some("".into()), ..plain.clone() };
        let (older, newer) =
            (Hello::empty(), Hello { features: vec![SUPPOSE.to_owned()], ..Hello::empty() });
        assert!(known_to(&older, &plain.clone().into()).is_ok());
        let refused = known_to(&older, &dry_run.clone().into()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the server is of an older version: it cannot say what rules would do"
        );
        assert!(!refused.is_transient());
        assert!(known_to(&newer, &dry_run.into()).is_ok());
        let back = Fetch { backwards: true, ..plain.clone() };
        let at_end = Subscribe { at_end: true, ..Subscribe::of(plain.address, What::Log) };
        let newest = Hello { features: vec![SERIES.to_owned()], ..Hello::empty() };
        for asked in [Command::from(back), at_end.into()] {
            assert!(known_to(&newer, &asked).is_err());
            assert!(known_to(&newest, &asked).is_ok());
        }
    }
}
