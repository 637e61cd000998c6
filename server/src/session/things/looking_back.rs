//! Reading a log from a place back, of all or of one conversation; and one item by its cursor.
//!
//! The work of one request is bounded: a page may be empty with more behind it, and is read on from its
//! cursor.

use bytes::Bytes;
use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Fetch};
use impp_protocol::state::{self, Item, Page};
use impp_protocol::{Address, Code, Error, Timestamp};
use impp_storage::{self as storage, ReadBack};

use super::items::{BARE_BYTES_MAX, PAGE_BYTES_MAX, Reader, Room, damaged_behind, item_told};
use super::log::{Logs, PAGE_ITEMS_MAX, Sealed};
use crate::core::answers::{Handled, Stored};
use crate::core::records::logs::about;

/// Items that are read at once, at least.
const READ_ITEMS_MIN: usize = 64;
/// Items of the log that one request looks at.
const LOOKED_ITEMS_MAX: usize = 1024;

/// What is looked for, and what was found.
struct Looking {
    reader: Reader,
    with: Option<Address>,
    since: Option<Timestamp>,
    /// So many are told at most.
    max: usize,
    found: Vec<Item>,
    room: Room,
    /// What may still be looked at.
    items_left: usize,
    bytes_left: usize,
    /// The place from which it goes on: what is behind it was looked at.
    upto: u64,
    /// The place in front of the last one that was found.
    before_found: Option<u64>,
    /// There is nothing more that is looked for.
    is_done: bool,
}

impl Logs {
    /// The item that has a cursor.
    pub(super) async fn one(
        &self,
        acting: &Acting<scope::Inbox>,
        reader: Reader,
        cursor: Bytes,
    ) -> Handled {
        let seq = self.position(acting, Some(cursor.clone())).await?;
        let (owner, with) = (acting.owner().clone(), None);
        let query = ReadBack { owner, upto: seq, with, items_max: 1, bytes_max: 0 };
        let read = self.store.read_back(query).await.stored()?;
        let is_damaged = read.damaged.iter().any(|damaged| damaged.seq == seq);
        let seal = |seq| self.cursor(acting, seq, &mut Sealed::default());
        let found = read.items.into_iter().find(|item| item.seq == seq);
        let found = found.and_then(|item| item_told(item, reader, seal));
        let item = match found {
            None if is_damaged && reader.every => damaged_behind(seal(seq.saturating_sub(1))),
            None => return Err(Error::new(Code::NotFound, "no item has this cursor any more")),
            Some(item) => item,
        };
        let oldest = oldest(reader, &cursor, || seal(read.oldest.saturating_sub(1)));
        answer(&Page { items: vec![item], cursor, more: false, oldest })
    }

    /// What is in front of a place, the newest first.
    pub(super) async fn back(
        &self,
        acting: &Acting<scope::Inbox>,
        reader: Reader,
        fetch: Fetch,
    ) -> Handled {
        if fetch.at_end || fetch.wait {
            return Err(Error::new(Code::Malformed, "backwards: neither at_end nor wait"));
        }
        let upto = match fetch.cursor {
            Some(cursor) => self.position(acting, Some(cursor)).await?,
            None => self.end(acting).await?,
        };
        let max = fetch.max.unwrap_or(PAGE_ITEMS_MAX).clamp(1, PAGE_ITEMS_MAX) as usize;
        let mut looking = Looking {
            reader,
            with: fetch.with,
            since: fetch.since,
            max,
            found: Vec::new(),
            room: Room::default(),
            items_left: LOOKED_ITEMS_MAX,
            bytes_left: BARE_BYTES_MAX,
            upto,
            before_found: None,
            is_done: false,
        };
        let mut seal = |seq| self.cursor(acting, seq, &mut Sealed::default());
        let oldest = loop {
            let query = looking.query(acting.owner());
            let read = self.store.read_back(query).await.stored()?;
            let oldest = read.oldest;
            if looking.take(read, &mut seal) {
                break oldest;
            }
        };
        let more = !looking.is_done;
        let cursor = seal(looking.upto);
        let oldest = self::oldest(reader, &cursor, || seal(oldest.saturating_sub(1)));
        answer(&Page { items: looking.found, cursor, more, oldest })
    }
}

