//! Letting go of what a device has and of what is old: late, a slice at a time, and nobody waits for it.
//!
//! Which items may go is decided by the store, what "old" is by the settings.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};
use impp_storage::{Lane, Op, ReadLog, Store, StoreError, Unit};
use parking_lot::Mutex;

use crate::core::clock::Clock;
use crate::core::config::{Inbox, seconds};
use crate::core::records::logs;
use crate::core::settings::Settings;

#[cfg(test)]
mod tests;

/// How long a log rests before it is looked at again.
const PAUSE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Trimming {
    store: Arc<dyn Store>,
    settings: Arc<Settings>,
    clock: Clock,
    /// Logs that are looked at or rest, and up to where custody was taken of them meanwhile. An account
    /// has one entry and one task as long as it acknowledges.
    resting: Mutex<HashMap<Address, u64>>,
}

impl Trimming {
    pub(super) fn new(store: Arc<dyn Store>, settings: Arc<Settings>, clock: Clock) -> Trimming {
        Trimming { store, settings, clock, resting: Mutex::default() }
    }

    /// What goes together with custody: what is beyond the quota, and where nothing is retained, all of
    /// it.
    pub(super) fn at_once(&self, owner: &Address) -> Op {
        let inbox = &self.settings.load().inbox;
        let retains = inbox.retention_days > 0;
        logs::trimmed(owner, inbox, (!retains).then(|| self.old_before(inbox)))
    }

    /// What came before then is old. Where nothing is retained, so is what came this very millisecond: no
    /// other cause may come to let go of it.
    fn old_before(&self, inbox: &Inbox) -> Timestamp {
        let days = inbox.retention_days;
        self.clock.trusted().before(seconds(days * 86_400)).after(Duration::from_millis(1))
    }

    /// Custody was taken up to there: what may go goes soon.
    pub(super) fn soon(self: &Arc<Self>, owner: &Address, upto: u64) {
        match self.resting.lock().entry(owner.clone()) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                *known = upto.max(*known);
                return;
            }
            Entry::Vacant(entry) => {
                entry.insert(upto);
            }
        }
        let (trimming, owner) = (self.clone(), owner.clone());
        tokio::spawn(async move { trimming.look(&owner).await });
    }

    /// Looks at a log until nothing more was acknowledged while it rested.
    async fn look(&self, owner: &Address) {
        loop {
            let upto = self.resting.lock().get_mut(owner).map_or(0, std::mem::take);
            if let Err(error) = self.trim(owner, upto).await {
                tracing::warn!(%error, "a log could not be trimmed");
            }
            tokio::time::sleep(PAUSE).await;
            let mut resting = self.resting.lock();
            if resting.get(owner).is_none_or(|upto| *upto == 0) {
                resting.remove(owner);
                return;
            }
        }
    }

    /// Trims as long as the first item goes, by the settings of now. What does not go is not asked for: that
    /// would be a commit for nothing.
    async fn trim(&self, owner: &Address, upto: u64) -> Result<(), StoreError> {
        let (settings, mut behind) = (self.settings.load_full(), None);
        loop {
            let query = ReadLog { owner: owner.clone(), after: 0, items_max: 1, bytes_max: 0 };
            let first = self.store.read(query).await?.items.pop();
            let before = self.old_before(&settings.inbox);
            let Some(first) = first.filter(|item| item.seq <= upto && item.time < before) else {
                return Ok(());
            };
            if behind == Some(first.seq) {
                return Ok(());
            }
            behind = Some(first.seq);
            let trim = logs::trimmed(owner, &settings.inbox, Some(before));
            let unit = Unit::of(self.clock.trusted(), vec![trim]);
            self.store.submit(unit.in_lane(Lane::Account(owner.clone()))).await?;
        }
    }
}
