//! What the server keeps in the store's records: tables, keys, and values as JSON, so that an
//! operator can read them with any tool.
//!
//! Here are the values. Where each is kept, and all operations on records, are in `place.rs`; those on logs
//! in `logs.rs`.

mod contacts;
pub mod logs;
mod marks;
pub mod place;

pub use contacts::{ContactRecord, TraceRecord};
pub use marks::{ReadMarkRecord, SaidRecord, SeenRecord, Told};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_presence::Kept;
use impp_protocol::sasl::scram::{Iterations, Key, Verifier};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, DeviceId, Service, Timestamp};
use impp_storage::Table;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Accounts, by user part.
pub const ACCOUNT: Table = Table(1);
/// Rules, by user part; the value is their text.
pub const RULES: Table = Table(2);
/// Entries of contact lists, by user part and contact.
pub const CONTACT: Table = Table(3);
/// Devices, by user part and id in hex.
pub const DEVICE: Table = Table(4);
/// Leased layers of presence, by user part and device in hex.
pub const LAYER: Table = Table(5);
/// Watchers of a presentity, by user part and watcher.
pub const WATCHER: Table = Table(6);
/// Messages held for a decision, by user part, sender and id; empty where there is no inbox, which
/// other domains are not to know.
pub const HELD: Table = Table(7);
/// The server's secrets and other single things, by name; and what is begun and not finished, by name
/// and what it is about.
pub const META: Table = Table(8);
/// The other end of [`WATCHER`]: whom a watcher of this server follows, by user part and
/// presentity; the value is empty JSON, for presentities of other domains a [`WatcherRecord`].
pub const FOLLOWED: Table = Table(9);

/// Messages that wait for another domain, by user part of the sender and ticket in hex.
pub const QUEUED: Table = Table(10);
/// Until when messages may have gone out to another domain, by that domain.
pub const LINKED: Table = Table(11);

/// Who makes room among the devices of an account, by user part and what it is about.
pub const ROOM: Table = Table(12);

/// Addresses without an account that are kept for who has asked for them, by user part; the value is
/// the domain that was the first.
pub const GHOST: Table = Table(13);

/// Senders about whom a decision is stored, by which not all that is held of them has been moved yet; by
/// user part and sender. The value is empty JSON.
pub const DECIDED: Table = Table(14);

/// What delegates did for an owner, by user part, hour, delegate and right.
pub const ACTS: Table = Table(15);

/// How far conversations of an owner were read, by user part and the other of each.
pub const READ_MARK: Table = Table(16);

/// What has become of entries of contact lists, whether they are there or not, by user part and contact;
/// and by user part and [`place::FLOOR`] what is not known any more.
pub const TRACE: Table = Table(17);

/// Up to which version of their records messages of other domains are held without a place, by user part
/// and domain: that domain was given up there.
pub const ASIDE: Table = Table(18);

/// Messages that rules have dropped, which count as those that were kept until they would have been
/// acknowledged; by user part, place in the log in hex, sender and id. The value is how large one is.
pub const DROPPED: Table = Table(19);

/// All tables in which an account has records of its own, by its user part and more.
pub const OF_ACCOUNT: &[Table] = &[
    CONTACT, DEVICE, LAYER, WATCHER, HELD, FOLLOWED, QUEUED, ROOM, DECIDED, ACTS, READ_MARK, TRACE,
    ASIDE, DROPPED,
];

/// A key of what belongs to `owner`, alone or with `rest` of one thing of it; with an empty last part,
/// what the keys of all such things begin with.
pub fn prefix(owner: &Address, rest: &[&str]) -> Vec<u8> {
    let mut key = owner.local().as_bytes().to_vec();
    for part in rest {
        // No part of a key holds a NUL: user parts, addresses and hex do not.
        key.push(0);
        key.extend_from_slice(part.as_bytes());
    }
    key
}

/// The parts of a key; what is no text is empty.
pub fn parts(key: &[u8]) -> impl Iterator<Item = &str> {
    key.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).unwrap_or_default())
}

/// The last part of a key.
pub fn last_part(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.rsplit(|byte| *byte == 0).next()?).ok()
}

/// A value as stored.
fn to_bytes<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A value as stored, read back.
///
/// # Errors
/// What is wrong with it, in words.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Which services an account has (RFC 2779 2.1.1, 2.1.2), or the server at the other end of a link serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// It has a presentity.
    pub pres: bool,
    /// It has an instant inbox.
    pub im: bool,
}

impl Services {
    /// Those of these words. What is the word of none is passed over: another server may have more.
    pub fn named(words: &[String]) -> Services {
        let has = |service: Service| words.iter().any(|word| word == service.word());
        Services { pres: has(Service::Presence), im: has(Service::Messages) }
    }

    /// Whether this is one of them.
    pub fn has(self, service: Service) -> bool {
        match service {
            Service::Presence => self.pres,
            Service::Messages => self.im,
        }
    }

    /// Their words.
    pub fn words(self) -> Vec<String> {
        let had = Service::ALL.into_iter().filter(|service| self.has(*service));
        had.map(|service| service.word().to_owned()).collect()
    }
}

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// It can.
    Enabled,
    /// Nobody can sign in; messages are still taken.
    Disabled,
    /// It is gone; its name is not given again, so that nobody inherits what it was granted.
    Removed,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRecord {
    /// Its services.
    pub services: Services,
    /// Whether it can be used.
    pub state: AccountState,
    /// When it was made, milliseconds since 1970.
    pub created: u64,
    /// What checks its password.
    pub verifier: VerifierRecord,
}

