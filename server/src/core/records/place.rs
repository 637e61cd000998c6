//! Places of records: which key each has, what type its value is of, and what is done to it there. What is
//! written to a record is made here, and nowhere else.
//!
//! Reading them is left to who needs them; what the values are, to `mod.rs`.

use std::marker::PhantomData;

use bytes::Bytes;
use impp_acl::Needs;
use impp_protocol::{Address, DeviceId, Domain, MessageId};
use impp_storage::{Expect, Op, RecordKey, StoreError, Table};
use serde::Serialize;

use super::{
    ACCOUNT, ACTS, ASIDE, AccountRecord, ActRecord, CONTACT, ClockRecord, ContactRecord, DECIDED,
    DEVICE, DROPPED, DeviceRecord, FOLLOWED, GHOST, HELD, LAYER, LINKED, LayerRecord, LinkedRecord,
    META, QUEUED, QueuedRecord, READ_MARK, ROOM, RULES, ReadMarkRecord, RoomRecord, TRACE,
    TraceRecord, WATCHER, WatcherRecord, prefix, to_bytes,
};
use crate::core::secrets::SecretsRecord;

/// Where a value of this type is kept.
#[derive(Debug)]
pub struct Place<T> {
    key: RecordKey,
    holds: PhantomData<T>,
}

/// A value that is stored as it is: the text of rules, a held message.
#[derive(Debug)]
pub struct Raw;

/// In the place of an address, which it is none: where all of these are about.
pub const FLOOR: &str = "floor";

/// The value of a record whose key says all.
#[derive(Debug, Serialize)]
pub struct Mark {}

impl<T> Place<T> {
    fn new(domain: Domain, table: Table, key: Vec<u8>) -> Place<T> {
        Place { key: RecordKey { domain, table, key }, holds: PhantomData }
    }

    fn of(table: Table, owner: &Address, rest: &[&str]) -> Place<T> {
        Place::new(owner.domain(), table, prefix(owner, rest))
    }

    /// Its key, to read it by.
    pub fn key(&self) -> RecordKey {
        self.key.clone()
    }

    /// It is not there any more, whatever it was.
    pub fn delete(self) -> Op {
        self.delete_if(Expect::Any)
    }

    /// The same on a condition.
    pub fn delete_if(self, expect: Expect) -> Op {
        Op::Put { key: self.key, expect, value: None }
    }
}

impl<T: Serialize> Place<T> {
    /// It is this, or nothing, whatever it was.
    pub fn set(self, value: Option<&T>) -> Op {
        self.set_if(Expect::Any, value)
    }

    /// It is this, on a condition.
    pub fn put_if(self, expect: Expect, value: &T) -> Op {
        self.set_if(expect, Some(value))
    }

    /// It is this, or nothing, on a condition.
    pub fn set_if(self, expect: Expect, value: Option<&T>) -> Op {
        Op::Put { key: self.key, expect, value: value.map(to_bytes) }
    }
}

impl Place<Raw> {
    /// It is this, on a condition.
    pub fn put_bytes(self, expect: Expect, value: Bytes) -> Op {
        Op::Put { key: self.key, expect, value: Some(value) }
    }
}

/// An account.
pub fn account(owner: &Address) -> Place<AccountRecord> {
    Place::of(ACCOUNT, owner, &[])
}

/// The text of somebody's rules.
pub fn rules(owner: &Address) -> Place<Raw> {
    Place::of(RULES, owner, &[])
}

/// An entry of a contact list.
pub fn contact(owner: &Address, contact: &Address) -> Place<ContactRecord> {
    Place::of(CONTACT, owner, &[contact.as_str()])
}

/// What has become of an entry of a contact list.
pub fn trace(owner: &Address, contact: &Address) -> Place<TraceRecord> {
    Place::of(TRACE, owner, &[contact.as_str()])
}

/// What was removed from a contact list before that number is not known any more.
pub fn floor(owner: &Address) -> Place<u64> {
    Place::of(TRACE, owner, &[FLOOR])
}

/// A device of an account.
pub fn device(owner: &Address, device: DeviceId) -> Place<DeviceRecord> {
    Place::of(DEVICE, owner, &[&device.to_string()])
}

/// A leased layer.
pub fn layer(owner: &Address, device: DeviceId) -> Place<LayerRecord> {
    Place::of(LAYER, owner, &[&device.to_string()])
}

/// A watcher, with whom it watches.
pub fn watcher(presentity: &Address, watcher: &Address) -> Place<WatcherRecord> {
    Place::of(WATCHER, presentity, &[watcher.as_str()])
}

/// The other end of a watcher's record, with the watcher.
pub fn followed(watcher: &Address, presentity: &Address) -> Place<Mark> {
    Place::of(FOLLOWED, watcher, &[presentity.as_str()])
}

