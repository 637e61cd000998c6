//! How a change bears on others: what it overtakes, and whether it may wait for the store.

use std::collections::BTreeMap;

use impp_protocol::Address;

use super::change::Change;
use super::mandated::Saying;
use crate::ids::ListenerId;
use crate::policy::Contact;

impl Change {
    /// Whether it is true already, and is seen at once, whatever the store and the pace say.
    pub(super) fn is_at_once(&self) -> bool {
        match self {
            Change::ByDelegate(_, saying) => matches!(saying, Saying::Parts(_)),
            Change::Part(_) | Change::Withdraw | Change::Close(_) => true,
            _ => false,
        }
    }

    /// Whether it takes something back, from where these contacts are: then it is stored on a full
    /// disk too. Of other rules nobody can say without them whether they take or give, and they are
    /// how an owner takes back.
    pub fn takes_back(&self, contacts: &BTreeMap<Address, Contact>) -> bool {
        match self {
            Change::Publish { .. } | Change::Follow { .. } => false,
            Change::ByDelegate(_, saying) => !matches!(saying, Saying::Says { .. }),
            Change::Amend(amendment) => amendment.takes_from(contacts),
            Change::Unpublish(_)
            | Change::Rebind(..)
            | Change::EndSession(_)
            | Change::Part(_)
            | Change::Withdraw
            | Change::Close(_)
            | Change::Release { .. }
            | Change::End(..)
            | Change::PutRules { .. } => true,
        }
    }

    /// A session or link is gone: if the change is made once more, nobody listens for it.
    pub(super) fn unlisten(&mut self, gone: ListenerId) {
        if let Change::Follow { listener, .. } = self {
            listener.take_if(|listener| *listener == gone);
        }
    }

    /// Something has come while this is on its way to the disk, and is shown before it: what that has
    /// ended, this does not bring back when it is made once more.
    pub(super) fn overtaken_by(&mut self, end: &Change) {
        let ended = match (&*self, end) {
            (Change::Publish { device, .. }, Change::Withdraw | Change::Close(_)) => Some(*device),
            (Change::ByDelegate(who, saying), end) => saying.ended_by(who, end),
            (Change::Publish { device, .. }, Change::Part(gone)) => {
                Some(*device).filter(|device| device == gone)
            }
            (Change::Publish { device, lease, .. }, Change::EndSession(session)) => {
                Some(*device).filter(|_| lease.is_of(*session))
            }
            _ => None,
        };
        match (&mut *self, end) {
            (Change::Publish { lease, .. }, Change::Rebind(session, grace)) => {
                lease.rebind(*session, *grace);
            }
            (Change::Follow { watcher, .. }, Change::Close(_)) => {
                let (watcher, keepers) = (watcher.clone(), Vec::new());
                *self = Change::Release { watcher, keepers, listener: None };
            }
            _ => {}
        }
        if let Some(device) = ended {
            *self = Change::Unpublish(device);
        }
    }
}
