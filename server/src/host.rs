//! What all connections of the server share: the store, accounts, principals, sessions, timers.
//!
//! One entry of a table is held at a time, and never across an await. What a session may ask is
//! in `session`.

use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use impp_federation::shares::Claim;
use impp_locate::Locator;
use impp_presence::ghosts::GhostInboxes;
use impp_protocol::command::{Bye, ByeReason, Done};
use impp_protocol::{Address, Code, Command, Domain, Error, Timestamp};
use impp_storage::{Op, Outcome, RecordKey, Store, StoreError, Unit};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::accounts::{AccountError, Accounts};
use crate::clock::Clock;
use crate::config::Config;
use crate::ids::SessionId;
use crate::link::{LinkMailbox, Peers};
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::principals::{Ground, Principals};
use crate::reach::{Beyond, Mirrors, Reach};
use crate::records;
use crate::routes::Routes;
use crate::secrets::Secrets;
use crate::session::{Devices, Live, Serving, Things};
use crate::sessions::Sessions;
use crate::settings::{Settings, Snapshot};
use crate::standing::Standing;
use crate::stopping::Stopping;
use crate::timers::{Due, Timers};
use crate::wire::admission::Admission;
use crate::wire::complaints::Complaints;

/// Timers that are worked on at once.
const DUE_AT_ONCE_MAX: usize = 64;

/// See the module.
pub struct Host {
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Who can sign in.
    pub accounts: Arc<Accounts>,
    /// Their presentities.
    pub principals: Arc<Principals>,
    /// Who is woken when a presentity may have changed.
    pub listeners: Arc<Listeners>,
    /// Sessions by id and account.
    pub sessions: Arc<Sessions>,
    /// What sessions are served from.
    pub serving: OnceLock<Arc<Serving>>,
    /// Those that live.
    pub live: Arc<Live>,
    /// Links to other domains that are open.
    pub links: Arc<DashMap<SessionId, Arc<LinkMailbox>>>,
    /// Watchers of other domains that keep a subscription here.
    pub standing: Arc<Standing>,
    /// The one door to presentities, here or elsewhere.
    pub reach: Arc<Reach>,
    /// Presentities of other domains that are followed from here.
    pub mirrors: Arc<Mirrors>,
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// Whom the log has complained of.
    pub complaints: Arc<Complaints>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Keys.
    pub secrets: Arc<Secrets>,
    /// Leases, graces, windows.
    pub timers: Arc<Timers>,
    /// This run of the server, as other servers know it.
    pub boot: [u8; 16],
    /// Finds other domains' servers.
    pub locator: Arc<Locator>,
    /// Other domains: what waits for them, and links.
    pub peers: Arc<Peers>,
    /// Addresses that do not exist here, as other domains see their inboxes.
    pub ghosts: Arc<Mutex<GhostInboxes>>,
    /// Whether it stops, and who is waited for.
    pub stopping: Arc<Stopping>,
    /// Where addresses lead.
    pub routes: Arc<Routes>,
    /// Itself, for what it starts.
    this: Weak<Host>,
}

