//! The opening of a link: HELLO from both ends, who each speaks for, and whether it has proven
//! that.
//!
//! TLS is up already and, on the dialling end, has proven the domain that was called.

use std::sync::Arc;

use impp_federation::settle::Identity;
use impp_protocol::command::{BODY_BYTES_MAX, Bye, ByeReason, Hello, MARKS, PROTOCOL_VERSION};
use impp_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNSIGNED};
use impp_protocol::{Code, Command, Domain, Error, Request};
use impp_trust::HandshakeError;
use tokio::time::Instant;

use super::words;
use crate::core::accounts::Accounts;
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::records::Services;
use crate::core::routes::Routes;
use crate::core::settings::Settings;
use crate::core::signal::Signal;
use crate::wire::pipe::{Event, Pipe, unreadable};

/// What the other end has said in its HELLO.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Who it is.
    pub identity: Identity,
    /// What it serves.
    pub services: Services,
    /// Requests that it takes before they are answered.
    pub requests_max: u64,
    /// It takes marks.
    pub marks: bool,
}

/// What this server says of itself to others, and whom it lets call.
#[derive(Debug)]
pub struct Openings {
    clock: Clock,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    routes: Arc<Routes>,
    /// What it is beyond a restart: its store.
    instance: [u8; 16],
    /// This run of it.
    boot: [u8; 16],
}

impl Openings {
    /// For the domains of these accounts.
    pub fn new(ground: &Ground, routes: Arc<Routes>, boot: [u8; 16]) -> Openings {
        let Ground { store, clock, settings, accounts, .. } = ground.clone();
        Openings { clock, settings, accounts, routes, instance: store.incarnation(), boot }
    }

    /// Opens a link from the dialling end.
    ///
    /// # Errors
    /// Why there is none, in the other side's words or ours.
    pub(super) async fn call(
        &self,
        pipe: &mut Pipe,
        local: &Domain,
        remote: &Domain,
        by: Instant,
    ) -> Result<Opened, Error> {
        say(pipe, self.hello(local))?;
        let hello = read_hello(pipe, by).await?;
        let opened = self.opened(&hello)?;
        if hello.domains != [remote.clone()] {
            let text = format!("HELLO: domains: {remote} was called, and another answers");
            return Err(Error::new(Code::Untrusted, text));
        }
        Ok(opened)
    }

    /// Opens a link from the end that was called: which domain was, which calls, and what it says.
    ///
    /// # Errors
    /// Why there is none, as it is to be told.
    pub(super) async fn answer(
        &self,
        pipe: &mut Pipe,
        by: Instant,
    ) -> Result<(Domain, Domain, Opened), Error> {
        let local = pipe.proven().called().filter(|name| self.accounts.domains().contains(name));
        let local =
            local.ok_or_else(|| Error::new(Code::UnknownDomain, "SNI: no domain hosted here"))?;
        let hello = read_hello(pipe, by).await?;
        let [remote] = &*hello.domains else {
            return Err(Error::new(
                Code::Malformed,
                "HELLO: domains: one, that the caller speaks for",
            ));
        };
        let opened = self.opened(&hello)?;
        if self.accounts.domains().contains(remote) {
            return Err(Error::new(Code::Refused, format!("{remote} is served here")));
        }
        if !self.routes.federates(remote) || !self.routes.federates(&local) {
            let text = format!("no links between {local} and {remote}");
            return Err(Error::new(Code::Refused, text));
        }
        let proven = pipe.proven().proves(remote);
        proven.map_err(|error| Error::new(Code::Untrusted, format!("{remote}: {error}")))?;
        say(pipe, self.hello(&local))?;
        Ok((local, remote.clone(), opened))
    }

    fn hello(&self, local: &Domain) -> Command {
        let config = self.settings.load();
        let links = &config.federation;
        Hello {
            features: links.services.iter().cloned().chain([MARKS.to_owned()]).collect(),
            agent: Some(concat!("imppd/", env!("CARGO_PKG_VERSION")).to_owned()),
            time: Some(self.clock.wall()),
            domains: vec![local.clone()],
            frame_max: Some(FRAME_BYTES_MAX as u64),
            body_max: Some(BODY_BYTES_MAX as u64),
            idle: Some(seconds(links.idle_seconds)),
            requests_max: Some(links.requests_in_flight_max),
            instance: Some(self.instance),
            boot: Some(self.boot),
            ..Hello::empty()
        }
        .into()
    }

    fn opened(&self, hello: &Hello) -> Result<Opened, Error> {
        if hello.version != PROTOCOL_VERSION {
            let text = format!("version {}, only {PROTOCOL_VERSION} is spoken", hello.version);
            return Err(Error::new(Code::Unsupported, text));
        }
        let (Some(instance), Some(boot)) = (hello.instance, hello.boot) else {
            return Err(Error::new(
                Code::Malformed,
                "HELLO: instance and boot are needed on a link",
            ));
        };
        if boot == self.boot {
            return Err(Error::new(Code::Loop, "the way to this domain leads back to its caller"));
        }
        let in_flight_max = self.settings.load().federation.requests_in_flight_max;
        Ok(Opened {
            identity: Identity { instance, boot },
            services: Services::named(&hello.features),
            marks: hello.features.iter().any(|name| name == MARKS),
            // What the other side would take beyond that is of no use.
            requests_max: hello.requests_max.unwrap_or(1).clamp(1, in_flight_max.max(1)),
        })
    }
}

/// Says why there is no link, and closes.
pub(super) async fn refuse(mut pipe: Pipe, error: Error) {
    let reason = match error.code {
        Code::Busy => ByeReason::Busy,
        _ => ByeReason::Protocol,
    };
    let farewell = [error.into(), Bye::new(reason, "see the error before").into()];
    for command in farewell {
        let _ = say(&mut pipe, command);
    }
    pipe.finish().await;
}

fn say(pipe: &mut Pipe, command: Command) -> Result<(), Error> {
    let put = (Request { number: 0, command }).put(pipe.output());
    put.map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// Writes what there is, and reads the other side's HELLO.
async fn read_hello(pipe: &mut Pipe, by: Instant) -> Result<Hello, Error> {
    let signal = Signal::default();
    let malformed = |text: String| Error::new(Code::Malformed, text);
    let unreachable = |text: &str| Error::new(Code::Unreachable, text);
    loop {
        let frame = pipe.take(FRAME_BYTES_MAX_UNSIGNED).map_err(|error| unreadable(&error))?;
        if let Some(frame) = frame {
            let request = Request::decode(frame).map_err(|error| malformed(error.to_string()))?;
            return match request.command {
                Command::Hello(hello) if request.number == 0 => Ok(hello),
                Command::Error(error) => Err(words::fit(error)),
                Command::Bye(bye) => {
                    let text = bye.text.as_deref().map(words::line);
                    Err(unreachable(text.as_deref().unwrap_or("the other side said goodbye")))
                }
                other => Err(malformed(format!("{} before HELLO, number 0", other.kind()))),
            };
        }
        match pipe.event(&signal, true, by, |_| false).await {
            Event::Input | Event::Output | Event::Woken => {}
            Event::Deadline => return Err(unreachable("no HELLO came in time")),
            Event::Closed => {
                // That our certificate is refused is told by the first read.
                return Err(match pipe.broken().map(HandshakeError::of_io) {
                    Some(error) => unreachable(&error.to_string()),
                    None => unreachable("the connection was closed before HELLO"),
                });
            }
        }
    }
}
