//! What is read in certificates: the addresses that a client's names (for EXTERNAL; SAN URIs `im:`
//! and `pres:`, and rfc822Names), and how long one holds.
//!
//! Whether the certificate is trusted was TLS's to check.

use std::path::Path;

use impp_protocol::{Address, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
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

/// Until when the first certificate of a PEM file holds.
pub fn valid_until(path: &Path) -> Option<Timestamp> {
    until(&CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?)
}

/// Until when a certificate holds.
pub fn until(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
}
