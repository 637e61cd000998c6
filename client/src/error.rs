//! Why something was not done, and whose fault that is.
//!
//! Exit codes, hints and JSON of it are left to the binary.

use std::io;
use std::time::Duration;

use impp_locate::{NotReached, NotReachedKind};
use impp_protocol::{Error, command, sasl};

use crate::profile::ProfileError;

/// Why a call, or a connection, came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server, or who stands behind it, answered no.
    #[error("{0}")]
    Answered(Error),
    /// The server did not take the sign-in.
    #[error("sign-in failed: {0}")]
    SignIn(Error),
    /// The sign-in could not be done from this side, or the server did not prove itself.
    #[error("sign-in failed: {0}")]
    Sasl(#[from] sasl::AuthError),
    /// The profile does not hold what is needed.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// No connection came about.
    #[error("cannot connect to {server}: {text}")]
    Unreachable {
        /// Where, host:port.
        server: String,
        /// What the system said, by kind.
        kind: io::ErrorKind,
        /// And in words.
        text: String,
    },
    /// The profile names no server, and DNS led to none that could be used.
    #[error("{0}")]
    NotLocated(Box<NotReached>),
    /// The connection came about, but not TLS over it.
    #[error("no TLS with {server} as {domain}: {text}")]
    Tls {
        /// Where, host:port.
        server: String,
        /// The domain that its certificate should have been for.
        domain: String,
        /// What was wrong.
        text: String,
        /// Whether it is the server's certificate that was not believed.
        untrusted: bool,
    },
    /// The server answered TLS, and serves something else.
    #[error("no TLS with {server} as {domain}: {}", refusal.text(domain))]
    NotServed {
        /// Where, host:port.
        server: String,
        /// The domain that was called.
        domain: String,
        /// What it does not serve.
        refusal: Refusal,
    },
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection was lost.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The server ended the connection.
    #[error("the server ended the connection: {}", bye_text(.0))]
    Bye(command::Bye),
    /// The server said what the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server does not know what would be asked of it.
    #[error("the server is of an older version: {0}")]
    Older(&'static str),
    /// The request cannot be sent: it exceeds a limit.
    #[error("cannot be sent: {0}")]
    TooLarge(String),
}

/// What a server does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The domain.
    Domain,
    /// Clients, or IMPP at all.
    Clients,
    /// Nobody more for now: it has no place, or something in it fails.
    More,
}

impl Refusal {
    fn text(self, domain: &str) -> String {
        match self {
            Refusal::Domain => format!("this server does not serve {domain}"),
            Refusal::Clients => "this is no IMPP server, or it serves no clients there".to_owned(),
            Refusal::More => "this server has no place for another connection now".to_owned(),
        }
    }
}

impl ClientError {
    /// Whether only the connection failed, so that a new one may help at once.
    pub fn is_lost(&self) -> bool {
        use command::ByeReason::{Busy, Done, Replaced, Stopping, Timeout};
        match self {
            ClientError::Lost(_) => true,
            ClientError::Bye(bye) => {
                matches!(bye.reason, Done | Stopping | Timeout | Busy | Replaced)
            }
            _ => false,
        }
    }

    /// Whether the same may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Answered(error) | ClientError::SignIn(error) => !error.code.is_permanent(),
            ClientError::Unreachable { .. }
            | ClientError::Timeout(_)
            | ClientError::NotServed { .. } => true,
            ClientError::Tls { untrusted, .. } => !untrusted,
            // That there is no such domain may be the word of a network that one only passes
            // through, or of a zone that is being changed.
            ClientError::NotLocated(error) => {
                matches!(error.kind, NotReachedKind::Unreachable | NotReachedKind::UnknownDomain)
            }
            _ => self.is_lost(),
        }
    }

    /// The time before which trying again is useless, if the server named one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Answered(error) | ClientError::SignIn(error) => error.retry_after,
            ClientError::Bye(bye) => bye.retry_after,
            _ => None,
        }
    }

    /// Whether the account's proof was not taken: trying again with the same one is useless.
    pub fn is_sign_in(&self) -> bool {
        match self {
            ClientError::SignIn(error) => error.code.is_permanent(),
            ClientError::Sasl(_) => true,
            ClientError::Bye(bye) => bye.reason == command::ByeReason::Revoked,
            _ => false,
        }
    }
}

/// A connection that ended in an error of the system's.
impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        match error.kind() {
            // TLS was not ended in order: the server was killed, or the network cut.
            io::ErrorKind::UnexpectedEof => {
                ClientError::Lost("cut off by the server or the network".to_owned())
            }
            _ => ClientError::Lost(error.to_string()),
        }
    }
}

impl From<Error> for ClientError {
    fn from(error: Error) -> ClientError {
        ClientError::Answered(error)
    }
}

fn bye_text(bye: &command::Bye) -> String {
    match &bye.text {
        Some(text) => format!("{}: {text}", bye.reason),
        None => bye.reason.to_string(),
    }
}
