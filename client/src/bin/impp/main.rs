//! `impp`: presence and messages from the command line.
//!
//! Data goes to stdout, words to stderr. What a command does is in `commands`, one file each; all
//! that speaks to a server is the library's.

mod args;
mod commands;
mod document;
mod output;
mod report;
mod stop;

use std::process::ExitCode;

use clap::Parser;
use impp_client::outbox::Outbox;
use impp_client::protocol::Address;
use impp_client::{Client, ClientError, Options, Profile, profile};

use args::{Args, Command, Global};
use output::Output;
use report::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return report::usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(error) => Err(Failure::system("no runtime", &error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => report::failure(&failure, args.global.json),
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let mut out = Output::new(args.global.json);
    if let Command::Login(login) = &args.command {
        commands::login::run(login, &args.global, &mut out).await?;
        return out.flush();
    }
    commands::goes_for(args.owner.as_ref(), &args.command)?;
    let (client, outbox) = client(&args.global, args.command.nameless())?;
    let owner = args.owner.as_ref();
    let done = commands::run(&args.command, owner, &client, &outbox, &mut out).await;
    client.close().await;
    done.and_then(|()| out.flush())
}

/// The client of the profile in use, with the device that is kept in it, and the outbox beside it. It proves
/// no name if that is only to be asked about somebody.
fn client(global: &Global, nameless: Option<&Address>) -> Result<(Client, Outbox), Failure> {
    let path = profile::locate(global.profile.as_deref(), |name| std::env::var_os(name));
    let path = path.map_err(ClientError::Profile)?;
    let mut profile = Profile::load(&path).map_err(ClientError::Profile)?;
    match nameless {
        Some(presentity) => profile = profile.without_name(presentity),
        // Nothing is to be kept.
        None if global.no_device => {}
        None => {
            profile::ensure_device(&mut profile, &path).map_err(ClientError::Profile)?;
        }
    }
    Ok((Client::new(&profile, options(global))?, Outbox::beside(&path)))
}

fn options(global: &Global) -> Options {
    Options {
        timeout: global.timeout(),
        agent: concat!("impp/", env!("CARGO_PKG_VERSION")).to_owned(),
        device_name: Some(device_name()),
        deviceless: global.no_device,
    }
}

/// What the owner will recognise this device by.
fn device_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let mut name = match host.trim() {
        "" => "impp".to_owned(),
        host => format!("impp on {host}"),
    };
    while name.len() > DEVICE_NAME_BYTES_MAX {
        name.pop();
    }
    name
}

/// Longest name of a device that servers take, in bytes.
const DEVICE_NAME_BYTES_MAX: usize = 64;
