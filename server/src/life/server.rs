//! The server put together: every room made from those below it. Nobody is handed all of it.

use std::sync::Arc;

use impp_federation::shares::Shares;
use impp_locate::Locator;
use impp_presence::LinkId;
use impp_protocol::Timestamp;
use impp_protocol::sasl::scram::Iterations;
use impp_storage::{Expect, Store, StoreError, Unit};

use crate::core::DashMap;
use crate::core::accounts::{Account, Accounts};
use crate::core::budgets::Budgets;
use crate::core::chance::{self, Chance, NoChance};
use crate::core::clock::Clock;
use crate::core::config::Config;
use crate::core::ground::Ground;
use crate::core::principals::{Principals, Recovery};
use crate::core::records::{self, ClockRecord, place};
use crate::core::routes::Routes;
use crate::core::secrets::Secrets;
use crate::core::sessions::Sessions;
use crate::core::settings::{Settings, Snapshot};
use crate::core::stopping::Stopping;
use crate::front::Entrance;
use crate::front::control::Administration;
use crate::front::http::Looked;
use crate::link::{self, Dialler, Home, LinkMailbox, Located, OpenLinks, Openings, Peers, Ways};
use crate::messages::{Delivery, Fates, Linked, Marks, Outgoing, Queues};
use crate::reach::{Beyond, Mirrors, Reach};
use crate::session::{self, Live, Rooms};

/// See the module.
pub struct Server {
    /// What all rooms stand on.
    pub(crate) ground: Ground,
    /// What sessions stand on.
    pub(crate) rooms: Rooms,
    /// Presentities of other domains that are followed from here.
    pub(crate) mirrors: Arc<Mirrors>,
    /// Links to other domains that are open.
    pub(crate) links: Arc<DashMap<LinkId, Arc<LinkMailbox>>>,
    /// What the operator asks for.
    pub administration: Arc<Administration>,
    /// Where clients and other servers come in.
    pub(crate) entrance: Arc<Entrance>,
}

/// What kept a server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting.
    #[error("{0}")]
    Config(String),
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] NoChance),
}

/// What a server is given from outside: time, chance, and the ways to other servers.
pub(crate) struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub chance: Arc<dyn Chance>,
    /// Made when its settings are known.
    pub ways: MakeWays,
}

/// Makes the ways to other servers.
pub(crate) type MakeWays = Box<dyn FnOnce(&Ground) -> Result<Arc<dyn Ways>, StartError> + Send>;

impl Surroundings {
    /// The system's time and chance; servers are found as the configuration says.
    pub(crate) fn real() -> Surroundings {
        let ways = |ground: &Ground| {
            let settings = ground.settings.load().locating();
            let settings = settings.map_err(|error| StartError::Config(error.message))?;
            let ways: Arc<dyn Ways> = Arc::new(Located::new(ground, Locator::new(settings)));
            Ok(ways)
        };
        let (clock, chance) = (Clock::start(), Arc::new(chance::System));
        Surroundings { clock, chance, ways: Box::new(ways) }
    }
}

/// What messages and links are made of, beside the ground.
struct Beside {
    routes: Arc<Routes>,
    principals: Arc<Principals>,
    sessions: Arc<Sessions>,
    marks: Arc<Marks>,
    mirrors: Arc<Mirrors>,
    links: Arc<DashMap<LinkId, Arc<LinkMailbox>>>,
    stopping: Arc<Stopping>,
}

