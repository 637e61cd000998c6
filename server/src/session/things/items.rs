//! Items of a log as they are told, from what the store has of them.

use bytes::Bytes;
use impp_protocol::Timestamp;
use impp_protocol::command::Message;
use impp_protocol::field::Later;
use impp_protocol::state::{self, DeletionReport, DeviceReport, FateReport, Item, ItemKind};
use impp_storage as storage;

use crate::core::records::logs::read_deleted;

/// Bytes of items in one page, at most, unless the first alone is larger.
pub(super) const PAGE_BYTES_MAX: usize = 48 * 1024;
/// Bytes that are read for a page of which bodies are left out.
pub(super) const BARE_BYTES_MAX: usize = 1024 * 1024;

/// Who is told items, and how.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Reader {
    /// It knows items of every kind, or is an older client.
    pub every: bool,
    /// Only what came: it may read the inbox, and not what its owner has sent, nor what became of that or
    /// of devices.
    pub received: bool,
    /// Without the bodies of messages.
    pub bare: bool,
}

impl Reader {
    /// The owner, told all of an item.
    pub(in crate::session) fn whole(every: bool) -> Reader {
        Reader { every, received: false, bare: false }
    }

    /// How much is read for a page.
    pub(super) fn read_bytes_max(self) -> usize {
        if self.bare { BARE_BYTES_MAX } else { PAGE_BYTES_MAX }
    }

    /// Whether items of a kind, by its number, are told at all.
    pub(super) fn is_told(self, kind: u8) -> bool {
        match ItemKind::from_number(u64::from(kind)) {
            Some(ItemKind::Received) => true,
            Some(ItemKind::Sent | ItemKind::Fate) => !self.received,
            Some(ItemKind::Device | ItemKind::Damaged | ItemKind::Gone | ItemKind::Deleted) => {
                self.every
            }
            None => false,
        }
    }
}

/// An item as it is told, if the reader is told such; `seal` makes the cursor of a place.
pub(super) fn item_told(
    item: storage::Item,
    reader: Reader,
    mut seal: impl FnMut(u64) -> Bytes,
) -> Option<Item> {
    let storage::Item { seq, kind, head, body, time } = item;
    if !reader.is_told(kind) {
        return None;
    }
    let kind = ItemKind::from_number(u64::from(kind))?;
    let (message, size) = if reader.bare { without_body(body) } else { (body, None) };
    let fate = (kind == ItemKind::Fate).then(|| state::decode::<FateReport>(head.clone()));
    let device = (kind == ItemKind::Device).then(|| state::decode::<DeviceReport>(head.clone()));
    let deleted = if kind == ItemKind::Deleted { read_deleted(&head) } else { None };
    // Before its own: who seals keeps the last one.
    let deleted = deleted.map(|(seq, id)| DeletionReport { cursor: seal(seq), id });
    Some(Item {
        message,
        size,
        fate: fate.and_then(Result::ok),
        device: device.and_then(Result::ok),
        deleted,
        ..Item::of(kind, seal(seq), time)
    })
}

/// What a page has room for, of items of which it is not known before how much is told of them.
#[derive(Debug, Default)]
pub(super) struct Room {
    told: usize,
}

impl Room {
    /// Whether there is room for one more, which is in it then: for the first one always.
    pub(super) fn takes(&mut self, item: &Item) -> bool {
        let told = self.told + state::encode(item).len() + ITEM_BYTES_BESIDE;
        let fits = self.told == 0 || told <= PAGE_BYTES_MAX;
        if fits {
            self.told = told;
        }
        fits
    }
}

/// How long an item is, beside it.
const ITEM_BYTES_BESIDE: usize = 3;

/// What is said of a message without its body, its headers and what is not known of it, and how long the body is. Of octets that
/// are no message nothing is said.
fn without_body(message: Option<Bytes>) -> (Option<Bytes>, Option<u64>) {
    let Some(Ok(message)) = message.map(Message::decode) else { return (None, None) };
    let size = message.body.len() as u64;
    let (later, later_stamps) = (Later::default(), Later::default());
    let bare = Message { body: Bytes::new(), headers: Vec::new(), later, later_stamps, ..message };
    (Some(bare.encode()), Some(size))
}

/// One that cannot be read, behind a place. Its own place may be what is damaged, so nobody gets a
/// cursor of that.
pub(super) fn damaged_behind(cursor: Bytes) -> Item {
    Item::of(ItemKind::Damaged, cursor, Timestamp::from_millis(0))
}
