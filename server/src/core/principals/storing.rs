//! What a change has written, on its way to the store: as which operations, and who pays for it.
//!
//! What follows when the store has answered is left to `mod.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_presence::{Change, Presentity, Write};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Domain, Timestamp};
use impp_storage::Op;
use parking_lot::Mutex;

use super::{Principal, Principals};
use crate::core::keeping::{self, Bill, Commits};
use crate::core::records::place::{self, Mark};

impl Principals {
    /// What a staged change has written goes to the store, and a task waits for that.
    pub(super) fn store(
        self: &Arc<Self>,
        (owner, entry, principal): (&Address, &Arc<Mutex<Principal>>, &Principal),
        id: u64,
        (writes, bill): (Vec<Write>, &Bill),
        now: Timestamp,
    ) {
        if writes.is_empty() {
            return;
        }
        let of_rules = writes.iter().any(|write| matches!(write, Write::Rules(..)));
        let mut ops = self.operations(owner, writes);
        if of_rules {
            // Right behind the rules, so in one unit with them.
            let decided = principal.held.being_decided();
            let decided = decided.map(|from| place::decided(owner, from).set(Some(&Mark {})));
            drop(ops.splice(1..1, decided));
        }
        let commits = Commits::submit(&*self.ground.store, now, ops, bill, Some(owner));
        let (principals, entry, owner) = (self.clone(), entry.clone(), owner.clone());
        tokio::spawn(async move {
            let committed = commits.ended().await;
            principals.ended(&owner, &entry, id, committed, of_rules);
        });
    }

    pub(super) fn bill(&self, owner: &Address, presentity: &Presentity, change: &Change) -> Bill {
        let share = keeping::asker(change).map(|asker| {
            let is_local = self.ground.accounts.is_local(asker);
            keeping::lane_of(asker, is_local)
        });
        Bill { payer: keeping::payer_of(owner, presentity, change), share }
    }

    pub(super) fn submit(
        self: &Arc<Self>,
        owner: &Address,
        writes: Vec<Write>,
        bill: &Bill,
        now: Timestamp,
    ) -> Commits {
        let ops = self.operations(owner, writes);
        Commits::submit(&*self.ground.store, now, ops, bill, Some(owner))
    }

    fn operations(self: &Arc<Self>, owner: &Address, writes: Vec<Write>) -> Vec<Op> {
        let is_local = |address: &Address| self.ground.accounts.is_local(address);
        let waiting: BTreeSet<Domain> =
            writes.iter().filter_map(|write| waits_from(owner, write)).collect();
        let mut ops = keeping::operations(owner, writes, is_local);
        for domain in &waiting {
            // Whether there is an account or not.
            self.waits_at(owner, domain);
            ops.extend(self.ghost_note(owner, domain));
        }
        ops
    }

    /// The operations that store layers that are bound to sessions as leases until then: so their
    /// owners are not seen to leave while the server restarts.
    pub fn bound_layers(&self, until: Timestamp) -> Vec<Op> {
        let mut ops = Vec::new();
        for entry in &self.entries {
            let principal = entry.value().lock();
            let layers = principal.presentity.layers();
            ops.extend(layers.bound().filter_map(|device| {
                let saved = layers.saved_until(device, until)?;
                Some(keeping::layer(entry.key(), device, Some(saved)))
            }));
        }
        ops
    }
}

/// Of which other domain somebody waits for the owner, by what is stored of that.
fn waits_from(owner: &Address, write: &Write) -> Option<Domain> {
    let Write::Watcher(watcher, Some(kept)) = write else { return None };
    let waits = matches!(kept.state, SubscriptionState::Pending | SubscriptionState::Waiting);
    (waits && watcher.domain_str() != owner.domain_str()).then(|| watcher.domain())
}
