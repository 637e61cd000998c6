//! Watchers of whom is decided anew because that has changed by which is decided: the rules, or the
//! sphere that the owner is in; and those who are read from the store.
//!
//! However many they are, they are decided about in slices, so that nobody else waits for that. Until
//! its turn a watcher is held back: it is shown nothing by what counted before, and then goes from
//! what it saw to what it sees now in one step. Those who lose something go first, but for those who were
//! passed over before.

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
///
/// Whoever changes the ground faster than slices pass keeps nobody behind for ever: who was behind already
/// is *owed*, and has its turn before those who fall behind anew. Nobody is added to those who are owed
/// before all of them have had it. So a watcher waits for two rounds of slices at most.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Those who were behind when the ground moved again: decided about next, whatever comes of it.
    owed: HashSet<Address>,
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
        self.sets().iter().any(|set| !set.is_empty())
    }

    /// Whether a watcher is one of them.
    pub(super) fn has(&self, who: &Address) -> bool {
        self.sets().iter().any(|set| set.contains(who))
    }

    fn sets(&self) -> [&HashSet<Address>; 3] {
        [&self.owed, &self.unseen, &self.gain]
    }

    /// The ground has moved, on which all of these stand.
    fn begin(self, all: HashSet<Address>) -> Behind {
        let Behind { mut owed, mut unseen, gain, renewed } = self;
        let was_any = !owed.is_empty() || !unseen.is_empty() || !gain.is_empty();
        if owed.is_empty() {
            unseen.extend(gain);
            owed = unseen;
        }
        let unseen = match owed.is_empty() {
            true => all,
            false => all.into_iter().filter(|who| !owed.contains(who)).collect(),
        };
        Behind { owed, unseen, gain: HashSet::default(), renewed: was_any && renewed }
    }

    /// Decides about the next ones, who are not behind any more then.
    fn advance(&mut self, state: &mut State, now: Timestamp, slice: usize) -> Vec<Address> {
        let mut done: Vec<Address> = self.owed.iter().take(slice).cloned().collect();
        let unseen: Vec<Address> = self.unseen.iter().take(slice - done.len()).cloned().collect();
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
            self.owed.remove(who);
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
    /// What is shown is decided by other rules from now on, or in another sphere; or it was decided by those
    /// of another time, as what is read from the store.
    pub(super) fn fall_behind(&mut self) {
        let newest = self.newest.watchers.iter().map(|(who, _)| who);
        // Who leaves by what is on its way to the disk is there as long as it is.
        let staged = self.staged.iter().flat_map(|staged| staged.before.watchers.keys());
        let all = newest.chain(staged).cloned().collect();
        self.behind = std::mem::take(&mut self.behind).begin(all);
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
            state.watchers.trim(now);
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
            let listeners = self.newest.watchers.get(who).map(Watching::listeners);
            effects.wake.extend(listeners.into_iter().flatten());
        }
    }
}
