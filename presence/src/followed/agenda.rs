//! Which followers of a mirror have something to ask, and when the next one has to be looked at: so
//! that a change of one of very many does not look at all of them.

use std::collections::BTreeSet;

use impp_protocol::{Address, Timestamp};

use super::{Mirror, Terms};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// Those who have changed since it was made.
    changed: BTreeSet<Address>,
    /// Or all of them.
    all_changed: bool,
    asks: BTreeSet<Address>,
    /// Not later than the first time at which something is due.
    soonest: Option<Timestamp>,
}

impl Agenda {
    /// A follower has changed.
    pub(super) fn changed(&mut self, watcher: &Address) {
        if !self.all_changed && !self.changed.contains(watcher) {
            self.changed.insert(watcher.clone());
        }
    }

    /// All may have changed.
    pub(super) fn all_changed(&mut self) {
        self.all_changed = true;
        self.changed.clear();
    }
}

impl Mirror {
    /// When [`Mirror::expire`] may have something to do.
    pub fn next_deadline(&mut self, now: Timestamp, terms: Terms) -> Option<Timestamp> {
        self.catch_up(now, terms);
        self.agenda.soonest.into_iter().chain(self.repair_at).min()
    }

    /// Whether there is something to ask, with or without a link.
    pub fn asks(&mut self, now: Timestamp, terms: Terms) -> bool {
        self.catch_up(now, terms);
        !self.agenda.asks.is_empty()
    }

    /// Those who have something to ask, at most so many.
    pub(super) fn asking(&mut self, now: Timestamp, max: usize, terms: Terms) -> Vec<Address> {
        self.catch_up(now, terms);
        self.agenda.asks.iter().take(max).cloned().collect()
    }

    fn catch_up(&mut self, now: Timestamp, terms: Terms) {
        let Mirror { agenda, followers, linked, .. } = self;
        let late = agenda.soonest.is_some_and(|at| at <= now);
        let changed = std::mem::take(&mut agenda.changed);
        let changed: Vec<Address> = if std::mem::take(&mut agenda.all_changed) || late {
            (agenda.asks, agenda.soonest) = (BTreeSet::new(), None);
            followers.keys().cloned().collect()
        } else {
            changed.into_iter().collect()
        };
        for watcher in changed {
            let follower = followers.get(&watcher);
            let deadline = follower.and_then(|f| f.next_deadline(now, *linked, terms));
            agenda.soonest = agenda.soonest.into_iter().chain(deadline).min();
            match follower.is_some_and(|follower| follower.request(now).is_some()) {
                true => drop(agenda.asks.insert(watcher)),
                false => drop(agenda.asks.remove(&watcher)),
            }
        }
    }
}
