//! How followers stand at the home, by what it answers, and how they leave it.

use std::time::Duration;

use impp_protocol::command::Done;
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Error, Timestamp};

use super::follower::Upstream;
use super::machine::Mirror;
use super::{Effects, Terms};

/// However short a lease the home grants, it is refreshed as if it were so long, or as long as was
/// asked for.
const LEASE_MIN: Duration = Duration::from_secs(60);

impl Mirror {
    /// The home says how a follower stands, and in which group.
    pub(super) fn stands(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        done: &Done,
        bare: bool,
        terms: Terms,
        effects: &mut Effects,
    ) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        let lease = done.lease.unwrap_or(terms.lease).max(LEASE_MIN).min(terms.lease);
        follower.stands(now, lease, bare);
        let changed = match (done.state, done.group) {
            (Some(SubscriptionState::Active), Some(handle)) => {
                return self.stands_in(now, watcher, handle, done.version, effects);
            }
            // Nothing is shown yet: what is shown stays.
            (Some(SubscriptionState::Active), None) => {
                self.detach(watcher);
                let Some(follower) = self.followers.get_mut(watcher) else { return };
                follower.placed = true;
                follower.is_kept() && follower.activate(now)
            }
            (Some(SubscriptionState::Pending), _) => {
                self.cache.leave(watcher, follower.group.take());
                let event = Some(SubscriptionEvent::Subscribe);
                follower.is_kept() && follower.turn(now, SubscriptionState::Pending, event)
            }
            _ => {
                let event = SubscriptionEvent::Deactivated;
                self.over_there(now, watcher);
                return self.ended(now, watcher, event, None, effects);
            }
        };
        self.said(watcher, changed, effects);
    }

    pub(super) fn stands_in(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        handle: u64,
        version: Option<Version>,
        effects: &mut Effects,
    ) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        let held = self.cache.kept(follower.group).cloned();
        let group = self.cache.open(handle);
        self.cache.enter(watcher, follower.group, group);
        follower.group = Some(group);
        let changed = follower.is_kept()
            && match self.cache.is_dropped(group) {
                true => follower.turn(now, SubscriptionState::Unknown, None),
                false => follower.activate(now),
            };
        match (self.cache.kept(Some(group)), held) {
            (Some(kept), _) if Some(kept.version) == version => {}
            (None, Some(held)) if Some(held.version) == version => {
                self.cache.put(group, held, usize::MAX);
                // Others were in it before there was anything to see.
                for member in self.cache.members(group) {
                    let found = self.followers.get(member).filter(|member| member.sees());
                    effects.wake.extend(found.into_iter().flat_map(|member| &member.listeners));
                }
            }
            // It comes.
            (None, _) => {}
            (Some(_), _) => self.repair_soon(now, effects),
        }
        self.said(watcher, changed, effects);
    }

    /// The home has said how a follower stands.
    pub(super) fn said(&mut self, watcher: &Address, changed: bool, effects: &mut Effects) {
        let Some(follower) = self.followers.get(watcher) else { return };
        effects.answered.push((watcher.clone(), Ok(())));
        if changed || follower.sees() {
            effects.wake.extend(&follower.listeners);
        }
    }

    /// The home has let go of a follower, as it was asked to.
    pub(super) fn over_there(&mut self, now: Timestamp, watcher: &Address) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        follower.upstream = Upstream::Due(now);
        self.let_go(watcher);
    }

    /// The home has let go of a follower. What it was told is held is kept until it answers.
    pub(super) fn let_go(&mut self, watcher: &Address) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        (follower.standing, follower.placed, follower.lost) = (None, false, false);
        if !follower.is_asked() {
            self.cache.leave(watcher, follower.group.take());
        }
    }

    /// The home does not let a follower follow, or not any more.
    pub(super) fn ended(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        event: SubscriptionEvent,
        error: Option<Error>,
        effects: &mut Effects,
    ) {
        self.let_go(watcher);
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        if follower.is_kept() {
            follower.end(now, event);
            effects.wake.extend(&follower.listeners);
        }
        effects.answered.push((watcher.clone(), error.map_or(Ok(()), Err)));
    }

    /// Nobody here keeps a follower any more. In the home's groups it stays until the home knows.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        event: SubscriptionEvent,
        effects: &mut Effects,
    ) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        follower.end(now, event);
        effects.wake.extend(&follower.listeners);
        effects.answered.push((watcher.clone(), Ok(())));
        if !follower.placed && !follower.is_asked() {
            self.cache.leave(watcher, follower.group.take());
        }
        effects.asks |= self.asks_for(now, watcher);
    }

    /// A follower is in none of the home's groups any more, but keeps what it was shown.
    pub(super) fn detach(&mut self, watcher: &Address) {
        let Some(follower) = self.followers.get_mut(watcher) else { return };
        follower.placed = false;
        let Some(group) = follower.group.take() else { return };
        follower.group = self.cache.detach(watcher, group);
        if follower.group.is_none() {
            self.cache.leave(watcher, Some(group));
        }
    }
}
