//! What can be asked of a presentity, as values, and what each does to its state.
//!
//! What of it is seen, and when, is left to `staging`: here a change is simply made.

use std::sync::Arc;

use impp_acl::{Decision, Handling, RuleSet};
use impp_protocol::field::Fault;
use impp_protocol::presence::{Document, Patch};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, DeviceId, SessionId, Timestamp};

use super::layers::{Layers, Lease};
use super::mandated::Saying;
use super::pace::PaceLimit;
use crate::bonds::{Bond, Keeper};
use crate::contact_list::{Amended, Amendment};
use crate::ids::ListenerId;
use crate::places::{Amount, Asker};
use crate::policy::{Policy, Sphere};
use crate::ties::Listeners;
use crate::watchers::Watchers;
use crate::watching::Watching;

/// Watchers of one other domain may have one of so many places of those who wait for the owner: none
/// keeps the others out.
const REMOTE_SHARE: usize = 4;

/// A change of a presentity, of what its owner allows, or of who watches it.
#[derive(Clone, Debug)]
pub enum Change {
    /// A device says something of its owner.
    Publish {
        /// Which.
        device: DeviceId,
        /// What, as a change of what it has said.
        patch: Patch,
        /// Or instead of that.
        replace: bool,
        /// How long it holds.
        lease: Lease,
    },
    /// A delegate says something of the owner, or what it has said ends.
    ByDelegate(Address, Saying),
    /// A device takes back what it has said.
    Unpublish(DeviceId),
    /// A session has lost its connection, and what is bound to it stays until then; or it has found
    /// one again.
    Rebind(SessionId, Option<Timestamp>),
    /// A session has ended: so does what is bound to it.
    EndSession(SessionId),
    /// A device is gone, and with it what it has said. It is seen at once, whatever the store says.
    Part(DeviceId),
    /// All that is published ends: the account may not be used any more. It is seen at once, whatever
    /// the pace and the store say.
    Withdraw,
    /// The presentity is gone, which is told in this word; as for [`Change::Withdraw`].
    Close(SubscriptionEvent),
    /// Somebody asks to follow.
    Follow {
        /// Who.
        watcher: Address,
        /// What keeps it.
        bond: Bond,
        /// Who is to be told.
        listener: Option<ListenerId>,
        /// If they would wait for the owner: at most so many may, and of one other domain a part of
        /// these.
        pending_max: usize,
    },
    /// A watcher lets go of what keeps the subscription.
    Release {
        /// Who.
        watcher: Address,
        /// What.
        keepers: Vec<Keeper>,
        /// Who is not to be told any more.
        listener: Option<ListenerId>,
    },
    /// All subscriptions of a watcher end: the owner does it (RFC 2779 5.1.16), or the watcher
    /// itself from elsewhere.
    End(Address, SubscriptionEvent),
    /// The owner changes the contact list.
    Amend(Amendment),
    /// The owner has other rules.
    PutRules {
        /// These.
        rules: Arc<RuleSet>,
        /// As the owner wrote them.
        text: Arc<str>,
        /// The version of those that they replace; if it is not that, nothing changes.
        base: u64,
    },
}

/// What comes of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is made.
    Done,
    /// It is not: what is published would exceed limits.
    Unfit(Fault),
    /// It is not: the owner's rules do not let who says it, or not any more.
    Beyond,
    /// How who asks to follow stands.
    Asked(Asked),
    /// Whether there was something to end.
    Ended(bool),
    /// It is made: the rules have this version.
    Numbered(u64),
    /// What the change of the contact list has come to.
    Amended(Amended),
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

/// The sphere that a document says, as rules compare it.
pub(super) fn sphere(document: &Document) -> Option<String> {
    document.sphere().map(str::to_lowercase)
}

/// All that a change changes.
#[derive(Debug)]
pub(super) struct State {
    pub owner: Address,
    pub policy: Policy,
    pub layers: Layers,
    /// What the layers compose.
    pub document: Arc<Document>,
    /// After a crash, until a device publishes or the window of recovery ends: layers that were bound to
    /// sessions are lost, and nobody knows the sphere.
    pub lost: bool,
    pub watchers: Watchers,
    pub pace_limit: PaceLimit,
}

