//! What an owner follows, in its sessions and by what outlives them.
//!
//! Who follows the owner is left to `watchers`.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{
    self, Subscription, SubscriptionEdit, SubscriptionEvent, Subscriptions,
};
use impp_protocol::{Address, Code, Error};
use impp_storage::Store;

use super::lists;
use crate::core::answers::{Handled, Stored};
use crate::core::keeping;
use crate::core::sessions::Sessions;
use crate::reach::{End, Reach, Stands};

/// See the module.
pub(super) struct Subscribed {
    pub reach: Arc<Reach>,
    pub sessions: Arc<Sessions>,
    pub store: Arc<dyn Store>,
}

impl Subscribed {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Contacts>, fetch: Fetch) -> Handled {
        let followed = keeping::followed(&*self.store, acting.owner()).await.stored()?;
        let mut presentities = BTreeSet::from_iter(followed);
        for mailbox in self.sessions.of(acting.owner()) {
            presentities.extend(mailbox.follows());
        }
        let mut entries = Vec::new();
        for presentity in presentities {
            entries.extend(self.subscription(acting, presentity).await?);
        }
        let key = |entry: &Subscription| lists::by_address(&entry.presentity);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), key);
        Ok(lists::answer(state::encode(&Subscriptions { entries }), next))
    }

    pub(super) async fn publish(
        &self,
        acting: &Acting<scope::Contacts>,
        publish: Publish,
    ) -> Handled {
        let edit: SubscriptionEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let presentity = edit.cancel;
        let (watcher, event) = (acting.owner().clone(), SubscriptionEvent::Timeout);
        let end = End { watcher, event, with_account: false };
        let ended = self.reach.end(&presentity, end).await?;
        if ended {
            return Ok(Done::empty());
        }
        Err(Error::new(Code::NotFound, format!("you do not follow {presentity}")))
    }

    async fn subscription(
        &self,
        acting: &Acting<scope::Contacts>,
        presentity: Address,
    ) -> Result<Option<Subscription>, Error> {
        let found = self.reach.stands_in_list(&presentity, acting.owner()).await?;
        Ok(found.filter(Stands::goes_on).map(|stands| {
            let Stands { state, event, ends_in: expires_in, .. } = stands;
            Subscription { presentity, state, event, expires_in }
        }))
    }
}
