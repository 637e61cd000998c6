//! The contact list: whom I follow, and what I grant them.

use crate::address::Address;
use crate::field::OrLater;
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
        5 grant: OrLater<Grant>,
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
        /// Fields of an entry to change.
        3 change: Option<ContactChange>,
    }
}

numbers! {
    /// What a change of an entry says of whether its owner follows them.
    pub enum Following {
        /// The owner wants to see their presence.
        Yes = 1, "yes";
        /// The owner does not.
        No = 2, "no";
    }
}

fields! {
    /// A change of fields of one entry; what is not there stays as it is.
    pub struct ContactChange {
        /// Whose entry.
        1 address: Address,
        /// What its owner calls them; empty for nothing.
        2 name: Option<String>,
        /// Groups that it is in from now on.
        3 more_groups: Vec<String>,
        /// Groups that it is in no more.
        4 less_groups: Vec<String>,
        /// Whether the owner wants to see their presence.
        5 follow: Option<Following>,
        /// What they may see of the owner's.
        6 grant: Option<Grant>,
        /// If there is no such entry, it is added.
        7 add: bool,
    }
}

impl ContactEdit {
    /// Adds or replaces an entry.
    pub fn set(contact: Contact) -> ContactEdit {
        ContactEdit { set: Some(contact), remove: None, change: None }
    }

    /// Removes an entry.
    pub fn remove(address: Address) -> ContactEdit {
        ContactEdit { set: None, remove: Some(address), change: None }
    }

    /// Changes fields of an entry.
    pub fn change(change: ContactChange) -> ContactEdit {
        ContactEdit { set: None, remove: None, change: Some(change) }
    }
}

impl ContactChange {
    /// Of which nothing is said yet.
    pub fn of(address: Address) -> ContactChange {
        let (name, follow, grant) = (None, None, None);
        let (more_groups, less_groups) = (Vec::new(), Vec::new());
        ContactChange { address, name, more_groups, less_groups, follow, grant, add: false }
    }
}
