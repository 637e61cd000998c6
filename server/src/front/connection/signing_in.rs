//! A connection before it has a session: HELLO, and signing in, a few times at most.
//!
//! What proves who somebody is, is left to `session::sign_in`.

use impp_protocol::command::{Auth, BODY_BYTES_MAX, Done, EVERY_ITEM, Hello, PROTOCOL_VERSION};
use impp_protocol::frame::FRAME_BYTES_MAX;
use impp_protocol::sasl::scram::Nonce;
use impp_protocol::{Code, Error, Kind};

use super::{Connection, Phase};
use crate::core::config::seconds;
use crate::session::sign_in::{Progress, Proof, SignIn, offered};
use crate::session::{Session, entry};
use crate::wire::admission::Place;

/// Failed sign-ins on one connection before it is closed.
const FAILED_SIGN_INS_MAX: u32 = 3;

impl Connection {
    /// What is said of a command that needs a session, or a HELLO.
    pub(super) fn too_early(&self, kind: Kind) -> Error {
        match self.phase {
            Phase::Opening(_) => {
                let text = format!("{kind} before HELLO, which has number 0");
                Error::new(Code::WrongState, text)
            }
            _ => Error::new(Code::NotSignedIn, format!("{kind} before sign-in")),
        }
    }

    pub(super) fn hello(&mut self, hello: &Hello, place: Place) {
        if hello.version != PROTOCOL_VERSION {
            let text = format!("version {}, only {PROTOCOL_VERSION} is spoken", hello.version);
            return self.break_off(0, Error::new(Code::Unsupported, text));
        }
        self.every_item = hello.features.iter().any(|feature| feature == EVERY_ITEM);
        let config = self.entrance.settings.load();
        let mechanisms = match self.proof() {
            Some(proof) => offered(&proof),
            None => Vec::new(),
        };
        let answer = Hello {
            version: PROTOCOL_VERSION,
            features: Vec::new(),
            agent: Some(concat!("imppd/", env!("CARGO_PKG_VERSION")).to_owned()),
            time: Some(self.entrance.clock.wall()),
            domains: self.entrance.accounts.domains().to_vec(),
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

    pub(super) async fn auth(
        &mut self,
        number: u64,
        auth: Auth,
        place: Place,
        mut sign_in: Box<SignIn>,
        failed: u32,
        proof: Option<Proof>,
    ) {
        let (Some(proof), Ok(random)) = (proof, self.entrance.chance.bytes()) else {
            return self.break_off(number, Error::new(Code::Internal, "no channel binding"));
        };
        let (accounts, every) = (self.entrance.accounts.clone(), self.every_item);
        let accounts = &*accounts;
        if auth.resume.is_some() {
            return self.resume(number, &auth, place, failed, &proof).await;
        }
        let nonce = Nonce::from_random(random);
        let secret = &self.entrance.secrets.decoy;
        let mut progress = sign_in.handle(auth, accounts, secret, &proof, nonce);
        if let Ok(Progress::Done(account, device, data)) = progress {
            match entry::enter(&self.entrance.serving, accounts, account, device, every).await {
                Ok(session) => {
                    self.count_sign_in(&sign_in, true);
                    let done = Done { data: data.map(Into::into), ..session.welcome() };
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

    async fn resume(&mut self, number: u64, auth: &Auth, place: Place, failed: u32, proof: &Proof) {
        let (serving, accounts) = (&self.entrance.serving, &self.entrance.accounts);
        let every = self.every_item;
        let resumed = entry::resume(serving, accounts, auth, &proof.exporter, every).await;
        self.entrance.metrics.sign_in("resume", resumed.is_ok());
        match resumed {
            Ok((session, done)) => {
                self.answer(number, done.into());
                self.signed_in(session);
            }
            Err(error) => self.not_signed_in(number, error, place, failed),
        }
    }

    fn signed_in(&mut self, session: Session) {
        // Only those who were there when the stop began have been told of it.
        if self.entrance.stopping.begun.is_cancelled() {
            session.client.mailbox.end(self.stopping());
        }
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
        self.entrance.metrics.sign_in(mechanism, ok);
    }

    pub(super) fn proof(&self) -> Option<Proof> {
        let proven = self.driver.pipe().proven();
        let (exporter, domain) = (proven.exporter()?, proven.called()?);
        Some(Proof { exporter, domain, certificate: proven.addresses() })
    }
}
