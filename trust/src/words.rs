//! Why a handshake between servers failed, in words for the people of either.
//!
//! Deciding whether it does is left to `chain` and `names`.

use std::io;
use std::sync::Arc;

use impp_protocol::Timestamp;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, OtherError};

/// Names of a certificate that an error tells.
const NAMES_TOLD_MAX: usize = 8;

/// Why the other side's certificate does not prove its domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// None was presented.
    #[error("no certificate was presented")]
    NoCertificate,
    /// It is no certificate, or says nothing that can be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It is for other domains.
    #[error("{}; not for {wanted}", told(names))]
    OtherName {
        /// The domain to be proven.
        wanted: String,
        /// The DNS names in the certificate.
        names: Vec<String>,
    },
    /// It, or one above it, has expired.
    #[error("the certificate expired on {0}")]
    Expired(Timestamp),
    /// It, or one above it, does not hold yet.
    #[error("the certificate does not hold before {0}")]
    NotYetValid(Timestamp),
    /// It holds at no time.
    #[error("the certificate ends before it begins")]
    NeverValid,
    /// There is no path to a CA that we trust.
    #[error("the certificate's issuer is not trusted, or an intermediate certificate is missing")]
    UnknownIssuer,
    /// The CA took it back.
    #[error("the certificate has been revoked")]
    Revoked,
    /// The CA's revocation list given to us is too old to tell.
    #[error("the revocation list of the certificate's CA is out of date since {0}")]
    StaleRevocationList(Timestamp),
    /// A CA above it may not vouch for the name.
    #[error("a CA of the certificate may not vouch for its names")]
    Constrained,
    /// It, or one above it, is for other uses.
    #[error("the certificate may not be used to prove a server")]
    WrongUse,
    /// A certificate in the path is no CA's, or stands deeper than its CA allows; or that of a CA
    /// is presented as a domain's.
    #[error("the certificate was not issued by a CA, or is itself a CA's")]
    NotByCa,
    /// A signature is wrong.
    #[error("a signature of the certificate's chain is wrong")]
    BadSignature,
    /// There are too many certificates, or ways through them.
    #[error("the certificate's chain is too long")]
    TooLong,
    /// Anything else.
    #[error("the certificate cannot be accepted: {0}")]
    Other(String),
}

/// What a handshake ended with instead of a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other side does not prove its domain.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The other side does not accept our certificate.
    #[error("the other server does not accept our certificate: {0}")]
    Refused(&'static str),
    /// The other side does not host the domain called, or takes no connection now.
    #[error("the other server does not serve the domain, or takes no connection now")]
    NotServed,
    /// The other side speaks no links.
    #[error("the other server does not offer links between servers (ALPN impp-s2s/1)")]
    NoLinks,
    /// TLS failed otherwise.
    #[error("no TLS connection: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("the connection ended: {0}")]
    Broken(String),
}

impl HandshakeError {
    /// What an error of a TLS stream was about. That our certificate is refused is told by the
    /// first read after the handshake, as it ends at the dialling side first.
    pub fn of_io(error: &io::Error) -> HandshakeError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => HandshakeError::of(error),
            None => HandshakeError::Broken(error.to_string()),
        }
    }

    /// What an error of TLS was about.
    pub fn of(error: &rustls::Error) -> HandshakeError {
        use AlertDescription as Alert;
        match error {
            rustls::Error::InvalidCertificate(error) => Unproven::of(error).into(),
            rustls::Error::NoCertificatesPresented => Unproven::NoCertificate.into(),
            rustls::Error::NoApplicationProtocol => HandshakeError::NoLinks,
            rustls::Error::AlertReceived(alert) => match alert {
                Alert::NoApplicationProtocol => HandshakeError::NoLinks,
                Alert::AccessDenied | Alert::UnrecognisedName => HandshakeError::NotServed,
                Alert::CertificateExpired => HandshakeError::Refused("it does not hold now"),
                Alert::CertificateRevoked => HandshakeError::Refused("it has been revoked"),
                Alert::UnknownCA => HandshakeError::Refused("its issuer is not trusted there"),
                Alert::UnsupportedCertificate => HandshakeError::Refused("it is for other uses"),
                Alert::CertificateRequired => HandshakeError::Refused("none was presented"),
                Alert::BadCertificate | Alert::CertificateUnknown => {
                    HandshakeError::Refused("it does not say why")
                }
                Alert::ProtocolVersion => {
                    HandshakeError::Tls("the other server does not speak TLS 1.3".to_owned())
                }
                other => HandshakeError::Tls(format!("the other server ended it: {other:?}")),
            },
            other => HandshakeError::Tls(other.to_string()),
        }
    }
}

