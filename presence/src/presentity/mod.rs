//! The presentity: layers, rules, watchers and what each is shown. A pure machine: changes and the
//! time come in, what to store and whom to wake comes out.
//!
//! Storing, waking and sending are left to the server. Nothing of a document gets out of here but by
//! [`impp_acl::Disclosed`].
//!
//! | file | holds |
//! |---|---|
//! | `change.rs` | what can be asked, as values; what each does |
//! | `bearing.rs` | what a change overtakes, whether it is seen at once, whether it only takes back |
//! | `staging.rs`, `step.rs` | staged, committed, shown: how a change comes to be seen |
//! | `showing.rs` | whom it wakes, at which pace; what time makes due |
//! | `seen.rs` | who watches, as the owner sees it |
//! | `recovering.rs`, `closing.rs` | what a crash has lost; the end |
//! | `behind.rs`, `held.rs` | very many watchers decided about, when they are read or anew, in slices; who is held back meanwhile |
//! | `mandated.rs` | what delegates say, as far and as long as they may |
//! | `layers.rs`, `contents.rs`, `pace.rs` | what is published; what views show; how often |
//! | `parted.rs` | what those were shown last who have left |
//! | `across.rs`, `groups.rs` | what a link says to the server of watchers elsewhere |

mod across;
mod bearing;
mod behind;
mod change;
mod closing;
mod contents;
mod groups;
mod held;
mod layers;
mod mandated;
mod pace;
mod parted;
mod recovering;
mod seen;
mod showing;
mod staging;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use impp_acl::{Decision, DeliveryAction, Disclosed, Handling, Purpose, Rate, ViewKey, Watcher};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::{Document, PartId, Version};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, DeviceId, SessionId, Timestamp};

pub use across::{GroupTold, Joined, PulledGroups};
pub use change::{Answer, Asked, Change};
pub use contents::Held;
pub use groups::{Groups, set_version};
pub use layers::{DELEGATED_BYTES_MAX, DELEGATED_MAX, LAYERS_MAX, Layers, Lease, Saved, delegated};
pub use mandated::Saying;
pub(crate) use pace::Pace;
pub use pace::PaceLimit;
pub use seen::{Follows, News, Noted, Seen};
pub use staging::Staging;
pub use step::Write;

use crate::ids::ListenerId;
use crate::policy::{Policy, Sphere};
use crate::watchers::Watchers;
use crate::watching::Watching;
use behind::{Behind, SLICE};
use change::State;
use contents::Contents;
use seen::Sight;
use staging::Staged;

/// What follows from a change, or from the end of one. What follows from one of a mirror is other
/// ([`crate::followed::Effects`]): here records go with the change that has staged them, there they are of
/// whoever has changed, as they are by then; and the home is to be asked. They share whom to wake.
#[derive(Debug, Default)]
pub struct Effects {
    /// What is to be stored: with a staged change, as one unit; else whenever it can.
    pub writes: Vec<Write>,
    /// Changes staged before that have something to store only now, as what they repeated was not
    /// stored; it goes before `writes`.
    pub again: Vec<(u64, Vec<Write>)>,
    /// What is to be stored whenever it can, and nobody waits for: what was decided about watchers.
    pub later: Vec<Write>,
    /// Sessions and links that have to look.
    pub wake: BTreeSet<ListenerId>,
    /// Staged changes that are shown now, and what came of them.
    pub answers: Vec<(u64, Answer)>,
}

impl Effects {
    /// What follows from one step, and then from a later one; the first has nothing stored.
    fn follow(&mut self, later: Effects) {
        self.again.extend(later.again);
        self.writes.extend(later.writes);
        self.later.extend(later.later);
        self.wake.extend(later.wake);
        self.answers.extend(later.answers);
    }
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
    /// As it is with all that is staged.
    newest: State,
    /// What is on its way to the disk, in its order.
    staged: VecDeque<Staged>,
    /// How many changes were ever staged.
    staged_ever: u64,
    /// The order of the change that was asked for last, or of a layer that is higher.
    asked_ever: u64,
    /// What is shown; views of it are made as they are needed.
    shown: Arc<Document>,
    contents: Contents,
    /// Watchers who are still to be decided about as things are.
    behind: Behind,
    /// So many at once.
    slice: usize,
    /// Watchers who have looked while they were held back.
    missed: BTreeSet<Address>,
    /// What the owner sees of all who watch.
    sight: Sight,
    /// After a crash, until then: nobody is shown as closed who was not shown otherwise since.
    /// Alike whatever the owner does and whoever looks, so that it tells nothing of either.
    recovering_until: Option<Timestamp>,
}

