//! A message into an inbox here, in one step with what its sender is told: whoever brings it, a
//! session or a link, has proven who its sender is.
//!
//! What the recipient's delivery rules say is `impp_acl`'s, once-only storing the store's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_acl::{DeliveryAction, Watcher};
use impp_protocol::command::{Done, Message, Outcome};
use impp_protocol::state::{self, DeviceReport, Fate, FateReport, ItemKind};
use impp_protocol::{Address, By, Code, Error, Timestamp};
use impp_storage::{self as storage, Append, Dedup, Expect, Limit, Op, Rejection, Unit};
use sha2::{Digest, Sha256};

use crate::accounts::Account;
use crate::answers::{Answer, Handled, Stored, storage_error};
use crate::host::Host;
use crate::ids::hex;
use crate::records::{self, HELD};

/// How long a repeat is recognised: longer than its id can be accepted, with room for a queue.
pub const DEDUP_KEPT: Duration = Duration::from_secs(72 * 3600);

/// Who brings a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A session of its sender, whose log gets a copy and the fate.
    Session,
    /// A link of the sender's domain, whose server keeps its log.
    Link,
    /// Its sender's own queue, where the copy is already: it was redirected to here.
    Queue,
}

/// Takes a message whose `from` is proven; the answer comes when the store has it.
///
/// # Errors
/// Why it is not taken.
pub async fn deliver(
    host: &Arc<Host>,
    message: Message,
    from: Address,
    bearer: Bearer,
) -> Result<Answer, Error> {
    let now = host.clock.now();
    let dedup = dedup(&message, &from);
    match judge(host, &message, &from, &bearer, now).await {
        Ok(Judged::Inbox(recipient, action)) if message.volatile => {
            host.metrics.messages.inc();
            Ok(Answer::Now(pass_on(host, &recipient, action, &message, now).into()))
        }
        Ok(Judged::Nobody) if message.volatile => Ok(Answer::Now(sent(now).into())),
        Ok(judged) => {
            let (action, nobody) = match &judged {
                Judged::Inbox(_, action) => (*action, false),
                // It takes as long, and a repeat is told, as if there were somebody.
                Judged::Nobody => (DeliveryAction::Drop, true),
            };
            let unit = unit(host, &message, dedup, action, &bearer, now);
            let (pending, host, to) = (host.store.submit(unit), host.clone(), message.to);
            // Whoever has new items is told, also if the sender is gone by then.
            let answered = tokio::spawn(async move {
                let outcome = pending.await;
                let stored = matches!(outcome, Ok(storage::Outcome::Committed { .. }));
                if nobody && !stored {
                    host.ghosts.lock().release(&to);
                } else if action == DeliveryAction::Hold && !stored {
                    one_less_held(&host, &to).await;
                }
                answer(&host, outcome, &from, &to, now)
            });
            Ok(Answer::of_task(answered))
        }
        // What was accepted before is not refused now, whatever has changed meanwhile.
        Err(error) => match is_repeat(host, dedup).await? {
            true => Ok(Answer::Now(
                Done { outcome: Some(Outcome::Duplicate), time: Some(now), ..Done::empty() }.into(),
            )),
            false => Err(error),
        },
    }
}

/// What a repeat of the message is told by.
pub fn dedup(message: &Message, from: &Address) -> Dedup {
    // However it came here: a home that moves, or a redirect that is set anew, makes no second one.
    let digest = Sha256::digest(message.unstamped().encode()).into();
    Dedup { id: message.id, from: from.clone(), to: message.to.clone(), digest }
}

/// Whether the very same message was accepted before.
///
/// # Errors
/// The store's.
pub async fn is_repeat(host: &Host, dedup: Dedup) -> Result<bool, Error> {
    let digest = dedup.digest;
    Ok(host.store.accepted(dedup).await.stored()? == Some(digest))
}

/// Where a message goes.
enum Judged {
    /// Into this inbox, or what its rules say instead.
    Inbox(Arc<Account>, DeliveryAction),
    /// There is no such inbox, which other domains are not to know.
    Nobody,
}

/// Whether a message may come in now, to whom, and what happens to it.
async fn judge(
    host: &Arc<Host>,
    message: &Message,
    from: &Address,
    bearer: &Bearer,
    now: Timestamp,
) -> Result<Judged, Error> {
    if message.expires.is_some_and(|expires| expires <= now) {
        return Err(Error::new(Code::Expired, "expires: that time has passed"));
    }
    let recipient = match recipient(host, &message.to) {
        Err(error) if *bearer == Bearer::Link && error.code != Code::Moved => {
            if host.settings.load().federation.tell_unknown {
                return Err(error);
            }
            let most = host.settings.load().limits.pending_max;
            return match host.ghosts.lock().hold(&message.to, most) {
                true => Ok(Judged::Nobody),
                false => Err(full(&message.to)),
            };
        }
        recipient => recipient?,
    };
    let held_max = host.settings.load().limits.pending_max;
    let action = host
        .principals
        .look(&message.to, |principal, now| {
            let (owner, sender) = (&message.to, Watcher::Principal(from.clone()));
            let (action, rate) = principal.presentity.delivery(now, &sender);
            if let Some(rate) = rate {
                principal.rates.take(now, from, rate).map_err(|wait| {
                    let text = format!("{owner} takes no more messages from you for now");
                    Error::new(Code::RateLimited, text).by(By::Recipient).retry_after(wait)
                })?;
            }
            if action == DeliveryAction::Hold && !message.volatile {
                // In the words of a full inbox: that messages are held is not for the sender
                // to know.
                if principal.held >= held_max {
                    return Err(full(owner));
                }
                principal.held += 1;
            }
            Ok(action)
        })
        .await
        .stored()??;
    if action == DeliveryAction::Refuse {
        let text = format!("{} does not take messages from you", message.to);
        return Err(Error::new(Code::Refused, text).by(By::Recipient));
    }
    Ok(Judged::Inbox(recipient, action))
}

