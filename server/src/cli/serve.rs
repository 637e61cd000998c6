//! `imppd serve`: run the server until it is told to stop.

use std::path::Path;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::core::config::{Config, Log};
use crate::life::log;
use crate::life::{Running, Server, bind_all};

pub(super) async fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let _log = start_log(&config.log)?;
    let server = Server::open(config.clone()).await?;
    let listeners = bind_all(&config).await?;
    let running = server.start(listeners, path).await?;
    until_told(running, std::future::pending()).await
}

/// Says that the server is ready, runs it until SIGTERM, SIGINT or `end`, and stops it.
///
/// # Errors
/// [`Failure`]: the system hands on no signals, or the store failed at the stop.
pub async fn until_told(running: Running, end: impl Future<Output = ()>) -> Result<(), Failure> {
    use std::io::Write;
    raise_open_files(running.files_wanted());
    let no_signal = |error| Failure::new(5, format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signal)?;
    let mut ready = String::new();
    for domain in running.domains() {
        for address in &running.addresses {
            ready.push_str(&format!("ready: {domain} on {address}\n"));
        }
    }
    // In a thread of its own: that nobody reads it holds up nothing.
    std::thread::spawn(move || {
        let mut out = std::io::stdout();
        out.write_all(ready.as_bytes()).and_then(|()| out.flush())
    });
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(watch());
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut end => break,
            _ = hangup.recv() => match running.reload() {
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "not reloaded; all is as it was"),
            },
        }
    }
    watchdog.abort();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    Ok(running.stop().await?)
}

/// Tells the service manager that the server lives, as often as it asks for.
async fn watch() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut interval = tokio::time::interval(limit / 2);
    loop {
        interval.tick().await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// Starts the log on standard error, as long as what is returned is held.
///
/// # Errors
/// [`Failure`]: its level is no level.
pub fn start_log(log: &Log) -> Result<log::LogThread, Failure> {
    log::start(log).map_err(|error| Failure::new(2, error.to_string()))
}

/// Takes as many open files as the system allows: a connection is one, and the usual first limit is
/// less than the connections that the settings allow.
fn raise_open_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, ?maximum, "the limit on open files could not be raised");
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < wanted
    {
        tracing::warn!(
            limit,
            wanted,
            "few files may be open: the connections that have not signed in alone could take more \
             (LimitNOFILE, ulimit -n)"
        );
    }
}
