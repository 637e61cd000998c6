//! Watchers of whom is decided anew because that has changed by which is decided: the rules, or the
//! sphere that the owner is in.
//!
//! However many they are, they are decided about in slices, so that nobody else waits for that. Until
//! its turn a watcher is held back: it is shown nothing by what counted before, and then goes from
//! what it saw to what it sees now in one step. Those who lose something go first.

use impp_acl::Decision;
use impp_protocol::hashing::HashSet;
use impp_protocol::{Address, Timestamp};

use super::change::State;
use super::step::Before;
use super::{Effects, Presentity};
use crate::watching::Watching;

/// Watchers that are decided about in one slice: about a millisecond's work.
pub(super) const SLICE: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Those at whom nobody has looked yet.
    unseen: HashSet<Address>,
    /// Those who lose nothing, and come after them.
    gain: HashSet<Address>,
    /// What is published has changed since it began: each of them looks when it is its turn.
    pub(super) renewed: bool,
}

impl Behind {
    /// Whether there are any.
    pub(super) fn is_any(&self) -> bool {
        !self.unseen.is_empty() || !self.gain.is_empty()
    }

    /// Whether a watcher is one of them.
    pub(super) fn has(&self, who: &Address) -> bool {
        self.unseen.contains(who) || self.gain.contains(who)
    }

    /// Decides about the next ones, who are not behind any more then.
    fn advance(&mut self, state: &mut State, now: Timestamp, slice: usize) -> Vec<Address> {
        let unseen: Vec<Address> = self.unseen.iter().take(slice).cloned().collect();
        let mut done = Vec::new();
        for who in &unseen {
            self.unseen.remove(who);
            match state.undecided(now, who).is_some_and(|(old, new)| !loses(old, &new)) {
                true => drop(self.gain.insert(who.clone())),
                false => done.push(who.clone()),
            }
        }
        if self.unseen.is_empty() {
            let gain = self.gain.iter().take(slice - done.len()).cloned();
            done.extend(gain);
        }
        for who in &done {
            self.gain.remove(who);
            state.decide(now, who);
        }
        done
    }
}

/// Whether a watcher may be shown less by another decision: it sees something, and that changes.
fn loses(watching: &Watching, new: &Decision) -> bool {
    watching.is_active() && watching.decision.view_key() != new.view_key()
}

impl Presentity {
    /// What is shown is decided by other rules from now on, or in another sphere.
    pub(super) fn fall_behind(&mut self) {
        let newest = self.newest.watchers.iter().map(|(who, _)| who);
        // Who leaves by what is on its way to the disk is there as long as it is.
        let staged = self.staged.iter().flat_map(|staged| staged.before.watchers.keys());
        let unseen = newest.chain(staged).cloned().collect();
        let renewed = self.behind.is_any() && self.behind.renewed;
        self.behind = Behind { unseen, renewed, ..Behind::default() };
    }

    /// Decides about the next slice of those who are behind, where nothing is staged; who they were.
    pub(super) fn catch_up(
        &mut self,
        now: Timestamp,
        whole: &mut Before,
        effects: &mut Effects,
    ) -> Vec<Address> {
        if !self.behind.is_any() {
            return Vec::new();
        }
        let Presentity { newest, behind, slice, .. } = self;
        let (done, before) = newest.step(|state| {
            let done = behind.advance(state, now, *slice);
            state.watchers.trim();
            done
        });
        whole.and(&before);
        self.show(now, &before, false, effects);
        match self.behind.renewed {
            true => self.wake(&done, effects),
            false => self.free(&done, effects),
        }
        done
    }

    /// They look, and have missed nothing then.
    pub(super) fn wake(&mut self, all: &[Address], effects: &mut Effects) {
        for who in all {
            self.missed.remove(who);
            let listeners = self.newest.watchers.get(who).map(|watching| &watching.listeners);
            effects.wake.extend(listeners.into_iter().flatten());
        }
    }
}
