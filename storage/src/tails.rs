//! The newest items of logs, kept in memory for those who follow them: what was just committed is
//! not read back from the store by everyone who waits for it.
//!
//! It knows what stores tell it (`Observer`) and no store's rows. Whatever it does not have is read
//! from the store, so all of it may be forgotten at any moment; a restart begins with nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use impp_protocol::Address;
use impp_protocol::hashing::HashMap;

use crate::page::Filler;
use crate::{Item, LogChange, Observer, Page, ReadLog, Store, StoreError};

/// Bytes of one log's tail, with [`ITEM_OVERHEAD_BYTES`] for each item: more than a page.
const LOG_BYTES_MAX: usize = 128 * 1024;
/// Bytes of all tails, counted likewise.
const ALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an item takes beside its head and body.
const ITEM_OVERHEAD_BYTES: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Tails {
    table: Mutex<Table>,
    log_bytes_max: usize,
    all_bytes_max: usize,
    /// Pages that the store had to be asked for.
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    logs: HashMap<Address, Tail>,
    /// Whose tail begins with which item: so all are forgotten in the order in which they came.
    first: BTreeMap<u64, Address>,
    bytes: usize,
    /// The last number given to a tail ([`next`]).
    tails: u64,
}

/// The end of one log.
#[derive(Debug)]
struct Tail {
    /// Tells it from what it was before the log shrank, and from an earlier one of the same log.
    number: u64,
    /// Every item of the log with a seq above this is here, in order. There is one at least.
    after: u64,
    items: VecDeque<Item>,
    bytes: usize,
    /// The lowest seq that the log holds, once the store has said it.
    oldest: Option<u64>,
}

/// What a tail makes of a query.
enum Looked {
    /// All that it asks for.
    Page(Page),
    /// It is for the store; the number of the tail that would like to know what is oldest.
    Unknown(Option<u64>),
}

impl Default for Tails {
    fn default() -> Tails {
        Tails::bounded(LOG_BYTES_MAX, ALL_BYTES_MAX)
    }
}

impl Tails {
    /// Of so many bytes for a log and for all together.
    pub fn bounded(log_bytes_max: usize, all_bytes_max: usize) -> Tails {
        let (table, asked) = Default::default();
        Tails { table, log_bytes_max, all_bytes_max, asked }
    }

    /// What [`Store::read`] answers, of the store that these are the tails of; without asking it where
    /// nothing but the newest is read.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&self, store: &dyn Store, query: ReadLog) -> Result<Page, StoreError> {
        let number = match self.table().look(&query) {
            Looked::Page(page) => return Ok(page),
            Looked::Unknown(number) => number,
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let owner = query.owner.clone();
        let page = store.read(query).await?;
        // If the log has shrunk since it was asked, the tail has another number now.
        if let Some(tail) = self.table().logs.get_mut(&owner)
            && Some(tail.number) == number
        {
            tail.oldest = Some(page.oldest);
        }
        Ok(page)
    }

