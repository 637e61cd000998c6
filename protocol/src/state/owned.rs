//! States that only their owner sees: devices, and what waits for a decision.

use bytes::Bytes;

use crate::address::Address;
use crate::ids::DeviceId;
use crate::schema::{fields, numbers};
use crate::time::Timestamp;

fields! {
    /// A device that has signed in.
    pub struct Device {
        /// Its id: 128 random bits.
        1 id: DeviceId,
        /// What it calls itself.
        2 name: Option<String>,
        /// When it was last used: signed in, or the end of a session.
        3 last_seen: Timestamp,
        /// Whether it is the one asking.
        4 current: bool,
    }
}

fields! {
    /// The devices of an account.
    pub struct Devices {
        /// By id.
        1 entries: Vec<Device>,
    }
}

fields! {
    /// A change of the devices.
    pub struct DeviceEdit {
        /// The device to remove: its layer, its sessions and their tickets end.
        1 remove: DeviceId,
    }
}

numbers! {
    /// What somebody asks for.
    pub open enum RequestKind {
        /// To see presence.
        Subscribe = 1, "subscribe";
        /// To deliver a message that is held.
        Message = 2, "message";
    }
}

numbers! {
    /// What the owner says to it.
    pub enum Decision {
        /// Yes.
        Allow = 1, "allow";
        /// No, without saying so: the asker sees somebody who is offline.
        Polite = 2, "polite";
        /// No, and the asker is told.
        Deny = 3, "deny";
    }
}

fields! {
    /// Somebody who waits for a decision.
    pub struct RequestEntry {
        /// What they ask for.
        1 kind: RequestKind,
        /// Who asks.
        2 from: Address,
        /// Since when.
        3 since: Timestamp,
        /// Message: how many are held.
        4 count: Option<u64>,
    }
}

fields! {
    /// A message that is held.
    pub struct HeldMessage {
        /// When it was written, by its id.
        1 since: Timestamp,
        /// The fields of its MESSAGE.
        2 message: Bytes,
    }
}

fields! {
    /// All that waits for the owner's decision, or a part of it.
    pub struct Requests {
        /// By address, and of one address by kind.
        1 entries: Vec<RequestEntry>,
        /// In NOTIFY: the next one goes on with this.
        2 more: bool,
        /// FETCH with `about`: the messages of that one that are held, in the order in which they came.
        3 messages: Vec<HeldMessage>,
    }
}

fields! {
    /// A decision: it becomes a rule.
    pub struct RequestEdit {
        /// About whom.
        1 from: Address,
        /// Yes or no.
        2 decision: Decision,
        /// With `allow`: the group of the rules that they become a member of, instead of being granted the status.
        64 group: Option<String>,
    }
}

impl RequestEdit {
    /// Yes or no, and no more.
    pub fn of(from: Address, decision: Decision) -> RequestEdit {
        RequestEdit { from, decision, group: None }
    }
}
