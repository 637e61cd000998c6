//! What delegates say of an owner: as far as the owner's rules let them, and as long.
//!
//! That who says it has proven who they are is left to the session; what a right is, to `impp_acl`.

use impp_acl::{Beyond, Mandate};
use impp_protocol::presence::{Document, Patch};
use impp_protocol::{Address, DeviceId, Timestamp};

use super::Presentity;
use super::change::{Answer, Change, State};
use super::layers::{Lease, delegated};
use crate::policy::Policy;

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

    /// When the right of a delegate ends to what it is shown to say. What is staged has its turn when it is
    /// shown.
    pub(super) fn mandates_end_at(&self) -> Option<Timestamp> {
        let (policy, owner) = (self.policy(), &self.newest.owner);
        let ends = self.layers().delegated().filter_map(|(by, _, said)| {
            policy.rules.mandate(owner, by, Timestamp::from_millis(0))?.ends(said).ok()?
        });
        // By the clock that time goes by here.
        ends.min().map(|until| until.shifted(-policy.ahead))
    }
}

impl State {
    pub(super) fn publish_for(&mut self, now: Timestamp, order: u64, change: &Change) -> Answer {
        let Change::PublishFor { delegate, device, patch, replace, until } = change else {
            return Answer::Done;
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

    /// Ends what delegates say and may not say any more.
    pub(super) fn end_unmandated(&mut self, now: Timestamp) {
        let layers = self.layers.delegated();
        let ended = layers.filter(|(by, _, said)| !self.may_say(now, by, said));
        let ended: Vec<DeviceId> = ended.map(|(_, id, _)| id).collect();
        if ended.is_empty() {
            return;
        }
        ended.into_iter().for_each(|id| self.layers.remove(id));
        self.recompose();
    }

    /// Whether a delegate may say all of this now.
    fn may_say(&self, now: Timestamp, delegate: &Address, said: &Document) -> bool {
        let mandate = self.policy.mandate(&self.owner, delegate, now);
        mandate.is_some_and(|mandate| mandate.ends(said).is_ok())
    }
}
