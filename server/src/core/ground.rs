//! What there is one of. The rooms are made from it, and each takes of it what it needs.

use std::sync::Arc;

use impp_storage::{Store, Tails};

use super::accounts::Accounts;
use super::chance::Chance;
use super::clock::Clock;
use super::listeners::Listeners;
use super::metrics::Metrics;
use super::settings::Settings;
use super::standing::Standing;
use super::timers::Timers;

/// See the module.
#[derive(Clone)]
pub struct Ground {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The newest of the store's logs, in memory.
    pub tails: Arc<Tails>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub chance: Arc<dyn Chance>,
    /// Who can sign in.
    pub accounts: Arc<Accounts>,
    /// Who is to be woken.
    pub listeners: Arc<Listeners>,
    /// When who is to be looked at.
    pub timers: Arc<Timers>,
    /// How many watch from other domains.
    pub standing: Arc<Standing>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Ground {
    /// What is new with each start, around what is not.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        clock: Clock,
        chance: Arc<dyn Chance>,
        accounts: Accounts,
    ) -> Ground {
        let (settings, accounts) = (Arc::new(settings), Arc::new(accounts));
        let (listeners, timers, standing, metrics) = Default::default();
        let tails = Arc::<Tails>::default();
        store.observe(tails.clone());
        Ground {
            settings,
            store,
            tails,
            clock,
            chance,
            accounts,
            listeners,
            timers,
            standing,
            metrics,
        }
    }
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}
