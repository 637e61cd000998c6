//! Messages to other domains: into the queue, which is on the disk before their senders hear of
//! it, and at their ends into their senders' logs.
//!
//! Order, tries and fates are decided by `impp_federation::queue`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_federation::queue::{Cause, Ending, Full, Item, Place, Sending, Ticket, follow};
use impp_federation::shares::Claim;
use impp_protocol::command::{Done, Message, Outcome};
use impp_protocol::state::{Fate, FateReport};
use impp_protocol::{Address, Code, Domain, Error, Timestamp};
use impp_storage::{self as storage, Expect, Op, RecordKey, Scan, StoreError, Unit};

use super::peer::{Inner, Peer};
use super::peers::{disabled, linked_key};
use crate::answers::{Answer, storage_error};
use crate::config::seconds;
use crate::delivery::{self, Bearer, deliver, is_repeat, rejected};
use crate::host::Host;
use crate::random;
use crate::records::{self, LINKED, LinkedRecord, QUEUED, QueuedRecord};

/// Fates that are stored at once.
const ENDINGS_AT_ONCE: usize = 64;
/// When a fate that could not be stored is tried again; it doubles from try to try,
const AGAIN: Duration = Duration::from_secs(1);
/// up to this.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Takes a message from its sender; the answer comes when the queue on the disk has it.
///
/// # Errors
/// Why it is not taken.
pub async fn accept(host: &Arc<Host>, message: Message, from: Address) -> Result<Answer, Error> {
    let now = host.clock.now();
    let late = message.expires.is_some_and(|expires| expires <= now);
    let late = || late.then(|| Error::new(Code::Expired, "expires: that time has passed"));
    let remote = message.to.domain();
    if message.volatile {
        late().map_or(Ok(()), Err)?;
        host.peers.pass_on(host, &host.peers.claim(host, &from, &remote)?, message);
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
    let reserved = late()
        .map_or_else(|| host.peers.claim(host, &from, &remote), Err)
        .and_then(|claim| reserve(host, &claim, item));
    let peer = match reserved {
        Ok(peer) => peer,
        // What was accepted before is not refused now.
        Err(_) if is_repeat(host, dedup).await? => {
            return Ok(Answer::Now(queued(now, Outcome::Duplicate).into()));
        }
        Err(error) => return Err(error),
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
        let committed = matches!(outcome, Ok(storage::Outcome::Committed { .. }));
        {
            let mut inner = peer.lock();
            if committed {
                inner.queue.ready(ticket, Some(body));
                end_unless_enabled(&host, &mut inner, &from);
                inner.raise();
            } else {
                inner.queue.remove(ticket);
            }
        }
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
    Ok(Answer::of_task(answered))
}

/// Nothing goes out in the name of an account that was disabled or removed. Looked at under the
/// queue's lock: whoever does that comes to the queue after it, and finds what is there; or has been
/// there, and is seen here. What is of a removed account ends without a fate (`last_ops`).
fn end_unless_enabled(host: &Host, inner: &mut Inner, from: &Address) {
    if !host.accounts.is_enabled(from) {
        inner.queue.end_sender(from, &disabled(from));
    }
}

/// A place in the queue of a domain.
fn reserve(host: &Arc<Host>, claim: &Claim, item: Item) -> Result<Arc<Peer>, Error> {
    let (item, remote) = (Item { claim: Some(claim.clone()), ..item }, claim.remote());
    let (peer, reserved) = host.peers.with(host, claim, |inner| inner.queue.reserve(item))?;
    match reserved {
        Ok(()) => Ok(peer),
        Err(full) => {
            let text = match full {
                Full::Domain => format!("too much waits for {remote} already; try again later"),
                Full::Sender => format!("too many of yours wait for {remote}; try again later"),
            };
            Err(Error::new(Code::Full, text))
        }
    }
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
    let (hops, redirected_from) = (Some(sending.hops), stamp(&sending.recipient, &sending.to));
    Ok(Some(Message { to: sending.to.clone(), hops, redirected_from, ..message }))
}

/// What says that a message was sent on: whom its sender named.
fn stamp(recipient: &Address, to: &Address) -> Option<Address> {
    (recipient != to).then(|| recipient.clone())
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
    let mut ops = Vec::new();
    for ending in &ended {
        let Place::Ended(fate, cause) = &ending.place else { continue };
        ops.extend(last_ops(host, ending, &report(ending, *fate, cause.clone())));
    }
    if !ops.is_empty() && keep_storing(host, ops).await {
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
    for ending in moved {
        if let Err(error) = move_on(host, peer, &ending).await {
            peer.lock().queue.waits_on(host.clock.now(), ending.ticket, &error, random());
            peer.changed.notify_one();
        }
    }
}

/// Stores until it is done; whether it is: not if the server stops before, or its store has failed.
async fn keep_storing(host: &Arc<Host>, ops: Vec<Op>) -> bool {
    let mut wait = AGAIN;
    loop {
        match host.store(ops.clone()).await {
            Ok(_) => return true,
            Err(StoreError::Stopped) => return false,
            Err(error) if wait == AGAIN => {
                tracing::error!(%error, "fates of messages could not be stored; they are tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

fn report(ending: &Ending, fate: Fate, cause: Option<Cause>) -> FateReport {
    let (id, to) = (ending.id, ending.recipient.clone());
    match cause {
        Some(Cause { code, by, text, address }) => {
            FateReport { id, to, fate, code: Some(code), by: Some(by), text, address }
        }
        None => FateReport { id, to, fate, code: None, by: None, text: None, address: None },
    }
}

/// What ends a message on the disk: it waits no more, and its sender's log has its fate. The log of
/// an account that is gone stays empty.
fn last_ops(host: &Host, ending: &Ending, report: &FateReport) -> Vec<Op> {
    let mut ops = vec![delete(&ending.from, ending.ticket)];
    if host.accounts.get(&ending.from).is_some() {
        ops.push(delivery::fate_of(&ending.from, report));
    }
    ops
}

fn delete(from: &Address, ticket: Ticket) -> Op {
    Op::Put { key: key(from, ticket), expect: Expect::Any, value: None }
}

/// The recipient has another home: the message is sent there, one hop less (design: nested domains
/// by redirect).
///
/// # Errors
/// Why it has to wait where it is.
async fn move_on(host: &Arc<Host>, peer: &Arc<Peer>, ending: &Ending) -> Result<(), Error> {
    let Place::Moved(to) = &ending.place else { return Ok(()) };
    let stored = |error| storage_error(&error);
    let kept = host.store.get(key(&ending.from, ending.ticket)).await.map_err(stored)?;
    let Some(kept) = kept else {
        peer.lock().queue.remove(ending.ticket);
        return Ok(());
    };
    let (record, body) = parse(&kept.value).map_err(stored)?;
    let message =
        Message::decode(body.clone()).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
    let (mut to, mut hops) = (to.clone(), ending.hops.saturating_sub(1));
    // From address to address here, as far as the hops go.
    let failed = loop {
        if hops == 0 {
            let text = format!("{} was sent from address to address", ending.recipient);
            break Cause::here(Code::Loop, text);
        }
        if host.routes.is_remote(&ending.from, &to) {
            let moved = Moved { to, hops, record, body, version: kept.version };
            return moved.send(host, peer, ending, message.expires).await;
        }
        let redirected_from = stamp(&ending.recipient, &to);
        let message = Message { to: to.clone(), redirected_from, ..message.clone() };
        let delivered = deliver(host, message, ending.from.clone(), Bearer::Queue).await;
        match settled(delivered).await {
            Ok(()) => {
                let report = report(ending, Fate::Delivered, None);
                return end_here(host, peer, ending, report).await;
            }
            Err(Error { code: Code::Moved, address: Some(next), by, .. }) => {
                match follow(&ending.recipient, &to, &next, by) {
                    Ok(()) => (to, hops) = (next, hops - 1),
                    Err(astray) => break astray,
                }
            }
            Err(error) if error.code.is_permanent() => break Cause::said(&error),
            Err(error) => return Err(error),
        }
    };
    end_here(host, peer, ending, report(ending, Fate::Failed, Some(failed))).await
}

async fn end_here(
    host: &Arc<Host>,
    peer: &Arc<Peer>,
    ending: &Ending,
    report: FateReport,
) -> Result<(), Error> {
    host.store(last_ops(host, ending, &report)).await.map_err(|error| storage_error(&error))?;
    peer.lock().queue.remove(ending.ticket);
    peer.changed.notify_one();
    host.log_grew(&ending.from);
    Ok(())
}

/// A message on its way to another address.
struct Moved {
    to: Address,
    hops: u64,
    record: QueuedRecord,
    body: Bytes,
    version: u64,
}

impl Moved {
    async fn send(
        self,
        host: &Arc<Host>,
        peer: &Arc<Peer>,
        ending: &Ending,
        expires: Option<Timestamp>,
    ) -> Result<(), Error> {
        let (local, remote) = (ending.from.domain(), self.to.domain());
        let since = self.record.since();
        let item = Item {
            recipient: ending.recipient.clone(),
            hops: self.hops,
            bytes: self.body.len() as u64,
            expires,
            // Its sender pays there too.
            claim: Some(host.peers.claim_held(host, &ending.from, &remote)?),
            ..item(host, ending.ticket, &ending.id, &ending.from, &self.to, since)
        };
        // There must be a place for it before it leaves the one it has.
        let (next, ()) = host.peers.with_held(host, &local, &remote, |_| ())?;
        let value = record(&ending.recipient, &self.to, self.hops, since, &self.body);
        let put = Op::Put {
            key: key(&ending.from, ending.ticket),
            expect: Expect::Version(self.version),
            value: Some(value),
        };
        let outcome = host.store(vec![put]).await.map_err(|error| storage_error(&error))?;
        peer.lock().queue.remove(ending.ticket);
        if matches!(outcome, storage::Outcome::Committed { .. }) {
            // The entry may have ended since, and then there is one more again.
            let entered = host.peers.with_held(host, &local, &remote, |inner| {
                inner.queue.restore(item);
            });
            if let Err(error) = entered {
                tracing::error!(%remote, %error, "a redirected message waits until a restart");
            }
        }
        peer.changed.notify_one();
        next.changed.notify_one();
        Ok(())
    }
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
            let from = item.from.clone();
            let claim = Some(host.peers.shares().claim_held(&from, &remote));
            let item = Item { claim, ..item };
            let entered = host.peers.with_held(host, &local, &remote, |inner| {
                inner.queue.restore(item);
                // Disabled or removed while no server ran, or just before a crash.
                end_unless_enabled(host, inner, &from);
            });
            if let Err(error) = entered {
                tracing::error!(%remote, %error, "a message waits on the disk until a restart");
            }
        }
    }
    for (local, remote) in host.mirrors.pairs() {
        host.peers.wanted(host, &local, &remote);
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
    let kept = seconds(host.settings.load().federation.queue_seconds);
    for (key, value) in all(host, local, LINKED).await? {
        let record: LinkedRecord = records::from_bytes(&value).map_err(|error| damaged(&error))?;
        let name = String::from_utf8_lossy(&key).into_owned();
        let remote = Domain::parse(&name).map_err(|error| damaged(&error.to_string()))?;
        // Open until a crash: whatever the clock says now, all that waits may have gone out.
        let until = match record.open {
            true => Timestamp::from_millis(u64::MAX),
            false => Timestamp::from_millis(record.until),
        };
        let closed = LinkedRecord { open: false, until: until.min(now).as_millis() };
        let value = (until.after(kept) >= now).then(|| records::to_bytes(&closed));
        if record.open || value.is_none() {
            let key = linked_key(local, &remote);
            host.store(vec![Op::Put { key, expect: Expect::Any, value }]).await?;
        }
        linked.push((remote, until));
    }
    Ok(linked)
}

/// Forgets which domains had links, as far as no message that waits can need it.
///
/// # Errors
/// The store's.
pub async fn forget_linked(host: &Host, now: Timestamp) -> Result<(), StoreError> {
    let kept = seconds(host.settings.load().federation.queue_seconds);
    for local in host.accounts.domains() {
        let mut ops = Vec::new();
        for (key, value) in all(host, local, LINKED).await? {
            let record: LinkedRecord = records::from_bytes(&value).map_err(|e| damaged(&e))?;
            let old = Timestamp::from_millis(record.until).after(kept) < now;
            // One that opens just now is noted under the lock; this is not, so it names what it saw.
            if !record.open && old {
                let key = RecordKey { domain: local.clone(), table: LINKED, key };
                ops.push((key, value));
            }
        }
        for (key, value) in ops {
            let known = host.store.get(key.clone()).await?;
            if let Some(known) = known.filter(|known| known.value == value) {
                let expect = Expect::Version(known.version);
                host.store(vec![Op::Put { key, expect, value: None }]).await?;
            }
        }
    }
    Ok(())
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
    let tried = seconds(host.settings.load().federation.queue_seconds);
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
