//! One search for a domain's server: from its name to a connection that is complete.
//!
//! Each rule stands in a module of its own; what completes a connection is the caller's.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use impp_protocol::{Domain, PORT};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::addresses::Policy;
use crate::cache::{Datum, Reply};
use crate::connect::{MayConnect, Race, interleave};
use crate::dns::Dns;
use crate::locator::Settings;
use crate::order::Source;
use crate::outcome::{AttemptError, NotReachedKind, Via};
use crate::places::{CONNECTS_MAX, Places, Share};
use crate::plan::Candidate;
use crate::service::Service;
use crate::srv::{SrvRecord, TARGETS_MAX, choose};
use crate::step::{RecordKind, Step, milliseconds};
use crate::target::{Host, Target};

/// What is known so far in one search.
pub(crate) struct Search<'a> {
    settings: &'a Settings,
    dns: &'a Dns,
    domain: &'a Domain,
    service: Service,
    deadline: Instant,
    pub(crate) steps: Vec<Step>,
    /// Every answer so far was a proof that there are no such records.
    absent: bool,
    /// There are SRV records, or it is not known whether.
    srv_possible: bool,
    /// A server that speaks for the domain did not prove to be it.
    untrusted: bool,
    /// Which addresses it connects to.
    places: Places,
}

/// How a search connects, and what it makes of a connection.
struct Trying<'t, A> {
    may_connect: MayConnect<'t>,
    attempt: &'t A,
}

