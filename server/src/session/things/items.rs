//! Items of a log as they are told, from what the store has of them.

use bytes::Bytes;
use impp_protocol::Timestamp;
use impp_protocol::state::{self, DeletionReport, DeviceReport, FateReport, Item, ItemKind};
use impp_storage as storage;

use crate::core::records::logs::read_deleted;

/// An item as it is told, if the reader knows its kind; `seal` makes the cursor of a place.
pub(super) fn item_told(
    item: storage::Item,
    every: bool,
    mut seal: impl FnMut(u64) -> Bytes,
) -> Option<Item> {
    let storage::Item { seq, kind, head, body, time } = item;
    let kind = ItemKind::from_number(u64::from(kind))?;
    if !every && !matches!(kind, ItemKind::Received | ItemKind::Sent | ItemKind::Fate) {
        return None;
    }
    let fate = (kind == ItemKind::Fate).then(|| state::decode::<FateReport>(head.clone()));
    let device = (kind == ItemKind::Device).then(|| state::decode::<DeviceReport>(head.clone()));
    let deleted = if kind == ItemKind::Deleted { read_deleted(&head) } else { None };
    // Before its own: who seals keeps the last one.
    let deleted = deleted.map(|(seq, id)| DeletionReport { cursor: seal(seq), id });
    Some(Item {
        message: body,
        fate: fate.and_then(Result::ok),
        device: device.and_then(Result::ok),
        deleted,
        ..Item::of(kind, seal(seq), time)
    })
}

/// One that cannot be read, behind a place. Its own place may be what is damaged, so nobody gets a
/// cursor of that.
pub(super) fn damaged_behind(cursor: Bytes) -> Item {
    Item::of(ItemKind::Damaged, cursor, Timestamp::from_millis(0))
}
