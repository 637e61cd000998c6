//! Checking a chain of certificates: who vouches for it, until when, for what use, what is revoked.
//!
//! What it costs is bounded whatever is sent: a chain holds at most [`CHAIN_MAX`] certificates, and
//! webpki's search for a path has a budget of 100 signatures, 6 intermediates in a path, and
//! 250,000 comparisons with name constraints. Without our bound the 200,000 steps that it allows
//! would be the limit, each of them over all certificates sent. How many octets a chain may take is
//! left to who reads them.

use impp_protocol::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::names::names;
use crate::trust::Trust;
use crate::words::Unproven;

/// Certificates in a chain: the domain's own and six others, which is the longest path there is.
/// With so many, all ways through them are at most 1,957.
pub const CHAIN_MAX: usize = 7;

/// What both ends check.
#[derive(Debug)]
struct Chain {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The check of a dialling server: of the certificate of who was called.
#[derive(Debug)]
pub(crate) struct Dialling(Chain);

/// The check of an accepting server: of the certificate of who calls.
#[derive(Debug)]
pub(crate) struct Accepting(Chain);

impl Dialling {
    pub(crate) fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Dialling {
        Dialling(Chain { trust, algorithms })
    }
}

impl Accepting {
    pub(crate) fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Accepting {
        Accepting(Chain { trust, algorithms })
    }
}

impl Chain {
    /// Whether a CA vouches for a certificate that may be used for one of `usages`, tried in their
    /// order. A path must allow the same use from its root to its end.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usages: &[KeyUsage],
    ) -> Result<(), Unproven> {
        if others.len() >= CHAIN_MAX {
            return Err(Unproven::TooLong);
        }
        let leaf = EndEntityCert::try_from(leaf).map_err(Unproven::from)?;
        let crls: Vec<_> = self.trust.crls().iter().collect();
        let mut unproven = Unproven::WrongUse;
        for usage in usages {
            let checked = leaf.verify_for_usage(
                self.algorithms.all,
                &self.trust.roots().roots,
                others,
                now,
                *usage,
                revocation(&crls),
                None,
            );
            unproven = match checked.map_err(Unproven::from) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if unproven != Unproven::WrongUse {
                break;
            }
        }
        Err(unproven)
    }

    fn check_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }
}

/// Whether the servers of other domains would believe a chain that ours presents, if they trust the
/// CAs that we trust, and know what we know of revocations.
///
/// # Errors
/// Why not.
pub fn convinces(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), Unproven> {
    let (leaf, others) = chain.split_first().ok_or(Unproven::NoCertificate)?;
    let algorithms = crate::provider().signature_verification_algorithms;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.as_millis()));
    Chain { trust: trust.clone(), algorithms }.check(leaf, others, now, &[KeyUsage::server_auth()])
}

/// What is revoked is refused, anywhere in the path, and so is what a list out of date says
/// nothing of any more. A CA of which no list was given has revoked nothing.
fn revocation<'a>(crls: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let builder = RevocationOptionsBuilder::new(crls).ok()?;
    let builder = builder.with_status_policy(UnknownStatusPolicy::Allow);
    Some(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
}

impl ServerCertVerifier for Dialling {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ServerName::DnsName(domain) = called else { return Err(Error::UnsupportedNameType) };
        let checked = self.0.check(leaf, others, now, &[KeyUsage::server_auth()]);
        let proven = checked.and_then(|()| names(leaf, domain.as_ref()));
        proven.map_err(|unproven| refused(unproven, now))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.check_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Accepting {
    /// None: the names of all CAs of a system would make our half of the handshake 20 KiB long, and
    /// a server has one certificate for its domain anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let usages = [KeyUsage::server_auth(), KeyUsage::client_auth()];
        let checked = self.0.check(leaf, others, now, &usages);
        checked.map_err(|unproven| refused(unproven, now))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.check_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// Never reached: neither configuration speaks it.
fn no_tls12() -> Error {
    Error::General("links speak TLS 1.3 only".to_owned())
}

fn refused(unproven: Unproven, now: UnixTime) -> Error {
    Error::InvalidCertificate(unproven.into_certificate_error(now))
}
