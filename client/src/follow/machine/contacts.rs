//! The contact list, where everybody in it is followed.

use std::collections::BTreeSet;

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::state::{self, Contact, Contacts, SubscriptionState};

use super::{EndCause, Event, Machine};
use crate::error::ClientError;

impl Machine {
    /// The contact list as it is now: who is new in it is followed, who is not any more is not.
    /// What a new connection has answered says how each subscription stands there.
    pub(super) fn handle_contacts(
        &mut self,
        content: Bytes,
        answered: bool,
    ) -> Result<(), ClientError> {
        let contacts: Contacts = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("contact list: {error}")))?;
        let followed = |contact: Contact| contact.follow.then_some(contact);
        let followed: Vec<Contact> = contacts.entries.into_iter().filter_map(followed).collect();
        let names: BTreeSet<&Address> = followed.iter().map(|contact| &contact.address).collect();
        let gone: Vec<Address> =
            self.people.keys().filter(|address| !names.contains(address)).cloned().collect();
        for presentity in gone {
            self.people.remove(&presentity);
            self.events.push_back(Event::Ended { presentity, cause: EndCause::Event(None) });
        }
        for contact in followed {
            let person = self.people.entry(contact.address.clone()).or_default();
            let (presentity, state) = (contact.address, contact.subscription);
            match (person.told, state) {
                (None, _) => {
                    person.told = Some(state);
                    self.events.push_back(Event::Subscribed { presentity, state });
                }
                _ if !answered => {}
                (_, Some(state)) if state != SubscriptionState::Terminated => {
                    self.handle_subscribed(presentity, state);
                }
                // There is no subscription any more, and nothing of it is shown.
                (Some(Some(SubscriptionState::Terminated) | None), _) => person.held.clear(),
                (Some(Some(_)), _) => {
                    self.people.remove(&presentity);
                    let cause = EndCause::Event(None);
                    self.events.push_back(Event::Ended { presentity, cause });
                }
            }
        }
        Ok(())
    }
}
