//! What DNS says of the domains hosted here, as `imppd check` sees it: whether others and clients
//! would find them, and the lines that their zones lack.
//!
//! Nothing in it is an error: a server may run before its zone is written, and where there is no
//! DNS. Connecting to what is found is left to `imppd resolve`.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use impp_locate::{
    Answer, Candidate, Locator, NotReachedKind, Order, Plan, Policy, Service, Settings, Step, Via,
    owner_name,
};
use impp_protocol::{Domain, PORT};
use tokio::time::Instant;

use super::check::{Finding, finding, fine};
use crate::core::config::Config;

/// How long DNS is waited for, for all domains together.
const LOOKUPS_MAX: Duration = Duration::from_secs(4);
/// Domains that are looked up at once.
const DOMAINS_AT_ONCE_MAX: usize = 16;
/// Steps that a finding tells.
const STEPS_MAX: usize = 4;
const AREA: &str = "dns";
const EACH_STEP: &str = "`imppd resolve` with the domain and --config shows each step";

/// What is found out about one domain and service.
struct Looked<'a> {
    config: &'a Config,
    domain: &'a Domain,
    service: Service,
    plan: Plan,
}

/// Looks all hosted domains up.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    if !config.federation.enabled {
        return vec![fine("federation", "links to other domains are turned off".to_owned())];
    }
    let Ok(settings) = config.locating() else { return Vec::new() };
    // As others see us: our own address is what they should find, and neither a static route nor
    // the order of ours leads them.
    let policy = Policy { own: Vec::new(), ..settings.policy };
    let order = Order::default();
    let settings = Settings { policy, order, routes: Default::default(), ..settings };
    let locator = &Locator::new(settings);
    let deadline = Instant::now() + LOOKUPS_MAX;
    let asked = config.domain.iter().map(|hosted| &hosted.name).map(async |domain| {
        if !domain.is_global() {
            let message = format!("{domain} is a single label: it has no links, nor any records");
            return vec![fine(AREA, message)];
        }
        let look = |service| async move {
            let plan = locator.lookup(domain, service, deadline).await;
            Looked { config, domain, service, plan }.findings()
        };
        let [pres, im] = Service::ALL;
        let (pres, im) = tokio::join!(look(pres), look(im));
        pres.into_iter().chain(im).collect()
    });
    let found: Vec<Vec<Finding>> =
        futures_util::stream::iter(asked).buffered(DOMAINS_AT_ONCE_MAX).collect().await;
    found.into_iter().flatten().collect()
}

