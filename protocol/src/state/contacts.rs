//! The contact list: whom I follow, and what I grant them.

use crate::address::Address;
use crate::schema::{fields, numbers};
use crate::state::SubscriptionState;

/// Most groups of an entry; each, and its name, at most 255 bytes.
pub const CONTACT_GROUPS_MAX: usize = 16;

numbers! {
    /// What an entry of the contact list grants to the person in it.
    pub enum Grant {
        /// Nothing.
        None = 1, "none";
        /// The status alone.
        Status = 2, "status";
        /// Everything.
        All = 3, "all";
    }
}

fields! {
    /// An entry of the contact list.
    pub struct Contact {
        /// Who.
        1 address: Address,
        /// What its owner calls them.
        2 name: Option<String>,
        /// Groups of the owner's that it is in; the server sorts them, and has each once.
        3 groups: Vec<String>,
        /// Whether the owner wants to see their presence.
        4 follow: bool,
        /// What they may see of the owner's.
        5 grant: Grant,
        /// FETCH: how the owner's subscription to them stands.
        6 subscription: Option<SubscriptionState>,
    }
}

fields! {
    /// The contact list.
    pub struct Contacts {
        /// Its entries, by address.
        1 entries: Vec<Contact>,
    }
}

fields! {
    /// A change of the contact list: of one entry.
    pub struct ContactEdit {
        /// The entry to add or replace.
        1 set: Option<Contact>,
        /// The entry to remove.
        2 remove: Option<Address>,
    }
}
