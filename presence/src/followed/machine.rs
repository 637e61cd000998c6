//! The mirror of one presentity: its followers here, what they are shown, and what its home is asked.
//!
//! How somebody comes to follow is in `staged`, what is asked of the home in `asking`, how its answers leave a follower in `standing`, what it
//! says unasked in `notified`.

use std::collections::BTreeMap;

use impp_protocol::command::Done;
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, SessionId, Timestamp};

use super::agenda::Agenda;
use super::cache::Cache;
use super::follower::{Follower, Upstream};
use super::staged::Staged;
use super::{Effects, Terms};
use crate::bonds::{Bond, Keeper};
use crate::ids::ListenerId;
use crate::presentity::{Held, Pulled, Told};
use crate::watching::Kept;

/// See the module.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(super) presentity: Address,
    pub(super) followers: BTreeMap<Address, Follower>,
    /// What is on its way to the disk, by watcher, and how much ever was.
    pub(super) staged: BTreeMap<Address, Vec<Staged>>,
    pub(super) staged_ever: u64,
    pub(super) cache: Cache,
    pub(super) agenda: Agenda,
    /// Since when there is a link, if there is.
    pub(super) linked: Option<Timestamp>,
    /// When what is known here was last asked for again because it did not fit.
    pub(super) repaired: Option<Timestamp>,
    /// When that is to be done again.
    pub(super) repair_at: Option<Timestamp>,
}

impl Mirror {
    /// Nobody follows.
    pub fn new(presentity: Address, linked: Option<Timestamp>) -> Mirror {
        let (followers, staged, cache, agenda) = Default::default();
        let (staged_ever, repaired, repair_at) = (0, None, None);
        Mirror {
            presentity,
            followers,
            staged,
            staged_ever,
            cache,
            agenda,
            linked,
            repaired,
            repair_at,
        }
    }

    /// Takes a follower back from the store.
    pub fn restore(&mut self, now: Timestamp, watcher: Address, kept: Kept, terms: Terms) {
        let follower = Follower::restored(now, kept, terms.lease);
        self.agenda.changed(&watcher);
        self.followers.insert(watcher, follower);
    }

    /// One who follows, or of whom word is still due.
    pub fn follower(&self, watcher: &Address) -> Option<&Follower> {
        self.followers.get(watcher)
    }

    /// All of them.
    pub fn followers(&self) -> impl Iterator<Item = (&Address, &Follower)> {
        self.followers.iter()
    }

    /// How many there are, with those who are to be.
    pub fn len(&self) -> usize {
        let new = self.staged.keys().filter(|watcher| !self.followers.contains_key(*watcher));
        self.followers.len() + new.count()
    }

    /// Whether it can be forgotten.
    pub fn is_empty(&self) -> bool {
        self.followers.is_empty() && self.staged.is_empty()
    }

    /// Whether anybody here wants to follow.
    pub fn is_wanted(&self) -> bool {
        self.followers.values().any(Follower::is_kept)
    }

    /// The bytes of presence that are kept.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Somebody follows, for a session, a device or a contact list, where nothing is stored; how they stand
    /// so far.
    pub fn follow(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<ListenerId>,
    ) -> (SubscriptionState, Effects) {
        let (id, _) = self.stage(now, watcher, bond, listener);
        self.committed(now, watcher, id)
    }

    /// Somebody follows from now on, who has asked to at that time.
    pub(super) fn begin(
        &mut self,
        since: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<ListenerId>,
        effects: &mut Effects,
    ) {
        let new = || Follower::new(since);
        let follower = self.followers.entry(watcher.clone()).or_insert_with(new);
        if follower.keep(since, bond) {
            effects.wake.extend(follower.listeners.iter().copied());
        }
        if let Some(listener) = listener {
            if !follower.listeners.contains(&listener) {
                follower.listeners.push(listener);
            }
            effects.wake.remove(&listener);
        }
    }

    /// A session, device or contact list lets go.
    pub fn unfollow(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        keepers: &[Keeper],
        listener: Option<ListenerId>,
    ) -> Effects {
        let mut effects = Effects::default();
        let before = self.kept(watcher);
        self.forget_staged(watcher, keepers, listener);
        if let Some(follower) = self.followers.get_mut(watcher) {
            if let Some(listener) = listener {
                follower.listeners.retain(|other| *other != listener);
            }
            let released = keepers.iter().filter(|keeper| follower.bonds.release(**keeper)).count();
            if released > 0 && !follower.is_kept() {
                self.end(now, watcher, SubscriptionEvent::Timeout, &mut effects);
            }
        }
        self.note(watcher, before, &mut effects);
        self.tidy(watcher);
        effects
    }

