//! TLS configurations: for clients, TLS 1.3 only, from the domains' certificates.
//!
//! Accepting is left to `listen`. Links between servers will have a configuration, ticket keys
//! and a session store of their own.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::config::{Config, ConfigError, Hosted};

/// Label of the exporter that binds a sign-in to its TLS connection (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The configuration for clients of all hosted domains.
///
/// # Errors
/// [`ConfigError`] naming the file that cannot be used, and why.
pub fn for_clients(config: &Config) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ConfigError::new(Path::new("tls"), None, error.to_string()))?;
    let builder = match &config.tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(path)?, provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| ConfigError::new(path, None, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut resolver = ResolvesServerCertUsingSni::new();
    for hosted in &config.domain {
        let key = certified(hosted)?;
        resolver.add(hosted.name.as_str(), key).map_err(|error| {
            let message = format!("is no certificate for {}: {error}", hosted.name);
            ConfigError::new(&hosted.certificate, None, message)
        })?;
    }
    let mut tls = builder.with_cert_resolver(Arc::new(resolver));
    tls.alpn_protocols = vec![impp_protocol::ALPN_CLIENT.to_vec()];
    Ok(Arc::new(tls))
}

fn certified(hosted: &Hosted) -> Result<CertifiedKey, ConfigError> {
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| {
        ConfigError::new(path, None, format!("cannot be read as PEM: {error}"))
    };
    let path = &hosted.certificate;
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, error))?;
    private(&hosted.key)?;
    let key = PrivateKeyDer::from_pem_file(&hosted.key)
        .map_err(|error| unreadable(&hosted.key, error))?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| ConfigError::new(&hosted.key, None, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| {
        let message = format!("does not belong to {}: {error}", path.display());
        ConfigError::new(&hosted.key, None, message)
    })?;
    Ok(certified)
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, ConfigError> {
    let wrong = |message: String| ConfigError::new(path, None, message);
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(Arc::new(roots))
}

/// Refuses a secret's file that others may read.
///
/// # Errors
/// [`ConfigError`] with the remedy.
pub fn private(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path)
        .map_err(|error| ConfigError::new(path, None, format!("cannot be read: {error}")))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let mut error = ConfigError::new(path, None, "can be read by others".to_owned());
        error.hint = Some(format!("chmod 600 {}", path.display()));
        return Err(error);
    }
    Ok(())
}
