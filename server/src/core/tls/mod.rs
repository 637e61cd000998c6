//! TLS configurations, 1.3 only, from the domains' certificates: for clients, for links that are
//! accepted, for links that are dialled, for whoever speaks HTTP.
//!
//! Accepting is left to `front/listen.rs`; reading the files, and which certificates prove what, to
//! `impp_trust`. Clients, links and the web share nothing that could be resumed: a ticket or a certificate
//! of one never passes as another's.

mod web;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use impp_protocol::Domain;
use impp_protocol::sasl::resume::{EndPoint, end_point};
use impp_trust::{Trust, files};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};

pub use web::Web;

use crate::core::config::{Config, ConfigError, Hosted};

const NO_ROOTS: &str = "no other domain can be proven: the system has no CA certificates, and ca \
                        in [federation] names no others";

/// The configurations made from one reading of the files; replaced all together.
#[derive(Debug)]
pub struct Configurations {
    /// For clients of all hosted domains.
    pub clients: Arc<ServerConfig>,
    /// What each hosted domain is proven to them by.
    pub end_points: BTreeMap<Domain, EndPoint>,
    /// For servers of other domains that connect; `None` if no hosted domain has links.
    pub links: Option<Arc<ServerConfig>>,
    /// For connecting to servers of other domains, by the hosted domain that they are shown: one
    /// for each that has links.
    pub dial: BTreeMap<Domain, Arc<ClientConfig>>,
    /// For whoever speaks HTTP; `None` if no hosted domain has a name for that.
    pub web: Option<Web>,
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
            keys.push((hosted, files::certified(&hosted.certificate, &hosted.key)?));
        }
        let shown = keys.iter().filter_map(|(hosted, key)| {
            let leaf = key.cert.first()?;
            Some((hosted.name.clone(), end_point(leaf)))
        });
        let mut made = Configurations {
            end_points: shown.collect(),
            clients: for_clients(config, &keys)?,
            links: None,
            dial: BTreeMap::new(),
            web: Web::load(&keys)?,
            warnings: Vec::new(),
        };
        keys.retain(|(hosted, _)| config.federation.enabled && hosted.name.is_global());
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
        let trust = Trust::load(ca, crl)?;
        if trust.is_empty() {
            self.warnings.push(NO_ROOTS.to_owned());
        }
        let mut dial = BTreeMap::new();
        for (hosted, key) in keys {
            if let Err(unproven) = impp_trust::proves(&key.cert, &hosted.name) {
                let file = hosted.certificate.display();
                self.warnings.push(format!("{file}: other domains will refuse it: {unproven}"));
            }
            let made = impp_trust::dial_config(&trust, Arc::new(key.clone())).map_err(unusable)?;
            dial.insert(hosted.name.clone(), made);
        }
        let resolver = Arc::new(by_domain(keys)?);
        self.links = Some(impp_trust::accept_config(&trust, resolver).map_err(unusable)?);
        self.dial = dial;
        Ok(())
    }
}

fn for_clients(
    config: &Config,
    keys: &[(&Hosted, CertifiedKey)],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let roots = config.tls.client_ca.as_deref().map(files::client_roots).transpose()?;
    impp_trust::clients_config(roots, Arc::new(by_domain(keys)?)).map_err(unusable)
}

/// Finds the certificate of the domain that is called.
fn by_domain(keys: &[(&Hosted, CertifiedKey)]) -> Result<ResolvesServerCertUsingSni, ConfigError> {
    by_name(keys.iter().map(|(hosted, key)| (&hosted.name, &*hosted.certificate, key)))
}

/// Finds the certificate for the name that is called; of each it is said in which file it is.
fn by_name<'a>(
    shown: impl IntoIterator<Item = (&'a Domain, &'a Path, &'a CertifiedKey)>,
) -> Result<ResolvesServerCertUsingSni, ConfigError> {
    let mut resolver = ResolvesServerCertUsingSni::new();
    for (name, file, key) in shown {
        resolver.add(name.as_str(), key.clone()).map_err(|error| {
            let message = format!("is no certificate for {name}: {error}");
            ConfigError::new(file, None, message)
        })?;
    }
    Ok(resolver)
}

fn unusable(error: rustls::Error) -> ConfigError {
    ConfigError::new(Path::new("tls"), None, error.to_string())
}
