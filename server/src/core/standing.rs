//! Which watchers of other domains keep a subscription to one of ours, over whichever link: one
//! domain keeps a bounded number.
//!
//! Those of principals that were not asked for since the server runs are not known yet; they count
//! as soon as their principal is loaded.

use impp_presence::Presentity;
use impp_protocol::hashing::HashSet;
use impp_protocol::{Address, Domain};

use crate::core::DashMap;

/// See the module.
#[derive(Debug, Default)]
pub struct Standing {
    /// By our domain and theirs: presentity and watcher.
    pairs: DashMap<(Domain, Domain), HashSet<(Address, Address)>>,
}

impl Standing {
    /// How some watchers of a presentity stand has changed.
    pub fn note<'a>(
        &self,
        owner: &Address,
        presentity: &Presentity,
        changed: impl IntoIterator<Item = &'a Address>,
    ) {
        for watcher in changed.into_iter().filter(|w| w.domain_str() != owner.domain_str()) {
            let pair = (owner.domain(), watcher.domain());
            let entry = (owner.clone(), watcher.clone());
            if presentity.is_kept_by_server(watcher) {
                self.pairs.entry(pair).or_default().insert(entry);
            } else if let Some(mut of) = self.pairs.get_mut(&pair) {
                of.remove(&entry);
                drop(of);
                self.pairs.remove_if(&pair, |_, of| of.is_empty());
            }
        }
    }

    /// How many watchers of the other domain ours has. Who asks this and then lets one more stand
    /// may exceed a limit by what others do at the same moment.
    pub fn count(&self, local: &Domain, remote: &Domain) -> usize {
        self.pairs.get(&(local.clone(), remote.clone())).map_or(0, |of| of.len())
    }
}
