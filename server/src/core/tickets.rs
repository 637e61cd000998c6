//! The tickets that resume a session: the one used last, and those that were handed out for it.
//!
//! An answer may be lost on its way. So a ticket goes on being good until one of its successors is used,
//! which shows that this one has arrived; then it dies, and its other successors with it.

use std::collections::VecDeque;

use impp_protocol::sasl::resume::{Binding, Ticket};

/// A ticket as it was handed out.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The ticket.
    pub ticket: Ticket,
    /// What it is bound by: by what is weaker it is never taken.
    pub binding: Binding,
}

impl Issued {
    /// Whether it is taken from who proves it by this.
    pub fn is_taken_by(&self, binding: Binding) -> bool {
        binding <= self.binding
    }
}

/// Successors of a ticket that are good at once. Who needs more has lost as many answers one after the
/// other: the oldest goes.
pub const SUCCESSORS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Tickets {
    /// The one used last; at first that of the sign-in.
    used: Issued,
    /// Its successors, the newest last.
    successors: VecDeque<Issued>,
}

impl Tickets {
    /// Those of a session that was just made: the one that its sign-in brings.
    pub fn new(first: Issued) -> Tickets {
        Tickets { used: first, successors: VecDeque::new() }
    }

    /// The one that was handed out last.
    pub fn newest(&self) -> &Ticket {
        &self.successors.back().unwrap_or(&self.used).ticket
    }

    /// The one of which this holds.
    pub fn find(&self, holds: impl Fn(&Issued) -> bool) -> Option<&Ticket> {
        let found = std::iter::once(&self.used).chain(&self.successors).find(|good| holds(good));
        found.map(|good| &good.ticket)
    }

    /// Uses a ticket, for which `fresh` is handed out. Whether it was good.
    pub fn take(&mut self, ticket: &Ticket, fresh: Issued) -> bool {
        if self.used.ticket != *ticket {
            let found = self.successors.iter().position(|good| good.ticket == *ticket);
            let Some(found) = found.and_then(|at| self.successors.remove(at)) else { return false };
            self.used = found;
            self.successors.clear();
        }
        if self.successors.len() == SUCCESSORS_MAX {
            self.successors.pop_front();
        }
        self.successors.push_back(fresh);
        true
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::SessionId;

    use super::*;

    fn ticket(n: u8) -> Ticket {
        Ticket::new(SessionId([1; 16]), [n; 32])
    }

    fn issued(n: u8) -> Issued {
        Issued { ticket: ticket(n), binding: Binding::Exporter }
    }

    /// Which of the first ten are good.
    fn good(tickets: &Tickets) -> Vec<u8> {
        (0..10).filter(|n| tickets.find(|good| good.ticket == ticket(*n)).is_some()).collect()
    }

    #[test]
    fn c9_a_ticket_dies_when_a_successor_is_used_and_so_do_the_others() {
        let mut tickets = Tickets::new(issued(0));
        // Three answers, of which two are lost.
        for fresh in 1..=3 {
            assert!(tickets.take(&ticket(0), issued(fresh)));
            assert_eq!(*tickets.newest(), ticket(fresh));
        }
        assert_eq!(good(&tickets), [0, 1, 2, 3]);
        assert!(tickets.take(&ticket(2), issued(4)));
        assert_eq!(good(&tickets), [2, 4]);
        for dead in [0, 1, 3, 9] {
            assert!(!tickets.take(&ticket(dead), issued(8)), "{dead}");
        }
        assert_eq!(good(&tickets), [2, 4]);
    }

    #[test]
    fn no_more_tickets_are_good_than_are_kept() {
        let mut tickets = Tickets::new(issued(0));
        for fresh in 1..=9 {
            assert!(tickets.take(&ticket(0), issued(fresh)));
        }
        assert_eq!(good(&tickets), [0, 6, 7, 8, 9]);
    }

    #[test]
    fn c6_a_ticket_is_taken_by_what_binds_as_strongly_and_by_nothing_weaker() {
        use Binding::{EndPoint, Exporter, Unbound};
        for (binding, taken) in [
            (Exporter, &[Exporter][..]),
            (EndPoint, &[Exporter, EndPoint]),
            (Unbound, &[Exporter, EndPoint, Unbound]),
        ] {
            let ticket = Issued { binding, ..issued(1) };
            let by = Binding::EVERY.iter().copied().filter(|by| ticket.is_taken_by(*by));
            assert_eq!(by.collect::<Vec<_>>(), taken, "{binding}");
        }
    }
}
