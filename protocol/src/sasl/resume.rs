//! Resuming a session without the password: both sides prove that they hold the secret of the
//! ticket that the sign-in brought, bound to the TLS connection as SCRAM-SHA-256-PLUS is, or to the
//! server's certificate.
//!
//! Where sessions are kept, and how long, is left to the server.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::scram::{Exporter, KEY_BYTES, Key};
use crate::ids::SessionId;
use crate::schema::numbers;

/// Length of a session's id.
pub const SESSION_ID_BYTES: usize = 16;
/// Length of a ticket as OK carries it: the session's id and the secret.
pub const TICKET_BYTES: usize = SESSION_ID_BYTES + KEY_BYTES;
/// Length of a proof.
pub const PROOF_BYTES: usize = KEY_BYTES;

/// The end point of a server: SHA-256 of the certificate that it shows, in DER.
pub type EndPoint = [u8; 32];

/// The end point of a server that shows this certificate, in DER. Unlike RFC 5929's it is made by one
/// hash, whatever the certificate is signed by.
pub fn end_point(certificate: &[u8]) -> EndPoint {
    Sha256::digest(certificate).into()
}

numbers! {
    /// What binds a resumption to its connection, the strongest first.
    pub open enum Binding {
        /// The exporter of TLS: to this very connection.
        Exporter = 1, "exporter";
        /// The server's end point: to connections on which it shows this certificate.
        EndPoint = 2, "server-end-point";
        /// Nothing.
        Unbound = 3, "none";
    }
}

/// What a connection brings for one kind of binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// For [`Binding::Exporter`].
    Exporter(Exporter),
    /// For [`Binding::EndPoint`].
    EndPoint(EndPoint),
    /// For [`Binding::Unbound`].
    Nothing,
}

impl Bound {
    /// The words and octets that are signed behind those of the side. Those of two kinds are never of one
    /// length, so that none passes for another.
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Bound::Exporter(exporter) => [b"", exporter],
            Bound::EndPoint(end_point) => [b", server end point", end_point],
            Bound::Nothing => [b", unbound", b""],
        }
    }
}

impl From<&Exporter> for Bound {
    fn from(exporter: &Exporter) -> Bound {
        Bound::Exporter(*exporter)
    }
}

impl From<&Bound> for Bound {
    fn from(bound: &Bound) -> Bound {
        bound.clone()
    }
}

/// What resumes one session until a newer one is used, which comes with each resumption.
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
    /// `impp/1 resume client` and what the connection is bound by.
    pub fn client_proof(&self, bound: impl Into<Bound>) -> [u8; PROOF_BYTES] {
        self.proof(b"impp/1 resume client", &bound.into())
    }

    /// What the server answers: the same of the words `impp/1 resume server`.
    pub fn server_proof(&self, bound: impl Into<Bound>) -> [u8; PROOF_BYTES] {
        self.proof(b"impp/1 resume server", &bound.into())
    }

    /// Whether the client holds the secret, compared in constant time.
    pub fn is_proven_by_client(&self, bound: impl Into<Bound>, proof: &[u8]) -> bool {
        self.client_proof(bound)[..].ct_eq(proof).into()
    }

    /// Whether the server holds the secret.
    pub fn is_proven_by_server(&self, bound: impl Into<Bound>, proof: &[u8]) -> bool {
        self.server_proof(bound)[..].ct_eq(proof).into()
    }

    fn proof(&self, side: &[u8], bound: &Bound) -> [u8; PROOF_BYTES] {
        let [words, octets] = bound.parts();
        *self.secret.sign(&[side, words, octets]).as_bytes()
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

    /// What was proven by one kind of binding proves nothing by another, though it be of the same octets.
    #[test]
    fn c6_a_proof_is_of_one_kind_of_binding() {
        let ticket = Ticket::new(SessionId([1; 16]), [2; 32]);
        let kinds = [Bound::Exporter([3; 32]), Bound::EndPoint([3; 32]), Bound::Nothing];
        for (one, by) in kinds.iter().enumerate() {
            for (other, of) in kinds.iter().enumerate() {
                let proof = ticket.client_proof(of);
                assert_eq!(ticket.is_proven_by_client(by, &proof), one == other, "{by:?} {of:?}");
            }
        }
        let lengths = kinds.map(|bound| bound.parts().map(<[u8]>::len).iter().sum::<usize>());
        assert_eq!(lengths, [32, 50, 9]);
    }
}
