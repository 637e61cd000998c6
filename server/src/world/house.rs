//! A domain of a world: its disk, and its server as it starts, stops and is killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use impp_protocol::{Address, Domain, Timestamp};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::Lie;
use super::disk::{Disk, Mounted};
use super::net::Net;
use super::readings;
use crate::core::accounts::tests::verifier;
use crate::core::chance::{Chance, NoChance};
use crate::core::clock::Clock;
use crate::core::records::Services;
use crate::core::settings::Snapshot;
use crate::life::{Server, Surroundings};

/// How long a server may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long settings are half in force, if that is the lie.
const LIE_MILLIS_MAX: u64 = 20_000;

/// The time at which worlds begin.
pub(super) fn beginning() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

/// See the module.
pub(super) struct House {
    /// Its domain.
    pub domain: Domain,
    /// What survives.
    pub disk: Arc<Disk>,
    people: Vec<Address>,
    net: Net,
    dice: Rng,
    lie: Option<Lie>,
    /// Which reading of its settings is the newest.
    reading: u64,
    running: Option<Running>,
}

struct Running {
    server: Arc<Server>,
    mounted: Arc<Mounted>,
    /// Nobody holds it but while the server runs.
    _alive: Arc<()>,
}

/// Chance that a seed decides.
#[derive(Debug)]
struct Seeded(Mutex<Rng>);

impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        self.0.lock().fill(bytes);
        Ok(())
    }
}

impl House {
    /// The server of a domain with these accounts, which does not run yet.
    pub(super) fn new(
        domain: &str,
        people: &[Address],
        net: &Net,
        mut dice: Rng,
        lie: Option<Lie>,
    ) -> House {
        let (domain, disk) = (Domain::parse(domain).unwrap(), Disk::new(&mut dice, net, lie));
        let (people, net, reading, running) = (people.to_vec(), net.clone(), 1, None);
        House { domain, disk, people, net, dice, lie, reading, running }
    }

    /// Whether it runs.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Whether its store has failed, and helps nobody until a restart.
    pub(super) fn has_failed(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.mounted.has_failed())
    }

    /// It starts.
    ///
    /// # Errors
    /// What kept it from starting.
    pub(super) async fn start(&mut self) -> Result<(), String> {
        let config = readings::config(&self.domain, self.reading, self.reading);
        let (mounted, alive) = (self.disk.mount(self.dice.fork()), Arc::new(()));
        let started = beginning().after(Duration::from_millis(self.net.millis()));
        let ways = self.net.ways(&self.domain, Arc::downgrade(&alive));
        let surroundings = Surroundings {
            clock: Clock::started_at(started),
            chance: Arc::new(Seeded(Mutex::new(self.dice.fork()))),
            ways: Box::new(move |_| Ok(ways)),
        };
        let server = Server::load_in(surroundings, config, mounted.clone()).await;
        let server = server.map_err(|error| error.to_string())?;
        for person in &self.people {
            if server.ground.accounts.get(person).is_none() {
                let (accounts, store) = (&server.ground.accounts, &*server.ground.store);
                let services = Services { pres: true, im: true };
                let now = server.ground.clock.now();
                let added = accounts.add(store, now, person, services, verifier(), Vec::new());
                added.await.map_err(|error| error.to_string())?;
            }
        }
        read(&server, &self.domain, self.reading);
        server.begin().await.map_err(|error| error.to_string())?;
        let server = Arc::new(server);
        self.net.note(&format!("{} runs", self.domain));
        self.net.open(&self.domain, server.clone());
        self.running = Some(Running { server, mounted, _alive: alive });
        Ok(())
    }

    /// It reads its settings again; which reading it is, and whether it is in force already.
    pub(super) fn reads(&mut self) -> Option<(u64, bool)> {
        let server = self.running.as_ref()?.server.clone();
        self.reading += 1;
        let (domain, reading) = (self.domain.clone(), self.reading);
        let half = match self.lie {
            Some(Lie::Halves) => readings::config(&domain, reading, reading - 1),
            Some(Lie::Lags) => readings::config(&domain, reading, reading),
            _ => {
                read(&server, &domain, reading);
                return Some((reading, true));
            }
        };
        let settings = server.ground.settings.clone();
        settings.put_in_force(Snapshot { config: half, tls: settings.load().tls.clone() });
        let pause = Duration::from_millis(self.dice.u64(0..LIE_MILLIS_MAX));
        tokio::spawn(async move {
            sleep(pause).await;
            read(&server, &domain, reading);
        });
        Some((reading, false))
    }

    /// It is killed.
    pub(super) fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            self.net.note(&format!("{} is killed", self.domain));
            running.mounted.crash();
            self.net.close(&self.domain);
        }
    }

    /// It stops in good order; what takes too long, because the disk hangs, is killed.
    pub(super) async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.net.note(&format!("{} stops", self.domain));
        self.net.shut(&self.domain);
        let stopping = async {
            running.server.drain().await;
            running.server.put_away().await.is_ok()
        };
        let stopped = timeout(STOP_MAX, stopping).await;
        self.net.note(&format!("{} has stopped: {stopped:?}", self.domain));
        running.mounted.crash();
        self.net.close(&self.domain);
    }
}

/// The server's settings are those of this reading from now on.
fn read(server: &Server, domain: &Domain, reading: u64) {
    let config = readings::config(domain, reading, reading);
    let again = server.reloading(Path::new("imppd.toml"));
    again.with(config, |_| Ok(readings::tls(reading))).unwrap();
}
