//! The policy of a hosted domain, read from the file that its administrator names.
//!
//! What it says is `impp_acl`'s; who is decided about anew when it changes, `core::principals`'.

use std::path::Path;
use std::sync::Arc;

use impp_acl::DomainPolicy;

use super::{Config, ConfigError, Hosted, plain};

impl Hosted {
    /// Reads the file, if one is named. One that is missing, empty or wrong in any word is no policy:
    /// the server does not start with it, nor reload.
    pub(super) fn read_policy(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let Some(path) = &mut self.policy else { return Ok(()) };
        *path = folder.join(&*path);
        let text = std::fs::read_to_string(&*path).map_err(|error| {
            ConfigError::new(path, None, format!("cannot be read: {}", plain(&error)))
        })?;
        let policy = DomainPolicy::parse(&text).map_err(|wrong| {
            let error = ConfigError::new(path, Some(wrong.line), wrong.message);
            ConfigError { hint: wrong.hint, ..error }
        })?;
        self.laid_down = Arc::new(policy);
        Ok(())
    }
}

impl Config {
    /// What is laid down for the users of a domain.
    pub fn domain_policy(&self, domain: &str) -> Arc<DomainPolicy> {
        let hosted = self.domain.iter().find(|hosted| hosted.name.as_str() == domain);
        hosted.map_or_else(|| DomainPolicy::none().clone(), |hosted| hosted.laid_down.clone())
    }
}
