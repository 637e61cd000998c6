//! What another domain may have stored and show here, over all its links, however often it comes back.
//!
//! How budgets fill is `core::budget`'s.

use std::time::Duration;

use impp_protocol::command::{Message, Notify};
use impp_protocol::{Address, Domain, Timestamp};

use super::LinkMailbox;
use crate::core::budget::{Cost, Flow, Lacks, Terms};
use crate::core::budgets::BudgetsOf;
use crate::core::config::Federation;

/// What the rows of a message weigh on the disk beside its body.
const ROWS_BYTES: u64 = 1024;
/// Of what a domain has, one of its users has one part in so many.
const SENDER_PART: u64 = 4;
/// What is looked at for a watcher whom a notification names.
const WATCHER_BYTES: u64 = 128;
/// A link is not read for so long at most: less than the other side waits for answers.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What a mark weighs on the disk.
pub(super) const MARK_BYTES: u64 = 512;

/// A pair of domains: ours, and the other.
type Pair = (Domain, Domain);

/// See the module.
#[derive(Debug, Default)]
pub struct DomainBudgets {
    messages: BudgetsOf<Pair>,
    /// Of these, what each of its users has spent.
    senders: BudgetsOf<(Pair, Address)>,
    presence: BudgetsOf<Pair>,
}

impl DomainBudgets {
    /// Takes what a message of one of the other side's users costs: from what the user has, which is a
    /// part of what the domain has, so that the others of it are heard too.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn message(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        (message, from): (&Message, &Address),
    ) -> Result<(), Duration> {
        let stored = if message.volatile { 0 } else { ROWS_BYTES + message.body.len() as u64 };
        self.take(now, link, links, from, stored)
    }

    /// The same of a mark, or of another word, that one of the other side's users lets somebody here be told,
    /// and of which so many bytes are stored.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn mark(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        (from, stored): (&Address, u64),
    ) -> Result<(), Duration> {
        self.take(now, link, links, from, stored)
    }

    fn take(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        from: &Address,
        stored: u64,
    ) -> Result<(), Duration> {
        let terms = Terms {
            work: Flow { per_second: links.messages_per_second, burst: links.messages_burst },
            stored: Flow {
                per_second: links.stored_bytes_per_second,
                burst: links.stored_bytes_burst,
            },
        };
        let (pair, cost) = (pair(link), Cost { work: 1, stored });
        let (sender, part) = ((pair.clone(), from.clone()), terms.part(SENDER_PART));
        let taken = self.senders.could(now, &sender, part, cost).and_then(|()| {
            self.messages.take(now, &pair, terms, cost)?;
            self.senders.owe(now, &sender, part, cost);
            Ok(())
        });
        taken.map_err(|(Lacks::Work(wait) | Lacks::Stored(wait))| wait)
    }

    /// A notification has come, asked for or not: for how long no more is read. Presence waits first:
    /// what comes later says what is newest then.
    pub(super) fn notified(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        notify: &Notify,
    ) -> Option<Duration> {
        let content = notify.snapshot.iter().chain(&notify.patch).map(|bytes| bytes.len() as u64);
        let watchers = WATCHER_BYTES * (1 + notify.watchers.len() as u64);
        let flow =
            Flow { per_second: links.presence_bytes_per_second, burst: links.presence_bytes_burst };
        let terms = Terms { work: flow, stored: flow };
        let cost = Cost { work: 0, stored: watchers + content.sum::<u64>() };
        let pause = self.presence.owe(now, &pair(link), terms, cost).min(PAUSE_MAX);
        (!pause.is_zero()).then_some(pause)
    }
}

fn pair(link: &LinkMailbox) -> Pair {
    (link.local.clone(), link.remote.clone())
}

#[cfg(test)]
mod tests {
    use impp_presence::LinkId;
    use impp_protocol::MessageId;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    /// F13: one user of another domain does not take all that the domain has, and what is refused costs
    /// nobody anything.
    #[test]
    fn f13_one_user_of_a_domain_leaves_the_others_their_part() {
        let link = LinkMailbox::new(
            LinkId([1; 16]),
            Domain::parse("a.example").unwrap(),
            Domain::parse("b.example").unwrap(),
        );
        let links =
            Federation { messages_per_second: 8, messages_burst: 80, ..Federation::default() };
        let (budgets, now) = (DomainBudgets::default(), Timestamp::from_millis(1_000_000));
        let message = Message::new(MessageId([1; 16]), address("alice@a.example"), "x".into());
        let taken = |from: &str, after| {
            let from = address(from);
            let now = now.after(Duration::from_secs(after));
            (0..1000)
                .filter(|_| budgets.message(now, &link, &links, (&message, &from)).is_ok())
                .count()
        };
        assert_eq!(taken("mallory@b.example", 0), 20);
        assert_eq!(taken("bob@b.example", 0), 20);
        assert_eq!(taken("carol@b.example", 0), 20);
        assert_eq!(taken("dana@b.example", 0), 20);
        assert_eq!(taken("erin@b.example", 0), 0, "the domain has no more");
        // Who was refused by the domain has spent nothing of his own.
        assert_eq!(taken("mallory@b.example", 4), 8);
        assert_eq!(taken("erin@b.example", 4), 20);
        assert_eq!(taken("bob@b.example", 4), 4);
    }

    /// F13: word that somebody writes is counted, and costs no room of which it takes none.
    #[test]
    fn f13_what_is_not_stored_costs_nothing_of_what_may_be() {
        let (local, remote) = (Domain::parse("a.example"), Domain::parse("b.example"));
        let link = LinkMailbox::new(LinkId([1; 16]), local.unwrap(), remote.unwrap());
        let links = Federation {
            messages_burst: 4000,
            stored_bytes_per_second: 1,
            stored_bytes_burst: 10 * MARK_BYTES,
            ..Federation::default()
        };
        let (budgets, now) = (DomainBudgets::default(), Timestamp::from_millis(1_000_000));
        let bob = address("bob@b.example");
        let taken = |stored| {
            let take = |_: &_| budgets.mark(now, &link, &links, (&bob, stored)).is_ok();
            (0..2000).filter(take).count()
        };
        let (words, marks) = (taken(0), taken(MARK_BYTES));
        assert_eq!((words, marks), (1000, 0), "a quarter of the domain's is one user's");
        let dana = address("dana@b.example");
        let mark = |_: &_| budgets.mark(now, &link, &links, (&dana, MARK_BYTES)).is_ok();
        assert_eq!((0..100).filter(mark).count(), 10);
    }
}
