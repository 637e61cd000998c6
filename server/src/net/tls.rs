//! TLS configurations, 1.3 only, from the domains' certificates: for clients, for links that are
//! accepted, for links that are dialled.
//!
//! Accepting is left to `listen`; which certificates prove a domain on a link to
//! `impp_federation::prove`. Clients and links share nothing that could be resumed: a ticket or a
//! certificate of the one never passes as the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use impp_federation::prove::{self, ProveError, Trust};
use impp_protocol::Domain;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{Config, ConfigError, Hosted, plain};

/// Label of the exporter that binds a sign-in to its TLS connection (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const NO_ROOTS: &str = "no other domain can be proven: the system has no CA certificates, and ca \
                        in [federation] names no others";

/// The configurations made from one reading of the files; replaced all together.
#[derive(Debug)]
pub struct Configurations {
    /// For clients of all hosted domains.
    pub clients: Arc<ServerConfig>,
    /// For servers of other domains that connect; `None` if no hosted domain has links.
    pub links: Option<Arc<ServerConfig>>,
    /// For connecting to servers of other domains, by the hosted domain that they are shown: one
    /// for each that has links.
    pub dial: BTreeMap<Domain, Arc<ClientConfig>>,
    /// What will not work, though it keeps nothing else from working.
    pub warnings: Vec<String>,
}

impl Configurations {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file that cannot be used, and why.
    pub fn load(config: &Config) -> Result<Configurations, ConfigError> {
        let mut keys = Vec::new();
        for hosted in &config.domain {
            keys.push((hosted, certified(hosted)?));
        }
        let mut made = Configurations {
            clients: for_clients(config, &keys)?,
            links: None,
            dial: BTreeMap::new(),
            warnings: Vec::new(),
        };
        keys.retain(|(hosted, _)| config.federation.enabled && has_links(&hosted.name));
        if !keys.is_empty() {
            made.add_links(config, &keys)?;
        }
        Ok(made)
    }

    fn add_links(
        &mut self,
        config: &Config,
        keys: &[(&Hosted, CertifiedKey)],
    ) -> Result<(), ConfigError> {
        let (ca, crl) = (config.federation.ca.as_deref(), config.federation.crl.as_deref());
        let trust = Trust::load(ca, crl)
            .map_err(|ProveError { path, message }| ConfigError::new(&path, None, message))?;
        if trust.is_empty() {
            self.warnings.push(NO_ROOTS.to_owned());
        }
        let mut dial = BTreeMap::new();
        for (hosted, key) in keys {
            if let Err(unproven) = prove::proves(&key.cert, &hosted.name) {
                let file = hosted.certificate.display();
                self.warnings.push(format!("{file}: other domains will refuse it: {unproven}"));
            }
            let made = prove::dial_config(&trust, Arc::new(key.clone())).map_err(unusable)?;
            dial.insert(hosted.name.clone(), made);
        }
        let resolver = Arc::new(by_name(keys)?);
        self.links = Some(prove::accept_config(&trust, resolver).map_err(unusable)?);
        self.dial = dial;
        Ok(())
    }
}

/// Whether a domain can have links: a name of one label means something else on each network.
fn has_links(domain: &Domain) -> bool {
    domain.as_str().contains('.')
}

fn for_clients(
    config: &Config,
    keys: &[(&Hosted, CertifiedKey)],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
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
    let mut tls = builder.with_cert_resolver(Arc::new(by_name(keys)?));
    tls.alpn_protocols = vec![impp_protocol::ALPN_CLIENT.to_vec()];
    Ok(Arc::new(tls))
}

/// Finds the certificate of the domain that is called.
fn by_name(keys: &[(&Hosted, CertifiedKey)]) -> Result<ResolvesServerCertUsingSni, ConfigError> {
    let mut resolver = ResolvesServerCertUsingSni::new();
    for (hosted, key) in keys {
        resolver.add(hosted.name.as_str(), key.clone()).map_err(|error| {
            let message = format!("is no certificate for {}: {error}", hosted.name);
            ConfigError::new(&hosted.certificate, None, message)
        })?;
    }
    Ok(resolver)
}

fn unusable(error: rustls::Error) -> ConfigError {
    ConfigError::new(Path::new("tls"), None, error.to_string())
}

fn certified(hosted: &Hosted) -> Result<CertifiedKey, ConfigError> {
    let path = &hosted.certificate;
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        let mut error = ConfigError::new(path, None, "holds no certificate".to_owned());
        if PrivateKeyDer::from_pem_file(path).is_ok() {
            error.message.push_str(", but a key");
            error.hint = Some("certificate = FILE and key = FILE may be exchanged".to_owned());
        }
        return Err(error);
    }
    private(&hosted.key)?;
    let key = PrivateKeyDer::from_pem_file(&hosted.key).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            ConfigError::new(&hosted.key, None, "holds no private key".to_owned())
        }
        error => unreadable(&hosted.key, error),
    })?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| ConfigError::new(&hosted.key, None, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| {
        let message = format!("does not belong to {}: {error}", path.display());
        ConfigError::new(&hosted.key, None, message)
    })?;
    Ok(certified)
}

fn unreadable(path: &Path, error: pem::Error) -> ConfigError {
    let message = match error {
        pem::Error::Io(error) => format!("cannot be read: {}", plain(&error)),
        error => format!("cannot be read as PEM: {error}"),
    };
    ConfigError::new(path, None, message)
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, ConfigError> {
    let wrong = |message: String| ConfigError::new(path, None, message);
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(path, error))?;
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
    let metadata = std::fs::metadata(path).map_err(|error| {
        ConfigError::new(path, None, format!("cannot be read: {}", plain(&error)))
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let mut error = ConfigError::new(path, None, "can be read by others".to_owned());
        error.hint = Some(format!("chmod 600 {}", path.display()));
        return Err(error);
    }
    Ok(())
}
