//! The presentity: layers, watchers and what each is shown. A pure machine: the policy and the
//! time come in, whom to wake and what to store comes out.
//!
//! Storing, waking and sending are left to the host and the sessions. Nothing of a document gets
//! out of here but by [`impp_acl::Disclosed`].

mod across;
mod contents;
#[cfg(test)]
mod due;
mod groups;
mod layers;
mod pace;
#[cfg(test)]
mod unstored;
mod watching;

use std::collections::{BTreeSet, HashMap};

use impp_acl::{Disclosed, Handling, Purpose, ViewKey, Watcher};
use impp_protocol::field::Fault;
use impp_protocol::presence::{DOCUMENT_BYTES_MAX, Document, Patch, Version};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};

pub use across::{GroupTold, Joined, PulledGroups};
pub use contents::{Contents, Held};
pub use groups::{Groups, set_version};
pub use layers::{LAYERS_MAX, Layers, Lease, Saved};
pub use pace::{Pace, PaceLimit};
pub use watching::{Bond, Kept, THEIR_SERVER, Watching};

use crate::ids::{DeviceId, SessionId};
use crate::policy::Policy;

/// Watchers whose subscriptions have ended and of whom word is kept, at most.
const ENDED_MAX: usize = 256;
/// Watchers of one other domain may have one of so many places of those who wait for the owner: none
/// keeps the others out.
const REMOTE_SHARE: usize = 4;

/// What follows from a change.
#[derive(Debug, Default)]
pub struct Effects {
    /// What else has to be stored with it.
    pub ops: Vec<impp_storage::Op>,
    /// Sessions that have to look.
    pub wake: BTreeSet<SessionId>,
    /// Watchers whose record changed.
    pub watchers: BTreeSet<Address>,
    /// Devices whose leased layers have ended.
    pub layers_ended: Vec<DeviceId>,
}

/// What a session has to tell its client about a presentity.
#[derive(Clone, Debug)]
pub struct Told {
    /// How the subscription stands.
    pub state: SubscriptionState,
    /// Why, if that changed since it was last told.
    pub event: Option<SubscriptionEvent>,
    /// The content, if it changed.
    pub content: Option<Disclosed>,
}

/// What a session finds when it looks at a presentity that it follows.
#[derive(Clone, Debug)]
pub enum Pulled {
    /// Nothing new.
    Nothing,
    /// Something to tell.
    Told(Told),
    /// Time has changed what was decided: [`Presentity::expire`] comes first.
    Due,
}

/// The answer to one who asks to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// They stand so.
    Stands(SubscriptionState),
    /// No.
    Refused,
    /// Too many wait for the owner's decision.
    Crowded,
}

/// The answer to one who looks once.
#[derive(Debug)]
pub enum Fetched {
    /// This may be seen; `None` if the asker holds it already.
    Shown(Version, Option<Disclosed>),
    /// The owner has to decide.
    Pending,
    /// No.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub struct Presentity {
    owner: Address,
    layers: Layers,
    document: Document,
    watchers: HashMap<Address, Watching>,
    contents: Contents,
    pace: Pace,
    pace_limit: PaceLimit,
    /// A change waits for the pace until then.
    deferred: Option<Timestamp>,
    /// After a crash, until then: nobody is shown as closed who was not shown otherwise since.
    /// Alike whatever the owner does and whoever looks, so that it tells nothing of either.
    recovering_until: Option<Timestamp>,
}

impl Presentity {
    /// A presentity with what the store has of it.
    pub fn new(
        owner: Address,
        layers: Layers,
        watchers: HashMap<Address, Watching>,
        now: Timestamp,
        pace_limit: PaceLimit,
        recovering_until: Option<Timestamp>,
    ) -> Presentity {
        Presentity {
            owner,
            document: layers.compose(),
            layers,
            watchers,
            contents: Contents::default(),
            pace: Pace::rested(now, pace_limit),
            pace_limit,
            deferred: None,
            recovering_until,
        }
    }

