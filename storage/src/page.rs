//! Pages of a log, and the one rule for where a page ends.
//!
//! Finding the items is left to the back ends.

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};

/// One item of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place: rises within a log, unique in the store, never given twice.
    pub seq: u64,
    /// The caller's kind.
    pub kind: u8,
    /// The caller's metadata.
    pub head: Bytes,
    /// The body of its unit, if the append asked for it.
    pub body: Option<Bytes>,
    /// The time of its unit.
    pub time: Timestamp,
}

impl Item {
    /// What it counts for against a page's and a quota's bytes: head and body.
    pub fn size(&self) -> usize {
        self.head.len() + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// Whom an item is about, if anybody. It is stored by the index of conversations: where this says otherwise
/// than an earlier program did, a migration has to empty that.
pub type About = fn(&Item) -> Option<Address>;

/// A run of items of one log, with the log's bounds as of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In order, or from the newest on where it was read backwards.
    pub items: Vec<Item>,
    /// Whether the log holds items behind these. Seen, not counted: numbers were given to items that
    /// are gone, so that the highest one ever given says nothing of it. A page with more behind it
    /// holds at least one item, so who reads on gets on.
    pub more: bool,
    /// Items among these, or behind the last of them, that are not as they were written: they are
    /// not served, and passed over. At most [`DAMAGED_MAX`] are named.
    pub damaged: Vec<Damaged>,
    /// The lowest seq still held, `last + 1` if none is.
    pub oldest: u64,
}

/// An item that is there and cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its place, as far as that is known.
    pub seq: u64,
    /// What is wrong, and with what.
    pub what: String,
}

/// Most damaged items that a page names.
pub const DAMAGED_MAX: usize = 64;

/// Collects items up to two limits, but at least one.
pub(crate) struct Filler {
    pub(crate) items: Vec<Item>,
    /// An item came for which there was no room.
    pub(crate) more: bool,
    pub(crate) damaged: Vec<Damaged>,
    bytes: usize,
    items_max: usize,
    bytes_max: usize,
}

impl Filler {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Filler {
        let (items, damaged) = (Vec::new(), Vec::new());
        Filler { items, more: false, damaged, bytes: 0, items_max: items_max.max(1), bytes_max }
    }

    /// Takes the item if the page has room for it; false ends the page.
    pub(crate) fn take(&mut self, item: Item) -> bool {
        let bytes = self.bytes.saturating_add(item.size());
        let first = self.items.is_empty();
        if !first && (self.items.len() >= self.items_max || bytes > self.bytes_max) {
            self.more = true;
            return false;
        }
        self.bytes = bytes;
        self.items.push(item);
        true
    }

    /// Names an item that cannot be served.
    pub(crate) fn pass_over(&mut self, seq: u64, what: String) {
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push(Damaged { seq, what });
        }
    }
}
