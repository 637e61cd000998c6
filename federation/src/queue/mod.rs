//! What waits for one other domain: a pure machine. Each message comes to exactly one end; until
//! then it can be asked where it waits and why.
//!
//! Keeping it on the disk, sending, and storing ends are left to the caller.
//!
//! - For each (sender, recipient) messages keep their order: one is out at a time, and a transient
//!   refusal holds that pair alone.
//! - Senders take turns, and each sender's recipients take turns.
//! - A message that was out when a link was cut is suspected of having cut it: it goes out again
//!   only when nothing else is out. So one poisoned message holds its own pair, and no other.

mod ends;
mod item;
mod recipients;
mod sending;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use impp_protocol::hashing::HashMap;
use impp_protocol::state::Fate;
use impp_protocol::{Address, By, MessageId, Timestamp};

use crate::backoff::Backoff;
pub use item::{Cause, Ending, Item, Place, Sending, Standing, follow};
use item::{Entry, Stage};
use recipients::Recipients;
use turns::Turns;

/// Messages to one recipient that are out at once.
pub const PER_RECIPIENT_MAX: usize = 8;
/// Servers that may pass a message on, one after the other.
pub const HOPS_MAX: u64 = 8;

/// The order of messages: rises with the order of requests.
pub type Ticket = u64;

/// What a queue may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages.
    pub items_max: u64,
    /// Of these, messages of one sender.
    pub sender_items_max: u64,
    /// Their bytes.
    pub bytes_max: u64,
    /// Of these, bytes of one sender's messages.
    pub sender_bytes_max: u64,
    /// Of all bytes, those that are in memory too; the others are read from the disk when it is their
    /// turn.
    pub memory_bytes_max: u64,
    /// How long a transient refusal is waited out.
    pub backoff: Backoff,
}

/// There is no place for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too much waits for that domain.
    #[error("too much waits for that domain already")]
    Domain,
    /// Too much of it is this sender's.
    #[error("too much of yours waits for that domain already")]
    Sender,
}

/// A sender and a recipient.
type Pair = (Address, Address);

/// See the module.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    items: HashMap<Ticket, Entry>,
    /// Messages by their senders' names for them.
    names: BTreeSet<(Address, MessageId, Ticket)>,
    of_sender: HashMap<Address, Share>,
    pairs: HashMap<Pair, PairState>,
    turns: Turns,
    /// Pairs whose first message is suspected of having cut a link.
    suspects: VecDeque<Pair>,
    since_suspect: u32,
    recipients: Recipients,
    suspect_out: bool,
    /// Pairs that wait for a time.
    later: BTreeSet<(Timestamp, Pair)>,
    /// When messages that are not out come to their end.
    deadlines: BTreeSet<(Timestamp, Ticket)>,
    /// What has no time left, and was not tried yet.
    overdue: BTreeSet<Ticket>,
    /// How often the domain was tried in vain.
    failed_tries: u64,
    endings: VecDeque<Ticket>,
    bytes: u64,
    in_memory: u64,
    /// Why nothing can be sent to the domain, and when that is tried again.
    trouble: Option<(Cause, Option<Timestamp>)>,
}

