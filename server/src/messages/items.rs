//! What messages, and devices that have gone, leave in the logs of accounts.

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::Timestamp;
use impp_protocol::state::{self, DeviceReport, FateReport, ItemKind};
use impp_storage::{Append, Limit, Op};

use crate::core::config::Inbox;

/// A message in its recipient's log, as far as the quota allows; the unit's body is the message.
pub(super) fn received(owner: &Address, limit: Limit) -> Op {
    Op::Append(Append { counted: true, limit: Some(limit), ..append(owner, ItemKind::Received) })
}

/// The copy of a sent message in its sender's log; the unit's body is the message.
pub(super) fn copy_sent(from: &Address) -> Op {
    Op::Append(append(from, ItemKind::Sent))
}

/// The fate of a sent message in its sender's log.
pub(super) fn fate_of(from: &Address, report: &FateReport) -> Op {
    let head = state::encode(report);
    Op::Append(Append { head, with_body: false, ..append(from, ItemKind::Fate) })
}

/// What became of a device, in its owner's log.
pub fn device_gone(owner: &Address, report: &DeviceReport) -> Op {
    let head = state::encode(report);
    Op::Append(Append { head, with_body: false, ..append(owner, ItemKind::Device) })
}

/// What a log has beyond its quota goes, as far as its owner may lose it; and what was acknowledged
/// before a time.
pub fn trimmed(owner: &Address, inbox: &Inbox, before: Option<Timestamp>) -> Op {
    let most = Limit { items: inbox.kept_items_max, bytes: inbox.kept_bytes_max };
    let before = before.unwrap_or(Timestamp::from_millis(0));
    Op::Trim { owner: owner.clone(), before, most }
}

/// An item that is the unit's body and does not count.
fn append(owner: &Address, kind: ItemKind) -> Append {
    Append {
        owner: owner.clone(),
        fence: 0,
        kind: kind.number() as u8,
        head: Bytes::new(),
        with_body: true,
        counted: false,
        limit: None,
    }
}