/// What the SRV records of a domain say.
enum Srv {
    Targets(Vec<Target>),
    NotOffered,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        dns: &'a Dns,
        domain: &'a Domain,
        service: Service,
        deadline: Instant,
    ) -> Search<'a> {
        Search {
            settings,
            dns,
            domain,
            service,
            deadline,
            steps: Vec::new(),
            absent: true,
            srv_possible: false,
            untrusted: false,
            places: Places::default(),
        }
    }

    pub(crate) async fn run<T, F>(
        &mut self,
        may_connect: MayConnect<'_>,
        attempt: &impl Fn(TcpStream, SocketAddr) -> F,
    ) -> Result<(T, SocketAddr, String, Via), NotReachedKind>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let trying = Trying { may_connect, attempt };
        if !self.domain.is_global() {
            self.skip_single_label();
            return Err(NotReachedKind::UnknownDomain);
        }
        if let Some(targets) = self.route() {
            let found = self.try_targets(&targets, Via::Route, 0, &trying).await;
            return found.ok_or_else(|| self.kind());
        }
        let sources = self.settings.order.sources();
        for (index, source) in sources.iter().enumerate() {
            let later = sources.len() - index - 1;
            let (targets, via) = match source {
                Source::Srv => match self.srv().await {
                    Srv::Targets(targets) => (targets, Via::Srv),
                    Srv::NotOffered => return Err(NotReachedKind::NotOffered),
                },
                Source::Addresses => (vec![own_target(self.domain)], self.via_address()),
            };
            if let Some(found) = self.try_targets(&targets, via, later, &trying).await {
                return Ok(found);
            }
        }
        Err(self.kind())
    }

    pub(crate) async fn plan(&mut self) -> (Vec<Candidate>, Option<NotReachedKind>) {
        let mut candidates = Vec::new();
        if !self.domain.is_global() {
            self.skip_single_label();
            return (candidates, Some(NotReachedKind::UnknownDomain));
        }
        if let Some(targets) = self.route() {
            for target in &targets {
                candidates.push(self.candidate(target, Via::Route, self.deadline).await);
            }
            return (candidates, None);
        }
        let mut not_offered = None;
        for source in self.settings.order.sources() {
            let (targets, via) = match source {
                Source::Srv => match self.srv().await {
                    Srv::Targets(targets) => (targets, Via::Srv),
                    Srv::NotOffered => {
                        not_offered = Some(NotReachedKind::NotOffered);
                        break;
                    }
                },
                Source::Addresses => (vec![own_target(self.domain)], self.via_address()),
            };
            for target in &targets {
                candidates.push(self.candidate(target, via, self.deadline).await);
            }
        }
        (candidates, not_offered)
    }

    /// The servers that a static route names.
    fn route(&mut self) -> Option<Vec<Target>> {
        let targets = self.settings.routes.get(self.domain)?;
        let told = targets.iter().map(Target::to_string).collect();
        self.steps.push(Step::Route { targets: told });
        self.absent = false;
        Some(targets.iter().take(TARGETS_MAX).cloned().collect())
    }

    async fn srv(&mut self) -> Srv {
        let name = self.service.owner_name(self.domain);
        let asked = self.dns.ask(&name, RecordKind::Srv, self.left()).await;
        self.steps.push(asked.step);
        let data = match asked.reply {
            Reply::Records(data, _) => data,
            reply => {
                self.note_absence(&reply);
                self.srv_possible = !is_proof(&reply);
                return Srv::Targets(Vec::new());
            }
        };
        self.absent = false;
        self.srv_possible = true;
        let srv = |datum| match datum {
            Datum::Srv(record) => Some(record),
            Datum::Address(_) => None,
        };
        let records: Vec<_> = data.into_iter().filter_map(srv).collect();
        let choice = choose(&records, dice);
        if choice.not_offered {
            return Srv::NotOffered;
        }
        for (record, why) in &choice.skipped {
            self.skip(format!("SRV {record}"), *why);
        }
        if choice.left_out > 0 {
            let why = format!("only {TARGETS_MAX} targets are tried");
            self.skip(format!("{} further targets", choice.left_out), why);
        }
        if choice.targets.len() > 1 {
            let told = choice.targets.iter().map(ToString::to_string).collect();
            self.steps.push(Step::Ordered { targets: told });
        }
        let target = |record: &SrvRecord| Target {
            host: Host::Name(record.target.clone()),
            port: record.port,
        };
        Srv::Targets(choice.targets.iter().map(target).collect())
    }

    /// The addresses of a target that may be tried, in order, and those that may not.
    async fn candidate(&mut self, target: &Target, via: Via, until: Instant) -> Candidate {
        let found = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.addresses(name, until).await,
        };
        let mut candidate = Candidate {
            target: target.to_string(),
            via,
            addresses: Vec::new(),
            refused: Vec::new(),
        };
        for ip in interleave(&found) {
            let address = SocketAddr::new(ip, target.port);
            match self.policy(via).map_or(Ok(()), |policy| policy.judge(address)) {
                Ok(()) if candidate.addresses.len() < CONNECTS_MAX => {
                    candidate.addresses.push(address);
                }
                Ok(()) => {
                    let why = format!("only {CONNECTS_MAX} addresses are tried in one search");
                    self.skip(format!("{} and further ones of {target}", address.ip()), why);
                    break;
                }
                Err(refused) => {
                    self.skip(format!("{ip} of {target}"), refused.to_string());
                    candidate.refused.push((ip, refused.to_string()));
                }
            }
        }
        candidate
    }

    async fn addresses(&mut self, host: &str, until: Instant) -> Vec<IpAddr> {
        let name = format!("{host}.");
        let limit = until.saturating_duration_since(Instant::now());
        let dns = &self.dns;
        let six = dns.ask(&name, RecordKind::Aaaa, limit);
        let four = dns.ask(&name, RecordKind::A, limit);
        let (six, four) = tokio::join!(six, four);
        let mut found = Vec::new();
        for asked in [six, four] {
            self.steps.push(asked.step);
            self.note_absence(&asked.reply);
            let Reply::Records(data, _) = asked.reply else { continue };
            found.extend(data.into_iter().filter_map(|datum| match datum {
                Datum::Address(address) => Some(address),
                Datum::Srv(_) => None,
            }));
        }
        found
    }

    /// Tries targets one after the other. Each has its part of the time and of the places that are
    /// left, and `later` ways that are tried after them have theirs. Places that others did not need
    /// go round once more.
    async fn try_targets<T, F, A>(
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

    /// What it means that nothing was reached.
    pub(crate) fn kind(&self) -> NotReachedKind {
        if self.untrusted {
            NotReachedKind::Untrusted
        } else if self.absent {
            NotReachedKind::UnknownDomain
        } else {
            NotReachedKind::Unreachable
        }
    }

    /// The policy for addresses found this way: none for what the operator wrote.
    fn policy(&self, via: Via) -> Option<&'a Policy> {
        (via != Via::Route).then_some(&self.settings.policy)
    }

    fn via_address(&self) -> Via {
        if self.srv_possible { Via::Fallback } else { Via::Address }
    }

    fn note_absence(&mut self, reply: &Reply) {
        self.absent &= is_proof(reply);
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.steps.push(Step::Skipped { what: what.into(), why: why.into() });
    }

    fn skip_single_label(&mut self) {
        let why = "a domain of a single label is not looked up";
        self.skip(self.domain.as_str(), why);
    }
}

/// Whether an answer proves that there is no such record; an empty one without SOA does not.
fn is_proof(reply: &Reply) -> bool {
    matches!(reply, Reply::NoName(_) | Reply::NoRecord(Some(_)))
}

fn own_target(domain: &Domain) -> Target {
    Target { host: Host::Name(domain.as_str().to_owned()), port: PORT }
}

/// The end of the first of `parts` equal parts of the time up to a deadline.
fn share(deadline: Instant, parts: usize) -> Instant {
    let now = Instant::now();
    let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / parts
}

/// A number from 0 up to `max`. Weights need no unbiased dice, and a system without randomness
/// only loses the balance between targets.
fn dice(max: u32) -> u32 {
    let thrown = getrandom::u64().unwrap_or(0);
    u32::try_from(thrown % (u64::from(max) + 1)).unwrap_or(max)
}
