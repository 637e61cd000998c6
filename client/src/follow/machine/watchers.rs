//! Who watches, where that is followed: what is held of it, and what a part or a change of it makes new.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::command::Notify;
use impp_protocol::state::{self, WatcherEntry, Watchers};

use super::{Event, Machine};
use crate::error::ClientError;

/// What is known of who watches.
#[derive(Debug, Default)]
pub(super) struct Watching {
    all: BTreeMap<Address, WatcherEntry>,
    /// All of it is being told: those of before who were not named yet.
    unnamed: Option<BTreeSet<Address>>,
}

/// Something new of who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherNews {
    /// Somebody stands so.
    Stands(Box<WatcherEntry>),
    /// Somebody is not listed any more.
    Gone(Address),
}

impl Watching {
    /// Takes a part of the list, or a change of it; what is new by that. On a new connection all of it
    /// comes again, and what is as it was is not told.
    fn take(&mut self, watchers: Watchers, is_first: bool) -> Vec<WatcherNews> {
        if is_first {
            self.unnamed = Some(self.all.keys().cloned().collect());
        }
        let mut news = Vec::new();
        for entry in watchers.entries {
            if let Some(unnamed) = &mut self.unnamed {
                unnamed.remove(&entry.watcher);
            }
            if self.all.insert(entry.watcher.clone(), entry.clone()).as_ref() != Some(&entry) {
                news.push(WatcherNews::Stands(Box::new(entry)));
            }
        }
        let unnamed = self.unnamed.take_if(|_| !watchers.more).into_iter().flatten();
        for who in unnamed.chain(watchers.gone) {
            if self.all.remove(&who).is_some() {
                news.push(WatcherNews::Gone(who));
            }
        }
        news
    }
}

impl Machine {
    pub(super) fn handle_watchers(&mut self, notify: Notify) -> Result<(), ClientError> {
        let Some(watching) = &mut self.watchers else { return Ok(()) };
        let (is_first, content) = (notify.snapshot.is_some(), notify.snapshot.or(notify.patch));
        let content: Bytes = content.unwrap_or_default();
        let watchers = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("watchers: {error}")))?;
        let news = watching.take(watchers, is_first);
        self.events.extend(news.into_iter().map(Event::Watcher));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::Timestamp;
    use impp_protocol::state::{SubscriptionEvent, SubscriptionState};

    fn entry(name: &str, state: SubscriptionState) -> WatcherEntry {
        WatcherEntry {
            watcher: Address::parse(&format!("{name}@a.example")).unwrap(),
            state,
            event: SubscriptionEvent::Subscribe,
            since: Some(Timestamp::from_millis(1)),
            proven: true,
            by: None,
            polite: false,
            looks: None,
            looked: None,
            sessions: None,
        }
    }

    fn part(entries: &[&WatcherEntry], more: bool) -> Watchers {
        let entries = entries.iter().copied().cloned().collect();
        Watchers { entries, more, gone: vec![], dropped: None, counts: vec![] }
    }

    /// Whatever parts all of it comes in, and however often, each news is told once.
    #[test]
    fn what_comes_again_is_not_told_again() {
        let mut watching = Watching::default();
        let (bob, eve) =
            (entry("bob", SubscriptionState::Active), entry("eve", SubscriptionState::Pending));
        let stands = |entry: &WatcherEntry| WatcherNews::Stands(Box::new(entry.clone()));
        assert_eq!(watching.take(part(&[&bob], true), true), [stands(&bob)]);
        assert_eq!(watching.take(part(&[&eve], false), false), [stands(&eve)]);
        // All of it again; bob was let go of meanwhile.
        assert_eq!(watching.take(part(&[], true), true), []);
        let gone = [WatcherNews::Gone(bob.watcher.clone())];
        assert_eq!(watching.take(part(&[&eve], false), false), gone);
        let change = Watchers { gone: vec![eve.watcher.clone()], ..part(&[&bob], false) };
        let both = [stands(&bob), WatcherNews::Gone(eve.watcher)];
        assert_eq!(watching.take(change, false), both);
    }
}
