//! A server as people write it: a host and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use impp_protocol::PORT;
use impp_protocol::address::DOMAIN_BYTES_MAX;

/// A host and a port: `host:port`, `address:port`, `[address]:port`; without a port IMPP/1's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A host by name or by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, in lower case without the dot at its end.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// This is no host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad server {got:?}: expected host:port or address:port")]
pub struct BadTarget {
    /// What was got.
    pub got: String,
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        let bad = || BadTarget { got: text.to_owned() };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return nonzero(Host::Address(address.ip()), address.port()).ok_or_else(bad);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Target { host: Host::Address(address), port: PORT });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| bad())?),
            None => (text, PORT),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let named = is_host_name(name).then(|| Host::Name(name.to_ascii_lowercase()));
        named.and_then(|host| nonzero(host, port)).ok_or_else(bad)
    }
}

fn nonzero(host: Host, port: u16) -> Option<Target> {
    (port != 0).then_some(Target { host, port })
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether a text without a dot at its end can be a host's name: labels of letters, digits, hyphens
/// and underscores, the last one no number, or every resolver would read it as an address.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= DOMAIN_BYTES_MAX
        && text.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_all_their_spellings() {
        for (text, canonical) in [
            ("b.example:2779", "b.example:2779"),
            ("B.example.", "b.example:2778"),
            ("localhost:7", "localhost:7"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("10.0.0.1", "10.0.0.1:2778"),
            ("[::1]:7", "[::1]:7"),
            ("::1", "[::1]:2778"),
            ("[::1]", "[::1]:2778"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn f3_odd_texts_are_no_servers() {
        let long = format!("{}:1", "a.".repeat(140));
        for text in
            ["", ":1", "a:0", "a:65536", "a:b", "a b:1", "1.2.3:1", "a..b:1", "a\0:1", &long]
        {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
