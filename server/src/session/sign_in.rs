//! Signing in: HELLO and AUTH in, CHALLENGE and the account out. A pure machine; nonces and time come
//! in, and whether a device is known that would have to wait otherwise.
//!
//! Entering the device and the session into the tables is left to `net::connection`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Auth, Challenge, DEVICE_NAME_BYTES_MAX};
use impp_protocol::sasl::resume::{Binding, Bound, EndPoint};
use impp_protocol::sasl::scram::{Challenged, Exporter, Iterations, Nonce, Server, Verifier};
use impp_protocol::sasl::{AuthError, Mechanism, asks_for, external_authzid};
use impp_protocol::{Address, Code, DeviceId, Domain, Error, Timestamp};

use super::guesses::{Guess, Guesses};
use crate::core::accounts::{Account, Accounts};
use crate::core::records::AccountState;

/// What the connection itself proves.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The exporter that a sign-in is bound to.
    pub exporter: Exporter,
    /// The end point that the server has proven itself by.
    pub end_point: Option<EndPoint>,
    /// Whether who comes this way may have tickets that nothing binds.
    pub takes_unbound: bool,
    /// The domain that the client asked TLS for; its accounts alone can sign in here.
    pub domain: Domain,
    /// Addresses in the client's certificate, if one was presented and is trusted.
    pub certificate: Vec<Address>,
}

impl Proof {
    /// Whether an address is in the domain that the connection is for.
    pub fn covers(&self, address: &Address) -> bool {
        address.domain_str() == self.domain.as_str()
    }

    /// What this connection brings for a kind of binding.
    ///
    /// # Errors
    /// refused, if it has none.
    pub fn bound(&self, binding: Binding) -> Result<Bound, Error> {
        let bound = match binding {
            Binding::Exporter => Some(Bound::Exporter(self.exporter)),
            Binding::EndPoint => self.end_point.map(Bound::EndPoint),
            Binding::Unbound => self.takes_unbound.then_some(Bound::Nothing),
        };
        let refused = || Error::new(Code::Refused, format!("binding {binding} is not taken here"));
        bound.ok_or_else(refused)
    }
}

/// The sign-in of one connection.
#[derive(Debug, Default)]
pub struct SignIn {
    step: Step,
    /// The mechanism in use, for the metrics.
    pub mechanism: Option<Mechanism>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Start,
    /// It has to wait, unless its device is known.
    Held(Box<Named>),
    /// The same, with its proof: others have failed since the challenge.
    HeldProof(Box<Asked>, Bytes),
    Challenged(Box<Asked>),
    Over,
}

/// Who wants to sign in, by what was said first.
#[derive(Debug)]
struct Named {
    server: Server,
    address: Address,
    device: Device,
    guess: Guess,
}

/// A challenge that is out.
#[derive(Debug)]
struct Asked {
    challenged: Challenged,
    /// Who it is said to be.
    address: Address,
    /// The one whose keys the challenge is of, if there is one.
    account: Option<Arc<Account>>,
    device: Device,
    /// As what the answer counts.
    guess: Guess,
}

/// What a sign-in is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// Who can sign in.
    pub accounts: &'a Accounts,
    /// From which decoys are made, and how often their passwords are hashed.
    pub decoys: (&'a [u8; 32], Iterations),
    /// What the connection proves.
    pub proof: &'a Proof,
    /// Who has failed before.
    pub guesses: &'a Guesses,
    /// Where the connection comes from.
    pub from: IpAddr,
    /// The time.
    pub now: Timestamp,
    /// How long who has failed has to wait at most.
    pub wait_max: Duration,
}

/// A device as the first AUTH names it, or that it names none.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its id; that of nobody, if it is none.
    pub id: DeviceId,
    /// What it calls itself.
    pub name: Option<String>,
    /// What its tickets are to be bound by.
    pub binding: Binding,
}