/// A SCRAM verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierRecord {
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
}

impl VerifierRecord {
    /// The record of a verifier.
    pub fn new(verifier: &Verifier) -> VerifierRecord {
        VerifierRecord {
            salt: BASE64.encode(verifier.salt),
            iterations: verifier.iterations.get(),
            stored_key: BASE64.encode(verifier.stored_key.as_bytes()),
            server_key: BASE64.encode(verifier.server_key.as_bytes()),
        }
    }

    /// The verifier of a record.
    ///
    /// # Errors
    /// What is wrong with it, in words; never a part of a key.
    pub fn verifier(&self) -> Result<Verifier, String> {
        let key = |name: &str, text: &str| {
            let bytes: Option<[u8; 32]> = BASE64.decode(text).ok().and_then(|b| b.try_into().ok());
            bytes.map(Key::from_bytes).ok_or(format!("{name} is not 32 bytes in base64"))
        };
        let salt = BASE64.decode(&self.salt).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Verifier {
            salt: salt.ok_or("salt is not 16 bytes in base64")?,
            iterations: Iterations::new(self.iterations).map_err(|error| error.to_string())?,
            stored_key: key("stored_key", &self.stored_key)?,
            server_key: key("server_key", &self.server_key)?,
        })
    }
}

/// A device of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRecord {
    /// What it calls itself.
    pub name: Option<String>,
    /// When it was last used, milliseconds since 1970.
    pub last_seen: u64,
}

impl DeviceRecord {
    /// The record of a device that is used now.
    pub fn new(name: Option<String>, now: Timestamp) -> DeviceRecord {
        DeviceRecord { name, last_seen: now.as_millis() }
    }
}

/// When devices of an account made room for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRecord {
    /// Milliseconds since 1970; those of the last day are kept.
    pub made: Vec<u64>,
}

/// A leased layer of presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRecord {
    /// The document, its encoding in base64.
    pub document: String,
    /// When the lease ends, milliseconds since 1970.
    pub until: u64,
    /// Its place among the owner's layers: the highest was published last. Records of before have
    /// none.
    #[serde(default)]
    pub order: u64,
    /// Whose it is, if it is a delegate's: its key is then a digest of who that is, and of its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the recovery from a crash was begun during which it was published, milliseconds since 1970.
    /// Most were published during none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<u64>,
}

/// What a delegate did by one right within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRecord {
    /// How often.
    pub count: u64,
    /// When first, milliseconds since 1970.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// A watcher of a presentity, or one who follows a presentity of another domain, whose subscription
/// outlives sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatcherRecord {
    /// pending, active or waiting.
    pub state: String,
    /// What brought it there.
    pub event: String,
    /// Since when, milliseconds since 1970.
    pub since: u64,
    /// Leases by device in hex, and when each ends, milliseconds since 1970.
    pub leases: std::collections::BTreeMap<String, u64>,
    /// Whether the watcher's contact list asks for it.
    pub by_contact: bool,
}

/// Among the leases of a [`WatcherRecord`], that of the watcher's own server.
const SERVER: DeviceId = DeviceId::NIL;

impl WatcherRecord {
    /// The record of what is kept of a watcher or follower.
    pub fn of(kept: &Kept) -> WatcherRecord {
        let server = kept.server.iter().map(|until| (&SERVER, until));
        let leases = kept.leases.iter().chain(server);
        let leases = leases.map(|(device, until)| (device.to_string(), until.as_millis()));
        WatcherRecord {
            state: kept.state.as_str().to_owned(),
            event: kept.event.as_str().to_owned(),
            since: kept.since.as_millis(),
            leases: leases.collect(),
            by_contact: kept.by_contact,
        }
    }

    /// What is kept; nothing if the record cannot be read.
    pub fn kept(&self) -> Option<Kept> {
        let mut leases = std::collections::BTreeMap::new();
        for (device, until) in &self.leases {
            leases.insert(device.parse().ok()?, Timestamp::from_millis(*until));
        }
        Some(Kept {
            state: SubscriptionState::from_name(&self.state)?,
            event: SubscriptionEvent::from_name(&self.event)?,
            since: Timestamp::from_millis(self.since),
            server: leases.remove(&SERVER),
            leases,
            by_contact: self.by_contact,
        })
    }
}

/// A message that waits for another domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuedRecord {
    /// The recipient as the sender named it.
    pub recipient: String,
    /// Where it is sent: elsewhere after a redirect.
    pub to: String,
    /// How many more servers may pass it on.
    pub hops: u64,
    /// Since when it waits, milliseconds since 1970.
    pub since: u64,
    /// The fields of the MESSAGE, in base64.
    pub message: String,
}

/// Until when messages may have gone out to another domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkedRecord {
    /// Whether a link is open.
    pub open: bool,
    /// Else: when the last one was closed, milliseconds since 1970.
    pub until: u64,
}

/// Where the server's lines of time stood (`core/clock.rs`), in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockRecord {
    /// How far ahead of steady time the wall clock was.
    pub ahead: i64,
    /// How far it was believed to be.
    pub trusted: i64,
    /// Steady time, since 1970.
    pub seen: u64,
}
