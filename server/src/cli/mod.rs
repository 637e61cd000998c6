//! The commands of `imppd`: one file each. Data on standard output, words on standard error.
//!
//! The program itself is the crate `imppd`, the demonstration `impp-quickstart`.

/// A line of data on standard output. That nobody reads it is no reason to panic.
macro_rules! data {
    ($($text:tt)*) => { $crate::cli::put(format_args!($($text)*)) };
}

/// A line in words on standard error. That nobody reads it is no reason to panic.
macro_rules! words {
    ($($text:tt)*) => { $crate::cli::say(format_args!($($text)*)) };
}

pub mod account;
mod certificates;
mod check;
mod deep;
mod explain;
mod passwords;
mod resolve;
pub mod serve;
mod user;
mod zone;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Subcommand;
use impp_storage::StoreError;

use crate::core::config::{Config, ConfigError, default_document};
use crate::front::control::{self, Request, Response};
use crate::life::RunError;

/// What the server's program can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server of a configuration.
    Serve(WithConfig),
    /// Make the running server read its configuration again: all of it or, if it is wrong, none.
    Reload(WhichServer),
    /// About the configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look whether a configuration will work.
    Check(check::Arguments),
    /// Find and reach a domain's servers, and say each step.
    Resolve(resolve::Arguments),
    /// What an account's rules make of somebody, one JSON object a line: names of rules and fields.
    Explain(explain::Arguments),
    /// Accounts.
    User(user::Arguments),
}

/// What can be done about the configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration file with every setting at its default.
    Default,
}

/// A command that needs the configuration.
#[derive(Debug, clap::Args)]
pub struct WithConfig {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Which server a command is about.
#[derive(Debug, clap::Args)]
pub struct WhichServer {
    /// The configuration file.
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The folder that quickstart made.
    #[arg(long, value_name = "FOLDER", global = true)]
    data: Option<PathBuf>,
}

impl WhichServer {
    /// Its configuration file.
    fn path(self) -> Result<PathBuf, Failure> {
        match (self.config, self.data) {
            (Some(config), _) => Ok(config),
            (None, Some(data)) => Ok(data.join("imppd.toml")),
            (None, None) => Err(Failure {
                exit: 2,
                message: "which server?".to_owned(),
                hint: Some("--config FILE, or --data FOLDER for one made by quickstart".to_owned()),
            }),
        }
    }
}

/// What ends a command, and its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// What is wrong; empty if it has been said already.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// One of which nobody knows a remedy.
    pub fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }

    /// Says it as an object, `name` first; what is left is the exit code.
    fn told_as_json(self, name: &str) -> Failure {
        let Failure { exit, message, hint } = self;
        let mut error = serde_json::json!({ "name": name, "message": message });
        if let Some(hint) = hint {
            error["hint"] = hint.into();
        }
        words!("{}", serde_json::json!({ "error": error }));
        Failure { exit, message: String::new(), hint: None }
    }
}

/// Whether a line of data found no room.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes a line of data. One whose reader has gone has read enough; what else goes wrong is told by
/// [`main`], so that nobody takes a part for the whole.
pub fn put(line: std::fmt::Arguments<'_>) {
    let written = writeln!(std::io::stdout(), "{line}");
    let is_lost = written.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    LOST.fetch_or(is_lost, Ordering::Relaxed);
}

/// Writes a line in words.
pub fn say(line: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(format_args!("{line}\n"));
}

/// Runs a command to its end, and says what has gone wrong.
pub fn main(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::new(5, format!("the system gives no threads: {error}"))),
    };
    match result {
        Ok(()) if LOST.load(Ordering::Relaxed) => {
            words!("error: standard output: not all of it could be written");
            ExitCode::from(5)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, message, hint }) => {
            // What has been said already is empty.
            if !message.is_empty() {
                words!("error: {message}");
            }
            if let Some(hint) = hint {
                words!("hint: {hint}");
            }
            ExitCode::from(exit)
        }
    }
}

/// Runs one of the server's commands.
///
/// # Errors
/// [`Failure`], which [`main`] says.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(WithConfig { config }) => serve::run(&config).await,
        Command::Reload(which) => reload(&which.path()?).await,
        Command::Config(ConfigCommand::Default) => {
            data!("{}", default_document(&[]).trim_end());
            Ok(())
        }
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Resolve(arguments) => resolve::run(&arguments).await,
        Command::Explain(arguments) => explain::run(arguments).await,
        Command::User(arguments) => user::run(arguments).await,
    }
}

async fn reload(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let socket = &config.server.control;
    match asked(socket, &Request::Reload, "the configuration is read when it starts").await? {
        Response::Reloaded { warnings } => {
            for warning in warnings {
                words!("warning: {warning}");
            }
            Ok(())
        }
        _ => Err(Failure::new(3, format!("{}: no such answer", socket.display()))),
    }
}

/// What a running server answers, if it does not refuse; `hint` is for where none runs.
async fn asked(socket: &Path, request: &Request, hint: &str) -> Result<Response, Failure> {
    match control::ask(socket, request).await {
        Ok(Some(Response::Refused { exit, message, hint })) => Err(Failure { exit, message, hint }),
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err(Failure {
            exit: 3,
            message: format!("no server listens on {}", socket.display()),
            hint: Some(hint.to_owned()),
        }),
        Err(error) => Err(Failure::new(3, format!("{}: {error}", socket.display()))),
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure { exit: 2, message: error.to_string(), hint: error.hint }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(5, error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match error {
            RunError::Config(error) => error.into(),
            RunError::Store(error) => error.into(),
            RunError::Start(error) => Failure::new(5, error.to_string()),
            RunError::Bind { .. } => Failure::new(3, error.to_string()),
        }
    }
}
