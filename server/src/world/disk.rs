//! The disk of a world: what was not synced is lost with the server that wrote it; it can be slow,
//! hang, be full, and fail.
//!
//! What units do is decided as on any disk, by [`MemoryStore`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use impp_protocol::{Address, Domain};
use impp_storage::{
    Dedup, Health, Lack, Lane, LogState, MemoryStore, Observer, Op, Outcome, Page, Payer, Pending,
    Promise, ReadBack, ReadLog, Record, RecordKey, Salvaged, Scan, Stats, Store, StoreError, Table,
    Unit,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Lie;
use super::net::Net;

/// How a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It takes up to 20 ms.
    Well,
    /// It answers nothing until it is well again.
    Hangs,
    /// What grows is refused.
    Full,
    /// The next sync fails, and whether it was done is unknown.
    Fails,
}

/// Of 256 units that are paid from a reserve, those that find it used up.
const RESERVE_GONE: u8 = 32;

/// What survives, for one server after the other.
pub(super) struct Disk {
    kept: Mutex<Arc<MemoryStore>>,
    /// All that was done, if there is a lie to be told.
    done: Mutex<Vec<Unit>>,
    lie: Option<Lie>,
    /// Knows who has gone, for a lie.
    net: Net,
    /// What is never answered, if that is the lie.
    unheard: Mutex<Vec<Promise<Outcome>>>,
    incarnation: [u8; 16],
    mood: Mutex<Mood>,
    changed: Notify,
}

/// A disk as one run of a server has it.
pub(super) struct Mounted {
    disk: Arc<Disk>,
    state: Mutex<State>,
    dice: Mutex<Rng>,
    queued: Notify,
}

/// What waits for a sync.
struct Queued {
    unit: Unit,
    promise: Promise<Outcome>,
    /// How many connections of whoever asked had gone when it was asked.
    gone: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// What a sync covers that is under way.
    syncing: Vec<Queued>,
    closing: Option<Promise<()>>,
    failed: bool,
    ended: bool,
    stats: Stats,
}

impl Disk {
    /// An empty one.
    pub(super) fn new(dice: &mut Rng, net: &Net, lie: Option<Lie>) -> Arc<Disk> {
        let mut incarnation = [0; 16];
        dice.fill(&mut incarnation);
        let kept = Mutex::new(Arc::new(MemoryStore::new().unwrap()));
        let (mood, changed) = (Mutex::new(Mood::Well), Notify::new());
        let (done, unheard) = Default::default();
        Arc::new(Disk { kept, done, lie, net: net.clone(), unheard, incarnation, mood, changed })
    }

    /// How it does from now on.
    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock() = mood;
        self.changed.notify_waiters();
    }

    /// For a server that starts.
    pub(super) fn mount(self: &Arc<Self>, dice: Rng) -> Arc<Mounted> {
        let (state, queued) = Default::default();
        let dice = Mutex::new(dice);
        let mounted = Arc::new(Mounted { disk: self.clone(), state, dice, queued });
        tokio::spawn(mounted.clone().write());
        mounted
    }

    /// Does what a sync covers.
    fn keep(&self, unit: Unit) -> Result<Outcome, StoreError> {
        if self.lie.is_some() {
            self.done.lock().push(unit.clone());
        }
        let kept = self.kept.lock().clone();
        now(kept.submit(unit))
    }

    /// What it makes of a kill, if it lies: all is done again, and one thing otherwise.
    fn lies(&self, dice: &mut Rng) {
        let (mut done, Some(lie)) = (self.done.lock(), self.lie) else { return };
        if done.len() < 3 {
            return;
        }
        let last = done.len() - 1 - dice.usize(0..done.len().min(20) - 1);
        match lie {
            Lie::Forgets => done.truncate(last),
            Lie::Doubles => {
                let twice = done[last].clone();
                done.insert(last, Unit { dedup: None, ..twice });
            }
            Lie::Swaps => done.swap(last, last - 1),
            Lie::Deserts | Lie::Halves | Lie::Lags => return,
        }
        let other = MemoryStore::new().unwrap();
        for unit in &*done {
            let _ = now(other.submit(unit.clone()));
        }
        *self.kept.lock() = Arc::new(other);
    }

    /// Answers, unless whoever has asked has gone meanwhile, and it lies about that.
    fn answer(
        &self,
        promise: Promise<Outcome>,
        deserted: bool,
        answer: Result<Outcome, StoreError>,
    ) {
        match self.lie == Some(Lie::Deserts) && deserted {
            true => self.unheard.lock().push(promise),
            false => promise.keep(answer),
        }
    }

    /// How many connections of whoever has asked for this have gone.
    fn gone(&self, unit: &Unit) -> u64 {
        match &unit.lane {
            Some(Lane::Account(who)) => self.net.gone(who),
            _ => 0,
        }
    }

    async fn well(&self) {
        loop {
            let changed = self.changed.notified();
            if *self.mood.lock() != Mood::Hangs {
                return;
            }
            changed.await;
        }
    }
}

