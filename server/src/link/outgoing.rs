//! Messages to other domains: into the queue, which is on the disk before their senders hear of
//! it, and at their ends into their senders' logs.
//!
//! Order, tries and fates are decided by `impp_federation::queue`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_federation::queue::{Cause, Ending, Full, Item, Place, Sending, Ticket};
use impp_protocol::command::{Done, Message, Outcome};
use impp_protocol::state::{Fate, FateReport};
use impp_protocol::{Address, Code, Domain, Error, Timestamp};
use impp_storage::{self as storage, Expect, Op, RecordKey, Scan, StoreError, Unit};

use super::peer::Peer;
use super::peers::linked_key;
use crate::config::seconds;
use crate::delivery::{self, Bearer, deliver, is_repeat, rejected};
use crate::host::Host;
use crate::records::{self, LINKED, LinkedRecord, QUEUED, QueuedRecord};
use crate::session::{Answer, storage_error};

/// Fates that are stored at once.
const ENDINGS_AT_ONCE: usize = 64;
/// When a fate that could not be stored is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes a message from its sender; the answer comes when the queue on the disk has it.
///
/// # Errors
/// Why it is not taken.
pub async fn accept(host: &Arc<Host>, message: Message, from: Address) -> Result<Answer, Error> {
    let now = host.clock.now();
    if message.expires.is_some_and(|expires| expires <= now) {
        return Err(Error::new(Code::Expired, "expires: that time has passed"));
    }
    let (local, remote) = (from.domain(), message.to.domain());
    if message.volatile {
        host.peers.pass_on(host, &local, message);
        return Ok(Answer::Now(delivery::sent(now).into()));
    }
    let dedup = delivery::dedup(&message, &from);
    let body = message.encode();
    let ticket = host.peers.ticket(now);
    let item = Item {
        expires: message.expires,
        bytes: body.len() as u64,
        ..item(host, ticket, &message.id, &from, &message.to, now)
    };
    let reserved = host.peers.with(host, &local, &remote, |inner| inner.queue.reserve(item));
    let peer = match reserved {
        Ok((peer, Ok(()))) => peer,
        refused => {
            // What was accepted before is not refused now.
            if is_repeat(host, dedup).await? {
                return Ok(Answer::Now(queued(now, Outcome::Duplicate).into()));
            }
            let (_, Ok(()) | Err(Full)) = refused?;
            let text = format!("too much waits for {remote} already; try again later");
            return Err(Error::new(Code::Full, text));
        }
    };
    let record = record(&message.to, &message.to, impp_federation::queue::HOPS_MAX, now, &body);
    let ops = vec![
        delivery::copy_sent(&from),
        Op::Put { key: key(&from, ticket), expect: Expect::Absent, value: Some(record) },
    ];
    let unit = Unit { dedup: Some(dedup), body: Some(body.clone()), time: now, ops };
    let (pending, host) = (host.store.submit(unit), host.clone());
    // It goes on its way also if the sender is gone by then.
    let answered = tokio::spawn(async move {
        let outcome = pending.await;
        let mut inner = peer.lock();
        if matches!(outcome, Ok(storage::Outcome::Committed { .. })) {
            inner.queue.ready(ticket, Some(body));
            inner.raise();
        } else {
            inner.queue.remove(ticket);
        }
        drop(inner);
        peer.changed.notify_one();
        match outcome.map_err(|error| storage_error(&error))? {
            storage::Outcome::Committed { .. } => {
                host.metrics.messages.inc();
                host.log_grew(&from);
                Ok(queued(now, Outcome::Queued))
            }
            storage::Outcome::Duplicate { .. } => Ok(queued(now, Outcome::Duplicate)),
            storage::Outcome::Rejected(rejection) => Err(rejected(rejection, &message.to)),
        }
    });
    Ok(Answer::Later(Box::pin(async move {
        match answered.await {
            Ok(Ok(done)) => done.into(),
            Ok(Err(error)) => error.into(),
            Err(error) => Error::new(Code::Internal, error.to_string()).into(),
        }
    })))
}

fn queued(now: Timestamp, outcome: Outcome) -> Done {
    Done { outcome: Some(outcome), time: Some(now), ..Done::empty() }
}

/// The message that goes over the link, read from the disk if it is not in memory. `None` if it
/// is gone: its sender's account was removed.
///
/// # Errors
/// The store's.
pub async fn load(host: &Host, sending: &Sending) -> Result<Option<Message>, StoreError> {
    let body = match &sending.body {
        Some(body) => body.clone(),
        None => match host.store.get(key(&sending.from, sending.ticket)).await? {
            Some(record) => parse(&record.value)?.1,
            None => return Ok(None),
        },
    };
    let message = Message::decode(body).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some(Message { to: sending.to.clone(), hops: Some(sending.hops), ..message }))
}

