//! What waits for a decision, where that is followed.

use std::collections::BTreeMap;

use impp_protocol::Address;
use impp_protocol::command::Notify;
use impp_protocol::state::{self, RequestEntry, RequestKind, Requests};

use super::{Event, Machine};
use crate::error::ClientError;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    all: BTreeMap<(Address, u64), RequestEntry>,
    /// All of it is being told: what has come so far.
    coming: Vec<RequestEntry>,
}

/// Something new of what waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestNews {
    /// Somebody asks, or asks for more.
    Asks(RequestEntry),
    /// This does not wait any more: it is decided, or given up.
    Settled(RequestKind, Address),
}

impl Waiting {
    /// Takes a part of it; what is new, once all has come.
    fn take(&mut self, requests: Requests, is_first: bool) -> Vec<RequestNews> {
        if is_first {
            self.coming.clear();
        }
        self.coming.extend(requests.entries);
        if requests.more {
            return Vec::new();
        }
        let key = |entry: &RequestEntry| (entry.from.clone(), entry.kind.number());
        let mut before = std::mem::take(&mut self.all);
        let mut news = Vec::new();
        for entry in std::mem::take(&mut self.coming) {
            if before.remove(&key(&entry)).as_ref() != Some(&entry) {
                news.push(RequestNews::Asks(entry.clone()));
            }
            self.all.insert(key(&entry), entry);
        }
        news.extend(before.into_values().map(|gone| RequestNews::Settled(gone.kind, gone.from)));
        news
    }
}

impl Machine {
    pub(super) fn handle_requests(&mut self, notify: Notify) -> Result<(), ClientError> {
        let Some(waiting) = &mut self.requests_wanted else { return Ok(()) };
        let (is_first, content) = (notify.snapshot.is_some(), notify.snapshot.or(notify.patch));
        let requests = state::decode(content.unwrap_or_default())
            .map_err(|error| ClientError::Protocol(format!("requests: {error}")))?;
        let news = waiting.take(requests, is_first);
        self.events.extend(news.into_iter().map(Event::Request));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::Timestamp;

    #[test]
    fn what_comes_again_is_not_told_again_and_what_is_decided_is() {
        let (mut waiting, kind) = (Waiting::default(), RequestKind::Message);
        let asks = |name: &str, count| {
            let from = Address::parse(&format!("{name}@a.example")).unwrap();
            RequestEntry { kind, from, since: Timestamp::from_millis(1), count: Some(count) }
        };
        let part = |entries: &[RequestEntry], more| Requests {
            entries: entries.to_vec(),
            more,
            messages: vec![],
        };
        let (bob, eve) = (asks("bob", 1), asks("eve", 1));
        assert_eq!(waiting.take(part(std::slice::from_ref(&bob), true), true), []);
        let both = [&bob, &eve].map(|entry| RequestNews::Asks(entry.clone()));
        assert_eq!(waiting.take(part(std::slice::from_ref(&eve), false), false), both);
        assert_eq!(waiting.take(part(&[bob.clone(), eve.clone()], false), true), []);
        let more = asks("eve", 2);
        let news = [RequestNews::Asks(more.clone()), RequestNews::Settled(kind, bob.from)];
        assert_eq!(waiting.take(part(&[more], false), true), news);
    }
}
