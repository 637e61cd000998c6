//! What is asked of every message, wherever it goes: when its id was made, whether it was accepted
//! before, and what its sender is told of the store's answer.

use std::time::Duration;

use impp_protocol::command::{Done, Message, Outcome, Written};
use impp_protocol::{Address, By, Code, Error, MessageId, Timestamp};
use impp_storage::{self as storage, Dedup, Rejection, Store, StoreError};
use sha2::{Digest, Sha256};

use super::deliver::Bearer;
use crate::core::answers::{Answer, Handled, Stored, storage_error};

/// How long a repeat is recognised: longer than its id can be accepted, with room for a queue.
pub const DEDUP_KEPT: Duration = Duration::from_secs(72 * 3600);

/// A session's id may be so much older than the server's time,
const ID_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// or so much ahead of it.
const ID_AHEAD_MAX: Duration = Duration::from_secs(600);
/// An id that comes over a link may be so much ahead of our clock: the server that took it first has
/// checked it by its own, and the record of it is kept by the time that it says.
const LINK_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a repeat of the message is told by.
pub(super) fn dedup(message: &Written, from: &Address) -> Dedup {
    // However it came here: a home that moves, or a redirect that is set anew, makes no second one.
    let digest = Sha256::digest(message.unstamped()).into();
    Dedup { id: message.id.0, from: from.clone(), to: message.to.clone(), digest }
}

/// Whose logs have a copy of a message: who wrote it, and from whom it is if that is somebody else.
pub(super) fn writers(message: &Message) -> Vec<Address> {
    message.sender.iter().chain(&message.from).cloned().collect()
}

/// What is answered to a message that cannot be taken now. If the very same was accepted before it is not
/// refused, whatever has changed meanwhile; and where its id was used for another one, that is told.
///
/// # Errors
/// Why it cannot be taken, conflict, or the store's.
pub(super) async fn refused(
    store: &dyn Store,
    dedup: Dedup,
    now: Timestamp,
    error: Error,
) -> Result<Answer, Error> {
    let digest = dedup.digest;
    match store.accepted(dedup).await.stored()? {
        Some(known) if known == digest => Ok(Answer::Now(done(now, Outcome::Duplicate).into())),
        Some(_) => Err(used_before()),
        None => Err(error),
    }
}

fn used_before() -> Error {
    Error::new(Code::Conflict, "id: it was used for another message")
}

/// An id is a UUIDv7 whose time is near the server's. Whoever asks looks for a record of it before a
/// message is refused: what was accepted stays accepted, whatever the clock has come to say.
///
/// That nothing is taken twice does not hang on this, but on the store's floor, which stands behind
/// whatever was swept.
///
/// # Errors
/// malformed, out-of-window.
pub(super) fn in_window(id: MessageId, bearer: &Bearer, now: Timestamp) -> Result<(), Error> {
    let made = id.time().ok_or_else(|| Error::new(Code::Malformed, "id: not a UUIDv7"))?;
    let (age, ahead) = match bearer {
        Bearer::Session => (ID_AGE_MAX, ID_AHEAD_MAX),
        Bearer::Link => (DEDUP_KEPT, LINK_AHEAD_MAX),
        // It was near when its queue took it, and has waited since.
        Bearer::Queue => return Ok(()),
    };
    if made.after(age) < now {
        return Err(out_of_window("is too old"));
    }
    if made > now.after(ahead) {
        return Err(out_of_window("lies in the future"));
    }
    Ok(())
}

/// Whether a message comes too late by its own words.
///
/// # Errors
/// expired.
pub(super) fn in_time(message: &Message, now: Timestamp) -> Result<(), Error> {
    match message.expires.is_some_and(|expires| expires <= now) {
        true => Err(Error::new(Code::Expired, "expires: that time has passed")),
        false => Ok(()),
    }
}

/// The answer to a message that is stored, or was.
pub(super) fn done(now: Timestamp, outcome: Outcome) -> Done {
    Done { outcome: Some(outcome), time: Some(now), ..Done::empty() }
}

/// What the store's answer means to the sender of a message; `committed` sees to one that is there now,
/// and says what has become of it.
pub(super) fn answered(
    outcome: Result<storage::Outcome, StoreError>,
    to: &Address,
    now: Timestamp,
    committed: impl FnOnce() -> Outcome,
) -> Handled {
    match outcome.map_err(|error| storage_error(&error))? {
        storage::Outcome::Committed { .. } => Ok(done(now, committed())),
        storage::Outcome::Duplicate { .. } => Ok(done(now, Outcome::Duplicate)),
        storage::Outcome::Rejected(rejection) => Err(rejected(rejection, to)),
    }
}

/// What the store's refusal means to the sender.
fn rejected(rejection: Rejection, to: &Address) -> Error {
    match rejection {
        Rejection::Full { .. } => full(to),
        Rejection::DedupConflict => used_before(),
        Rejection::OutOfWindow => out_of_window("is too old"),
        Rejection::DedupFull => {
            let text = "you have sent so many messages in three days that a repeat of one more could \
                        not be told; try again later";
            Error::new(Code::Full, text)
        }
        Rejection::Conflict { .. }
        | Rejection::Beyond { .. }
        | Rejection::Absent { .. }
        | Rejection::Fenced { .. } => Error::new(Code::Internal, "the message could not be stored"),
    }
}

/// There is no room in the recipient's inbox, or the recipient is not to be known from one who has
/// none.
pub(super) fn full(to: &Address) -> Error {
    Error::new(Code::Full, format!("the inbox of {to} is full")).by(By::Recipient)
}

/// An id outside the window in which a repeat is recognised.
fn out_of_window(what: &str) -> Error {
    let text = format!("id: its time {what}; make one from the server's time");
    Error::new(Code::OutOfWindow, text)
}