/// Stores the ends that messages have come to, in a task of its own.
pub fn store_endings(host: &Arc<Host>, peer: &Arc<Peer>) {
    loop {
        let mut endings = Vec::new();
        {
            let mut inner = peer.lock();
            while endings.len() < ENDINGS_AT_ONCE
                && let Some(ending) = inner.queue.next_ending()
            {
                endings.push(ending);
            }
        }
        if endings.is_empty() {
            return;
        }
        let (host, peer) = (host.clone(), peer.clone());
        tokio::spawn(async move { store(&host, &peer, endings).await });
    }
}

async fn store(host: &Arc<Host>, peer: &Arc<Peer>, endings: Vec<Ending>) {
    let (moved, ended): (Vec<_>, Vec<_>) =
        endings.into_iter().partition(|ending| matches!(ending.place, Place::Moved(_)));
    for ending in moved {
        if let Err(error) = move_on(host, peer, &ending).await {
            tracing::warn!(%error, "a redirected message waits");
            again(peer, vec![ending]).await;
        }
    }
    let mut ops = Vec::new();
    for ending in &ended {
        let Place::Ended(fate, cause) = &ending.place else { continue };
        ops.push(forget(ending));
        // The log of an account that is gone stays empty.
        if host.accounts.get(&ending.from).is_some() {
            ops.push(delivery::fate_of(&ending.from, &report(ending, *fate, cause.clone())));
        }
    }
    if ops.is_empty() {
        return;
    }
    match host.store(ops).await {
        Ok(_) => {
            let mut inner = peer.lock();
            for ending in &ended {
                inner.queue.remove(ending.ticket);
            }
            inner.raise();
            drop(inner);
            peer.changed.notify_one();
            for ending in &ended {
                host.log_grew(&ending.from);
            }
        }
        Err(error) => {
            tracing::error!(%error, "fates of messages could not be stored; they are tried again");
            again(peer, ended).await;
        }
    }
}

async fn again(peer: &Arc<Peer>, endings: Vec<Ending>) {
    tokio::time::sleep(AGAIN).await;
    let mut inner = peer.lock();
    for ending in endings {
        inner.queue.not_ended(ending.ticket);
    }
    drop(inner);
    peer.changed.notify_one();
}

fn report(ending: &Ending, fate: Fate, cause: Option<Cause>) -> FateReport {
    let (code, by, text) = match cause {
        Some(Cause { code, by, text }) => (Some(code), Some(by), text),
        None => (None, None, None),
    };
    FateReport { id: ending.id, to: ending.recipient.clone(), fate, code, by, text }
}

fn forget(ending: &Ending) -> Op {
    Op::Put { key: key(&ending.from, ending.ticket), expect: Expect::Any, value: None }
}

/// The recipient has another home: the message is sent there, one hop less (design: nested domains
/// by redirect).
async fn move_on(host: &Arc<Host>, peer: &Arc<Peer>, ending: &Ending) -> Result<(), Error> {
    let Place::Moved(to) = &ending.place else { return Ok(()) };
    let key = key(&ending.from, ending.ticket);
    let stored = |error: StoreError| storage_error(&error);
    let Some(kept) = host.store.get(key.clone()).await.map_err(stored)? else {
        peer.lock().queue.remove(ending.ticket);
        return Ok(());
    };
    let (kept, body) = parse(&kept.value).map_err(stored)?;
    let hops = ending.hops.saturating_sub(1);
    let failed = |code: Code, text: String| {
        let report = report(ending, Fate::Failed, Some(Cause::here(code, text)));
        vec![forget(ending), delivery::fate_of(&ending.from, &report)]
    };
    let here = host.accounts.domains().contains(&to.domain());
    let ops = if hops == 0 {
        failed(Code::Loop, format!("{} was sent from address to address", ending.recipient))
    } else if here {
        let message =
            Message::decode(body.clone()).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        let message = Message { to: to.clone(), ..message };
        match settled(deliver(host, message, ending.from.clone(), Bearer::Link).await).await {
            Ok(()) => {
                vec![
                    forget(ending),
                    delivery::fate_of(&ending.from, &report(ending, Fate::Delivered, None)),
                ]
            }
            Err(error) if error.code.is_permanent() => {
                failed(error.code, error.text.unwrap_or_default())
            }
            Err(error) => return Err(error),
        }
    } else if host.is_remote(&ending.from, to) {
        let value = Some(record(&ending.recipient, to, hops, kept.since(), &body));
        vec![Op::Put { key, expect: Expect::Any, value }]
    } else {
        failed(Code::UnknownDomain, format!("no route to domain {}", to.domain()))
    };
    let moves = matches!(&*ops, [Op::Put { value: Some(_), .. }]);
    host.store(ops).await.map_err(stored)?;
    if moves {
        let message = Message::decode(body.clone()).ok();
        let item = Item {
            recipient: ending.recipient.clone(),
            hops,
            bytes: body.len() as u64,
            expires: message.and_then(|message| message.expires),
            ..item(host, ending.ticket, &ending.id, &ending.from, to, kept.since())
        };
        let (local, remote) = (ending.from.domain(), to.domain());
        // The same queue may be its next one: it is out of it before it is in it again.
        peer.lock().queue.remove(ending.ticket);
        host.peers.with_held(host, &local, &remote, |inner| inner.queue.restore(item))?;
    } else {
        peer.lock().queue.remove(ending.ticket);
        host.log_grew(&ending.from);
    }
    peer.changed.notify_one();
    Ok(())
}

