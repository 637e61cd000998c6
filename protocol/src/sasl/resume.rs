//! Resuming a session without the password: both sides prove that they hold the secret of the
//! ticket that the sign-in brought, bound to the TLS connection as SCRAM-SHA-256-PLUS is.
//!
//! Where sessions are kept, and how long, is left to the server.

use std::fmt;

use subtle::ConstantTimeEq;

use super::scram::{Exporter, KEY_BYTES, Key};
use crate::ids::SessionId;

/// Length of a session's id.
pub const SESSION_ID_BYTES: usize = 16;
/// Length of a ticket as OK carries it: the session's id and the secret.
pub const TICKET_BYTES: usize = SESSION_ID_BYTES + KEY_BYTES;
/// Length of a proof.
pub const PROOF_BYTES: usize = KEY_BYTES;

/// What resumes one session, once: a new one comes with each sign-in and each resumption.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    session: SessionId,
    secret: Key,
}

impl Ticket {
    /// A ticket; the secret must be random and new.
    pub fn new(session: SessionId, secret: [u8; KEY_BYTES]) -> Ticket {
        Ticket { session, secret: Key::from_bytes(secret) }
    }

    /// Reads a ticket of exactly [`TICKET_BYTES`].
    pub fn decode(bytes: &[u8]) -> Option<Ticket> {
        let (session, secret) = bytes.split_at_checked(SESSION_ID_BYTES)?;
        Some(Ticket::new(SessionId(session.try_into().ok()?), secret.try_into().ok()?))
    }

    /// The ticket as OK carries it.
    pub fn encode(&self) -> Vec<u8> {
        [&self.session.0[..], &self.secret.as_bytes()[..]].concat()
    }

    /// The session's id, which AUTH names.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What the client sends with AUTH: HMAC-SHA-256 under the secret of the words
    /// `impp/1 resume client` and the connection's exporter.
    pub fn client_proof(&self, exporter: &Exporter) -> [u8; PROOF_BYTES] {
        *self.secret.sign(&[b"impp/1 resume client", exporter]).as_bytes()
    }

    /// What the server answers: the same of the words `impp/1 resume server`.
    pub fn server_proof(&self, exporter: &Exporter) -> [u8; PROOF_BYTES] {
        *self.secret.sign(&[b"impp/1 resume server", exporter]).as_bytes()
    }

    /// Whether the client holds the secret, compared in constant time.
    pub fn is_proven_by_client(&self, exporter: &Exporter, proof: &[u8]) -> bool {
        self.client_proof(exporter)[..].ct_eq(proof).into()
    }

    /// Whether the server holds the secret.
    pub fn is_proven_by_server(&self, exporter: &Exporter, proof: &[u8]) -> bool {
        self.server_proof(exporter)[..].ct_eq(proof).into()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c9_a_ticket_has_one_length_and_one_secret() {
        let ticket = Ticket::new(SessionId([1; 16]), [2; 32]);
        let bytes = ticket.encode();
        assert_eq!(Ticket::decode(&bytes), Some(ticket.clone()));
        for length in (0..TICKET_BYTES).chain([TICKET_BYTES + 1]) {
            let mut other = bytes.clone();
            other.resize(length, 0);
            assert_eq!(Ticket::decode(&other), None, "{length} bytes");
        }
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
    }

    /// What is compared is no secret and no part of one: a secret that is right but for its last octets has
    /// a proof that is right nowhere, so that a comparison, however long it takes, knows no better guess.
    #[test]
    fn c3_a_guess_that_is_nearly_right_is_wrong_from_the_first_octet_on() {
        let right = Ticket::new(SessionId([1; 16]), [2; KEY_BYTES]).client_proof(&[3; 32]);
        let alike = (0..KEY_BYTES).map(|octets| {
            let mut secret = [2; KEY_BYTES];
            secret[octets..].fill(9);
            let guess = Ticket::new(SessionId([1; 16]), secret).client_proof(&[3; 32]);
            guess.iter().zip(&right).take_while(|(guess, right)| guess == right).count()
        });
        // By chance one in 256 has the first octet.
        assert!(alike.max() <= Some(1));
    }

    #[test]
    fn c11_a_proof_is_of_one_secret_one_connection_and_one_side() {
        let ticket = Ticket::new(SessionId([1; 16]), [2; 32]);
        let proof = ticket.client_proof(&[3; 32]);
        assert!(ticket.is_proven_by_client(&[3; 32], &proof));
        assert!(!ticket.is_proven_by_client(&[4; 32], &proof));
        assert!(!ticket.is_proven_by_client(&[3; 32], &proof[..31]));
        assert!(!ticket.is_proven_by_server(&[3; 32], &proof));
        assert!(!Ticket::new(SessionId([1; 16]), [9; 32]).is_proven_by_client(&[3; 32], &proof));
        assert!(ticket.is_proven_by_server(&[3; 32], &ticket.server_proof(&[3; 32])));
    }
}
