//! An owner's contact list: whom it follows, and what it grants them.

use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_presence::{Bond, Change, Contact as Entry, Keeper};
use impp_protocol::command::{Done, Fetch, LABEL_BYTES_MAX, Publish};
use impp_protocol::state::{
    self, CONTACT_GROUPS_MAX, Contact, ContactEdit, Contacts, SubscriptionState,
};
use impp_protocol::{Address, Code, Error, Service};

use super::{Client, lists, offered};
use crate::core::answers::{Handled, Stored, after_others};
use crate::core::principals::{Principal, Principals};
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;
use crate::core::steps::Steps;
use crate::reach::{Follow, Reach, Release};

/// See the module.
#[derive(Debug)]
pub(in crate::session) struct ContactList {
    pub principals: Arc<Principals>,
    pub reach: Arc<Reach>,
    pub sessions: Arc<Sessions>,
    pub settings: Arc<Settings>,
}

impl ContactList {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Contacts>, fetch: Fetch) -> Handled {
        let entries = self.entries(acting).await?;
        let key = |contact: &Contact| lists::by_address(&contact.address);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), key);
        Ok(lists::answer(state::encode(&Contacts { entries }), next))
    }

    pub(super) async fn publish(
        &self,
        acting: &Acting<scope::Contacts>,
        client: &Client,
        publish: Publish,
    ) -> Handled {
        let edit: ContactEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        match (edit.set, edit.remove) {
            (Some(contact), None) => self.set(acting, client, contact).await,
            (None, Some(address)) => self.remove(acting, &address).await,
            _ => Err(Error::new(Code::Malformed, "content: expected set or remove, and only one")),
        }
    }

    /// The contact list, and how each subscription stands.
    pub(in crate::session) async fn entries(
        &self,
        acting: &Acting<scope::Contacts>,
    ) -> Result<Vec<Contact>, Error> {
        let contacts = self
            .principals
            .look(acting.owner(), |principal, _| principal.presentity.policy().contacts.clone())
            .await
            .stored()?;
        let (mut entries, mut steps) = (Vec::new(), Steps::default());
        for (address, entry) in &*contacts {
            steps.taken().await;
            let stands = self.reach.stands_in_list(address, acting.owner()).await?;
            let subscription = stands.map(|stands| stands.state);
            let Entry { name, groups, follow, grant } = entry.clone();
            let address = address.clone();
            entries.push(Contact { address, name, groups, follow, grant, subscription });
        }
        Ok(entries)
    }

    async fn set(
        &self,
        acting: &Acting<scope::Contacts>,
        client: &Client,
        contact: Contact,
    ) -> Handled {
        check(&contact)?;
        let limit = self.settings.load().limits.contacts_max as usize;
        let owner = acting.owner().clone();
        if contact.address == owner {
            return Err(Error::new(Code::Refused, "you are no contact of your own"));
        }
        let mut _place = None;
        if contact.follow {
            offered(&client.account, Service::Presence)?;
            // Said before the entry is there, which stays whatever becomes of the following.
            _place = self.reach.admit(&owner, &contact.address)?;
        }
        let (address, follow) = (contact.address, contact.follow);
        let (name, mut groups, grant) = (contact.name, contact.groups, contact.grant);
        groups.sort();
        groups.dedup();
        let entry = Entry { name, groups, follow, grant };
        let put = Change::PutContact(address.clone(), Some(entry));
        let fits = |principal: &mut Principal| {
            let contacts = &principal.presentity.policy().contacts;
            match contacts.len() < limit || contacts.contains_key(&address) {
                true => Ok(()),
                false => {
                    let text = format!("the contact list holds {limit} entries");
                    Err(Error::new(Code::Full, text))
                }
            }
        };
        self.principals.change_if(&owner, put, fits).await.stored()??;
        let state = if follow {
            // A refusal ends the subscription, not the entry.
            let (watcher, bond) = (owner.clone(), Bond::Contact);
            let follow = Follow { watcher, bond, listener: None, wait: false };
            let follows = self.reach.follow(&address, follow).await;
            follows.map_or(SubscriptionState::Terminated, |follows| follows.state)
        } else {
            self.let_go(acting, &address).await?;
            SubscriptionState::Terminated
        };
        self.changed(acting);
        Ok(Done { state: follow.then_some(state), ..Done::empty() })
    }

    async fn remove(&self, acting: &Acting<scope::Contacts>, address: &Address) -> Handled {
        let known = |principal: &mut Principal| match principal
            .presentity
            .policy()
            .contacts
            .contains_key(address)
        {
            true => Ok(()),
            false => Err(Error::new(Code::NotFound, format!("{address} is no contact"))),
        };
        let take = Change::PutContact(address.clone(), None);
        self.principals.change_if(acting.owner(), take, known).await.stored()??;
        self.let_go(acting, address).await?;
        self.changed(acting);
        Ok(Done::empty())
    }

    /// The contact list does not keep a subscription any more.
    async fn let_go(
        &self,
        acting: &Acting<scope::Contacts>,
        presentity: &Address,
    ) -> Result<(), Error> {
        let (watcher, keepers) = (acting.owner().clone(), vec![Keeper::Contact]);
        let release = Release { watcher, keepers, listener: None };
        // The entry is changed already.
        self.reach.release(presentity, release).await.map_err(after_others)
    }

    fn changed(&self, acting: &Acting<scope::Contacts>) {
        for mailbox in self.sessions.of(acting.owner()) {
            mailbox.contacts_changed();
        }
    }
}

fn check(contact: &Contact) -> Result<(), Error> {
    let long = |text: &String| text.len() > LABEL_BYTES_MAX;
    if contact.name.as_ref().is_some_and(long)
        || contact.groups.iter().any(long)
        || contact.groups.len() > CONTACT_GROUPS_MAX
    {
        let text = format!(
            "a name or group has at most {LABEL_BYTES_MAX} bytes, an entry {CONTACT_GROUPS_MAX} groups"
        );
        return Err(Error::new(Code::TooLarge, text));
    }
    if contact.groups.iter().any(String::is_empty) {
        return Err(Error::new(Code::Malformed, "groups: one of them has no name"));
    }
    Ok(())
}
