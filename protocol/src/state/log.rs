//! The log of a principal as a reader gets it: items, cursors, and whether there is more.

use bytes::Bytes;

use crate::address::Address;
use crate::error::{By, Code};
use crate::schema::{fields, numbers};
use crate::time::Timestamp;

numbers! {
    /// What an item of the log is.
    pub enum ItemKind {
        /// A message received.
        Received = 1, "message";
        /// A copy of a message sent from one of the owner's devices.
        Sent = 2, "sent";
        /// The fate of a message sent.
        Fate = 3, "fate";
    }
}

numbers! {
    /// How a message ended.
    pub enum Fate {
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
        1 id: [u8; 16],
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

fields! {
    /// Where a message is: what FETCH of its fate answers.
    pub struct Whereabouts {
        /// The message.
        1 id: [u8; 16],
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
        /// The cursor before the oldest item that is still held.
        4 oldest: Bytes,
    }
}