    /// Ends all subscriptions of a follower; `None` if there are none.
    pub fn end_following(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        event: SubscriptionEvent,
    ) -> Option<Effects> {
        let (mut effects, before) = (Effects::default(), self.kept(watcher));
        let follows = self.followers.get(watcher).is_some_and(Follower::is_kept);
        let any = self.end_staged(watcher);
        if follows {
            self.end(now, watcher, event, &mut effects);
        } else if !any {
            return None;
        }
        self.note(watcher, before, &mut effects);
        self.tidy(watcher);
        Some(effects)
    }

    /// What a session has to tell its client, which holds `held` and was told `state`.
    pub fn pull(
        &mut self,
        watcher: &Address,
        session: SessionId,
        held: Held,
        state: Option<SubscriptionState>,
    ) -> Pulled {
        let (found, listener) = (self.followers.get_mut(watcher), ListenerId::from(session));
        let Some(follower) = found.filter(|follower| follower.listeners.contains(&listener)) else {
            return Pulled::Told(Told::ended(SubscriptionEvent::Deactivated));
        };
        let ended = follower.state == SubscriptionState::Terminated;
        if ended {
            follower.listeners.retain(|other| *other != listener);
        }
        let news = state != Some(follower.state);
        let known = |state| matches!(state, SubscriptionState::Stale | SubscriptionState::Unknown);
        // Nobody has done anything where only the other domain cannot be reached, or is again.
        let silent = known(follower.state)
            || (follower.state == SubscriptionState::Active && state.is_some_and(known));
        let event = (news && !silent).then_some(follower.event);
        let mut told = Told { state: follower.state, event, content: None };
        if self.sees(watcher) {
            let group = self.followers.get(watcher).and_then(|follower| follower.group);
            told.content = self.cache.disclose(group, held);
        }
        if ended {
            self.tidy(watcher);
        }
        match news || told.content.is_some() {
            true => Pulled::Told(told),
            false => Pulled::Nothing,
        }
    }

    /// The version that a follower is shown, if it is shown anything.
    pub fn version_for(&self, watcher: &Address) -> Option<Version> {
        let follower = self.followers.get(watcher).filter(|_| self.sees(watcher))?;
        self.cache.kept(follower.group).map(|kept| kept.content.version())
    }

    /// Whether a follower may be shown what its group sees. It is shown nothing while the home says
    /// that it follows, and puts it in no group: then the home shows nothing yet, as after a crash,
    /// and what it has shown before holds no more.
    fn sees(&self, watcher: &Address) -> bool {
        let Some(follower) = self.followers.get(watcher).filter(|follower| follower.sees()) else {
            return false;
        };
        // While the home is asked for all, it is in a group that is not known here.
        let asks = follower.lost || self.repair_at.is_some();
        !follower.placed || asks || self.cache.is_of_home(follower.group)
    }

    /// The answer for one who looks once and follows too: what it is shown, if that is surely new.
    pub fn fetch(&mut self, watcher: &Address, held: Option<Version>) -> Option<Done> {
        let follower = self.followers.get(watcher)?;
        let version = self.version_for(watcher)?;
        if follower.state != SubscriptionState::Active || follower.unsure.is_some() {
            return None;
        }
        let content = match held == Some(version) {
            true => None,
            false => Some(self.cache.disclose(follower.group, Held::Nothing)?.bytes()),
        };
        let state = Some(SubscriptionState::Active);
        Some(Done { state, version: Some(version), content, ..Done::empty() })
    }

    /// A link to the home is there, another than before: all followers are asked again.
    pub fn link_up(&mut self, now: Timestamp, terms: Terms) -> Effects {
        self.unlink(now, terms);
        self.linked = Some(now);
        Effects { asks: self.any_asks(now), ..Effects::default() }
    }

    /// The link is gone.
    pub fn link_down(&mut self, now: Timestamp, terms: Terms) {
        self.unlink(now, terms);
        self.linked = None;
    }

