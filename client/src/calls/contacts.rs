//! The contact list.

use impp_protocol::command::{Fetch, Publish};
use impp_protocol::state::{self, Contact, ContactChange, ContactEdit, Contacts, Following};
use impp_protocol::{Address, What};

use super::{LIST_PARTS_MAX, List, content};
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

    /// The same, and the number of the list, on which changes can be made.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn contacts_numbered(&self) -> Result<(Vec<Contact>, Option<u64>), ClientError> {
        let (mut all, mut cursor, mut number) = (Vec::new(), None, None);
        for _ in 0..LIST_PARTS_MAX {
            let own = Fetch::of(self.address().clone(), What::Contacts);
            let done = self.call_repeatable(Fetch { cursor, ..own }).await?;
            cursor = done.next.clone();
            // What was changed after the first part was read is changed since then.
            number = number.or(done.number);
            all.extend(content::<Contacts>(done, What::Contacts)?.entries);
            if cursor.is_none() {
                return Ok((all, number));
            }
        }
        Err(ClientError::Protocol("contacts: a list without an end".to_owned()))
    }

    /// Changes fields of an entry, each for itself; `base` is the number of the list that the change was made
    /// on. The list's number by it; none if the entry was removed since then, and nothing was changed.
    ///
    /// # Errors
    /// [`ClientError`]; conflict, if it may grant what was taken back since, or `base` is too old.
    pub async fn change_contact(
        &self,
        change: ContactChange,
        base: u64,
    ) -> Result<Option<u64>, ClientError> {
        // Done twice it comes to the same.
        let edit = self.contact_edit(&ContactEdit::change(change), Some(base));
        let done = self.call_repeatable(edit).await?;
        Ok((!done.dropped).then(|| done.number.unwrap_or(base)))
    }

    /// An edit of the list with the number that it is made on.
    pub(crate) fn contact_edit(&self, edit: &ContactEdit, base: Option<u64>) -> Publish {
        let content = Some(state::encode(edit));
        Publish { base, ..Publish::of(self.address().clone(), What::Contacts, content) }
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_contact(&self, contact: Contact) -> Result<(), ClientError> {
        let edit = ContactEdit::set(contact);
        self.edit_own(What::Contacts, &edit).await.map(drop)
    }

    /// Removes an entry. The list's number by it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_contact(&self, address: &Address) -> Result<Option<u64>, ClientError> {
        let edit = ContactEdit::remove(address.clone());
        self.edit_own(What::Contacts, &edit).await.map(|done| done.number)
    }
}

/// What makes an entry, or none, this one: the fields in which they differ. Whether it is followed is said
/// again, for where following has ended.
pub fn contact_change(before: Option<&Contact>, after: &Contact) -> ContactChange {
    let less = |of: &[String], than: &[String]| {
        of.iter().filter(|group| !than.contains(group)).cloned().collect::<Vec<_>>()
    };
    let groups = before.map_or(&[][..], |before| &before.groups);
    let is_other_name = before.is_none_or(|before| before.name != after.name);
    let is_other_grant = before.is_none_or(|before| before.grant != after.grant);
    ContactChange {
        address: after.address.clone(),
        name: is_other_name.then(|| after.name.clone().unwrap_or_default()),
        more_groups: less(&after.groups, groups),
        less_groups: less(groups, &after.groups),
        follow: Some(if after.follow { Following::Yes } else { Following::No }),
        // What is not known here is left as it is.
        grant: after.grant.known().filter(|_| is_other_grant),
        add: true,
    }
}