/// What one sender has of all.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    items: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct PairState {
    items: VecDeque<Ticket>,
    /// Transient refusals in a row.
    refusals: u32,
    until: Option<Timestamp>,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Queue {
        Queue {
            limits,
            items: HashMap::default(),
            names: BTreeSet::new(),
            of_sender: HashMap::default(),
            pairs: HashMap::default(),
            turns: Turns::default(),
            suspects: VecDeque::new(),
            since_suspect: 0,
            recipients: Recipients::default(),
            suspect_out: false,
            later: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            overdue: BTreeSet::new(),
            failed_tries: 0,
            endings: VecDeque::new(),
            bytes: 0,
            in_memory: 0,
            trouble: None,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many messages are in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether messages wait that are not at their end.
    pub fn wants_link(&self) -> bool {
        !self.deadlines.is_empty() || !self.overdue.is_empty() || self.recipients.out() > 0
    }

    /// Takes a place for a message that is not on the disk yet; later ones of its pair wait for it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn reserve(&mut self, item: Item) -> Result<(), Full> {
        let (items, bytes) = (self.items.len() as u64, self.bytes + item.bytes);
        if items >= self.limits.items_max || bytes > self.limits.bytes_max {
            return Err(Full::Domain);
        }
        let own = self.of_sender.get(&item.from).copied().unwrap_or_default();
        let own_bytes = own.bytes + item.bytes;
        if own.items >= self.limits.sender_items_max || own_bytes > self.limits.sender_bytes_max {
            return Err(Full::Sender);
        }
        self.insert(item);
        Ok(())
    }

    /// Takes a message that is on the disk already, whatever the limits.
    pub fn restore(&mut self, item: Item) {
        let (ticket, maybe_taken) = (item.ticket, item.maybe_taken);
        let followed = follow(&item.recipient, &item.recipient, &item.to, By::Home);
        self.insert(item);
        self.ready(ticket, None);
        // Earlier versions followed where this one does not.
        if let Err(astray) = followed {
            let fate = if maybe_taken { Fate::Unknown } else { Fate::Failed };
            self.end(ticket, Place::Ended(fate, Some(astray)));
        }
    }

    /// The message is on the disk: it may be sent. `body` is kept if there is room.
    pub fn ready(&mut self, ticket: Ticket, body: Option<Bytes>) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        if item.stage != Stage::Reserved {
            return;
        }
        item.stage = Stage::Waiting;
        self.deadlines.insert((item.deadline(), ticket));
        if let Some(body) = body
            && self.in_memory + body.len() as u64 <= self.limits.memory_bytes_max
        {
            self.in_memory += body.len() as u64;
            item.body = Some(body);
        }
        let pair = item.pair();
        self.queue_pair(&pair);
    }

    /// Gives a place back, or forgets a message whose end is on the disk, or that is gone.
    pub fn remove(&mut self, ticket: Ticket) {
        self.came_back(ticket);
        let Some(item) = self.items.remove(&ticket) else { return };
        self.bytes -= item.of.bytes;
        self.names.remove(&(item.of.from.clone(), item.of.id, ticket));
        if let Some(share) = self.of_sender.get_mut(&item.of.from) {
            share.items -= 1;
            share.bytes -= item.of.bytes;
            if share.items == 0 {
                self.of_sender.remove(&item.of.from);
            }
        }
        self.in_memory -= item.body.as_ref().map_or(0, |body| body.len() as u64);
        self.deadlines.remove(&(item.deadline(), ticket));
        self.overdue.remove(&ticket);
        let pair = item.pair();
        if let Some(state) = self.pairs.get_mut(&pair) {
            state.items.retain(|other| *other != ticket);
            if state.items.is_empty() {
                if let Some(until) = state.until {
                    self.later.remove(&(until, pair.clone()));
                }
                self.pairs.remove(&pair);
                self.turns.remove(&pair);
                // It may have been the one that a place was given to.
                self.uncrowd(&pair.1);
            } else {
                self.queue_pair(&pair);
            }
        }
    }

    /// The next message that has come to its end, which is to be stored; then it is removed.
    pub fn next_ending(&mut self) -> Option<Ending> {
        loop {
            let ticket = self.endings.pop_front()?;
            if let Some(ending) = self.items.get(&ticket).and_then(Entry::ending) {
                return Some(ending);
            }
        }
    }

    /// What a sender has waiting is of no use any more: the account is gone.
    pub fn forget_sender(&mut self, from: &Address) {
        let of = |entry: &&Entry| entry.of.from == *from;
        let tickets: Vec<Ticket> = self.items.values().filter(of).map(|e| e.of.ticket).collect();
        tickets.into_iter().for_each(|ticket| self.remove(ticket));
    }

    /// A sender's account cannot be used any more: what of its messages is on the disk ends, as failed
    /// for this cause where none can have been taken, and otherwise as unknown. An answer that still
    /// comes is of no message.
    pub fn end_sender(&mut self, from: &Address, cause: &Cause) {
        let of = |entry: &&Entry| {
            entry.of.from == *from && matches!(entry.stage, Stage::Waiting | Stage::Out)
        };
        let tickets: Vec<Ticket> = self.items.values().filter(of).map(|e| e.of.ticket).collect();
        for ticket in tickets {
            let is_out = self.came_back(ticket).is_some();
            let Some(item) = self.items.get(&ticket) else { continue };
            // What is out may come to be whole after we have looked.
            let fate = if is_out || item.of.maybe_taken { Fate::Unknown } else { Fate::Failed };
            self.end(ticket, Place::Ended(fate, Some(cause.clone())));
        }
    }

    /// The limits may change while the queue is in use; what is in it stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where a message waits, since when, why, and when it is tried again.
    pub fn standing(&self, from: &Address, id: MessageId) -> Option<Standing> {
        let (first, last) = ((from.clone(), id, 0), (from.clone(), id, Ticket::MAX));
        let (.., ticket) = self.names.range(first..=last).next()?;
        let item = self.items.get(ticket)?;
        let until = self.pairs.get(&item.pair()).and_then(|pair| pair.until);
        let (trouble, next) = match &self.trouble {
            Some((cause, next)) => (Some(cause.clone()), *next),
            None => (None, None),
        };
        Some(Standing {
            to: item.of.recipient.clone(),
            since: item.of.since,
            cause: trouble.or_else(|| item.last.clone()),
            next_try: next.max(until),
        })
    }

    fn insert(&mut self, item: Item) {
        let (ticket, entry) = (item.ticket, Entry::new(item, self.failed_tries));
        self.bytes += entry.of.bytes;
        self.names.insert((entry.of.from.clone(), entry.of.id, ticket));
        let share = self.of_sender.entry(entry.of.from.clone()).or_default();
        share.items += 1;
        share.bytes += entry.of.bytes;
        let pair = self.pairs.entry(entry.pair()).or_default();
        // Almost always the last; what is restored comes in any order.
        let at = pair.items.partition_point(|other| *other < ticket);
        pair.items.insert(at, ticket);
        self.items.insert(ticket, entry);
    }

    fn end(&mut self, ticket: Ticket, place: Place) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        self.deadlines.remove(&(item.deadline(), ticket));
        self.overdue.remove(&ticket);
        item.stage = Stage::Ending(place);
        let pair = item.pair();
        if let Some(state) = self.pairs.get_mut(&pair) {
            state.refusals = 0;
        }
        self.endings.push_back(ticket);
    }
}
