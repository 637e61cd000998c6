//! What is done to the logs of accounts: what messages, and devices that have gone, leave in them, and what
//! is taken away.

use bytes::Bytes;
use impp_protocol::command::Message;
use impp_protocol::state::{self, DeviceReport, FateReport, ItemKind};
use impp_protocol::{Address, MessageId, Timestamp};
use impp_storage::{Append, Item, Limit, Op};

use crate::core::config::Inbox;

/// A message in its recipient's log, as far as the quota allows; the unit's body is the message.
pub fn received(owner: &Address, limit: Limit) -> Op {
    Op::Append(Append { counted: true, limit: Some(limit), ..append(owner, ItemKind::Received) })
}

/// The copy of a sent message in its sender's log; the unit's body is the message.
pub fn copy_sent(from: &Address) -> Op {
    Op::Append(append(from, ItemKind::Sent))
}

/// The fate of a sent message in its sender's log.
pub fn fate_of(from: &Address, report: &FateReport) -> Op {
    let head = state::encode(report);
    Op::Append(Append { head, with_body: false, ..append(from, ItemKind::Fate) })
}

/// What became of a device, in its owner's log.
pub fn device_gone(owner: &Address, report: &DeviceReport) -> Op {
    let head = state::encode(report);
    Op::Append(Append { head, with_body: false, ..append(owner, ItemKind::Device) })
}

/// The owner takes an item away: a mark is left.
pub fn erased(owner: &Address, seq: u64) -> Op {
    Op::Erase { owner: owner.clone(), seq, mark: ItemKind::Gone.number() as u8 }
}

/// Says in the log which item its owner has taken away, and the message that it was about.
pub fn deleted(owner: &Address, seq: u64, id: Option<MessageId>) -> Op {
    let mut head = seq.to_be_bytes().to_vec();
    head.extend(id.iter().flat_map(|id| id.0));
    let head = head.into();
    Op::Append(Append { head, with_body: false, ..append(owner, ItemKind::Deleted) })
}

/// What [`deleted`] says.
pub fn read_deleted(head: &[u8]) -> Option<(u64, Option<MessageId>)> {
    let (seq, id) = head.split_first_chunk()?;
    let id = if id.is_empty() { None } else { Some(MessageId(id.try_into().ok()?)) };
    Some((u64::from_be_bytes(*seq), id))
}

/// Whom an item is about: who wrote a message that came, to whom one went, and its fate. The store
/// keeps an index of that.
pub fn about(item: &Item) -> Option<Address> {
    let message = || item.body.clone().and_then(|body| Message::decode(body).ok());
    match ItemKind::from_number(u64::from(item.kind))? {
        ItemKind::Received => message()?.from,
        ItemKind::Sent => Some(message()?.to),
        ItemKind::Fate => Some(state::decode::<FateReport>(item.head.clone()).ok()?.to),
        ItemKind::Device | ItemKind::Damaged | ItemKind::Gone | ItemKind::Deleted => None,
    }
}

/// Refuses the unit where [`received`] would, and writes nothing.
pub fn fits(owner: &Address, limit: Limit) -> Op {
    Op::Fits { owner: owner.clone(), limit }
}

/// A device has taken custody up to a place.
pub fn acknowledged(owner: &Address, upto: u64) -> Op {
    Op::Custody { owner: owner.clone(), upto }
}

/// What a log has beyond its quota goes, as far as its owner may lose it; and what was acknowledged
/// before a time.
pub fn trimmed(owner: &Address, inbox: &Inbox, before: Option<Timestamp>) -> Op {
    let most = Limit { items: inbox.kept_items_max, bytes: inbox.kept_bytes_max };
    let before = before.unwrap_or(Timestamp::from_millis(0));
    Op::Trim { owner: owner.clone(), before, most }
}

/// All of a log goes.
pub fn purge(owner: &Address) -> Op {
    Op::Purge { owner: owner.clone() }
}

/// Records by which repeats are known go, those of ids of an earlier time.
pub fn expire_dedup(before: Timestamp) -> Op {
    Op::ExpireDedup { before }
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
