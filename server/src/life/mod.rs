//! The life of a server: from a configuration to accepting, and to an orderly stop.
//!
//! | module | duty |
//! |---|---|
//! | `server` | every room made from those below it |
//! | `log` | the log on standard error |
//! | `reload` | the configuration, read again |
//! | `timers` | what is due |
//! | `following` | changes of the wall clock, and the machine's sleep |
//! | `left` | domains that have left the configuration |
//! | `sweep` | what nobody needs any more |

mod following;
mod left;
pub mod log;
mod reload;
mod server;
mod sweep;
mod timers;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::Bye;
use impp_protocol::{Domain, Timestamp};
use impp_storage::{Options, Payer, SqliteStore, StoreError, UNIT_OPS_MAX, Unit};
use tokio::net::lookup_host;

use crate::core::config::{Config, ConfigError, seconds};
use crate::core::ground::Ground;
use crate::core::records::{logs, place};
use crate::core::settings::Snapshot;
use crate::core::tls::Configurations;
use crate::front::control;
use crate::front::listen::Listener;
use crate::wire::descriptors;
use following::Following;
use reload::Reload;
#[cfg(test)]
pub(crate) use server::Surroundings;
pub use server::{Server, StartError};
use timers::Housekeeping;

/// How long an orderly stop waits for connections to end.
const STOP_MAX: Duration = Duration::from_secs(15);

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
pub struct Running {
    server: Server,
    reload: Reload,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Where /metrics is, if anywhere.
    pub http: Option<SocketAddr>,
}

impl Server {
    /// Opens the store of a configuration. Nothing runs yet.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn open(config: Config) -> Result<Server, RunError> {
        let path = config.server.store.clone();
        // Opening reads and checks files; nothing else runs yet.
        let options = Options { about: Some(logs::about), ..Options::default() };
        let store = SqliteStore::open(&path, options)?;
        Ok(Server::load(config, Arc::new(store)).await?)
    }

    /// Starts to accept.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(
        self,
        listeners: Vec<Listener>,
        config_path: &Path,
    ) -> Result<Running, RunError> {
        let settings = &self.ground.settings;
        let config = Config::clone(&settings.load());
        let tls = Some(Arc::new(Configurations::load(&config)?));
        reload::put_in_force(settings, Snapshot { config: config.clone(), tls });
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let http = match &config.server.http {
            Some(address) => Some(
                crate::front::http::start(self.looked(), address)
                    .await
                    .map_err(|error| bind(format!("http {address}"), error))?,
            ),
            None => None,
        };
        let reload = self.reloading(config_path);
        let socket = &config.server.control;
        let answering = reload::answering(self.administration.clone(), reload.clone());
        control::listen(socket, answering)
            .map_err(|error| bind(format!("control socket {}", socket.display()), error))?;
        self.begin().await?;
        tokio::spawn(self.following().run());
        for listener in listeners {
            let stopped = self.entrance.stopping.begun.clone();
            let accepting = listener.run(self.entrance.clone());
            tokio::spawn(stopped.run_until_cancelled_owned(accepting));
        }
        Ok(Running { server: self, reload, addresses, http })
    }

    /// Has done what is due, finished what was cut short, and sought what waits for other domains;
    /// nobody is let in yet.
    pub(crate) async fn begin(&self) -> Result<(), StoreError> {
        self.note_running(true).await?;
        let Ground { store, clock, accounts, .. } = &self.ground;
        left::tell(&**store, clock, accounts.domains()).await?;
        tokio::spawn(self.housekeeping().run());
        let (store, outgoing) = (self.ground.store.clone(), &self.rooms.outgoing);
        control::finish_removals(&self.administration).await?;
        outgoing.restore().await?;
        let (delivery, domains) = (self.rooms.delivery.clone(), self.ground.accounts.domains());
        delivery.go_on_with_all(domains).await;
        // After what was out on links is known again, of which it forgets what is old.
        tokio::spawn(sweep::run(store, self.ground.clock.clone(), outgoing.clone()));
        self.entrance.peers.seek();
        Ok(())
    }

    /// What reads this configuration again.
    pub(crate) fn reloading(&self, path: &Path) -> Reload {
        let Ground { settings, accounts, .. } = self.ground.clone();
        Reload {
            path: path.to_owned(),
            settings,
            accounts,
            links: self.links.clone(),
            peers: self.entrance.peers.clone(),
            principals: self.rooms.principals.clone(),
        }
    }

    fn following(&self) -> Following {
        let Ground { clock, store, metrics, .. } = self.ground.clone();
        Following { clock, store, metrics, principals: self.rooms.principals.clone() }
    }

    fn housekeeping(&self) -> Housekeeping {
        Housekeeping {
            clock: self.ground.clock.clone(),
            timers: self.ground.timers.clone(),
            principals: self.rooms.principals.clone(),
            mirrors: self.mirrors.clone(),
            live: self.rooms.live.clone(),
        }
    }

    /// Notes in the store that a server runs, or that it has stopped in good order.
    async fn note_running(&self, running: bool) -> Result<(), StoreError> {
        let clock = &self.ground.clock;
        let since = running.then(|| clock.started().as_millis());
        let put = place::meta::running()?.set(since.as_ref());
        let mut ops = vec![put, following::note(clock)?];
        if !running {
            // What a crash has lost, a stop in good order does not find.
            let (principals, now) = (&self.rooms.principals, clock.now());
            let until = principals.recovering_until(now).map(Timestamp::as_millis);
            ops.push(place::meta::recovering()?.set(until.as_ref()));
            // And who has published since is told by this.
            let crash = principals.crash(now).map(Timestamp::as_millis);
            ops.push(place::meta::recovering_from()?.set(crash.as_ref()));
        }
        let unit = Unit::of(clock.now(), ops).paid_by(Payer::Operator);
        self.ground.store.submit(unit).await.map(drop)
    }

    /// Stores the layers that are bound to sessions, as leases until `until`: so their owners are
    /// not seen to leave while the server restarts.
    async fn save_bound_layers(&self, until: Timestamp) -> Result<(), StoreError> {
        let (store, now) = (&self.ground.store, self.ground.clock.now());
        let ops = self.rooms.principals.bound_layers(until);
        for chunk in ops.chunks(UNIT_OPS_MAX / 8) {
            store.submit(Unit::of(now, chunk.to_vec())).await?;
        }
        Ok(())
    }
}

