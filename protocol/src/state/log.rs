//! The log of a principal as a reader gets it: items, cursors, and whether there is more.

use bytes::Bytes;

use crate::address::Address;
use crate::error::{By, Code};
use crate::ids::{DeviceId, MessageId};
use crate::schema::{fields, numbers};
use crate::time::Timestamp;

numbers! {
    /// What an item of the log is.
    pub open enum ItemKind {
        /// A message received.
        Received = 1, "message";
        /// A copy of a message sent from one of the owner's devices.
        Sent = 2, "sent";
        /// The fate of a message sent.
        Fate = 3, "fate";
        /// One of the owner's devices is none any more.
        Device = 4, "device";
        /// An item that the server has and cannot read any more.
        Damaged = 5, "damaged";
        /// The place of an item that the owner deleted.
        Gone = 6, "gone";
        /// The owner deleted an item.
        Deleted = 7, "deleted";
    }
}

numbers! {
    /// How a message ended.
    pub open enum Fate {
        /// The recipient's home server has custody.
        Delivered = 1, "delivered";
        /// Definitely not accepted.
        Failed = 2, "failed";
        /// Its time passed before it was accepted.
        Expired = 3, "expired";
        /// The last attempt was sent whole and never answered.
        Unknown = 4, "unknown";
    }
}

fields! {
    /// How a message ended, and who said so.
    pub struct FateReport {
        /// The message.
        1 id: MessageId,
        /// Its recipient.
        2 to: Address,
        /// How it ended.
        3 fate: Fate,
        /// Why, if it failed.
        4 code: Option<Code>,
        /// Who said so.
        5 by: Option<By>,
        /// For people: what went wrong.
        6 text: Option<String>,
        /// With moved: the new address, to which the message was not sent.
        7 address: Option<Address>,
    }
}

numbers! {
    /// Why a device is none any more.
    pub open enum DeviceEvent {
        /// The owner removed it from another device, or the operator of the server did.
        Removed = 1, "removed";
        /// It was the one unused longest when a new device signed in and there was no room.
        MadeRoom = 2, "made-room";
    }
}

fields! {
    /// A device that is none any more.
    pub struct DeviceReport {
        /// The device.
        1 id: DeviceId,
        /// What it called itself.
        2 name: Option<String>,
        /// Why it is none any more.
        3 event: DeviceEvent,
        /// When it was last used.
        4 last_seen: Timestamp,
        /// Made room: the device that has its place.
        5 newcomer: Option<DeviceId>,
        /// Made room: what that calls itself.
        6 newcomer_name: Option<String>,
    }
}

fields! {
    /// What its owner deletes of the log: what is published of it.
    pub struct Deletion {
        /// The cursor of the item.
        1 cursor: Bytes,
    }
}

fields! {
    /// An item that its owner deleted.
    pub struct DeletionReport {
        /// The cursor that it had.
        1 cursor: Bytes,
        /// The message that it was, or told of.
        2 id: Option<MessageId>,
    }
}

fields! {
    /// Where a message is: what FETCH of its fate answers.
    pub struct Whereabouts {
        /// The message.
        1 id: MessageId,
        /// Its recipient.
        2 to: Address,
        /// How it ended; absent while it waits.
        3 fate: Option<Fate>,
        /// Since when.
        4 since: Timestamp,
        /// Why it waits or failed.
        5 code: Option<Code>,
        /// Who said so.
        6 by: Option<By>,
        /// For people: why it waits or failed.
        7 text: Option<String>,
        /// When it is tried again.
        8 next_try: Option<Timestamp>,
        /// With moved: the new address, to which the message was not sent.
        9 address: Option<Address>,
    }
}

fields! {
    /// One item of a log.
    pub struct Item {
        /// What it is.
        1 kind: ItemKind,
        /// The cursor just behind it.
        2 cursor: Bytes,
        /// When the server took it.
        3 time: Timestamp,
        /// Received and sent: the fields of its MESSAGE.
        4 message: Option<Bytes>,
        /// Fate: the report.
        5 fate: Option<FateReport>,
        /// Device: the report.
        6 device: Option<DeviceReport>,
        /// Deleted: which item.
        7 deleted: Option<DeletionReport>,
        /// Received and sent, where the body is left out: its octets.
        8 size: Option<u64>,
    }
}

impl Item {
    /// An item that holds nothing.
    pub fn of(kind: ItemKind, cursor: Bytes, time: Timestamp) -> Item {
        Item {
            kind,
            cursor,
            time,
            message: None,
            fate: None,
            device: None,
            deleted: None,
            size: None,
        }
    }
}

fields! {
    /// A part of a log, read contiguously from a cursor.
    pub struct Page {
        /// The items, in the order of the log.
        1 items: Vec<Item>,
        /// The cursor behind the last item, or the one asked from if there is none.
        2 cursor: Bytes,
        /// Whether there were newer items.
        3 more: bool,
        /// The cursor behind which nothing has gone (see ACK, Keeping).
        4 oldest: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Fault, Reader, Value, Writer};
    use crate::schema::Map;

    /// The fields of an item of some kind, with a field that came later.
    fn item(kind: u64) -> Bytes {
        let mut writer = Writer::default();
        writer.field(1, &kind);
        writer.field(2, &Bytes::from_static(b"behind it"));
        writer.field(3, &Timestamp::from_millis(1_700_000_000_000));
        writer.field(40, &7u64);
        writer.into_bytes()
    }

    /// Items of kinds that came after a reader was written are passed over, the others are read.
    #[test]
    fn items_of_kinds_that_came_later_are_passed_over() {
        let mut page = Writer::default();
        page.field(1, &vec![item(1), item(200), item(3), item(99)]);
        page.field(2, &Bytes::from_static(b"end"));
        page.field(4, &Bytes::from_static(b"start"));
        let page = Page::get(Reader::new(page.into_bytes())).unwrap();
        let kinds: Vec<ItemKind> = page.items.iter().map(|item| item.kind).collect();
        assert_eq!(kinds, [ItemKind::Received, ItemKind::Fate]);
        assert_eq!(page.cursor, "end");
    }

    /// So are reports of what became of a device in a way that came later; where there is no list,
    /// there is nothing to pass over.
    #[test]
    fn what_is_no_item_of_a_list_is_refused() {
        let error = Item::get(Reader::new(item(200))).unwrap_err();
        assert_eq!((error.field, error.fault), ("kind", Fault::Foreign));
        let mut report = Writer::default();
        report.field(1, &[1; 16]);
        report.field(3, &200u64);
        report.field(4, &Timestamp::from_millis(1_700_000_000_000));
        let mut whole = Writer::default();
        whole.field(1, &4u64);
        whole.field(2, &Bytes::from_static(b"behind it"));
        whole.field(3, &Timestamp::from_millis(1_700_000_000_000));
        whole.field(6, &report.into_bytes());
        let whole = crate::field::Raw::Bytes(whole.into_bytes());
        assert_eq!(Item::from_raw(whole), Err(Fault::Foreign));
    }
}
