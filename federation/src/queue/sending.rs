//! Whose message goes out next, and what becomes of one that was out.
//!
//! Which pairs take turns is left to `turns`, how many are out to one recipient to `recipients`.

use std::time::Duration;

use impp_protocol::state::Fate;
use impp_protocol::{Address, By, Code, Error, Timestamp};

use super::item::{Cause, Place, Sending, Stage, follow};
use super::{Pair, Queue, Ticket};

/// The longest wait that the other side can ask for.
const REST_MAX: Duration = Duration::from_secs(3600);
/// After so many others, a suspected message is let out alone, however many others wait.
pub(super) const BEFORE_SUSPECT: u32 = 64;

impl Queue {
    /// The next message to send, if one may go out now.
    pub fn next_send(&mut self, now: Timestamp) -> Option<Sending> {
        self.release(now);
        if self.suspect_out {
            return None;
        }
        // Somebody has to take the risk of a suspected message, alone.
        let alone = self.since_suspect >= BEFORE_SUSPECT || self.turns.is_empty();
        if alone && let Some(pair) = self.next_suspect() {
            if self.recipients.out() > 0 {
                self.suspects.push_front(pair);
                return None;
            }
            self.since_suspect = 0;
            self.suspect_out = true;
            return self.send_first(&pair);
        }
        while let Some(pair) = self.turns.next() {
            if !self.recipients.has_place(&pair.1) {
                self.recipients.wait(pair);
                continue;
            }
            if let Some(sending) = self.send_first(&pair) {
                self.since_suspect += u32::from(!self.suspects.is_empty());
                return Some(sending);
            }
        }
        None
    }

    /// The message goes out as a whole from now on: nobody can say any more that it was not taken.
    pub fn goes_out(&mut self, ticket: Ticket) {
        if let Some(item) = self.items.get_mut(&ticket) {
            (item.out_whole, item.tried) = (true, true);
        }
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

    /// A message that was to end elsewhere is not taken there for now: it waits on.
    pub fn waits_on(&mut self, now: Timestamp, ticket: Ticket, error: &Error, random: u64) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        item.last = Some(Cause::said(error));
        item.stage = Stage::Waiting;
        self.deadlines.insert((item.deadline(), ticket));
        let pair = item.pair();
        self.hold(now, &pair, error.retry_after, random);
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

    /// Puts a pair where its first message says; whether that is somewhere.
    pub(super) fn queue_pair(&mut self, pair: &Pair) -> bool {
        let Some(state) = self.pairs.get(pair) else { return false };
        let Some(first) = state.items.front().and_then(|ticket| self.items.get(ticket)) else {
            return false;
        };
        // Each pair is in one place.
        let held = state.until.is_some() || self.recipients.waits(pair);
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
        self.recipients.goes(&pair.1);
        Some(item.sending())
    }

    /// A message that was out is not any more.
    pub(super) fn came_back(&mut self, ticket: Ticket) -> Option<Pair> {
        let item = self.items.get_mut(&ticket).filter(|item| item.stage == Stage::Out)?;
        item.stage = Stage::Waiting;
        let pair = item.pair();
        self.deadlines.insert((item.deadline(), ticket));
        self.recipients.came_back(&pair.1);
        self.suspect_out = false;
        self.uncrowd(&pair.1);
        Some(pair)
    }

    /// There may be a place for one of the pairs that wait for this recipient.
    pub(super) fn uncrowd(&mut self, to: &Address) {
        while let Some(next) = self.recipients.next(to) {
            if self.queue_pair(&next) {
                break;
            }
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
}
