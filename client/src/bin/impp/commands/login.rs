//! `impp login`: signs in once and keeps how in a profile.

use std::io::{BufRead, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use impp_client::profile::{self, PROFILE_BYTES_MAX};
use impp_client::protocol::Address;
use impp_client::{Client, ClientError, Credentials, Profile};
use serde::Serialize;

use crate::args::Global;
use crate::options;
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Your address.
    address: Address,
    /// Where the server is, HOST:PORT; without it DNS says, by the domain of the address.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Ask this DNS server, ADDR:PORT, instead of the system's.
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<SocketAddr>,
    /// A PEM file with the certificates to believe; without it the system's.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Read the password from stdin, one line.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Serialize)]
struct LoginJson {
    address: String,
    profile: String,
    device: String,
}

pub(crate) async fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let path = match &global.profile {
        Some(path) => path.clone(),
        None => profile::default_path(&args.address, |name| std::env::var_os(name))
            .map_err(ClientError::Profile)?,
    };
    let password = password(args)?;
    let trust = args.trust.as_deref().map(absolute).transpose()?;
    // The same account keeps its device: what it has not fetched yet stays its own.
    let old = Profile::load(&path).ok().filter(|old| old.address == args.address);
    let profile = Profile {
        address: args.address.clone(),
        server: args.server.clone(),
        dns: args.dns.clone(),
        credentials: Credentials::Password(password.clone()),
        trust: trust.clone(),
        device: old.and_then(|old| old.device),
    };
    let client = Client::new(&profile, options(global))?;
    client.connect().await?;
    let device = client.device().to_string();
    client.close().await;

    let new = profile::New {
        address: args.address.to_string(),
        server: args.server.clone(),
        dns: args.dns.clone(),
        password,
        trust,
        device: device.clone(),
    };
    profile::create(&path, &new).map_err(ClientError::Profile)?;
    let (address, profile) = (args.address.to_string(), path.display().to_string());
    out.item(&LoginJson { address, profile, device }, |item| {
        format!("signed in as {}; profile: {}", item.address, item.profile)
    })
}

fn password(args: &Args) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if args.password_stdin {
        let mut line = String::new();
        let mut limited = std::io::Read::take(stdin.lock(), PROFILE_BYTES_MAX);
        limited.read_line(&mut line).map_err(|error| Failure::system("stdin", &error))?;
        let password = line.strip_suffix('\n').unwrap_or(&line);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(Failure::usage("no password on stdin"));
        }
        return Ok(password.to_owned());
    }
    if !stdin.is_terminal() {
        let hint = "--password-stdin reads it from stdin";
        return Err(Failure::usage_hint("no terminal to ask for a password", hint));
    }
    rpassword::prompt_password(format!("password of {}: ", args.address))
        .map_err(|error| Failure::system("terminal", &error))
}

/// The profile may be somewhere else than we are, so what it names is named in full.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}
