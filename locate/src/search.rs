//! One search for a domain's server: from its name to a connection that is complete.
//!
//! Each rule stands in a module of its own, the trying of what was found in `trying`; what completes a
//! connection is the caller's.

mod trying;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use impp_protocol::{Domain, PORT, Service};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::addresses::Policy;
use crate::cache::{Datum, Reply};
use crate::connect::{MayConnect, interleave};
use crate::dns::Dns;
use crate::locator::Settings;
use crate::order::Source;
use crate::outcome::{AttemptError, NotReachedKind, Via};
use crate::places::{CONNECTS_MAX, Places};
use crate::plan::Candidate;
use crate::service::owner_name;
use crate::srv::{SrvRecord, TARGETS_MAX, choose};
use crate::step::{RecordKind, Step};
use crate::target::{Host, Target};
use trying::Trying;

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
        let name = owner_name(self.service, self.domain);
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

/// A number from 0 up to `max`. Weights need no unbiased dice, and a system without randomness
/// only loses the balance between targets.
fn dice(max: u32) -> u32 {
    let thrown = getrandom::u64().unwrap_or(0);
    u32::try_from(thrown % (u64::from(max) + 1)).unwrap_or(max)
}
