//! What was done to find and reach a server, step by step, for whoever must find out why it failed.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// Records of one answer that are told one by one.
pub(crate) const TOLD_MAX: usize = 16;

/// One step; those of a search stand in the order in which they ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// A static route says where the domain is; DNS is not asked for it.
    Route {
        /// Its servers.
        targets: Vec<String>,
    },
    /// DNS was asked.
    Asked {
        /// The name, with the dot at its end.
        name: String,
        /// The type of record.
        kind: RecordKind,
        /// What it said.
        #[serde(flatten)]
        answer: Answer,
        /// Whether that was still held from earlier.
        cached: bool,
        /// How long it took.
        milliseconds: u64,
    },
    /// These targets of SRV records will be tried in this order.
    Ordered {
        /// Priority, weight, port, host.
        targets: Vec<String>,
    },
    /// Something was not used.
    Skipped {
        /// A record, a target or an address.
        what: String,
        /// Why.
        why: String,
    },
    /// A connection was tried.
    Connected {
        /// The target that led there.
        target: String,
        /// Where to.
        address: SocketAddr,
        /// Why it failed, if it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// How long it took.
        milliseconds: u64,
    },
    /// A connection was completed: TLS, the certificate, HELLO.
    Completed {
        /// The target that led there.
        target: String,
        /// Where to.
        address: SocketAddr,
        /// Why it failed, if it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Whether it failed because the other side did not prove to be the domain.
        untrusted: bool,
        /// How long it took.
        milliseconds: u64,
    },
}

/// What DNS said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Answer {
    /// There are records.
    Records {
        /// The first ones.
        records: Vec<String>,
        /// How many more there are.
        more: usize,
        /// Seconds for which they hold.
        ttl: u32,
    },
    /// There is no such name.
    NoName {
        /// Seconds for which that holds; absent if the answer does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<u32>,
    },
    /// The name has no such record.
    NoRecord {
        /// Seconds for which that holds; absent if the answer does not say, so that it proves
        /// nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<u32>,
    },
    /// It is not known what the records are.
    Failed {
        /// Why.
        error: String,
    },
}

/// A type of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    /// SRV.
    Srv,
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
}

pub(crate) fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordKind::Srv => "SRV",
            RecordKind::A => "A",
            RecordKind::Aaaa => "AAAA",
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Records { records, more, ttl } => {
                f.write_str(&records.join(", "))?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, " (TTL {ttl} s)")
            }
            Answer::NoName { ttl } => {
                f.write_str("no such name (NXDOMAIN")?;
                ttl.map_or(Ok(()), |ttl| write!(f, ", TTL {ttl} s"))?;
                f.write_str(")")
            }
            Answer::NoRecord { ttl: Some(ttl) } => write!(f, "no such record (TTL {ttl} s)"),
            Answer::NoRecord { ttl: None } => {
                f.write_str("an empty answer without SOA, which proves nothing")
            }
            Answer::Failed { error } => write!(f, "failed: {error}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Route { targets } => write!(f, "static route: {}", targets.join(", ")),
            Step::Asked { name, kind, answer, cached: true, .. } => {
                write!(f, "{kind} {name}: {answer}, held from earlier")
            }
            Step::Asked { name, kind, answer, milliseconds, .. } => {
                write!(f, "{kind} {name}: {answer} [{milliseconds} ms]")
            }
            Step::Ordered { targets } => write!(f, "order of targets: {}", targets.join(", ")),
            Step::Skipped { what, why } => write!(f, "skipped {what}: {why}"),
            Step::Connected { target, address, error, milliseconds } => {
                write!(f, "connect {target} ({address}): ")?;
                f.write_str(error.as_deref().unwrap_or("connected"))?;
                write!(f, " [{milliseconds} ms]")
            }
            Step::Completed { target, address, error, milliseconds, .. } => {
                write!(f, "complete {target} ({address}): ")?;
                f.write_str(error.as_deref().unwrap_or("done"))?;
                write!(f, " [{milliseconds} ms]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_a_line_each() {
        let step = Step::Asked {
            name: "_im._impp.b.example.".to_owned(),
            kind: RecordKind::Srv,
            answer: Answer::NoName { ttl: Some(60) },
            cached: false,
            milliseconds: 3,
        };
        let line = "SRV _im._impp.b.example.: no such name (NXDOMAIN, TTL 60 s) [3 ms]";
        assert_eq!(step.to_string(), line);
        let step = Step::Connected {
            target: "b.example:2778".to_owned(),
            address: "127.0.0.1:2778".parse().unwrap(),
            error: Some("connection refused".to_owned()),
            milliseconds: 0,
        };
        let line = "connect b.example:2778 (127.0.0.1:2778): connection refused [0 ms]";
        assert_eq!(step.to_string(), line);
    }
}
