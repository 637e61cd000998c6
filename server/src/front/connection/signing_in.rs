//! A connection before it has a session: HELLO, and signing in, a few times at most.
//!
//! What proves who somebody is, is left to `session::sign_in`.

use std::net::IpAddr;

use futures_util::FutureExt;
use impp_protocol::command::{
    Auth, BODY_BYTES_MAX, Bye, ByeReason, Done, EVERY_ITEM, FEATURES_OF_SERVER, Hello,
    PROTOCOL_VERSION, REPEATS, SHORT_PAGES,
};
use impp_protocol::frame::FRAME_BYTES_MAX;
use impp_protocol::sasl::Mechanism;
use impp_protocol::sasl::scram::{NONCE_RANDOM_BYTES, Nonce};
use impp_protocol::{Code, Error, Kind, Request, SessionId};
use tokio::time::Instant;

use super::{Connection, Phase};
use crate::core::answers::Stored;
use crate::core::config::seconds;
use crate::front::Entrance;
use crate::session::sign_in::{Judge, Progress, Proof, SignIn, offered, too_often};
use crate::session::{Session, entry};
use crate::wire::admission::Place;
use crate::wire::driver::Heard;

/// Failed sign-ins on one connection before it is closed. One that is begun anew has failed.
const FAILED_SIGN_INS_MAX: u32 = 3;
/// Frames that are taken before sign-in: twice as many as it takes to fail so often and to go.
const FRAMES_MAX_UNSIGNED: u32 = 16;
/// With so many bytes waiting to be written, nothing more is read from who has not signed in.
pub(super) const OUTPUT_BYTES_MAX_UNSIGNED: usize = 16 * 1024;

/// What a connection has until it is known whose it is.
pub(super) struct Early {
    pub place: Place,
    /// By when it has to sign in.
    pub deadline: Instant,
    /// Frames that have come.
    frames: u32,
    /// Sign-ins that have failed.
    failed: u32,
}

impl Early {
    pub(super) fn new(place: Place, deadline: Instant) -> Early {
        Early { place, deadline, frames: 0, failed: 0 }
    }
}

impl Connection {
    /// What is said of a command that needs a session, or a HELLO.
    pub(super) fn too_early(&self, kind: Kind) -> Error {
        match self.phase {
            Phase::Opening => {
                let text = format!("{kind} before HELLO, which has number 0");
                Error::new(Code::WrongState, text)
            }
            _ => Error::new(Code::NotSignedIn, format!("{kind} before sign-in")),
        }
    }

    /// What was heard, unless it is more than is taken before sign-in.
    pub(super) fn counted(&mut self, heard: Heard) -> Heard {
        let Some(early) = &mut self.early else { return heard };
        early.frames += 1;
        if early.frames <= FRAMES_MAX_UNSIGNED {
            return heard;
        }
        let number = match heard {
            Heard::Request(Request { number, .. }) => number,
            Heard::Refused(number, _) | Heard::Unfit(number, ..) | Heard::Breach(number, _) => {
                number
            }
        };
        Heard::Breach(number, Error::new(Code::RateLimited, "too many frames before sign-in"))
    }

    /// Leaves at once: another has its place. It is told as far as that takes no waiting.
    pub(super) fn make_way(mut self) {
        self.entrance.made_way(self.peer);
        self.answer(0, Bye::new(ByeReason::Busy, "too many have not signed in").into());
        let _ = self.driver.finish().now_or_never();
    }

    pub(super) fn hello(&mut self, hello: &Hello) {
        if hello.version != PROTOCOL_VERSION {
            let text = format!("version {}, only {PROTOCOL_VERSION} is spoken", hello.version);
            return self.break_off(0, Error::new(Code::Unsupported, text));
        }
        let names = |feature: &str| hello.features.iter().any(|named| named == feature);
        (self.every_item, self.short_pages) = (names(EVERY_ITEM), names(SHORT_PAGES));
        self.repeats = names(REPEATS);
        let config = self.entrance.settings.load();
        let mechanisms = match self.proof() {
            Some(proof) => {
                let nameless = self.lets_in_nameless(&proof).then_some(Mechanism::Anonymous);
                offered(&proof).into_iter().chain(nameless).collect()
            }
            None => Vec::new(),
        };
        let (limits, times) = (&config.limits, &config.times);
        let answer = Hello {
            features: FEATURES_OF_SERVER.map(str::to_owned).to_vec(),
            agent: Some(concat!("imppd/", env!("CARGO_PKG_VERSION")).to_owned()),
            time: Some(self.entrance.clock.wall()),
            domains: self.proof().into_iter().map(|proof| proof.domain).collect(),
            mechanisms: mechanisms.iter().map(|mechanism| mechanism.name().to_owned()).collect(),
            frame_max: Some(FRAME_BYTES_MAX as u64),
            body_max: Some(BODY_BYTES_MAX as u64),
            idle: Some(seconds(times.idle_seconds)),
            requests_max: Some(limits.requests_in_flight_max),
            requests_per_second: Some(limits.requests_per_second),
            requests_burst: Some(limits.requests_burst),
            work_per_second: Some(limits.work_per_second),
            work_burst: Some(limits.work_burst),
            stored_per_second: Some(limits.stored_bytes_per_second),
            stored_burst: Some(limits.stored_bytes_burst),
            lease_min: Some(seconds(times.lease_min_seconds)),
            lease_max: Some(seconds(times.lease_max_seconds)),
            leases_max: Some(limits.leases_max),
            ..Hello::empty()
        };
        self.answer(0, answer.into());
        self.phase = Phase::SigningIn(Box::default());
    }

