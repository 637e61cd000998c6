//! What is known of one other domain under its lock: the links, which of them are kept, when each
//! service is tried again, and what is asked.
//!
//! Who has to hear of a change is told by `peer`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use impp_federation::backoff::Backoff;
use impp_federation::queue::Cause;
use impp_federation::settle::{Candidate, Verdict, settle};
use impp_federation::shares::Claim;
use impp_locate::Service;
use impp_protocol::command::Done;
use impp_protocol::{Code, Command, Domain, Error, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{LinkMailbox, Opened};
use crate::core::chance::Chance;
use crate::messages::Waiting;

/// Links to one domain that are kept: its servers may be several. A further one replaces the
/// oldest.
const LINKS_MAX: usize = 4;
/// Links to one domain at once, with those that drain; further ones are refused.
const LINKS_AT_ONCE_MAX: usize = 16;
/// An open link as others see it.
#[derive(Debug)]
pub struct Link {
    /// Where to leave word.
    pub mailbox: Arc<LinkMailbox>,
    /// What both ends know of it.
    pub candidate: Candidate,
    /// What the other side has said of itself.
    pub opened: Opened,
    /// The other side has answered something over it.
    pub answered: AtomicBool,
    /// Since when it is open.
    since: Instant,
}

/// A request that waits for a link.
#[derive(Debug)]
pub(super) struct Ask {
    /// What is asked.
    pub(super) command: Command,
    /// Who waits.
    pub(super) answer: oneshot::Sender<Result<Done, Error>>,
    /// Held as long as it waits for a link.
    pub(super) _claim: Claim,
}

/// Which links there are, and what is asked.
#[derive(Debug)]
pub(super) struct Inner {
    /// Requests of which somebody waits for the answer.
    pub(super) asks: VecDeque<Ask>,
    /// The entry is out of the table.
    pub(super) closed: bool,
    /// Something has come in since the task last looked.
    pub(super) touched: bool,
    /// Links that open just now.
    pub(super) opening: usize,
    /// Of whom the place was made for: links that lie idle are paid for too. Nobody, if the other
    /// side has called.
    pub(super) paid: Option<Claim>,
    /// A link is sought just now.
    pub(super) dialling: bool,
    pub(super) links: Vec<Arc<Link>>,
    /// For each service: failures to reach it in a row, and when it is tried again.
    tries: [Try; 2],
}

/// What a place is to domains of which nobody here needs anything.
#[derive(Debug)]
pub(super) enum Spare {
    /// Something goes on.
    Busy,
    /// The other side uses a link.
    Theirs,
    /// These links lie idle.
    Idle(Vec<Arc<Link>>),
    /// There was nothing, and the entry has ended.
    Ended,
}

#[derive(Clone, Copy, Debug, Default)]
struct Try {
    failures: u32,
    next: Option<Timestamp>,
}

impl Try {
    /// Once more in vain; when it is tried again.
    fn failed(&mut self, now: Timestamp, backoff: Backoff, chance: &dyn Chance) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        let next = now.after(backoff.wait(self.failures, chance.spread()));
        let next = self.next.map_or(next, |asked| asked.max(next));
        self.next = Some(next);
        next
    }
}

impl Link {
    /// A link that has just opened.
    pub fn new(mailbox: Arc<LinkMailbox>, candidate: Candidate, opened: Opened) -> Link {
        let answered = AtomicBool::new(false);
        Link { mailbox, candidate, opened, answered, since: Instant::now() }
    }

    /// Whether another one is kept.
    pub fn is_draining(&self) -> bool {
        self.mailbox.is_draining()
    }

    /// Another one is kept, or either side has said goodbye.
    pub fn drain(&self) {
        self.mailbox.drain();
    }
}

impl Inner {
    pub(super) fn new(paid: Option<Claim>) -> Inner {
        Inner {
            asks: VecDeque::new(),
            closed: false,
            touched: false,
            opening: 0,
            paid,
            dialling: false,
            links: Vec::new(),
            tries: Default::default(),
        }
    }

    /// The link over which a service is asked for.
    pub(super) fn link(&self, service: Service) -> Option<&Arc<Link>> {
        let serves = |link: &&Arc<Link>| link.opened.services.has(service);
        self.links.iter().rev().find(|link| serves(link) && !link.is_draining())
    }

    /// Wakes the links.
    pub(super) fn raise(&self) {
        for link in &self.links {
            link.mailbox.signal.raise();
        }
    }