impl Looked<'_> {
    fn findings(&self) -> Vec<Finding> {
        let (domain, word) = (self.domain, self.service.word());
        let served = self.config.federation.services.iter().any(|service| service == word);
        match (self.plan.kind, served) {
            (Some(NotReachedKind::NotOffered), true) => {
                let message =
                    format!("DNS says that {domain} does not offer {word}, which it does");
                return vec![self.missing(message)];
            }
            (Some(NotReachedKind::NotOffered), false) => {
                return vec![fine(AREA, format!("DNS says that {domain} does not offer {word}"))];
            }
            _ => {}
        }
        let candidates = &self.plan.candidates;
        let (srv, own): (Vec<_>, Vec<_>) =
            candidates.iter().partition(|candidate| candidate.via == Via::Srv);
        let mut findings = Vec::new();
        if let Some(found) = usable(&srv) {
            let (target, addresses) = (&found.target, addresses(found));
            findings
                .push(fine(AREA, format!("{word} of {domain} is found on {target} ({addresses})")));
            findings.extend(self.other_port(found));
        } else if let Some(steps) = self.failed() {
            let message = format!("DNS does not say where {word} of {domain} is: {steps}");
            findings.push(finding("warn", AREA, message, Some(EACH_STEP)));
        } else if srv.is_empty() {
            findings.push(self.missing(match usable(&own) {
                Some(Candidate { target, .. }) => {
                    format!("{word} of {domain} has no SRV record; {target} is tried instead")
                }
                None => format!("{word} of {domain} is not found: no record leads to an address"),
            }));
        }
        // What comes after SRV records matters only where there are none.
        let counting = if srv.is_empty() { own } else { srv };
        findings.extend(counting.into_iter().filter_map(|candidate| self.unusable(candidate)));
        findings
    }

    /// Questions that have no answer.
    fn failed(&self) -> Option<String> {
        let failed = |step: &&Step| {
            matches!(step, Step::Asked { answer: Answer::Failed { .. }, .. })
                || matches!(step, Step::Asked { answer: Answer::NoRecord { ttl: None }, .. })
        };
        let told: Vec<String> =
            self.plan.steps.iter().filter(failed).take(STEPS_MAX).map(Step::to_string).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// An SRV record with a port on which this server does not listen.
    fn other_port(&self, found: &Candidate) -> Option<Finding> {
        let listen: Vec<SocketAddr> =
            self.config.server.listen.iter().filter_map(|text| text.parse().ok()).collect();
        let serves = self.config.federation.services.iter().any(|s| s == self.service.word());
        let port = found.addresses.first()?.port();
        if !serves || listen.iter().any(|own| own.port() == port) {
            return None;
        }
        let (word, target) = (self.service.word(), &found.target);
        let ports: Vec<String> = listen.iter().map(|own| own.port().to_string()).collect();
        let message = format!(
            "{word} of {} is found on {target}, and this server listens on port {}",
            self.domain,
            ports.join(", ")
        );
        let hint =
            "right only if another server, or something that passes connections on, is there";
        Some(finding("warn", AREA, message, Some(hint)))
    }

    /// What others make no use of.
    fn unusable(&self, found: &Candidate) -> Option<Finding> {
        let (word, target) = (self.service.word(), &found.target);
        if let Some((address, why)) = found.refused.first() {
            let message =
                format!("{word} of {}: {address} of {target}: {why} by others", self.domain);
            let hint = "other servers go there only if their allow_addresses names it";
            return Some(finding("warn", AREA, message, Some(hint)));
        }
        let nowhere =
            found.via == Via::Srv && found.addresses.is_empty() && self.failed().is_none();
        nowhere.then(|| {
            let message =
                format!("{word} of {}: the SRV record's {target} has no address", self.domain);
            let host = target.rsplit_once(':').map_or(&**target, |(host, _)| host);
            finding("warn", AREA, message, Some(&format!("{host}. 3600 IN A ADDRESS")))
        })
    }

    /// A finding with the line that would mend it.
    fn missing(&self, message: String) -> Finding {
        finding("warn", AREA, message, Some(&self.zone_line()))
    }

    fn zone_line(&self) -> String {
        let name = owner_name(self.service, self.domain);
        let word = self.service.word();
        if !self.config.federation.services.iter().any(|service| service == word) {
            return format!("{name} 3600 IN SRV 0 0 0 . if no server has it");
        }
        let listen = self.config.server.listen.iter();
        let port = listen.filter_map(|listen| Some(listen.parse::<SocketAddr>().ok()?.port()));
        let port = port.into_iter().find(|port| *port != 0).unwrap_or(PORT);
        format!("{name} 3600 IN SRV 0 0 {port} {}", self.host())
    }

    /// The machine as DNS knows it: where it has a whole name, that; or a placeholder.
    fn host(&self) -> String {
        let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match named.trim() {
            name if name.contains('.') => format!("{name}."),
            _ => format!("HOST.{}.", self.domain),
        }
    }
}

fn addresses(candidate: &Candidate) -> String {
    let told: Vec<String> =
        candidate.addresses.iter().map(|address| address.ip().to_string()).collect();
    told.join(", ")
}

/// The first one that can be tried.
fn usable<'a>(candidates: &[&'a Candidate]) -> Option<&'a Candidate> {
    candidates.iter().find(|candidate| !candidate.addresses.is_empty()).copied()
}
