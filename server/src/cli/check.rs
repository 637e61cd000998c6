//! `imppd check`: look whether a configuration will work, one finding a line.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use impp_protocol::Timestamp;
use impp_trust::certificate::{Validity, proves_servers};
use impp_trust::{Trust, files};
use serde::Serialize;

use super::{Failure, deep, passwords, zone};
use crate::core::clock::Clock;
use crate::core::config::{Config, ConfigError, Hosted, plain};
use crate::core::tls::Configurations;
use crate::front::control::{self, Request};
use crate::life::{RunError, bind_all};

/// A certificate that holds shorter than this is warned of.
const CERTIFICATE_DAYS_WARN: u64 = 14;
const CERTIFICATE: &str = "certificate";
const CLOCK: &str = "is this machine's clock right?";
const RENEW: &str = "replace the files and run `imppd reload`";

/// Arguments of `imppd check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read all of the store too, and name what is damaged in it. No server may run.
    #[arg(long)]
    deep: bool,
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
            let now = Clock::start().wall();
            findings.extend(config.domain.iter().filter_map(|hosted| validity(hosted, now)));
            findings.extend(config.domain.iter().filter_map(purpose));
            findings.extend(config.domain.iter().filter_map(redirect));
            findings.extend(config.domain.iter().filter_map(passwords::look));
            findings.extend(listening(&config));
            findings.extend(authorities(&config));
            findings.push(store(&config));
            if arguments.deep {
                findings.extend(deep::look(&config.server.store));
            }
            let (running, zone) = tokio::join!(running(&config), zone::check(&config));
            findings.extend(running);
            findings.extend(zone);
        }
    }
    for finding in &findings {
        data!("{}", serde_json::to_string(finding).unwrap_or_default());
    }
    let errors = findings.iter().filter(|finding| finding.level == "error").count();
    if errors == 0 { Ok(()) } else { Err(Failure::new(1, format!("errors found: {errors}"))) }
}

/// How long a domain's certificate holds; `None` if it cannot be read, which has been told.
fn validity(hosted: &Hosted, now: Timestamp) -> Option<Finding> {
    let validity = Validity::of(&files::first(&hosted.certificate)?)?;
    if let Some(fault) = validity.fault(now) {
        let message = format!("the certificate of {} {fault}", hosted.name);
        let hint = if now < validity.from { CLOCK } else { RENEW };
        return Some(finding("error", CERTIFICATE, message, Some(hint)));
    }
    let until = validity.until;
    let days = until.since(now).as_secs() / 86_400;
    let message = format!("the certificate of {} holds until {until}", hosted.name);
    Some(match days {
        0..CERTIFICATE_DAYS_WARN => finding("warn", CERTIFICATE, message, Some(RENEW)),
        _ => fine(CERTIFICATE, message),
    })
}

/// Whether a domain's certificate is for something else than servers.
fn purpose(hosted: &Hosted) -> Option<Finding> {
    let certificate = files::first(&hosted.certificate)?;
    let wrong = proves_servers(&certificate) == Some(false);
    wrong.then(|| {
        let message = format!(
            "the certificate of {} is not for server authentication: clients and other domains \
             will refuse it",
            hosted.name
        );
        let hint = "have one made with the extended key usage serverAuth, or with none";
        finding("error", CERTIFICATE, message, Some(hint))
    })
}

/// Whether a redirect leads where no server follows it.
fn redirect(hosted: &Hosted) -> Option<Finding> {
    let to = hosted.redirect.as_ref()?;
    if to.is_nested_with(&hosted.name) && (to.is_global() || to.as_str() == "localhost") {
        return None;
    }
    let message =
        format!("redirect of {}: to {to} no server sends what was meant for it", hosted.name);
    let hint = "only a domain above or below is followed to; senders are told the new address";
    Some(finding("warn", "config", message, Some(hint)))
}

