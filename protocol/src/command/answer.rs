//! OK: the answer to a request that was done.

use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::presence::Version;
use crate::schema::{fields, numbers};
use crate::state::SubscriptionState;
use crate::time::Timestamp;

numbers! {
    /// What became of a message.
    pub open enum Outcome {
        /// The recipient's home server has it.
        Delivered = 1, "delivered";
        /// It had it already: this is a repeat.
        Duplicate = 2, "duplicate";
        /// It waits for the other domain; its fate comes into the sender's log.
        Queued = 3, "queued";
        /// Not stored (`volatile`); passed to the devices that are connected, if any.
        Sent = 4, "sent";
    }
}

fields! {
    /// OK. Which fields are there depends on what was asked.
    pub struct Done {
        /// AUTH: the mechanism's last message.
        1 data: Option<Bytes>,
        /// AUTH: who you are.
        2 address: Option<Address>,
        /// AUTH: the ticket that resumes this session: its id (16 octets) and a secret (32).
        3 resume: Option<Bytes>,
        /// AUTH: how many seconds after the loss of its connection the session can be resumed.
        4 window: Option<Duration>,
        /// AUTH: the session goes on where it was.
        5 resumed: bool,
        /// PUBLISH, SUBSCRIBE: the lease granted, in seconds; absent if bound to the session.
        6 lease: Option<Duration>,
        /// SUBSCRIBE, FETCH of presence: how the asker stands.
        7 state: Option<SubscriptionState>,
        /// PUBLISH, FETCH of an owner's state: its version, for the next change.
        8 number: Option<u64>,
        /// FETCH of presence: the version of the content.
        9 version: Option<Version>,
        /// FETCH: the content, encoded as the thing's section says.
        10 content: Option<Bytes>,
        /// MESSAGE: what became of it.
        11 outcome: Option<Outcome>,
        /// MESSAGE: when the server took it. PING: the server's time.
        12 time: Option<Timestamp>,
        /// FETCH of a list: there are more entries, behind this cursor.
        13 next: Option<Bytes>,
        /// Links, SUBSCRIBE: the group that the watcher is in from now on.
        14 group: Option<u64>,
        /// AUTH, with `resumed`: the layer that this session published has ended meanwhile.
        15 layer_ended: bool,
        /// SUBSCRIBE with `at_end`: where it starts.
        16 cursor: Option<Bytes>,
        /// Explain with `view`, to a delegate: the fields that are seen beside `content`, by name.
        17 names: Vec<String>,
        /// PUBLISH of contacts: the entry was removed since the version named; nothing was changed.
        20 dropped: bool,
    }
}

impl Done {
    /// An OK that says nothing else.
    pub fn empty() -> Done {
        Done {
            data: None,
            address: None,
            resume: None,
            window: None,
            resumed: false,
            lease: None,
            state: None,
            number: None,
            version: None,
            content: None,
            outcome: None,
            time: None,
            next: None,
            group: None,
            layer_ended: false,
            cursor: None,
            names: Vec::new(),
            dropped: false,
        }
    }
}
