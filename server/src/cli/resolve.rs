//! `imppd resolve`: how a domain's servers are found, reached and proven, step by step, for whoever
//! must find out why they are not.
//!
//! The search is that of links (`impp_locate`), and so is the TLS (`link::dial`). No HELLO is said:
//! it would disturb the link that a running server may have with that domain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use impp_locate::{
    AttemptError, Locator, Network, NotReached, NotReachedKind, Order, Reached, Service, Settings,
    Step, Via, owner_name,
};
use impp_protocol::{Domain, Timestamp};
use impp_trust::certificate::Validity;
use impp_trust::{HandshakeError, Trust, look_config};
use rustls::ClientConfig;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Failure;
use crate::core::config::{Config, ConfigError, seconds};
use crate::core::tls::Configurations;
use crate::link::handshake;

/// A server that does not accept our certificate says so after its half of the handshake; it is
/// listened to for so long.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
const UNPROVEN_CALLER: &str = "no certificate of a domain is shown, so the other server may refuse \
                               to go on; only its own certificate is judged here";

/// Arguments of `imppd resolve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The domain to look for.
    domain: Domain,
    /// Look for it as the server of this configuration does, with the certificate of its first
    /// domain that has links.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The service to look for, pres or im; both if it is not said.
    #[arg(long, value_parser = service)]
    service: Option<Service>,
    /// Ask this DNS server, address:port, instead of the configuration's or the system's.
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<SocketAddr>,
    /// Which records count, and which first: srv-then-a, a-then-srv, srv, a.
    #[arg(long)]
    order: Option<Order>,
    /// Let names lead into this network too, though it is private or loopback: 10.0.0.0/8.
    #[arg(long, value_name = "NET")]
    allow: Vec<Network>,
    /// A file of CA certificates to believe, instead of the configuration's or the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object a line: the steps, then the outcome.
    #[arg(long)]
    json: bool,
}

/// Who calls: the TLS of links, and the domain whose certificate it shows.
struct Caller {
    tls: Arc<ClientConfig>,
    shown: Option<Domain>,
}

/// What a server proved.
struct Proven {
    until: Option<Timestamp>,
    /// Why it does not accept our certificate.
    refused: Option<String>,
}

/// A step of the search for a service.
#[derive(Serialize)]
struct ToldStep<'a> {
    service: &'static str,
    #[serde(flatten)]
    step: &'a Step,
}

/// How the search for a service ended.
#[derive(Default, Serialize)]
struct Ended {
    service: &'static str,
    outcome: &'static str,
    /// In words.
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Via>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    /// The other side does not accept our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    exit: u8,
}

/// The last object.
#[derive(Serialize)]
struct Outcome<'a> {
    domain: &'a str,
    /// The worst of the services'.
    outcome: &'static str,
    services: &'a [Ended],
}

fn service(text: &str) -> Result<Service, String> {
    Service::from_word(text).ok_or_else(|| "expected pres or im".to_owned())
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = arguments.config.as_deref().map(Config::load_without_policies).transpose()?;
    if let (Some(config), Some(ca)) = (&mut config, &arguments.ca) {
        config.federation.ca = Some(ca.clone());
    }
    let settings = settings(config.as_ref(), arguments)?;
    let caller = caller(config.as_ref(), arguments)?;
    match &caller.shown {
        Some(domain) => words!("as {domain}"),
        None => words!("note: {UNPROVEN_CALLER}"),
    }
    let limit = seconds(config.unwrap_or_default().federation.dial_seconds);
    let services = arguments.service.map_or(Service::ALL.to_vec(), |service| vec![service]);
    let locator = Locator::new(settings);
    let mut all = Vec::new();
    for service in services {
        let attempt = |stream: TcpStream, _| try_tls(&caller, &arguments.domain, stream);
        let deadline = Instant::now() + limit;
        let reached = locator.reach(&arguments.domain, service, deadline, attempt).await;
        let steps = reached.as_ref().map_or_else(|error| &error.steps, |reached| &reached.steps);
        steps.iter().for_each(|step| tell_step(service, step, arguments.json));
        let ended = match reached {
            Ok(reached) => Ended::reached(&arguments.domain, service, reached),
            Err(error) => Ended::not_reached(&arguments.domain, service, &error),
        };
        if !arguments.json {
            data!("{}: {}: {}", ended.service, ended.outcome, ended.message);
        }
        all.push(ended);
    }
    end(arguments, &all)
}

/// Says the outcome of all.
fn end(arguments: &Arguments, all: &[Ended]) -> Result<(), Failure> {
    for refused in all.iter().filter_map(|ended| ended.refused.as_ref()) {
        words!("warning: {refused}");
    }
    let Some(worst) = all.iter().rev().max_by_key(|ended| ended.exit) else { return Ok(()) };
    if arguments.json {
        let outcome = worst.outcome;
        let last = Outcome { domain: arguments.domain.as_str(), outcome, services: all };
        data!("{}", serde_json::to_string(&last).unwrap_or_default());
    }
    if worst.exit == 0 {
        return Ok(());
    }
    let (message, hint) = (worst.message.clone(), worst.hint.clone());
    let failure = Failure { exit: worst.exit, message, hint };
    Err(if arguments.json { failure.told_as_json(worst.outcome) } else { failure })
}