    /// Changes a device's layer.
    ///
    /// # Errors
    /// [`Fault`] if limits would be exceeded; nothing changed then.
    pub fn publish(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
        lease: Lease,
        policy: &Policy,
    ) -> Result<Effects, Fault> {
        let mut layers = self.layers.clone();
        layers.publish(device, patch, replace, lease)?;
        // All layers together fit a frame, so that whatever they come to compose does.
        if layers.size() > DOCUMENT_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        // Layers within limits may exceed them together.
        Patch::between(&Document::default(), &layers.compose()).apply(&mut Document::default())?;
        Ok(self.put_layers(now, layers, policy))
    }

    /// Takes back the change of one device's layer, which could not be stored.
    pub fn put_back(
        &mut self,
        now: Timestamp,
        before: Saved,
        after: &Saved,
        policy: &Policy,
    ) -> Effects {
        match self.layers.put_back(before, after) {
            true => self.changed(now, policy),
            false => Effects::default(),
        }
    }

    fn put_layers(&mut self, now: Timestamp, layers: Layers, policy: &Policy) -> Effects {
        self.layers = layers;
        self.changed(now, policy)
    }

    /// The layers there are.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Ends a device's layer.
    pub fn unpublish(&mut self, now: Timestamp, device: DeviceId, policy: &Policy) -> Effects {
        let mut layers = self.layers.clone();
        layers.remove(device);
        self.put_layers(now, layers, policy)
    }

    /// Ends all that is published, whoever publishes it: the account may not be used any more. It is
    /// shown at once, whatever the pace.
    pub fn withdraw(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let layers_ended = self.layers.end_all();
        (self.document, self.deferred) = (self.layers.compose(), None);
        let mut effects = self.policy_changed(now, policy);
        effects.layers_ended = layers_ended;
        effects
    }

    /// A session has lost its connection, or found one again.
    pub fn rebind(&mut self, session: SessionId, grace: Option<Timestamp>) {
        self.layers.rebind(session, grace);
    }

    /// A session has ended: so do the layers that are bound to it.
    pub fn end_session(&mut self, now: Timestamp, session: SessionId, policy: &Policy) -> Effects {
        if self.layers.end_session(session) {
            self.changed(now, policy)
        } else {
            Effects::default()
        }
    }

    /// Somebody asks to follow. If they would wait for the owner, at most `pending_max` may, and of
    /// one other domain a part of these.
    pub fn subscribe(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<SessionId>,
        pending_max: usize,
        policy: &Policy,
    ) -> (Asked, Effects) {
        use SubscriptionState::{Active, Pending, Terminated};
        let decision = policy.decide(&self.owner, watcher, Purpose::Subscribe, now, self.sphere());
        let mut effects = Effects::default();
        let old = self.watchers.get(watcher);
        let kept = old.and_then(Watching::kept);
        let waits = old.is_some_and(|old| is_waiting(old.state));
        let crowded = || {
            let of = |domain: Option<&str>| self.pending(domain);
            let remote = matches!(bond, Bond::Lease(THEIR_SERVER, _));
            let share = (pending_max / REMOTE_SHARE).max(1);
            of(None) >= pending_max || (remote && of(Some(watcher.domain_str())) >= share)
        };
        if decision.handling() == Handling::Confirm && !waits && crowded() {
            return (Asked::Crowded, effects);
        }
        let old = self.watchers.remove(watcher);
        // Other sessions of the same watcher go on listening: all of them stand alike.
        let listeners = old.as_ref().map(|old| old.listeners.clone()).unwrap_or_default();
        let live = old.filter(|old| matches!(old.state, Active | Pending));
        let watching = match live {
            Some(mut watching) => {
                watching.decide(now, decision);
                Some(watching)
            }
            None => Watching::asked(now, decision),
        };
        effects.wake.extend(listeners.iter().copied());
        let mut answer = Asked::Refused;
        if let Some(mut watching) = watching {
            watching.listeners = listeners;
            if watching.state != Terminated {
                answer = Asked::Stands(watching.state);
                watching.keep(bond);
                if let Some(listener) = listener {
                    match bond {
                        Bond::Lease(THEIR_SERVER, _) => watching.listen_only(listener),
                        _ => watching.listen(listener),
                    }
                    effects.wake.remove(&listener);
                }
            }
            self.watchers.insert(watcher.clone(), watching);
        }
        self.note(watcher, kept, &mut effects);
        (answer, effects)
    }