/// Whether anybody beyond this machine can reach domains that are meant to be reached.
fn listening(config: &Config) -> Option<Finding> {
    let listen = &config.server.listen;
    let addresses: Vec<SocketAddr> = listen.iter().filter_map(|text| text.parse().ok()).collect();
    let outside = addresses.iter().any(|address| !address.ip().is_loopback());
    if outside || !config.domain.iter().any(|hosted| hosted.name.is_global()) {
        return None;
    }
    let message = format!("listen = {listen:?}: only reachable from this machine");
    let hint = "[server] listen = [\"0.0.0.0:2778\", \"[::]:2778\"]";
    Some(finding("warn", "server", message, Some(hint)))
}

/// Whether the CAs that prove other domains can be read, where no domain here has links: else the
/// TLS of links has found it out.
fn authorities(config: &Config) -> Option<Finding> {
    let links = &config.federation;
    if config.domain.iter().any(|hosted| hosted.name.is_global()) && links.enabled {
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
        Ok(_) => match may_use(path) {
            Ok(()) => fine("store", format!("{} is there", path.display())),
            Err(error) => cannot_use(path, &error),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The nearest folder that is there will have it.
            let above = path.ancestors().skip(1).map(|above| match above.as_os_str().is_empty() {
                true => Path::new("."),
                false => above,
            });
            let above = above.into_iter().find(|above| above.exists()).unwrap_or(path);
            match may_use(above) {
                Err(error) => cannot_use(above, &error),
                Ok(()) => {
                    let message = format!("{} is not there and will be made", path.display());
                    finding("warn", "store", message, None)
                }
            }
        }
        Err(error) => cannot_use(path, &error),
    }
}

/// Whether this user may read, write and enter a folder.
fn may_use(folder: &Path) -> std::io::Result<()> {
    use rustix::fs::Access;
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::access(folder, wanted)?)
}

fn cannot_use(path: &Path, error: &std::io::Error) -> Finding {
    let message = format!("{} cannot be written and read: {}", path.display(), plain(error));
    finding("error", "store", message, Some("run check as the server's user, who must own it"))
}

/// Whether a server runs, which is told and is no fault either way; if none, whether one could
/// listen.
async fn running(config: &Config) -> Vec<Finding> {
    let socket = &config.server.control;
    let running = match control::ask(socket, &Request::List).await {
        Ok(Some(answer)) => {
            let answers = fine("server", format!("a server answers on {}", socket.display()));
            return std::iter::once(answers).chain(passwords::odd(&answer)).collect();
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!(
                "{}: permission denied: whether a server runs is not known",
                socket.display()
            );
            finding("warn", "server", message, Some("run check as the server's user"))
        }
        Err(error) => finding("warn", "server", format!("{}: {error}", socket.display()), None),
        Ok(None) => {
            let none = "no server runs with this configuration".to_owned();
            return vec![finding("warn", "server", none, None), free(config).await];
        }
    };
    vec![running]
}

/// Whether the addresses can be listened on, by doing it for a moment.
async fn free(config: &Config) -> Finding {
    let error = match bind_everything(config).await {
        Ok(()) => return fine("server", "its addresses can be listened on".to_owned()),
        Err(error) => error,
    };
    let denied = matches!(&error, RunError::Bind { error, .. }
        if error.kind() == std::io::ErrorKind::PermissionDenied);
    match denied {
        true => {
            let hint = "run check as the server's user; below port 1024 it needs a capability";
            finding("warn", "server", error.to_string(), Some(hint))
        }
        false => {
            let hint = "does another program listen there, and is the address this machine's?";
            finding("error", "server", error.to_string(), Some(hint))
        }
    }
}

async fn bind_everything(config: &Config) -> Result<(), RunError> {
    let _listeners = bind_all(config).await?;
    if let Some(http) = &config.server.http {
        let bound = tokio::net::TcpListener::bind(http).await;
        bound.map_err(|error| RunError::Bind { what: format!("http {http}"), error })?;
    }
    Ok(())
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
