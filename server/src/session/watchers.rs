//! Both ends of subscriptions: who watches the caller, and what the caller follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_presence::{Answer, Change};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{
    self, Subscription, SubscriptionEdit, SubscriptionEvent, Subscriptions, WatcherEdit,
    WatcherEntry, Watchers,
};
use impp_protocol::{Address, Code, Error};

use super::{Session, lists};
use crate::answers::{Handled, Stored};
use crate::host::Host;
use crate::keeping::scan;
use crate::reach::Stands;
use crate::records::{self, FOLLOWED};

impl Session {
    pub(super) async fn fetch_watchers(&mut self, host: &Arc<Host>, fetch: Fetch) -> Handled {
        self.needs_presence()?;
        let mut entries: Vec<WatcherEntry> = host
            .principals
            .look(self.address(), |principal, _| {
                let watchers = principal.presentity.watchers();
                watchers
                    .map(|(watcher, watching)| WatcherEntry {
                        watcher: watcher.clone(),
                        state: watching.state,
                        event: watching.event,
                        since: watching.since,
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

    pub(super) async fn publish_watchers(&mut self, host: &Arc<Host>, publish: Publish) -> Handled {
        self.needs_presence()?;
        let edit: WatcherEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let event = SubscriptionEvent::Deactivated;
        if end_watching(host, self.address(), &edit.remove, event).await? {
            return Ok(Done::empty());
        }
        Err(Error::new(Code::NotFound, format!("{} does not watch you", edit.remove)))
    }

    pub(super) async fn fetch_subscriptions(&mut self, host: &Arc<Host>, fetch: Fetch) -> Handled {
        self.needs_presence()?;
        let mut presentities = BTreeSet::new();
        for (key, _) in scan(&*host.store, self.address(), FOLLOWED).await.stored()? {
            let text = records::last_part(&key).unwrap_or_default();
            presentities.extend(Address::parse_canonical(text));
        }
        for mailbox in host.sessions.of(self.address()) {
            presentities.extend(mailbox.follows());
        }
        let mut entries = Vec::new();
        for presentity in presentities {
            entries.extend(self.subscription(host, presentity).await?);
        }
        let key = |entry: &Subscription| lists::by_address(&entry.presentity);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), key);
        Ok(lists::answer(state::encode(&Subscriptions { entries }), next))
    }

    pub(super) async fn publish_subscriptions(
        &mut self,
        host: &Arc<Host>,
        publish: Publish,
    ) -> Handled {
        self.needs_presence()?;
        let edit: SubscriptionEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let presentity = edit.cancel;
        let event = SubscriptionEvent::Timeout;
        let ended = host.reach.end(&presentity, self.address(), event).await?;
        if ended {
            return Ok(Done::empty());
        }
        Err(Error::new(Code::NotFound, format!("you do not follow {presentity}")))
    }

    async fn subscription(
        &self,
        host: &Arc<Host>,
        presentity: Address,
    ) -> Result<Option<Subscription>, Error> {
        let found = host.reach.stands(&presentity, self.address()).await?;
        Ok(found.filter(|stands| stands.is_known).map(|stands| {
            let Stands { state, event, ends_in: expires_in, .. } = stands;
            Subscription { presentity, state, event, expires_in }
        }))
    }
}

/// Ends all subscriptions of a watcher; whether there were any.
async fn end_watching(
    host: &Arc<Host>,
    presentity: &Address,
    watcher: &Address,
    event: SubscriptionEvent,
) -> Result<bool, Error> {
    let end = Change::End(watcher.clone(), event);
    let ended = host.principals.change(presentity, end).await.stored()?;
    Ok(ended == Answer::Ended(true))
}
