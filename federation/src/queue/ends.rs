//! When what waits comes to its end without an answer: its time is over, or the domain takes nothing.

use impp_protocol::Timestamp;
use impp_protocol::state::Fate;

use super::item::{Cause, Place, Stage};
use super::{Queue, Ticket};

impl Queue {
    /// Nothing can be sent to the domain for now; it is tried again at `next`.
    pub fn trouble(&mut self, cause: Cause, next: Option<Timestamp>) {
        self.trouble = Some((cause, next));
        self.in_vain();
    }

    /// The domain was tried for all that waits, or cannot be.
    pub fn in_vain(&mut self) {
        self.failed_tries += 1;
        for ticket in std::mem::take(&mut self.overdue) {
            if let Some(item) = self.items.get(&ticket) {
                self.deadlines.insert((item.deadline(), ticket));
            }
        }
    }

    /// The domain can be reached again.
    pub fn clear_trouble(&mut self) {
        self.trouble = None;
    }

    /// The domain definitely takes no messages: all that waits comes to its end.
    pub fn fail_all(&mut self, cause: &Cause) {
        let waiting: Vec<Ticket> = self
            .items
            .values()
            .filter(|i| i.stage == Stage::Waiting)
            .map(|i| i.of.ticket)
            .collect();
        for ticket in waiting {
            let Some(item) = self.items.get(&ticket) else { continue };
            let fate = if item.of.maybe_taken { Fate::Unknown } else { Fate::Failed };
            self.end(ticket, Place::Ended(fate, Some(cause.clone())));
        }
    }

    /// Ends what has waited for too long; but nothing before it was tried since it came here. What was
    /// read back after a long stop, or with a clock that is ahead, has its chance.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some((at, ticket)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)
        {
            self.deadlines.remove(&(at, ticket));
            let trouble = self.trouble.as_ref().map(|(cause, _)| cause.clone());
            let Some(item) = self.items.get(&ticket) else { continue };
            if item.stage != Stage::Waiting {
                continue;
            }
            if !item.tried && item.entered == self.failed_tries {
                self.overdue.insert(ticket);
                continue;
            }
            let cause = item.last.clone().or(trouble);
            let fate = match item.of.maybe_taken {
                true => Fate::Unknown,
                false if item.of.expires.is_some_and(|expires| expires <= now) => Fate::Expired,
                false => Fate::Failed,
            };
            let cause = (fate != Fate::Expired).then(|| cause.unwrap_or_else(Cause::too_long));
            self.end(ticket, Place::Ended(fate, cause));
        }
    }

    /// When there is something to do without anything coming in.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let later = self.later.first().map(|(at, _)| *at);
        deadline.into_iter().chain(later).min()
    }
}
