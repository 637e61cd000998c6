//! Who watches an owner, and how somebody stands with one.
//!
//! What an owner follows is left to `subscriptions`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{Acting, By, scope};
use impp_presence::{Answer, Change, Follows, News, Seen};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{
    self, Proof, SubscriptionEvent, SubscriptionState, WatcherCount, WatcherEdit, WatcherEntry,
    Watchers,
};
use impp_protocol::{Address, Code, Error, SessionId};

use super::lists;
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored};
use crate::core::clock::Clock;
use crate::core::principals::Principals;
use crate::reach::{Reach, Stands};

/// Changes of watchers in one NOTIFY, at most: with the longest addresses they fit.
const NEWS_MAX: usize = 128;

/// See the module.
pub(in crate::session) struct Watched {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
    pub reach: Arc<Reach>,
    pub clock: Clock,
}

impl Watched {
    /// Who watches: to the owner all of it; to a delegate those who follow, or did, and are not blocked
    /// politely, how many are, and how it stands itself.
    pub(super) async fn fetch(&self, acting: &Acting<scope::Watchers>, fetch: Fetch) -> Handled {
        if let By::Delegate(mandate) = acting.by() {
            return self.fetch_for(mandate.delegate(), acting, fetch.cursor.as_ref()).await;
        }
        let (watchers, next) = self.part(acting, fetch.cursor.as_ref()).await?;
        Ok(lists::answer(state::encode(&watchers), next))
    }

    /// How somebody stands with a presentity, and nothing else: it is what its subscription tells it, alike
    /// whether there is such an address, and whatever the owner sees.
    pub(super) async fn fetch_own_entry(
        &self,
        acting: &Acting<scope::Contacts>,
        fetch: Fetch,
    ) -> Handled {
        let own = self.own_entry(acting.owner(), &fetch.address).await?;
        Ok(lists::answer(state::encode(&own), None))
    }

    /// A part of the list, and behind which place there is more.
    pub(in crate::session) async fn part(
        &self,
        acting: &Acting<scope::Watchers>,
        after: Option<&Bytes>,
    ) -> Result<(Watchers, Option<Bytes>), Error> {
        let (seen, dropped) = self
            .principals
            .look(acting.owner(), |principal, now| {
                let presentity = &principal.presentity;
                (presentity.seen(now).collect::<Vec<_>>(), presentity.unseen())
            })
            .await
            .stored()?;
        let key = |entry: &WatcherEntry| lists::by_address(&entry.watcher);
        let mut entries: Vec<WatcherEntry> = seen.into_iter().map(|s| self.entry(s)).collect();
        entries.sort_by_key(key);
        let (entries, next) = lists::part(entries, after, key);
        Ok((Watchers { entries, dropped: told(dropped), ..nobody() }, next))
    }

    /// What has changed of it; nothing if all is to be told anew. What comes after that is asked for next.
    pub(in crate::session) async fn news(
        &self,
        acting: &Acting<scope::Watchers>,
        session: SessionId,
        after: Option<u64>,
    ) -> Result<(Option<Watchers>, u64), Error> {
        let look = self.principals.look(acting.owner(), |principal, now| {
            let presentity = &mut principal.presentity;
            (presentity.news(now, session, after, NEWS_MAX), presentity.unseen())
        });
        let (news, dropped) = look.await.stored()?;
        Ok(match news {
            News::Anew(upto) => (None, upto),
            News::Changed { entries, gone, upto, more } => {
                let entries = entries.into_iter().map(|seen| self.entry(seen)).collect();
                let dropped = told(dropped);
                (Some(Watchers { entries, gone, more, dropped, ..nobody() }), upto)
            }
        })
    }

    /// A session follows that no more.
    pub(in crate::session) async fn unfollow(
        &self,
        acting: &Acting<scope::Watchers>,
        session: SessionId,
    ) {
        let left = self.principals.look(acting.owner(), |principal, _| {
            principal.presentity.unfollow_watchers(session, Follows::Watchers);
        });
        if let Err(error) = left.await {
            tracing::warn!(%error, "that watchers are followed no more could not be noted");
        }
    }

    /// What a delegate is told. Of itself it is told what its own subscription tells it, whatever the owner
    /// makes of that.
    async fn fetch_for(
        &self,
        delegate: &Address,
        acting: &Acting<scope::Watchers>,
        after: Option<&Bytes>,
    ) -> Handled {
        let look = self.principals.look(acting.owner(), |principal, now| {
            principal.presentity.seen(now).filter(|seen| seen.who != *delegate).collect()
        });
        let seen: Vec<Seen> = look.await.stored()?;
        let (hidden, shown): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(|s| s.hidden);
        let mut counts: BTreeMap<u64, WatcherCount> = BTreeMap::new();
        let polite = hidden.into_iter().filter(|seen| seen.polite && after.is_none());
        for Seen { state, .. } in polite {
            let none = WatcherCount { state, count: 0 };
            counts.entry(state.number()).or_insert(none).count += 1;
        }
        let mut entries = self.own_entry(delegate, acting.owner()).await?.entries;
        entries.extend(shown.into_iter().map(|seen| self.entry(seen)));
        let key = |entry: &WatcherEntry| lists::by_address(&entry.watcher);
        entries.sort_by_key(key);
        let (entries, next) = lists::part(entries, after, key);
        let watchers = Watchers { entries, counts: counts.into_values().collect(), ..nobody() };
        Ok(lists::answer(state::encode(&watchers), next))
    }

    async fn own_entry(&self, watcher: &Address, presentity: &Address) -> Result<Watchers, Error> {
        let found = self.reach.stands_in_list(presentity, watcher).await?;
        let entry = found.filter(Stands::goes_on).map(|stands| WatcherEntry {
            state: stands.state,
            event: stands.event,
            ..self.named(watcher.clone())
        });
        Ok(Watchers { entries: entry.into_iter().collect(), ..nobody() })
    }

    fn entry(&self, seen: Seen) -> WatcherEntry {
        let Seen { who, state, event, since, polite, look, sessions, .. } = seen;
        WatcherEntry {
            state,
            event,
            since: Some(self.clock.told(since)),
            polite,
            looks: look.map(|look| look.count),
            looked: look.map(|look| self.clock.told(look.last)),
            sessions: sessions.map(|sessions| sessions as u64),
            ..self.named(who)
        }
    }

    /// Somebody, and how they have proven who they are, if they have.
    fn named(&self, watcher: Address) -> WatcherEntry {
        let by = match self.accounts.is_local(&watcher) {
            _ if watcher.is_anonymous() => None,
            true => Some(Proof::SignIn.into()),
            false => Some(Proof::Domain.into()),
        };
        WatcherEntry {
            watcher,
            state: SubscriptionState::Terminated,
            event: SubscriptionEvent::Timeout,
            since: None,
            proven: by.is_some(),
            by,
            polite: false,
            looks: None,
            looked: None,
            sessions: None,
        }
    }

    pub(super) async fn publish(
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
}

fn nobody() -> Watchers {
    let (entries, gone, counts) = Default::default();
    Watchers { entries, gone, more: false, dropped: None, counts }
}

fn told(dropped: u64) -> Option<u64> {
    (dropped > 0).then_some(dropped)
}
