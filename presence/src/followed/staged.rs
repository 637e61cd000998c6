//! Following on its way to the disk: *staged*, it is to be stored; *shown*, it is stored, and only now
//! does anybody see it, and is the home asked. What could not be stored was never seen, and is taken off the
//! list.
//!
//! Meanwhile the follower is as it was. What is stored of it is what it will be with all that is staged: so
//! what is written of it for another reason takes nothing of that away.

use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Timestamp};

use super::Effects;
use super::follower::Follower;
use super::machine::Mirror;
use crate::bonds::{Bond, Keeper};
use crate::ids::ListenerId;
use crate::watching::Kept;

/// One request to follow that is on its way.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    id: u64,
    now: Timestamp,
    /// What is to keep the subscription, if that was not let go of meanwhile.
    bond: Option<Bond>,
    /// Who is to be told, in the same sense.
    listener: Option<ListenerId>,
}

impl Mirror {
    /// Somebody is to follow. Of whom something else is to be stored now is in the effects; it is seen when
    /// [`Mirror::committed`] is told this number.
    pub fn stage(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<ListenerId>,
    ) -> (u64, Effects) {
        let (mut effects, before, id) = (Effects::default(), self.kept(watcher), self.staged_ever);
        self.staged_ever += 1;
        let staged = Staged { id, now, bond: Some(bond), listener };
        self.staged.entry(watcher.clone()).or_default().push(staged);
        self.note(watcher, before, &mut effects);
        (id, effects)
    }

    /// What was staged is stored, or had nothing to be stored; how the watcher stands.
    pub fn committed(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        id: u64,
    ) -> (SubscriptionState, Effects) {
        let (mut effects, before) = (Effects::default(), self.kept(watcher));
        let Some(Staged { now: since, bond, listener, .. }) = self.unstaged(watcher, id) else {
            return (SubscriptionState::Terminated, effects);
        };
        if let Some(bond) = bond {
            // What the same keeper had asked for before it is not to come after it.
            let former = self.staged.get_mut(watcher).into_iter().flatten();
            former.filter(|other| other.id < id).for_each(|other| other.forget(&[bond.keeper()]));
            self.begin(since, watcher, bond, listener, &mut effects);
        }
        effects.asks = self.asks_for(now, watcher);
        self.note(watcher, before, &mut effects);
        self.tidy(watcher);
        let follower = self.followers.get(watcher);
        (follower.map_or(SubscriptionState::Terminated, |follower| follower.state), effects)
    }

    /// What was staged could not be stored: nobody has seen it, and nobody does.
    pub fn unstage(&mut self, watcher: &Address, id: u64) -> Effects {
        let (mut effects, before) = (Effects::default(), self.kept(watcher));
        self.unstaged(watcher, id);
        self.note(watcher, before, &mut effects);
        effects
    }

    /// What of a follower survives the server, once all that is staged is stored.
    pub fn kept(&self, watcher: &Address) -> Option<Kept> {
        let mut follower = self.followers.get(watcher).cloned();
        for Staged { now, bond, .. } in self.staged.get(watcher).into_iter().flatten() {
            if let Some(bond) = bond {
                follower.get_or_insert_with(|| Follower::new(*now)).keep(*now, *bond);
            }
        }
        follower.as_ref().and_then(Follower::kept)
    }

    /// A watcher lets go of what is on its way: it was asked for before.
    pub(super) fn forget_staged(
        &mut self,
        watcher: &Address,
        keepers: &[Keeper],
        listener: Option<ListenerId>,
    ) {
        for staged in self.staged.get_mut(watcher).into_iter().flatten() {
            staged.forget(keepers);
            staged.listener = staged.listener.filter(|other| Some(*other) != listener);
        }
    }

    /// All that is on its way for a watcher is to come to nothing; whether there was any.
    pub(super) fn end_staged(&mut self, watcher: &Address) -> bool {
        let mut any = false;
        for staged in self.staged.get_mut(watcher).into_iter().flatten() {
            any |= staged.bond.take().is_some();
        }
        any
    }

    /// Whether somebody is to follow by what is on its way.
    pub(super) fn is_staged(&self, watcher: &Address) -> bool {
        let mut staged = self.staged.get(watcher).into_iter().flatten();
        staged.any(|staged| staged.bond.is_some())
    }

    fn unstaged(&mut self, watcher: &Address, id: u64) -> Option<Staged> {
        let all = self.staged.get_mut(watcher)?;
        let index = all.iter().position(|staged| staged.id == id)?;
        let staged = all.remove(index);
        if all.is_empty() {
            self.staged.remove(watcher);
        }
        Some(staged)
    }
}

impl Staged {
    fn forget(&mut self, keepers: &[Keeper]) {
        self.bond = self.bond.filter(|bond| !keepers.contains(&bond.keeper()));
    }
}