    pub(super) async fn auth(
        &mut self,
        number: u64,
        auth: Auth,
        mut sign_in: Box<SignIn>,
        proof: Option<Proof>,
    ) {
        let (Some(proof), Ok(random)) = (proof, self.entrance.chance.bytes()) else {
            return self.break_off(number, Error::new(Code::Internal, "no channel binding"));
        };
        let is_first = auth.mechanism.is_some() || auth.resume.is_some();
        if is_first && sign_in.is_under_way() && self.has_failed_for_good() {
            let error = Error::new(Code::AuthFailed, "the sign-in was begun anew too often");
            return self.break_off(number, error);
        }
        if auth.resume.is_some() {
            return self.resume(number, &auth, &proof).await;
        }
        if self.asks_nameless(&auth, &proof) {
            return self.visit(number, proof);
        }
        let (entrance, every) = (self.entrance.clone(), self.every_item);
        let mut progress = judged(&entrance, self.peer, &mut sign_in, auth, &proof, random).await;
        if let Ok(Progress::Done(account, device, data)) = progress {
            let (serving, accounts) = (&entrance.serving, &entrance.accounts);
            match entry::enter(serving, accounts, account, device, every).await {
                Ok(session) => {
                    self.count_sign_in(&sign_in, true);
                    let ticket = session.client.mailbox.newest_ticket();
                    let done = Done { data: data.map(Into::into), ..session.welcome(&ticket) };
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
                self.phase = Phase::SigningIn(sign_in);
            }
            Ok(Progress::Done(..) | Progress::Held(..)) => {}
            Err(error) => {
                self.count_sign_in(&sign_in, false);
                self.not_signed_in(number, error);
            }
        }
    }

    async fn resume(&mut self, number: u64, auth: &Auth, proof: &Proof) {
        let (serving, accounts) = (&self.entrance.serving, &self.entrance.accounts);
        let every = self.every_item;
        let resumed = entry::resume(serving, accounts, auth, proof, every).await;
        self.entrance.metrics.sign_in("resume", resumed.is_ok());
        match resumed {
            Ok((session, done)) => {
                self.answer(number, done.into());
                self.signed_in(session);
            }
            Err(error) => self.not_signed_in(number, error),
        }
    }

    /// A session begins, drawn by chance as its id is.
    pub(super) fn begins(&mut self, SessionId(id): SessionId) {
        self.early = None;
        self.driver.spread(u64::from_le_bytes(id.first_chunk().copied().unwrap_or_default()));
    }

    fn signed_in(&mut self, mut session: Session) {
        session.keep_answers(self.repeats);
        // Only those who were there when the stop began have been told of it.
        if self.entrance.stopping.begun.is_cancelled() {
            session.client.mailbox.end(self.stopping());
        }
        self.begins(session.client.mailbox.id);
        self.phase = Phase::SignedIn(Box::new(session));
    }

    /// The client may try again, but not for ever.
    pub(super) fn not_signed_in(&mut self, number: u64, error: Error) {
        if self.has_failed_for_good() {
            return self.break_off(number, error);
        }
        self.answer(number, error.into());
        self.phase = Phase::SigningIn(Box::default());
    }

    /// A sign-in has failed: whether that was the last on this connection.
    fn has_failed_for_good(&mut self) -> bool {
        self.early.as_mut().is_none_or(|early| {
            early.failed += 1;
            early.failed >= FAILED_SIGN_INS_MAX
        })
    }

    fn count_sign_in(&self, sign_in: &SignIn, ok: bool) {
        let mechanism = sign_in.mechanism.map_or("unknown", |mechanism| mechanism.name());
        self.entrance.metrics.sign_in(mechanism, ok);
    }

    pub(super) fn proof(&self) -> Option<Proof> {
        let proven = self.driver.pipe().proven();
        let (exporter, domain) = (proven.exporter()?, proven.called()?);
        let (end_point, certificate) = (proven.end_point(), proven.addresses());
        Some(Proof { exporter, end_point, takes_unbound: false, domain, certificate })
    }
}

/// What comes of an AUTH. Who has to wait for what others did does not, on a device that has
/// proven the password before. That is one look into the store for every name, known or not.
async fn judged(
    entrance: &Entrance,
    from: IpAddr,
    sign_in: &mut SignIn,
    auth: Auth,
    proof: &Proof,
    random: [u8; NONCE_RANDOM_BYTES],
) -> Result<Progress, Error> {
    let (guesses, now) = (&entrance.guesses, entrance.clock.now());
    let config = entrance.settings.load();
    let wait_max = seconds(config.limits.failed_sign_in_wait_seconds);
    let iterations = config.scram_iterations(proof.domain.as_str());
    let (accounts, decoys) = (&*entrance.accounts, (&entrance.secrets.decoy, iterations));
    let judge = Judge { accounts, decoys, proof, guesses, from, now, wait_max };
    let nonce = Nonce::from_random(random);
    match sign_in.handle(auth, judge, &nonce)? {
        Progress::Held(address, device, wait) => {
            match entrance.serving.devices.is_known(&address, device).await.stored()? {
                true => sign_in.known(judge, &nonce),
                false => Err(too_often(wait)),
            }
        }
        progress => Ok(progress),
    }
}
