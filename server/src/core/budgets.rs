//! Budgets by their owners: each has one, whatever connection, device or link asks, and gets no new one
//! by coming back.
//!
//! How one fills and is spent is `budget`'s; what accounts are told is said here.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impp_protocol::{Address, Code, Error, Timestamp};

use super::DashMap;
use super::budget::{Budget, Cost, Flow, Lacks, Terms};
use super::clock::Clock;
use super::config::Limits;
use super::settings::Settings;

/// Budgets of whoever owns one: who has spent nothing needs no entry.
#[derive(Debug)]
pub struct BudgetsOf<K: Eq + Hash> {
    of: DashMap<K, Budget>,
    /// With so many it is looked which can go.
    sweep_at: AtomicUsize,
}

impl<K: Eq + Hash + Clone> Default for BudgetsOf<K> {
    fn default() -> BudgetsOf<K> {
        BudgetsOf { of: DashMap::default(), sweep_at: AtomicUsize::new(KEPT_MAX) }
    }
}

impl<K: Eq + Hash + Clone> BudgetsOf<K> {
    /// See [`Budget::take`].
    ///
    /// # Errors
    /// As there.
    pub fn take(&self, now: Timestamp, of: &K, terms: Terms, cost: Cost) -> Result<(), Lacks> {
        self.with(now, of, terms, |budget| budget.take(now, terms, cost))
    }

    /// Whether [`BudgetsOf::take`] would, and nothing is taken.
    ///
    /// # Errors
    /// As there.
    pub fn could(&self, now: Timestamp, of: &K, terms: Terms, cost: Cost) -> Result<(), Lacks> {
        let known = self.of.get(of).map(|budget| budget.clone());
        known.unwrap_or_default().take(now, terms, cost)
    }

    /// See [`Budget::owe`].
    pub fn owe(&self, now: Timestamp, of: &K, terms: Terms, cost: Cost) -> Duration {
        self.with(now, of, terms, |budget| budget.owe(now, terms, cost))
    }

    fn with<R>(
        &self,
        now: Timestamp,
        of: &K,
        terms: Terms,
        act: impl FnOnce(&mut Budget) -> R,
    ) -> R {
        if let Some(mut budget) = self.of.get_mut(of) {
            return act(&mut budget);
        }
        if self.of.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.of.retain(|_, budget| !budget.is_full(now, terms));
            // Not again for each further one, where few could go.
            let next = self.of.len().saturating_mul(2).max(KEPT_MAX);
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        act(&mut self.of.entry(of.clone()).or_default())
    }
}

/// With so many those go that are as good as new ones, and again when there are twice as many as stayed.
/// Each of those has been paid for with work, and is as good soon.
const KEPT_MAX: usize = 8192;

/// Those of accounts.
#[derive(Debug)]
pub struct Budgets {
    settings: Arc<Settings>,
    clock: Clock,
    accounts: BudgetsOf<Address>,
}

impl Budgets {
    /// All are full.
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Budgets {
        Budgets { settings, clock, accounts: BudgetsOf::default() }
    }

    /// Takes what something costs from an account's.
    ///
    /// # Errors
    /// rate-limited, and nothing is taken.
    pub fn take(&self, account: &Address, cost: Cost) -> Result<(), Error> {
        let (now, terms) = (self.clock.now(), terms(&self.settings.load().limits));
        self.accounts.take(now, account, terms, cost).map_err(|lacks| {
            let (text, wait) = match lacks {
                Lacks::Work(wait) => ("your account asks for too much; slow down", wait),
                Lacks::Stored(wait) => ("your account stores too much; slow down", wait),
            };
            Error::new(Code::RateLimited, text).retry_after(wait)
        })
    }

    /// The same, of what has been done already.
    pub fn owe(&self, account: &Address, cost: Cost) {
        let (now, terms) = (self.clock.now(), terms(&self.settings.load().limits));
        self.accounts.owe(now, account, terms, cost);
    }
}

fn terms(limits: &Limits) -> Terms {
    Terms {
        work: Flow { per_second: limits.work_per_second, burst: limits.work_burst },
        stored: Flow {
            per_second: limits.stored_bytes_per_second,
            burst: limits.stored_bytes_burst,
        },
    }
}
