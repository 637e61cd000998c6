//! TLS to a server: TLS 1.3 alone, the certificate checked for the domain of the address.
//!
//! Where the server is is left to `dial`, what is said over it to `sign_in` and `connection`.

use std::path::Path;
use std::sync::Arc;

use impp_protocol::sasl::scram::{EXPORTER_LABEL, Exporter};
use impp_protocol::{ALPN_CLIENT, Domain, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ClientError, Refusal};
use crate::profile::{Credentials, Profile, ProfileError};

/// How a server is believed.
#[derive(Clone)]
pub(crate) struct Tls {
    domain: Domain,
    connector: TlsConnector,
}

impl Tls {
    /// What a profile says about it; reads the files that it names.
    pub(crate) fn from_profile(profile: &Profile) -> Result<Tls, ProfileError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let wrong = |error: rustls::Error| ProfileError::new(format!("TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(wrong)?
            .with_root_certificates(roots(profile.trust.as_deref())?);
        let mut config = match &profile.credentials {
            Credentials::Password(_) | Credentials::Nothing => builder.with_no_client_auth(),
            Credentials::Certificate { certificate, key } => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(wrong)?,
        };
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Tls { domain: profile.address.domain(), connector })
    }

    /// TLS over a connection to `server`, and what a sign-in is bound to it by.
    pub(crate) async fn handshake(
        &self,
        server: &str,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Exporter), ClientError> {
        let no_tls = |text: String, untrusted: bool| {
            let (server, domain) = (server.to_owned(), self.domain.to_string());
            ClientError::Tls { server, domain, text, untrusted }
        };
        let name = ServerName::try_from(self.domain.as_str().to_owned())
            .map_err(|error| no_tls(error.to_string(), false))?;
        let tls = self.connector.connect(name, tcp).await.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(refusal) = inner.and_then(refusal) {
                let (server, domain) = (server.to_owned(), self.domain.to_string());
                return ClientError::NotServed { server, domain, refusal };
            }
            let untrusted = matches!(inner, Some(rustls::Error::InvalidCertificate(_)));
            no_tls(inner.map_or_else(|| error.to_string(), words), untrusted)
        })?;
        let session = tls.get_ref().1;
        if session.alpn_protocol() != Some(ALPN_CLIENT) {
            let (server, domain) = (server.to_owned(), self.domain.to_string());
            return Err(ClientError::NotServed { server, domain, refusal: Refusal::Clients });
        }
        let exporter = session
            .export_keying_material(Exporter::default(), EXPORTER_LABEL, Some(b""))
            .map_err(|error| no_tls(error.to_string(), false))?;
        Ok((tls, exporter))
    }
}

/// An error of TLS in words. A certificate that does not hold now may be one that does by another
/// clock than this machine's.
fn words(error: &rustls::Error) -> String {
    use rustls::{CertificateError as Wrong, Error};
    let date = |time: UnixTime| Timestamp::from_millis(time.as_secs().saturating_mul(1000));
    let (fault, now) = match error {
        Error::InvalidCertificate(Wrong::ExpiredContext { time, not_after }) => {
            (format!("has expired on {}", date(*not_after)), date(*time))
        }
        Error::InvalidCertificate(Wrong::NotValidYetContext { time, not_before }) => {
            (format!("does not hold before {}", date(*not_before)), date(*time))
        }
        other => return other.to_string(),
    };
    format!("the server's certificate {fault}; by this machine's clock it is {now}, is that right?")
}

/// What the alert of a server that serves something else says.
fn refusal(error: &rustls::Error) -> Option<Refusal> {
    use rustls::AlertDescription::{
        AccessDenied, InternalError, NoApplicationProtocol, UnrecognisedName,
    };
    match error {
        rustls::Error::AlertReceived(AccessDenied | UnrecognisedName) => Some(Refusal::Domain),
        rustls::Error::AlertReceived(InternalError) => Some(Refusal::More),
        rustls::Error::AlertReceived(NoApplicationProtocol)
        | rustls::Error::NoApplicationProtocol => Some(Refusal::Clients),
        _ => None,
    }
}

fn roots(trust: Option<&Path>) -> Result<RootCertStore, ProfileError> {
    let mut roots = RootCertStore::empty();
    match trust {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    ProfileError::new(format!("trust file {}: {error}", path.display()))
                })?;
            }
        }
        None => {
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let error = ProfileError::new("this system trusts no certificates");
        return Err(error.hint("the profile's key trust names a file of certificates"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match found {
        Ok(found) if found.is_empty() => {
            Err(ProfileError::new(format!("no certificate in {}", path.display())))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(pem_error("certificates", path, &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ProfileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error("key", path, &error))
}

fn pem_error(what: &str, path: &Path, error: &rustls::pki_types::pem::Error) -> ProfileError {
    ProfileError::new(format!("cannot read {what} in {}: {error}", path.display()))
}
