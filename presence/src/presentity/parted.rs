//! What a watcher may say that it holds, and what each was shown last before it left: who comes again and
//! says that it holds this is told what is missing.
//!
//! That is kept for each of them alone. Out of what a view has shown to others nobody is answered who has not
//! had the view as well: a patch there, and a snapshot where nobody else follows, would tell of them.

use std::sync::Arc;

use impp_acl::{Content, ViewKey};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Timestamp};

use super::Presentity;
use super::contents::Last;
use crate::ageing::Ageing;

/// Watchers who have left of whom it is known, for a while (`WINDOW`), at most. Where there are more the
/// oldest goes of the domain that has most.
pub(super) const PARTED_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parted {
    all: HashMap<Address, (Timestamp, Arc<Content>)>,
    by_time: Ageing,
}

impl Presentity {
    /// Whether a watcher may have been shown this: it is so now, or it has left with it, or its view has
    /// shown it since it follows. What it says to hold may be a guess at what its view has shown others,
    /// before it was granted; and nobody is to learn by the answer whether there are others.
    pub(super) fn may_hold(&mut self, watcher: &Address, key: &ViewKey, version: Version) -> bool {
        if self.contents.view(key, &self.shown).version() == version {
            return true;
        }
        // All who have no name are one watcher: each would be told of the others.
        if watcher.is_anonymous() {
            return false;
        }
        self.contents.has_parted(watcher, version) || self.has_seen(watcher, key, version)
    }

    /// Whether a watcher has followed since before its view has ceased to show this.
    fn has_seen(&self, watcher: &Address, key: &ViewKey, version: Version) -> bool {
        let Some(watching) = self.watcher(watcher).filter(|watching| watching.is_active()) else {
            return false;
        };
        match self.contents.last_shown(key, version) {
            None | Some(Last::Now | Last::Before) => false,
            Some(Last::Until(then)) if then <= watching.since => false,
            Some(Last::Until(then)) => {
                let (policy, sphere) = (&self.newest.policy, self.newest.sphere());
                let stands = Some(SubscriptionState::Active);
                let decision = policy.decide(&self.newest.owner, watcher, then, sphere, stands);
                decision.view_key().as_ref() == Some(key)
            }
        }
    }
}

impl Parted {
    /// Somebody leaves who was shown this.
    pub(super) fn add(&mut self, now: Timestamp, who: &Address, content: &Content) {
        self.remove(who);
        let over: Vec<Address> = self.by_time.over(now).cloned().collect();
        over.iter().for_each(|who| self.remove(who));
        if self.all.len() >= PARTED_MAX
            && let Some(other) = self.by_time.crowding().cloned()
        {
            self.remove(&other);
        }
        let same = self.of(content.version()).cloned();
        let content = same.unwrap_or_else(|| Arc::new(content.clone()));
        self.by_time.add(now, who);
        self.all.insert(who.clone(), (now, content));
    }

    /// Whether this is what somebody left with.
    pub(super) fn has(&self, who: &Address, version: Version) -> bool {
        self.all.get(who).is_some_and(|(_, content)| content.version() == version)
    }

    /// What has this version, whoever left with it.
    pub(super) fn of(&self, version: Version) -> Option<&Arc<Content>> {
        self.all.values().map(|(_, content)| content).find(|one| one.version() == version)
    }

    fn remove(&mut self, who: &Address) {
        if let Some((since, _)) = self.all.remove(who) {
            self.by_time.remove(since, who);
        }
    }
}
