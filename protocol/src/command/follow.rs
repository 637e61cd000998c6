//! SUBSCRIBE, FETCH and NOTIFY: following a thing, reading it once, and what changed in it.

use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::ids::MessageId;
use crate::presence::Version;
use crate::schema::fields;
use crate::state::{SubscriptionEvent, SubscriptionState};
use crate::thing::What;
use crate::time::Timestamp;

fields! {
    /// SUBSCRIBE: follow a thing. The same again refreshes; lease 0 ends it.
    pub struct Subscribe {
        /// Whose thing.
        1 address: Address,
        /// Which thing.
        2 what: What,
        /// For so many seconds; 0 ends; absent binds the subscription to the session.
        3 lease: Option<Duration>,
        /// State: the version that the caller holds.
        4 version: Option<Version>,
        /// Series: the cursor behind which to start; absent starts at the oldest item held.
        5 cursor: Option<Bytes>,
        /// Contacts: follow the presence of all entries that say so, as long as the session lives.
        6 expand: bool,
        /// Links: who asks, of the domain that the sender has proven.
        7 watcher: Option<Address>,
        /// Contacts: what the caller holds of presence that the session follows, and of whom it is to
        /// follow by `expand`. Whose version is not there is told whole.
        10 versions: Vec<HeldVersion>,
        /// Presence, contacts: no patches; what changes comes whole.
        11 snapshots: bool,
        /// Series: start behind the newest item there is, instead of a cursor.
        64 at_end: bool,
    }
}

fields! {
    /// What somebody holds of one presentity.
    pub struct HeldVersion {
        /// Whose presence.
        1 address: Address,
        /// The version of the content held.
        2 version: Version,
    }
}

fields! {
    /// FETCH: read a thing once.
    pub struct Fetch {
        /// Whose thing.
        1 address: Address,
        /// Which thing.
        2 what: What,
        /// State: the version that the caller holds; if it is the newest, no content comes.
        3 version: Option<Version>,
        /// Series: the cursor behind which to start; absent starts at the oldest item held.
        /// Lists: the `next` of the answer before.
        4 cursor: Option<Bytes>,
        /// Series: at most so many items.
        5 max: Option<u64>,
        /// Series: wait until there is something.
        6 wait: bool,
        /// Series: with `wait`, until there are so many items; absent is one.
        7 min: Option<u64>,
        /// Series: with `wait`, at most so many seconds, and no more than 300, as if absent.
        8 timeout: Option<Duration>,
        /// Explain, requests, read marks: about whom.
        9 about: Option<Address>,
        /// Explain: the delivery rules instead of the access rules.
        10 delivery: bool,
        /// Fate: of which message of the caller's.
        11 id: Option<MessageId>,
        /// Links: who asks, of the domain that the sender has proven.
        12 watcher: Option<Address>,
        /// Explain: as if these were the rules, TOML.
        64 rules: Option<Bytes>,
        /// Explain: as if it were this time.
        65 at: Option<Timestamp>,
        /// Explain: as if this were the owner's sphere; empty for none.
        66 sphere: Option<String>,
        /// Explain: the document that they see, instead of why.
        67 view: bool,
        /// Explain: with `view`, as who looks once sees it, not as who follows.
        68 once: bool,
        /// Series: start behind the newest item there is, instead of a cursor.
        69 at_end: bool,
        /// Series: of messages neither body nor headers; items say how long the body is.
        70 metadata: bool,
        /// Series: only the item that has this cursor.
        71 item: Option<Bytes>,
        /// Series: from the cursor back, the newest first; without a cursor from the end.
        72 backwards: bool,
        /// Log, with `backwards`: messages and fates from and to this one alone.
        73 with: Option<Address>,
        /// Series, with `backwards`: nothing that the server took before.
        74 since: Option<Timestamp>,
    }
}

fields! {
    /// NOTIFY: what changed in a thing that is followed. Its request number is 0.
    pub struct Notify {
        /// Whose thing.
        1 address: Address,
        /// Which thing.
        2 what: What,
        /// How the follower stands now.
        3 state: SubscriptionState,
        /// With a patch: the version that it changes.
        4 base: Option<Version>,
        /// The version of the content after this.
        5 version: Option<Version>,
        /// The whole content.
        6 snapshot: Option<Bytes>,
        /// What makes the content of `version` out of that of `base`.
        7 patch: Option<Bytes>,
        /// Why the state is what it is, where it changed.
        8 event: Option<SubscriptionEvent>,
        /// Links: the group of watchers whose content this is. They all see the same.
        9 group: Option<u64>,
        /// Links: who is in the group from now on, and in no other; without a group, whom this is
        /// for.
        10 watchers: Vec<Address>,
        /// Links: the version of the group's set of watchers after this.
        11 set: Option<Version>,
    }
}

