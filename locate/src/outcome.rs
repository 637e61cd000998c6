//! How a search for a domain's server ended.

use std::fmt;
use std::net::SocketAddr;

use impp_protocol::{Code, Domain, Service};

use crate::step::Step;

/// A server was reached, and what the caller's attempt made of the connection.
#[derive(Debug)]
pub struct Reached<T> {
    /// What the attempt gave.
    pub value: T,
    /// Where the server is.
    pub address: SocketAddr,
    /// The host and port that led there, for people.
    pub target: String,
    /// How it was found.
    pub via: Via,
    /// Everything that was done, in order.
    pub steps: Vec<Step>,
}

/// How a server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A static route.
    Route,
    /// An SRV record.
    Srv,
    /// The domain's own address, as there is no SRV record, or none was asked for.
    Address,
    /// The domain's own address, although there are SRV records, or it is not known whether: this
    /// host may be another server of the domain, so what it refuses is not said for the domain.
    Fallback,
}

/// Why an attempt made nothing of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The other side did not prove to be the domain.
    #[error("{0}")]
    Untrusted(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// No server was reached.
#[derive(Clone, Debug)]
pub struct NotReached {
    /// What that means.
    pub kind: NotReachedKind,
    /// Everything that was tried, in order.
    pub steps: Vec<Step>,
    /// In words: what it means in the first line, then each step in a line.
    pub text: String,
}

/// What it means that no server was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotReachedKind {
    /// There is no such domain, or it has no records by which it could be reached: definite.
    UnknownDomain,
    /// The domain says that it does not offer the service: definite.
    NotOffered,
    /// No server answered, or nobody knows where it is: it may work later.
    Unreachable,
    /// A server answered, and did not prove to be the domain.
    Untrusted,
}

impl NotReachedKind {
    /// Whether trying again is of no use until the domain's owner changes something.
    pub fn is_definite(self) -> bool {
        matches!(self, NotReachedKind::UnknownDomain | NotReachedKind::NotOffered)
    }

    /// The error code that says it to others.
    pub fn code(self) -> Code {
        match self {
            NotReachedKind::UnknownDomain => Code::UnknownDomain,
            NotReachedKind::NotOffered => Code::NotOffered,
            NotReachedKind::Unreachable => Code::Unreachable,
            NotReachedKind::Untrusted => Code::Untrusted,
        }
    }

    /// In words, of a domain and service.
    pub fn told(self, domain: &Domain, service: Service) -> String {
        let word = service.word();
        match self {
            NotReachedKind::UnknownDomain => {
                format!("{domain} is not known: no records lead to a server of it")
            }
            NotReachedKind::NotOffered => {
                format!("{domain} does not offer {word}: its SRV record says so")
            }
            NotReachedKind::Unreachable => format!("no server of {domain} for {word} was reached"),
            NotReachedKind::Untrusted => {
                format!("a server answered for {domain} and did not prove to be it")
            }
        }
    }
}

impl NotReached {
    pub(crate) fn new(
        kind: NotReachedKind,
        domain: &Domain,
        service: Service,
        steps: Vec<Step>,
    ) -> NotReached {
        let mut text = kind.told(domain, service);
        for step in &steps {
            text.push_str("\n  ");
            text.push_str(&step.to_string());
        }
        NotReached { kind, steps, text }
    }

    /// Whether something that was held from earlier said that there is nothing: it may be otherwise by
    /// now.
    pub fn is_from_memory(&self) -> bool {
        let held = |step: &Step| matches!(step, Step::Asked { cached: true, .. });
        self.steps.iter().any(held)
    }

    /// What it means, without the steps.
    pub fn summary(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NotReached {}