fn tell_step(service: Service, step: &Step, json: bool) {
    let word = service.word();
    if json {
        let told = ToldStep { service: word, step };
        data!("{}", serde_json::to_string(&told).unwrap_or_default());
    } else {
        data!("{word}: {step}");
    }
}

/// How links look for domains, as far as the arguments do not say otherwise.
fn settings(config: Option<&Config>, arguments: &Arguments) -> Result<Settings, Failure> {
    let configured = config.map_or_else(|| Ok(Settings::default()), Config::locating);
    let mut settings = configured.map_err(|error| Failure::new(2, error.message))?;
    if !arguments.dns.is_empty() {
        settings.dns.clone_from(&arguments.dns);
    }
    settings.order = arguments.order.unwrap_or(settings.order);
    settings.policy.allow.extend(&arguments.allow);
    Ok(settings)
}

fn caller(config: Option<&Config>, arguments: &Arguments) -> Result<Caller, Failure> {
    if let Some(config) = config {
        let mut made = Configurations::load(config)?;
        let mut hosted = config.domain.iter().map(|hosted| &hosted.name);
        let found = hosted.find_map(|name| made.dial.remove_entry(name));
        if let Some((shown, tls)) = found {
            return Ok(Caller { tls, shown: Some(shown) });
        }
    }
    let links = config.map(|config| &config.federation);
    let ca = arguments.ca.as_deref().or(links.and_then(|links| links.ca.as_deref()));
    let trust =
        Trust::load(ca, links.and_then(|links| links.crl.as_deref())).map_err(ConfigError::from)?;
    if trust.is_empty() {
        words!("note: this system trusts no CA; --ca names a file of certificates to believe");
    }
    let tls = look_config(&trust).map_err(|error| Failure::new(2, error.to_string()))?;
    Ok(Caller { tls, shown: None })
}

async fn try_tls(
    caller: &Caller,
    domain: &Domain,
    stream: TcpStream,
) -> Result<Proven, AttemptError> {
    let mut stream = handshake(caller.tls.clone(), domain, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let until = chain.first().and_then(Validity::of).map(|validity| validity.until);
    let mut refused = None;
    if caller.shown.is_some() {
        let mut octet = [0];
        refused = match timeout(REFUSAL_WAIT, stream.read(&mut octet)).await {
            Ok(Err(error)) => Some(HandshakeError::of_io(&error).to_string()),
            Ok(Ok(0)) => Some("the other server closed the connection after TLS".to_owned()),
            Ok(Ok(_)) | Err(_) => None,
        };
    }
    Ok(Proven { until, refused })
}

impl Ended {
    fn reached(domain: &Domain, service: Service, reached: Reached<Proven>) -> Ended {
        let Reached { value: Proven { until, refused }, address, target, via, .. } = reached;
        let by = match via {
            Via::Route => "by a static route",
            Via::Srv => "by SRV",
            Via::Address => "by the domain's own address",
            Via::Fallback => "by the domain's own address, as SRV led nowhere",
        };
        let valid_until = until.map(|until| until.to_string());
        let told = valid_until.as_ref().map_or(String::new(), |until| format!(" until {until}"));
        let message =
            format!("{target} ({address}), {by}; the certificate is valid for {domain}{told}");
        Ended {
            service: service.word(),
            outcome: "reached",
            message,
            via: Some(via),
            target: Some(target),
            address: Some(address),
            valid_until,
            refused,
            ..Ended::default()
        }
    }

    fn not_reached(domain: &Domain, service: Service, error: &NotReached) -> Ended {
        Ended {
            service: service.word(),
            outcome: error.kind.code().as_str(),
            message: error.kind.told(domain, service),
            hint: hint(domain, service, error),
            exit: if error.kind.is_definite() { 1 } else { 3 },
            ..Ended::default()
        }
    }
}

/// What the steps say about a remedy.
fn hint(domain: &Domain, service: Service, error: &NotReached) -> Option<String> {
    let refused =
        |step: &Step| matches!(step, Step::Skipped { why, .. } if why.ends_with("is refused"));
    match error.kind {
        NotReachedKind::UnknownDomain => {
            let name = owner_name(service, domain);
            Some(format!("its zone needs a line like {name} 3600 IN SRV 0 0 2778 HOST."))
        }
        NotReachedKind::NotOffered => None,
        NotReachedKind::Untrusted if error.text.contains("issuer is not trusted") => {
            Some("--ca FILE, or [federation] ca, names the CAs to believe".to_owned())
        }
        NotReachedKind::Untrusted => None,
        NotReachedKind::Unreachable if error.steps.iter().any(refused) => {
            Some("--allow NET, or [federation] allow_addresses, lets names lead there".to_owned())
        }
        NotReachedKind::Unreachable => None,
    }
}
