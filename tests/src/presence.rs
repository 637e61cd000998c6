//! Presence as plays write and read it: documents in few words, what a watcher holds, fences.
//!
//! Requests in general are left to `peer`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Fetch, Notify, Publish, Subscribe};
use impp_protocol::presence::canonical_value;
use impp_protocol::presence::{Document, FieldName, Fields, PartId, Patch, Version};
use impp_protocol::state::{
    self, Subscription, SubscriptionEvent, SubscriptionState, Subscriptions, WatcherEntry, Watchers,
};
use impp_protocol::{Command, What};

use crate::peer::{Answer, Peer, fetch, publish, subscribe};
use crate::server::{Server, Start};

/// Names and values of fields.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A server whose presentities are shown changing at once, however often: what does not come is
/// not merely late. Nor does it wait for owners who have not returned after the start.
pub fn at_once() -> Start {
    Server::with().set("times.pace_burst", 1_000_000).set("times.recovery_seconds", 0)
}

/// Fields in their canonical form.
pub fn fields(pairs: Pairs<'_>) -> Fields {
    let field = |(name, value): &(&str, &str)| {
        let name = FieldName::parse(name).expect("a field's name");
        let value = canonical_value(&name, value).expect("a field's value");
        (name, value)
    };
    pairs.iter().map(field).collect()
}

/// A document of the person's fields and tuples.
pub fn document(person: Pairs<'_>, tuples: &[(&str, Pairs<'_>)]) -> Document {
    let tuple = |(id, pairs): &(&str, Pairs<'_>)| (part(id), fields(pairs));
    Document {
        person: fields(person),
        tuples: tuples.iter().map(tuple).collect(),
        ..Document::default()
    }
}

/// One tuple, open, and a note of the person's.
pub fn open(note: &str) -> Document {
    document(&[("note", note)], &[("im", &[("status", "open")])])
}

/// The id of a tuple.
pub fn part(id: &str) -> PartId {
    PartId::parse(id).expect("a tuple's id")
}

/// What PUBLISH says to make a whole layer.
pub fn layer(document: &Document) -> Bytes {
    Patch::between(&Document::default(), document).encode()
}

/// A value of the person's.
pub fn person<'a>(document: &'a Document, name: &str) -> Option<&'a str> {
    document.person.get(name).map(|value: &Arc<str>| &**value)
}

impl Peer {
    /// Publishes the whole layer of this device, bound to the session.
    pub async fn show(&mut self, document: &Document) -> Done {
        let own = self.address.clone();
        let publish = publish(own.as_str(), What::Presence, Some(layer(document)));
        self.done(Publish { replace: true, ..publish }).await
    }

    /// Publishes the whole layer of this device for so many seconds.
    pub async fn show_for(&mut self, document: &Document, seconds: u64) -> Answer {
        let own = self.address.clone();
        let publish = publish(own.as_str(), What::Presence, Some(layer(document)));
        let lease = Some(Duration::from_secs(seconds));
        self.request(Publish { replace: true, lease, ..publish }).await
    }

    /// Ends the layer of this device.
    pub async fn hide(&mut self) {
        let own = self.address.clone();
        let publish = publish(own.as_str(), What::Presence, None);
        self.done(Publish { lease: Some(Duration::ZERO), ..publish }).await;
    }

    /// Looks once at somebody who has to be visible.
    pub async fn look(&mut self, address: &str) -> Document {
        let done = self.done(fetch(address, What::Presence)).await;
        Document::decode(done.content.expect("a document")).expect("a document")
    }

    /// Follows somebody for as long as the session lives.
    pub async fn follow(&mut self, address: &str) -> Done {
        self.done(subscribe(address, What::Presence)).await
    }

    /// Follows somebody for so many seconds.
    pub async fn follow_for(&mut self, address: &str, seconds: u64) -> Answer {
        let lease = Some(Duration::from_secs(seconds));
        self.request(Subscribe { lease, ..subscribe(address, What::Presence) }).await
    }

    /// Who watches the caller, without those who have only looked.
    pub async fn watchers(&mut self) -> Vec<WatcherEntry> {
        let mut entries = self.watchers_and_lookers().await;
        let has_ended = |entry: &WatcherEntry| entry.state == SubscriptionState::Terminated;
        entries.retain(|entry| entry.looks.is_none() || !has_ended(entry));
        entries
    }

    /// All of the list, in as many answers as it takes.
    pub async fn watchers_and_lookers(&mut self) -> Vec<WatcherEntry> {
        let (mut entries, mut cursor) = (Vec::new(), None);
        loop {
            let fetch = fetch(self.address.clone().as_str(), What::Watchers);
            let done = self.done(Fetch { cursor, ..fetch }).await;
            let content = done.content.expect("watchers");
            entries.extend(state::decode::<Watchers>(content).expect("watchers").entries);
            cursor = done.next;
            if cursor.is_none() {
                return entries;
            }
        }
    }

