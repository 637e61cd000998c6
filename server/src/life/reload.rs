//! Reading the configuration again, all or nothing, and putting one in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use impp_presence::LinkId;
use impp_protocol::command::{Bye, ByeReason};
use impp_trust::certificate::Validity;
use impp_trust::files;

use crate::core::DashMap;
use crate::core::accounts::Accounts;
use crate::core::clock::Clock;
use crate::core::config::{Config, ConfigError, Hosted};
use crate::core::principals::Principals;
use crate::core::settings::{Settings, Snapshot};
use crate::core::tls::Configurations;
use crate::front::control::{self, Administration, Request, Response};
use crate::link::{LinkMailbox, Peers};

/// Where a configuration is read from, and who has to hear of another one.
#[derive(Clone)]
pub(crate) struct Reload {
    pub path: PathBuf,
    pub settings: Arc<Settings>,
    pub accounts: Arc<Accounts>,
    pub links: Arc<DashMap<LinkId, Arc<LinkMailbox>>>,
    pub peers: Arc<Peers>,
    pub principals: Arc<Principals>,
}

impl Reload {
    /// Reads the configuration again: a file that cannot be used changes nothing. The log has what of
    /// it does not work, or needs a restart; so has what is returned.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn now(&self) -> Result<Vec<String>, ConfigError> {
        self.with(Config::load(&self.path)?, Configurations::load)
    }

    /// The same with a configuration that was read, and with what makes TLS of one.
    pub(crate) fn with(
        &self,
        mut new: Config,
        tls: impl FnOnce(&Config) -> Result<Configurations, ConfigError>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut fixed = new.keep_fixed(&self.settings.load());
        if !new.domain.iter().map(|hosted| &hosted.name).eq(self.accounts.domains()) {
            fixed.push("[[domain]] name".to_owned());
        }
        let tls = tls(&new)?;
        let restart = fixed.into_iter().map(|name| format!("{name} needs a restart"));
        let mut warnings: Vec<String> = restart.collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let next = Snapshot { config: new, tls: Some(Arc::new(tls)) };
        warnings.extend(put_in_force(&self.settings, next));
        self.peers.read_again();
        self.principals.laid_down();
        // What a link has proven, it has proven to the certificates of before: it opens again at once.
        for link in self.links.iter() {
            link.end(Bye::new(ByeReason::Idle, "certificates were read again"));
        }
        tracing::info!("configuration reloaded");
        Ok(warnings)
    }
}

/// Serves with these settings and certificates from now on; what will not work with them is logged.
pub(super) fn put_in_force(settings: &Settings, next: Snapshot) -> Vec<String> {
    let now = Clock::start().wall();
    let out_of_time = |hosted: &Hosted, path: &Path| {
        let why = Validity::of(&files::first(path)?)?.fault(now)?;
        Some(format!("{}: the certificate of {} {why}", path.display(), hosted.name))
    };
    let of = |hosted: &Hosted| {
        hosted.certificates().filter_map(|path| out_of_time(hosted, path)).collect::<Vec<_>>()
    };
    let mut warnings: Vec<String> = next.domain.iter().flat_map(of).collect();
    warnings.extend(next.tls.iter().flat_map(|tls| tls.warnings.iter().cloned()));
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    settings.put_in_force(next);
    warnings
}

/// What is asked on the control socket, done.
pub(super) fn answering(server: Arc<Administration>, again: Reload) -> control::Answering {
    Arc::new(move |request| {
        let (server, again) = (server.clone(), again.clone());
        Box::pin(async move {
            match request {
                Request::Reload => match again.now() {
                    Ok(warnings) => Response::Reloaded { warnings },
                    Err(error) => control::refused(2, error.to_string(), error.hint),
                },
                request => control::handle(&server, request).await,
            }
        })
    })
}