/// A message that was counted as held is not any more.
pub async fn one_less_held(host: &Host, owner: &Address) {
    let counted = host.principals.look(owner, |principal, _| {
        principal.held = principal.held.saturating_sub(1);
    });
    if let Err(error) = counted.await {
        tracing::error!(%error, "held messages could not be counted");
    }
}

/// What an answered unit means to the sender; whoever has new items is told.
fn answer(
    host: &Host,
    outcome: Result<storage::Outcome, storage::StoreError>,
    from: &Address,
    to: &Address,
    now: Timestamp,
) -> Handled {
    let outcome = match outcome.map_err(|error| storage_error(&error))? {
        storage::Outcome::Committed { .. } => {
            host.metrics.messages.inc();
            host.log_grew(to);
            host.log_grew(from);
            Outcome::Delivered
        }
        storage::Outcome::Duplicate { .. } => Outcome::Duplicate,
        storage::Outcome::Rejected(rejection) => return Err(rejected(rejection, to)),
    };
    Ok(Done { outcome: Some(outcome), time: Some(now), ..Done::empty() })
}

/// What the store's refusal means to the sender.
pub fn rejected(rejection: Rejection, to: &Address) -> Error {
    match rejection {
        Rejection::Full { .. } => full(to),
        Rejection::DedupConflict => {
            Error::new(Code::Conflict, "id: it was used for another message")
        }
        Rejection::OutOfWindow => out_of_window("is too old"),
        Rejection::Conflict { .. } | Rejection::Fenced { .. } => {
            Error::new(Code::Internal, "the message could not be stored")
        }
    }
}

fn full(to: &Address) -> Error {
    Error::new(Code::Full, format!("the inbox of {to} is full")).by(By::Recipient)
}

/// All that one message does to the store.
fn unit(
    host: &Host,
    message: &Message,
    dedup: Dedup,
    action: DeliveryAction,
    bearer: &Bearer,
    now: Timestamp,
) -> Unit {
    let (from, to) = (dedup.from.clone(), &message.to);
    let body = message.encode();
    let mut ops = Vec::new();
    match action {
        DeliveryAction::Accept => ops.push(received(host, to)),
        DeliveryAction::Hold => ops.push(Op::Put {
            key: records::key(HELD, to, &[from.as_str(), &hex(&message.id)]),
            expect: Expect::Any,
            value: Some(body.clone()),
        }),
        DeliveryAction::Drop | DeliveryAction::Refuse => {}
    }
    if *bearer == Bearer::Session {
        // Accepted, held and dropped are alike to the sender.
        let (id, fate) = (message.id, Fate::Delivered);
        ops.push(copy_sent(&from));
        ops.push(fate_of(
            &from,
            &FateReport {
                id,
                to: to.clone(),
                fate,
                code: None,
                by: None,
                text: None,
                address: None,
            },
        ));
    }
    Unit { dedup: Some(dedup), body: Some(body), time: now, ops }
}

/// A message into an inbox, as far as its quota allows; the unit's body is the message.
pub fn received(host: &Host, owner: &Address) -> Op {
    let inbox = &host.settings.load().inbox;
    let limit = Some(Limit { items: inbox.items_max, bytes: inbox.bytes_max });
    Op::Append(Append { counted: true, limit, ..append(owner, ItemKind::Received) })
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

/// A message that is not stored goes to the devices that are connected, or to none.
fn pass_on(
    host: &Host,
    recipient: &Account,
    action: DeliveryAction,
    message: &Message,
    now: Timestamp,
) -> Done {
    if action == DeliveryAction::Accept {
        let encoded = message.encode();
        for mailbox in host.sessions.of(&recipient.address) {
            mailbox.volatile(encoded.clone());
        }
    }
    sent(now)
}

/// The answer to a message that is not stored.
pub fn sent(now: Timestamp) -> Done {
    Done { outcome: Some(Outcome::Sent), time: Some(now), ..Done::empty() }
}

fn recipient(host: &Host, to: &Address) -> Result<Arc<Account>, Error> {
    let account = host.routes.account(to)?;
    if account.services.im {
        Ok(account)
    } else {
        Err(Error::new(Code::NotOffered, format!("{to} has no inbox")))
    }
}

/// An id outside the window in which a repeat is recognised.
pub fn out_of_window(what: &str) -> Error {
    let text = format!("id: its time {what}; make one from the server's time");
    Error::new(Code::OutOfWindow, text)
}

/// The time in a message's id.
///
/// # Errors
/// malformed if it is no UUIDv7.
pub fn time_of(id: &[u8; 16]) -> Result<Timestamp, Error> {
    let id = uuid::Uuid::from_bytes(*id);
    if id.get_version_num() != 7 || id.get_variant() != uuid::Variant::RFC4122 {
        return Err(Error::new(Code::Malformed, "id: not a UUIDv7"));
    }
    let Some((seconds, nanos)) = id.get_timestamp().map(|time| time.to_unix()) else {
        return Err(Error::new(Code::Malformed, "id: not a UUIDv7"));
    };
    Ok(Timestamp::from_millis(seconds * 1000 + u64::from(nanos) / 1_000_000))
}