impl Subscribe {
    /// Follows a thing as long as the session lives, from nothing held.
    pub fn of(address: Address, what: What) -> Subscribe {
        let (lease, version, cursor, expand) = Default::default();
        let (watcher, versions, snapshots, at_end) = Default::default();
        Subscribe {
            address,
            what,
            lease,
            version,
            cursor,
            expand,
            watcher,
            versions,
            snapshots,
            at_end,
        }
    }
}

impl Fetch {
    /// Whether it has a field that only a server of the feature [`SUPPOSE`](super::SUPPOSE) knows:
    /// any other would end the connection.
    pub fn supposes(&self) -> bool {
        let supposed = self.rules.is_some() || self.at.is_some() || self.sphere.is_some();
        supposed || self.view || self.once
    }

    /// Whether it has a field that only a server of the feature [`SERIES`](super::SERIES) knows.
    pub fn is_of_series(&self) -> bool {
        let alone = self.item.is_some() || self.with.is_some() || self.since.is_some();
        alone || self.at_end || self.metadata || self.backwards
    }

    /// Reads a thing from its beginning, nothing held.
    pub fn of(address: Address, what: What) -> Fetch {
        Fetch {
            address,
            what,
            version: None,
            cursor: None,
            max: None,
            wait: false,
            min: None,
            timeout: None,
            about: None,
            delivery: false,
            id: None,
            watcher: None,
            rules: None,
            at: None,
            sphere: None,
            view: false,
            once: false,
            at_end: false,
            metadata: false,
            item: None,
            backwards: false,
            with: None,
            since: None,
        }
    }
}

impl Notify {
    /// Says how a follower stands, without content.
    pub fn of(address: Address, what: What, state: SubscriptionState) -> Notify {
        Notify {
            address,
            what,
            state,
            base: None,
            version: None,
            snapshot: None,
            patch: None,
            event: None,
            group: None,
            watchers: Vec::new(),
            set: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{CRITICAL_FROM, Fault, Reader};
    use crate::schema::Map;

    /// A reader that passed one of these over would answer another question.
    #[test]
    fn what_changes_the_question_must_be_understood() {
        let of_series = ["at_end", "metadata", "item", "backwards", "with", "since"];
        for name in ["rules", "at", "sphere", "view", "once"].into_iter().chain(of_series) {
            let field = Fetch::FIELDS.iter().find(|field| field.name == name).unwrap();
            assert!(field.number >= CRITICAL_FROM, "{name}");
        }
        let plain = Fetch::of(Address::parse("alice@a.example").unwrap(), What::Explain);
        assert!(!plain.supposes());
        for supposing in [
            Fetch { rules: Some(Bytes::new()), ..plain.clone() },
            Fetch { at: Some(Timestamp::from_millis(0)), ..plain.clone() },
            Fetch { sphere: Some(String::new()), ..plain.clone() },
            Fetch { view: true, ..plain.clone() },
            Fetch { once: true, ..plain.clone() },
        ] {
            assert!(supposing.supposes(), "{supposing:?}");
        }
        assert!(!plain.is_of_series());
        for reading in [
            Fetch { at_end: true, ..plain.clone() },
            Fetch { metadata: true, ..plain.clone() },
            Fetch { item: Some(Bytes::new()), ..plain.clone() },
            Fetch { backwards: true, ..plain.clone() },
            Fetch { with: Some(plain.address.clone()), ..plain.clone() },
            Fetch { since: Some(Timestamp::from_millis(0)), ..plain.clone() },
        ] {
            assert!(reading.is_of_series() && !reading.supposes(), "{reading:?}");
        }
    }

    /// What was not found may stand behind damage, or in the wrong place: then that is said.
    #[test]
    fn what_stands_behind_damage_is_not_said_to_be_missing() {
        let fault = |fields: &[u8]| {
            let fields = Reader::new(Bytes::copy_from_slice(fields));
            let error = Notify::get(fields).unwrap_err();
            (error.field, error.fault)
        };
        // Field 5, which is no version, and then 1: an address.
        let address = b"\x03\x0falice@a.example";
        assert_eq!(fault(&[&[10, 1], &address[..]].concat()), ("?", Fault::Order));
        // Field 5, and what has no end.
        assert_eq!(fault(&[10, 1, 13, 9]), ("?", Fault::Truncated));
        assert_eq!(fault(&[10, 1]), ("address", Fault::Missing));
    }
}
