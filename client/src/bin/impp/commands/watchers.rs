//! `impp watchers`: who watches one's presence, and ending one's subscriptions.

use clap::Subcommand;
use impp_client::Client;
use impp_client::protocol::Address;
use impp_client::protocol::state::WatcherEntry;
use serde::Serialize;

use super::Who;
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// End somebody's subscriptions. They may ask again: rules decide about that.
    Remove(Who),
}

#[derive(Serialize)]
struct WatcherJson {
    watcher: String,
    state: &'static str,
    event: &'static str,
    since: String,
    proven: bool,
}

impl Args {
    /// Whether it is only looked who watches.
    pub(crate) fn can_be_for_another(&self) -> bool {
        self.action.is_none()
    }
}

pub(crate) async fn run(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    if let Some(Action::Remove(who)) = &args.action {
        return Ok(client.remove_watcher(&who.address).await?);
    }
    for entry in client.watchers_for(owner.unwrap_or(client.address())).await? {
        out.item(&json(&entry), |item| {
            let doubt = if item.proven { "" } else { ", not proven" };
            format!("{}  {} ({}) since {}{doubt}", item.watcher, item.state, item.event, item.since)
        })?;
    }
    Ok(())
}

fn json(entry: &WatcherEntry) -> WatcherJson {
    WatcherJson {
        watcher: entry.watcher.to_string(),
        state: entry.state.as_str(),
        event: entry.event.as_str(),
        since: entry.since.to_string(),
        proven: entry.proven,
    }
}
