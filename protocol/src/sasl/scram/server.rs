//! The server's side of SCRAM: it checks a proof and never learns the password.
//!
//! Finding the account's verifier, a decoy where there is none, and whether an account may sign in
//! at all is left to the caller.

use std::fmt;

use base64::Engine;
use subtle::ConstantTimeEq;

use super::keys::Key;
use super::message::{ClientFinal, ClientFirst, Flag};
use super::{BASE64, Exporter, Nonce, Verifier};
use crate::sasl::{AuthError, Mechanism, asks_for};
use crate::{Address, Domain};

/// A server that has read the client's first message and needs the verifier of its account.
pub struct Server {
    authcid: String,
    authzid: Option<String>,
    /// What `c=` of the client's last message must be.
    binding: String,
    client_nonce: String,
    client_bare: String,
}

impl Server {
    /// Reads the client's first message.
    ///
    /// `exporter` is that of this connection if SCRAM-SHA-256-PLUS is offered on it, else `None`.
    ///
    /// # Errors
    /// [`AuthError`] naming what is wrong. None depends on an account, so it may be told at once.
    pub fn start(
        mechanism: Mechanism,
        client_first: &[u8],
        exporter: Option<&Exporter>,
    ) -> Result<Server, AuthError> {
        let first = ClientFirst::parse(client_first)?;
        let bound_to = check_flag(mechanism, first.flag, exporter)?;
        let mut binding = first.gs2_header.as_bytes().to_vec();
        binding.extend_from_slice(bound_to);
        Ok(Server {
            binding: BASE64.encode(&binding),
            client_nonce: first.nonce.to_owned(),
            client_bare: first.bare.to_owned(),
            authcid: first.authcid,
            authzid: first.authzid,
        })
    }

    /// Who the client says it is, as it wrote it.
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// Whom the client asks to act as, if it says so; checked by [`Server::challenge`].
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The canonical address of who the client says it is; a name without a domain is in `domain`.
    /// It may be in any domain: whether that is hosted here is for the caller to see.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] if it can be no address, known or unknown.
    pub fn account_in(&self, domain: &Domain) -> Result<Address, AuthError> {
        let address = if self.authcid.contains('@') {
            Address::parse(&self.authcid)
        } else {
            Address::new(&self.authcid, domain)
        };
        address.map_err(|_| AuthError::Malformed { what: "user name is no address" })
    }

    /// Challenges the client to prove that it is `account`.
    ///
    /// `verifier` is the account's, or for one that does not exist [`Verifier::decoy`]. The nonce
    /// must be new for each exchange: that is what makes a replay worthless.
    ///
    /// # Errors
    /// [`AuthError::OtherIdentity`] if the client asks to act as anybody else.
    pub fn challenge(
        self,
        account: &Address,
        verifier: &Verifier,
        nonce: &Nonce,
    ) -> Result<(Challenged, Vec<u8>), AuthError> {
        if !asks_for(self.authzid(), account) {
            return Err(AuthError::OtherIdentity);
        }
        let nonce = format!("{}{}", self.client_nonce, nonce.as_str());
        let salt = BASE64.encode(verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations.get());
        let bytes = server_first.clone().into_bytes();
        let challenged = Challenged {
            account: account.clone(),
            binding: self.binding,
            nonce,
            client_bare: self.client_bare,
            server_first,
            stored_key: verifier.stored_key.clone(),
            server_key: verifier.server_key.clone(),
        };
        Ok((challenged, bytes))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("authcid", &self.authcid)
            .field("authzid", &self.authzid)
            .finish_non_exhaustive()
    }
}

/// A server that has sent its challenge and awaits the client's proof, of which there is one try.
pub struct Challenged {
    account: Address,
    binding: String,
    nonce: String,
    client_bare: String,
    server_first: String,
    stored_key: Key,
    server_key: Key,
}

impl Challenged {
    /// Checks the client's proof.
    ///
    /// # Errors
    /// [`AuthError::Failed`] if anything does not fit, alike for all reasons and for decoys;
    /// [`AuthError::Malformed`] and the like if the message breaks the grammar.
    pub fn finish(self, client_final: &[u8]) -> Result<Proven, AuthError> {
        let last = ClientFinal::parse(client_final)?;
        let signed = [&*self.client_bare, ",", &*self.server_first, ",", last.without_proof];
        let signed = signed.map(str::as_bytes);
        let client_key = last.proof.clone().xor(&self.stored_key.sign(&signed));
        // All is computed and compared before anything is decided, whatever is wrong.
        let server_signature = self.server_key.sign(&signed);
        let fits = client_key.hash().ct_eq(&self.stored_key)
            & last.binding.as_bytes().ct_eq(self.binding.as_bytes())
            & last.nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        if !bool::from(fits) {
            return Err(AuthError::Failed);
        }
        let server_final = format!("v={}", BASE64.encode(server_signature.as_bytes()));
        Ok(Proven { account: self.account, server_final: server_final.into_bytes() })
    }
}

impl fmt::Debug for Challenged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenged").field("account", &self.account).finish_non_exhaustive()
    }
}

/// That a client proved to know the password of an account; only [`Challenged::finish`] makes it.
#[derive(Clone, Debug)]
pub struct Proven {
    account: Address,
    server_final: Vec<u8>,
}

