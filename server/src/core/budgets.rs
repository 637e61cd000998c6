//! The budgets of accounts: each has one, whatever connection or device asks.
//!
//! How one fills and is spent is `budget`'s. An account that has asked for something since the start has
//! an entry of some eighty bytes, and there is no way to get a new one.

use std::sync::Arc;

use impp_protocol::{Address, Code, Error};

use super::DashMap;
use super::budget::{Budget, Cost, Flow, Lacks, Terms};
use super::clock::Clock;
use super::config::Limits;
use super::settings::Settings;

/// See the module.
#[derive(Debug)]
pub struct Budgets {
    settings: Arc<Settings>,
    clock: Clock,
    accounts: DashMap<Address, Budget>,
}

impl Budgets {
    /// All are full.
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Budgets {
        Budgets { settings, clock, accounts: DashMap::default() }
    }

    /// Takes what something costs from an account's.
    ///
    /// # Errors
    /// rate-limited, and nothing is taken.
    pub fn take(&self, account: &Address, cost: Cost) -> Result<(), Error> {
        let (now, terms) = (self.clock.now(), terms(&self.settings.load().limits));
        let taken = self.of(account, |budget| budget.take(now, terms, cost));
        taken.map_err(|lacks| {
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
        self.of(account, |budget| budget.owe(now, terms, cost));
    }

    fn of<R>(&self, account: &Address, act: impl FnOnce(&mut Budget) -> R) -> R {
        if let Some(mut budget) = self.accounts.get_mut(account) {
            return act(&mut budget);
        }
        act(&mut self.accounts.entry(account.clone()).or_default())
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
