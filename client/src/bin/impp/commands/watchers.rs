//! `impp watchers`: who watches one's presence, now and as it changes, and ending one's subscriptions.

use std::time::Duration;

use clap::Subcommand;
use impp_client::follow::WatcherNews;
use impp_client::protocol::state::WatcherEntry;
use impp_client::{Client, Event, Wanted};
use serde::Serialize;
use tokio::time::Instant;

use super::Who;
use crate::output::Output;
use crate::report::Failure;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Go on as it changes.
    #[arg(long)]
    follow: bool,
    /// Stop after so many lines.
    #[arg(long, value_name = "N", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", requires = "follow")]
    seconds: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How you stand as a watcher of somebody; if they let you see that, how many others watch them.
    Of(Who),
    /// End somebody's subscriptions. They may ask again: rules decide about that.
    Remove(Who),
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
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    polite: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looked: Option<String>,
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

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    match &args.action {
        Some(Action::Of(who)) => of(who, client, out).await,
        Some(Action::Remove(who)) => Ok(client.remove_watcher(&who.address).await?),
        None if args.follow => follow(args, client, out).await,
        None => {
            for entry in client.watchers().await? {
                out.item(&json(&entry), line)?;
            }
            Ok(())
        }
    }
}

async fn of(who: &Who, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let watchers = client.watchers_of(&who.address).await?;
    for entry in &watchers.entries {
        out.item(&json(entry), line)?;
    }
    for counted in &watchers.counts {
        let item = CountJson { state: counted.state.as_str(), count: counted.count };
        out.item(&item, |item| format!("{} {}", item.count, item.state))?;
    }
    Ok(())
}

async fn follow(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let end = args.seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let deadline = Instant::now() + end.unwrap_or(Duration::ZERO);
    let wanted = Wanted { watchers: true, ..Wanted::default() };
    let mut follower = tokio::select! {
        follower = client.follow(wanted) => follower?,
        () = stop.wait() => return Ok(()),
    };
    let mut left = args.count;
    let outcome = loop {
        let event = tokio::select! {
            biased;
            () = stop.wait() => break Ok(()),
            () = tokio::time::sleep_until(deadline), if end.is_some() => break Ok(()),
            event = follower.next() => event,
        };
        match event.map_err(Failure::from).and_then(|event| tell(&event, out)) {
            Ok(false) => {}
            Ok(true) => {
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    break Ok(());
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    follower.end().await;
    outcome
}

/// Prints what is new; says whether it counts.
fn tell(event: &Event, out: &mut Output) -> Result<bool, Failure> {
    match event {
        Event::Lost { error, wait } => {
            out.note(&format!("{error}; trying again in {:.1} s", wait.as_secs_f32()));
            return Ok(false);
        }
        Event::Back => {
            out.note("connected again");
            return Ok(false);
        }
        Event::Watcher(WatcherNews::Stands(entry)) => out.item(&json(entry), line)?,
        Event::Watcher(WatcherNews::Gone(who)) => {
            let item = GoneJson { gone: who.to_string() };
            out.item(&item, |item| format!("{} is not listed any more", item.gone))?;
        }
        _ => return Ok(false),
    }
    out.flush()?;
    Ok(true)
}

fn line(item: &WatcherJson) -> String {
    let since = item.since.as_ref().map_or(String::new(), |since| format!(" since {since}"));
    let polite = if item.polite { ", politely blocked" } else { "" };
    let doubt = if item.proven { "" } else { ", not proven" };
    let looks = match (item.looks, &item.looked) {
        (Some(looks), Some(looked)) => format!(", looked {looks} times, last {looked}"),
        _ => String::new(),
    };
    format!("{}  {} ({}){since}{polite}{doubt}{looks}", item.watcher, item.state, item.event)
}

fn json(entry: &WatcherEntry) -> WatcherJson {
    WatcherJson {
        watcher: entry.watcher.to_string(),
        state: entry.state.as_str(),
        event: entry.event.as_str(),
        since: entry.since.map(|since| since.to_string()),
        proven: entry.proven,
        by: entry.by.map(|by| by.as_str()),
        polite: entry.polite,
        looks: entry.looks,
        looked: entry.looked.map(|looked| looked.to_string()),
    }
}