impl State {
    /// Makes a change; `order` is its place among all that were asked for.
    pub(super) fn make(&mut self, now: Timestamp, order: u64, change: &Change) -> Answer {
        match change {
            Change::Publish { device, patch, replace, lease } => {
                let published = self.layers.publish(order, *device, patch, *replace, *lease);
                return self.published(now, published);
            }
            Change::ByDelegate(who, saying) => return self.speak(now, order, who, saying),
            Change::Unpublish(device) | Change::Part(device) => {
                self.layers.remove(*device);
                self.recompose();
            }
            Change::Rebind(session, grace) => self.layers.rebind(*session, *grace),
            Change::EndSession(session) => {
                self.layers.end_session(*session);
                self.recompose();
            }
            Change::Withdraw => {
                self.layers.end_all();
                self.recompose();
            }
            Change::Close(event) => self.close(now, *event),
            Change::Follow { watcher, bond, listener, pending_max } => {
                let asked = self.follow(now, watcher, *bond, *listener, *pending_max);
                self.watchers.trim(now);
                return Answer::Asked(asked);
            }
            Change::Release { watcher, keepers, listener } => {
                self.release(now, watcher, keepers, *listener);
            }
            Change::End(watcher, event) => return self.end_watching(now, watcher, *event),
            Change::Amend(amendment) => {
                let amended = self.policy.amend((now, order), amendment);
                // An entry is about nobody else.
                self.decide(now, &amendment.address);
                self.watchers.trim(now);
                return Answer::Amended(amended);
            }
            Change::PutRules { rules, text, .. } => self.put_rules(now, rules, text),
        }
        self.watchers.trim(now);
        Answer::Done
    }

    fn end_watching(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        event: SubscriptionEvent,
    ) -> Answer {
        let is_live = |w: &Watching| w.state != SubscriptionState::Terminated;
        if !self.watchers.get(watcher).is_some_and(is_live) {
            return Answer::Ended(false);
        }
        self.terminate(now, watcher, event);
        self.watchers.trim(now);
        Answer::Ended(true)
    }

    fn put_rules(&mut self, now: Timestamp, rules: &Arc<RuleSet>, text: &Arc<str>) {
        // About the watchers it is decided when they are shown: see `behind`.
        (self.policy.rules, self.policy.text) = (rules.clone(), text.clone());
        // What delegates say ends with their right to say it.
        self.end_unmandated(now);
    }

    fn published(&mut self, now: Timestamp, composed: Result<Arc<Document>, Fault>) -> Answer {
        match composed {
            Ok(document) => self.document = document,
            Err(fault) => return Answer::Unfit(fault),
        }
        // What was lost is not waited for any longer.
        self.lost = false;
        self.watchers.trim(now);
        Answer::Done
    }

