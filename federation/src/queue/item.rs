//! A message that waits, and what is said of it.

use bytes::Bytes;
use impp_protocol::state::Fate;
use impp_protocol::{Address, By, Code, Error, MessageId, Timestamp};

use super::{HOPS_MAX, Pair, Ticket};
use crate::shares::Claim;

/// Why a message waits or has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What.
    pub code: Code,
    /// Who said so.
    pub by: By,
    /// In words.
    pub text: Option<String>,
    /// The new address of who has moved.
    pub address: Option<Address>,
}

impl Cause {
    /// This server's word.
    pub fn here(code: Code, text: impl Into<String>) -> Cause {
        Cause { code, by: By::Server, text: Some(text.into()), address: None }
    }

    /// What an answer says.
    pub fn said(error: &Error) -> Cause {
        let address = error.address.clone().filter(|_| error.code == Code::Moved);
        Cause { code: error.code, by: error.by, text: error.text.clone(), address }
    }

    /// A redirect that is not followed.
    fn astray(by: By, old: &Address, new: &Address) -> Cause {
        let text = format!(
            "{old} is said to be {new} now; that is not the same user above or below the domain \
             {}, so nothing was sent there. Write to the new address if you know it to be right",
            old.domain_str()
        );
        Cause { code: Code::Moved, by, text: Some(text), address: Some(new.clone()) }
    }

    pub(super) fn too_long() -> Cause {
        Cause::here(Code::Unreachable, "it waited for too long")
    }
}

/// A message that waits.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the order.
    pub ticket: Ticket,
    /// Its id.
    pub id: MessageId,
    /// Its sender.
    pub from: Address,
    /// Where it is sent now.
    pub to: Address,
    /// Its recipient as the sender named it: another one after a redirect.
    pub recipient: Address,
    /// How many more servers may pass it on.
    pub hops: u64,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when it is tried.
    pub until: Timestamp,
    /// When it is of no use any more.
    pub expires: Option<Timestamp>,
    /// How much of the disk it takes.
    pub bytes: u64,
    /// Whether it may have been taken by the other side already.
    pub maybe_taken: bool,
    /// Its sender's claim to a place for the domain, held as long as it waits.
    pub claim: Option<Claim>,
}

/// A message and where it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) of: Item,
    /// Its bytes, if there was room for them.
    pub(super) body: Option<Bytes>,
    /// Whether all of it has been written since it last went out.
    pub(super) out_whole: bool,
    /// Whether it has gone out since it came here.
    pub(super) tried: bool,
    /// How often the domain had been tried in vain when it came.
    pub(super) entered: u64,
    /// Links that were cut while it was out, since it was last answered.
    pub(super) cuts: u32,
    pub(super) last: Option<Cause>,
    pub(super) stage: Stage,
}

/// Where a message is on its way through the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is not on the disk yet.
    Reserved,
    /// It can be sent.
    Waiting,
    /// It is out, and its answer has not come.
    Out,
    /// It has ended, and that is not on the disk yet.
    Ending(Place),
}

/// Where a message ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here, with this fate.
    Ended(Fate, Option<Cause>),
    /// At another address, to which it has to be sent.
    Moved(Address),
}

/// A message to send now.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Its place in the order.
    pub ticket: Ticket,
    /// Its sender.
    pub from: Address,
    /// Where it is sent.
    pub to: Address,
    /// Its recipient as the sender named it.
    pub recipient: Address,
    /// How many more servers may pass it on.
    pub hops: u64,
    /// Its bytes, if they are in memory.
    pub body: Option<Bytes>,
}

/// A message that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its place in the order.
    pub ticket: Ticket,
    /// Its id.
    pub id: MessageId,
    /// Its sender.
    pub from: Address,
    /// Its recipient as the sender named it.
    pub recipient: Address,
    /// Where it was sent last.
    pub to: Address,
    /// How many more servers may pass it on.
    pub hops: u64,
    /// What became of it.
    pub place: Place,
}

/// Where a message waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its recipient.
    pub to: Address,
    /// Since when.
    pub since: Timestamp,
    /// Why, as far as something went wrong.
    pub cause: Option<Cause>,
    /// When it is tried again, if that is known.
    pub next_try: Option<Timestamp>,
}

impl Item {
    /// A message that has just come.
    pub fn new(
        ticket: Ticket,
        id: MessageId,
        from: Address,
        to: Address,
        since: Timestamp,
        until: Timestamp,
    ) -> Item {
        Item {
            ticket,
            id,
            from,
            recipient: to.clone(),
            to,
            hops: HOPS_MAX,
            since,
            until,
            expires: None,
            bytes: 0,
            maybe_taken: false,
            claim: None,
        }
    }
}

/// Whether a message is sent on from `old`, where it was sent last, to `new`, which `old` is said to
/// be now: to the same user only, where one domain is part of the other. So who answers for an
/// address cannot have messages sent, in their senders' names, to somebody else. The domain that the
/// sender named counts too: else two redirects over a common parent led to a stranger.
///
/// # Errors
/// What the sender is told: the new address, and that the message is not sent there.
pub fn follow(recipient: &Address, old: &Address, new: &Address, by: By) -> Result<(), Cause> {
    let domain = new.domain();
    let nested = domain.is_nested_with(&old.domain()) && domain.is_nested_with(&recipient.domain());
    if nested && new.local() == recipient.local() {
        return Ok(());
    }
    Err(Cause::astray(by, old, new))
}

impl Entry {
    /// It comes when the domain has been tried in vain so often.
    pub(super) fn new(of: Item, entered: u64) -> Entry {
        let (body, last, stage) = (None, None, Stage::Reserved);
        Entry { of, body, out_whole: false, tried: false, entered, cuts: 0, last, stage }
    }

    pub(super) fn pair(&self) -> Pair {
        (self.of.from.clone(), self.of.to.clone())
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.of.expires.map_or(self.of.until, |expires| expires.min(self.of.until))
    }

    pub(super) fn sending(&self) -> Sending {
        Sending {
            ticket: self.of.ticket,
            from: self.of.from.clone(),
            to: self.of.to.clone(),
            recipient: self.of.recipient.clone(),
            hops: self.of.hops,
            body: self.body.clone(),
        }
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        let Stage::Ending(place) = &self.stage else { return None };
        Some(Ending {
            ticket: self.of.ticket,
            id: self.of.id,
            from: self.of.from.clone(),
            recipient: self.of.recipient.clone(),
            to: self.of.to.clone(),
            hops: self.of.hops,
            place: place.clone(),
        })
    }
}
