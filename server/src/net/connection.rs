//! One connection from TLS to its end: frames in and out, deadlines, signing in, and then the
//! session's requests.
//!
//! What requests do is left to `session`.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use impp_protocol::command::{
    BODY_BYTES_MAX, ByeReason, CommandError, EVERY_ITEM, Hello, PROTOCOL_VERSION, Ping,
};
use impp_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNSIGNED, Frame, FrameError};
use impp_protocol::sasl::scram::Nonce;
use impp_protocol::{Code, Command, Domain, Error, Kind, Request};
use impp_trust::certificate;
use tokio::time::Instant;

use super::admission::Place;
use super::liveness::{Doing, Liveness, Overdue, Patience};
use super::pipe::{Event, Pipe};
use super::rate::Rate;
use super::tls::EXPORTER_LABEL;
use crate::answers::{Answer, Later};
use crate::config::seconds;
use crate::host::{Host, bye};
use crate::session::sign_in::{Progress, Proof, SignIn, offered};
use crate::session::{Session, entry};
use crate::signal::Signal;

/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(5);
/// Failed sign-ins on one connection before it is closed.
const FAILED_SIGN_INS_MAX: u32 = 3;

/// Where the connection is.
enum Phase {
    /// Before the client's HELLO.
    Opening(Place),
    /// After it, before the end of the sign-in.
    SigningIn(Place, Box<SignIn>, u32),
    /// The client asks and is told.
    SignedIn(Box<Session>),
    /// Nothing more is read.
    Ending,
}

/// See the module.
pub struct Connection {
    host: Arc<Host>,
    pipe: Pipe,
    peer: IpAddr,
    phase: Phase,
    signal: Arc<Signal>,
    waiting: FuturesUnordered<Numbered>,
    answered: Vec<(u64, Command)>,
    rate: Rate,
    sign_in_deadline: Instant,
    liveness: Liveness,
    pings: u64,
    /// The PING whose answer is still out.
    unanswered: Option<u64>,
    /// The client has ended the session itself.
    finished: bool,
    /// The client's HELLO says that it takes items of every kind.
    every_item: bool,
}

