//! `imppd check`: look whether a configuration will work, one finding a line.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use impp_storage::StoreError;
use impp_trust::Trust;
use serde::Serialize;

use super::{Failure, certificates, deep, passwords, zone};
use crate::core::clock::Clock;
use crate::core::config::{Config, ConfigError, Hosted, Limits, Server, plain};
use crate::core::tls::Configurations;
use crate::front::control::{self, Request};
use crate::life::{RunError, bind_each};

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
            findings.extend(certificates::check(
                &config.domain,
                &config.federation,
                Clock::start().wall(),
            ));
            findings.extend(config.domain.iter().filter_map(redirect));
            findings.extend(config.domain.iter().filter_map(passwords::look));
            findings.extend(listening(&config));
            findings.extend(strangers(&config.limits));
            findings.extend(authorities(&config));
            let folder = store(&config);
            let is_there = folder.level == "ok";
            findings.push(folder);
            if arguments.deep {
                findings.extend(deep::look(&config.server.store));
            } else if is_there {
                findings.extend(opened(&config.server.store));
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

/// Whether all strangers who may wait for their handshakes can have them in the time that they have: if
/// not, places are held by those who will be closed.
fn strangers(limits: &Limits) -> Option<Finding> {
    let Limits { unsigned_max, handshakes_per_second, sign_in_seconds, .. } = limits;
    let in_time = handshakes_per_second.saturating_mul(*sign_in_seconds);
    if *unsigned_max <= in_time {
        return None;
    }
    let message = format!(
        "unsigned_max = {unsigned_max}: only {in_time} of them can have their handshake within \
         sign_in_seconds = {sign_in_seconds}"
    );
    let hint = "[limits] unsigned_max at most handshakes_per_second × sign_in_seconds";
    Some(finding("warn", "limits", message, Some(hint)))
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
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            let (owner, us) = (found.uid(), rustix::process::geteuid().as_raw());
            let message = format!("{} is user {owner}'s, and this is user {us}", path.display());
            finding("error", "store", message, Some("run check, and the server, as its owner"))
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

/// Whether a start could open it: looked at as that does, without writing to the database.
fn opened(path: &Path) -> Option<Finding> {
    let error = match impp_storage::glance(path) {
        Ok(true) => return Some(fine("store", "it opens, and no damage is seen".to_owned())),
        // The first start makes one.
        Ok(false) => return None,
        Err(error) => error,
    };
    if let StoreError::Locked { .. } = error {
        return Some(fine("store", error.to_string()));
    }
    let hint = "see `When it does not start` in docs/operating.md; check --deep says more";
    Some(finding("error", "store", error.to_string(), Some(hint)))
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
    match control::ask(socket, &Request::List).await {
        Ok(Some(answer)) => {
            let answers = fine("server", format!("a server answers on {}", socket.display()));
            let mut findings = vec![answers];
            findings.extend(passwords::odd(&answer));
            findings.extend(addresses(&config.server, true).await);
            findings
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!(
                "{}: permission denied: whether a server runs is not known",
                socket.display()
            );
            vec![finding("warn", "server", message, Some("run check as the server's user"))]
        }
        Err(error) => {
            vec![finding("warn", "server", format!("{}: {error}", socket.display()), None)]
        }
        Ok(None) => {
            let none = "no server runs with this configuration".to_owned();
            let mut findings = vec![finding("warn", "server", none, None)];
            findings.extend(addresses(&config.server, false).await);
            findings
        }
    }
}

/// Whether the addresses can be listened on, by doing it for a moment; or are by the server that
/// runs, by not being able to.
async fn addresses(server: &Server, is_running: bool) -> Vec<Finding> {
    let tried = try_each(server).await;
    let mut findings = Vec::new();
    for (what, error) in &tried {
        match (error.as_ref().map(std::io::Error::kind), is_running) {
            (None, false) => {}
            (Some(std::io::ErrorKind::AddrInUse), true) => {
                findings.push(fine("server", format!("{what}: held by the server that runs")));
            }
            (None, true) => {
                let message = format!("{what}: the server that runs does not listen there");
                let hint = "it was started with another configuration: restart it";
                findings.push(finding("warn", "server", message, Some(hint)));
            }
            (Some(_), _) => findings.extend(error.as_ref().map(|error| unbound(what, error))),
        }
    }
    if findings.is_empty() && !is_running {
        findings.push(fine("server", "its addresses can be listened on".to_owned()));
    }
    findings
}

fn unbound(what: &str, error: &std::io::Error) -> Finding {
    let message = format!("{what}: {error}");
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            let hint = "run check as the server's user; below port 1024 it needs a capability";
            finding("warn", "server", message, Some(hint))
        }
        _ => {
            let hint = "does another program listen there, and is the address this machine's?";
            finding("error", "server", message, Some(hint))
        }
    }
}

/// Each address, and why it cannot be bound, if so. All are held until the last is tried, so that two
/// that exclude each other are found.
async fn try_each(server: &Server) -> Vec<(String, Option<std::io::Error>)> {
    let bound = bind_each(&server.listen).await;
    let mut tried = Vec::new();
    for (text, bound) in server.listen.iter().zip(&bound) {
        if bound.is_ok() {
            tried.push((format!("listen {text}"), None));
        }
    }
    if let Some(http) = &server.http {
        let bound = tokio::net::TcpListener::bind(http).await;
        tried.push((format!("http {http}"), bound.err()));
    }
    for failed in bound.into_iter().filter_map(Result::err) {
        if let RunError::Bind { what, error } = failed {
            tried.push((what, Some(error)));
        }
    }
    tried
}

impl Finding {
    /// Whether it keeps the server from working.
    pub(super) fn is_error(&self) -> bool {
        self.level == "error"
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