    /// How many wait for the owner, of one domain or all.
    fn pending(&self, domain: Option<&str>) -> usize {
        let of = |watcher: &Address| domain.is_none_or(|domain| watcher.domain_str() == domain);
        let waiting = self.watchers.iter().filter(|(_, watching)| is_waiting(watching.state));
        waiting.filter(|(watcher, _)| of(watcher)).count()
    }

    /// Notes that a watcher's record has to be written, if it has.
    fn note(&self, watcher: &Address, before: Option<Kept>, effects: &mut Effects) {
        if self.watchers.get(watcher).and_then(Watching::kept) != before {
            effects.watchers.insert(watcher.clone());
        }
    }

    /// A watcher lets go of what kept the subscription.
    pub fn unsubscribe(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bonds: &[Bond],
        listener: Option<SessionId>,
    ) -> Effects {
        let mut effects = Effects::default();
        if let Some(watching) = self.watchers.get_mut(watcher) {
            let kept = watching.kept();
            if let Some(session) = listener {
                watching.listeners.retain(|other| *other != session);
            }
            let released = bonds.iter().filter(|bond| watching.release(**bond)).count();
            if released > 0 {
                watching.settle(now);
                effects.wake.extend(watching.listeners.iter().copied());
            }
            self.note(watcher, kept, &mut effects);
        }
        self.trim_ended();
        effects
    }

    /// Takes back what [`Presentity::subscribe`] did for `bond` and `listener`, which could not be
    /// stored; `before` is the watcher as it was. What others keep, and a later renewal, stays; a
    /// lease that stood before stands again.
    pub fn unsubscribe_unstored(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<SessionId>,
        before: Option<&Watching>,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(watching) = self.watchers.get_mut(watcher) else { return effects };
        let kept = watching.kept();
        let listened = |session| before.is_some_and(|b| b.listeners.contains(&session));
        if let Some(session) = listener.filter(|session| !listened(*session)) {
            watching.listeners.retain(|other| *other != session);
        }
        if watching.bonds.contains(&bond) {
            watching.release(bond);
            let stood = before.and_then(|b| b.bonds.iter().find(|other| other.is_same(bond)));
            watching.bonds.extend(stood);
            watching.settle(now);
            effects.wake.extend(watching.listeners.iter().copied());
        }
        self.note(watcher, kept, &mut effects);
        effects
    }

    /// Ends all subscriptions of a watcher: the owner does it (RFC 2779 5.1.16), or the watcher
    /// itself from elsewhere.
    pub fn end_watching(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        event: SubscriptionEvent,
    ) -> Option<Effects> {
        let watching = self.watchers.get_mut(watcher)?;
        if watching.state == SubscriptionState::Terminated {
            return None;
        }
        watching.terminate(now, event);
        let mut effects = Effects::default();
        effects.wake.extend(watching.listeners.iter().copied());
        effects.watchers.insert(watcher.clone());
        self.trim_ended();
        Some(effects)
    }

    /// The presentity is gone.
    pub fn close(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        for (address, watching) in &mut self.watchers {
            watching.terminate(now, SubscriptionEvent::Noresource);
            effects.wake.extend(watching.listeners.iter().copied());
            effects.watchers.insert(address.clone());
        }
        self.layers = Layers::default();
        self.document = self.layers.compose();
        effects
    }

    /// Rules or contacts changed: all decisions are taken anew, and shown at once.
    pub fn policy_changed(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let mut effects = Effects::default();
        self.decide_all(now, policy, &mut effects);
        self.show(&mut effects);
        effects
    }

    /// Brings decisions up to date with what was loaded; nobody listens yet.
    pub fn decide_anew(&mut self, now: Timestamp, policy: &Policy) {
        self.decide_all(now, policy, &mut Effects::default());
    }