/// What kept a server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An account cannot be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting.
    #[error("{0}")]
    Config(String),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl Host {
    /// Reads what the server needs to start.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, store: Arc<dyn Store>) -> Result<Arc<Host>, StartError> {
        let clock = Clock::start();
        let domains: Vec<_> = config.domain.iter().map(|hosted| hosted.name.clone()).collect();
        let accounts = Accounts::load(&*store, domains).await?;
        let crashed = store.get(running_key()?).await?.is_some();
        let secrets = load_secrets(&*store, clock.now()).await?;
        let mut boot = [0; 16];
        getrandom::fill(&mut boot)?;
        let locator =
            Locator::new(config.locating().map_err(|error| StartError::Config(error.message))?);
        let settings = Settings::new(Snapshot { config, tls: None });
        let around = Ground::new(settings, store, clock, accounts);
        let peers = Peers::default();
        let mirrors = Mirrors::load(around.clone(), peers.shares()).await?;
        Ok(Host::assemble(around, crashed, secrets, boot, locator, peers, mirrors))
    }

    fn assemble(
        around: Ground,
        crashed: bool,
        secrets: Secrets,
        boot: [u8; 16],
        locator: Locator,
        peers: Peers,
        mirrors: Mirrors,
    ) -> Arc<Host> {
        let (settings, accounts) = (&around.settings, &around.accounts);
        let routes = Arc::new(Routes::new(Arc::clone(settings), Arc::clone(accounts)));
        let principals = Arc::new(Principals::new(around.clone(), crashed));
        let mirrors = Arc::new(mirrors);
        let all = (Arc::clone(&routes), Arc::clone(&principals), Arc::clone(&mirrors));
        let reach = Arc::new(Reach::new(all.0, all.1, all.2));
        let Ground { settings, store, clock, accounts, listeners, timers, standing, metrics } =
            around;
        let sessions = Arc::new(Sessions::new(Arc::clone(&listeners)));
        let host = Arc::new_cyclic(|this| Host {
            settings,
            store,
            clock,
            accounts,
            principals,
            live: Arc::new(Live::new(Arc::clone(&sessions))),
            sessions,
            listeners,
            serving: OnceLock::new(),
            links: Arc::default(),
            standing,
            reach,
            mirrors,
            admission: Arc::default(),
            complaints: Arc::default(),
            metrics,
            secrets: Arc::new(secrets),
            timers,
            boot,
            locator: Arc::new(locator),
            peers: Arc::new(peers),
            ghosts: Arc::default(),
            stopping: Arc::default(),
            routes,
            this: this.clone(),
        });
        let beyond: Weak<Host> = Arc::downgrade(&host);
        host.mirrors.reach_beyond(beyond);
        host
    }

    /// Stores operations as one unit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store(&self, ops: Vec<Op>) -> Result<Outcome, StoreError> {
        let unit = Unit { dedup: None, body: None, time: self.clock.now(), ops };
        self.store.submit(unit).await
    }

    /// What sessions are served from.
    pub fn serving(&self) -> &Arc<Serving> {
        self.serving.get_or_init(|| {
            let around = self.around();
            let devices =
                Arc::new(Devices::new(&around, self.principals.clone(), self.live.clone()));
            Arc::new(Serving {
                things: Things::new(self, devices.clone()),
                reach: self.reach.clone(),
                principals: self.principals.clone(),
                devices,
                live: self.live.clone(),
                settings: around.settings,
                clock: around.clock,
                timers: around.timers,
                metrics: around.metrics,
            })
        })
    }

    fn around(&self) -> Ground {
        Ground {
            settings: self.settings.clone(),
            store: self.store.clone(),
            clock: self.clock,
            accounts: self.accounts.clone(),
            listeners: self.listeners.clone(),
            timers: self.timers.clone(),
            standing: self.standing.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Says to an account's sessions that its log has grown.
    pub fn log_grew(&self, owner: &Address) {
        self.sessions.log_grew(owner);
    }

    /// Notes in the store that a server runs, or that it has stopped in good order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_running(&self, running: bool) -> Result<(), StoreError> {
        let value = running.then(|| records::to_bytes(&self.clock.started().as_millis()));
        let put = Op::Put { key: running_key()?, expect: impp_storage::Expect::Any, value };
        self.store(vec![put]).await.map(drop)
    }

    /// Stores the layers that are bound to sessions, as leases until `until`: so their owners are
    /// not seen to leave while the server restarts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_bound_layers(&self, until: Timestamp) -> Result<(), StoreError> {
        let ops = self.principals.bound_layers(until);
        for chunk in ops.chunks(impp_storage::UNIT_OPS_MAX / 8) {
            self.store(chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// Sleeps until something is due and does it, for ever.
    pub async fn run_timers(self: Arc<Host>) {
        let at_work = Arc::new(Semaphore::new(DUE_AT_ONCE_MAX));
        loop {
            while let Some(due) = self.timers.take(self.clock.now()) {
                let Ok(permit) = at_work.clone().acquire_owned().await else { return };
                let host = self.clone();
                tokio::spawn(async move {
                    host.do_due(due).await;
                    drop(permit);
                });
            }
            let changed = self.timers.changed.notified();
            match self.timers.next() {
                Some(next) => {
                    let sleep = tokio::time::sleep_until(self.clock.instant(next));
                    tokio::select! { () = sleep => {}, () = changed => {} }
                }
                None => changed.await,
            }
        }
    }

    async fn do_due(self: &Arc<Host>, due: Due) {
        match due {
            Due::Presentity(owner) => {
                if let Err(error) = self.principals.expire(&owner).await {
                    tracing::error!(%error, "a presentity could not be read");
                }
            }
            Due::Mirror(key) => {
                if let Err(error) = self.mirrors.expire(&key).await {
                    tracing::error!(%error, "the end of a subscription could not be stored");
                }
            }
            Due::Session(id) => {
                if let Some(session) = self.live.take(id) {
                    session.end().await;
                }
            }
        }
    }
}

impl Beyond for Host {
    fn claim(&self, account: &Address, remote: &Domain) -> Result<Claim, Error> {
        self.peers.claim(self, account, remote)
    }

    fn wanted(&self, local: &Domain, remote: &Domain) {
        if let Some(host) = self.this.upgrade() {
            self.peers.wanted(&host, local, remote);
        }
    }

    fn ask(&self, claim: Claim, command: Command) -> BoxFuture<'static, Result<Done, Error>> {
        let host = self.this.upgrade();
        async move {
            match host {
                Some(host) => host.peers.ask(&host, claim, command).await,
                None => Err(Error::new(Code::Stopping, "the server is stopping")),
            }
        }
        .boxed()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

/// Where the store notes that a server runs.
fn running_key() -> Result<RecordKey, StoreError> {
    records::meta("running").map_err(|_| StoreError::Damaged { what: "a name".to_owned() })
}

/// A BYE without further advice.
pub fn bye(reason: ByeReason, text: &str) -> Bye {
    Bye { reason, text: Some(text.to_owned()), retry_after: None, server: None }
}

async fn load_secrets(store: &dyn Store, now: Timestamp) -> Result<Secrets, StartError> {
    let damaged = || StoreError::Damaged { what: "the server's secrets".to_owned() };
    let key = records::meta("secrets").map_err(|_| damaged())?;
    if let Some(record) = store.get(key.clone()).await? {
        let record = records::from_bytes(&record.value).map_err(|_| damaged())?;
        return Ok(Secrets::from_record(&record).ok_or_else(damaged)?);
    }
    let secrets = Secrets::random()?;
    let value = Some(records::to_bytes(&secrets.to_record()));
    let put = Op::Put { key, expect: impp_storage::Expect::Absent, value };
    store.submit(Unit { dedup: None, body: None, time: now, ops: vec![put] }).await?;
    Ok(secrets)
}
