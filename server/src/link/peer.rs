//! One other domain: what waits for it, the links to it, and the task that dials when something
//! waits and there is none.
//!
//! What goes over a link is in `connection`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use impp_federation::backoff::Backoff;
use impp_federation::queue::{Cause, Limits, Queue};
use impp_federation::settle::{Candidate, Verdict, settle};
use impp_federation::shares::Claim;
use impp_locate::Service;
use impp_protocol::command::{Done, Message};
use impp_protocol::{Code, Command, Domain, Error, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::dial::{self, NotOpened};
use super::{LinkMailbox, Opened, connection, outgoing};
use crate::config::{Federation, seconds};
use crate::host::Host;
use crate::ids::SessionId;
use crate::random;
use crate::wire::rate::Rate;

/// Bytes of waiting messages of one domain that are in memory too.
const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The same for all domains: each gets its part of it, so that very many have little each.
const MEMORY_BYTES_ALL: u64 = 32 * 1024 * 1024;
/// One account may have so large a part of the places of a queue, and of those for other domains:
/// the others find places too.
pub(super) const SENDER_PART: u64 = 8;
/// But so many at least, as far as there are.
const SENDER_ITEMS_MIN: u64 = 100;
/// Links to one domain that are kept: its servers may be several. A further one replaces the
/// oldest.
const LINKS_MAX: usize = 4;
/// Links to one domain at once, with those that drain; further ones are refused.
const LINKS_AT_ONCE_MAX: usize = 16;
/// An entry that has nothing to do ends after this.
const LINGER: Duration = Duration::from_secs(1);

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
pub struct Ask {
    /// What is asked.
    pub command: Command,
    /// Who waits.
    pub answer: oneshot::Sender<Result<Done, Error>>,
    /// Held as long as it waits for a link.
    pub claim: Claim,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    /// The domain here.
    pub local: Domain,
    /// The domain there.
    pub remote: Domain,
    /// Told when the task has to look.
    pub changed: Notify,
    inner: Mutex<Inner>,
    /// The link for presence that the mirrors know of.
    told: Mutex<Option<SessionId>>,
}

/// What waits and which links there are.
#[derive(Debug)]
pub struct Inner {
    /// Messages.
    pub queue: Queue,
    /// Requests of which somebody waits for the answer.
    pub asks: VecDeque<Ask>,
    /// Messages that are not stored, and what their senders hold for them.
    pub volatile: VecDeque<(Message, Claim)>,
    /// The entry is out of the table.
    pub closed: bool,
    /// Something has come in since the task last looked.
    pub touched: bool,
    /// Links that open just now.
    pub opening: usize,
    /// Of whom the place was made for: links that lie idle are paid for too. Nobody, if the other
    /// side has called.
    pub paid: Option<Claim>,
    /// A link is sought just now.
    dialling: bool,
    /// How many messages the other side may still send: whatever becomes of them, each leaves a
    /// record by which a repeat is known.
    pub taken: Rate,
    links: Vec<Arc<Link>>,
    /// For each service: failures to reach it in a row, and when it is tried again.
    tries: [Try; 2],
}

/// What a place is to domains of which nobody here needs anything.
#[derive(Debug)]
pub enum Spare {
    /// Something goes on.
    Busy,
    /// The other side uses a link.
    Theirs,
    /// These links lie idle.
    Idle(Vec<Arc<Link>>),
    /// There is nothing.
    Empty,
}

#[derive(Clone, Copy, Debug, Default)]
struct Try {
    failures: u32,
    next: Option<Timestamp>,
}

impl Try {
    /// Once more in vain; when it is tried again.
    fn failed(&mut self, now: Timestamp, backoff: Backoff) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        let next = now.after(backoff.wait(self.failures, random()));
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
    /// The link over which a service is asked for.
    pub fn link(&self, service: Service) -> Option<&Arc<Link>> {
        let serves = |link: &&Arc<Link>| link.opened.services.serve(service);
        self.links.iter().rev().find(|link| serves(link) && !link.is_draining())
    }

    /// Wakes the links.
    pub fn raise(&self) {
        for link in &self.links {
            link.mailbox.signal.raise();
        }
    }

    /// Enters a link that has just opened, and settles between it and the others.
    ///
    /// # Errors
    /// busy, if there are too many.
    pub fn attach(
        &mut self,
        local: &Domain,
        remote: &Domain,
        link: &Arc<Link>,
    ) -> Result<(), Error> {
        if self.links.len() >= LINKS_AT_ONCE_MAX {
            let text = format!("there are {LINKS_AT_ONCE_MAX} links to {remote} already");
            return Err(Error::new(Code::Busy, text));
        }
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
        self.links.push(link.clone());
        self.queue.clear_trouble();
        tracing::info!(%local, %remote, dialled_here = link.candidate.dialled_here, "link opened");
        Ok(())
    }

    /// Forgets a link that has ended. One that we dialled and that did not last was a failed try:
    /// else who closes links as soon as they are open would be dialled without a pause.
    pub fn detach(&mut self, link: &Arc<Link>, now: Timestamp, backoff: Backoff) {
        self.links.retain(|other| !Arc::ptr_eq(other, link));
        let answered = link.answered.load(Ordering::Acquire);
        if answered && link.since.elapsed() >= backoff.max {
            self.tries.iter_mut().for_each(|attempt| attempt.failures = 0);
        } else if link.candidate.dialled_here && self.links.is_empty() {
            for attempt in &mut self.tries {
                attempt.failed(now, backoff);
            }
            let remote = &link.mailbox.remote;
            let text = format!("the link to {remote} did not last");
            let next = self.tries[index_of(Service::Messages)].next;
            self.queue.trouble(Cause::here(Code::Unreachable, text), next);
        }
    }

    /// Whether there is no link, nor one that opens.
    pub fn is_apart(&self) -> bool {
        self.links.is_empty() && self.opening == 0
    }

    /// What there is if nobody here needs anything of it.
    pub fn spare(&self) -> Spare {
        let waits = !self.queue.is_empty() || !self.asks.is_empty() || !self.volatile.is_empty();
        if self.closed || self.dialling || self.opening > 0 || waits {
            Spare::Busy
        } else if self.links.is_empty() {
            Spare::Empty
        } else if self.links.iter().any(|link| link.mailbox.watchers() > 0) {
            Spare::Theirs
        } else {
            Spare::Idle(self.links.clone())
        }
    }

    /// After the other side has asked to be left alone for a while.
    pub fn rest(&mut self, remote: &Domain, until: Timestamp) {
        for attempt in &mut self.tries {
            attempt.next = attempt.next.max(Some(until));
        }
        let text = format!("{remote} takes no links for a while");
        self.queue.trouble(Cause::here(Code::Unreachable, text), Some(until));
    }

    /// Whether a service cannot be asked for before some time.
    pub fn backs_off(&self, service: Service, now: Timestamp) -> bool {
        let next = self.tries[index_of(service)].next;
        self.link(service).is_none() && next.is_some_and(|next| next > now)
    }

    fn wants(&self, service: Service, presence_wanted: bool) -> bool {
        let asked = self.asks.iter().any(|ask| service_of(&ask.command) == service);
        asked
            || match service {
                Service::Presence => presence_wanted,
                Service::Messages => self.queue.wants_link() || !self.volatile.is_empty(),
            }
    }
}

/// The service that a request belongs to.
pub(super) fn service_of(command: &Command) -> Service {
    match command {
        Command::Message(_) => Service::Messages,
        _ => Service::Presence,
    }
}

/// What a queue may hold.
fn limits(host: &Host) -> Limits {
    let links = &host.settings.load().federation;
    let (items_max, domains) = (links.queue_items_max, host.peers.len().max(1) as u64);
    Limits {
        items_max,
        sender_items_max: (items_max / SENDER_PART).max(SENDER_ITEMS_MIN).min(items_max),
        bytes_max: links.queue_bytes_max,
        memory_bytes_max: MEMORY_BYTES_MAX.min(MEMORY_BYTES_ALL / domains),
        backoff: backoff(links),
    }
}

/// How long tries are apart.
pub(super) fn backoff(links: &Federation) -> Backoff {
    Backoff {
        min: Duration::from_millis(links.retry_min_milliseconds),
        max: seconds(links.retry_max_seconds),
    }
}

/// What the task does next.
enum Step {
    /// Dial for a service.
    Dial(Service),
    /// Wait until then, or for a change.
    Wait(Option<Timestamp>),
    /// There is nothing to do any more.
    End,
}

impl Peer {
    /// An entry and its task.
    pub fn start(
        host: &Arc<Host>,
        local: Domain,
        remote: Domain,
        paid: Option<Claim>,
    ) -> Arc<Peer> {
        let links = &host.settings.load().federation;
        let (rate, burst) = (links.messages_per_second, links.messages_burst);
        let inner = Inner {
            queue: Queue::new(limits(host)),
            taken: Rate::new(Instant::now(), rate, burst),
            asks: VecDeque::new(),
            volatile: VecDeque::new(),
            closed: false,
            touched: false,
            opening: 0,
            paid,
            dialling: false,
            links: Vec::new(),
            tries: Default::default(),
        };
        let inner = Mutex::new(inner);
        let (changed, told) = (Notify::new(), Mutex::default());
        let peer = Arc::new(Peer { local, remote, changed, inner, told });
        tokio::spawn(peer.clone().run(host.clone()));
        peer
    }

    /// What waits and which links there are.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says over which link presence is asked for now.
    pub fn tell_mirrors(&self, host: &Host) {
        // One at a time, so that the mirrors hear of links in their order.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.lock().link(Service::Presence).map(|link| link.mailbox.id);
        match (std::mem::replace(&mut *told, now), now) {
            (before, Some(now)) if before != Some(now) => {
                host.mirrors.link_up(&self.local, &self.remote, now);
            }
            (Some(before), None) => {
                host.mirrors.link_down(&self.local, &self.remote, before);
            }
            _ => {}
        }
    }

    async fn run(self: Arc<Peer>, host: Arc<Host>) {
        let mut idle_since = None;
        loop {
            let now = host.clock.now();
            {
                let mut inner = self.lock();
                inner.queue.set_limits(limits(&host));
                inner.queue.expire(now);
                // Without a link nobody else does, and they would be due for ever.
                if inner.queue.release(now) {
                    inner.raise();
                }
            }
            outgoing::store_endings(&host, &self);
            let presence_wanted = host.mirrors.wanted(&self.local, &self.remote);
            let step = match host.stopping.begun.is_cancelled() {
                // What waits is on the disk.
                true => Step::Wait(None),
                false => self.step(&host, now, presence_wanted, &mut idle_since),
            };
            match step {
                Step::Dial(service) => self.dial(&host, service).await,
                Step::Wait(until) => {
                    let changed = self.changed.notified();
                    match until {
                        Some(until) => {
                            let sleep = tokio::time::sleep_until(host.clock.instant(until));
                            tokio::select! { () = sleep => {}, () = changed => {} }
                        }
                        None => changed.await,
                    }
                }
                Step::End => return host.peers.forget(&self),
            }
        }
    }

    fn step(
        &self,
        host: &Host,
        now: Timestamp,
        presence_wanted: bool,
        idle: &mut Option<Timestamp>,
    ) -> Step {
        let mut inner = self.lock();
        // Its place was given to another.
        if inner.closed {
            return Step::End;
        }
        let mut until = inner.queue.next_deadline();
        // Without links what waits comes to its end all the same.
        let dials = host.routes.federates(&self.local);
        for service in Service::ALL {
            let wanted = dials && inner.wants(service, presence_wanted);
            if !wanted || inner.link(service).is_some() {
                continue;
            }
            match inner.tries[index_of(service)].next {
                Some(next) if next > now => {
                    until = Some(until.map_or(next, |until| until.min(next)));
                }
                _ => return Step::Dial(service),
            }
        }
        let nothing = inner.queue.is_empty()
            && inner.is_apart()
            && inner.asks.is_empty()
            && inner.volatile.is_empty()
            && !presence_wanted;
        if !nothing {
            *idle = None;
            return Step::Wait(until);
        }
        // What came after `presence_wanted` was looked at is looked at before the end.
        if std::mem::take(&mut inner.touched) {
            *idle = None;
        }
        let end = idle.get_or_insert(now).after(LINGER);
        if end > now {
            return Step::Wait(Some(end));
        }
        (inner.closed, inner.paid) = (true, None);
        Step::End
    }

    async fn dial(self: &Arc<Peer>, host: &Arc<Host>, service: Service) {
        let (local, remote) = (&self.local, &self.remote);
        {
            let mut inner = self.lock();
            inner.dialling = true;
            if inner.paid.is_none() {
                inner.paid = host.peers.shares().of_any(local, remote, None);
            }
        }
        let dialled = dial::dial(host, local, remote, service).await;
        self.lock().dialling = false;
        match dialled {
            Ok((peer, link, pipe)) => {
                tokio::spawn(connection::serve(host.clone(), peer, link, pipe));
            }
            Err(error) => self.not_opened(host, service, error),
        }
    }

    fn not_opened(&self, host: &Arc<Host>, service: Service, error: NotOpened) {
        let NotOpened { cause, definite } = error;
        let (local, remote) = (&self.local, &self.remote);
        let why = cause.text.as_deref().unwrap_or_default();
        tracing::info!(%local, %remote, code = %cause.code, why, "no link");
        host.metrics.refuse_link(cause.code);
        let now = host.clock.now();
        let asks: Vec<Ask> = {
            let mut inner = self.lock();
            if inner.link(service).is_some() {
                // The other side has called meanwhile: the way from here does not matter.
                return;
            }
            let backoff = backoff(&host.settings.load().federation);
            let next = inner.tries[index_of(service)].failed(now, backoff);
            if service == Service::Messages {
                inner.volatile.clear();
                match definite {
                    true => inner.queue.fail_all(&cause),
                    false => inner.queue.trouble(cause.clone(), Some(next)),
                }
            }
            let (failed, left) = std::mem::take(&mut inner.asks)
                .into_iter()
                .partition(|ask| service_of(&ask.command) == service);
            inner.asks = left;
            Vec::from_iter::<VecDeque<Ask>>(failed)
        };
        let error = || Error::new(cause.code, why).by(cause.by);
        for ask in asks {
            let _ = ask.answer.send(Err(error()));
        }
        if service == Service::Presence && definite {
            host.mirrors.unreachable(local, remote, &error());
        }
    }
}

fn index_of(service: Service) -> usize {
    match service {
        Service::Presence => 0,
        Service::Messages => 1,
    }
}
