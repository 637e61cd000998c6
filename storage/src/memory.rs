//! The back end without a disk: the same answers as on disk, gone with the process.
//!
//! What a unit does is left to `plan.rs`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use impp_protocol::{Address, Domain, Timestamp};

use crate::page::Filler;
use crate::plan::{self, Counters, Facts, Kept, LogRow, Plan, Seen, Usage, Verdict, Write};
use crate::unit::{Dedup, Outcome, Unit, time_of};
use crate::{
    Health, Item, LogState, Observer, Page, Pending, ReadBack, ReadLog, Record, RecordKey,
    Salvaged, Scan, Stats, Store, StoreError, Table,
};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    incarnation: [u8; 16],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    observer: Option<Arc<dyn Observer>>,
    stats: Stats,
    counters: Counters,
    logs: HashMap<Address, LogRow>,
    /// By the id of the log, then by seq.
    items: HashMap<u64, BTreeMap<u64, Stored>>,
    records: BTreeMap<(Domain, Table), BTreeMap<Vec<u8>, Record>>,
    /// By (id, from, to): the earliest ids first.
    seen: BTreeMap<([u8; 16], Address, Address), Seen>,
    /// How many of these there are of a sender.
    known: HashMap<Address, u64>,
}

#[derive(Debug)]
struct Stored {
    item: Item,
    counts: Option<u64>,
}

impl Stored {
    fn kept(&self) -> Kept {
        let Item { seq, kind, time, .. } = self.item;
        let bytes = self.item.size() as u64;
        Kept { seq, kind, time, bytes, shared: 0, counts: self.counts, body: None }
    }
}

impl MemoryStore {
    /// An empty store.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the system gives no random bytes.
    pub fn new() -> Result<MemoryStore, StoreError> {
        Ok(MemoryStore { incarnation: random_incarnation()?, state: Mutex::default() })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Pending<T> {
        let mut state: MutexGuard<'_, State> =
            self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Pending::ready(if state.closed { Err(StoreError::Stopped) } else { work(&mut state) })
    }
}

/// Random bytes that name a new store.
pub(crate) fn random_incarnation() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| StoreError::Failed { reason: format!("no random bytes: {e}") })?;
    Ok(bytes)
}

impl Store for MemoryStore {
    fn submit(&self, unit: Unit) -> Pending<Outcome> {
        self.with(|state| {
            unit.check()?;
            state.stats.units += 1;
            state.stats.groups += 1;
            let Ok(verdict) = plan::decide(&unit, state.counters, state);
            Ok(match verdict {
                Verdict::Answer(outcome) => outcome,
                Verdict::Commit(plan) => {
                    let observer = state.observer.clone();
                    let changes = observer.as_ref().map(|_| plan.changes(&unit));
                    let outcome = state.carry_out(&unit, plan);
                    if let (Some(observer), Some(changes)) = (observer, changes) {
                        observer.committed(changes);
                    }
                    outcome
                }
            })
        })
    }

    fn get(&self, key: RecordKey) -> Pending<Option<Record>> {
        self.with(|state| {
            let table = state.records.get(&(key.domain, key.table));
            Ok(table.and_then(|records| records.get(&key.key)).cloned())
        })
    }

    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>> {
        self.with(|state| {
            range.check()?;
            let Some(records) = state.records.get(&(range.domain, range.table)) else {
                return Ok(Vec::new());
            };
            let from = match &range.after {
                Some(after) if *after >= range.prefix => Bound::Excluded(after.as_slice()),
                _ => Bound::Included(range.prefix.as_slice()),
            };
            Ok(records
                .range::<[u8], _>((from, Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(&range.prefix))
                .take(range.max)
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect())
        })
    }

    fn salvage(&self, domain: Domain, table: Table, prefix: Vec<u8>) -> Pending<Salvaged> {
        self.with(|state| {
            let records = state.records.get(&(domain, table)).into_iter().flatten();
            let records = records.filter(|(key, _)| key.starts_with(&prefix));
            let records = records.map(|(key, record)| (key.clone(), record.clone())).collect();
            Ok(Salvaged { records, ..Salvaged::default() })
        })
    }

    fn read(&self, query: ReadLog) -> Pending<Page> {
        self.with(|state| {
            let row = state.logs.get(&query.owner).copied().unwrap_or_default();
            let mut filler = Filler::new(query.items_max, query.bytes_max);
            if let Some(items) = state.items.get(&row.id) {
                let range = items.range((Bound::Excluded(query.after), Bound::Unbounded));
                for (_, stored) in range {
                    if !filler.take(stored.item.clone()) {
                        break;
                    }
                }
            }
            let LogState { oldest, .. } = row.state(state.oldest(row.id));
            let Filler { items, more, damaged, .. } = filler;
            Ok(Page { items, more, damaged, oldest })
        })
    }

    fn read_back(&self, query: ReadBack) -> Pending<Page> {
        self.with(|state| {
            let row = state.logs.get(&query.owner).copied().unwrap_or_default();
            let mut filler = Filler::new(query.items_max, query.bytes_max);
            for (_, stored) in state
                .items
                .get(&row.id)
                .into_iter()
                .flat_map(|items| items.range(..=query.upto).rev())
            {
                if !filler.take(stored.item.clone()) {
                    break;
                }
            }
            let LogState { oldest, .. } = row.state(state.oldest(row.id));
            let Filler { items, more, damaged, .. } = filler;
            Ok(Page { items, more, damaged, oldest })
        })
    }

    fn log_state(&self, owner: Address) -> Pending<LogState> {
        self.with(|state| {
            let row = state.logs.get(&owner).copied().unwrap_or_default();
            Ok(row.state(state.oldest(row.id)))
        })
    }

    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>> {
        self.with(|state| Ok(state.seen.get(&(key.id, key.from, key.to)).map(|seen| seen.digest)))
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).observer = Some(observer);
    }

    fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    fn stats(&self) -> Stats {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stats
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn close(&self) -> Pending<()> {
        self.with(|state| {
            state.closed = true;
            Ok(())
        })
    }
}

impl State {
    fn oldest(&self, log: u64) -> Option<u64> {
        self.items.get(&log).and_then(|items| items.keys().next().copied())
    }

    fn carry_out(&mut self, unit: &Unit, plan: Plan<'_>) -> Outcome {
        // Copied, so that no item keeps the caller's whole buffer alive.
        let body = plan.body.as_ref().map(|body| Bytes::copy_from_slice(body.data));
        for write in plan.writes {
            match write {
                Write::Item { log, seq, append, body: refers, counts, .. } => {
                    let item = Item {
                        seq,
                        kind: append.kind,
                        head: Bytes::copy_from_slice(&append.head),
                        body: refers.and(body.clone()),
                        time: unit.time,
                    };
                    self.items.entry(log).or_default().insert(seq, Stored { item, counts });
                }
                Write::Record { key, version, value } => self.put(key, version, value),
                Write::Remove { log, items: gone, .. } => {
                    if let Some(items) = self.items.get_mut(&log) {
                        gone.iter().for_each(|item| drop(items.remove(&item.seq)));
                    }
                }
                Write::Mark { log, item, kind } => {
                    let mark = Stored { item: item.mark(kind), counts: None };
                    self.items.entry(log).or_default().insert(item.seq, mark);
                }
                Write::Purge { log } => {
                    self.items.remove(&log);
                }
            }
        }
        for (owner, row) in plan.logs {
            self.logs.insert(owner.clone(), row);
        }
        if let Some(dedup) = &unit.dedup {
            let key = (dedup.id, dedup.from.clone(), dedup.to.clone());
            *self.known.entry(dedup.from.clone()).or_default() += 1;
            self.seen.insert(key, Seen { digest: dedup.digest, seqs: plan.seqs.clone() });
        }
        self.counters = plan.counters;
        self.sweep();
        Outcome::Committed { seqs: plan.seqs, versions: plan.versions }
    }

    /// Forgets the ids below the floor.
    fn sweep(&mut self) {
        while let Some(entry) = self.seen.first_entry() {
            if time_of(&entry.key().0) >= self.counters.dedup_floor {
                break;
            }
            let ((_, from, _), _) = entry.remove_entry();
            if let Some(known) = self.known.get_mut(&from) {
                *known -= 1;
                if *known == 0 {
                    self.known.remove(&from);
                }
            }
        }
    }

    fn put(&mut self, key: &RecordKey, version: u64, value: Option<&Bytes>) {
        let records = self.records.entry((key.domain.clone(), key.table)).or_default();
        match value {
            Some(value) => {
                let value = Bytes::copy_from_slice(value);
                records.insert(key.key.clone(), Record { value, version });
            }
            None => {
                records.remove(&key.key);
            }
        }
    }
}

impl Facts for State {
    type Error = std::convert::Infallible;

    fn log(&mut self, owner: &Address) -> Result<LogRow, Self::Error> {
        Ok(self.logs.get(owner).copied().unwrap_or_default())
    }

    fn version(&mut self, key: &RecordKey) -> Result<Option<u64>, Self::Error> {
        let records = self.records.get(&(key.domain.clone(), key.table));
        Ok(records.and_then(|records| records.get(&key.key)).map(|record| record.version))
    }

    fn length(&mut self, key: &RecordKey) -> Result<Option<usize>, Self::Error> {
        let table = self.records.get(&(key.domain.clone(), key.table));
        Ok(table.and_then(|records| records.get(&key.key)).map(|record| record.value.len()))
    }

    fn seen(&mut self, dedup: &Dedup) -> Result<Option<Seen>, Self::Error> {
        Ok(self.seen.get(&(dedup.id, dedup.from.clone(), dedup.to.clone())).cloned())
    }

    fn newest_seen(&mut self, before: Timestamp) -> Result<Option<Timestamp>, Self::Error> {
        let times = self.seen.keys().map(|(id, ..)| time_of(id));
        Ok(times.take_while(|time| *time < before).last())
    }

    fn known(&mut self, from: &Address) -> Result<u64, Self::Error> {
        Ok(self.known.get(from).copied().unwrap_or_default())
    }

    fn at(&mut self, log: u64, seq: u64) -> Result<Option<Kept>, Self::Error> {
        Ok(self.items.get(&log).and_then(|items| items.get(&seq)).map(Stored::kept))
    }

    fn losable(
        &mut self,
        log: u64,
        custody: u64,
        after: u64,
        see: &mut dyn FnMut(Kept) -> bool,
    ) -> Result<(), Self::Error> {
        for (seq, stored) in self.items.get(&log).into_iter().flatten() {
            let may_go = *seq <= custody || *seq > after && stored.counts.is_none();
            if may_go && !see(stored.kept()) {
                break;
            }
        }
        Ok(())
    }

    fn first_but(&mut self, log: u64, gone: &[u64]) -> Result<Option<u64>, Self::Error> {
        let seqs = self.items.get(&log).into_iter().flat_map(BTreeMap::keys);
        Ok(seqs.copied().find(|seq| !gone.contains(seq)))
    }

    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Result<Usage, Self::Error> {
        let mut usage = Usage::default();
        for (_, stored) in self.items.get(&log).into_iter().flat_map(|i| i.range(after + 1..=upto))
        {
            if let Some(bytes) = stored.counts {
                usage.items += 1;
                usage.bytes += bytes;
            }
        }
        Ok(usage)
    }
}
