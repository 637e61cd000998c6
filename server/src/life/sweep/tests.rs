//! G12, E12: whatever the clock says, nothing is accepted twice; and what was accepted is known as
//! long as its record is kept.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use impp_protocol::command::{Message, Outcome, Written};
use impp_protocol::{Address, Code, Command, Domain, Error, MessageId};
use impp_storage::{Dedup, Expect, MemoryStore, Options, SqliteStore};
use proptest::prelude::*;

use super::*;
use crate::core::accounts::tests::verifier;
use crate::core::answers::Answer;
use crate::core::clock::tests::Held;
use crate::core::config::Config;
use crate::core::ground::Ground;
use crate::core::records::Services;
use crate::life::{Server, Surroundings};
use crate::messages::Bearer;

const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;
/// Where time stands at first, in milliseconds since 1970.
const START: u64 = 1_800_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    /// The server starts again, with a clock that is wrong by so much; a store on the disk is opened
    /// anew.
    Restart(i64),
    /// Somebody sets the clock while the server runs, so that it is wrong by so much.
    Set(i64),
    /// Time passes, and the clock with it.
    Pass(i64),
    /// A message whose id is so far from what the clock says; over a link, if it is so.
    New(i64, bool),
    /// The one that was sent so many before the last, once more.
    Repeat(usize),
    Sweep,
}

fn a_step() -> impl Strategy<Value = Step> {
    let wrong = [0, 0, 0, HOUR, 80 * HOUR, 30 * 24 * HOUR, 10 * YEAR];
    let wrong = prop::sample::select(wrong.to_vec());
    let wrong = (wrong, any::<bool>()).prop_map(|(wrong, back)| if back { -wrong } else { wrong });
    let hours = |range: Range<i64>| range.prop_map(|hours| hours * HOUR);
    prop_oneof![
        2 => wrong.clone().prop_map(Step::Restart),
        2 => wrong.prop_map(Step::Set),
        3 => hours(1..100).prop_map(Step::Pass),
        4 => hours(-23..1).prop_map(|id| Step::New(id, false)),
        3 => hours(-71..24).prop_map(|id| Step::New(id, true)),
        1 => hours(-200..200).prop_map(|id| Step::New(id, false)),
        5 => (0..30usize).prop_map(Step::Repeat),
        3 => Just(Step::Sweep),
    ]
}

/// A store that can be opened again, or is only in memory.
enum Kept {
    Memory(Arc<MemoryStore>),
    Disk(tempfile::TempDir),
}

impl Kept {
    fn open(&self) -> Arc<dyn Store> {
        match self {
            Kept::Memory(store) => store.clone(),
            Kept::Disk(folder) => {
                Arc::new(SqliteStore::open(folder.path(), Options::default()).unwrap())
            }
        }
    }
}

struct Sent {
    message: Message,
    bearer: Bearer,
    accepted: bool,
}