impl Looking {
    /// As much as may still be looked at; without a choice, no more than is told.
    fn query(&self, owner: &Address) -> ReadBack {
        let all = self.with.is_none() && !self.reader.bare;
        let bytes_max = if all { PAGE_BYTES_MAX } else { self.bytes_left };
        // Of these some may not be for who reads, or about others.
        let room = (self.max - self.found.len()).max(READ_ITEMS_MIN);
        let items_max = room.min(self.items_left);
        let (owner, with) = (owner.clone(), self.with.clone());
        ReadBack { owner, upto: self.upto, with, items_max, bytes_max }
    }

    /// Looks at what was read; whether that is enough for one answer.
    fn take(&mut self, read: storage::Page, seal: &mut impl FnMut(u64) -> Bytes) -> bool {
        let (before, more) = (self.upto, read.more);
        for (seq, place, item) in newest_first(read, before) {
            if self.reader.received {
                // The place in front of a page is that of the next one told: what is between is not.
                if item.as_ref().is_some_and(|item| self.is_wanted(item)) {
                    self.upto = seq;
                }
            } else if self.found.len() >= self.max {
                return true;
            }
            let found = self.found.len();
            if !self.look(item, place, seal) {
                return true;
            }
            self.upto = seq.saturating_sub(1);
            if self.found.len() > found {
                self.before_found = Some(self.upto);
            }
        }
        self.is_done = !more || self.upto == before;
        if self.is_done && self.reader.received {
            self.upto = 0;
        }
        let is_spent = self.items_left == 0 || self.bytes_left == 0;
        if is_spent && !self.is_done && self.reader.received {
            // Who was told something finds the rest in front of that, as forwards.
            self.upto = self.before_found.unwrap_or(self.upto);
        }
        let is_full = self.found.len() >= self.max && !self.reader.received;
        self.is_done || is_full || is_spent
    }

    /// Whether an item is one of those that are looked for, however old.
    fn is_wanted(&self, item: &storage::Item) -> bool {
        self.reader.is_told(item.kind) && (self.with.is_none() || about(item) == self.with)
    }

    /// Looks at one; no, if there is no room for it, or nothing more that is looked for.
    fn look(
        &mut self,
        item: Option<storage::Item>,
        place: u64,
        seal: &mut impl FnMut(u64) -> Bytes,
    ) -> bool {
        self.items_left = self.items_left.saturating_sub(1);
        let Some(item) = item else {
            if self.reader.every {
                // Nothing of it is known: also whose it was.
                self.found.push(damaged_behind(seal(place)));
            }
            return true;
        };
        self.bytes_left = self.bytes_left.saturating_sub(item.size());
        if self.reader.received && !self.is_wanted(&item) {
            return true;
        }
        if self.since.is_some_and(|since| item.time < since) {
            self.is_done = true;
            return false;
        }
        if self.with.is_some() && about(&item) != self.with {
            return true;
        }
        if self.found.len() >= self.max {
            return false;
        }
        let Some(told) = item_told(item, self.reader, seal) else { return true };
        let fits = self.room.takes(&told);
        if fits {
            self.found.push(told);
        }
        fits
    }
}

/// What was read up to a place, the newest first, each with the place of its cursor; of what cannot be read
/// that is all.
fn newest_first(
    read: storage::Page,
    upto: u64,
) -> impl Iterator<Item = (u64, u64, Option<storage::Item>)> {
    let items = read.items.into_iter().map(|item| (item.seq, Some(item)));
    let damaged = read.damaged.into_iter().map(|damaged| (damaged.seq, None));
    let mut looked: Vec<(u64, Option<storage::Item>)> = items.chain(damaged).collect();
    looked.retain(|(seq, _)| *seq <= upto);
    // What the index names twice is served once: what can be read comes first.
    looked.sort_by(|(a, one), (b, other)| b.cmp(a).then(one.is_none().cmp(&other.is_none())));
    looked.dedup_by_key(|(seq, _)| *seq);
    // Of one that cannot be read the cursor is that of the item before it, as forwards.
    let (mut before_it, mut older) =
        (looked.last().map_or(0, |(seq, _)| seq.saturating_sub(1)), Vec::new());
    for (seq, item) in looked.into_iter().rev() {
        let place = if item.is_some() { seq } else { before_it };
        before_it = place;
        older.push((seq, place, item));
    }
    older.into_iter().rev()
}

/// Behind which place nothing has gone: to who is told of what came alone, nothing is said of that.
fn oldest(reader: Reader, cursor: &Bytes, sealed: impl FnOnce() -> Bytes) -> Bytes {
    if reader.received { cursor.clone() } else { sealed() }
}

fn answer(page: &Page) -> Handled {
    Ok(Done { content: Some(state::encode(page)), ..Done::empty() })
}

#[cfg(test)]
mod tests;