/// Waits for the answer to a delivery.
async fn settled(answer: Result<Answer, Error>) -> Result<(), Error> {
    let command = match answer? {
        Answer::Now(command) => command,
        Answer::Later(later) => later.await,
    };
    match command {
        impp_protocol::Command::Error(error) => Err(error),
        _ => Ok(()),
    }
}

/// Reads what waits from the disk, at the start, and has links sought for it and for what is
/// followed elsewhere.
///
/// # Errors
/// The store's.
pub async fn restore(host: &Arc<Host>) -> Result<(), StoreError> {
    let now = host.clock.now();
    for local in host.accounts.domains().to_vec() {
        let linked = restore_linked(host, &local, now).await?;
        let mut items: Vec<(Ticket, Item)> = Vec::new();
        for (found, value) in all(host, &local, QUEUED).await? {
            let item = restored(host, &local, &found, &value)?;
            let until = linked.iter().find(|(remote, _)| *remote == item.to.domain());
            let maybe_taken = until.is_some_and(|(_, until)| item.since < *until);
            items.push((item.ticket, Item { maybe_taken, ..item }));
        }
        for (ticket, item) in items {
            host.peers.taken(ticket);
            let remote = item.to.domain();
            let entered =
                host.peers.with_held(host, &local, &remote, |inner| inner.queue.restore(item));
            if let Err(error) = entered {
                tracing::error!(%remote, %error, "a message waits on the disk until a restart");
            }
        }
    }
    for (local, remote) in host.mirrors.pairs() {
        host.link_wanted(&local, &remote);
    }
    Ok(())
}

/// Until when messages may have gone out to each domain. A link that was open at a crash is noted
/// as closed now; what no message can need any more is forgotten.
async fn restore_linked(
    host: &Host,
    local: &Domain,
    now: Timestamp,
) -> Result<Vec<(Domain, Timestamp)>, StoreError> {
    let mut linked = Vec::new();
    let kept = seconds(host.config.load().federation.queue_seconds);
    for (key, value) in all(host, local, LINKED).await? {
        let record: LinkedRecord = records::from_bytes(&value).map_err(|error| damaged(&error))?;
        let name = String::from_utf8_lossy(&key).into_owned();
        let remote = Domain::parse(&name).map_err(|error| damaged(&error.to_string()))?;
        let until = if record.open { now } else { Timestamp::from_millis(record.until) };
        let closed = LinkedRecord { open: false, until: until.as_millis() };
        let value = (until.after(kept) >= now).then(|| records::to_bytes(&closed));
        if record.open || value.is_none() {
            let key = linked_key(local, &remote);
            host.store(vec![Op::Put { key, expect: Expect::Any, value }]).await?;
        }
        linked.push((remote, until));
    }
    Ok(linked)
}

fn restored(host: &Host, local: &Domain, key: &[u8], value: &Bytes) -> Result<Item, StoreError> {
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
        ..item(host, ticket, &message.id, &from, &to, record.since())
    })
}

async fn all(
    host: &Host,
    domain: &Domain,
    table: storage::Table,
) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
    let (mut found, max): (Vec<(Vec<u8>, Bytes)>, _) = (Vec::new(), 256);
    loop {
        let after = found.last().map(|(key, _)| key.clone());
        let scan = Scan { domain: domain.clone(), table, prefix: Vec::new(), after, max };
        let part = host.store.scan(scan).await?;
        let end = part.len() < max;
        found.extend(part.into_iter().map(|(key, record)| (key, record.value)));
        if end {
            return Ok(found);
        }
    }
}

fn item(
    host: &Host,
    ticket: Ticket,
    id: &[u8; 16],
    from: &Address,
    to: &Address,
    since: Timestamp,
) -> Item {
    let tried = seconds(host.config.load().federation.queue_seconds);
    Item::new(ticket, *id, from.clone(), to.clone(), since, since.after(tried))
}

fn key(from: &Address, ticket: Ticket) -> RecordKey {
    records::key(QUEUED, from, &[&format!("{ticket:016x}")])
}

fn record(recipient: &Address, to: &Address, hops: u64, since: Timestamp, body: &Bytes) -> Bytes {
    records::to_bytes(&QueuedRecord {
        recipient: recipient.to_string(),
        to: to.to_string(),
        hops,
        since: since.as_millis(),
        message: BASE64.encode(body),
    })
}

fn parse(value: &Bytes) -> Result<(QueuedRecord, Bytes), StoreError> {
    let record: QueuedRecord = records::from_bytes(value).map_err(|error| damaged(&error))?;
    let body = BASE64.decode(&record.message).map_err(|error| damaged(&error.to_string()))?;
    Ok((record, body.into()))
}

impl QueuedRecord {
    fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.since)
    }
}

fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged { what: format!("a message that waits for another domain: {reason}") }
}
