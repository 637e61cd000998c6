//! Which domains a certificate proves: those that are its DNS names, letter for letter.
//!
//! Whether anybody vouches for the certificate is left to `chain`.

use impp_protocol::Domain;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::words::Unproven;

/// Whether a certificate, the first of `chain`, is one for `domain`.
///
/// Only a DNS name in the SAN that equals the domain counts. The common name never does, nor an IP
/// address; and no wildcard: `*.example` vouches for hosts under a domain, and the users of
/// `a.example` are not theirs.
///
/// # Errors
/// [`Unproven`], with the names that there are.
pub fn proves(chain: &[CertificateDer<'_>], domain: &Domain) -> Result<(), Unproven> {
    match chain.first() {
        Some(leaf) => names(leaf, domain.as_str()),
        None => Err(Unproven::NoCertificate),
    }
}

/// The same for a domain's canonical text.
pub(crate) fn names(leaf: &CertificateDer<'_>, domain: &str) -> Result<(), Unproven> {
    let leaf = EndEntityCert::try_from(leaf).map_err(Unproven::from)?;
    if leaf.valid_dns_names().any(|name| name.eq_ignore_ascii_case(domain)) {
        return Ok(());
    }
    let names = leaf.valid_dns_names().map(str::to_owned).collect();
    Err(Unproven::OtherName { wanted: domain.to_owned(), names })
}