    /// How often the store was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Bytes that all tails take now.
    pub fn bytes(&self) -> usize {
        self.table().bytes
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Tails {
    fn committed(&self, changes: Vec<LogChange>) {
        let mut table = self.table();
        for change in changes {
            match change {
                LogChange::Grew { owner, before, item } => {
                    table.grew(owner, before, item, self.log_bytes_max);
                }
                LogChange::Shrank { owner, gone, oldest } => table.shrank(&owner, &gone, oldest),
                LogChange::Marked { owner, item } => table.marked(&owner, item),
                LogChange::Purged { owner } => table.forget(&owner),
                LogChange::Unsure => table.forget_all(),
            }
        }
        table.bound(self.all_bytes_max);
    }
}

impl Table {
    fn grew(&mut self, owner: Address, before: u64, item: Item, log_bytes_max: usize) {
        let (seq, bytes) = (item.seq, size(&item));
        if self.logs.get(&owner).is_some_and(|tail| tail.last() != Some(before)) {
            self.forget(&owner);
        }
        let tails = &mut self.tails;
        let tail = self.logs.entry(owner.clone()).or_insert_with(|| {
            let (items, bytes, oldest) = (VecDeque::new(), 0, None);
            Tail { number: next(tails), after: before, items, bytes, oldest }
        });
        tail.items.push_back(item);
        tail.bytes += bytes;
        self.bytes += bytes;
        self.first.entry(tail.first().unwrap_or(seq)).or_insert(owner);
        while tail.bytes > log_bytes_max && tail.items.len() > 1 {
            self.bytes -= tail.forget_first(&mut self.first);
        }
    }

    fn shrank(&mut self, owner: &Address, gone: &[u64], oldest: u64) {
        let Some(tail) = self.logs.get_mut(owner) else { return };
        tail.oldest = Some(oldest);
        // Who asks the store now may hear what was oldest before.
        tail.number = next(&mut self.tails);
        let first = tail.first();
        if gone.iter().all(|seq| Some(*seq) < first) {
            return;
        }
        first.and_then(|first| self.first.remove(&first));
        let before = std::mem::take(&mut tail.bytes);
        tail.items.retain(|item| !gone.contains(&item.seq));
        tail.bytes = tail.items.iter().map(size).sum();
        self.bytes -= before - tail.bytes;
        match tail.first() {
            Some(first) => drop(self.first.insert(first, owner.clone())),
            None => drop(self.logs.remove(owner)),
        }
    }

    fn marked(&mut self, owner: &Address, item: Item) {
        let Some(tail) = self.logs.get_mut(owner) else { return };
        let place = tail.items.binary_search_by_key(&item.seq, |item| item.seq);
        if let Some(held) = place.ok().and_then(|index| tail.items.get_mut(index)) {
            let (before, after) = (size(held), size(&item));
            *held = item;
            tail.bytes = tail.bytes + after - before;
            self.bytes = self.bytes + after - before;
        }
    }

    fn forget(&mut self, owner: &Address) {
        if let Some(tail) = self.logs.remove(owner) {
            self.bytes -= tail.bytes;
            tail.first().and_then(|first| self.first.remove(&first));
        }
    }

    fn forget_all(&mut self) {
        // Numbers go on: who asks the store now has one of before.
        *self = Table { tails: self.tails, ..Table::default() };
    }

    /// Forgets the oldest items of all.
    fn bound(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(owner) = self.first.first_key_value().map(|(_, owner)| owner.clone())
            && let Some(tail) = self.logs.get_mut(&owner)
        {
            self.bytes -= tail.forget_first(&mut self.first);
            if tail.items.is_empty() {
                self.logs.remove(&owner);
            }
        }
    }

    fn look(&self, query: &ReadLog) -> Looked {
        let Some(tail) = self.logs.get(&query.owner) else { return Looked::Unknown(None) };
        let (Some(oldest), true) = (tail.oldest, tail.after <= query.after) else {
            return Looked::Unknown(Some(tail.number));
        };
        // Sought from the end, where nearly all who follow are.
        let behind = tail.items.iter().rev().take_while(|item| item.seq > query.after).count();
        let first = tail.items.len() - behind;
        let mut filler = Filler::new(query.items_max, query.bytes_max);
        for item in tail.items.range(first..) {
            if !filler.take(item.clone()) {
                break;
            }
        }
        let Filler { items, more, damaged, .. } = filler;
        Looked::Page(Page { items, more, damaged, oldest })
    }
}

impl Tail {
    fn last(&self) -> Option<u64> {
        self.items.back().map(|item| item.seq)
    }

    fn first(&self) -> Option<u64> {
        self.items.front().map(|item| item.seq)
    }

    /// The bytes of the item that is forgotten.
    fn forget_first(&mut self, begins: &mut BTreeMap<u64, Address>) -> usize {
        let Some(item) = self.items.pop_front() else { return 0 };
        let bytes = size(&item);
        self.after = item.seq;
        self.bytes -= bytes;
        if let (Some(owner), Some(next)) = (begins.remove(&item.seq), self.first()) {
            begins.insert(next, owner);
        }
        bytes
    }
}

fn next(tails: &mut u64) -> u64 {
    *tails += 1;
    *tails
}

fn size(item: &Item) -> usize {
    item.size() + ITEM_OVERHEAD_BYTES
}
