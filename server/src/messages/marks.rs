//! How far the conversations of an owner were read, by the owner and, as far as they let that be told, by
//! those who were written to: merged where they are stored, so that of two devices the one that has read
//! further is right, whatever clock either has.
//!
//! Who may say so is left to `session`; what a cursor stands for, to the log; who is told, to `telling`.

mod telling;
mod typing;
mod unread;

use std::sync::{Arc, OnceLock, Weak};

use impp_protocol::command::Message;
use impp_protocol::state::{ItemKind, MarkKind};
use impp_protocol::{Address, MessageId, Timestamp, What};
use impp_storage::{Expect, Lane, Op, Outcome, ReadLog, Record, Store, StoreError, Tails, Unit};

use parking_lot::Mutex;
use typing::Paces;
pub use unread::Unread;

use crate::core::accounts::Accounts;
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::keeping::salvage;
use crate::core::principals::Principals;
use crate::core::records::place::{self, Raw};
use crate::core::records::{self, READ_MARK, ReadMarkRecord, SaidRecord, SeenRecord};
use crate::core::routes::Routes;
use crate::core::seats::{Seating, Seats};
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;
use crate::reach::Beyond;

/// Conversations of which a mark is kept, beside as many as a contact list may hold.
pub const CONVERSATIONS_BESIDE: u64 = 256;
/// Marks, and words that somebody writes, that are on their way to other domains at once: of one user here, and
/// of all together. Further ones are not sent.
const ASKING: Seating = Seating { one: 16, all: 256 };
/// What is forgotten at once: with the mark itself it fits a unit.
const FORGOTTEN_AT_ONCE: usize = 64;

/// See the module.
pub struct Marks {
    store: Arc<dyn Store>,
    tails: Arc<Tails>,
    clock: Clock,
    settings: Arc<Settings>,
    principals: Arc<Principals>,
    accounts: Arc<Accounts>,
    routes: Arc<Routes>,
    sessions: Arc<Sessions>,
    beyond: OnceLock<Weak<dyn Beyond>>,
    /// Seats for what users here just tell other domains.
    asking: Arc<Seats<Address>>,
    /// Who here has said lately that they write to whom,
    typed: Mutex<Paces>,
    /// and who elsewhere to whom here.
    typed_beyond: Mutex<Paces>,
}

/// What is said of how far a conversation was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// By the owner, of what the other has written; whether the other is told.
    Own(MarkKind, Seen, bool),
    /// By the other, of what the owner has written: of which message, and under which number.
    Theirs(MarkKind, MessageId, u64),
}

/// A message in its recipient's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its place.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// When the server took it.
    pub time: Timestamp,
}

/// How far one conversation was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// With whom.
    pub with: Address,
    /// Up to which message from them.
    pub read: Option<Seen>,
    /// Up to which of the owner's a device of theirs has them, as far as they say.
    pub they_received: Option<MessageId>,
    /// Up to which of the owner's they have read, as far as they say.
    pub they_read: Option<MessageId>,
    /// The version of the record: another one after each change.
    pub version: u64,
}

impl Conversation {
    /// One of which nothing is known.
    pub fn unread(with: Address) -> Conversation {
        Conversation { with, read: None, they_received: None, they_read: None, version: 0 }
    }
}