    /// Does what is due: leases end, what was not confirmed is stale, the home is asked again.
    pub fn expire(&mut self, now: Timestamp, terms: Terms) -> Effects {
        let mut effects = Effects::default();
        let is_due = |follower: &Follower| follower.is_due(now, self.linked, terms);
        let due = self.followers.iter().filter(|(_, follower)| is_due(follower));
        for watcher in due.map(|(watcher, _)| watcher.clone()).collect::<Vec<_>>() {
            let before = self.kept(&watcher);
            let Some(follower) = self.followers.get_mut(&watcher) else { continue };
            let wake = follower.listeners.clone();
            if follower.bonds.expire(now) && !follower.is_kept() {
                self.end(now, &watcher, SubscriptionEvent::Timeout, &mut effects);
            }
            let Some(follower) = self.followers.get_mut(&watcher) else { continue };
            if follower.standing.is_some_and(|until| until <= now) {
                // The home has let go, or will not be heard of: what it showed is void.
                follower.standing = None;
                // What the home was told is held is kept until it answers, but not shown.
                if !follower.is_asked() {
                    self.cache.leave(&watcher, follower.group.take());
                    follower.upstream = Upstream::Due(now);
                }
                if follower.is_kept() && follower.turn(now, SubscriptionState::Unknown, None) {
                    effects.wake.extend(&wake);
                }
            }
            if follower.looks_late(now, terms.pace) {
                effects.wake.extend(&wake);
            }
            if follower.stale_at(self.linked, terms).is_some_and(|at| at <= now)
                && follower.turn(now, SubscriptionState::Stale, None)
            {
                effects.wake.extend(&wake);
            }
            self.note(&watcher, before, &mut effects);
            self.tidy(&watcher);
        }
        if self.repair_at.is_some_and(|at| at <= now) {
            self.repair(now, &mut effects);
        }
        self.agenda.all_changed();
        effects.asks |= self.any_asks(now);
        effects
    }

    /// Whether there is something to ask for anybody.
    pub(super) fn any_asks(&self, now: Timestamp) -> bool {
        self.followers.values().any(|follower| follower.request(now).is_some())
    }

    /// Whether there is something to ask for this follower.
    pub(super) fn asks_for(&self, now: Timestamp, watcher: &Address) -> bool {
        self.followers.get(watcher).is_some_and(|follower| follower.request(now).is_some())
    }

    /// What the home has said does not fit: it is asked for all, at once or after a rest.
    pub(super) fn repair_soon(&mut self, now: Timestamp, effects: &mut Effects) {
        effects.repairs += 1;
        self.cache.forget_handles();
        let rested = self.repaired.map(|last| last.after(super::notified::REPAIR_PAUSE));
        match rested {
            Some(at) if at > now => self.repair_at = Some(at),
            _ => self.repair(now, effects),
        }
    }

    pub(super) fn repair(&mut self, now: Timestamp, effects: &mut Effects) {
        (self.repaired, self.repair_at) = (Some(now), None);
        self.agenda.all_changed();
        for follower in self.followers.values_mut().filter(|follower| follower.placed) {
            follower.lost = true;
            if matches!(follower.upstream, Upstream::Rests(_)) {
                follower.upstream = Upstream::Due(now);
            }
        }
        effects.asks = true;
    }

    pub(super) fn unlink(&mut self, now: Timestamp, terms: Terms) {
        self.cache.forget_handles();
        self.repair_at = None;
        self.agenda.all_changed();
        for (watcher, follower) in &mut self.followers {
            follower.unlink(now, terms.lease);
            if !follower.sees() {
                self.cache.leave(watcher, follower.group.take());
            }
        }
    }

    /// Whether somebody follows by a lease.
    pub fn is_leased(&self, watcher: &Address) -> bool {
        self.kept(watcher).is_some_and(|kept| !kept.leases.is_empty())
    }

    /// Notes that a follower's record has to be written, if it has.
    pub(super) fn note(&mut self, watcher: &Address, before: Option<Kept>, effects: &mut Effects) {
        self.agenda.changed(watcher);
        if self.kept(watcher) != before {
            effects.records.insert(watcher.clone());
        }
        let is_kept = self.followers.get(watcher).is_some_and(Follower::is_kept);
        if !is_kept && !self.is_staged(watcher) {
            effects.let_go.insert(watcher.clone());
        }
    }

    /// Forgets a follower of whom nothing has to be known.
    pub(super) fn tidy(&mut self, watcher: &Address) {
        if self.followers.get(watcher).is_some_and(Follower::is_over)
            && let Some(follower) = self.followers.remove(watcher)
        {
            self.cache.leave(watcher, follower.group);
        }
    }
}
