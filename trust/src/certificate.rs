//! What is read in certificates: the addresses that a client's names (for EXTERNAL; SAN URIs `im:`
//! and `pres:`, and rfc822Names), and how long one holds.
//!
//! Whether anybody vouches for the certificate is left to `chain`, and for a client's to TLS.

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