/// The only end of one whose other end is at another domain.
pub fn followed_elsewhere(watcher: &Address, presentity: &Address) -> Place<WatcherRecord> {
    Place::of(FOLLOWED, watcher, &[presentity.as_str()])
}

/// A message that is held for its recipient's decision.
pub fn held(owner: &Address, from: &Address, id: MessageId) -> Place<Raw> {
    Place::of(HELD, owner, &[from.as_str(), &format!("{id:x}")])
}

/// That a decision about a sender is stored, by which not all that is held of it has been moved yet.
pub fn decided(owner: &Address, from: &Address) -> Place<Mark> {
    Place::of(DECIDED, owner, &[from.as_str()])
}

/// Up to which version what is held of a domain has no place.
pub fn aside(owner: &Address, of: &Domain) -> Place<u64> {
    Place::of(ASIDE, owner, &[of.as_str()])
}

/// A message that was dropped, which would have come to this place: how large it is.
pub fn dropped(owner: &Address, at: u64, from: &Address, id: MessageId) -> Place<u64> {
    Place::of(DROPPED, owner, &[&format!("{at:016x}"), from.as_str(), &format!("{id:x}")])
}

/// A message that waits for another domain.
pub fn queued(from: &Address, ticket: u64) -> Place<QueuedRecord> {
    Place::of(QUEUED, from, &[&format!("{ticket:016x}")])
}

/// Until when messages may have gone out to another domain.
pub fn linked(local: &Domain, remote: &Domain) -> Place<LinkedRecord> {
    Place::new(local.clone(), LINKED, remote.as_str().as_bytes().to_vec())
}

/// When devices of an account made room.
pub fn room_made(owner: &Address) -> Place<RoomRecord> {
    Place::of(ROOM, owner, &["made"])
}

/// When the operator last changed the password of an account, milliseconds since 1970.
pub fn room_password(owner: &Address) -> Place<u64> {
    Place::of(ROOM, owner, &["password"])
}

/// That a domain waits at an address, which may have no account: for that domain.
pub fn ghost(address: &Address, asked_by: &Domain) -> Place<String> {
    Place::of(GHOST, address, &[asked_by.as_str()])
}

/// The same, as it was stored before accounts had one, for the first domain alone.
pub fn ghost_alone(address: &Address) -> Place<String> {
    Place::of(GHOST, address, &[])
}

/// What a delegate did for an owner within an hour.
pub fn act(owner: &Address, of: u64, delegate: &Address, needs: Needs) -> Place<ActRecord> {
    Place::of(ACTS, owner, &[&hour(of), delegate.as_str(), needs.as_str()])
}

/// How far a conversation was read.
pub fn read_mark(owner: &Address, with: &Address) -> Place<ReadMarkRecord> {
    Place::of(READ_MARK, owner, &[with.as_str()])
}

/// An hour since 1970 in a key: in their order.
pub fn hour(hour: u64) -> String {
    format!("{hour:08x}")
}

/// One that a scan has found.
pub fn found<T>(domain: &Domain, table: Table, key: Vec<u8>) -> Place<T> {
    Place::new(domain.clone(), table, key)
}

/// The server's single things.
///
/// # Errors
/// Never: the name in each key is a domain.
pub mod meta {
    use super::*;

    /// That a server runs: since when, milliseconds since 1970.
    pub fn running() -> Result<Place<u64>, StoreError> {
        named("running")
    }

    /// Until when the server that has stopped was recovering from a crash.
    pub fn recovering() -> Result<Place<u64>, StoreError> {
        named("recovering")
    }

    /// When that was begun, milliseconds since 1970: by this it is told from others.
    pub fn recovering_from() -> Result<Place<u64>, StoreError> {
        named("recovering-from")
    }

    /// How the lines of time stand.
    pub fn clock() -> Result<Place<ClockRecord>, StoreError> {
        named("clock")
    }

    /// The server's secrets.
    pub fn secrets() -> Result<Place<SecretsRecord>, StoreError> {
        named("secrets")
    }

    /// The domains that are hosted, and those that were once and have accounts.
    pub fn domains() -> Result<Place<Vec<String>>, StoreError> {
        named("domains")
    }

    /// Up to where records of de-duplication were swept, milliseconds since 1970.
    pub fn swept() -> Result<Place<u64>, StoreError> {
        named("dedup-floor")
    }

    /// That an account is being removed: since when, milliseconds since 1970. Of no account: what all
    /// such keys begin with.
    pub fn removing(address: Option<&Address>) -> Result<Place<u64>, StoreError> {
        let address = address.map_or("", Address::as_str);
        named(&format!("removing\0{address}"))
    }

    /// They belong to no hosted domain.
    fn named<T>(name: &str) -> Result<Place<T>, StoreError> {
        let domain = Domain::parse("server.invalid")
            .map_err(|_| StoreError::Damaged { what: "a name".to_owned() })?;
        Ok(Place::new(domain, META, name.as_bytes().to_vec()))
    }
}
