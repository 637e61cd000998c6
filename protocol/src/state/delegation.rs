//! Delegation from both ends: who acts for the caller and for whom the caller acts (RFC 2779 2.3.4, 2.3.6).

use bytes::Bytes;

use crate::address::Address;
use crate::schema::fields;
use crate::time::Timestamp;

fields! {
    /// A right of a delegate's.
    pub struct DelegatedRight {
        /// As rules say it: `publish:activities`.
        1 right: String,
        /// When it ends; absent if never.
        2 until: Option<Timestamp>,
    }
}

fields! {
    /// Somebody who may act for somebody else.
    pub struct Delegation {
        /// For whom.
        1 owner: Address,
        /// Who.
        2 delegate: Address,
        /// What they may do now; at most 256 are named.
        3 rights: Vec<DelegatedRight>,
        /// What they say of the owner now: a presence document for each of their devices that says
        /// something.
        4 says: Vec<Bytes>,
    }
}

fields! {
    /// Those that the caller has to do with, on either end.
    pub struct Delegations {
        /// By owner and delegate.
        1 entries: Vec<Delegation>,
    }
}

fields! {
    /// What a delegate did for the caller by one right within an hour.
    pub struct Act {
        /// Who.
        1 delegate: Address,
        /// By which right: `publish`, `rules`, `watchers`, `inbox-read`, `send-as`.
        2 right: String,
        /// How often it asked for that, also where it was not done then.
        3 count: u64,
        /// When first.
        4 first: Timestamp,
        /// When last.
        5 last: Timestamp,
    }
}

fields! {
    /// What delegates did for the caller in the last 30 days.
    pub struct Acts {
        /// The oldest first.
        1 entries: Vec<Act>,
    }
}
