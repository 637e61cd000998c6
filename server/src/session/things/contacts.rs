//! An owner's contact list: whom it follows, and what it grants them.

use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_presence::{
    Amended, Amendment, Amends, Answer, Bond, Change, Contact as Entry, Fields, Keeper, Labels,
};
use impp_protocol::command::{Done, Fetch, LABEL_BYTES_MAX, Publish};
use impp_protocol::state::{
    self, CONTACT_GROUPS_MAX, Contact, ContactChange, ContactEdit, Contacts, Following,
    SubscriptionState,
};
use impp_protocol::{Address, Code, Error, Service};

use super::presence::no_longer;
use super::{lists, offered};
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored, after_others};
use crate::core::principals::Principals;
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;
use crate::core::steps::Steps;
use crate::reach::{Follow, Reach, Release};

/// See the module.
#[derive(Debug)]
pub(in crate::session) struct ContactList {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
    pub reach: Arc<Reach>,
    pub sessions: Arc<Sessions>,
    pub settings: Arc<Settings>,
}

impl ContactList {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Contacts>, fetch: Fetch) -> Handled {
        // First: what is changed meanwhile is changed since this number.
        let number = self.number(acting).await?;
        let entries = self.entries(acting).await?;
        let key = |contact: &Contact| lists::by_address(&contact.address);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), key);
        let part = lists::answer(state::encode(&Contacts { entries }), next);
        Ok(Done { number: Some(number), ..part })
    }

    pub(super) async fn publish(
        &self,
        acting: &Acting<scope::Contacts>,
        publish: Publish,
    ) -> Handled {
        let edit: ContactEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let (address, amends) = match (edit.set, edit.remove, edit.change) {
            (Some(contact), None, None) => self.replacing(contact)?,
            (None, Some(address), None) => (address, Amends::Remove),
            (None, None, Some(change)) => self.changing(change)?,
            _ => {
                let text = "content: expected one of set, remove and change";
                return Err(Error::new(Code::Malformed, text));
            }
        };
        self.amend(acting, Amendment { address, base: publish.base, amends }).await
    }

    /// The number of the list as it is now.
    pub(in crate::session) async fn number(
        &self,
        acting: &Acting<scope::Contacts>,
    ) -> Result<u64, Error> {
        let look = self
            .principals
            .look(acting.owner(), |principal, _| principal.presentity.policy().history.number());
        look.await.stored()
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
            let grant = grant.into();
            entries.push(Contact { address, name, groups, follow, grant, subscription });
        }
        Ok(entries)
    }

    /// An entry takes the place of whatever there was.
    fn replacing(&self, contact: Contact) -> Result<(Address, Amends), Error> {
        let Contact { address, name, groups, follow, grant, .. } = contact;
        fits(name.iter().chain(&groups), &groups)?;
        let add = Some(self.settings.load().limits.contacts_max as usize);
        let (name, groups) = (Some(name), Labels::Are(groups));
        let Some(grant) = grant.known() else {
            let text = format!("content: grant: there is none of number {grant}");
            return Err(Error::new(Code::Malformed, text));
        };
        let (follow, grant) = (Some(follow), Some(grant));
        Ok((address, Amends::Set(Fields { add, name, groups, follow, grant })))
    }

    /// Fields of an entry are set, each for itself.
    fn changing(&self, change: ContactChange) -> Result<(Address, Amends), Error> {
        let ContactChange { address, name, more_groups: more, less_groups: less, .. } = change;
        fits(name.iter().chain(&more).chain(&less), &more)?;
        let most = self.settings.load().limits.contacts_max as usize;
        let groups = match more.is_empty() && less.is_empty() {
            true => Labels::Kept,
            false => Labels::Some { more, less },
        };
        let fields = Fields {
            add: change.add.then_some(most),
            name: name.map(|name| (!name.is_empty()).then_some(name)),
            groups,
            follow: change.follow.map(|follow| follow == Following::Yes),
            grant: change.grant,
        };
        Ok((address, Amends::Set(fields)))
    }

    async fn amend(&self, acting: &Acting<scope::Contacts>, amendment: Amendment) -> Handled {
        let (owner, address) = (acting.owner().clone(), amendment.address.clone());
        if address == owner {
            return Err(Error::new(Code::Refused, "you are no contact of your own"));
        }
        let (removes, follow) = match &amendment.amends {
            Amends::Remove => (true, Some(false)),
            Amends::Set(fields) => (false, fields.follow),
        };
        let mut _place = None;
        if follow == Some(true) {
            let account = self.accounts.get(&owner).ok_or_else(no_longer)?;
            offered(&account, Service::Presence)?;
            // Said before the entry is there, which stays whatever becomes of the following.
            _place = self.reach.admit(&owner, &address)?;
        }
        let changed = self.principals.change(&owner, Change::Amend(amendment)).await.stored()?;
        let number = match changed {
            Answer::Amended(Amended::Missing) if removes => {
                // Removed before; that may have been broken off before the following had ended.
                self.settle(&owner, &address).await?;
                self.amended(Amended::Missing, &address)?
            }
            Answer::Amended(amended) => self.amended(amended, &address)?,
            _ => return Err(Error::new(Code::Internal, "a contact list was not amended")),
        };
        let Some(number) = number else { return Ok(Done { dropped: true, ..Done::empty() }) };
        let settled = match follow {
            Some(_) => self.settle(&owner, &address).await,
            None => Ok(None),
        };
        // The entry is changed, whatever became of the following.
        self.changed(acting);
        Ok(Done { state: settled?, number: Some(number), ..Done::empty() })
    }

    /// What the contact list keeps of a subscription becomes as the list says in the end: an edit of another
    /// device may come while this one's follows or lets go. Each turn but the first is that of an edit which
    /// was stored meanwhile.
    async fn settle(
        &self,
        owner: &Address,
        address: &Address,
    ) -> Result<Option<SubscriptionState>, Error> {
        let mut wanted = self.wants(owner, address).await?;
        loop {
            let state = match wanted {
                true => {
                    // A refusal ends the subscription, not the entry.
                    let (watcher, bond) = (owner.clone(), Bond::Contact);
                    let follow = Follow { watcher, bond, listener: None, wait: false };
                    let config = self.settings.load_full();
                    let follows = self.reach.follow(address, follow, &config).await;
                    Some(follows.map_or(SubscriptionState::Terminated, |follows| follows.state))
                }
                false => {
                    self.let_go(owner, address).await?;
                    None
                }
            };
            let before = std::mem::replace(&mut wanted, self.wants(owner, address).await?);
            if wanted == before {
                return Ok(state);
            }
        }
    }

    /// Whether the list says now that somebody is followed.
    async fn wants(&self, owner: &Address, address: &Address) -> Result<bool, Error> {
        let look = self.principals.look(owner, |principal, _| {
            let contacts = &principal.presentity.policy().contacts;
            contacts.get(address).is_some_and(|entry| entry.follow)
        });
        look.await.stored().map_err(after_others)
    }

    /// The list's number after an amendment; none if that was dropped.
    fn amended(&self, amended: Amended, address: &Address) -> Result<Option<u64>, Error> {
        let error = |code, text: String| Err(Error::new(code, text));
        match amended {
            Amended::Done(number) => Ok(Some(number)),
            Amended::Dropped => Ok(None),
            Amended::Conflict => {
                let text = "the contact list was changed since; read it and make the change again";
                error(Code::Conflict, text.to_owned())
            }
            Amended::Missing => error(Code::NotFound, format!("{address} is no contact")),
            Amended::Full => {
                let limit = self.settings.load().limits.contacts_max;
                error(Code::Full, format!("the contact list holds {limit} entries"))
            }
            Amended::Crowded => error(Code::TooLarge, too_long()),
        }
    }

    /// The contact list does not keep a subscription any more.
    async fn let_go(&self, owner: &Address, presentity: &Address) -> Result<(), Error> {
        let (watcher, keepers) = (owner.clone(), vec![Keeper::Contact]);
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

/// Names and groups that are said, and the groups among them that an entry comes into.
fn fits<'a>(mut said: impl Iterator<Item = &'a String>, groups: &[String]) -> Result<(), Error> {
    let is_long = |text: &String| text.len() > LABEL_BYTES_MAX;
    if said.any(is_long) || groups.len() > CONTACT_GROUPS_MAX {
        return Err(Error::new(Code::TooLarge, too_long()));
    }
    if groups.iter().any(String::is_empty) {
        return Err(Error::new(Code::Malformed, "groups: one of them has no name"));
    }
    Ok(())
}

fn too_long() -> String {
    format!(
        "a name or group has at most {LABEL_BYTES_MAX} bytes, an entry {CONTACT_GROUPS_MAX} groups"
    )
}

#[cfg(test)]
mod tests;
