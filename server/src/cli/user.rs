//! `imppd user`: accounts, through the running server or else on the store itself.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::account::{done, profile};
use super::{Failure, WhichServer};
use crate::core::config::Config;
use crate::core::records::Services;
use crate::front::control::{self, Request, Response};
use crate::life::Server;

/// Arguments of `imppd user`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    which: WhichServer,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an account; without a password a random one is printed once.
    Add {
        /// user@domain
        address: String,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
        /// What it has: pres (presence), im (instant messages).
        #[arg(long, value_delimiter = ',', default_value = "pres,im")]
        services: Vec<String>,
        /// Write a profile for `impp` to this file.
        #[arg(long, value_name = "FILE")]
        profile_out: Option<PathBuf>,
    },
    /// Give an account another password; all its sessions end.
    Passwd {
        /// user@domain
        address: String,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove an account with all it has. Its name is not given again.
    Remove {
        /// user@domain
        address: String,
    },
    /// Let nobody sign in to an account; all its sessions end.
    Disable {
        /// user@domain
        address: String,
    },
    /// Let the owner sign in again.
    Enable {
        /// user@domain
        address: String,
    },
    /// List the devices of an account, one JSON object a line, or take one away.
    Devices {
        /// user@domain
        address: String,
        /// Take this one away: what it shows and its sessions end, and there is room for another.
        #[arg(long, value_name = "ID")]
        remove: Option<String>,
    },
    /// List the accounts, one JSON object a line.
    List,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    // Whoever has to be shut out is, whatever has happened to a domain's policy.
    let config = Config::load_without_policies(&arguments.which.path()?)?;
    match arguments.action {
        Action::Add { address, password_stdin, services, profile_out } => {
            let (services, given) = (services_of(&services)?, password(password_stdin)?);
            add(&config, address, (given, services), profile_out).await
        }
        Action::Passwd { address, password_stdin } => {
            let password = password(password_stdin)?;
            let request = Request::Passwd { address, password };
            if let Some(password) = done(ask(&config, request).await?)? {
                print_password(&password)?;
            }
            Ok(())
        }
        Action::Remove { address } => {
            done(ask(&config, Request::Remove { address }).await?).map(drop)
        }
        Action::Disable { address } => {
            done(ask(&config, Request::Disable { address }).await?).map(drop)
        }
        Action::Enable { address } => {
            done(ask(&config, Request::Enable { address }).await?).map(drop)
        }
        Action::Devices { address, remove } => {
            match ask(&config, Request::Devices { address, remove }).await? {
                Response::Devices(devices) => {
                    for device in devices {
                        data!("{}", serde_json::to_string(&device).unwrap_or_default());
                    }
                    Ok(())
                }
                other => done(other).map(drop),
            }
        }
        Action::List => match ask(&config, Request::List).await? {
            Response::Accounts(accounts) => {
                for account in accounts {
                    data!("{}", serde_json::to_string(&account).unwrap_or_default());
                }
                Ok(())
            }
            other => done(other).map(drop),
        },
    }
}

/// Makes an account, with a password of its own if none is given; that goes into a profile, or is
/// printed.
async fn add(
    config: &Config,
    address: String,
    (given, services): (Option<String>, Services),
    profile_out: Option<PathBuf>,
) -> Result<(), Failure> {
    if let Some(file) = profile_out.as_ref().filter(|file| file.exists()) {
        return Err(Failure::new(1, format!("{} exists", file.display())));
    }
    let add = Request::Add { address: address.clone(), password: given.clone(), services };
    let made = done(ask(config, add).await?)?;
    if let Some(file) = profile_out {
        let password = made.as_ref().or(given.as_ref());
        profile(config, &address, password.map_or("", |text| text), &file)?;
    } else if let Some(password) = made {
        print_password(&password)?;
    }
    Ok(())
}

/// Prints a password that was made. It stands nowhere else, so that it matters whether it came out.
fn print_password(password: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout();
    let printed = writeln!(out, "password: {password}").and_then(|()| out.flush());
    printed.map_err(|error| Failure {
        exit: 5,
        message: format!("the account has a new password that could not be printed: {error}"),
        hint: Some("give it another one: imppd user passwd ADDRESS".to_owned()),
    })
}

/// Asks the running server; if none runs, does it on the store.
async fn ask(config: &Config, request: Request) -> Result<Response, Failure> {
    let socket = &config.server.control;
    match control::ask(socket, &request).await {
        Ok(Some(response)) => return Ok(response),
        Ok(None) => {}
        Err(error) => return Err(Failure::new(3, format!("{}: {error}", socket.display()))),
    }
    is_ours(&config.server.store)?;
    let server = Server::open(config.clone()).await?;
    let response = control::handle(&server.administration, request).await;
    server.administration.store.close().await?;
    Ok(response)
}

/// Refuses to work on another user's store: root may, and what it made in there (the log of the
/// database) its owner's server could not open any more.
fn is_ours(store: &Path) -> Result<(), Failure> {
    // One that is not there will be this user's.
    let Ok(found) = std::fs::metadata(store) else { return Ok(()) };
    let (owner, us) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == us {
        return Ok(());
    }
    let message = format!("the store {} is user {owner}'s, and this is user {us}", store.display());
    let hint = Some(format!("run it as that user: sudo -u '#{owner}' imppd user …"));
    Err(Failure { exit: 5, message, hint })
}

fn services_of(names: &[String]) -> Result<Services, Failure> {
    control::services_of(names).map_err(|message| {
        let hint = Some("services are pres and im".to_owned());
        Failure { exit: 2, message, hint }
    })
}

fn password(from_stdin: bool) -> Result<Option<String>, Failure> {
    if !from_stdin {
        return Ok(None);
    }
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|error| Failure::new(2, format!("password: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::new(2, "no password on standard input"));
    }
    Ok(Some(line.to_owned()))
}