impl Device {
    /// # Errors
    /// malformed, if it is none; too-large; refused, if its tickets cannot be bound so.
    fn named(auth: &Auth, proof: &Proof) -> Result<Device, Error> {
        let wrong = |text: &str| Err(Error::new(Code::Malformed, text));
        let id = match auth.device {
            Some(DeviceId::NIL) => {
                return wrong("device: draw 16 random octets, or leave it out; all zero is none");
            }
            None if auth.device_name.is_some() => return wrong("device_name: of no device"),
            id => id.unwrap_or(DeviceId::NIL),
        };
        let name = auth.device_name.clone();
        if name.as_ref().is_some_and(|name| name.len() > DEVICE_NAME_BYTES_MAX) {
            let text = format!("device_name: at most {DEVICE_NAME_BYTES_MAX} bytes are taken");
            return Err(Error::new(Code::TooLarge, text));
        }
        let binding = auth.binding.unwrap_or(Binding::Exporter);
        proof.bound(binding)?;
        Ok(Device { id, name, binding })
    }
}

/// What comes of an AUTH.
#[derive(Debug)]
pub enum Progress {
    /// Another step is needed.
    Challenge(Challenge),
    /// Too often somebody has failed who may be this one: it has to wait so long, unless it is this
    /// device of this account; then [`SignIn::known`] goes on.
    Held(Address, DeviceId, Duration),
    /// This account is signed in, on this device; the mechanism's last message goes with the OK.
    Done(Arc<Account>, Device, Option<Vec<u8>>),
}

impl SignIn {
    /// Whether a challenge is out.
    pub fn is_under_way(&self) -> bool {
        matches!(self.step, Step::Challenged(..))
    }

    /// Handles an AUTH.
    ///
    /// # Errors
    /// [`Error`] to be answered; the sign-in has to be started anew.
    pub fn handle(
        &mut self,
        auth: Auth,
        judge: Judge<'_>,
        nonce: &Nonce,
    ) -> Result<Progress, Error> {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Challenged(asked) if auth.mechanism.is_none() => {
                self.finish(*asked, auth.data.unwrap_or_default(), judge)
            }
            _ => self.begin(auth, judge, nonce),
        }
    }

    fn begin(&mut self, auth: Auth, judge: Judge<'_>, nonce: &Nonce) -> Result<Progress, Error> {
        let Some(name) = &auth.mechanism else {
            return Err(Error::new(Code::Malformed, "mechanism: missing"));
        };
        let proof = judge.proof;
        let mechanism = offered(proof).into_iter().find(|mechanism| mechanism.name() == *name);
        let Some(mechanism) = mechanism else {
            return Err(Error::new(Code::NotOffered, format!("mechanism {name:?} is not offered")));
        };
        self.mechanism = Some(mechanism);
        let device = Device::named(&auth, proof)?;
        let data = auth.data.unwrap_or_default();
        if mechanism == Mechanism::External {
            let account = external(&data, judge.accounts, proof)?;
            return Ok(Progress::Done(account, device, None));
        }
        let server = Server::start(mechanism, &data, Some(&proof.exporter))
            .map_err(|error| answer(&error))?;
        let address = server.account_in(&proof.domain).map_err(|error| answer(&error))?;
        let guess = Guess::new(&address, judge.from);
        let named = Named { server, address, device, guess };
        match judge.guesses.wait(judge.now, &named.guess, judge.wait_max) {
            None => self.challenge(named, judge, nonce),
            Some(wait) => {
                let held = Progress::Held(named.address.clone(), named.device.id, wait);
                self.step = Step::Held(Box::new(named));
                Ok(held)
            }
        }
    }

    /// Goes on with a sign-in that was held: its device has proven the password before.
    ///
    /// # Errors
    /// rate-limited, if that has failed too often as well; others as of [`SignIn::handle`].
    pub fn known(&mut self, judge: Judge<'_>, nonce: &Nonce) -> Result<Progress, Error> {
        let named = match std::mem::replace(&mut self.step, Step::Over) {
            Step::Held(named) => named,
            Step::HeldProof(asked, message) => {
                let guess = Guess::known(&asked.address, asked.device.id);
                judge.guesses.take(judge.now, &guess, judge.wait_max).map_err(too_often)?;
                return prove(Asked { guess, ..*asked }, &message, judge);
            }
            _ => return Err(Error::new(Code::Internal, "nobody was held")),
        };
        let guess = Guess::known(&named.address, named.device.id);
        match judge.guesses.wait(judge.now, &guess, judge.wait_max) {
            None => self.challenge(Named { guess, ..*named }, judge, nonce),
            Some(wait) => Err(too_often(wait)),
        }
    }

    fn challenge(
        &mut self,
        named: Named,
        judge: Judge<'_>,
        nonce: &Nonce,
    ) -> Result<Progress, Error> {
        let Named { server, address, device, guess } = named;
        let Judge { accounts, decoys: (secret, iterations), proof, .. } = judge;
        // The decoy is made for known accounts too: both take the same time.
        let decoy = Verifier::decoy(secret, address.as_str(), iterations);
        let account = accounts.get(&address).filter(|_| proof.covers(&address));
        if account.is_none() && proof.covers(&address) {
            accounts.not_closed(&address)?;
        }
        let verifier = account.as_ref().map_or(&decoy, |account| &account.verifier);
        let (challenged, data) =
            server.challenge(&address, verifier, nonce).map_err(|error| answer(&error))?;
        let asked = Asked { challenged, address, account, device, guess };
        self.step = Step::Challenged(Box::new(asked));
        Ok(Progress::Challenge(Challenge { data: data.into() }))
    }

    /// Looks at a proof, if it may be made now.
    fn finish(
        &mut self,
        asked: Asked,
        message: Bytes,
        judge: Judge<'_>,
    ) -> Result<Progress, Error> {
        let Err(wait) = judge.guesses.take(judge.now, &asked.guess, judge.wait_max) else {
            return prove(asked, &message, judge);
        };
        // Others have failed since the challenge. Who was known by then has failed itself.
        if asked.guess.is_of_device() {
            return Err(too_often(wait));
        }
        let held = Progress::Held(asked.address.clone(), asked.device.id, wait);
        self.step = Step::HeldProof(Box::new(asked), message);
        Ok(held)
    }
}

