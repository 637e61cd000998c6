//! What the writer's thread and the store's callers both see: health, counters, how much waits.
//!
//! Each value stands alone; nothing is decided from two of them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::rows::Rows;
use super::scrub::Scrub;
use super::told::Told;
use crate::{Health, Stats};

#[derive(Debug)]
pub(crate) struct Shared {
    health: Mutex<Health>,
    queued_bytes: AtomicUsize,
    syncs: AtomicU64,
    units: AtomicU64,
    groups: AtomicU64,
    /// Whether every row has a digest.
    summed: AtomicBool,
    told: Told,
    scrub: Mutex<Scrub>,
    /// A slice of the scrub is asked for, or done.
    scrubbing: AtomicBool,
    scrubbed_bytes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(summed: bool) -> Shared {
        Shared {
            health: Mutex::new(Health::Ok),
            queued_bytes: AtomicUsize::new(0),
            syncs: AtomicU64::new(0),
            units: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            summed: AtomicBool::new(summed),
            told: Told::default(),
            scrub: Mutex::default(),
            scrubbing: AtomicBool::new(false),
            scrubbed_bytes: AtomicU64::new(0),
        }
    }

    /// What a connection sees, if it takes its view only after this.
    pub(crate) fn rows<'c>(&'c self, connection: &'c Connection) -> Rows<'c> {
        let summed = self.summed.load(Ordering::Acquire);
        Rows { connection, summed, told: &self.told }
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

    /// Admits bytes to the queue, or not.
    pub(crate) fn enter(&self, bytes: usize) -> bool {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let admitted = before.saturating_add(bytes) <= QUEUED_BYTES_MAX;
        if !admitted {
            self.leave(bytes);
        }
        admitted
    }

    pub(crate) fn leave(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
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

/// Bytes of units waiting for the writer.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
