//! Trying the servers that a search has found, one after the other, until one is what it has to be.
//!
//! Which connection to which address comes first is left to `connect`.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Search;
use crate::connect::{MayConnect, Race};
use crate::outcome::{AttemptError, Via};
use crate::places::{CONNECTS_MAX, Share};
use crate::plan::Candidate;
use crate::step::{Step, milliseconds};
use crate::target::Target;

/// How a search connects, and what it makes of a connection.
pub(super) struct Trying<'t, A> {
    pub(super) may_connect: MayConnect<'t>,
    pub(super) attempt: &'t A,
}

impl Search<'_> {
    /// Tries targets one after the other. Each has its part of the time and of the places that are
    /// left, and `later` ways that are tried after them have theirs. Places that others did not need
    /// go round once more.
    pub(super) async fn try_targets<T, F, A>(
        &mut self,
        targets: &[Target],
        via: Via,
        later: usize,
        trying: &Trying<'_, A>,
    ) -> Option<(T, SocketAddr, String, Via)>
    where
        A: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = Result<T, AttemptError>>,
    {
        let mut waiting = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            if self.left().is_zero() {
                self.skip(target.to_string(), "no time is left");
                continue;
            }
            let parts = targets.len() - index + later;
            let until = share(self.deadline, parts);
            let mut candidate = self.candidate(target, via, until).await;
            let share = self.places.share(&candidate.addresses, parts);
            let rest = self.limit(&mut candidate, share);
            if let Some((value, address)) = self.try_candidate(&candidate, until, trying).await {
                return Some((value, address, candidate.target, via));
            }
            if !rest.is_empty() {
                waiting.push(Candidate { addresses: rest, ..candidate });
            }
        }
        let again = waiting.len();
        for (index, mut candidate) in waiting.into_iter().enumerate() {
            let until = share(self.deadline, again - index + later);
            let share = self.places.share_rest(&candidate.addresses, later);
            let rest = self.limit(&mut candidate, share);
            if !rest.is_empty() {
                let why = format!("only {CONNECTS_MAX} addresses are tried in one search");
                self.skip(format!("{} addresses of {}", rest.len(), candidate.target), why);
            }
            if let Some((value, address)) = self.try_candidate(&candidate, until, trying).await {
                return Some((value, address, candidate.target, via));
            }
        }
        None
    }

    /// Leaves a server those of its addresses that have places; the others that are new.
    fn limit(&mut self, candidate: &mut Candidate, share: Share) -> Vec<SocketAddr> {
        for address in &share.known {
            let what = format!("{address} of {}", candidate.target);
            self.skip(what, "another target leads there too");
        }
        candidate.addresses = share.taken;
        share.waiting
    }

    async fn try_candidate<T, F, A>(
        &mut self,
        candidate: &Candidate,
        until: Instant,
        trying: &Trying<'_, A>,
    ) -> Option<(T, SocketAddr)>
    where
        A: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = Result<T, AttemptError>>,
    {
        let policy = self.policy(candidate.via);
        let addresses = candidate.addresses.iter().copied();
        let mut race = Race::new(&candidate.target, policy, trying.may_connect, addresses);
        while let Some((stream, address)) = race.next(until, &mut self.steps).await {
            let started = Instant::now();
            let limit = share(until, race.left() + 1);
            let late = || AttemptError::Failed("not completed in time".to_owned());
            let tried = timeout_at(limit, (trying.attempt)(stream, address)).await;
            let tried = tried.unwrap_or_else(|_| Err(late()));
            let error = tried.as_ref().err();
            let untrusted = matches!(error, Some(AttemptError::Untrusted(_)));
            // What stands at the domain's own address beside SRV records may be something else
            // altogether, its web server say: its certificate is nothing against the domain.
            self.untrusted |= untrusted && candidate.via != Via::Fallback;
            self.steps.push(Step::Completed {
                target: candidate.target.clone(),
                address,
                error: error.map(ToString::to_string),
                untrusted,
                milliseconds: milliseconds(started.elapsed()),
            });
            if let Ok(value) = tried {
                return Some((value, address));
            }
        }
        None
    }
}

/// The end of the first of `parts` equal parts of the time up to a deadline.
fn share(deadline: Instant, parts: usize) -> Instant {
    let now = Instant::now();
    let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / parts
}