    /// Does what is due: leases and graces end, decisions change with time, a paced change goes
    /// out, a recovery ends.
    pub fn expire(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let (layers_changed, layers_ended) = self.layers.expire(now);
        let mut effects =
            if layers_changed { self.changed(now, policy) } else { Effects::default() };
        effects.layers_ended = layers_ended;
        if self.recovering_until.is_some_and(|until| until <= now) {
            self.recover(&mut effects);
        }
        let watchers: Vec<Address> = self.watchers.keys().cloned().collect();
        for address in watchers {
            let Some(watching) = self.watchers.get_mut(&address) else { continue };
            let kept = watching.kept();
            if watching.expire(now) {
                watching.settle(now);
                effects.wake.extend(watching.listeners.iter().copied());
                self.note(&address, kept, &mut effects);
            }
        }
        if self.watchers.values().any(|watching| watching.is_due(now)) {
            self.decide_all(now, policy, &mut effects);
            self.show(&mut effects);
        }
        if self.deferred.is_some_and(|at| at <= now) {
            self.deferred = None;
            self.paced(now, &mut effects);
        }
        self.trim_ended();
        effects
    }

    /// When [`Presentity::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let watchers = self.watchers.values().filter_map(Watching::next_deadline);
        let recovery = self.recovering_until.filter(|_| !self.watchers.is_empty());
        watchers.chain(self.layers.next_deadline()).chain(self.deferred).chain(recovery).min()
    }

    /// What a session has to tell its client, which holds `held` and was told `state`.
    pub fn pull(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        session: SessionId,
        held: Held,
        state: Option<SubscriptionState>,
    ) -> Pulled {
        let found = self.watchers.get_mut(watcher);
        let Some(watching) = found.filter(|watching| watching.listeners.contains(&session)) else {
            return Pulled::Told(Told::ended(SubscriptionEvent::Deactivated));
        };
        // What was decided is looked at when bytes leave, not when they were queued.
        if watching.is_due(now) {
            return Pulled::Due;
        }
        if watching.state == SubscriptionState::Terminated {
            watching.listeners.retain(|other| *other != session);
        }
        let event = (state != Some(watching.state)).then_some(watching.event);
        let mut told = Told { state: watching.state, event, content: None };
        let active = watching.state == SubscriptionState::Active;
        if let Some(key) = watching.decision.view_key().filter(|_| active)
            && (matches!(held, Held::Sent(_)) || !self.is_withheld(now, &key))
        {
            told.content = self.contents.disclose(&key, &self.document, held);
        }
        match told.event.is_some() || told.content.is_some() {
            true => Pulled::Told(told),
            false => Pulled::Nothing,
        }
    }

    /// Somebody looks once.
    pub fn fetch(
        &mut self,
        now: Timestamp,
        watcher: &Watcher,
        held: Option<Version>,
        policy: &Policy,
    ) -> Fetched {
        let decision = policy.decide_for(&self.owner, watcher, Purpose::Fetch, now, self.sphere());
        match decision.view_key() {
            Some(key) => {
                let shown = key.apply(&self.document).content();
                let version = shown.version();
                Fetched::Shown(version, (held != Some(version)).then(|| shown.snapshot()))
            }
            None if decision.handling() == Handling::Confirm => Fetched::Pending,
            None => Fetched::Refused,
        }
    }

    /// The version that a watcher's view has now, if it has one and that may be told.
    pub fn version_for(&mut self, now: Timestamp, watcher: &Address) -> Option<Version> {
        let watching = self.watchers.get(watcher)?;
        let key = watching.decision.view_key()?;
        if self.is_withheld(now, &key) {
            return None;
        }
        let watching = self.watchers.get(watcher)?;
        (watching.state == SubscriptionState::Active)
            .then(|| self.contents.view(&key, &self.document).version())
    }

    /// The watchers, with how each stands.
    pub fn watchers(&self) -> impl Iterator<Item = (&Address, &Watching)> {
        self.watchers.iter()
    }

    /// One watcher.
    pub fn watcher(&self, watcher: &Address) -> Option<&Watching> {
        self.watchers.get(watcher)
    }

    /// The sphere that the owner is in, if it says so.
    pub fn sphere(&self) -> Option<&str> {
        self.document.sphere()
    }

    /// Takes the count of view encodings since the last time.
    pub fn take_encodes(&mut self) -> u64 {
        self.contents.take_encodes()
    }

    /// For a while after a crash whoever looks offline may only not have returned yet.
    fn is_withheld(&mut self, now: Timestamp, key: &ViewKey) -> bool {
        self.recovering_until.is_some_and(|until| now < until)
            && self.contents.view(key, &self.document).is_offline()
    }

    /// Ends the recovery: whoever was told nothing is told now.
    fn recover(&mut self, effects: &mut Effects) {
        self.recovering_until = None;
        let listeners = self.watchers.values().flat_map(|watching| &watching.listeners);
        effects.wake.extend(listeners.copied());
    }

    /// The layers changed: whoever sees a difference is woken, as the pace allows; at once where
    /// the change decides who may see.
    fn changed(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let sphere = self.document.sphere().map(str::to_lowercase);
        self.document = self.layers.compose();
        let mut effects = Effects::default();
        if self.document.sphere().map(str::to_lowercase) != sphere {
            self.decide_all(now, policy, &mut effects);
            self.show(&mut effects);
        } else if self.deferred.is_none() {
            self.paced(now, &mut effects);
        }
        effects
    }

    fn paced(&mut self, now: Timestamp, effects: &mut Effects) {
        if !self.watchers.values().any(|w| w.state == SubscriptionState::Active) {
            // Nobody watches: nothing to spend the pace on, and no view to keep.
            return self.show(effects);
        }
        match self.pace.take(now, self.pace_limit) {
            Ok(()) => self.show(effects),
            Err(at) => self.deferred = Some(at),
        }
    }

    /// Makes every view in use anew, once, and wakes those whose view changed.
    fn show(&mut self, effects: &mut Effects) {
        let active = |w: &&Watching| w.state == SubscriptionState::Active;
        let keys: ViewKeys =
            self.watchers.values().filter(active).filter_map(|w| w.decision.view_key()).collect();
        let old: HashMap<ViewKey, Option<Version>> =
            keys.iter().map(|key| (key.clone(), self.contents.version(key))).collect();
        self.contents.renew(keys.iter(), &self.document);
        for watching in self.watchers.values().filter(active) {
            if let Some(key) = watching.decision.view_key()
                && old.get(&key).copied().flatten() != self.contents.version(&key)
            {
                effects.wake.extend(watching.listeners.iter().copied());
            }
        }
    }

    fn decide_all(&mut self, now: Timestamp, policy: &Policy, effects: &mut Effects) {
        let sphere = self.document.sphere().map(str::to_owned);
        for (address, watching) in &mut self.watchers {
            let kept = watching.kept();
            let decision =
                policy.decide(&self.owner, address, Purpose::Subscribe, now, sphere.as_deref());
            let moved = decision.view_key() != watching.decision.view_key();
            if watching.decide(now, decision) || moved {
                effects.wake.extend(watching.listeners.iter().copied());
            }
            if watching.kept() != kept {
                effects.watchers.insert(address.clone());
            }
        }
    }

    /// Word of ended subscriptions is kept while somebody is still to be told, and a bounded
    /// number beyond that, the newest.
    fn trim_ended(&mut self) {
        let idle =
            |w: &Watching| w.state == SubscriptionState::Terminated && w.listeners.is_empty();
        let mut times: Vec<Timestamp> =
            self.watchers.values().filter(|w| idle(w)).map(|w| w.since).collect();
        if times.len() > ENDED_MAX {
            times.sort_unstable();
            let oldest_kept = times[times.len() - ENDED_MAX];
            self.watchers.retain(|_, w| !idle(w) || w.since >= oldest_kept);
        }
    }
}

impl Told {
    /// The subscription has ended.
    pub fn ended(event: SubscriptionEvent) -> Told {
        Told { state: SubscriptionState::Terminated, event: Some(event), content: None }
    }
}

fn is_waiting(state: SubscriptionState) -> bool {
    matches!(state, SubscriptionState::Pending | SubscriptionState::Waiting)
}

/// View keys are hashed, not ordered.
type ViewKeys = std::collections::HashSet<ViewKey>;