impl Presentity {
    /// A presentity with what the store has of it, brought up to date: what has ended by now is to be
    /// stored in its turn. About its watchers it is decided as things are now, in slices (`behind.rs`); the
    /// first one is in the effects.
    pub fn restored(
        owner: Address,
        policy: Policy,
        layers: Layers,
        watchers: HashMap<Address, Watching>,
        now: Timestamp,
        pace_limit: PaceLimit,
        recovering_until: Option<Timestamp>,
    ) -> (Presentity, Effects) {
        let (document, asked_ever) =
            (layers.compose(), layers.last_order().max(policy.history.number()));
        let watchers = Watchers::restored(watchers);
        // What a device has published since the crash outlives a stop.
        let lost = recovering_until.is_some() && !layers.has_returned();
        let newest =
            State { owner, policy, layers, document: document.clone(), lost, watchers, pace_limit };
        let mut presentity = Presentity {
            newest,
            staged: VecDeque::new(),
            staged_ever: 0,
            asked_ever,
            shown: document,
            contents: Contents::default(),
            behind: Behind::default(),
            slice: SLICE,
            missed: BTreeSet::new(),
            sight: Sight::default(),
            recovering_until,
        };
        // Nobody listens yet, and nobody is shown what is of the past.
        presentity.fall_behind();
        let effects = presentity.beneath(now, true, |state| drop(state.lapse(now))).1;
        (presentity, effects)
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
        let found = self.watcher(watcher);
        let Some(watching) = found.filter(|watching| watching.tells(session)) else {
            return Pulled::Told(Told::ended(SubscriptionEvent::Deactivated));
        };
        // What was decided is looked at when bytes leave, not when they were queued.
        if watching.is_due(now) {
            return Pulled::Due;
        }
        if self.is_held_back(now, watcher) {
            self.miss(watcher);
            return Pulled::Nothing;
        }
        let event = (state != Some(watching.state)).then_some(watching.event);
        let mut told = Told { state: watching.state, event, content: None };
        let key = watching.decision.view_key().filter(|_| watching.is_active());
        if told.state == SubscriptionState::Terminated {
            self.unlisten(watcher, session.into());
        }
        if let Some(key) = key
            && (matches!(held, Held::Sent(_) | Held::Whole(_)) || !self.is_withheld(now, &key))
        {
            let held = match held {
                Held::Claimed(version) if !self.may_hold(watcher, &key, version) => Held::Nothing,
                held => held,
            };
            told.content = self.contents.disclose(&key, &self.shown, held);
        }
        match told.event.is_some() || told.content.is_some() {
            true => Pulled::Told(told),
            false => Pulled::Nothing,
        }
    }

    /// Somebody looks once. What is being granted or published is not seen yet; what is being taken
    /// away is not seen any more.
    pub fn fetch(&self, now: Timestamp, watcher: &Watcher, held: Option<Version>) -> Fetched {
        let mut seen: Option<impp_acl::View> = None;
        // Where it hangs on what is lost, looking shows what following does.
        let stands = match watcher {
            Watcher::Principal(who) => self.watcher(who).map(|watching| watching.state),
            Watcher::Anonymous => None,
        };
        for (policy, sphere) in self.grounds() {
            let owner = &self.newest.owner;
            let decision = policy.decide_for(owner, watcher, Purpose::Fetch, now, sphere, stands);
            match decision.view_key() {
                Some(key) => {
                    let full =
                        seen.as_ref().map_or(&**self.shown_document(), |view| view.document());
                    seen = Some(key.apply(full));
                }
                None if decision.handling() == Handling::Confirm => return Fetched::Pending,
                None => return Fetched::Refused,
            }
        }
        let Some(seen) = seen else { return Fetched::Refused };
        let content = seen.content();
        let version = content.version();
        Fetched::Shown(version, (held != Some(version)).then(|| content.snapshot()))
    }

    /// What would be seen of what is shown now, were it decided so: for its owner to know. For a delegate,
    /// about whom it is decided as `own` says, what of it that sees too, and the names of the rest: an id is
    /// told only where that sees the part, or reads it in the rules.
    pub fn seen_by(&self, decision: &Decision, own: Option<&Decision>) -> (Fetched, Vec<String>) {
        let full = self.shown_document();
        let (view, names) = match decision.view(full) {
            Some(view) => match own {
                Some(own) => {
                    let text = &self.policy().text;
                    let named = |id: &PartId| text.contains(&format!("\"id:{id}\""));
                    view.within(own.view(full).as_ref(), named)
                }
                None => (view, Vec::new()),
            },
            None if decision.handling() == Handling::Confirm => return (Fetched::Pending, vec![]),
            None => return (Fetched::Refused, vec![]),
        };
        let content = view.content();
        (Fetched::Shown(content.version(), Some(content.snapshot())), names)
    }

