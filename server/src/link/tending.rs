//! The task that sees to one other domain: it dials when something is wanted and there is no link, has
//! the ends of messages stored, and ends the entry when there is nothing to do any more.
//!
//! It looks whenever it is told to, or something is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use impp_locate::Service;
use impp_protocol::{Error, Timestamp};

use super::connection;
use super::dial::NotOpened;
use super::links::{Ask, service_of};
use super::peer::Peer;
use super::peers::Peers;
use super::told::Untold;
use crate::messages::backoff;

/// An entry that has nothing to do ends after this.
const LINGER: Duration = Duration::from_secs(1);

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
    /// Sees to it until it ends.
    pub(super) async fn tend(self: Arc<Peer>, peers: Arc<Peers>) {
        let (waiting, serving) = (&self.waiting, peers.serving.clone());
        let clock = serving.clock.clone();
        let mut idle_since = None;
        loop {
            let now = clock.now();
            let limits = peers.queues.limits();
            let dials = peers.dialler.may_dial(self.local());
            let late = waiting.with(|queue| {
                queue.set_limits(limits);
                if !dials {
                    // Without links what waits comes to its end all the same.
                    queue.in_vain();
                }
                queue.expire(now);
                // Without a link nobody else does, and they would be due for ever.
                queue.release(now)
            });
            if late {
                self.inner.lock().raise();
            }
            serving.fates.store_endings(waiting);
            let presence_wanted = serving.mirrors.wanted(self.local(), self.remote());
            let step = match serving.open.is_stopping() {
                // What waits is on the disk.
                true => Step::Wait(None),
                false => self.step(now, dials, presence_wanted, &mut idle_since),
            };
            match step {
                Step::Dial(service) => self.dial(&peers, service).await,
                Step::Wait(until) => {
                    let changed = waiting.changed.notified();
                    match until {
                        Some(until) => {
                            tokio::select! { () = clock.reach(until) => {}, () = changed => {} }
                        }
                        None => changed.await,
                    }
                }
                Step::End => return peers.forget(&self),
            }
        }
    }

    fn step(
        &self,
        now: Timestamp,
        dials: bool,
        presence_wanted: bool,
        idle: &mut Option<Timestamp>,
    ) -> Step {
        let mut inner = self.inner.lock();
        // Its place was given to another.
        if inner.closed {
            return Step::End;
        }
        let mut until = self.waiting.with(|queue| queue.next_deadline());
        for service in Service::ALL {
            let asked = inner.asks.iter().any(|ask| service_of(&ask.command) == service);
            let wanted = match service {
                Service::Presence => presence_wanted,
                Service::Messages => self.waiting.wants_link(),
            };
            if !dials || !(asked || wanted) || inner.link(service).is_some() {
                continue;
            }
            match inner.next_try(service, now) {
                Some(next) => until = Some(until.map_or(next, |until| until.min(next))),
                None => return Step::Dial(service),
            }
        }
        let nothing = self.waiting.is_empty()
            && inner.is_apart()
            && inner.asks.is_empty()
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
        // A message may have come in just now.
        if !self.waiting.close() {
            *idle = None;
            return Step::Wait(Some(now));
        }
        (inner.closed, inner.paid) = (true, None);
        Step::End
    }

    async fn dial(self: &Arc<Peer>, peers: &Arc<Peers>, service: Service) {
        let (local, remote) = (self.local(), self.remote());
        {
            let mut inner = self.inner.lock();
            inner.dialling = true;
            if inner.paid.is_none() {
                inner.paid = peers.shares.of_any(local, remote, None);
            }
        }
        let dialled = peers.dial(local, remote, service).await;
        self.inner.lock().dialling = false;
        match dialled {
            Ok((peer, link, pipe)) => {
                tokio::spawn(connection::serve(peers.serving.clone(), peer, link, pipe));
            }
            Err(error) => self.not_opened(peers, service, error),
        }
    }

    fn not_opened(&self, peers: &Peers, service: Service, error: NotOpened) {
        let NotOpened { cause, why, definite } = error;
        let (local, remote, serving) = (self.local(), self.remote(), &peers.serving);
        if let Some(Untold(untold)) = peers.told.line(serving.clock.now()) {
            tracing::info!(%local, %remote, code = %cause.code, why, untold, "no link");
        }
        let why = cause.text.as_deref().unwrap_or_default();
        serving.metrics.refuse_link(cause.code);
        let now = serving.clock.now();
        let asks: VecDeque<Ask> = {
            let mut inner = self.inner.lock();
            if inner.link(service).is_some() {
                // The other side has called meanwhile: the way from here does not matter.
                return;
            }
            let backoff = backoff(&serving.settings.load().federation);
            let next = inner.failed(service, now, backoff, &*serving.chance);
            if service == Service::Messages {
                self.waiting.drop_volatile();
                self.waiting.with(|queue| match definite {
                    true => queue.fail_all(&cause),
                    false => queue.trouble(cause.clone(), Some(next)),
                });
            }
            let (failed, left) = std::mem::take(&mut inner.asks)
                .into_iter()
                .partition(|ask| service_of(&ask.command) == service);
            inner.asks = left;
            failed
        };
        let error = || Error::new(cause.code, why).by(cause.by);
        for ask in asks {
            let _ = ask.answer.send(Err(error()));
        }
        if service == Service::Presence && definite {
            serving.mirrors.unreachable(local, remote, &error());
        }
    }
}
