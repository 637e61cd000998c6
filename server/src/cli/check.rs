//! `imppd check`: look whether a configuration will work, one finding a line.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use impp_federation::prove::Trust;
use impp_protocol::Timestamp;
use serde::Serialize;

use super::{Failure, zone};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Hosted};
use crate::control::{self, Request};
use crate::net::certificate;
use crate::net::tls::Configurations;

/// A certificate that holds shorter than this is warned of.
const CERTIFICATE_DAYS_WARN: u64 = 14;
const RENEW: &str = "replace the files and run `imppd reload`";

/// Arguments of `imppd check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// One finding.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    level: &'static str,
    area: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut findings = Vec::new();
    match Config::load(&arguments.config) {
        Err(error) => findings.push(wrong("config", error)),
        Ok(config) => {
            findings.push(fine("config", format!("{} can be used", arguments.config.display())));
            match Configurations::load(&config) {
                Ok(tls) => {
                    findings.push(fine("tls", "certificates and keys can be used".to_owned()));
                    let warn = |message| finding("warn", "tls", message, None);
                    findings.extend(tls.warnings.into_iter().map(warn));
                }
                Err(error) => findings.push(wrong("tls", error)),
            }
            let now = Clock::start().now();
            findings.extend(config.domain.iter().map(|hosted| expiry(hosted, now)));
            findings.extend(authorities(&config));
            findings.push(store(&config));
            let (running, zone) = tokio::join!(running(&config), zone::check(&config));
            findings.push(running);
            findings.extend(zone);
        }
    }
    for finding in &findings {
        println!("{}", serde_json::to_string(finding).unwrap_or_default());
    }
    let errors = findings.iter().filter(|finding| finding.level == "error").count();
    if errors == 0 { Ok(()) } else { Err(Failure::new(1, format!("{errors} errors found"))) }
}

/// How long a domain's certificate still holds.
fn expiry(hosted: &Hosted, now: Timestamp) -> Finding {
    let path = hosted.certificate.display();
    let Some(until) = certificate::valid_until(&hosted.certificate) else {
        return finding("error", "certificate", format!("{path} cannot be read"), None);
    };
    let days = until.since(now).as_secs() / 86_400;
    let message = format!("the certificate of {} holds until {until}", hosted.name);
    match days {
        0 if until <= now => finding("error", "certificate", message, Some(RENEW)),
        0..CERTIFICATE_DAYS_WARN => finding("warn", "certificate", message, Some(RENEW)),
        _ => fine("certificate", message),
    }
}

/// Whether the CAs that prove other domains can be read, where no domain here has links: else the
/// TLS of links has found it out.
fn authorities(config: &Config) -> Option<Finding> {
    let links = &config.federation;
    if config.domain.iter().any(|hosted| hosted.name.as_str().contains('.')) && links.enabled {
        return None;
    }
    let error = Trust::load(links.ca.as_deref(), links.crl.as_deref()).err()?;
    let hint = "[federation] ca and crl name PEM files";
    Some(finding("error", "federation", error.to_string(), Some(hint)))
}

/// The folder of the store, as far as it can be seen without opening it.
fn store(config: &Config) -> Finding {
    let path = &config.server.store;
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            finding("error", "store", format!("{} is no folder", path.display()), None)
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let message = format!("{} can be read by others", path.display());
            finding("error", "store", message, Some("chmod 700"))
        }
        Ok(_) => fine("store", format!("{} is there", path.display())),
        Err(_) => {
            let message = format!("{} is not there and will be made", path.display());
            finding("warn", "store", message, None)
        }
    }
}

/// Whether a server runs, which is told and is no fault either way.
async fn running(config: &Config) -> Finding {
    let socket = &config.server.control;
    match control::ask(socket, &Request::List).await {
        Ok(Some(_)) => fine("server", format!("a server answers on {}", socket.display())),
        _ => finding("warn", "server", "no server runs with this configuration".to_owned(), None),
    }
}

pub(super) fn finding(
    level: &'static str,
    area: &'static str,
    message: String,
    hint: Option<&str>,
) -> Finding {
    Finding { level, area, message, hint: hint.map(str::to_owned) }
}

pub(super) fn fine(area: &'static str, message: String) -> Finding {
    finding("ok", area, message, None)
}

fn wrong(area: &'static str, error: ConfigError) -> Finding {
    Finding { level: "error", area, message: error.to_string(), hint: error.hint }
}
