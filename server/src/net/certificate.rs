//! The addresses that a client's certificate names (for EXTERNAL): SAN URIs `im:` and `pres:`, and
//! rfc822Names.
//!
//! Whether the certificate is trusted was TLS's to check.

use impp_protocol::Address;
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
