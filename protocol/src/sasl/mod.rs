//! Sign-in by SASL (RFC 4422): the mechanisms by name, their messages, and the machines of SCRAM.
//!
//! Which mechanisms are offered, where accounts and verifiers are kept, how many tries one gets,
//! and the AUTH and CHALLENGE frames that carry the messages are left to the server and the client.

mod password;
pub mod resume;
pub mod scram;

use std::fmt;

pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};

use crate::Address;

/// A SASL mechanism that IMPP/1 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `SCRAM-SHA-256-PLUS` (RFC 7677), bound to the TLS connection by `tls-exporter` (RFC 9266).
    ScramSha256Plus,
    /// `SCRAM-SHA-256` (RFC 7677), for where there is no TLS or no exporter to bind to.
    ScramSha256,
    /// `EXTERNAL` (RFC 4422, appendix A): the identity is that of the TLS client certificate.
    External,
    /// `ANONYMOUS` (RFC 4505): no identity at all.
    Anonymous,
    /// `HT-SHA-256-EXPR` (draft-schmaus-kitten-sasl-ht), a hashed token bound by `tls-exporter`.
    /// The name is reserved for resuming sessions; no machine here speaks it yet.
    HtSha256Expr,
}

impl Mechanism {
    /// Every mechanism, strongest first; the reserved one last.
    pub const ALL: [Mechanism; 5] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::External,
        Mechanism::Anonymous,
        Mechanism::HtSha256Expr,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::External => "EXTERNAL",
            Mechanism::Anonymous => "ANONYMOUS",
            Mechanism::HtSha256Expr => "HT-SHA-256-EXPR",
        }
    }

    /// The mechanism of that name. Names are upper case (RFC 4422, section 3.1), so case counts.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads the one message of EXTERNAL (RFC 4422, appendix A.1): whom the client asks to act as.
///
/// `None` means whoever the certificate names. Compare a name by [`asks_for`].
///
/// # Errors
/// [`AuthError::TooLong`] or [`AuthError::Malformed`].
pub fn external_authzid(message: &[u8]) -> Result<Option<&str>, AuthError> {
    let text = message_text(message)?;
    Ok(if text.is_empty() { None } else { Some(text) })
}

/// Whether a client that proves to be `account` asks to act as just that account.
///
/// No authorisation identity asks for nothing else; another address, or what is no address, does
/// and is to be refused (RFC 4422, section 3.4.1): nobody acts as somebody else by SASL.
pub fn asks_for(authzid: Option<&str>, account: &Address) -> bool {
    authzid.is_none_or(|text| Address::parse(text).is_ok_and(|asked| asked == *account))
}

/// Why a sign-in ends.
///
/// Only [`AuthError::Failed`] depends on the account, and it tells nothing but itself; all others
/// follow from the peer's messages alone and may be told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The peer's message breaks the grammar of its mechanism.
    #[error("malformed sign-in message: {what}")]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
    },
    /// A message, or a part of it, is longer than its limit.
    #[error("sign-in message too long: {what} of {bytes} bytes, at most {bytes_max}")]
    TooLong {
        /// The part that is too long.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The peer demands an extension (`m=`, RFC 5802, section 5.1), and there are none.
    #[error("sign-in message demands an unknown extension")]
    Extension,
    /// The client chose what is not offered on this connection.
    #[error("{0} is not offered here")]
    NotOffered(Mechanism),
    /// The client could have bound to the channel and thinks that the server cannot, which did
    /// offer it: somebody between them changed the offer (RFC 5802, section 6).
    #[error("sign-in was downgraded: channel binding is offered, the client did not see it")]
    Downgrade,
    /// The client's channel binding flag does not fit its mechanism, or names another type.
    #[error("channel binding does not fit: got {got}, expected {expected}")]
    Binding {
        /// What the client's message says.
        got: &'static str,
        /// What its mechanism requires.
        expected: &'static str,
    },
    /// The client asks to act as somebody else ([`asks_for`]).
    #[error("asks to act as somebody else")]
    OtherIdentity,
    /// The iteration count is outside the bounds of [`scram::Iterations`].
    #[error(
        "iteration count {got}, expected {min} to {max}",
        min = scram::ITERATIONS_MIN,
        max = scram::ITERATIONS_MAX
    )]
    Iterations {
        /// The count that the server, or the caller, named.
        got: u32,
    },
    /// Not signed in. Unknown account, wrong password, wrong nonce and wrong channel are one error.
    #[error("sign-in failed")]
    Failed,
    /// The server accepts the client, but does not prove that it knows the account's verifier.
    #[error("the server did not prove its identity")]
    ServerUnproven,
}

/// The message as text: bounded, UTF-8, without control characters.
fn message_text(message: &[u8]) -> Result<&str, AuthError> {
    within("message", message.len(), MESSAGE_BYTES_MAX)?;
    let text = str::from_utf8(message).map_err(|_| AuthError::Malformed { what: "not UTF-8" })?;
    if text.chars().any(char::is_control) {
        return Err(AuthError::Malformed { what: "control character" });
    }
    Ok(text)
}

fn within(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), AuthError> {
    if bytes <= bytes_max { Ok(()) } else { Err(AuthError::TooLong { what, bytes, bytes_max }) }
}

/// Longest SASL message, either way; well within the frames allowed before sign-in.
pub const MESSAGE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_mechanism() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
        }
        for name in ["PLAIN", "scram-sha-256", "SCRAM-SHA-1", ""] {
            assert_eq!(Mechanism::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn c4_only_the_own_address_may_be_asked_for() {
        let alice = Address::parse("alice@a.example").unwrap();
        for (asked, own) in [
            (None, true),
            (Some("alice@a.example"), true),
            (Some("Alice@A.example"), true),
            (Some("bob@a.example"), false),
            (Some("alice@b.example"), false),
            (Some("alice"), false),
            (Some(""), false),
        ] {
            assert_eq!(asks_for(asked, &alice), own, "{asked:?}");
        }
    }

    #[test]
    fn external_carries_a_name_or_nothing() {
        assert_eq!(external_authzid(b""), Ok(None));
        assert_eq!(external_authzid(b"alice@a.example"), Ok(Some("alice@a.example")));
        assert!(matches!(external_authzid(b"a\0b"), Err(AuthError::Malformed { .. })));
        assert!(matches!(external_authzid(b"\xff"), Err(AuthError::Malformed { .. })));
        assert!(matches!(external_authzid(&[b'a'; 1025]), Err(AuthError::TooLong { .. })));
    }
}
