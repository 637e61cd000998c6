//! `impp watchers`: who watches one's presence, now and as it changes, and ending one's subscriptions.

use clap::Subcommand;
use impp_client::follow::WatcherNews;
use impp_client::protocol::Address;
use impp_client::protocol::state::WatcherEntry;
use impp_client::{Client, Event, Follower, Wanted};
use serde::Serialize;

use super::followed::{Following, follow};
use super::{Watcher, Who};
use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    following: Following,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How you stand as a watcher of somebody; if they let you see that, how many others watch them.
    Of(Who),
    /// End somebody's subscriptions. They may ask again: rules decide about that.
    Remove(Watcher),
}

#[derive(Serialize)]
struct WatcherJson {
    watcher: String,
    state: &'static str,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    proven: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    polite: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
}

#[derive(Serialize)]
struct CountJson {
    state: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct GoneJson {
    gone: String,
}

impl Args {
    /// Whether it is only looked who watches.
    pub(crate) fn can_be_for_another(&self) -> bool {
        self.action.is_none() && !self.following.follow
    }
}

pub(crate) async fn run(
    args: &Args,
    owner: Option<&Address>,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    match (&args.action, owner) {
        (Some(Action::Of(who)), _) => of(&who.address, client, out).await,
        (Some(Action::Remove(who)), _) => Ok(client.remove_watcher(&who.address).await?),
        (None, Some(owner)) => of(owner, client, out).await,
        (None, None) if args.following.follow => {
            let wanted = Wanted { watchers: true, ..Wanted::default() };
            follow(args.following.until(), wanted, client, out, tell).await
        }
        (None, None) => {
            for entry in client.watchers().await? {
                out.item(&json(&entry), line)?;
            }
            Ok(())
        }
    }
}

async fn of(who: &Address, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let watchers = client.watchers_of(who).await?;
    for entry in &watchers.entries {
        out.item(&json(entry), line)?;
    }
    for counted in &watchers.counts {
        let item = CountJson { state: counted.state.as_str(), count: counted.count };
        out.item(&item, |item| format!("{} {}", item.count, item.state))?;
    }
    Ok(())
}

/// Prints what is new; says whether there was anything.
fn tell(event: Event, _: &mut Follower<'_>, out: &mut Output) -> Result<u64, Failure> {
    match event {
        Event::Watcher(WatcherNews::Stands(entry)) => out.item(&json(&entry), line)?,
        Event::Watcher(WatcherNews::Gone(who)) => {
            let item = GoneJson { gone: name(&who) };
            out.item(&item, |item| format!("{} is not listed any more", item.gone))?;
        }
        _ => return Ok(0),
    }
    Ok(1)
}

fn line(item: &WatcherJson) -> String {
    let since = item.since.as_ref().map_or(String::new(), |since| format!(" since {since}"));
    let polite = if item.polite { ", politely blocked" } else { "" };
    let doubt = if item.proven { "" } else { ", not proven" };
    let looks = match (item.looks, &item.looked) {
        (Some(looks), Some(looked)) => format!(", looked {looks} times, last {looked}"),
        _ => String::new(),
    };
    let many = item.sessions.map_or(String::new(), |sessions| format!(", {sessions} of them"));
    format!("{}  {} ({}){since}{polite}{doubt}{many}{looks}", item.watcher, item.state, item.event)
}

/// Whoever has proven no name has none.
fn name(who: &Address) -> String {
    match who.is_anonymous() {
        true => super::ANONYMOUS.to_owned(),
        false => who.to_string(),
    }
}

fn json(entry: &WatcherEntry) -> WatcherJson {
    WatcherJson {
        watcher: name(&entry.watcher),
        state: entry.state.as_str(),
        event: entry.event.as_str(),
        since: entry.since.map(|since| since.to_string()),
        proven: entry.proven,
        by: entry.by.map(|by| by.to_string()),
        polite: entry.polite,
        looks: entry.looks,
        looked: entry.looked.map(|looked| looked.to_string()),
        sessions: entry.sessions,
    }
}