impl Mounted {
    /// The server is killed: what waits is gone, and what was being synced may have been, unless a sync
    /// had failed before.
    pub(super) fn crash(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.queue.clear();
        let syncing = std::mem::take(&mut state.syncing);
        let survives = self.dice.lock().bool() && !state.failed;
        drop(state);
        if survives {
            for Queued { unit, .. } in syncing {
                let _ = self.disk.keep(unit);
            }
        }
        self.disk.lies(&mut self.dice.lock());
    }

    /// Whether a sync has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    async fn write(self: Arc<Self>) {
        loop {
            self.queued.notified().await;
            while self.group().await {}
            let closing = {
                let mut state = self.state.lock();
                state.closing.take().inspect(|_| state.ended = true)
            };
            if let Some(closing) = closing {
                closing.keep(Ok(()));
            }
            if self.state.lock().ended {
                return;
            }
        }
    }

    /// Any one of those whose turn it may be: lanes pass each other, nothing passes what has none.
    fn next(&self, queue: &mut VecDeque<Queued>) -> Option<Queued> {
        let may_pass = |one: &Unit, other: &Unit| {
            one.lane.is_some() && other.lane.is_some() && one.lane != other.lane
        };
        let may = |at: &usize| {
            let one = queue.get(*at);
            let mut before = queue.iter().take(*at);
            before.all(|before| one.is_some_and(|one| may_pass(&one.unit, &before.unit)))
        };
        let next: Vec<usize> = (0..queue.len()).filter(may).collect();
        queue.remove(*self.dice.lock().choice(&next)?)
    }

    /// Decides some of what waits and syncs it; whether there was any.
    async fn group(&self) -> bool {
        {
            let mut state = self.state.lock();
            if state.queue.is_empty() {
                return false;
            }
            let some = self.dice.lock().usize(1..=state.queue.len());
            state.syncing = (0..some).filter_map(|_| self.next(&mut state.queue)).collect();
        }
        let millis = self.dice.lock().u64(0..20);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.disk.well().await;
        let mut state = self.state.lock();
        let fails = {
            let mut mood = self.disk.mood.lock();
            // After that nothing is written any more.
            let fails = *mood == Mood::Fails && !state.failed;
            if fails {
                *mood = Mood::Well;
            }
            fails
        };
        let (full, done) = (*self.disk.mood.lock() == Mood::Full, self.dice.lock().bool());
        for Queued { unit, promise, gone } in std::mem::take(&mut state.syncing) {
            let deserted = self.disk.gone(&unit) > gone;
            let refused = full && self.refuses(&unit);
            let answer = match (state.failed || fails, refused) {
                (true, _) => {
                    if fails && done {
                        let _ = self.disk.keep(unit);
                    }
                    Err(StoreError::Failed { reason: "the sync failed".to_owned() })
                }
                (false, true) => Err(StoreError::NoSpace(Lack::Bytes)),
                (false, false) => self.disk.keep(unit),
            };
            self.disk.answer(promise, deserted, answer);
        }
        state.failed |= fails;
        state.stats.syncs += 1;
        true
    }

    /// Whether it refuses this when it is full: what grows, unless it is paid from a reserve that is not
    /// used up. Of what is exactly as long as what it replaces it may refuse some too.
    fn refuses(&self, unit: &Unit) -> bool {
        let grows = |op: &Op| matches!(op, Op::Append(_) | Op::Put { value: Some(_), .. });
        let paid = unit.payer != Payer::Nobody && self.dice.lock().u8(..) >= RESERVE_GONE;
        !paid && unit.ops.iter().any(grows)
    }

    /// A read that takes a while, or none.
    fn later<T: Send + 'static>(
        &self,
        read: impl FnOnce(&MemoryStore) -> Pending<T> + Send + 'static,
    ) -> Pending<T> {
        if self.state.lock().ended {
            return Pending::ready(Err(StoreError::Stopped));
        }
        let millis = {
            let mut dice = self.dice.lock();
            if dice.bool() { 0 } else { dice.u64(1..8) }
        };
        if millis == 0 {
            return read(&self.disk.kept.lock());
        }
        let (promise, pending) = Pending::promise();
        let disk = self.disk.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let kept = disk.kept.lock().clone();
            promise.keep(now(read(&kept)));
        });
        pending
    }
}

