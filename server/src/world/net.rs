//! The network of a world: who gets a connection to whom, and which of them break or fall silent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::BoxFuture;
use impp_protocol::{Address, Code, Domain};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::line::{End, Fate, LINE_MILLIS, Line, Proof};
use super::readings;
use crate::life::Server;
use crate::link::{Call, NotOpened, Opened, Ways};
use crate::wire::admission::Bounds;
use crate::wire::pipe::Pipe;

/// More than there are connections in a world.
const BOUNDS: Bounds = Bounds { total: 10_000, source: 10_000, network: 10_000 };
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub(super) struct Net(Arc<Inner>);

struct Inner {
    began: Instant,
    dice: Mutex<Rng>,
    trace: Mutex<Vec<String>>,
    lines: Mutex<Vec<Weak<Mutex<Line>>>>,
    /// The servers that run, by domain.
    doors: Mutex<BTreeMap<Domain, Arc<Server>>>,
    /// How many connections of whom a server has let go.
    gone: Mutex<BTreeMap<Address, u64>>,
    /// Whether servers reach each other.
    apart: Mutex<bool>,
}

impl Net {
    /// A network whose delays follow from a seed.
    pub(super) fn new(seed: u64) -> Net {
        let dice = Mutex::new(Rng::with_seed(seed));
        let (trace, lines, doors, gone, apart) = Default::default();
        Net(Arc::new(Inner { began: Instant::now(), dice, trace, lines, doors, gone, apart }))
    }

    /// Chance of the network's own.
    pub(super) fn dice(&self) -> MutexGuard<'_, Rng> {
        self.0.dice.lock()
    }

    /// Milliseconds since the world began.
    pub(super) fn millis(&self) -> u64 {
        self.0.began.elapsed().as_millis() as u64
    }

    /// Writes down what has happened.
    pub(super) fn note(&self, what: &str) {
        self.0.trace.lock().push(format!("{:>9} {what}", self.millis()));
    }

    /// All that has been written down.
    pub(super) fn trace(&self) -> Vec<String> {
        self.0.trace.lock().clone()
    }

    /// A server is there.
    pub(super) fn open(&self, domain: &Domain, server: Arc<Server>) {
        self.0.doors.lock().insert(domain.clone(), server);
    }

    /// A server lets nobody in any more.
    pub(super) fn shut(&self, domain: &Domain) {
        self.0.doors.lock().remove(domain);
    }

    /// A server is there no more, and all that led to it is broken.
    pub(super) fn close(&self, domain: &Domain) {
        self.shut(domain);
        self.fell(|line| line.domains.contains(domain), Fate::Cut);
    }

    /// A server has let a connection go that somebody had proven.
    pub(super) fn left(&self, who: &Address) {
        *self.0.gone.lock().entry(who.clone()).or_default() += 1;
    }

    /// How many such connections there were.
    pub(super) fn gone(&self, who: &Address) -> u64 {
        self.0.gone.lock().get(who).copied().unwrap_or_default()
    }

    /// What becomes of the connections of this name.
    pub(super) fn cut(&self, name: &str, fate: Fate) {
        self.fell(|line| line.name.split('#').next() == Some(name), fate);
    }

    /// What becomes of the links.
    pub(super) fn cut_links(&self, fate: Fate) {
        self.fell(|line| line.domains.len() == 2, fate);
    }

    /// Whether servers reach each other from now on.
    pub(super) fn part(&self, apart: bool) {
        *self.0.apart.lock() = apart;
        if apart {
            self.cut_links(Fate::Silent);
        }
    }

    fn fell(&self, which: impl Fn(&Line) -> bool, fate: Fate) {
        let lines: Vec<_> = self.0.lines.lock().iter().filter_map(Weak::upgrade).collect();
        for line in lines {
            let mut line = line.lock();
            if which(&line) {
                line.falls(fate);
            }
        }
    }

    /// A client connects: its end, and what both know of the connection; `None` if no server is there.
    pub(super) fn connect(&self, who: &Address, name: &str) -> Option<(End, Proof)> {
        let domain = who.domain();
        let server = self.0.doors.lock().get(&domain).cloned()?;
        let (mut exporter, mut called) = (Proof::default(), Proof::default());
        self.0.dice.lock().fill(&mut exporter.exporter);
        called.exporter = exporter.exporter;
        (called.called, called.addresses) = (Some(domain.clone()), vec![who.clone()]);
        let tls = server.entrance.settings.load_full().tls.clone()?;
        exporter.reading = readings::of_tls(&tls);
        let proven = exporter.clone();
        let (ours, theirs) = self.line(name, vec![domain], [exporter, called]);
        let by = Instant::now() + HANDSHAKE_MAX;
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let entrance = server.entrance.clone();
        let place = entrance.admission.enter(from, BOUNDS).ok()?;
        let pipe = Pipe::new(Box::new(theirs), by);
        entrance.let_in(pipe, from, place, by);
        Some((ours, proven))
    }

    /// The ways of a server of this domain, as long as it runs.
    pub(super) fn ways(&self, domain: &Domain, alive: Weak<()>) -> Arc<dyn Ways> {
        Arc::new(Wired { net: self.clone(), domain: domain.clone(), alive })
    }

    fn line(&self, name: &str, domains: Vec<Domain>, proofs: [Proof; 2]) -> (End, End) {
        let mut dice = self.0.dice.lock();
        let mut lines = self.0.lines.lock();
        lines.retain(|line| line.strong_count() > 0);
        let number = dice.u32(..);
        let delay = Duration::from_millis(dice.u64(0..LINE_MILLIS));
        let line = Line {
            name: format!("{name}#{number:08x}"),
            domains,
            halves: Default::default(),
            fate: Fate::Open,
        };
        let line = Arc::new(Mutex::new(line));
        lines.push(Arc::downgrade(&line));
        let end = |side, proof| End {
            line: line.clone(),
            side,
            proof,
            net: self.clone(),
            delay,
            wait: None,
        };
        let [first, second] = proofs;
        (end(0, first), end(1, second))
    }
}