impl Server {
    /// Reads what the server needs to start, and puts it together.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn load(config: Config, store: Arc<dyn Store>) -> Result<Server, StartError> {
        Server::load_in(Surroundings::real(), config, store).await
    }

    /// The same, in these surroundings.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn load_in(
        surroundings: Surroundings,
        config: Config,
        store: Arc<dyn Store>,
    ) -> Result<Server, StartError> {
        let Surroundings { clock, chance, ways } = surroundings;
        let clock = clock.resumed(load_clock(&*store).await?.as_ref());
        let domains: Vec<_> = config.domain.iter().map(|hosted| hosted.name.clone()).collect();
        let accounts = Accounts::load(&*store, domains).await?;
        let recovery = load_recovery(&*store).await?;
        let secrets = load_secrets(&*store, clock.now(), &*chance).await?;
        tell_odd_passwords(&accounts, &secrets, |domain| config.scram_iterations(domain));
        let boot = chance.bytes()?;
        let settings = Settings::new(Snapshot { config, tls: None });
        let closed = accounts.count_closed() as i64;
        let ground = Ground::new(settings, store, clock, chance, accounts);
        ground.metrics.accounts_closed.set(closed);
        let ways = ways(&ground)?;
        let shares = Shares::default();
        let principals = Arc::new(Principals::new(ground.clone(), recovery));
        principals.recall_ghosts().await?;
        principals.recall_delegates().await?;
        let sessions = Arc::new(Sessions::new(ground.listeners.clone()));
        let routes = Arc::new(Routes::new(ground.settings.clone(), ground.accounts.clone()));
        let beside = Beside {
            marks: Arc::new(Marks::new(
                &ground,
                routes.clone(),
                principals.clone(),
                sessions.clone(),
            )),
            routes,
            principals,
            sessions,
            mirrors: Arc::new(Mirrors::load(ground.clone(), &shares).await?),
            links: Arc::default(),
            stopping: Arc::default(),
        };
        Ok(Server::assemble(ground, beside, secrets, boot, ways, shares))
    }

    fn assemble(
        ground: Ground,
        beside: Beside,
        secrets: Secrets,
        boot: [u8; 16],
        ways: Arc<dyn Ways>,
        shares: Shares,
    ) -> Server {
        let (delivery, outgoing, peers) = carrying(&ground, &beside, boot, ways, shares);
        let Beside { routes, principals, sessions, marks, mirrors, links, stopping } = beside;
        let beyond: Arc<dyn Beyond> = peers.clone();
        mirrors.reach_beyond(Arc::downgrade(&beyond));
        marks.reach_beyond(Arc::downgrade(&beyond));
        let reach = Reach::new(routes.clone(), principals.clone(), mirrors.clone());
        let (reach, live) = (Arc::new(reach), Arc::new(Live::new(sessions)));
        let secrets = Arc::new(secrets);
        let budgets = Arc::new(Budgets::new(ground.settings.clone(), ground.clock.clone()));
        let rooms =
            Rooms { routes, principals, reach, live, delivery, outgoing, marks, secrets, budgets };
        let serving = Arc::new(session::Serving::new(&ground, rooms.clone()));
        let administration = administration(&ground, &rooms, &serving);
        let Ground { settings, clock, chance, metrics, accounts, .. } = ground.clone();
        let entrance = Entrance {
            settings,
            clock,
            chance,
            metrics,
            accounts,
            secrets: rooms.secrets.clone(),
            stopping,
            admission: Default::default(),
            guesses: Default::default(),
            turns: Default::default(),
            complaints: Default::default(),
            serving,
            peers,
        };
        let (administration, entrance) = (Arc::new(administration), Arc::new(entrance));
        Server { ground, rooms, mirrors, links, administration, entrance }
    }

    /// What can be looked at over HTTP.
    pub(super) fn looked(&self) -> Looked {
        let Ground { metrics, store, tails, .. } = self.ground.clone();
        Looked { metrics, store, tails, outgoing: self.rooms.outgoing.clone() }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sessions = &self.rooms.live.sessions.len();
        f.debug_struct("Server").field("sessions", sessions).finish_non_exhaustive()
    }
}

/// Puts together what carries messages, here and to other domains.
fn carrying(
    ground: &Ground,
    beside: &Beside,
    boot: [u8; 16],
    ways: Arc<dyn Ways>,
    shares: Shares,
) -> (Arc<Delivery>, Arc<Outgoing>, Arc<Peers>) {
    let Beside { routes, principals, sessions, marks, mirrors, links, stopping } = beside;
    let (routes, principals) = (|| routes.clone(), || principals.clone());
    let delivery = Delivery::new(ground, routes(), principals(), sessions.clone());
    let (delivery, linked) = (Arc::new(delivery), Arc::new(Linked::new(ground)));
    let queues = Arc::new(Queues::new(ground));
    let openings = Openings::new(ground, routes(), boot);
    let dialler = Dialler::new(ground, routes(), ways, openings);
    let home = Arc::new(Home::new(ground, routes(), principals()));
    let open = OpenLinks::new(ground, links.clone(), linked.clone(), stopping.clone());
    let peers = Peers::new(shares, queues.clone(), dialler, |peers| {
        let Ground { clock, chance, settings, metrics, .. } = ground.clone();
        let (delivery, marks, mirrors) = (delivery.clone(), marks.clone(), mirrors.clone());
        let fates = Fates::new(ground, routes(), sessions.clone(), delivery.clone(), peers);
        let fates = Arc::new(fates);
        let (budgets, names) = Default::default();
        link::Serving {
            clock,
            chance,
            settings,
            metrics,
            open,
            home,
            delivery,
            fates,
            marks,
            mirrors,
            budgets,
            names,
        }
    });
    let outgoing = Outgoing::new(ground, sessions.clone(), queues, linked, peers.clone());
    (delivery, Arc::new(outgoing), peers)
}