    /// Whether there is no link, nor one that opens.
    pub(super) fn is_apart(&self) -> bool {
        self.links.is_empty() && self.opening == 0
    }

    /// When a service may be tried again, if that is not now.
    pub(super) fn next_try(&self, service: Service, now: Timestamp) -> Option<Timestamp> {
        self.tries[index_of(service)].next.filter(|next| *next > now)
    }

    /// A try was in vain; when the next one is.
    pub(super) fn failed(
        &mut self,
        service: Service,
        now: Timestamp,
        backoff: Backoff,
        chance: &dyn Chance,
    ) -> Timestamp {
        self.tries[index_of(service)].failed(now, backoff, chance)
    }

    /// Enters a link that has just opened, and settles between it and the others.
    ///
    /// # Errors
    /// busy, if there are too many.
    pub(super) fn attach(&mut self, waiting: &Waiting, link: &Arc<Link>) -> Result<(), Error> {
        if self.links.len() >= LINKS_AT_ONCE_MAX {
            let remote = &waiting.remote;
            let text = format!("there are {LINKS_AT_ONCE_MAX} links to {remote} already");
            return Err(Error::new(Code::Busy, text));
        }
        self.settle(&waiting.local, &waiting.remote, link);
        self.links.push(link.clone());
        waiting.with(|queue| queue.clear_trouble());
        Ok(())
    }

    /// Settles between a link that has just opened and the others.
    fn settle(&self, local: &Domain, remote: &Domain, link: &Link) {
        for older in &self.links {
            match settle(local, remote, older.candidate, link.candidate) {
                Verdict::Both => {}
                Verdict::Newer => older.drain(),
                Verdict::Older => link.drain(),
            }
        }
        let kept: Vec<&Arc<Link>> = self.links.iter().filter(|link| !link.is_draining()).collect();
        if let [oldest, rest @ ..] = &*kept
            && rest.len() + 1 >= LINKS_MAX
        {
            oldest.drain();
        }
    }

    /// Forgets a link that has ended. One that we dialled and that did not last was a failed try:
    /// else who closes links as soon as they are open would be dialled without a pause.
    pub(super) fn detach(
        &mut self,
        waiting: &Waiting,
        link: &Arc<Link>,
        now: Timestamp,
        backoff: Backoff,
        chance: &dyn Chance,
    ) {
        self.links.retain(|other| !Arc::ptr_eq(other, link));
        let answered = link.answered.load(Ordering::Acquire);
        if answered && link.since.elapsed() >= backoff.max {
            self.tries.iter_mut().for_each(|attempt| attempt.failures = 0);
        } else if link.candidate.dialled_here && self.links.is_empty() {
            for attempt in &mut self.tries {
                attempt.failed(now, backoff, chance);
            }
            let next = self.tries[index_of(Service::Messages)].next;
            let text = format!("the link to {} did not last", waiting.remote);
            let cause = Cause::here(Code::Unreachable, text);
            waiting.with(|queue| queue.trouble(cause, next));
        }
    }

    /// After the other side has asked to be left alone for a while.
    pub(super) fn rest(&mut self, waiting: &Waiting, until: Timestamp) {
        for attempt in &mut self.tries {
            attempt.next = attempt.next.max(Some(until));
        }
        let text = format!("{} takes no links for a while", waiting.remote);
        let cause = Cause::here(Code::Unreachable, text);
        waiting.with(|queue| queue.trouble(cause, Some(until)));
    }

    /// What there is if nobody here needs anything of it; nothing is ended at once.
    pub(super) fn spare(&mut self, waiting: &Waiting) -> Spare {
        let waits = !waiting.is_empty() || !self.asks.is_empty();
        if self.closed || self.dialling || self.opening > 0 || waits {
            Spare::Busy
        } else if self.links.is_empty() {
            // A message may have come in just now.
            match waiting.close() {
                true => {
                    self.closed = true;
                    Spare::Ended
                }
                false => Spare::Busy,
            }
        } else if self.links.iter().any(|link| link.mailbox.watchers() > 0) {
            Spare::Theirs
        } else {
            Spare::Idle(self.links.clone())
        }
    }
}

/// The service that a request belongs to.
pub(super) fn service_of(command: &Command) -> Service {
    match command {
        // Of an inbox: marks.
        Command::Message(_) | Command::Publish(_) => Service::Messages,
        _ => Service::Presence,
    }
}

fn index_of(service: Service) -> usize {
    match service {
        Service::Presence => 0,
        Service::Messages => 1,
    }
}
