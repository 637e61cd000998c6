//! A store in memory as tests of rooms have it: it counts what it is asked, refuses what a test says, and
//! answers when a test says.
//!
//! Disks that forget, fill up and fail with their server are left to `world/disk.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use impp_protocol::{Address, Domain};
use impp_storage::{
    Dedup, Health, Lane, LogState, MemoryStore, Observer, Outcome, Page, Pending, Promise,
    ReadBack, ReadLog, Record, RecordKey, Salvaged, Scan, Stats, Store, StoreError, Table, Unit,
};
use parking_lot::Mutex;

/// See the module.
pub(crate) struct Double {
    store: MemoryStore,
    refuses: Mutex<Refuses>,
    refused: AtomicU64,
    /// So many scans of a table are refused.
    busy: Mutex<Option<(Table, u32)>>,
    /// Of these records no value can be read.
    damaged: Mutex<Vec<(Table, Vec<u8>)>>,
    /// What is read comes a little later.
    slow: AtomicBool,
    /// Answers that are kept back, while they are.
    kept_back: Mutex<Option<Vec<KeptBack>>>,
    reads: AtomicU64,
    came: Mutex<Vec<Came>>,
}

/// What a unit is answered instead of being done, if anything.
type Refuses = Box<dyn FnMut(&Unit) -> Option<StoreError> + Send>;
type KeptBack = (Promise<Outcome>, Result<Outcome, StoreError>);

/// Of a unit that came: its lane, and whose share of the queue it takes.
pub(crate) type Came = [Option<Lane>; 2];

impl Double {
    /// An empty one, that does as it is asked.
    pub(crate) fn new() -> Arc<Double> {
        let store = MemoryStore::new().unwrap();
        let refuses: Mutex<Refuses> = Mutex::new(Box::new(|_| None));
        let (refused, busy, damaged, slow, kept_back, reads, came) = Default::default();
        Arc::new(Double { store, refuses, refused, busy, damaged, slow, kept_back, reads, came })
    }

    /// From now on these are not done, but answered so.
    pub(crate) fn refuse(&self, which: impl FnMut(&Unit) -> Option<StoreError> + Send + 'static) {
        *self.refuses.lock() = Box::new(which);
    }

    /// The unit that comes when so many have come is refused, and no other one.
    pub(crate) fn refuse_at(&self, mut until: u64, error: StoreError) {
        self.refuse(move |_| {
            until = until.wrapping_sub(1);
            (until == 0).then(|| error.clone())
        });
    }

    /// So many times it is too busy to scan that table.
    pub(crate) fn be_busy(&self, table: Table, times: u32) {
        *self.busy.lock() = Some((table, times));
    }

    /// From now on this record cannot be read.
    pub(crate) fn damage(&self, key: RecordKey) {
        self.damaged.lock().push((key.table, key.key));
    }

    /// From now on what is read comes a little later.
    pub(crate) fn be_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// From now on units are done and not answered.
    pub(crate) fn keep_back(&self) {
        self.kept_back.lock().get_or_insert_default();
    }

    /// All that was not answered is, and what comes is answered at once.
    pub(crate) fn answer(&self) {
        for (promise, answer) in self.kept_back.lock().take().into_iter().flatten() {
            promise.keep(answer);
        }
    }

    /// How often it was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many units were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many units have come, whatever became of them.
    pub(crate) fn units(&self) -> u64 {
        self.came.lock().len() as u64
    }

    /// The units that have come; they are counted anew.
    pub(crate) fn take_came(&self) -> Vec<Came> {
        std::mem::take(&mut *self.came.lock())
    }

    fn read<T: Send + 'static>(&self, read: impl FnOnce(&MemoryStore) -> Pending<T>) -> Pending<T> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let found = read(&self.store);
        if !self.slow.load(Ordering::Relaxed) {
            return found;
        }
        let (promise, pending) = Pending::promise();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            promise.keep(found.await);
        });
        pending
    }
}

impl Store for Double {
    fn submit(&self, unit: Unit) -> Pending<Outcome> {
        self.came.lock().push([unit.lane.clone(), unit.share.clone()]);
        let refused = (self.refuses.lock())(&unit);
        let answer = match refused {
            Some(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Pending::ready(Err(error))
            }
            None => self.store.submit(unit),
        };
        let mut kept_back = self.kept_back.lock();
        let Some(kept_back) = &mut *kept_back else { return answer };
        let answer = futures_util::FutureExt::now_or_never(answer);
        let (promise, pending) = Pending::promise();
        kept_back.push((promise, answer.unwrap_or(Err(StoreError::Stopped))));
        pending
    }

    fn get(&self, key: RecordKey) -> Pending<Option<Record>> {
        self.read(|store| store.get(key))
    }

    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>> {
        if let Some((table, times)) = &mut *self.busy.lock()
            && *table == range.table
            && *times > 0
        {
            *times -= 1;
            return Pending::ready(Err(StoreError::Busy));
        }
        let is_of = |(table, key): &(Table, Vec<u8>)| {
            *table == range.table && key.starts_with(&range.prefix)
        };
        if self.damaged.lock().iter().any(is_of) {
            return Pending::ready(Err(StoreError::Damaged { what: "a record".to_owned() }));
        }
        self.read(|store| store.scan(range))
    }

    fn salvage(&self, domain: Domain, table: Table, prefix: Vec<u8>) -> Pending<Salvaged> {
        let damaged = self.damaged.lock().clone();
        self.read(|store| {
            let found = futures_util::FutureExt::now_or_never(store.salvage(domain, table, prefix));
            Pending::ready(found.unwrap_or(Err(StoreError::Stopped)).map(|mut found| {
                let is_well =
                    |(key, _): &(Vec<u8>, Record)| !damaged.contains(&(table, key.clone()));
                let (well, rest) = found.records.into_iter().partition(is_well);
                found.records = well;
                found.damaged.extend(rest.into_iter().map(|(key, _)| key));
                found
            }))
        })
    }

    fn read(&self, query: ReadLog) -> Pending<Page> {
        self.read(|store| store.read(query))
    }

    fn read_back(&self, query: ReadBack) -> Pending<Page> {
        self.read(|store| store.read_back(query))
    }

    fn log_state(&self, owner: Address) -> Pending<LogState> {
        self.read(|store| store.log_state(owner))
    }

    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>> {
        self.read(|store| store.accepted(key))
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
