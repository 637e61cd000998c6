//! A running server: from a configuration to accepting, and to an orderly stop.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Timestamp;
use impp_protocol::command::{Bye, ByeReason};
use impp_storage::{Expect, Op, Options, SqliteStore, StoreError};
use impp_trust::certificate::Validity;
use impp_trust::files;
use tokio::net::lookup_host;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Hosted, seconds};
use crate::control::{self, Request, Response};
use crate::delivery::DEDUP_KEPT;
use crate::host::{Host, StartError, bye};
use crate::link;
use crate::net::listen::Listener;
use crate::records;
use crate::settings::Snapshot;
use crate::tls::Configurations;

/// How long an orderly stop waits for connections to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How often records of de-duplication are cleared away.
const SWEEP: Duration = Duration::from_secs(3600);

/// What kept a server from running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration, or a file that it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in the store.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An address or socket.
    #[error("{what}: {error}")]
    Bind {
        /// Which one.
        what: String,
        /// The system's error.
        error: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Running {
    /// What connections share.
    pub host: Arc<Host>,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Where /metrics is, if anywhere.
    pub http: Option<SocketAddr>,
}

impl Running {
    /// Opens the store of a configuration.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn open(config: Config) -> Result<Arc<Host>, RunError> {
        let path = config.server.store.clone();
        // Opening reads and checks files; nothing else runs yet.
        let store = SqliteStore::open(&path, Options::default())?;
        Ok(Host::start(config, Arc::new(store)).await?)
    }

    /// Starts to accept.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(
        host: Arc<Host>,
        listeners: Vec<Listener>,
        config_path: &Path,
    ) -> Result<Running, RunError> {
        let config = Config::clone(&host.settings.load());
        let tls = Configurations::load(&config)?;
        put_in_force(&host, config, tls);
        let config = host.settings.load_full();
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let http = match &config.server.http {
            Some(address) => Some(
                crate::http::start(host.clone(), address)
                    .await
                    .map_err(|error| bind(format!("http {address}"), error))?,
            ),
            None => None,
        };
        let socket = &config.server.control;
        control::listen(socket, answering(host.clone(), config_path.to_owned()))
            .map_err(|error| bind(format!("control socket {}", socket.display()), error))?;
        host.note_running(true).await?;
        tokio::spawn(host.clone().run_timers());
        tokio::spawn(sweep(host.clone()));
        link::outgoing::restore(&host).await?;
        for listener in listeners {
            let stopped = host.stopping.begun.clone();
            tokio::spawn(stopped.run_until_cancelled_owned(listener.run(host.clone())));
        }
        Ok(Running { host, addresses, http })
    }

    /// Reads the configuration again. The log has what of it does not work, or needs a restart; so
    /// has what is returned.
    ///
    /// # Errors
    /// [`ConfigError`]; everything is as it was then.
    pub fn reload(&self, path: &Path) -> Result<Vec<String>, ConfigError> {
        reload(&self.host, path)
    }

    /// Ends in good order: nobody new is accepted, clients are told when to come back, what was
    /// acknowledged is on disk.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not be put away.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.host.stopping.begun.cancel();
        let config = self.host.settings.load_full();
        let base = config.times.stop_retry_seconds;
        for mailbox in self.host.sessions.all() {
            // Not all at once: up to as much again, by the session's random id.
            let jitter = u64::from(mailbox.id.0[0]) * (base + 1) / 256;
            mailbox.end(Bye {
                reason: ByeReason::Stopping,
                text: Some("the server is stopping".to_owned()),
                retry_after: Some(seconds(base + jitter)),
                server: None,
            });
        }
        for link in self.host.links.iter() {
            link.end(Bye {
                reason: ByeReason::Stopping,
                text: Some("the server is stopping".to_owned()),
                retry_after: Some(seconds(base)),
                server: None,
            });
        }
        self.host.stopping.serving.close();
        if tokio::time::timeout(STOP_MAX, self.host.stopping.serving.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        let _ = std::fs::remove_file(&config.server.control);
        let away = seconds(config.times.grace_seconds + 2 * base);
        let until = self.host.clock.now().after(away);
        let saved = async {
            self.host.save_bound_layers(until).await?;
            self.host.note_running(false).await
        };
        if let Err(error) = saved.await {
            tracing::error!(%error, "presence that is bound to sessions could not be kept");
        }
        self.host.store.close().await
    }
}

