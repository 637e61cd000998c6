//! The client's side of SCRAM: it proves that it knows a password, and that the server does.
//!
//! Choosing the mechanism from the server's offer, and keeping keys between connections, is left
//! to the caller.

use std::fmt;

use base64::Engine;
use subtle::ConstantTimeEq;

use super::keys::{Key, SaltedKeys};
use super::message::{self, ServerFinal, ServerFirst};
use super::server::TLS_EXPORTER;
use super::{BASE64, Exporter, Nonce};
use crate::sasl::{AuthError, Mechanism, Password};

/// How the client ties its sign-in to the TLS connection (RFC 5802, section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The client has nothing to bind to: no TLS.
    None,
    /// The client could bind, and the server does not offer it. If somebody took the offer away
    /// on the way, the server finds out by this and refuses.
    NotOffered,
    /// Bound to the connection that this value was exported from.
    TlsExporter(Exporter),
}

impl Binding {
    /// The mechanism that goes with it.
    pub const fn mechanism(&self) -> Mechanism {
        match self {
            Binding::None | Binding::NotOffered => Mechanism::ScramSha256,
            Binding::TlsExporter(_) => Mechanism::ScramSha256Plus,
        }
    }

    fn gs2_header(&self) -> String {
        match self {
            Binding::None => "n,,".to_owned(),
            Binding::NotOffered => "y,,".to_owned(),
            Binding::TlsExporter(_) => format!("p={TLS_EXPORTER},,"),
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Binding::None => "None",
            Binding::NotOffered => "NotOffered",
            Binding::TlsExporter(_) => "TlsExporter(..)",
        })
    }
}

/// A client that has sent its first message and awaits the server's challenge.
pub struct Client {
    password: Password,
    nonce: Nonce,
    binding: Binding,
    bare: String,
}

impl Client {
    /// Starts signing in; the message goes with [`Binding::mechanism`].
    ///
    /// `user` is the account's address, or its user part alone, as plain text.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] or [`AuthError::TooLong`] if `user` can be no name.
    pub fn start(
        user: &str,
        password: Password,
        nonce: Nonce,
        binding: Binding,
    ) -> Result<(Client, Vec<u8>), AuthError> {
        let bare = format!("n={},r={}", message::escape(user)?, nonce.as_str());
        let first = format!("{}{bare}", binding.gs2_header());
        Ok((Client { password, nonce, binding, bare }, first.into_bytes()))
    }

