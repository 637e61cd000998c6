//! Both ends of subscriptions: who watches an owner, and what the owner follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_presence::{Answer, Change};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{
    self, Subscription, SubscriptionEdit, SubscriptionEvent, SubscriptionState, Subscriptions,
    WatcherEdit, WatcherEntry, Watchers,
};
use impp_protocol::{Address, Code, Error};
use impp_storage::Store;

use super::lists;
use crate::core::answers::{Handled, Stored};
use crate::core::clock::Clock;
use crate::core::keeping;
use crate::core::principals::Principals;
use crate::core::sessions::Sessions;
use crate::reach::{Reach, Stands};

/// See the module.
pub(super) struct BothEnds {
    pub principals: Arc<Principals>,
    pub reach: Arc<Reach>,
    pub sessions: Arc<Sessions>,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
}

impl BothEnds {
    pub(super) async fn fetch_watchers(
        &self,
        acting: &Acting<scope::Watchers>,
        fetch: Fetch,
    ) -> Handled {
        let mut entries: Vec<WatcherEntry> = self
            .principals
            .look(acting.owner(), |principal, _| {
                let watchers = principal.presentity.watchers();
                watchers
                    .map(|(watcher, watching)| WatcherEntry {
                        watcher: watcher.clone(),
                        state: watching.state,
                        event: watching.event,
                        since: self.clock.told(watching.since),
                        proven: true,
                    })
                    .collect()
            })
            .await
            .stored()?;
        let key = |entry: &WatcherEntry| lists::by_address(&entry.watcher);
        entries.sort_by_key(key);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), key);
        Ok(lists::answer(state::encode(&Watchers { entries }), next))
    }

    pub(super) async fn publish_watchers(
        &self,
        acting: &Acting<scope::Watchers>,
        publish: Publish,
    ) -> Handled {
        let edit: WatcherEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let event = SubscriptionEvent::Deactivated;
        let end = Change::End(edit.remove.clone(), event);
        let ended = self.principals.change(acting.owner(), end).await.stored()?;
        if ended == Answer::Ended(true) {
            return Ok(Done::empty());
        }
        Err(Error::new(Code::NotFound, format!("{} does not watch you", edit.remove)))
    }

    pub(super) async fn fetch_subscriptions(
        &self,
        acting: &Acting<scope::Contacts>,
        fetch: Fetch,
    ) -> Handled {
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

    pub(super) async fn publish_subscriptions(
        &self,
        acting: &Acting<scope::Contacts>,
        publish: Publish,
    ) -> Handled {
        let edit: SubscriptionEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let presentity = edit.cancel;
        let event = SubscriptionEvent::Timeout;
        let ended = self.reach.end(&presentity, acting.owner(), event).await?;
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
        // An end is seen before it is stored.
        let goes_on =
            |stands: &Stands| stands.is_known && stands.state != SubscriptionState::Terminated;
        Ok(found.filter(goes_on).map(|stands| {
            let Stands { state, event, ends_in: expires_in, .. } = stands;
            Subscription { presentity, state, event, expires_in }
        }))
    }
}