impl Unproven {
    /// What an error about a certificate means.
    fn of(error: &CertificateError) -> Unproven {
        use CertificateError as Error;
        match error {
            Error::BadEncoding => Unproven::Unreadable,
            Error::ExpiredContext { not_after, .. } => Unproven::Expired(stamp(*not_after)),
            Error::NotValidYetContext { not_before, .. } => {
                Unproven::NotYetValid(stamp(*not_before))
            }
            Error::ExpiredRevocationListContext { next_update, .. } => {
                Unproven::StaleRevocationList(stamp(*next_update))
            }
            Error::NotValidForNameContext { expected, presented } => Unproven::OtherName {
                wanted: expected.to_str().into_owned(),
                names: presented.clone(),
            },
            Error::UnknownIssuer => Unproven::UnknownIssuer,
            Error::Revoked => Unproven::Revoked,
            Error::InvalidPurpose => Unproven::WrongUse,
            Error::BadSignature => Unproven::BadSignature,
            Error::Other(OtherError(inner)) => match inner.downcast_ref::<Unproven>() {
                Some(unproven) => unproven.clone(),
                None => Unproven::Other(inner.to_string()),
            },
            other => Unproven::Other(other.to_string()),
        }
    }

    /// As an error of TLS, in the form from which it makes the most telling alert for the other
    /// side; [`Unproven::of`] reads it back. `now` is when the certificate was judged.
    pub(crate) fn into_certificate_error(self, now: UnixTime) -> CertificateError {
        use CertificateError as Error;
        match self {
            Unproven::Unreadable => Error::BadEncoding,
            Unproven::Expired(at) => Error::ExpiredContext { time: now, not_after: time(at) },
            Unproven::NotYetValid(at) => {
                Error::NotValidYetContext { time: now, not_before: time(at) }
            }
            Unproven::StaleRevocationList(at) => {
                Error::ExpiredRevocationListContext { time: now, next_update: time(at) }
            }
            Unproven::OtherName { ref wanted, ref names } => {
                match ServerName::try_from(wanted.clone()) {
                    Ok(expected) => {
                        Error::NotValidForNameContext { expected, presented: names.clone() }
                    }
                    Err(_) => Error::Other(OtherError(Arc::new(self))),
                }
            }
            Unproven::UnknownIssuer => Error::UnknownIssuer,
            Unproven::Revoked => Error::Revoked,
            Unproven::WrongUse => Error::InvalidPurpose,
            Unproven::BadSignature => Error::BadSignature,
            other => Error::Other(OtherError(Arc::new(other))),
        }
    }
}

impl From<webpki::Error> for Unproven {
    fn from(error: webpki::Error) -> Unproven {
        use webpki::Error;
        match error {
            Error::CertExpired { not_after, .. } => Unproven::Expired(stamp(not_after)),
            Error::CertNotValidYet { not_before, .. } => Unproven::NotYetValid(stamp(not_before)),
            Error::CrlExpired { next_update, .. } => {
                Unproven::StaleRevocationList(stamp(next_update))
            }
            Error::InvalidCertValidity => Unproven::NeverValid,
            Error::UnknownIssuer => Unproven::UnknownIssuer,
            Error::CertRevoked => Unproven::Revoked,
            Error::NameConstraintViolation => Unproven::Constrained,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Unproven::WrongUse,
            Error::EndEntityUsedAsCa
            | Error::CaUsedAsEndEntity
            | Error::PathLenConstraintViolated => Unproven::NotByCa,
            Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => {
                Unproven::BadSignature
            }
            Error::MaximumPathDepthExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::MaximumNameConstraintComparisonsExceeded => Unproven::TooLong,
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => Unproven::Unreadable,
            other => Unproven::Other(other.to_string()),
        }
    }
}

/// What a certificate is for, in words.
fn told(names: &[String]) -> String {
    if names.is_empty() {
        return "the certificate is for no domain (it has no DNS name in its SAN)".to_owned();
    }
    let first = &names[..names.len().min(NAMES_TOLD_MAX)];
    let more = match names.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the certificate is for {}{more}", first.join(", "))
}

fn stamp(time: UnixTime) -> Timestamp {
    Timestamp::from_millis(time.as_secs().saturating_mul(1000))
}

fn time(stamp: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_millis(stamp.as_millis()))
}
