//! Read marks: how far each conversation of an owner's was read.

use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::ids::MessageId;
use crate::schema::{fields, numbers};
use crate::time::Timestamp;

fields! {
    /// How far a conversation was read.
    pub struct ReadMark {
        /// With whom.
        1 address: Address,
        /// Up to where the owner has read it: the cursor behind a message from them.
        2 cursor: Option<Bytes>,
        /// That message.
        3 id: Option<MessageId>,
        /// When the server took that message.
        4 time: Option<Timestamp>,
        /// The last of the owner's messages that a device of theirs has, as far as they let that be told.
        5 received: Option<MessageId>,
        /// The last of the owner's messages that they have read, as far as they let that be told.
        6 read: Option<MessageId>,
        /// FETCH with `about`: how many messages from them are behind `cursor`, as far as was counted.
        7 unread: Option<u64>,
        /// FETCH with `about`: there may be more than `unread`.
        8 more: bool,
    }
}

numbers! {
    /// What a recipient lets a sender be told of its messages.
    pub open enum MarkKind {
        /// A device of the recipient's has them.
        Received = 1, "received";
        /// The recipient has read them.
        Read = 2, "read";
    }
}

/// So long somebody is shown to write who does not say so again.
pub const TYPING: Duration = Duration::from_secs(10);

fields! {
    /// The caller writes to somebody just now.
    pub struct TypingEdit {
        /// To whom.
        1 to: Address,
    }
}

fields! {
    /// Somebody writes just now.
    pub struct Typing {
        /// Who.
        1 from: Address,
        /// For so long it holds, if it is not said again.
        2 lasts: Duration,
    }
}

fields! {
    /// Links: up to where somebody has received or read another's messages.
    pub struct MarkReport {
        /// Who.
        1 from: Address,
        /// Which of it.
        2 kind: MarkKind,
        /// The last of the other's messages of which that is so.
        3 id: MessageId,
        /// Higher than that of every report of before about the same.
        4 number: u64,
    }
}

fields! {
    /// How far the conversations of an owner were read.
    pub struct ReadMarks {
        /// By address; in NOTIFY with `patch`, those that have changed.
        1 entries: Vec<ReadMark>,
    }
}

fields! {
    /// A conversation was read up to a message.
    pub struct ReadMarkEdit {
        /// With whom.
        1 address: Address,
        /// The cursor behind the last message from them that was read.
        2 cursor: Bytes,
    }
}
