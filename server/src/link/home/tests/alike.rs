//! C1: what is done for one of a class is done for each: reads of the store, units, and principals that
//! are looked at. The classes are those of D5 and D6.

use std::sync::atomic::{AtomicU64, Ordering};

use impp_protocol::command::{Message, Written};
use impp_storage::{
    Dedup, Health, LogState, Observer, Outcome, Page, Pending, ReadLog, Record, RecordKey,
    Salvaged, Scan, Stats, Table, Unit,
};

use super::*;
use crate::messages::Bearer;

/// A store that counts what it is asked.
struct Counting {
    store: MemoryStore,
    reads: AtomicU64,
    units: AtomicU64,
}

impl Counting {
    fn read(&self) -> &MemoryStore {
        self.reads.fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

impl Store for Counting {
    fn submit(&self, unit: Unit) -> Pending<Outcome> {
        self.units.fetch_add(1, Ordering::Relaxed);
        self.store.submit(unit)
    }
    fn get(&self, key: RecordKey) -> Pending<Option<Record>> {
        self.read().get(key)
    }
    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>> {
        self.read().scan(range)
    }
    fn salvage(&self, domain: Domain, table: Table) -> Pending<Salvaged> {
        self.read().salvage(domain, table)
    }
    fn read(&self, query: ReadLog) -> Pending<Page> {
        self.read().read(query)
    }
    fn log_state(&self, owner: Address) -> Pending<LogState> {
        self.read().log_state(owner)
    }
    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>> {
        self.read().accepted(key)
    }
    fn observe(&self, observer: Arc<dyn Observer>) {
        self.store.observe(observer);
    }
    fn incarnation(&self) -> [u8; 16] {
        self.store.incarnation()
    }
    fn stats(&self) -> Stats {
        self.store.stats()
    }
    fn health(&self) -> Health {
        self.store.health()
    }
    fn close(&self) -> Pending<()> {
        self.store.close()
    }
}

/// What was done so far: reads, units, principals looked at.
fn steps(server: &Server, store: &Counting) -> [u64; 3] {
    let counts = [&store.reads, &store.units].map(|count| count.load(Ordering::Relaxed));
    [counts[0], counts[1], server.rooms.principals.looked_at()]
}

async fn counted() -> (Server, Arc<Counting>) {
    let (reads, units) = Default::default();
    let store = Arc::new(Counting { store: MemoryStore::new().unwrap(), reads, units });
    (start("a.example", "", store.clone()).await, store)
}

/// What each step of the same course takes, for one who asks over a link.
async fn over_a_link(server: &Server, store: &Counting, whom: &str) -> Vec<[u64; 3]> {
    let (link, mut groups) = (link(7), AllGroups::default());
    let (home, bob) = (home_of(server), address("bob@b.example"));
    let mut taken = vec![steps(server, store)];
    for _ in 0..2 {
        let watcher = Some(bob.clone());
        let fetch = Fetch { watcher, ..Fetch::of(address(whom), What::Presence) };
        let _ = home.fetch(&link, fetch).await;
        taken.push(steps(server, store));
    }
    for lease in [60, 120, 0] {
        let ask = Subscribe { address: address(whom), ..ask_for("bob@b.example", lease) };
        home.ready(&link, &ask.address).await;
        let asked = home.subscribe(&link, ask).await;
        home.answer(&link, &mut groups, asked).await;
        taken.push(steps(server, store));
    }
    let mut id = impp_protocol::MessageId::new(server.ground.clock.wall(), [1; 10]);
    for last in [1, 1, 2] {
        *id.0.last_mut().unwrap() = last;
        let message = Message::new(id, address(whom), "hello".into());
        let message = Written::new(Message { from: Some(bob.clone()), ..message });
        let delivered = server.rooms.delivery.deliver(message, bob.clone(), Bearer::Link).await;
        if let Ok(Answer::Later(later)) = delivered {
            later.await;
        }
        taken.push(steps(server, store));
    }
    let took = taken.windows(2).map(|pair| std::array::from_fn(|of| pair[1][of] - pair[0][of]));
    took.collect()
}

#[tokio::test]
async fn c1_f14_as_much_is_done_for_who_does_not_exist_as_for_who_never_comes() {
    let (server, store) = counted().await;
    add(&server, "alice@a.example").await;
    let known = over_a_link(&server, &store, "alice@a.example").await;
    let unknown = over_a_link(&server, &store, "nobody@a.example").await;
    assert_eq!(known, unknown);
    assert!(known.iter().all(|[_, _, looked]| *looked > 0), "{known:?}");
}

#[tokio::test]
async fn c1_d5_as_much_is_done_for_who_is_offline_as_for_who_blocks_politely_or_grants_nothing() {
    let mut took = Vec::new();
    for rule in [
        "handling = \"allow\"\nfields = [\"all\"]",
        "handling = \"polite-block\"",
        "handling = \"allow\"\nfields = [\"mood\"]",
    ] {
        let (server, store) = counted().await;
        add(&server, "alice@a.example").await;
        let text = format!("[[rule]]\nid = \"r\"\nwho = [\"anyone\"]\n{rule}\n");
        let text = text + "[[delivery]]\nid = \"d\"\nwho = [\"anyone\"]\naction = \"hold\"\n";
        let rules = impp_acl::RuleSet::parse(&text).unwrap().into();
        let put = Change::PutRules { rules, text: text.into(), base: 0 };
        server.rooms.principals.change(&address("alice@a.example"), put).await.unwrap();
        took.push(over_a_link(&server, &store, "alice@a.example").await);
    }
    assert_eq!(took[0], took[1]);
    assert_eq!(took[0], took[2]);
}
