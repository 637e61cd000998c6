//! The settings of a world's servers, reading by reading: each says its number wherever it is seen, so
//! that people can tell which reading a server has answered them by.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use impp_protocol::Domain;
use impp_protocol::command::Hello;
use rustls::server::ResolvesServerCertUsingSni;

use crate::core::config::Config;
use crate::core::tls::Configurations;

/// What the settings say by the reading before the first, each in another part of them.
const LEASES_MAX: u64 = 4000;
const LEASE_MAX_SECONDS: u64 = 86_400;
/// Any wish for a lease of more is granted what the reading says.
pub(super) const LEASE_WISHED_SECONDS: u64 = 10 * LEASE_MAX_SECONDS;

/// The configuration of a domain, whose limits and times are of these readings.
pub(super) fn config(domain: &Domain, limits: u64, times: u64) -> Config {
    let (leases_max, lease_max) = (LEASES_MAX + limits, LEASE_MAX_SECONDS + times);
    let text = format!(
        "[[domain]]\nname = \"{domain}\"\ncertificate = \"c\"\nkey = \"k\"\n\
         [limits]\nleases_max = {leases_max}\n[times]\nlease_max_seconds = {lease_max}\n"
    );
    Config::parse(&text, Path::new("imppd.toml")).unwrap()
}

/// TLS of a reading: nothing is proven by it here, but it says which one it is.
pub(super) fn tls(reading: u64) -> Configurations {
    let nobody = Arc::new(ResolvesServerCertUsingSni::new());
    let clients = impp_trust::clients_config(None, nobody).unwrap();
    let mut clients = (*clients).clone();
    clients.alpn_protocols = vec![reading.to_be_bytes().to_vec()];
    let (end_points, links, dial, web, warnings) = Default::default();
    Configurations { clients: Arc::new(clients), end_points, links, dial, web, warnings }
}

/// The reading that TLS is of.
pub(super) fn of_tls(tls: &Configurations) -> u64 {
    let said = tls.clients.alpn_protocols.first().and_then(|said| (&said[..]).try_into().ok());
    said.map_or(0, u64::from_be_bytes)
}

/// The reading by which a lease was granted.
pub(super) fn of_lease(seconds: u64) -> u64 {
    seconds.saturating_sub(LEASE_MAX_SECONDS)
}

/// The readings that the parts of a HELLO are of.
pub(super) fn of_hello(hello: &Hello) -> [u64; 2] {
    let lease = hello.lease_max.map_or(0, |lease| lease.as_secs());
    [hello.leases_max.unwrap_or_default().saturating_sub(LEASES_MAX), of_lease(lease)]
}

/// What was seen of the settings, by domain: when it was heard, and of which reading it was.
#[derive(Default)]
pub(super) struct Readings(BTreeMap<Domain, Vec<(u64, u64)>>);

impl Readings {
    /// A server has answered by these readings what was asked at `asked`; what is wrong with that. All
    /// is of one reading, and of none older than what had been heard of it before.
    pub(super) fn seen(
        &mut self,
        domain: &Domain,
        (asked, heard): (u64, u64),
        readings: &[u64],
    ) -> Option<String> {
        let seen = self.0.entry(domain.clone()).or_default();
        let before = seen.iter().filter(|(heard, _)| *heard < asked).map(|(_, reading)| *reading);
        let newest = before.max().unwrap_or_default();
        let (oldest, last) = (*readings.iter().min()?, *readings.iter().max()?);
        seen.push((heard, last));
        let at = format!("{domain}, asked at {asked}");
        if oldest != last {
            return Some(format!(
                "{at}, answered by several readings of its settings: {readings:?}"
            ));
        }
        let old = oldest < newest;
        old.then(|| format!("{at}, answered by reading {oldest} of its settings after {newest}"))
    }
}
