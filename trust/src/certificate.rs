//! What is read in certificates: the addresses that a client's names (for EXTERNAL; SAN URIs `im:`
//! and `pres:`, and rfc822Names), and how long one holds.
//!
//! Whether anybody vouches for the certificate is left to `chain`, and for a client's to TLS.

use std::time::Duration;

use impp_protocol::{Address, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Addresses named, each once, in their order; other names are passed over.
pub fn addresses(certificate: &CertificateDer<'_>) -> Vec<Address> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return vec![] };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return vec![] };
    let mut addresses: Vec<Address> = Vec::new();
    for name in &names.value.general_names {
        let text = match name {
            GeneralName::URI(uri) if uri.starts_with("im:") || uri.starts_with("pres:") => uri,
            GeneralName::RFC822Name(name) if !name.contains(':') => name,
            _ => continue,
        };
        if let Ok(address) = Address::parse(text)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// The last part of its life in which a certificate is late to be renewed. Programs that renew them
/// do so when a third is left.
const LATE_PART: u32 = 5;
/// And the most that this can be.
const LATE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last one.
    pub until: Timestamp,
}

impl Validity {
    /// That of a certificate; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Validity> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        let until = timestamp(validity.not_after.timestamp())?;
        // What began before 1970 holds as from then.
        let from = timestamp(validity.not_before.timestamp().max(0))?;
        Some(Validity { from, until })
    }

    /// Whether it should have been renewed by now: a fifth of its life is left, or of a long one this
    /// many days. A certificate for six days is not late with five left, and one for ten years is not
    /// with two.
    pub fn is_late(self, now: Timestamp) -> bool {
        let (life, left) = (self.until.since(self.from), self.until.since(now));
        left < (life / LATE_PART).min(LATE_MAX)
    }

    /// Why it does not hold now, in words that follow "the certificate".
    pub fn fault(self, now: Timestamp) -> Option<String> {
        if self.until <= now {
            Some(format!("has expired on {}", self.until))
        } else if now < self.from {
            Some(format!("does not hold before {}", self.from))
        } else {
            None
        }
    }
}

/// Whether a certificate may prove a server: it names no purposes, or that one. `None` if it cannot
/// be read.
pub fn proves_servers(certificate: &CertificateDer<'_>) -> Option<bool> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let purposes = certificate.extended_key_usage().ok()?;
    Some(purposes.is_none_or(|purposes| purposes.value.any || purposes.value.server_auth))
}

fn timestamp(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(u64::try_from(seconds).ok()?.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_certificate_is_late_by_its_own_life() {
        let day = |day: u64| Timestamp::from_millis(day * 86_400_000);
        for (life, late) in [(6, 1), (90, 17), (398, 29), (3650, 29)] {
            let validity = Validity { from: day(0), until: day(life) };
            assert!(validity.is_late(day(life - late)), "{life}");
            assert!(!validity.is_late(day(life - late - 2)), "{life}");
        }
    }
}
