//! What waits for other domains, as it is on the disk.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_federation::queue::{Item, Sending, Ticket};
use impp_protocol::command::Message;
use impp_protocol::{Address, Domain, MessageId, Timestamp};
use impp_storage::{Op, RecordKey, Store, StoreError};

use crate::core::config::{Federation, seconds};
use crate::core::records::{self, QueuedRecord, place};

/// A message that waits: what of it is the same wherever it goes.
pub(super) fn item(
    links: &Federation,
    ticket: Ticket,
    id: MessageId,
    from: &Address,
    to: &Address,
    since: Timestamp,
) -> Item {
    let tried = seconds(links.queue_seconds);
    Item::new(ticket, id, from.clone(), to.clone(), since, since.after(tried))
}

/// Where a message that waits is kept.
pub(super) fn key(from: &Address, ticket: Ticket) -> RecordKey {
    place::queued(from, ticket).key()
}

/// It waits no more.
pub(super) fn delete(from: &Address, ticket: Ticket) -> Op {
    place::queued(from, ticket).delete()
}

/// What is kept of it: whom its sender named, where it goes now and how far, and its bytes.
pub(super) fn record(
    recipient: &Address,
    to: &Address,
    hops: u64,
    since: Timestamp,
    body: &Bytes,
) -> QueuedRecord {
    QueuedRecord {
        recipient: recipient.to_string(),
        to: to.to_string(),
        hops,
        since: since.as_millis(),
        message: BASE64.encode(body),
    }
}

/// What was kept of it.
///
/// # Errors
/// It is damaged.
pub(super) fn parse(value: &Bytes) -> Result<(QueuedRecord, Bytes), StoreError> {
    let record: QueuedRecord = records::from_bytes(value).map_err(|error| damaged(&error))?;
    let body = BASE64.decode(&record.message).map_err(|error| damaged(&error.to_string()))?;
    Ok((record, body.into()))
}

impl QueuedRecord {
    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.since)
    }
}

/// The message that goes over the link, read from the disk if it is not in memory. `None` if it is
/// gone: its sender's account was removed.
///
/// # Errors
/// The store's.
pub(super) async fn load(
    store: &dyn Store,
    sending: &Sending,
) -> Result<Option<Message>, StoreError> {
    let body = match &sending.body {
        Some(body) => body.clone(),
        None => match store.get(key(&sending.from, sending.ticket)).await? {
            Some(record) => parse(&record.value)?.1,
            None => return Ok(None),
        },
    };
    let message = Message::decode(body).map_err(|error| damaged(&error.to_string()))?;
    let (hops, redirected_from) = (Some(sending.hops), stamp(&sending.recipient, &sending.to));
    Ok(Some(Message { to: sending.to.clone(), hops, redirected_from, ..message }))
}

/// What says that a message was sent on: whom its sender named.
pub(super) fn stamp(recipient: &Address, to: &Address) -> Option<Address> {
    (recipient != to).then(|| recipient.clone())
}

/// A message as it waited before the server started.
///
/// # Errors
/// Its record is damaged.
pub(super) fn restored(
    links: &Federation,
    local: &Domain,
    key: &[u8],
    value: &Bytes,
) -> Result<Item, StoreError> {
    let (record, body) = parse(value)?;
    let text = String::from_utf8_lossy(key).into_owned();
    let wrong = || damaged(&text.replace('\0', " "));
    let (user, ticket) = text.split_once('\0').ok_or_else(wrong)?;
    let from = Address::new(user, local).map_err(|_| wrong())?;
    let ticket = Ticket::from_str_radix(ticket, 16).map_err(|_| wrong())?;
    let address = |text: &str| Address::parse_canonical(text).map_err(|_| wrong());
    let (to, recipient) = (address(&record.to)?, address(&record.recipient)?);
    let message = Message::decode(body.clone()).map_err(|error| damaged(&error.to_string()))?;
    Ok(Item {
        recipient,
        hops: record.hops,
        expires: message.expires,
        bytes: body.len() as u64,
        ..item(links, ticket, message.id, &from, &to, record.since())
    })
}

/// What is on the disk cannot be read.
pub(super) fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged { what: format!("a message that waits for another domain: {reason}") }
}
