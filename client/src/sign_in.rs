//! The start of a connection: HELLO both ways and AUTH until it is answered by OK.
//!
//! Dialling is left to `tls`, everything after sign-in to `connection`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{
    Auth, Command, Done, EVERY_ITEM, Hello, PROTOCOL_VERSION, REPEATS, Request, SHORT_PAGES,
};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::sasl::scram::{self, Binding, Exporter, NONCE_RANDOM_BYTES, Nonce, SaltedKeys};
use impp_protocol::sasl::{AuthError, Mechanism, Password};
use impp_protocol::{Address, Code, DeviceId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::ClientError;
use crate::profile::{Credentials, ProfileError};

/// Who signs in.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) address: Address,
    pub(crate) credentials: Credentials,
    pub(crate) device: DeviceId,
    /// It is not named: the session is to be of none.
    pub(crate) deviceless: bool,
    pub(crate) device_name: Option<String>,
    pub(crate) agent: String,
}

/// What one connection leaves to spare the next one work. It is worth as much as the password to
/// whoever steals it.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Spares the password's hashing.
    pub(crate) keys: Option<SaltedKeys>,
    /// Resumes the session; the same again as long as no answer brings the next.
    pub(crate) ticket: Option<Ticket>,
    /// Whether the client will say what it holds of presence before it is told any.
    pub(crate) versions_follow: bool,
    /// The number of the last request of the session, over all its connections.
    pub(crate) numbers: Arc<AtomicU64>,
}

/// What signing in brought.
pub(crate) struct SignedIn {
    pub(crate) hello: Hello,
    /// When the server's HELLO came, so that its time can be told later.
    pub(crate) hello_at: Instant,
    /// The answer to the last AUTH.
    pub(crate) done: Done,
    /// What spares work on the next connection.
    pub(crate) kept: Kept,
    /// The number of the last request.
    pub(crate) last_request: u64,
    /// Bytes that came behind the last answer.
    pub(crate) rest: BytesMut,
}

/// Signs in over a new connection. HELLO and the first AUTH leave in one flight.
pub(crate) async fn sign_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    exporter: Exporter,
    identity: &Identity,
    kept: Kept,
) -> Result<SignedIn, ClientError> {
    let mut wire = Wire { stream, input: BytesMut::new(), hello: None };
    let mut flight = vec![(0, client_hello(identity).into())];
    let mut number = 1;
    if let Some(ticket) = kept.ticket {
        flight.push((number, resumption(&ticket, identity, &exporter, kept.versions_follow)));
        wire.write(&std::mem::take(&mut flight)).await?;
        if let Some(done) = resumed(wire.answer(number).await, &ticket, &exporter)? {
            let mut signed_in = wire.finish(identity, done, kept.keys, number)?;
            signed_in.kept.numbers = kept.numbers;
            return Ok(signed_in);
        }
        number += 1;
    }
    let (scram, first) = first_message(identity, exporter)?;
    flight.push((number, first_auth(first, identity)));
    wire.write(&flight).await?;
    let Some(scram) = scram else {
        return match wire.answer(number).await? {
            Command::Ok(done) => wire.finish(identity, done, None, number),
            other => Err(unexpected(&other)),
        };
    };
    let challenge = match wire.answer(number).await? {
        Command::Challenge(challenge) => challenge.data,
        other => return Err(unexpected(&other)),
    };
    let (answered, proof) = derive(scram, challenge, kept.keys).await?;
    number += 1;
    wire.write(&[(number, second_auth(proof))]).await?;
    match wire.answer(number).await? {
        Command::Ok(done) => {
            let keys = answered.handle_success(done.data.as_deref().unwrap_or_default())?;
            wire.finish(identity, done, Some(keys), number)
        }
        other => Err(unexpected(&other)),
    }
}

/// What is answered to a ticket; `None` if the session is gone: the password is asked for on the same
/// connection.
fn resumed(
    answer: Result<Command, ClientError>,
    ticket: &Ticket,
    exporter: &Exporter,
) -> Result<Option<Done>, ClientError> {
    match answer {
        Ok(Command::Ok(done)) => {
            let proof = done.data.as_deref().unwrap_or_default();
            match ticket.is_proven_by_server(exporter, proof) {
                true => Ok(Some(done)),
                false => Err(AuthError::ServerUnproven.into()),
            }
        }
        Err(ClientError::SignIn(error)) if error.code == Code::Expired => Ok(None),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(error),
    }
}

/// The AUTH that resumes a session.
fn resumption(
    ticket: &Ticket,
    identity: &Identity,
    exporter: &Exporter,
    versions_follow: bool,
) -> Command {
    let auth = Auth {
        data: Some(ticket.client_proof(exporter).to_vec().into()),
        device: Some(identity.device),
        resume: Some(ticket.session()),
        versions_follow,
        ..Auth::empty()
    };
    auth.into()
}

/// The AUTH with which a mechanism begins.
fn first_auth(first: Bytes, identity: &Identity) -> Command {
    let mechanism = match identity.credentials {
        Credentials::Password(_) => Mechanism::ScramSha256Plus,
        Credentials::Certificate { .. } => Mechanism::External,
        Credentials::Nothing => Mechanism::Anonymous,
    };
    let named = mechanism != Mechanism::Anonymous && !identity.deviceless;
    let auth = Auth {
        mechanism: Some(mechanism.name().to_owned()),
        data: Some(first),
        device: Some(identity.device).filter(|_| named),
        device_name: identity.device_name.clone().filter(|_| named),
        ..Auth::empty()
    };
    auth.into()
}