/// The answer of a store that gives it at once.
fn now<T>(pending: Pending<T>) -> Result<T, StoreError> {
    futures_util::FutureExt::now_or_never(pending).unwrap_or(Err(StoreError::Stopped))
}

impl Store for Mounted {
    fn submit(&self, unit: Unit) -> Pending<Outcome> {
        let mut state = self.state.lock();
        if state.ended || state.closing.is_some() {
            return Pending::ready(Err(StoreError::Stopped));
        }
        let (promise, pending) = Pending::promise();
        let gone = self.disk.gone(&unit);
        state.queue.push_back(Queued { unit, promise, gone });
        state.stats.units += 1;
        self.queued.notify_one();
        pending
    }

    fn get(&self, key: RecordKey) -> Pending<Option<Record>> {
        self.later(|kept| kept.get(key))
    }

    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>> {
        self.later(|kept| kept.scan(range))
    }

    fn salvage(&self, domain: Domain, table: Table, prefix: Vec<u8>) -> Pending<Salvaged> {
        self.later(move |kept| kept.salvage(domain, table, prefix))
    }

    fn read(&self, query: ReadLog) -> Pending<Page> {
        self.later(|kept| kept.read(query))
    }

    fn read_back(&self, query: ReadBack) -> Pending<Page> {
        self.later(|kept| kept.read_back(query))
    }

    fn log_state(&self, owner: Address) -> Pending<LogState> {
        self.later(|kept| kept.log_state(owner))
    }

    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>> {
        self.later(|kept| kept.accepted(key))
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        self.disk.kept.lock().observe(observer);
    }

    fn incarnation(&self) -> [u8; 16] {
        self.disk.incarnation
    }

    fn stats(&self) -> Stats {
        self.state.lock().stats
    }

    fn health(&self) -> Health {
        match (self.state.lock().failed, *self.disk.mood.lock()) {
            (true, _) => Health::Failed("the sync failed".to_owned()),
            (false, Mood::Full) => Health::NoSpace(Lack::Bytes),
            (false, _) => Health::Ok,
        }
    }

    fn close(&self) -> Pending<()> {
        let (promise, pending) = Pending::promise();
        self.state.lock().closing = Some(promise);
        self.queued.notify_one();
        pending
    }
}

#[cfg(test)]
mod tests {
    use impp_storage::Expect;

    use super::*;

    fn unit(name: &str) -> (RecordKey, Unit) {
        let (domain, table) = (Domain::parse("a.example").unwrap(), Table(1));
        let key = RecordKey { domain, table, key: name.as_bytes().to_vec() };
        let value = Some(name.as_bytes().to_vec().into());
        let put = Op::Put { key: key.clone(), expect: Expect::Any, value };
        (key, Unit::of(impp_protocol::Timestamp::from_millis(1), vec![put]))
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failed_sync_a_kill_leaves_nothing_of_what_came_later() {
        for seed in 0..20 {
            let mut dice = Rng::with_seed(seed);
            let disk = Disk::new(&mut dice, &Net::new(seed), None);
            let mounted = disk.mount(dice.fork());
            disk.is(Mood::Fails);
            assert!(mounted.submit(unit("first").1).await.is_err());
            let (key, later) = unit("later");
            drop(mounted.submit(later));
            tokio::task::yield_now().await;
            mounted.crash();
            assert_eq!(disk.mount(dice.fork()).get(key).await, Ok(None), "seed {seed}");
        }
    }
}
