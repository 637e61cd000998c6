//! What the writer's thread and the store's callers both see: health, counters, how much waits.
//!
//! Each value stands alone; nothing is decided from two of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::rows::Rows;
use super::scrub::Scrub;
use super::told::Told;
use crate::unit::Lane;
use crate::{About, Health, LogChange, Observer, Stats};

#[derive(Debug)]
pub(crate) struct Shared {
    health: Mutex<Health>,
    queued: Mutex<Queued>,
    observer: Mutex<Option<Arc<dyn Observer>>>,
    syncs: AtomicU64,
    units: AtomicU64,
    groups: AtomicU64,
    /// Whether every row has a digest.
    summed: AtomicBool,
    told: Told,
    about: Option<About>,
    scrub: Mutex<Scrub>,
    /// A slice of the scrub is asked for, or done.
    scrubbing: AtomicBool,
    scrubbed_bytes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(summed: bool, about: Option<About>) -> Shared {
        Shared {
            health: Mutex::new(Health::Ok),
            queued: Mutex::default(),
            observer: Mutex::default(),
            syncs: AtomicU64::new(0),
            units: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            summed: AtomicBool::new(summed),
            told: Told::default(),
            about,
            scrub: Mutex::default(),
            scrubbing: AtomicBool::new(false),
            scrubbed_bytes: AtomicU64::new(0),
        }
    }

    /// What a connection sees, if it takes its view only after this.
    pub(crate) fn rows<'c>(&'c self, connection: &'c Connection) -> Rows<'c> {
        let summed = self.summed.load(Ordering::Acquire);
        Rows { connection, summed, told: &self.told, about: self.about }
    }

    /// Whether a slice of the scrub may be asked for; then it counts as asked.
    pub(crate) fn begin_scrub(&self) -> bool {
        !self.scrubbing.swap(true, Ordering::Relaxed)
    }

    /// Does one slice; answers its bytes.
    pub(crate) fn scrub(&self, rows: Rows<'_>) -> u64 {
        let mut scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        scrub.slice(rows).unwrap_or_else(|error| {
            tracing::warn!(%error, "the scrub could not read");
            0
        })
    }

    pub(crate) fn end_scrub(&self, bytes: u64) {
        self.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.scrubbing.store(false, Ordering::Relaxed);
    }

    /// Whether the index of conversations was found wrong.
    pub(crate) fn is_talk_wrong(&self) -> bool {
        self.told.is_talk_wrong()
    }

    /// Whether it counts for nothing.
    pub(crate) fn is_talk_closed(&self) -> bool {
        self.told.is_talk_closed()
    }

    /// It counts as far as it is noted.
    pub(crate) fn open_talk(&self) {
        self.told.open_talk();
    }

    /// The commit after which every row has a digest is done.
    pub(crate) fn set_summed(&self) {
        self.summed.store(true, Ordering::Release);
    }

    pub(crate) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Tells whoever observes what has become of logs.
    pub(crate) fn tell(&self, changes: Vec<LogChange>) {
        if !changes.is_empty()
            && let Some(observer) = &*self.observer.lock().unwrap_or_else(PoisonError::into_inner)
        {
            observer.committed(changes);
        }
    }

    pub(crate) fn set_observer(&self, observer: Arc<dyn Observer>) {
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    /// Admits a unit to the queue, or not.
    pub(crate) fn enter(&self, of: Option<&Lane>, bytes: usize) -> bool {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).enter(of, bytes)
    }

    pub(crate) fn leave(&self, of: Option<&Lane>, bytes: usize) {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).leave(of, bytes);
    }

    pub(crate) fn count_group(&self, units: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            syncs: self.syncs.load(Ordering::Relaxed),
            units: self.units.load(Ordering::Relaxed),
            groups: self.groups.load(Ordering::Relaxed),
            damaged: self.told.count(),
            scrubbed_bytes: self.scrubbed_bytes.load(Ordering::Relaxed),
        }
    }
}

/// How much waits for the writer, of all and of each who has asked.
#[derive(Debug, Default)]
struct Queued {
    all: Amount,
    lanes: HashMap<Lane, Amount>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    units: usize,
    bytes: usize,
}

impl Amount {
    fn with(self, bytes: usize) -> Amount {
        Amount { units: self.units + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    fn without(self, bytes: usize) -> Amount {
        Amount { units: self.units.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// Whether it is within one part in so many of the queue.
    fn fits(self, part: usize) -> bool {
        self.units <= UNITS_QUEUED_MAX / part && self.bytes <= QUEUED_BYTES_MAX / part
    }
}

impl Queued {
    fn enter(&mut self, lane: Option<&Lane>, bytes: usize) -> bool {
        let all = self.all.with(bytes);
        let of = lane.map(|lane| self.lanes.get(lane).copied().unwrap_or_default().with(bytes));
        if !all.fits(1) || of.is_some_and(|of| !of.fits(LANE_PART)) {
            return false;
        }
        self.all = all;
        if let (Some(lane), Some(of)) = (lane, of) {
            self.lanes.insert(lane.clone(), of);
        }
        true
    }

    fn leave(&mut self, lane: Option<&Lane>, bytes: usize) {
        self.all = self.all.without(bytes);
        let Some(lane) = lane else { return };
        let Some(of) = self.lanes.get_mut(lane) else { return };
        *of = of.without(bytes);
        if of.units == 0 {
            self.lanes.remove(lane);
        }
    }
}

/// Units waiting for the writer.
pub(super) const UNITS_QUEUED_MAX: usize = 16_384;
/// Their bytes.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of both, those of one lane are one part in so many at most.
const LANE_PART: usize = 8;

#[cfg(test)]
mod tests {
    use impp_protocol::Address;

    use super::*;

    #[test]
    fn a_lane_has_its_share_of_the_queue_and_the_others_theirs() {
        let lane = |n: usize| Lane::Account(Address::parse(&format!("u{n}@a.example")).unwrap());
        let mut queued = Queued::default();
        let share = UNITS_QUEUED_MAX / LANE_PART;
        assert_eq!((0..20_000).filter(|_| queued.enter(Some(&lane(1)), 1)).count(), share);
        assert!(queued.enter(Some(&lane(2)), 1) && queued.enter(None, 1));
        assert!(!queued.enter(Some(&lane(3)), QUEUED_BYTES_MAX / LANE_PART + 1));
        assert!(queued.enter(Some(&lane(3)), QUEUED_BYTES_MAX / LANE_PART));
        queued.leave(Some(&lane(1)), 1);
        assert!(queued.enter(Some(&lane(1)), 1) && !queued.enter(Some(&lane(1)), 1));
        (0..share).for_each(|_| queued.leave(Some(&lane(1)), 1));
        queued.leave(Some(&lane(2)), 1);
        queued.leave(Some(&lane(3)), QUEUED_BYTES_MAX / LANE_PART);
        queued.leave(None, 1);
        assert!(queued.lanes.is_empty() && queued.all.units == 0 && queued.all.bytes == 0);
    }
}