fn administration(ground: &Ground, rooms: &Rooms, serving: &session::Serving) -> Administration {
    let Ground { accounts, store, clock, chance, settings, metrics, .. } = ground.clone();
    let Rooms { principals, reach, live, outgoing, secrets, .. } = rooms.clone();
    Administration {
        accounts,
        store,
        clock,
        chance,
        metrics,
        secrets,
        settings,
        principals,
        reach,
        live,
        devices: serving.devices.clone(),
        rules: serving.things.rules.clone(),
        outgoing,
    }
}

/// Says how many accounts have a password that is not kept as those of their domain are. Until they
/// get another one, it tells that they exist.
fn tell_odd_passwords(
    accounts: &Accounts,
    secrets: &Secrets,
    iterations: impl Fn(&str) -> Iterations,
) {
    let is_odd = |account: &&Arc<Account>| {
        let iterations = iterations(account.address.domain_str());
        !secrets.keeps_so(&account.address, &account.verifier, iterations)
    };
    let odd = accounts.list().iter().filter(is_odd).count();
    if odd > 0 {
        tracing::warn!(
            accounts = odd,
            "passwords from before a change of scram_iterations, or of an older program: until \
             their next one, these accounts can be told from names that do not exist"
        );
    }
}

/// What is lost of the server before this one, and of those before it. What is damaged is as if it had
/// crashed.
async fn load_recovery(store: &dyn Store) -> Result<Recovery, StoreError> {
    let damaged = |error: &StoreError| matches!(error, StoreError::Damaged { .. });
    let (running, recovering) = (
        store.get(place::meta::running()?.key()).await,
        store.get(place::meta::recovering()?.key()).await,
    );
    if [&running, &recovering].into_iter().any(|read| read.as_ref().is_err_and(damaged))
        || running?.is_some()
    {
        return Ok(Recovery::Begins);
    }
    let Some(record) = recovering? else { return Ok(Recovery::Over) };
    // Where it is not known what was published since, it is as if nothing were.
    let crash = match store.get(place::meta::recovering_from()?.key()).await {
        Err(error) if damaged(&error) => None,
        crash => crash?.and_then(|record| records::from_bytes(&record.value).ok()),
    };
    let (until, crash) = (records::from_bytes(&record.value), crash.map(Timestamp::from_millis));
    let goes_on = |until| Recovery::GoesOn { until: Timestamp::from_millis(until), crash };
    Ok(until.map_or(Recovery::Begins, goes_on))
}

/// What the server before this one has noted of time. What cannot be read is as if there were none:
/// no more hangs on it than when leases end.
async fn load_clock(store: &dyn Store) -> Result<Option<ClockRecord>, StoreError> {
    let kept = match store.get(place::meta::clock()?.key()).await {
        Err(StoreError::Damaged { .. }) => None,
        kept => kept?,
    };
    Ok(kept.and_then(|record| records::from_bytes(&record.value).ok()))
}

async fn load_secrets(
    store: &dyn Store,
    now: Timestamp,
    chance: &dyn Chance,
) -> Result<Secrets, StartError> {
    let damaged = || StoreError::Damaged { what: "the server's secrets".to_owned() };
    let place = place::meta::secrets()?;
    if let Some(record) = store.get(place.key()).await? {
        let record = records::from_bytes(&record.value).map_err(|_| damaged())?;
        return Ok(Secrets::from_record(&record).ok_or_else(damaged)?);
    }
    let secrets = Secrets::random(chance)?;
    let put = place.put_if(Expect::Absent, &secrets.to_record());
    store.submit(Unit::of(now, vec![put])).await?;
    Ok(secrets)
}