/// The ways between servers.
struct Wired {
    net: Net,
    domain: Domain,
    alive: Weak<()>,
}

impl Wired {
    fn server(&self, remote: &Domain) -> Option<Arc<Server>> {
        self.alive.upgrade()?;
        let inner = &self.net.0;
        let apart = *inner.apart.lock();
        inner.doors.lock().get(remote).filter(|_| !apart).cloned()
    }
}

impl Ways for Wired {
    fn reach<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<(Pipe, Opened), NotOpened>> {
        Box::pin(async move {
            let nobody = || {
                let text = format!("{}: no connection", call.remote);
                NotOpened::transient(Code::Unreachable, text)
            };
            let pause = self.net.0.dice.lock().u64(0..200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let server = self.server(call.remote).ok_or_else(nobody)?;
            let caller = Proof { server_of: Some(call.remote.clone()), ..Proof::default() };
            let called = Proof {
                called: Some(call.remote.clone()),
                server_of: Some(self.domain.clone()),
                ..Proof::default()
            };
            let name = format!("{}>{}", self.domain, call.remote);
            let domains = vec![self.domain.clone(), call.remote.clone()];
            let (ours, theirs) = self.net.line(&name, domains, [caller, called]);
            let entrance = server.entrance.clone();
            let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let place = entrance.admission.enter(from, BOUNDS).map_err(|_| nobody())?;
            let by = Instant::now() + HANDSHAKE_MAX;
            tokio::spawn(async move {
                let pipe = Pipe::new(Box::new(theirs), by);
                entrance.peers.accept(pipe, from, place, by, &entrance.complaints).await;
            });
            call.greet(Pipe::new(Box::new(ours), call.by)).await.map_err(|error| {
                NotOpened::transient(error.code, error.text.clone().unwrap_or_default())
            })
        })
    }
}