/// One server after the other over one store, and what became of what was sent.
struct Life {
    kept: Kept,
    server: Option<Server>,
    watch: Arc<Held>,
    swept: Timestamp,
    sent: Vec<Sent>,
    /// The newest id of something accepted of which there is no record any more.
    forgotten: Option<Timestamp>,
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn key(message: &Message) -> Dedup {
    let (from, to) = (message.from.clone().unwrap(), message.to.clone());
    Dedup { id: message.id.0, from, to, digest: [0; 32] }
}

impl Life {
    async fn begin(kept: Kept) -> Life {
        let (watch, swept) = (Held::at(Timestamp::from_millis(START)), Timestamp::default());
        let mut life = Life { kept, server: None, watch, swept, sent: Vec::new(), forgotten: None };
        life.start(0).await;
        let ground = &life.server().ground;
        for name in ["alice@a.example", "bob@a.example"] {
            let services = Services { pres: true, im: true };
            let (now, address) = (ground.clock.now(), address(name));
            let verifier = verifier();
            let added =
                ground.accounts.add(&*ground.store, now, &address, services, verifier, vec![]);
            added.await.unwrap();
        }
        life
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Starts a server whose clock is wrong by so much, in place of the one before.
    async fn start(&mut self, wrong: i64) {
        if let Some(server) = self.server.take()
            && matches!(self.kept, Kept::Disk(_))
        {
            server.ground.store.close().await.unwrap();
        }
        let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
        let config = Config::parse(text, Path::new("imppd.toml")).unwrap();
        self.watch.set(wrong);
        let clock = Clock::of(self.watch.clone(), None);
        self.swept = clock.now();
        let surroundings = Surroundings { clock, ..Surroundings::real() };
        self.server = Some(Server::load_in(surroundings, config, self.kept.open()).await.unwrap());
    }

    async fn sweep(&mut self) {
        let Ground { store, clock, .. } = self.server().ground.clone();
        let now = clock.now();
        // As if every step had stood for long enough.
        once(&*store, clock.wall(), now.since(self.swept)).await.unwrap();
        self.swept = now;
        for sent in self.sent.iter().filter(|sent| sent.accepted) {
            if store.accepted(key(&sent.message)).await.unwrap().is_none() {
                self.forgotten = self.forgotten.max(sent.message.id.time());
            }
        }
    }

    async fn deliver(&self, message: &Message, bearer: &Bearer) -> Result<Outcome, Error> {
        let (delivery, from) = (&self.server().rooms.delivery, message.from.clone().unwrap());
        let answer =
            match delivery.deliver(Written::new(message.clone()), from, bearer.clone()).await? {
                Answer::Now(command) => command,
                Answer::Later(later) => later.await,
            };
        match answer {
            Command::Ok(done) => Ok(done.outcome.unwrap()),
            Command::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Sends something new: it is accepted if its id is in the window of who brings it, and newer than
    /// all that was forgotten.
    async fn send(&mut self, id: i64, bearer: Bearer) {
        let number = self.sent.len() as u8;
        let now = self.server().ground.clock.wall().as_millis().cast_signed();
        let id = MessageId::new(Timestamp::from_millis((now + id).max(0) as u64), [number; 10]);
        let (from, age, ahead) = match bearer {
            Bearer::Link => ("eve@b.example", 72 * HOUR, 24 * HOUR),
            _ => ("alice@a.example", 24 * HOUR, HOUR / 6),
        };
        let mut message = Message::new(id, address("bob@a.example"), "once".into());
        message.from = Some(address(from));
        let time = id.time().unwrap();
        let is_near = (now - age..=now + ahead).contains(&time.as_millis().cast_signed());
        let expected = is_near && Some(time) > self.forgotten;
        let accepted = match self.deliver(&message, &bearer).await {
            Ok(Outcome::Delivered) => true,
            Err(error) if error.code == Code::OutOfWindow => false,
            other => panic!("{other:?}"),
        };
        assert_eq!(accepted, expected, "{time} now {now} forgotten {:?}", self.forgotten);
        self.sent.push(Sent { message, bearer, accepted });
    }

    /// What was accepted is not accepted again; it is a duplicate as long as there is a record.
    async fn repeat(&mut self, back: usize) {
        let Some(index) = self.sent.len().checked_sub(back + 1) else { return };
        let Sent { message, bearer, accepted } = &self.sent[index];
        let is_known = self.server().ground.store.accepted(key(message)).await.unwrap().is_some();
        match self.deliver(message, bearer).await {
            Ok(Outcome::Delivered) => {
                assert!(!accepted, "{:?} was accepted twice", message.id);
                self.sent[index].accepted = true;
            }
            Ok(Outcome::Duplicate) => assert!(*accepted && is_known),
            Err(error) => assert!(error.code == Code::OutOfWindow && !is_known, "{error:?}"),
            other => panic!("{other:?}"),
        }
    }

    async fn live(mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Restart(wrong) => self.start(wrong).await,
                Step::Set(wrong) => self.watch.set(wrong),
                Step::Pass(millis) => {
                    tokio::time::advance(Duration::from_millis(millis as u64)).await;
                }
                Step::New(id, true) => self.send(id, Bearer::Link).await,
                Step::New(id, false) => self.send(id, Bearer::Session).await,
                Step::Repeat(back) => self.repeat(back).await,
                Step::Sweep => self.sweep().await,
            }
        }
        // Put right: nothing of all that hinders what is new.
        self.watch.set(0);
        self.send(0, Bearer::Session).await;
    }
}

fn play(kept: Kept, steps: Vec<Step>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { Life::begin(kept).await.live(steps).await });
}

/// A first start ten years ahead, and a day of it with its sweeps: once it is put right, all that is
/// new is taken.
#[test]
fn g12_a_first_start_ahead_refuses_nothing_when_the_clock_is_right() {
    let mut steps = vec![Step::Restart(10 * YEAR), Step::Sweep];
    for _ in 0..24 {
        steps.extend([Step::New(0, false), Step::Pass(HOUR), Step::Sweep]);
    }
    steps.extend([Step::Restart(0), Step::Sweep]);
    steps.extend([Step::New(-23 * HOUR, false), Step::New(-71 * HOUR, true)]);
    steps.extend((0..26).map(Step::Repeat));
    play(Kept::Memory(Arc::new(MemoryStore::new().unwrap())), steps);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn g12_e12_nothing_is_accepted_twice(steps in prop::collection::vec(a_step(), 1..60)) {
        play(Kept::Memory(Arc::new(MemoryStore::new().unwrap())), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn g12_e12_nothing_is_accepted_twice_on_the_disk(
        steps in prop::collection::vec(a_step(), 1..60)
    ) {
        play(Kept::Disk(tempfile::tempdir().unwrap()), steps);
    }
}

/// Where no server lasts for an hour, what is old is forgotten all the same; and what cannot be read
/// keeps nothing else from that.
#[tokio::test(start_paused = true)]
async fn g12_g6_what_is_old_is_forgotten_where_no_server_lasts() {
    let lasts = Duration::from_secs(20 * 60);
    let mut life = Life::begin(Kept::Memory(Arc::new(MemoryStore::new().unwrap()))).await;
    life.send(0, Bearer::Session).await;
    let sent = key(&life.sent[0].message);
    let domain = address("alice@a.example").domain();
    let first: place::Place<place::Raw> =
        place::found(&domain, records::LINKED, b"first.example".to_vec());
    let old = records::LinkedRecord { open: false, until: START };
    let ops = vec![
        first.put_bytes(Expect::Any, Bytes::from_static(b"{")),
        place::linked(&domain, &Domain::parse("old.example").unwrap()).set(Some(&old)),
    ];
    let store = life.server().ground.store.clone();
    store.submit(Unit::of(Timestamp::from_millis(START), ops)).await.unwrap();
    let days = Duration::from_secs(24 * 3600);
    let queued = Duration::from_secs(life.server().ground.settings.load().federation.queue_seconds);
    let long = (DEDUP_KEPT.max(queued) + days).as_secs() / lasts.as_secs();
    for _ in 0..long {
        let (clock, outgoing) =
            (life.server().ground.clock.clone(), life.server().rooms.outgoing.clone());
        let task = tokio::spawn(run(store.clone(), clock, outgoing));
        tokio::time::sleep(lasts).await;
        task.abort();
        life.start(0).await;
    }
    assert_eq!(store.accepted(sent).await.unwrap(), None);
    let left = crate::core::keeping::all(&*store, &domain, records::LINKED).await.unwrap();
    let left: Vec<_> = left.records.into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [b"first.example"]);
}