impl Proven {
    /// Whose password it was.
    pub fn account(&self) -> &Address {
        &self.account
    }

    /// The message that goes to the client with the OK: the server's own proof.
    pub fn server_final(&self) -> &[u8] {
        &self.server_final
    }
}

/// The data that the client's flag binds to, if flag, mechanism and offer fit (RFC 5802,
/// section 6; RFC 9266, section 4).
fn check_flag<'a>(
    mechanism: Mechanism,
    flag: Flag<'_>,
    exporter: Option<&'a Exporter>,
) -> Result<&'a [u8], AuthError> {
    match (mechanism, flag, exporter) {
        (Mechanism::ScramSha256Plus, Flag::Bound(TLS_EXPORTER), Some(exporter)) => Ok(exporter),
        (Mechanism::ScramSha256Plus, _, None) => Err(AuthError::NotOffered(mechanism)),
        (Mechanism::ScramSha256Plus, Flag::Bound(_), _) => {
            Err(AuthError::Binding { got: "another type", expected: TLS_EXPORTER })
        }
        (Mechanism::ScramSha256Plus, _, _) => {
            Err(AuthError::Binding { got: "none", expected: TLS_EXPORTER })
        }
        (Mechanism::ScramSha256, Flag::Bound(_), _) => {
            Err(AuthError::Binding { got: "a type", expected: "none" })
        }
        (Mechanism::ScramSha256, Flag::NotOffered, Some(_)) => Err(AuthError::Downgrade),
        (Mechanism::ScramSha256, Flag::NotOffered | Flag::Unable, _) => Ok(&[]),
        (Mechanism::External | Mechanism::Anonymous | Mechanism::HtSha256Expr, _, _) => {
            Err(AuthError::NotOffered(mechanism))
        }
    }
}

/// The one type of channel binding here (RFC 9266).
pub(super) const TLS_EXPORTER: &str = "tls-exporter";

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTER: Exporter = [9; 32];

    fn start(mechanism: Mechanism, first: &str, exporter: Option<&Exporter>) -> Option<AuthError> {
        Server::start(mechanism, first.as_bytes(), exporter).err()
    }

    #[test]
    fn c5_flag_mechanism_and_offer_must_fit() {
        let (plus, bare) = (Mechanism::ScramSha256Plus, Mechanism::ScramSha256);
        let [n, y, p, other] =
            ["n", "y", "p=tls-exporter", "p=tls-unique"].map(|flag| format!("{flag},,n=u,r=a"));
        let offered = Some(&EXPORTER);
        let unfit = |got, expected| Some(AuthError::Binding { got, expected });
        for (mechanism, first, exporter, error) in [
            (plus, &p, offered, None),
            (plus, &other, offered, unfit("another type", TLS_EXPORTER)),
            (plus, &n, offered, unfit("none", TLS_EXPORTER)),
            (plus, &y, offered, unfit("none", TLS_EXPORTER)),
            (plus, &p, None, Some(AuthError::NotOffered(plus))),
            (plus, &n, None, Some(AuthError::NotOffered(plus))),
            (bare, &n, offered, None),
            (bare, &n, None, None),
            (bare, &y, None, None),
            (bare, &y, offered, Some(AuthError::Downgrade)),
            (bare, &p, offered, unfit("a type", "none")),
            (bare, &p, None, unfit("a type", "none")),
            (Mechanism::Anonymous, &n, None, Some(AuthError::NotOffered(Mechanism::Anonymous))),
        ] {
            assert_eq!(start(mechanism, first, exporter), error, "{mechanism} {first}");
        }
    }

    #[test]
    fn a_name_becomes_an_account_of_its_domain() {
        let domain = Domain::parse("a.example").unwrap();
        for (name, account) in [
            ("alice", Some("alice@a.example")),
            ("Alice", Some("alice@a.example")),
            ("ALICE@A.example", Some("alice@a.example")),
            ("bob@b.example", Some("bob@b.example")),
            ("a@b@c", None),
            ("a b", None),
        ] {
            let first = format!("n,,n={name},r=a");
            let server = Server::start(Mechanism::ScramSha256, first.as_bytes(), None).unwrap();
            let found = server.account_in(&domain).ok();
            assert_eq!(found.as_ref().map(Address::as_str), account, "{name}");
        }
    }

    #[test]
    fn c4_acting_as_another_is_refused_before_the_challenge() {
        let account = Address::parse("alice@a.example").unwrap();
        let few = crate::sasl::scram::Iterations::RANDOM_PASSWORD;
        let decoy = Verifier::decoy(&[1; 32], account.as_str(), few);
        for (authzid, own) in
            [("", true), ("a=Alice@a.example", true), ("a=bob@a.example", false), ("a=x", false)]
        {
            let first = format!("n,{authzid},n=alice,r=a");
            let server = Server::start(Mechanism::ScramSha256, first.as_bytes(), None).unwrap();
            let outcome = server.challenge(&account, &decoy, &Nonce::from_random([0; 18]));
            assert_eq!(outcome.err(), (!own).then_some(AuthError::OtherIdentity), "{authzid}");
        }
    }
}