    /// Does what time has made due: layers and leases end, decisions change.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for who in self.lapse(now) {
            self.decide(now, &who);
        }
        self.watchers.trim(now);
    }

    /// Ends layers and leases whose time is over; of whom something may be due by it. About them it is to
    /// be decided.
    pub(super) fn lapse(&mut self, now: Timestamp) -> Vec<Address> {
        if self.layers.is_due(now) {
            self.layers.expire(now);
            self.recompose();
        }
        self.end_unmandated(now);
        let due = self.watchers.due(now);
        for who in &due {
            self.watchers.edit(who, |watching| {
                let Some(watching) = watching else { return };
                if watching.ties.edit(|bonds, _| bonds.expire(now)) {
                    watching.settle(now);
                }
                watching.give_up(now);
            });
        }
        due
    }

    /// Brings the decision about one up to date.
    pub(super) fn decide(&mut self, now: Timestamp, who: &Address) {
        let Some((watching, decision)) = self.undecided(now, who) else { return };
        let spends =
            watching.comes_by(&decision) && self.without_sphere(now, who, &decision).is_some();
        let limit = self.pace_limit;
        self.watchers.edit(who, |watching| {
            if let Some(watching) = watching {
                if spends {
                    watching.spend(now, limit);
                }
                watching.decide(now, decision);
            }
        });
    }

    /// A watcher, and what is decided about it now, if it does not stand by that already.
    pub(super) fn undecided(&self, now: Timestamp, who: &Address) -> Option<(&Watching, Decision)> {
        let (watching, decision) = (self.watchers.get(who)?, self.decision(now, who));
        (!watching.stands_by(&decision)).then_some((watching, decision))
    }

    /// What is decided of one who follows, or asks to.
    ///
    /// What a sphere takes from a watcher it takes at once. But it grants no oftener than the pace allows:
    /// until then the watcher is shown what it sees in every sphere, and is looked at again.
    pub(super) fn decision(&self, now: Timestamp, who: &Address) -> Decision {
        let watching = self.watchers.get(who);
        let stands = watching.map(|watching| watching.state);
        let decision = self.policy.decide(&self.owner, who, now, self.sphere(), stands);
        let comes = watching.filter(|watching| watching.comes_by(&decision));
        let Some(until) = comes.and_then(|w| w.waits_until(now, self.pace_limit)) else {
            return decision;
        };
        let without = self.without_sphere(now, who, &decision);
        without.map_or(decision, |without| without.until_at_most(until))
    }

    /// What a decision is whatever sphere the owner is in, if something else is seen by that.
    fn without_sphere(
        &self,
        now: Timestamp,
        who: &Address,
        decision: &Decision,
    ) -> Option<Decision> {
        // Nearly nobody's rules look at it.
        if !self.policy.rules.depends_on_sphere() {
            return None;
        }
        let stands = self.watchers.get(who).map(|watching| watching.state);
        let without = self.policy.decide(&self.owner, who, now, Sphere::Lost, stands);
        (without.view_key() != decision.view_key()).then_some(without)
    }

    /// The layers have changed.
    pub(super) fn recompose(&mut self) {
        self.document = self.layers.compose();
    }

    pub(super) fn terminate(&mut self, now: Timestamp, who: &Address, event: SubscriptionEvent) {
        self.watchers.edit(who, |watching| {
            if let Some(watching) = watching {
                watching.terminate(now, event);
            }
        });
    }

    fn follow(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        bond: Bond,
        listener: Option<ListenerId>,
        pending_max: usize,
    ) -> Asked {
        let decision = self.decision(now, watcher);
        let waits = self.watchers.get(watcher).is_some_and(Watching::is_waiting);
        let remote = matches!(bond, Bond::Server(_));
        if decision.handling() == Handling::Confirm && !waits {
            let share = (pending_max / REMOTE_SHARE).max(1);
            let known = self.policy.contacts.contains_key(watcher);
            let most =
                Asker::of(&self.owner, watcher, known).of_all(Amount::items(pending_max as u64));
            let full = self.watchers.waiting() as u64 >= most.items;
            if full || (remote && self.watchers.waiting_of(watcher.domain_str()) >= share) {
                return Asked::Crowded;
            }
        }
        self.watchers.edit(watcher, |entry| {
            let old = entry.take();
            // Other sessions of the same watcher go on listening: all of them stand alike.
            let listeners: Listeners = old.iter().flat_map(Watching::listeners).copied().collect();
            let live = |old: &Watching| {
                matches!(old.state, SubscriptionState::Active | SubscriptionState::Pending)
            };
            let watching = match old.filter(live) {
                Some(mut watching) => {
                    watching.decide(now, decision);
                    Some(watching)
                }
                None => Watching::asked(now, decision),
            };
            let Some(mut watching) = watching else { return Asked::Refused };
            watching.ties.edit(|_, all| *all = listeners);
            let mut answer = Asked::Refused;
            if watching.state != SubscriptionState::Terminated {
                answer = Asked::Stands(watching.state);
                watching.ties.edit(|bonds, _| bonds.keep(bond));
                match listener {
                    Some(link) if remote => watching.listen_only(link),
                    Some(session) => watching.listen(session),
                    None => {}
                }
            }
            *entry = Some(watching);
            answer
        })
    }

    fn release(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        keepers: &[Keeper],
        listener: Option<ListenerId>,
    ) {
        if self.watchers.get(watcher).is_none() {
            return;
        }
        self.watchers.edit(watcher, |watching| {
            let Some(watching) = watching else { return };
            let released = watching.ties.edit(|bonds, listeners| {
                listeners.retain(|other| Some(*other) != listener);
                keepers.iter().filter(|keeper| bonds.release(**keeper)).count()
            });
            if released > 0 {
                watching.settle(now);
            }
        });
    }
}