/// Binds all addresses of a configuration.
///
/// # Errors
/// [`RunError::Bind`] naming the address.
pub async fn bind_all(config: &Config) -> Result<Vec<Listener>, RunError> {
    let mut addresses = Vec::new();
    for text in &config.server.listen {
        // A name, which only quickstart takes, is that of this machine.
        let found = lookup_host(text).await.map(|mut found| found.next());
        let found = found.and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()));
        addresses.push(found.map_err(|error| bind(format!("listen {text}"), error))?);
    }
    let mut listeners = Vec::new();
    for address in &addresses {
        let bound = Listener::bind(*address, &addresses).await;
        listeners.push(bound.map_err(|error| bind(format!("listen {address}"), error))?);
    }
    Ok(listeners)
}

fn bind(what: String, error: io::Error) -> RunError {
    RunError::Bind { what, error }
}

/// What is asked on the control socket, done.
fn answering(host: Arc<Host>, config: PathBuf) -> control::Answering {
    Arc::new(move |request| {
        let (host, config) = (host.clone(), config.clone());
        Box::pin(async move {
            match request {
                Request::Reload => match reload(&host, &config) {
                    Ok(warnings) => Response::Reloaded { warnings },
                    Err(error) => control::refused(2, error.to_string(), error.hint),
                },
                request => control::handle(&host, request).await,
            }
        })
    })
}

/// All or nothing: a file that cannot be used changes nothing.
fn reload(host: &Host, path: &Path) -> Result<Vec<String>, ConfigError> {
    let mut new = Config::load(path)?;
    let mut fixed = new.keep_fixed(&host.settings.load());
    if !new.domain.iter().map(|hosted| &hosted.name).eq(host.accounts.domains()) {
        fixed.push("[[domain]] name".to_owned());
    }
    let tls = Configurations::load(&new)?;
    let restart = fixed.into_iter().map(|name| format!("{name} needs a restart"));
    let mut warnings: Vec<String> = restart.collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings.extend(put_in_force(host, new, tls));
    // What a link has proven, it has proven to the certificates of before: it opens again at once.
    for link in host.links.iter() {
        link.end(bye(ByeReason::Idle, "certificates were read again"));
    }
    tracing::info!("configuration reloaded");
    Ok(warnings)
}

/// Serves with these settings and certificates from now on; what will not work with them is logged.
fn put_in_force(host: &Host, config: Config, tls: Configurations) -> Vec<String> {
    let now = Clock::start().now();
    let out_of_time = |hosted: &Hosted| {
        let path = &hosted.certificate;
        let why = Validity::of(&files::first(path)?)?.fault(now)?;
        Some(format!("{}: the certificate of {} {why}", path.display(), hosted.name))
    };
    let mut warnings: Vec<String> = config.domain.iter().filter_map(out_of_time).collect();
    warnings.extend(tls.warnings.iter().cloned());
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    host.settings.put_in_force(Snapshot { config, tls: Some(Arc::new(tls)) });
    warnings
}

/// Clears away records of de-duplication that no repeat can need any more.
async fn sweep(host: Arc<Host>) {
    let mut since = host.clock.started();
    loop {
        let now = host.clock.now();
        if let Err(error) = sweep_once(&host, now, now.since(since)).await {
            tracing::warn!(%error, "old records of de-duplication could not be cleared");
        }
        if let Err(error) = link::outgoing::forget_linked(&host, now).await {
            tracing::warn!(%error, "what is noted of links could not be cleared");
        }
        since = now;
        tokio::time::sleep(SWEEP).await;
    }
}

/// The floor follows the clock, but never faster than time has passed while a server ran: a clock
/// that was wrong at a start must not refuse everybody's messages after it was set right.
async fn sweep_once(host: &Host, now: Timestamp, passed: Duration) -> Result<(), StoreError> {
    let Ok(key) = records::meta("dedup-floor") else { return Ok(()) };
    let wanted = now.before(DEDUP_KEPT);
    let known = host.store.get(key.clone()).await?;
    let known: Option<u64> = known.and_then(|record| records::from_bytes(&record.value).ok());
    let known = known.map(|millis| Timestamp::from_millis(millis).after(passed));
    let before = known.map_or(wanted, |highest| highest.min(wanted));
    let value = Some(records::to_bytes(&before.as_millis()));
    let put = Op::Put { key, expect: Expect::Any, value };
    host.store(vec![Op::ExpireDedup { before }, put]).await?;
    Ok(())
}