    /// Answers the server's challenge with the proof.
    ///
    /// Unless `cached` is from the same salt and iteration count, this does the work of the
    /// iterations, up to [`ITERATIONS_MAX`](super::ITERATIONS_MAX) (0.1 s). `cached` must be from
    /// the same account and password; throw it away when the sign-in fails.
    ///
    /// # Errors
    /// [`AuthError`] naming what is wrong with the challenge; one for another nonce than this
    /// client's is malformed.
    pub fn handle_challenge(
        self,
        server_first: &[u8],
        cached: Option<&SaltedKeys>,
    ) -> Result<(Answered, Vec<u8>), AuthError> {
        let challenge = ServerFirst::parse(server_first)?;
        match challenge.nonce.strip_prefix(self.nonce.as_str()) {
            Some(added) if !added.is_empty() => {}
            _ => return Err(AuthError::Malformed { what: "nonce does not continue the client's" }),
        }
        let keys = match cached {
            Some(keys) if keys.are_for(&challenge.salt, challenge.iterations) => keys.clone(),
            _ => SaltedKeys::derive(&self.password, &challenge.salt, challenge.iterations),
        };
        let mut binding = self.binding.gs2_header().into_bytes();
        if let Binding::TlsExporter(exporter) = &self.binding {
            binding.extend_from_slice(exporter);
        }
        let without_proof = format!("c={},r={}", BASE64.encode(&binding), challenge.nonce);
        let signed = [&self.bare, ",", challenge.text, ",", &without_proof].map(str::as_bytes);
        let client_key = keys.client_key();
        let proof = client_key.hash().sign(&signed).xor(client_key);
        let client_final = format!("{without_proof},p={}", BASE64.encode(proof.as_bytes()));
        let expected = keys.server_key().sign(&signed);
        Ok((Answered { keys, expected }, client_final.into_bytes()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("binding", &self.binding).finish_non_exhaustive()
    }
}

/// A client that has sent its proof and awaits the server's.
pub struct Answered {
    keys: SaltedKeys,
    expected: Key,
}

impl Answered {
    /// Checks the message that came with the server's OK. Without it the client is not signed in
    /// to the right server, and must not go on.
    ///
    /// Returns the keys, to be kept in memory for the next connection.
    ///
    /// # Errors
    /// [`AuthError::ServerUnproven`] if the server does not know the account's verifier,
    /// [`AuthError::Failed`] if it refuses, [`AuthError::Malformed`].
    pub fn handle_success(self, server_final: &[u8]) -> Result<SaltedKeys, AuthError> {
        match ServerFinal::parse(server_final)? {
            ServerFinal::Refusal => Err(AuthError::Failed),
            ServerFinal::Signature(signature) if bool::from(signature.ct_eq(&self.expected)) => {
                Ok(self.keys)
            }
            ServerFinal::Signature(_) => Err(AuthError::ServerUnproven),
        }
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::scram::Iterations;

    fn start() -> Client {
        let nonce = Nonce::from_text("client").unwrap();
        let password = Password::prepare("pencil").unwrap();
        Client::start("user", password, nonce, Binding::None).unwrap().0
    }

    #[test]
    fn a_challenge_that_does_not_continue_the_nonce_is_refused() {
        for nonce in ["client", "Client123", "clien", "other"] {
            let challenge = format!("r={nonce},s=AAAA,i=4096");
            let answer = start().handle_challenge(challenge.as_bytes(), None);
            assert!(matches!(answer, Err(AuthError::Malformed { .. })), "{nonce}");
        }
    }

    #[test]
    fn c8_an_endless_iteration_count_is_refused_before_any_work() {
        let answer = start().handle_challenge(b"r=client1,s=AAAA,i=4294967295", None);
        assert_eq!(answer.err(), Some(AuthError::Iterations { got: u32::MAX }));
    }

    #[test]
    fn cached_keys_are_used_for_their_salt_and_count_only() {
        let other = Password::prepare("other").unwrap();
        let cached = SaltedKeys::derive(&other, &[0; 3], Iterations::RANDOM_PASSWORD);
        let answer = |challenge: &[u8], cached: Option<&SaltedKeys>| {
            start().handle_challenge(challenge, cached).unwrap().1
        };
        let (same, salt, count) =
            (b"r=client1,s=AAAA,i=4096", b"r=client1,s=AAAB,i=4096", b"r=client1,s=AAAA,i=4097");
        assert_ne!(answer(same, Some(&cached)), answer(same, None));
        assert_eq!(answer(salt, Some(&cached)), answer(salt, None));
        assert_eq!(answer(count, Some(&cached)), answer(count, None));
    }

    #[test]
    fn a_server_that_refuses_or_forges_is_not_believed() {
        let answered = || start().handle_challenge(b"r=client1,s=AAAA,i=4096", None).unwrap().0;
        let forged = format!("v={}", BASE64.encode([0; 32]));
        let outcome = answered().handle_success(forged.as_bytes());
        assert_eq!(outcome.err(), Some(AuthError::ServerUnproven));
        assert_eq!(answered().handle_success(b"e=invalid-proof").err(), Some(AuthError::Failed));
        assert!(answered().handle_success(b"").is_err());
    }

    #[test]
    fn a_name_that_cannot_be_sent_is_refused() {
        let long = "u".repeat(449);
        for user in ["", "a\nb", &long] {
            let password = Password::prepare("pencil").unwrap();
            let nonce = Nonce::from_random([0; 18]);
            assert!(Client::start(user, password, nonce, Binding::NotOffered).is_err(), "{user:?}");
        }
    }
}
