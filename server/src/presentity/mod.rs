//! The presentity: layers, watchers and what each is shown. A pure machine: the policy and the
//! time come in, whom to wake and what to store comes out.
//!
//! Storing, waking and sending are left to the host and the sessions. Nothing of a document gets
//! out of here but by [`impp_acl::Disclosed`].

mod contents;
mod layers;
mod pace;
mod watching;

use std::collections::{BTreeSet, HashMap};

use impp_acl::{Disclosed, Handling, Purpose, ViewKey, Watcher};
use impp_protocol::field::Fault;
use impp_protocol::presence::{DOCUMENT_BYTES_MAX, Document, Patch, Version};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};

pub use contents::Contents;
pub use layers::{LAYERS_MAX, Layers, Lease};
pub use pace::{Pace, PaceLimit};
pub use watching::{Bond, Watching};

use crate::policy::Policy;
use crate::sessions::{DeviceId, SessionId};

/// Watchers whose subscriptions have ended and of whom word is kept, at most.
const ENDED_MAX: usize = 256;

/// What follows from a change.
#[derive(Debug, Default)]
pub struct Effects {
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
    /// Whoever was seen open before the start is not shown as closed before then.
    recovering_until: Timestamp,
}

impl Presentity {
    /// A presentity with what the store has of it.
    pub fn new(
        owner: Address,
        layers: Layers,
        watchers: HashMap<Address, Watching>,
        now: Timestamp,
        pace_limit: PaceLimit,
        recovering_until: Timestamp,
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

    /// What a device's layer would be after a change.
    ///
    /// # Errors
    /// [`Fault`] if limits would be exceeded.
    pub fn planned(
        &self,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
    ) -> Result<Document, Fault> {
        let mut layers = self.layers.clone();
        layers.publish(device, patch, replace, Lease::Until(Timestamp::MAX))?;
        // Layers within limits may exceed them together; what is shown has to fit a frame.
        let whole = layers.compose();
        Patch::between(&Document::default(), &whole).apply(&mut Document::default())?;
        if whole.size() > DOCUMENT_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        Ok(layers.of(device).map(|(document, _)| document.clone()).unwrap_or_default())
    }

    /// Changes a device's layer.
    ///
    /// # Errors
    /// [`Fault`] as [`Presentity::planned`]; nothing changed then.
    pub fn publish(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
        lease: Lease,
        policy: &Policy,
    ) -> Result<Effects, Fault> {
        self.planned(device, patch, replace)?;
        self.layers.publish(device, patch, replace, lease)?;
        Ok(self.changed(now, policy))
    }

    /// Ends a device's layer.
    pub fn unpublish(&mut self, now: Timestamp, device: DeviceId, policy: &Policy) -> Effects {
        self.layers.remove(device);
        self.changed(now, policy)
    }

    /// What a device has published itself.
    pub fn layer(&self, device: DeviceId) -> Option<(&Document, Lease)> {
        self.layers.of(device)
    }

    /// The layers that are bound to sessions.
    pub fn bound_layers(&self) -> impl Iterator<Item = (DeviceId, &Document)> {
        self.layers.bound()
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

    /// Somebody asks to follow; the answer is how they stand, or `None` for no.
    pub fn subscribe(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<SessionId>,
        policy: &Policy,
    ) -> (Option<SubscriptionState>, Effects) {
        let decision = policy.decide(&self.owner, watcher, Purpose::Subscribe, now, self.sphere());
        let mut effects = Effects::default();
        let old = self.watchers.remove(watcher);
        let live = old.filter(|old| {
            matches!(old.state, SubscriptionState::Active | SubscriptionState::Pending)
        });
        let watching = match live {
            Some(mut watching) => {
                if watching.decide(now, decision) {
                    effects.wake.extend(watching.listeners.iter().copied());
                }
                Some(watching)
            }
            None => Watching::asked(now, decision),
        };
        effects.watchers.insert(watcher.clone());
        let Some(mut watching) = watching else { return (None, effects) };
        let state = watching.state;
        if state != SubscriptionState::Terminated {
            watching.keep(bond);
            if let Some(session) = listener {
                watching.listen(session);
            }
        }
        self.watchers.insert(watcher.clone(), watching);
        ((state != SubscriptionState::Terminated).then_some(state), effects)
    }

    /// How a pending request counts against the owner's limit.
    pub fn pending(&self) -> usize {
        let pending = |w: &&Watching| {
            matches!(w.state, SubscriptionState::Pending | SubscriptionState::Waiting)
        };
        self.watchers.values().filter(pending).count()
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
            if let Some(session) = listener {
                watching.listeners.retain(|other| *other != session);
            }
            let released = bonds.iter().filter(|bond| watching.release(**bond)).count();
            if released > 0 {
                watching.settle(now);
                effects.watchers.insert(watcher.clone());
                effects.wake.extend(watching.listeners.iter().copied());
            }
        }
        self.trim_ended();
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

    /// Rules or contacts changed: all decisions are taken anew, and at once.
    pub fn policy_changed(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let mut effects = self.decide_all(now, policy);
        self.show(&mut effects);
        effects
    }

    /// Does what is due: leases and graces end, decisions change with time, a paced change goes
    /// out.
    pub fn expire(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let (layers_changed, layers_ended) = self.layers.expire(now);
        let mut effects = if layers_changed || self.is_recovered_at(now) {
            self.changed(now, policy)
        } else {
            Effects::default()
        };
        effects.layers_ended = layers_ended;
        for (address, watching) in &mut self.watchers {
            if watching.expire(now) {
                watching.settle(now);
                effects.wake.extend(watching.listeners.iter().copied());
                effects.watchers.insert(address.clone());
            }
        }
        if self.watchers.values().any(|w| w.decision.until().is_some_and(|until| until <= now)) {
            let decided = self.decide_all(now, policy);
            effects.wake.extend(decided.wake);
            effects.watchers.extend(decided.watchers);
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
        let recovery = (self.recovering_until > Timestamp::default()
            && self.layers.is_empty()
            && !self.watchers.is_empty())
        .then_some(self.recovering_until);
        watchers.chain(self.layers.next_deadline()).chain(self.deferred).chain(recovery).min()
    }

    /// What a session has to tell its client, which holds `held` and was told `state`.
    pub fn pull(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        held: Option<Version>,
        state: Option<SubscriptionState>,
        policy: &Policy,
    ) -> Option<Told> {
        let sphere = self.document.sphere().map(str::to_owned);
        let watching = self.watchers.get_mut(watcher)?;
        // The rules are asked when bytes leave, not when they were queued.
        if watching.decision.until().is_some_and(|until| until <= now) {
            let decision =
                policy.decide(&self.owner, watcher, Purpose::Subscribe, now, sphere.as_deref());
            watching.decide(now, decision);
        }
        let event = (state != Some(watching.state)).then_some(watching.event);
        let mut told = Told { state: watching.state, event, content: None };
        if watching.state == SubscriptionState::Active
            && let Some(key) = watching.decision.view_key()
            && !(held.is_some() && self.is_recovering(now))
        {
            told.content = self.contents.disclose(&key, &self.document, held);
        }
        (told.event.is_some() || told.content.is_some()).then_some(told)
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
        if self.is_recovering(now) {
            return None;
        }
        let watching = self.watchers.get(watcher)?;
        let key = watching.decision.view_key()?;
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

    /// For a while after a start an owner without layers may only not have returned yet.
    fn is_recovering(&self, now: Timestamp) -> bool {
        self.layers.is_empty() && now < self.recovering_until
    }

    /// Whether the recovery window ends at `now`; it is then forgotten.
    fn is_recovered_at(&mut self, now: Timestamp) -> bool {
        let ends = self.recovering_until > Timestamp::default() && now >= self.recovering_until;
        if ends {
            self.recovering_until = Timestamp::default();
        }
        ends && self.layers.is_empty()
    }

    /// The layers changed: whoever sees a difference is woken, as the pace allows.
    fn changed(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let sphere = self.document.sphere().map(str::to_lowercase);
        self.document = self.layers.compose();
        let mut effects = Effects::default();
        if self.document.sphere().map(str::to_lowercase) != sphere {
            effects = self.decide_all(now, policy);
        }
        if self.deferred.is_none() {
            self.paced(now, &mut effects);
        }
        effects
    }

    fn paced(&mut self, now: Timestamp, effects: &mut Effects) {
        if !self.would_show() {
            return;
        }
        match self.pace.take(now, self.pace_limit) {
            Ok(()) => self.show(effects),
            Err(at) => self.deferred = Some(at),
        }
    }

    /// Whether anybody watches, so that a change is worth a token.
    fn would_show(&self) -> bool {
        self.watchers.values().any(|w| w.state == SubscriptionState::Active)
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

    fn decide_all(&mut self, now: Timestamp, policy: &Policy) -> Effects {
        let mut effects = Effects::default();
        let sphere = self.document.sphere().map(str::to_owned);
        for (address, watching) in &mut self.watchers {
            let decision =
                policy.decide(&self.owner, address, Purpose::Subscribe, now, sphere.as_deref());
            let moved = decision.view_key() != watching.decision.view_key();
            let turned = watching.decide(now, decision);
            if turned {
                effects.watchers.insert(address.clone());
            }
            if turned || moved {
                effects.wake.extend(watching.listeners.iter().copied());
            }
        }
        effects
    }

    /// Word of ended subscriptions is kept while somebody is still to be told, and a bounded
    /// number beyond that, the newest.
    fn trim_ended(&mut self) {
        let ended = |w: &Watching| w.state == SubscriptionState::Terminated;
        let mut times: Vec<Timestamp> =
            self.watchers.values().filter(|w| ended(w)).map(|w| w.since).collect();
        if times.len() > ENDED_MAX {
            times.sort_unstable();
            let oldest_kept = times[times.len() - ENDED_MAX];
            self.watchers.retain(|_, w| !ended(w) || w.since >= oldest_kept);
        }
    }
}

/// View keys are hashed, not ordered.
type ViewKeys = std::collections::HashSet<ViewKey>;
