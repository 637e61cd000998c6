//! Settings about other domains: how they are found, proven, and what each may use.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use impp_locate::{Policy, Settings};
use impp_protocol::Domain;
use serde::Deserialize;

use super::setting::section;
use super::{Config, SettingError, error};

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

section! {
    /// Other domains: how they are found and proven, and what one of them may use. A domain of a
    /// single label, such as localhost, neither reaches others nor is reached.
    pub struct Federation {
        /// Whether other domains are reached, and may reach this server.
        enabled: bool = true, reloads false;
        /// The services that this server serves for its domains: pres, im. Where they live apart,
        /// each server names its own.
        services: Vec<String> = vec!["pres".to_owned(), "im".to_owned()], reloads false;
        /// How a domain's server is looked up: srv-then-a, a-then-srv, srv, a.
        order: String = "srv-then-a".to_owned(), reloads false;
        /// DNS servers, address:port; none for the system's.
        dns: Vec<String> = vec![], reloads false;
        /// Networks that names of other domains may lead to though they are private, loopback or
        /// link-local, such as 10.0.0.0/8.
        allow_addresses: Vec<String> = vec![], reloads false;
        /// A file of CA certificates that prove other domains; absent for the system's.
        ca: Option<PathBuf> = None, reloads true, example "tls/ca.pem";
        /// A file of certificate revocation lists of those CAs, PEM.
        crl: Option<PathBuf> = None, reloads true, example "tls/crl.pem";
        /// Time to find, reach and prove another server.
        dial_seconds: u64 = 10, reloads true;
        /// The first wait after a failed try, at most; it doubles from try to try,
        retry_min_milliseconds: u64 = 1000, reloads true;
        /// up to this.
        retry_max_seconds: u64 = 300, reloads true;
        /// Connections to one address and port within a minute that prove no server, whichever
        /// domains lead there; then it is left alone for the rest of the minute. More where very
        /// many domains have one server.
        unproven_connects_per_minute: u64 = 10, reloads true;
        /// How long a message is tried before its sender is told that it failed.
        queue_seconds: u64 = 86_400, reloads true;
        /// Messages that wait for one domain; then senders are answered `full`.
        queue_items_max: u64 = 10_000, reloads true;
        /// Their bytes on the disk.
        queue_bytes_max: u64 = 64 * 1024 * 1024, reloads true;
        /// Requests of one link that the other side may leave unanswered, and those we take.
        requests_in_flight_max: u64 = 64, reloads true;
        /// An answer from the other side must come within this; else the link is closed.
        answer_seconds: u64 = 60, reloads true;
        /// Frames a second from one link, on average; further ones are not read until then.
        frames_per_second: u64 = 1000, reloads true;
        /// Frames that one link may send at once after a rest.
        frames_burst: u64 = 5000, reloads true;
        /// Messages a second from one other domain, on average; further ones are `rate-limited`.
        messages_per_second: u64 = 100, reloads false;
        /// Messages that it may send at once after a rest.
        messages_burst: u64 = 5000, reloads false;
        /// Bytes that messages of one other domain have stored a second, on average, over all its
        /// links: their bodies and 1 KiB for each; further ones are `rate-limited`.
        stored_bytes_per_second: u64 = 1024 * 1024, reloads true;
        /// Bytes that they may have stored at once after a rest.
        stored_bytes_burst: u64 = 64 * 1024 * 1024, reloads true;
        /// Bytes of presence a second from one other domain, on average, over all its links, asked
        /// for or not; its links are not read for a while then.
        presence_bytes_per_second: u64 = 1024 * 1024, reloads true;
        /// Bytes of it that may come at once after a rest.
        presence_bytes_burst: u64 = 16 * 1024 * 1024, reloads true;
        /// Addresses a second, on average, existing or not, that one other domain may ask for, over all
        /// its links, and has not asked for lately; further ones are `rate-limited`.
        new_addresses_per_second: u64 = 200, reloads true;
        /// Such addresses at once after a rest.
        new_addresses_burst: u64 = 10_000, reloads true;
        /// Watchers of one other domain, and presentities of it that are followed from here.
        subscriptions_max: u64 = 100_000, reloads true;
        /// Bytes of presence of one other domain that are kept for its watchers here.
        presence_bytes_max: u64 = 64 * 1024 * 1024, reloads true;
        /// Other domains at once with links, or of which somebody needs something: who is followed,
        /// asked or written to there. One account has an eighth of them at most.
        domains_max: u64 = 4096, reloads true;
        /// The lease of a subscription between domains; it is refreshed at half time.
        lease_seconds: u64 = 3600, reloads true;
        /// A link that is lost for so long makes what was shown `stale`.
        stale_seconds: u64 = 60, reloads true;
        /// A PING is sent after so much silence; the other side is dead after half as much again.
        idle_seconds: u64 = 30, reloads true;
        /// A link on which nothing but PINGs was said for so long, and nobody watches, is closed.
        close_seconds: u64 = 600, reloads true;
        /// Whether other domains are told that an address does not exist here. If not, it answers
        /// as one whose owner never signs in.
        tell_unknown: bool = false, reloads true;
    }
}

/// A way to a domain that comes before DNS.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// The domain.
    #[serde(deserialize_with = "error::domain")]
    pub domain: Domain,
    /// Its servers, address:port, the first one first.
    pub targets: Vec<String>,
}

impl Config {
    /// How other domains are looked for.
    ///
    /// # Errors
    /// The setting that cannot be read.
    pub fn locating(&self) -> Result<Settings, SettingError> {
        let links = &self.federation;
        let federation = ("federation", 0);
        let mut routes = std::collections::HashMap::new();
        for (index, route) in self.route.iter().enumerate() {
            let targets = all(("route", index), "targets", &route.targets)?;
            routes.insert(route.domain.clone(), targets);
        }
        let allow = all(federation, "allow_addresses", &links.allow_addresses)?;
        let own = all(("server", 0), "listen", &self.server.listen)?;
        Ok(Settings {
            order: parsed(federation, "order", &links.order)?,
            dns: links.dns.iter().map(|text| dns_server(text)).collect::<Result<_, _>>()?,
            policy: Policy { allow, own },
            routes,
        })
    }
}

fn dns_server(text: &str) -> Result<SocketAddr, SettingError> {
    text.parse().map_err(|_| {
        // The port is what is forgotten.
        let example = match text.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, DNS_PORT).to_string(),
            Err(_) => "192.0.2.53:53".to_owned(),
        };
        let message = format!("dns = \"{text}\": expected ADDRESS:PORT, such as {example}");
        SettingError { section: ("federation", 0), name: "dns", message }
    })
}

fn all<T: FromStr<Err: Display>>(
    section: (&'static str, usize),
    name: &'static str,
    texts: &[String],
) -> Result<Vec<T>, SettingError> {
    texts.iter().map(|text| parsed(section, name, text)).collect()
}

fn parsed<T: FromStr<Err: Display>>(
    section: (&'static str, usize),
    name: &'static str,
    text: &str,
) -> Result<T, SettingError> {
    let wrong = |error| {
        let message = format!("{name} = \"{text}\": {error}");
        SettingError { section, name, message }
    };
    text.parse().map_err(wrong)
}
