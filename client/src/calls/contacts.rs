//! The contact list.

use impp_protocol::state::{Contact, ContactEdit, Contacts};
use impp_protocol::{Address, What};

use super::List;
use crate::client::Client;
use crate::error::ClientError;

impl List for Contacts {
    type Entry = Contact;

    fn entries(self) -> Vec<Contact> {
        self.entries
    }
}

impl Client {
    /// The contact list, by address.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn contacts(&self) -> Result<Vec<Contact>, ClientError> {
        self.fetch_list::<Contacts>(What::Contacts).await
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_contact(&self, contact: Contact) -> Result<(), ClientError> {
        let edit = ContactEdit { set: Some(contact), remove: None };
        self.edit_own(What::Contacts, &edit).await.map(drop)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_contact(&self, address: &Address) -> Result<(), ClientError> {
        let edit = ContactEdit { set: None, remove: Some(address.clone()) };
        self.edit_own(What::Contacts, &edit).await.map(drop)
    }
}