/// The AUTH that answers a challenge.
fn second_auth(proof: Bytes) -> Command {
    Auth { data: Some(proof), ..Auth::empty() }.into()
}

fn client_hello(identity: &Identity) -> Hello {
    let features = [EVERY_ITEM, SHORT_PAGES, REPEATS].map(str::to_owned).to_vec();
    Hello { features, agent: Some(identity.agent.clone()), ..Hello::empty() }
}

/// The mechanism's first message, and the machine that takes the answer if it expects one.
fn first_message(
    identity: &Identity,
    exporter: Exporter,
) -> Result<(Option<scram::Client>, Bytes), ClientError> {
    let password = match &identity.credentials {
        Credentials::Password(password) => password,
        // EXTERNAL: the certificate may name several addresses, and must name this one.
        Credentials::Certificate { .. } => {
            let address = Bytes::copy_from_slice(identity.address.as_str().as_bytes());
            return Ok((None, address));
        }
        // No word of who it is.
        Credentials::Nothing => return Ok((None, Bytes::new())),
    };
    let password =
        Password::prepare(password).map_err(|error| ProfileError::new(error.to_string()))?;
    let mut random = [0; NONCE_RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| ProfileError::new(format!("no randomness for signing in: {error}")))?;
    let (client, first) = scram::Client::start(
        identity.address.as_str(),
        password,
        Nonce::from_random(random),
        Binding::TlsExporter(exporter),
    )?;
    Ok((Some(client), first.into()))
}

/// The proof. A chosen password takes its time to be hashed, so that is done beside the runtime.
async fn derive(
    scram: scram::Client,
    challenge: Bytes,
    cached: Option<SaltedKeys>,
) -> Result<(scram::Answered, Bytes), ClientError> {
    let work = move || scram.handle_challenge(&challenge, cached.as_ref());
    let done = tokio::task::spawn_blocking(work).await;
    let (answered, proof) = done.map_err(|error| ClientError::Lost(error.to_string()))??;
    Ok((answered, proof.into()))
}

fn unexpected(command: &Command) -> ClientError {
    ClientError::Protocol(format!("{} where an answer to AUTH belongs", command.kind()))
}

/// Frames over a stream that is not yet signed in: one request at a time.
struct Wire<'a, S> {
    stream: &'a mut S,
    input: BytesMut,
    hello: Option<(Hello, Instant)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<'_, S> {
    async fn write(&mut self, requests: &[(u64, Command)]) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        for (number, command) in requests {
            let request = Request { number: *number, command: command.clone() };
            request.put(&mut out).map_err(|error| ClientError::TooLarge(error.to_string()))?;
        }
        // A server that refuses at once has closed before all is written: its word is read below.
        drop(self.stream.write_all(&out).await);
        drop(self.stream.flush().await);
        Ok(())
    }

    /// The answer to a request; HELLO is taken on the way.
    async fn answer(&mut self, number: u64) -> Result<Command, ClientError> {
        loop {
            let request = self.read().await?;
            match request.command {
                Command::Hello(hello) => {
                    if hello.version != PROTOCOL_VERSION {
                        let text =
                            format!("version {}, expected {PROTOCOL_VERSION}", hello.version);
                        return Err(ClientError::Protocol(text));
                    }
                    self.hello = Some((hello, Instant::now()));
                }
                Command::Bye(bye) => return Err(ClientError::Bye(bye)),
                Command::Error(error) if request.number == number || request.number == 0 => {
                    return Err(match error.code {
                        Code::Malformed | Code::Unsupported | Code::WrongState => {
                            ClientError::Answered(error)
                        }
                        _ => ClientError::SignIn(error),
                    });
                }
                command if request.number == number => return Ok(command),
                _ => {}
            }
        }
    }

    async fn read(&mut self) -> Result<Request, ClientError> {
        loop {
            match frame::take(&mut self.input, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    return Request::decode(frame)
                        .map_err(|error| ClientError::Protocol(error.to_string()));
                }
                Ok(None) => {}
                Err(error) => return Err(ClientError::Protocol(error.to_string())),
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => {
                    let text = "closed by the server during sign-in";
                    return Err(ClientError::Lost(text.to_owned()));
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn finish(
        self,
        identity: &Identity,
        done: Done,
        keys: Option<SaltedKeys>,
        last_request: u64,
    ) -> Result<SignedIn, ClientError> {
        if done.address.as_ref().is_some_and(|address| *address != identity.address) {
            return Err(ClientError::Sasl(AuthError::OtherIdentity));
        }
        let Some((hello, hello_at)) = self.hello else {
            return Err(ClientError::Protocol("no HELLO before the answer to AUTH".to_owned()));
        };
        let ticket = done.resume.as_deref().and_then(Ticket::decode);
        let kept = Kept { keys, ticket, ..Kept::default() };
        Ok(SignedIn { hello, hello_at, done, kept, last_request, rest: self.input })
    }
}