    /// What becomes of a message for the owner, and how many such ones its sender may send; as for
    /// [`Presentity::fetch`], of what is and what is being made the less.
    pub fn delivery(&self, now: Timestamp, sender: &Watcher) -> (DeliveryAction, Option<Rate>) {
        let owner = &self.newest.owner;
        let decisions = self.grounds().map(|(policy, sphere)| {
            let decision = policy.decide_delivery(owner, sender, now, sphere);
            (decision.action(), decision.rate())
        });
        let less = |a: (DeliveryAction, Option<Rate>), b: (DeliveryAction, Option<Rate>)| {
            if b.0 < a.0 { b } else { a }
        };
        decisions.reduce(less).unwrap_or((DeliveryAction::Refuse, None))
    }

    /// Which marks somebody may be told: what delivery rules grant, and nothing to who may not see the owner's
    /// presence; as for [`Presentity::delivery`].
    pub fn marks(&self, now: Timestamp, who: &Address) -> impp_acl::Marks {
        let (owner, sender) = (&self.newest.owner, Watcher::Principal(who.clone()));
        let granted = self.grounds().map(|(policy, sphere)| {
            let seen = policy.decide(owner, who, now, sphere, None).handling();
            match seen == Handling::Allow {
                true => policy.decide_delivery(owner, &sender, now, sphere).marks(),
                false => impp_acl::Marks::NONE,
            }
        });
        granted.reduce(impp_acl::Marks::and).unwrap_or(impp_acl::Marks::NONE)
    }

    /// The version that a watcher's view has now, if it has one and that may be told.
    pub fn version_for(&mut self, now: Timestamp, watcher: &Address) -> Option<Version> {
        let watching = self.watcher(watcher).filter(|watching| watching.is_active())?;
        let key = watching.decision.view_key()?;
        if self.is_held_back(now, watcher) || self.is_withheld(now, &key) {
            return None;
        }
        Some(self.contents.view(&key, &self.shown).version())
    }

    /// Until when nobody knows the owner's sphere, at the latest, if a crash has lost it.
    pub fn sphere_lost_until(&self) -> Option<Timestamp> {
        let lost = self.grounds().next().is_some_and(|(_, sphere)| sphere == Sphere::Lost);
        self.recovering_until.filter(|_| lost)
    }

    /// The sphere that the owner is in, if it says so.
    pub fn sphere(&self) -> Option<&str> {
        self.shown_document().sphere()
    }

    /// Takes the count of view encodings since the last time.
    pub fn take_encodes(&mut self) -> u64 {
        self.contents.take_encodes()
    }

    /// Whether the server of a watcher's domain keeps its subscription, once all is stored: so it
    /// counts.
    pub fn is_kept_by_server(&self, who: &Address) -> bool {
        self.newest.watchers.get(who).is_some_and(|watching| watching.bonds().is_kept_by_server())
    }

    /// Whether a lease keeps a watcher's subscription, in the same sense.
    pub fn is_kept_by_lease(&self, who: &Address) -> bool {
        let watching = self.newest.watchers.get(who);
        watching.is_some_and(|watching| !watching.bonds().leases().is_empty())
    }

    /// The layers that are shown.
    pub fn layers(&self) -> &Layers {
        let before = self.staged.iter().find_map(|staged| staged.before.layers.as_ref());
        before.map_or(&self.newest.layers, |(layers, _)| layers)
    }

    /// Whether a device has a layer, as is shown or once all is stored.
    pub fn has_layer(&self, device: DeviceId) -> bool {
        self.layers().of(device).is_some() || self.newest.layers.of(device).is_some()
    }

    /// Rules and contacts that the owner is told of.
    pub fn policy(&self) -> &Policy {
        let before = self.staged.iter().find_map(|staged| staged.before.policy.as_ref());
        before.unwrap_or(&self.newest.policy)
    }

    /// What is published, as far as it is stored where it has to be.
    fn shown_document(&self) -> &Arc<Document> {
        let before = self.staged.iter().find_map(|staged| staged.before.layers.as_ref());
        before.map_or(&self.newest.document, |(_, document)| document)
    }

    /// For a while after a crash whoever looks offline may only not have returned yet.
    fn is_withheld(&mut self, now: Timestamp, key: &ViewKey) -> bool {
        self.recovering_until.is_some_and(|until| now < until)
            && self.contents.view(key, &self.shown).is_offline()
    }
}

impl Told {
    /// The subscription has ended.
    pub fn ended(event: SubscriptionEvent) -> Told {
        Told { state: SubscriptionState::Terminated, event: Some(event), content: None }
    }
}
