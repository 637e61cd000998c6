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
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::state::Fate;
use impp_protocol::{Address, By, Code, Error, MessageId, Timestamp};

use crate::backoff::Backoff;
pub use item::{Cause, Ending, Item, Place, Sending, Standing, follow};
use item::{Entry, Stage};
use turns::Turns;

/// Messages to one recipient that are out at once.
pub const PER_RECIPIENT_MAX: usize = 8;
/// The longest wait that the other side can ask for.
const REST_MAX: Duration = Duration::from_secs(3600);
/// After so many others, a suspected message is let out alone, however many others wait.
const BEFORE_SUSPECT: u32 = 64;

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
    /// Of these, bytes that are in memory too; the others are read from the disk when it is their
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
    /// Messages by their senders' names for them, and how many each sender has.
    names: BTreeSet<(Address, MessageId, Ticket)>,
    of_sender: HashMap<Address, u64>,
    pairs: HashMap<Pair, PairState>,
    turns: Turns,
    /// Pairs whose first message is suspected of having cut a link.
    suspects: VecDeque<Pair>,
    since_suspect: u32,
    /// Pairs that wait for their recipient to have fewer messages out.
    crowded: HashMap<Address, VecDeque<Pair>>,
    is_crowded: HashSet<Pair>,
    out_to: HashMap<Address, usize>,
    out: usize,
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
            crowded: HashMap::default(),
            is_crowded: HashSet::default(),
            out_to: HashMap::default(),
            out: 0,
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
        !self.deadlines.is_empty() || !self.overdue.is_empty() || self.out > 0
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
        if own >= self.limits.sender_items_max {
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
        if let Some(count) = self.of_sender.get_mut(&item.of.from) {
            *count -= 1;
            if *count == 0 {
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

    /// The next message to send, if one may go out now.
    pub fn next_send(&mut self, now: Timestamp) -> Option<Sending> {
        self.release(now);
        if self.suspect_out {
            return None;
        }
        // Somebody has to take the risk of a suspected message, alone.
        let alone = self.since_suspect >= BEFORE_SUSPECT || self.turns.is_empty();
        if alone && let Some(pair) = self.next_suspect() {
            if self.out > 0 {
                self.suspects.push_front(pair);
                return None;
            }
            self.since_suspect = 0;
            self.suspect_out = true;
            return self.send_first(&pair);
        }
        while let Some(pair) = self.turns.next() {
            if self.out_to.get(&pair.1).is_some_and(|out| *out >= PER_RECIPIENT_MAX) {
                self.is_crowded.insert(pair.clone());
                self.crowded.entry(pair.1.clone()).or_default().push_back(pair);
                continue;
            }
            if let Some(sending) = self.send_first(&pair) {
                self.since_suspect += u32::from(!self.suspects.is_empty());
                return Some(sending);
            }
        }
        None
    }

    /// A message that was to be sent was not: it could not be read, or the link ended before.
    pub fn unsent(&mut self, now: Timestamp, ticket: Ticket, random: u64) {
        if let Some(pair) = self.came_back(ticket) {
            self.hold(now, &pair, None, random);
        }
    }

    /// The other side has answered.
    pub fn answered(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        answer: Result<(), Error>,
        random: u64,
    ) {
        let Some(pair) = self.came_back(ticket) else { return };
        let Some(item) = self.items.get_mut(&ticket) else { return };
        item.cuts = 0;
        let error = match answer {
            Ok(()) => return self.end(ticket, Place::Ended(Fate::Delivered, None)),
            Err(error) => error,
        };
        // What the other side says as "server" is, from here, its home server.
        let by = if error.by == By::Server { By::Home } else { error.by };
        let error = Error { by, ..error };
        let mut cause = Cause::said(&error);
        if let Some(new) = cause.address.clone() {
            match follow(&item.of.recipient, &item.of.to, &new, by) {
                Ok(()) => return self.end(ticket, Place::Moved(new)),
                Err(astray) => cause = astray,
            }
        }
        if error.code.is_permanent() {
            // Too late to be known again says nothing of the time before.
            let fate = match error.code {
                Code::OutOfWindow if item.of.maybe_taken => Fate::Unknown,
                // Had it been taken, this would be a repeat. Whoever finds it, it has one fate.
                Code::Expired => return self.end(ticket, Place::Ended(Fate::Expired, None)),
                _ => Fate::Failed,
            };
            return self.end(ticket, Place::Ended(fate, Some(cause)));
        }
        // This time it was definitely not taken.
        item.out_whole = false;
        item.last = Some(cause);
        self.hold(now, &pair, error.retry_after, random);
    }

    /// The link was cut before the answer came: nobody knows whether the message was taken.
    pub fn cut(&mut self, now: Timestamp, ticket: Ticket, cause: Cause, random: u64) {
        let Some(pair) = self.came_back(ticket) else { return };
        if let Some(item) = self.items.get_mut(&ticket) {
            item.of.maybe_taken |= item.out_whole;
            (item.tried, item.cuts) = (true, item.cuts + 1);
            item.last = Some(cause);
            if item.cuts > 1 {
                return self.hold(now, &pair, None, random);
            }
        }
        self.queue_pair(&pair);
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

    /// A message that was to end elsewhere is not taken there for now: it waits on.
    pub fn waits_on(&mut self, now: Timestamp, ticket: Ticket, error: &Error, random: u64) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        item.last = Some(Cause::said(error));
        item.stage = Stage::Waiting;
        self.deadlines.insert((item.deadline(), ticket));
        let pair = item.pair();
        self.hold(now, &pair, error.retry_after, random);
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

    /// Whether a sender has messages waiting.
    pub fn has_sender(&self, from: &Address) -> bool {
        self.of_sender.contains_key(from)
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
        *self.of_sender.entry(entry.of.from.clone()).or_default() += 1;
        let pair = self.pairs.entry(entry.pair()).or_default();
        // Almost always the last; what is restored comes in any order.
        let at = pair.items.partition_point(|other| *other < ticket);
        pair.items.insert(at, ticket);
        self.items.insert(ticket, entry);
    }

    /// Puts a pair where its first message says; whether that is somewhere.
    fn queue_pair(&mut self, pair: &Pair) -> bool {
        let Some(state) = self.pairs.get(pair) else { return false };
        let Some(first) = state.items.front().and_then(|ticket| self.items.get(ticket)) else {
            return false;
        };
        // Each pair is in one place.
        let held = state.until.is_some() || self.is_crowded.contains(pair);
        if first.stage != Stage::Waiting || held {
            return false;
        }
        if first.cuts > 0 {
            if !self.suspects.contains(pair) {
                self.suspects.push_back(pair.clone());
            }
        } else {
            self.turns.add(pair);
        }
        true
    }

    fn next_suspect(&mut self) -> Option<Pair> {
        loop {
            let pair = self.suspects.pop_front()?;
            let first = self.pairs.get(&pair).and_then(|state| state.items.front());
            let first = first.and_then(|ticket| self.items.get(ticket));
            if first.is_some_and(|item| item.stage == Stage::Waiting && item.cuts > 0) {
                return Some(pair);
            }
            self.queue_pair(&pair);
        }
    }

    fn send_first(&mut self, pair: &Pair) -> Option<Sending> {
        let state = self.pairs.get(pair).filter(|state| state.until.is_none())?;
        let item = self.items.get_mut(state.items.front()?)?;
        if item.stage != Stage::Waiting {
            return None;
        }
        (item.stage, item.out_whole) = (Stage::Out, false);
        self.deadlines.remove(&(item.deadline(), item.of.ticket));
        self.overdue.remove(&item.of.ticket);
        self.out += 1;
        *self.out_to.entry(pair.1.clone()).or_default() += 1;
        Some(item.sending())
    }

    /// The message goes out as a whole from now on: nobody can say any more that it was not taken.
    pub fn goes_out(&mut self, ticket: Ticket) {
        if let Some(item) = self.items.get_mut(&ticket) {
            (item.out_whole, item.tried) = (true, true);
        }
    }

    /// A message that was out is not any more.
    fn came_back(&mut self, ticket: Ticket) -> Option<Pair> {
        let item = self.items.get_mut(&ticket).filter(|item| item.stage == Stage::Out)?;
        item.stage = Stage::Waiting;
        let pair = item.pair();
        self.deadlines.insert((item.deadline(), ticket));
        self.out -= 1;
        self.suspect_out = false;
        if let Some(out) = self.out_to.get_mut(&pair.1) {
            *out -= 1;
            if *out == 0 {
                self.out_to.remove(&pair.1);
            }
        }
        self.uncrowd(&pair.1);
        Some(pair)
    }

    /// There may be a place for one of the pairs that wait for this recipient.
    fn uncrowd(&mut self, to: &Address) {
        let Some(mut crowd) = self.crowded.remove(to) else { return };
        while let Some(next) = crowd.pop_front() {
            self.is_crowded.remove(&next);
            if self.queue_pair(&next) {
                break;
            }
        }
        if !crowd.is_empty() {
            self.crowded.insert(to.clone(), crowd);
        }
    }

    /// Holds a pair back for a while.
    fn hold(&mut self, now: Timestamp, pair: &Pair, least: Option<Duration>, random: u64) {
        let Some(state) = self.pairs.get_mut(pair) else { return };
        state.refusals = state.refusals.saturating_add(1);
        let wait = self.limits.backoff.wait(state.refusals, random);
        let until = now.after(wait.max(least.unwrap_or_default().min(REST_MAX)));
        state.until = Some(until);
        self.later.insert((until, pair.clone()));
        // What stands behind it has had its try too: the pair was refused.
        for ticket in &state.items {
            let Some(item) = self.items.get_mut(ticket) else { continue };
            item.tried = true;
            if self.overdue.remove(ticket) {
                self.deadlines.insert((item.deadline(), *ticket));
            }
        }
    }

    /// Lets pairs go that have waited for their time; whether there were any.
    pub fn release(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some((at, pair)) = self.later.first().cloned().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, pair.clone()));
            if let Some(state) = self.pairs.get_mut(&pair) {
                state.until = None;
            }
            self.queue_pair(&pair);
            any = true;
        }
        any
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
