//! TLS of the web door: by which names it is called, and by which certificate each of them is proven.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use impp_protocol::Domain;
use impp_trust::files;
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

use super::{by_name, unusable};
use crate::core::config::{ConfigError, Hosted};

const HINT: &str = "web_certificate and web_key name a pair that is for all names in web";

/// See the module.
#[derive(Debug)]
pub struct Web {
    /// For those who call one of the names.
    pub config: Arc<ServerConfig>,
    names: BTreeSet<Domain>,
}

impl Web {
    /// Of all domains that have names for it, each with its pair; `None` if there is none.
    pub(super) fn load(keys: &[(&Hosted, CertifiedKey)]) -> Result<Option<Web>, ConfigError> {
        let mut shown: Vec<(&Domain, &Path, Cow<'_, CertifiedKey>)> = Vec::new();
        for (hosted, own) in keys.iter().filter(|(hosted, _)| !hosted.web.is_empty()) {
            let (file, key) = match (&hosted.web_certificate, &hosted.web_key) {
                (Some(file), Some(key)) => (file, Cow::Owned(files::certified(file, key)?)),
                _ => (&hosted.certificate, Cow::Borrowed(own)),
            };
            shown.extend(hosted.web.iter().map(|name| (name, &**file, key.clone())));
        }
        if shown.is_empty() {
            return Ok(None);
        }
        let resolver = by_name(shown.iter().map(|(name, file, key)| (*name, *file, &**key)))
            .map_err(|error| ConfigError { hint: Some(HINT.to_owned()), ..error })?;
        let config = impp_trust::web_config(Arc::new(resolver)).map_err(unusable)?;
        Ok(Some(Web { config, names: shown.into_iter().map(|(name, ..)| name.clone()).collect() }))
    }

    /// Whether it is called by this name (SNI).
    pub fn is_called(&self, name: Option<&str>) -> bool {
        let name = name.and_then(|name| Domain::parse(name).ok());
        name.is_some_and(|name| self.names.contains(&name))
    }
}
