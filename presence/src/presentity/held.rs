//! Who is shown nothing because it is not clear yet what they may see; they look again when it is.

use std::sync::Arc;

use impp_acl::RuleSet;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Timestamp};

use super::{Effects, Presentity};
use crate::policy::{Policy, Sphere};
use crate::watching::Watching;

impl Presentity {
    /// What a watcher sees is not decided yet, or something is staged that takes it away or changes it:
    /// the watcher gets nothing until it is clear what becomes of it, and is woken then.
    pub(super) fn is_held_back(&self, now: Timestamp, watcher: &Address) -> bool {
        if self.behind.has(watcher) {
            return true;
        }
        if self.staged.is_empty() {
            return false;
        }
        let mut versions = self.versions_of(watcher);
        let key = |watching: Option<&Watching>| {
            watching.filter(|w| w.is_active()).and_then(|w| w.decision.view_key())
        };
        let Some(shown) = key(versions.next().flatten()) else { return false };
        let decides_else = |(policy, sphere): (&Policy, Sphere<'_>)| {
            let (owner, stands) = (&self.newest.owner, Some(SubscriptionState::Active));
            let decision = policy.decide(owner, watcher, now, sphere, stands);
            decision.view_key().as_ref() != Some(&shown)
        };
        versions.any(|later| key(later).as_ref() != Some(&shown))
            || self.staged_grounds().any(decides_else)
    }

    /// Somebody has looked who is held back.
    pub(super) fn miss(&mut self, who: &Address) {
        self.missed.insert(who.clone());
    }

    /// Whoever has looked while held back, and is not any more, looks again.
    pub(super) fn release(&mut self, now: Timestamp, effects: &mut Effects) {
        let missed: Vec<Address> = self.missed.iter().cloned().collect();
        self.release_of(now, missed.iter(), effects);
    }

    /// The same of these.
    pub(super) fn release_of<'a>(
        &mut self,
        now: Timestamp,
        all: impl Iterator<Item = &'a Address>,
        effects: &mut Effects,
    ) {
        let missed = all.filter(|who| self.missed.contains(*who));
        let free: Vec<_> = missed.filter(|who| !self.is_held_back(now, who)).cloned().collect();
        self.free(&free, effects);
    }

    /// These are not held back any more for what they were: who has looked meanwhile looks again.
    pub(super) fn free(&mut self, all: &[Address], effects: &mut Effects) {
        let missed: Vec<Address> =
            all.iter().filter(|who| self.missed.contains(*who)).cloned().collect();
        self.wake(&missed, effects);
    }

    /// Those of [`Presentity::grounds`] that are staged and decide otherwise about more than one watcher.
    fn staged_grounds(&self) -> impl Iterator<Item = (&Policy, Sphere<'_>)> {
        let mut grounds = self.grounds();
        let mut last = grounds.next();
        grounds.filter(move |(policy, sphere)| {
            let is_same = |(former, of): (&Policy, Sphere<'_>)| {
                Arc::ptr_eq(&former.rules, &policy.rules) && of == *sphere
            };
            !last.replace((policy, *sphere)).is_some_and(is_same)
        })
    }

    /// The same, to be compared.
    pub(super) fn staged_rules(&self) -> Vec<(Arc<RuleSet>, Option<Option<String>>)> {
        let sphere = |of: Sphere<'_>| match of {
            Sphere::Is(sphere) => Some(sphere.map(str::to_owned)),
            Sphere::Lost => None,
        };
        let grounds = self.staged_grounds();
        grounds.map(|(policy, of)| (Arc::clone(&policy.rules), sphere(of))).collect()
    }
}
