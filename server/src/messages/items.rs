//! What messages, and devices that have gone, leave in the logs of accounts.

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::state::{self, DeviceReport, FateReport, ItemKind};
use impp_storage::{Append, Limit, Op};

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
