//! Which watchers of other domains keep a subscription to one of ours, over whichever link: one
//! domain keeps a bounded number. And whom each account here follows by leases, which outlive its
//! sessions.
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
    /// By watcher: presentities.
    leased: DashMap<Address, HashSet<Address>>,
}

impl Standing {
    /// How some watchers of a presentity stand has changed.
    pub fn note<'a>(
        &self,
        owner: &Address,
        presentity: &Presentity,
        changed: impl IntoIterator<Item = &'a Address>,
    ) {
        for watcher in changed {
            self.note_leased(watcher, owner, presentity.is_kept_by_lease(watcher));
            if watcher.domain_str() == owner.domain_str() {
                continue;
            }
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

    /// Whether an account here follows a presentity by leases.
    pub fn note_leased(&self, watcher: &Address, presentity: &Address, leased: bool) {
        if leased {
            self.leased.entry(watcher.clone()).or_default().insert(presentity.clone());
        } else if let Some(mut of) = self.leased.get_mut(watcher) {
            of.remove(presentity);
            drop(of);
            self.leased.remove_if(watcher, |_, of| of.is_empty());
        }
    }

    /// Whether an account here has fewer than `most` presentities that it follows by leases, or this
    /// one is among them.
    pub fn may_lease(&self, watcher: &Address, presentity: &Address, most: usize) -> bool {
        let of = self.leased.get(watcher);
        of.is_none_or(|of| of.len() < most || of.contains(presentity))
    }

    /// Whether a watcher of another domain is known to keep a subscription.
    pub fn has(&self, presentity: &Address, watcher: &Address) -> bool {
        let of = self.pairs.get(&(presentity.domain(), watcher.domain()));
        of.is_some_and(|of| of.contains(&(presentity.clone(), watcher.clone())))
    }

    /// How many watchers of the other domain ours has. Who asks this and then lets one more stand
    /// may exceed a limit by what others do at the same moment.
    pub fn count(&self, local: &Domain, remote: &Domain) -> usize {
        self.pairs.get(&(local.clone(), remote.clone())).map_or(0, |of| of.len())
    }
}