/// An answer that waits, with its request's number.
type Numbered = std::pin::Pin<Box<dyn Future<Output = (u64, Command)> + Send>>;

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(
        host: Arc<Host>,
        pipe: Pipe,
        peer: IpAddr,
        place: Place,
        sign_in_deadline: Instant,
    ) -> Connection {
        let now = Instant::now();
        let limits = &host.config.load().limits;
        let rate = Rate::new(now, limits.requests_per_second, limits.requests_burst);
        Connection {
            pipe,
            peer,
            phase: Phase::Opening(place),
            signal: Arc::default(),
            waiting: FuturesUnordered::new(),
            answered: Vec::new(),
            rate,
            sign_in_deadline,
            liveness: Liveness::new(now),
            pings: 0,
            unanswered: None,
            finished: false,
            every_item: false,
            host,
        }
    }

    /// Serves the connection to its end.
    pub async fn run(mut self) {
        while !matches!(self.phase, Phase::Ending) {
            self.take_frames().await;
            self.tell().await;
            if matches!(self.phase, Phase::Ending) {
                break;
            }
            match self.wait().await {
                Event::Input => self.liveness.heard(Instant::now()),
                Event::Output => self.liveness.progress(Instant::now()),
                Event::Woken => {
                    for (number, command) in std::mem::take(&mut self.answered) {
                        self.answer(number, command);
                    }
                }
                Event::Deadline => self.overdue(),
                Event::Closed => {
                    // The peer may have closed only its own side: what it asked is answered.
                    self.answer_waiting().await;
                    break;
                }
            }
        }
        self.lose(Duration::ZERO).await;
        let Connection { pipe, .. } = self;
        pipe.finish(Instant::now() + FAREWELL).await;
    }

    /// Answers what waits for the store.
    async fn answer_waiting(&mut self) {
        for (number, command) in std::mem::take(&mut self.answered) {
            self.answer(number, command);
        }
        if let Phase::SignedIn(session) = &self.phase {
            session.hurry();
        }
        while let Some((number, command)) = self.waiting.next().await {
            self.answer(number, command);
        }
    }

    /// The session outlives the connection, unless the client has ended it.
    async fn lose(&mut self, longer: Duration) {
        if let Phase::SignedIn(session) = std::mem::replace(&mut self.phase, Phase::Ending) {
            if self.finished {
                session.end(&self.host).await;
            } else {
                let grace = seconds(self.host.config.load().times.grace_seconds) + longer;
                session.park(&self.host, grace).await;
            }
        }
    }

    async fn wait(&mut self) -> Event {
        let deadline = self.deadline();
        let reading = self.may_read();
        let Connection { pipe, signal, waiting, answered, phase, .. } = self;
        let mailbox = match phase {
            Phase::SignedIn(session) => Some(session.mailbox.clone()),
            _ => None,
        };
        let signal = mailbox.as_ref().map_or(&**signal, |mailbox| &mailbox.signal);
        let others = |context: &mut Context<'_>| {
            while let Poll::Ready(Some(answer)) = waiting.poll_next_unpin(context) {
                answered.push(answer);
            }
            !answered.is_empty()
        };
        pipe.event(signal, reading, deadline, others).await
    }

    /// Requests are read as long as answers can be kept.
    fn may_read(&self) -> bool {
        let limits = &self.host.config.load().limits;
        self.pipe.output_len() < limits.push_buffer_bytes as usize
            && (self.waiting.len() as u64) < limits.requests_in_flight_max
    }

    async fn take_frames(&mut self) {
        while self.may_read() {
            let max = match self.phase {
                Phase::SignedIn(_) => FRAME_BYTES_MAX,
                Phase::Ending => return,
                Phase::Opening(_) | Phase::SigningIn(..) => FRAME_BYTES_MAX_UNSIGNED,
            };
            match self.pipe.take(max) {
                Ok(Some(frame)) => {
                    self.liveness.frame_ended();
                    self.take_frame(frame).await;
                }
                Ok(None) => break,
                Err(error) => {
                    let code = match error {
                        FrameError::TooLarge { .. } => Code::TooLarge,
                        FrameError::Malformed(_) => Code::Malformed,
                    };
                    self.break_off(0, Error::new(code, error.to_string()));
                }
            }
        }
        // Only while it is the peer who is waited for.
        let part_left = self.pipe.is_mid_frame() && self.may_read();
        self.liveness.frames_taken(Instant::now(), part_left);
    }

    async fn take_frame(&mut self, frame: Frame) {
        let number = frame.request;
        let free = [Kind::Bye, Kind::Ok].map(Kind::number).contains(&frame.kind);
        if !free && let Err(after) = self.rate.take(Instant::now()) {
            let text = "too many requests; slow down";
            let error = Error::new(Code::RateLimited, text).retry_after(after);
            if self.rate.is_abused() {
                return self.break_off(number, error);
            }
            return self.answer(number, error.into());
        }
        match Request::decode(frame) {
            Ok(Request { number, command }) => self.take_command(number, command).await,
            Err(error @ CommandError::UnknownKind(_)) => {
                self.answer(number, Error::new(Code::Unsupported, error.to_string()).into());
            }
            Err(error @ CommandError::Malformed { .. }) => {
                self.break_off(number, Error::new(Code::Malformed, error.to_string()));
            }
        }
    }

    async fn take_command(&mut self, number: u64, command: Command) {
        match (std::mem::replace(&mut self.phase, Phase::Ending), command) {
            (_, Command::Bye(_)) if number != 0 => {
                self.break_off(number, Error::new(Code::Malformed, "BYE: its number is 0"));
            }
            (phase, Command::Bye(bye)) => {
                self.phase = phase;
                // What was asked before is answered before.
                self.answer_waiting().await;
                self.finished = bye.reason == ByeReason::Done;
                self.lose(Duration::ZERO).await;
            }
            (Phase::Opening(place), Command::Hello(hello)) if number == 0 => {
                self.hello(&hello, place);
            }
            (Phase::SigningIn(place, sign_in, failed), Command::Auth(auth)) if number != 0 => {
                let proof = self.proof();
                self.auth(number, auth, place, sign_in, failed, proof).await;
            }
            (Phase::SignedIn(session), Command::Ok(_)) if self.unanswered == Some(number) => {
                self.unanswered = None;
                // Who only listens uses its device too.
                session.is_there(&self.host);
                self.phase = Phase::SignedIn(session);
            }
            (Phase::SignedIn(mut session), command) => {
                let answer = self.ask(&mut session, number, command).await;
                self.phase = Phase::SignedIn(session);
                match answer {
                    Ok(Some(command)) => self.answer(number, command),
                    Ok(None) => {}
                    Err(error) => self.break_off(number, error),
                }
            }
            (phase @ Phase::Opening(_), command) => {
                self.phase = phase;
                let text = format!("{} before HELLO, which has number 0", command.kind());
                self.break_off(number, Error::new(Code::WrongState, text));
            }
            (phase @ Phase::SigningIn(..), command) => {
                self.phase = phase;
                let text = format!("{} before sign-in", command.kind());
                self.break_off(number, Error::new(Code::NotSignedIn, text));
            }
            (Phase::Ending, _) => {}
        }
    }

    async fn ask(
        &mut self,
        session: &mut Session,
        number: u64,
        command: Command,
    ) -> Result<Option<Command>, Error> {
        if number == 0 {
            let text = format!("{}: a request has a number from 1", command.kind());
            return Err(Error::new(Code::Malformed, text));
        }
        match session.handle(&self.host, command).await {
            Answer::Now(command) => Ok(Some(command)),
            Answer::Later(later) => {
                self.waiting.push(numbered(number, later));
                Ok(None)
            }
        }
    }

    fn hello(&mut self, hello: &Hello, place: Place) {
        if hello.version != PROTOCOL_VERSION {
            let text = format!("version {}, only {PROTOCOL_VERSION} is spoken", hello.version);
            return self.break_off(0, Error::new(Code::Unsupported, text));
        }
        self.every_item = hello.features.iter().any(|feature| feature == EVERY_ITEM);
        let config = self.host.config.load();
        let mechanisms = match self.proof() {
            Some(proof) => offered(&proof),
            None => Vec::new(),
        };
        let answer = Hello {
            version: PROTOCOL_VERSION,
            features: Vec::new(),
            agent: Some(concat!("imppd/", env!("CARGO_PKG_VERSION")).to_owned()),
            time: Some(self.host.clock.now()),
            domains: self.host.accounts.domains().to_vec(),
            mechanisms: mechanisms.iter().map(|mechanism| mechanism.name().to_owned()).collect(),
            frame_max: Some(FRAME_BYTES_MAX as u64),
            body_max: Some(BODY_BYTES_MAX as u64),
            idle: Some(seconds(config.times.idle_seconds)),
            requests_max: Some(config.limits.requests_in_flight_max),
            instance: None,
            boot: None,
        };
        self.answer(0, answer.into());
        self.phase = Phase::SigningIn(place, Box::default(), 0);
    }

    async fn auth(
        &mut self,
        number: u64,
        auth: impp_protocol::command::Auth,
        place: Place,
        mut sign_in: Box<SignIn>,
        failed: u32,
        proof: Option<Proof>,
    ) {
        let mut random = [0; 18];
        let (Some(proof), Ok(())) = (proof, getrandom::fill(&mut random)) else {
            return self.break_off(number, Error::new(Code::Internal, "no channel binding"));
        };
        if auth.resume.is_some() {
            let resumed = entry::resume(&self.host, &auth, &proof.exporter).await;
            self.host.metrics.sign_in("resume", resumed.is_ok());
            return match resumed {
                Ok((session, done)) => {
                    self.answer(number, done.into());
                    self.signed_in(session);
                }
                Err(error) => self.not_signed_in(number, error, place, failed),
            };
        }
        let nonce = Nonce::from_random(random);
        let (accounts, secret) = (&self.host.accounts, &self.host.secrets.decoy);
        let mut progress = sign_in.handle(auth, accounts, secret, &proof, nonce);
        if let Ok(Progress::Done(account, device, data)) = progress {
            match entry::enter(&self.host, account, device, data).await {
                Ok((session, done)) => {
                    self.count_sign_in(&sign_in, true);
                    self.answer(number, done.into());
                    self.signed_in(session);
                    return;
                }
                Err(error) => progress = Err(error),
            }
        }
        match progress {
            Ok(Progress::Challenge(challenge)) => {
                self.answer(number, challenge.into());
                self.phase = Phase::SigningIn(place, sign_in, failed);
            }
            Ok(Progress::Done(..)) => {}
            Err(error) => {
                self.count_sign_in(&sign_in, false);
                self.not_signed_in(number, error, place, failed);
            }
        }
    }

    fn signed_in(&mut self, mut session: Session) {
        session.every_item = self.every_item;
        self.phase = Phase::SignedIn(Box::new(session));
    }

    /// The client may try again, but not for ever.
    fn not_signed_in(&mut self, number: u64, error: Error, place: Place, failed: u32) {
        if failed + 1 >= FAILED_SIGN_INS_MAX {
            return self.break_off(number, error);
        }
        self.answer(number, error.into());
        self.phase = Phase::SigningIn(place, Box::default(), failed + 1);
    }

    fn count_sign_in(&self, sign_in: &SignIn, ok: bool) {
        let mechanism = sign_in.mechanism.map_or("unknown", |mechanism| mechanism.name());
        self.host.metrics.sign_in(mechanism, ok);
    }

    fn proof(&self) -> Option<Proof> {
        let tls = self.pipe.accepted()?;
        let exporter = tls.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok()?;
        let domain = Domain::parse(tls.server_name()?).ok()?;
        let certificate = tls.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(certificate::addresses).unwrap_or_default();
        Some(Proof { exporter, domain, certificate })
    }

    /// Tells the client what is new, as long as there is room.
    async fn tell(&mut self) {
        let Phase::SignedIn(session) = &mut self.phase else { return };
        let room = self.host.config.load().limits.push_buffer_bytes as usize;
        if self.pipe.output_len() == 0 {
            self.liveness.progress(Instant::now());
        }
        if let Some(bye) = session.tell(&self.host, self.pipe.output(), room).await {
            self.finished |= matches!(bye.reason, ByeReason::Revoked);
            let longer = bye.retry_after.unwrap_or_default();
            self.answer(0, bye.into());
            self.lose(longer).await;
        }
    }

    /// Writes an answer, or an unsolicited frame with number 0.
    fn answer(&mut self, number: u64, command: Command) {
        if let Command::Error(error) = &command {
            self.host.metrics.refuse(error.code);
        }
        if self.pipe.output_len() == 0 {
            self.liveness.progress(Instant::now());
        }
        let kind = command.kind();
        if let Err(error) = (Request { number, command }).put(self.pipe.output()) {
            tracing::error!(%kind, %error, "an answer does not fit a frame");
            let error = Error::new(Code::TooLarge, "the answer does not fit a frame");
            let _ = (Request { number, command: error.into() }).put(self.pipe.output());
        }
    }

    /// Answers an error after which nothing more can be read, and says goodbye.
    fn break_off(&mut self, number: u64, error: Error) {
        tracing::debug!(peer = %self.peer, %error, "protocol");
        self.answer(number, error.into());
        self.answer(0, bye(ByeReason::Protocol, "see the error before").into());
        self.let_go();
    }

    /// The connection ends from this side; the session stays for its grace.
    fn let_go(&mut self) {
        if let Phase::SignedIn(session) = std::mem::replace(&mut self.phase, Phase::Ending) {
            let host = self.host.clone();
            let grace = seconds(host.config.load().times.grace_seconds);
            tokio::spawn(async move { session.park(&host, grace).await });
        }
    }

    fn patience(&self) -> Patience {
        let config = self.host.config.load();
        let signed_in = matches!(self.phase, Phase::SignedIn(_));
        Patience {
            idle: signed_in.then(|| seconds(config.times.idle_seconds)),
            frame: seconds(config.limits.frame_seconds),
            stall: seconds(config.limits.stall_seconds),
        }
    }

    fn doing(&self) -> Doing {
        Doing { reading: self.may_read(), writing: self.pipe.output_len() > 0 }
    }

    fn deadline(&self) -> Instant {
        let patience = self.patience();
        let sign_in = patience.idle.is_none().then_some(self.sign_in_deadline);
        let live = self.liveness.deadline(Instant::now(), &patience, self.doing());
        sign_in.into_iter().chain(live).min().unwrap_or(self.sign_in_deadline)
    }

    /// A deadline has passed: a PING is due, or the end.
    fn overdue(&mut self) {
        let (patience, doing, now) = (self.patience(), self.doing(), Instant::now());
        let end = match self.liveness.overdue(now, &patience, doing) {
            Overdue::End(text) => text,
            Overdue::Ping => {
                self.pings += 1;
                self.unanswered = Some(self.pings);
                return self.answer(self.pings, Ping {}.into());
            }
            Overdue::Nothing if patience.idle.is_none() && now >= self.sign_in_deadline => {
                "signing in took too long"
            }
            Overdue::Nothing => return,
        };
        self.answer(0, bye(ByeReason::Timeout, end).into());
        self.let_go();
    }
}

fn numbered(number: u64, later: Later) -> Numbered {
    Box::pin(async move { (number, later.await) })
}
