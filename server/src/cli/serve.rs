//! `imppd serve`: run the server until it is told to stop.

use std::path::Path;
use std::sync::Once;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{Config, Log};
use crate::running::{Running, bind_all};

pub(super) async fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    start_log(&config.log)?;
    let host = Running::open(config.clone()).await?;
    let listeners = bind_all(&config).await?;
    let running = Running::start(host, listeners, path).await?;
    until_told(running, path, std::future::pending()).await
}

/// Says that the server is ready, runs it until SIGTERM, SIGINT or `end`, and stops it.
pub(super) async fn until_told(
    running: Running,
    path: &Path,
    end: impl Future<Output = ()>,
) -> Result<(), Failure> {
    use std::io::Write;
    let no_signal = |error| Failure::new(5, format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signal)?;
    let mut out = std::io::stdout();
    for domain in running.host.accounts.domains() {
        for address in &running.addresses {
            let _ = writeln!(out, "ready: {domain} on {address}");
        }
    }
    let _ = out.flush();
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(watch());
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut end => break,
            _ = hangup.recv() => match running.reload(path) {
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

/// Starts the log on standard error.
pub(super) fn start_log(log: &Log) -> Result<(), Failure> {
    static ONCE: Once = Once::new();
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| Failure::new(2, format!("log level \"{}\": {error}", log.level)))?;
    ONCE.call_once(|| {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(std::io::stderr);
        if log.json { builder.json().init() } else { builder.init() }
    });
    Ok(())
}
