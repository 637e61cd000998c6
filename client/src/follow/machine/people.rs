//! Those whose presence is followed: how each subscription stands, and what it shows.

use std::collections::BTreeSet;

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::command::{HeldVersion, Notify};
use impp_protocol::state::{self, Contact, Contacts, SubscriptionState};

use super::{Asked, Machine};
use crate::error::ClientError;
use crate::follow::held::keeps;
use crate::follow::{EndCause, Event, Held, Unfit};

/// Most bytes of what is said to be held, in one request,
const VERSIONS_BYTES_MAX: usize = 56 * 1024;
/// and what a version takes there beside its address.
const VERSION_BYTES: usize = 24;

/// One whose presence is followed.
#[derive(Default)]
pub(super) struct Person {
    /// None until [`Event::Subscribed`] has told it.
    pub(super) told: Option<Option<SubscriptionState>>,
    pub(super) held: Held,
    /// A snapshot was asked for; patches before it are of no use.
    pub(super) syncing: bool,
}

impl Machine {
    /// What is held of whom, as much of it as surely fits a frame; of the others all is told.
    pub(super) fn versions(&self) -> Vec<HeldVersion> {
        let held = self.people.iter().filter(|(_, person)| !person.syncing);
        let held = held.filter_map(|(address, person)| {
            let version = person.held.version()?;
            Some(HeldVersion { address: address.clone(), version })
        });
        let mut left = VERSIONS_BYTES_MAX;
        let fits = |held: &HeldVersion| {
            left = left.saturating_sub(held.address.as_str().len() + VERSION_BYTES);
            left > 0
        };
        held.take_while(fits).collect()
    }

    /// A subscription was taken; on a new connection it may stand otherwise than before.
    pub(super) fn handle_subscribed(&mut self, address: Address, state: SubscriptionState) {
        let Some(person) = self.people.get_mut(&address) else { return };
        let before = person.told.replace(Some(state));
        if !keeps(state) {
            person.held.clear();
        }
        match before {
            None => {
                let state = Some(state);
                self.events.push_back(Event::Subscribed { presentity: address, state });
            }
            // What an active one shows comes in a notification of its own, but where all is as it
            // was before the other domain could not be reached.
            Some(before)
                if before != Some(state)
                    && (state != SubscriptionState::Active || before.is_some_and(keeps)) =>
            {
                let content = person.held.content();
                self.events.push_back(Event::notified(address, state, None, content));
            }
            Some(_) => {}
        }
    }

    /// The contact list as it is now: who is new in it is followed, who is not any more is not.
    /// What a new connection has answered says how each subscription stands there. Of a list too long for
    /// one answer it says nothing of the rest.
    pub(super) fn handle_contacts(
        &mut self,
        content: Bytes,
        answered: bool,
        whole: bool,
    ) -> Result<(), ClientError> {
        let contacts: Contacts = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("contact list: {error}")))?;
        let followed = |contact: Contact| contact.follow.then_some(contact);
        let followed: Vec<Contact> = contacts.entries.into_iter().filter_map(followed).collect();
        let names: BTreeSet<&Address> = followed.iter().map(|contact| &contact.address).collect();
        let is_gone = |address: &&Address| whole && !names.contains(address);
        let gone: Vec<Address> = self.people.keys().filter(is_gone).cloned().collect();
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

    pub(super) fn handle_presence(&mut self, notify: Notify) -> Result<(), ClientError> {
        let address = notify.address.clone();
        if self.contacts {
            self.people.entry(address.clone()).or_default();
        }
        let Some(person) = self.people.get_mut(&address) else { return Ok(()) };
        let before = person.told.replace(Some(notify.state));
        if before.is_none() {
            let (presentity, state) = (address.clone(), Some(notify.state));
            self.events.push_back(Event::Subscribed { presentity, state });
        }
        match notify.state {
            state if keeps(state) => return self.handle_content(notify, before.flatten()),
            SubscriptionState::Terminated => {
                self.people.remove(&address);
                let cause = EndCause::Event(notify.event);
                self.events.push_back(Event::Ended { presentity: address, cause });
            }
            state => {
                person.held.clear();
                if before != Some(Some(state)) {
                    self.events.push_back(Event::notified(address, state, notify.event, None));
                }
            }
        }
        Ok(())
    }

    fn handle_content(
        &mut self,
        notify: Notify,
        before: Option<SubscriptionState>,
    ) -> Result<(), ClientError> {
        let Some(person) = self.people.get_mut(&notify.address) else { return Ok(()) };
        if person.syncing && notify.snapshot.is_none() {
            return Ok(());
        }
        let change = match person.held.handle(&notify) {
            Ok(change) => change,
            Err(Unfit::Base) => {
                self.ask_snapshot(&notify.address);
                return Ok(());
            }
            Err(error) => {
                let text = format!("presence of {}: {error}", notify.address);
                return Err(ClientError::Protocol(text));
            }
        };
        person.syncing &= notify.snapshot.is_none();
        let turned = before.is_some_and(|before| before != notify.state);
        if change.is_some() || turned {
            let content = person.held.content();
            self.events.push_back(Event::Notify {
                presentity: notify.address,
                state: notify.state,
                reason: notify.event,
                change,
                content,
            });
        }
        Ok(())
    }

    pub(super) fn ask_snapshot(&mut self, address: &Address) {
        if let Some(person) = self.people.get_mut(address) {
            person.syncing = true;
            self.ask(Asked::Presence(address.clone()));
        }
    }
}
