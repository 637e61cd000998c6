//! The policy of a hosted domain, read from the file that its administrator names.
//!
//! What it says is `impp_acl`'s; who is decided about anew when it changes, `core::principals`'.

use std::sync::Arc;

use impp_acl::DomainPolicy;

use super::{Config, ConfigError, Hosted, plain};

impl Hosted {
    /// Reads the file, if one is named. One that is missing, empty or wrong in any word is no policy:
    /// the server does not start with it, nor reload.
    pub(super) fn read_policy(&mut self) -> Result<(), ConfigError> {
        let Some(path) = &self.policy else { return Ok(()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The server does not start with it, the operator's commands go on.
    #[test]
    fn a_policy_that_cannot_be_used_is_in_the_way_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (path, policy) = (folder.path().join("imppd.toml"), folder.path().join("policy.toml"));
        let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n\
                    policy = \"policy.toml\"\n";
        std::fs::write(&path, text).unwrap();
        for wrong in [None, Some(""), Some("[[ceiling]"), Some("[[floor]]\nid = \"x\"\n")] {
            if let Some(wrong) = wrong {
                std::fs::write(&policy, wrong).unwrap();
            }
            let error = Config::load(&path).unwrap_err().to_string();
            assert!(error.contains("policy.toml"), "{wrong:?}: {error}");
            let config = Config::load_without_policies(&path).unwrap();
            assert_eq!(config.domain[0].policy.as_ref(), Some(&policy));
            assert_eq!(config.domain_policy("a.example"), *DomainPolicy::none());
        }
        let floor = "[[floor]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n";
        std::fs::write(&policy, floor).unwrap();
        let config = Config::load(&path).unwrap();
        assert_ne!(config.domain_policy("a.example"), *DomainPolicy::none());
    }
}
