//! What delegates say of an owner: as far as the owner's rules let them, and as long.
//!
//! That who says it has proven who they are is left to the session; what a right is, to `impp_acl`.

use std::collections::BTreeSet;

use bytes::Bytes;
use impp_acl::{Beyond, Mandate, RuleSet};
use impp_protocol::presence::{Document, Patch};
use impp_protocol::{Address, DeviceId, Timestamp};

use super::Presentity;
use super::change::{Answer, Change, State};
use super::layers::{Layers, Lease, delegated};
use crate::policy::Policy;

/// What a delegate says of the owner, or what ends of that.
#[derive(Clone, Debug)]
pub enum Saying {
    /// This, as far as the owner's rules let it, for a lease.
    Says {
        /// From which of its devices.
        device: DeviceId,
        /// What, as a change of what it has said from there.
        patch: Patch,
        /// Or instead of that.
        replace: bool,
        /// How long it holds, if its right does.
        until: Timestamp,
    },
    /// It takes back all that it has said, from whichever of its devices.
    TakesBack,
    /// A device of its is gone, or its account if none is named, and with it what was said from there. It is
    /// seen at once, whatever the store says.
    Parts(Option<DeviceId>),
}

impl Saying {
    /// The layer of this that something ends which has come since.
    pub(super) fn ended_by(&self, who: &Address, end: &Change) -> Option<DeviceId> {
        let Saying::Says { device, .. } = self else { return None };
        let ended = match end {
            Change::Withdraw | Change::Close(_) => true,
            Change::ByDelegate(gone, Saying::Parts(from)) => {
                gone == who && from.is_none_or(|from| from == *device)
            }
            _ => false,
        };
        ended.then(|| delegated(who, *device))
    }
}

impl Policy {
    /// What somebody may do for `owner` now.
    pub fn mandate(&self, owner: &Address, delegate: &Address, now: Timestamp) -> Option<Mandate> {
        self.rules.mandate(owner, delegate, self.wall(now))
    }
}

impl Presentity {
    /// What a delegate may not say of what this patch would come to; nothing, if it is no delegate.
    pub fn beyond(
        &self,
        now: Timestamp,
        (delegate, device): (&Address, DeviceId),
        patch: &Patch,
        replace: bool,
    ) -> Option<Beyond> {
        let mandate = self.newest.policy.mandate(&self.newest.owner, delegate, now)?;
        let before = self.newest.layers.document(delegated(delegate, device));
        let before = before.filter(|_| !replace).cloned().unwrap_or_default();
        mandate.ends(&patch.applied(before).ok()?).err()
    }

    /// Whether something is shown whose time is over: a lease, or a right to say it.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let is_past = |at: Timestamp| at <= now;
        self.layers().is_due(now) || self.mandates_end_at().is_some_and(is_past)
    }

    /// What a delegate is shown to say, encoded for the two of them: a document for each of its devices.
    pub fn said_by(&self, delegate: &Address) -> Vec<Bytes> {
        let layers = self.layers();
        let own = layers.delegated().filter(|(by, ..)| *by == delegate);
        own.filter_map(|(_, id, _)| Some(layers.of(id)?.0)).collect()
    }

    /// The rules that the owner has, and those that are on their way to the disk.
    pub fn all_rules(&self) -> impl Iterator<Item = &RuleSet> {
        let staged = self.staged.iter().filter_map(|staged| staged.before.policy.as_ref());
        staged.chain([&self.newest.policy]).map(|policy| &*policy.rules)
    }

    /// Delegates who say something that is shown, or will be once all is stored.
    pub fn speakers(&self) -> BTreeSet<Address> {
        let staged = self.staged.iter().filter_map(|staged| staged.before.layers.as_ref());
        let all = staged.map(|(layers, _)| layers).chain([&self.newest.layers]);
        all.flat_map(Layers::delegated).map(|(by, ..)| by.clone()).collect()
    }

    /// When the right of a delegate ends to what it is shown to say. What is staged has its turn when it is
    /// shown.
    pub(super) fn mandates_end_at(&self) -> Option<Timestamp> {
        let (policy, owner) = (self.policy(), &self.newest.owner);
        // Looked at whenever the presentity is.
        if policy.rules.delegates().iter().all(|delegate| delegate.until.is_none()) {
            return None;
        }
        let ends = self.layers().delegated().filter_map(|(by, _, said)| {
            policy.rules.mandate(owner, by, Timestamp::from_millis(0))?.ends(said).ok()?
        });
        // By the clock that time goes by here.
        ends.min().map(|until| until.shifted(-policy.ahead))
    }
}

impl State {
    /// Does what a delegate asks for, or what its end does.
    pub(super) fn speak(
        &mut self,
        now: Timestamp,
        order: u64,
        delegate: &Address,
        saying: &Saying,
    ) -> Answer {
        let (device, patch, replace, until) = match saying {
            Saying::Says { device, patch, replace, until } => (device, patch, replace, until),
            Saying::TakesBack | Saying::Parts(None) => return self.silence(delegate, |_| true),
            Saying::Parts(Some(device)) => {
                let gone = delegated(delegate, *device);
                return self.silence(delegate, |id| id == gone);
            }
        };
        let (mut layers, id) = (self.layers.clone(), delegated(delegate, *device));
        let lease = Lease::Until(*until);
        let published = layers.publish_by(order, Some(delegate), id, patch, *replace, lease);
        let composed = match published {
            Ok(composed) => composed,
            Err(fault) => return Answer::Unfit(fault),
        };
        let said = layers.document(id);
        if !said.is_some_and(|said| self.may_say(now, delegate, said)) {
            return Answer::Beyond;
        }
        // What a crash has lost of the owner's devices is waited for on: it is not theirs to say.
        (self.layers, self.document) = (layers, composed);
        Answer::Done
    }

    /// Ends of what a delegate says these layers.
    fn silence(&mut self, delegate: &Address, ends: impl Fn(DeviceId) -> bool) -> Answer {
        let all = self.layers.delegated();
        let ended = all.filter(|(by, id, _)| *by == delegate && ends(*id));
        self.end(ended.map(|(_, id, _)| id).collect())
    }

    /// Ends what delegates say and may not say any more.
    pub(super) fn end_unmandated(&mut self, now: Timestamp) {
        let layers = self.layers.delegated();
        let ended = layers.filter(|(by, _, said)| !self.may_say(now, by, said));
        let ended = ended.map(|(_, id, _)| id).collect();
        self.end(ended);
    }

    fn end(&mut self, ended: Vec<DeviceId>) -> Answer {
        if !ended.is_empty() {
            ended.into_iter().for_each(|id| self.layers.remove(id));
            self.recompose();
        }
        Answer::Done
    }

    /// Whether a delegate may say all of this now.
    fn may_say(&self, now: Timestamp, delegate: &Address, said: &Document) -> bool {
        let mandate = self.policy.mandate(&self.owner, delegate, now);
        mandate.is_some_and(|mandate| mandate.ends(said).is_ok())
    }
}