impl Marks {
    /// Of the logs in this store.
    pub fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        principals: Arc<Principals>,
        sessions: Arc<Sessions>,
    ) -> Marks {
        let Ground { store, tails, clock, settings, accounts, .. } = ground.clone();
        let (beyond, asking) = (OnceLock::new(), Arc::default());
        let (typed, typed_beyond) = (Mutex::default(), Mutex::default());
        Marks {
            store,
            tails,
            clock,
            settings,
            principals,
            accounts,
            routes,
            sessions,
            beyond,
            asking,
            typed,
            typed_beyond,
        }
    }

    /// The links, which are made later.
    pub fn reach_beyond(&self, beyond: Weak<dyn Beyond>) {
        let _ = self.beyond.set(beyond);
    }

    /// The message from somebody that stands at a place of an owner's log, if one does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seen(
        &self,
        owner: &Address,
        with: &Address,
        seq: u64,
    ) -> Result<Option<Seen>, StoreError> {
        let Some(after) = seq.checked_sub(1) else { return Ok(None) };
        let query = ReadLog { owner: owner.clone(), after, items_max: 1, bytes_max: 0 };
        let item = self.tails.read(&*self.store, query).await?.items.pop();
        let is_received = |kind| ItemKind::from_number(u64::from(kind)) == Some(ItemKind::Received);
        let item = item.filter(|item| item.seq == seq && is_received(item.kind));
        Ok(item.and_then(|item| {
            let message: Message = Message::decode(item.body?).ok()?;
            let is_theirs = message.from.as_ref() == Some(with);
            is_theirs.then_some(Seen { seq, id: message.id, time: item.time })
        }))
    }

    /// An owner has read a conversation up to a message. What was read before stays so: of two marks the
    /// one further on in the log stands. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(
        self: &Arc<Self>,
        owner: &Address,
        with: &Address,
        seen: Seen,
    ) -> Result<(), StoreError> {
        let (marks, owner, with) = (self.clone(), owner.clone(), with.clone());
        // To its end also if who asks is gone: the owner's other sessions are to be told.
        let said =
            tokio::spawn(async move { marks.say(&owner, &with, MarkKind::Read, seen).await });
        said.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Merges what is said into what is known; that, if it is otherwise by it.
    async fn merge(
        &self,
        owner: &Address,
        with: &Address,
        said: Said,
        share: &Lane,
    ) -> Result<Option<ReadMarkRecord>, StoreError> {
        loop {
            let (before, damaged) = match self.store.get(place::read_mark(owner, with).key()).await
            {
                // What cannot be read is said anew.
                Err(StoreError::Damaged { .. }) => (None, true),
                before => (before?, false),
            };
            let known = before.as_ref().and_then(|record| records::from_bytes(&record.value).ok());
            let now = self.clock.wall();
            let Some(merged) = merged(known.unwrap_or_default(), said, now) else {
                return Ok(None);
            };
            let version = before.map(|record| Expect::Version(record.version));
            let mut ops = match version {
                Some(_) => Vec::new(),
                None => self.making_room(owner).await?,
            };
            let expect = version.unwrap_or(if damaged { Expect::Any } else { Expect::Absent });
            ops.push(place::read_mark(owner, with).put_if(expect, &merged));
            let unit = Unit::of(now, ops).in_lane(Lane::Account(owner.clone()));
            // Who causes it pays for it.
            let unit = Unit { share: Some(share.clone()), ..unit };
            // Somebody else was quicker: by how much is looked at anew.
            if let Outcome::Rejected(_) = self.store.submit(unit).await? {
                continue;
            }
            self.sessions.thing_changed(owner, What::ReadMarks);
            return Ok(Some(merged));
        }
    }

    /// The conversations of an owner, by whom they are with; those whose record cannot be read are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all(&self, owner: &Address) -> Result<Vec<Conversation>, StoreError> {
        let rows = salvage(&*self.store, owner, READ_MARK).await?.records;
        Ok(rows.into_iter().filter_map(|(key, record)| conversation(&key, &record)).collect())
    }

    /// One conversation of an owner; where nothing is known of it, or it cannot be read, nothing was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn with(&self, owner: &Address, with: &Address) -> Result<Conversation, StoreError> {
        let key = place::read_mark(owner, with).key();
        let found = match self.store.get(key.clone()).await {
            Err(StoreError::Damaged { .. }) => None,
            found => found?,
        };
        let found = found.and_then(|record| conversation(&key.key, &record));
        Ok(found.unwrap_or_else(|| Conversation::unread(with.clone())))
    }

    /// The operations that forget the marks furthest back in the log, so that there is room for one; before
    /// all those that only the others have told of.
    async fn making_room(&self, owner: &Address) -> Result<Vec<Op>, StoreError> {
        let most = self.settings.load().limits.contacts_max + CONVERSATIONS_BESIDE;
        let mut rows = salvage(&*self.store, owner, READ_MARK).await?.records;
        let over = (rows.len() + 1).saturating_sub(most as usize).min(FORGOTTEN_AT_ONCE);
        rows.sort_by_cached_key(|(_, record)| furthest(record));
        let domain = owner.domain();
        let oldest = rows.into_iter().take(over).map(|(key, record)| {
            let place = place::found::<Raw>(&domain, READ_MARK, key);
            // What has changed just now is not the oldest any more.
            place.delete_if(Expect::Version(record.version))
        });
        Ok(oldest.collect())
    }
}

/// What is known with what is said of it, if that is more. Of what the owner says that stands which is
/// further on in the log; of what the other says, what has the higher number.
fn merged(known: ReadMarkRecord, said: Said, now: Timestamp) -> Option<ReadMarkRecord> {
    let mut merged = known;
    match said {
        Said::Own(kind, seen, is_told) => {
            let (place, told) = match kind {
                MarkKind::Received => (&mut merged.received, &mut merged.told.received),
                MarkKind::Read => (&mut merged.read, &mut merged.told.read),
            };
            if place.as_ref().is_some_and(|place| place.seq >= seen.seq) {
                return None;
            }
            *place = Some(seen.record());
            if is_told {
                // It is higher than any of a record that was forgotten, or of a store that was put back.
                *told = now.as_millis().max(*told + 1);
            }
        }
        Said::Theirs(kind, id, number) => {
            let place = match kind {
                MarkKind::Received => &mut merged.they_received,
                MarkKind::Read => &mut merged.they_read,
            };
            if place.as_ref().is_some_and(|place| place.number >= number) {
                return None;
            }
            *place = Some(SaidRecord { id: id.to_string(), number });
        }
    }
    Some(merged)
}

impl Seen {
    fn record(self) -> SeenRecord {
        let Seen { seq, id, time } = self;
        SeenRecord { seq, id: id.to_string(), time: time.as_millis() }
    }

    fn of(record: &SeenRecord) -> Option<Seen> {
        let SeenRecord { seq, id, time } = record;
        let time = Timestamp::from_millis(*time);
        Some(Seen { seq: *seq, id: id.parse().ok()?, time })
    }
}

/// The last place of the owner's log that a mark names.
fn furthest(record: &Record) -> u64 {
    let known: ReadMarkRecord = records::from_bytes(&record.value).unwrap_or_default();
    let places = known.read.iter().chain(&known.received).map(|place| place.seq);
    places.max().unwrap_or_default()
}

fn conversation(key: &[u8], record: &Record) -> Option<Conversation> {
    let with = Address::parse_canonical(records::last_part(key)?).ok()?;
    let known: ReadMarkRecord = records::from_bytes(&record.value).ok()?;
    let id = |said: Option<SaidRecord>| said.and_then(|said| said.id.parse().ok());
    Some(Conversation {
        with,
        read: known.read.as_ref().and_then(Seen::of),
        they_received: id(known.they_received),
        they_read: id(known.they_read),
        version: record.version,
    })
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