impl Running {
    /// The domains that it hosts.
    pub fn domains(&self) -> &[Domain] {
        self.server.ground.accounts.domains()
    }

    /// How many files those may need who have not signed in, and those that are kept for others.
    pub fn files_wanted(&self) -> u64 {
        self.reload.settings.load().limits.unsigned_max + descriptors::KEPT_MAX
    }

    /// Reads the configuration again. The log has what of it does not work, or needs a restart; so
    /// has what is returned.
    ///
    /// # Errors
    /// [`ConfigError`]; everything is as it was then.
    pub fn reload(&self) -> Result<Vec<String>, ConfigError> {
        self.reload.now()
    }

    /// Ends in good order: nobody new is accepted, clients are told when to come back, what was
    /// acknowledged is on disk.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not be put away.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.server.drain().await;
        let _ = std::fs::remove_file(&self.server.ground.settings.load().server.control);
        self.server.put_away().await
    }
}

impl Server {
    /// Says goodbye to clients and links, and waits for them for a while.
    pub(crate) async fn drain(&self) {
        let Server { ground, rooms, links, entrance, .. } = self;
        let stopping = &entrance.stopping;
        stopping.begun.cancel();
        let config = ground.settings.load_full();
        let base = config.times.stop_retry_seconds;
        for mailbox in rooms.live.sessions.all() {
            // Not all at once: up to as much again, by the session's random id.
            let jitter = u64::from(mailbox.id.0[0]) * (base + 1) / 256;
            mailbox.end(Bye::stopping(seconds(base + jitter)));
        }
        for link in links.iter() {
            link.end(Bye::stopping(seconds(base)));
        }
        stopping.serving.close();
        if tokio::time::timeout(STOP_MAX, stopping.serving.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }

    /// Stores what is to outlive the server, and closes the store.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not be put away.
    pub(crate) async fn put_away(&self) -> Result<(), StoreError> {
        let ground = &self.ground;
        let times = &ground.settings.load_full().times;
        let away = seconds(times.grace_seconds + 2 * times.stop_retry_seconds);
        let until = ground.clock.now().after(away);
        let saved = async {
            self.save_bound_layers(until).await?;
            self.note_running(false).await
        };
        if let Err(error) = saved.await {
            tracing::error!(%error, "presence that is bound to sessions could not be kept");
        }
        ground.store.close().await
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Binds all addresses of a configuration.
///
/// # Errors
/// [`RunError::Bind`] naming the address.
pub async fn bind_all(config: &Config) -> Result<Vec<Listener>, RunError> {
    bind_each(&config.server.listen).await.into_iter().collect()
}

/// Binds each of these addresses, whatever becomes of the others.
pub(crate) async fn bind_each(listen: &[String]) -> Vec<Result<Listener, RunError>> {
    let mut addresses = Vec::new();
    for text in listen {
        // A name, which only quickstart takes, is that of this machine.
        let found = lookup_host(text).await.map(|mut found| found.next());
        let found = found.and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()));
        addresses.push(found.map_err(|error| bind(format!("listen {text}"), error)));
    }
    let all: Vec<SocketAddr> =
        addresses.iter().filter_map(|found| found.as_ref().ok().copied()).collect();
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(match address {
            Ok(address) => {
                let bound = Listener::bind(address, &all).await;
                bound.map_err(|error| bind(format!("listen {address}"), error))
            }
            Err(error) => Err(error),
        });
    }
    listeners
}

fn bind(what: String, error: io::Error) -> RunError {
    RunError::Bind { what, error }
}