    /// Whom the caller follows.
    pub async fn subscriptions(&mut self) -> Vec<Subscription> {
        let fetch = fetch(self.address.clone().as_str(), What::Subscriptions);
        let content = self.done(fetch).await.content.expect("subscriptions");
        state::decode::<Subscriptions>(content).expect("subscriptions").entries
    }

    /// All that has come unasked once everything done before has taken effect here.
    ///
    /// The answer to a PING may overtake what was written in the same turn as it was read; after
    /// the second one nothing of before is left.
    pub async fn fence(&mut self) -> Vec<Command> {
        let mut come = self.so_far().await;
        come.extend(self.so_far().await);
        come
    }

    /// The notifications of presence among them.
    pub async fn fenced(&mut self) -> Vec<Notify> {
        self.fence().await.into_iter().filter_map(presence).collect()
    }
}

fn presence(command: Command) -> Option<Notify> {
    match command {
        Command::Notify(notify) if notify.what == What::Presence => Some(notify),
        _ => None,
    }
}

/// What a watcher holds of one presentity, made of nothing but the NOTIFYs that came.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// How the subscription stands.
    pub state: Option<SubscriptionState>,
    /// Why, as the last one that told it said.
    pub event: Option<SubscriptionEvent>,
    /// What is seen; none while it is not active.
    pub content: Option<(Version, Document)>,
    /// How many NOTIFYs came.
    pub count: usize,
}

impl Held {
    /// Takes a NOTIFY.
    ///
    /// # Panics
    /// If it does not fit to what is held, or its version is not that of its content.
    pub fn take(&mut self, notify: &Notify) {
        self.count += 1;
        self.state = Some(notify.state);
        self.event = notify.event.or(self.event);
        // What may be old is still held.
        let held = [SubscriptionState::Active, SubscriptionState::Stale].contains(&notify.state);
        if !held {
            assert!(notify.version.is_none(), "content without an active subscription: {notify:?}");
            self.content = None;
        }
        let document = match (notify.snapshot.clone(), notify.patch.clone()) {
            (Some(_), Some(_)) => panic!("a snapshot and a patch: {notify:?}"),
            (Some(snapshot), None) => Document::decode(snapshot).expect("a document"),
            (None, Some(patch)) => {
                let (version, document) = self.content.as_ref().expect("something to patch");
                assert_eq!(notify.base, Some(*version), "the base is not what is held");
                let mut document = document.clone();
                Patch::decode(patch).expect("a patch").apply(&mut document).expect("a patch");
                document
            }
            (None, None) => {
                assert_eq!(notify.version, None, "a version without content: {notify:?}");
                return;
            }
        };
        let version = notify.version.expect("a version");
        assert_eq!(Version::of(&document.encode()), version, "the version of other content");
        self.content = Some((version, document));
    }

    /// What is seen.
    pub fn document(&self) -> &Document {
        &self.content.as_ref().expect("a document").1
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.content.as_ref().expect("a document").0
    }
}

/// A session that follows one presentity.
#[derive(Debug)]
pub struct Watcher {
    /// The session.
    pub peer: Peer,
    /// Whom it follows.
    pub presentity: String,
    /// What it was told.
    pub held: Held,
}

impl Watcher {
    /// Follows, as long as the session lives, and takes the first NOTIFY if it is active.
    pub async fn of(mut peer: Peer, presentity: &str) -> Watcher {
        let state = peer.follow(presentity).await.state;
        let presentity = presentity.to_owned();
        let mut watcher = Watcher { peer, presentity, held: Held { state, ..Held::default() } };
        if state == Some(SubscriptionState::Active) {
            watcher.next().await;
        }
        watcher
    }

    /// Signs in as an account and follows.
    pub async fn sign_in(server: &Server, name: &str, presentity: &str) -> Watcher {
        Watcher::of(Peer::sign_in(server, name).await, presentity).await
    }

    /// Takes the next NOTIFY.
    pub async fn next(&mut self) -> Notify {
        loop {
            if let Some(notify) = presence(self.peer.unsolicited().await) {
                self.take(&notify);
                return notify;
            }
        }
    }

    /// Takes NOTIFYs until what is held is as wanted.
    pub async fn until(&mut self, wanted: impl Fn(&Held) -> bool) -> &Held {
        while !wanted(&self.held) {
            self.next().await;
        }
        &self.held
    }

    /// Takes NOTIFYs until the person's note is this.
    pub async fn until_note(&mut self, note: &str) {
        let shows = |held: &Held| {
            held.content.as_ref().is_some_and(|(_, d)| person(d, "note") == Some(note))
        };
        self.until(shows).await;
    }

    /// Takes what has come up to now; how many there were.
    pub async fn settle(&mut self) -> usize {
        let notifies = self.peer.fenced().await;
        notifies.iter().for_each(|notify| self.take(notify));
        notifies.len()
    }

    fn take(&mut self, notify: &Notify) {
        assert_eq!(notify.address.as_str(), self.presentity, "not what is followed");
        self.held.take(notify);
    }
}
