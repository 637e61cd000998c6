//! What decides beside the owners: the clock on the wall, and what their domains lay down. Of a change of
//! that all principals are told, however many are loaded, and nobody waits for it.
//!
//! What a presentity makes of it is left to `impp_presence`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use impp_protocol::Address;
use parking_lot::{Mutex, MutexGuard};

use super::{Principal, Principals};

/// How often they have changed.
#[derive(Debug, Default)]
pub(super) struct Surroundings(AtomicU64);

impl Surroundings {
    /// Those of now, for a principal to remember.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// They have changed.
    fn changed(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Principals {
    /// The wall clock was changed: what rules say of times is judged by it from now on.
    pub fn wall_moved(self: &Arc<Self>) {
        self.surroundings_changed();
    }

    /// The policies of domains were read again: what they lay down holds from now on.
    pub fn laid_down(self: &Arc<Self>) {
        self.surroundings_changed();
    }

    /// A principal for oneself. It stands in the surroundings of now: by those of before nobody looks at
    /// it any more, whether its turn has come or not. So what they take away is away at once.
    pub(super) fn enter<'a>(
        self: &Arc<Self>,
        owner: &Address,
        entry: &'a Arc<Mutex<Principal>>,
    ) -> MutexGuard<'a, Principal> {
        let mut principal = entry.lock();
        let now = self.surroundings.now();
        if principal.surroundings != now {
            principal.surroundings = now;
            self.surround(owner, entry, &mut principal);
        }
        principal
    }

    /// What decides beside the owners has changed: from now on it is decided by that. Who watches is told
    /// one principal after the other, and everybody else has a turn in between.
    fn surroundings_changed(self: &Arc<Self>) {
        let change = self.surroundings.changed();
        // Who is read from the store after that is read as things are now.
        let entries = self.entries.iter().map(|entry| (entry.key().clone(), entry.value().clone()));
        let (all, principals): (Vec<_>, _) = (entries.collect(), self.clone());
        tokio::spawn(async move {
            for (owner, entry) in all {
                // What came after it begins with all of them again.
                if principals.surroundings.now() != change {
                    return;
                }
                drop(principals.enter(&owner, &entry));
                tokio::task::yield_now().await;
            }
        });
    }

    /// Has a principal decide by the clock on the wall and the domain's policy as they are now.
    fn surround(
        self: &Arc<Self>,
        owner: &Address,
        entry: &Arc<Mutex<Principal>>,
        principal: &mut Principal,
    ) {
        let (now, ahead) = (self.ground.clock.now(), self.ground.clock.ahead());
        if principal.presentity.policy().ahead != ahead {
            let effects = principal.presentity.wall_moved(now, ahead);
            self.follow_up(owner, entry, principal, effects, now);
        }
        let domain = self.ground.settings.load().domain_policy(owner.domain_str());
        if principal.presentity.policy().domain != domain {
            let effects = principal.presentity.laid_down(now, &domain);
            self.follow_up(owner, entry, principal, effects, now);
        }
    }
}