/// Looks at a proof that may be made now.
fn prove(asked: Asked, message: &[u8], judge: Judge<'_>) -> Result<Progress, Error> {
    let Asked { challenged, account, device, guess, .. } = asked;
    let Judge { accounts, guesses, now, .. } = judge;
    let proven = challenged.finish(message).map_err(|error| answer(&error))?;
    // Who was given another password since has proven to know the old one.
    let account = account.filter(|account| accounts.is_current(account));
    let account = account.ok_or_else(|| answer(&AuthError::Failed))?;
    guesses.succeeded(now, &guess);
    Ok(Progress::Done(account, device, Some(proven.server_final().to_vec())))
}

/// What is said of a name, known or not, that has to wait.
pub fn too_often(wait: Duration) -> Error {
    // What is left of a second is a second.
    let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    Error::new(Code::RateLimited, "too many sign-ins have failed; wait").retry_after(wait)
}

/// The mechanisms offered on a connection, best first.
pub fn offered(proof: &Proof) -> Vec<Mechanism> {
    let external = (!proof.certificate.is_empty()).then_some(Mechanism::External);
    [Mechanism::ScramSha256Plus, Mechanism::ScramSha256].into_iter().chain(external).collect()
}

fn external(data: &[u8], accounts: &Accounts, proof: &Proof) -> Result<Arc<Account>, Error> {
    let asked = external_authzid(data).map_err(|error| answer(&error))?;
    let covered = proof.certificate.iter().filter(|address| proof.covers(address));
    let mut named = covered.filter(|address| asks_for(asked, address));
    match (named.next(), named.next()) {
        (Some(address), None) => enabled(accounts, address),
        (None, _) => Err(answer(&AuthError::OtherIdentity)),
        (Some(_), Some(_)) => {
            let text = "the certificate names several addresses; say which as the data";
            Err(Error::new(Code::Refused, text))
        }
    }
}

/// Whether an account can be used is only looked at when everything else has succeeded.
fn enabled(accounts: &Accounts, address: &Address) -> Result<Arc<Account>, Error> {
    let account = accounts.get(address);
    if account.is_none() {
        accounts.not_closed(address)?;
    }
    let account = account.filter(|account| account.state == AccountState::Enabled);
    account.ok_or_else(|| answer(&AuthError::Failed))
}

fn answer(error: &AuthError) -> Error {
    let code = match error {
        AuthError::Failed | AuthError::ServerUnproven => Code::AuthFailed,
        AuthError::TooLong { .. } => Code::TooLarge,
        AuthError::NotOffered(_) => Code::NotOffered,
        AuthError::Downgrade | AuthError::Binding { .. } | AuthError::OtherIdentity => {
            Code::Refused
        }
        AuthError::Malformed { .. } | AuthError::Extension | AuthError::Iterations { .. } => {
            Code::Malformed
        }
    };
    Error::new(code, error.to_string())
}
