//! `impp requests`: who waits for one's decision, what they have written, and deciding. A decision becomes
//! a rule.

use clap::Subcommand;
use impp_client::follow::RequestNews;
use impp_client::protocol::command::Message;
use impp_client::protocol::state::{Decision, HeldMessage, RequestEntry};
use impp_client::{Client, ClientError, Event, Follower, Wanted};
use serde::Serialize;

use super::Who;
use super::followed::{Following, follow};
use crate::output::{Output, in_line, indented};
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
    /// Who waits.
    List,
    /// What somebody has written that is held, oldest first.
    Show(Who),
    /// Say yes: they see the status, or what a group of yours sees.
    Allow(Allowed),
    /// Say no without saying so: they see you offline.
    Polite(Who),
    /// Say no.
    Deny(Who),
}

#[derive(Debug, clap::Args)]
struct Allowed {
    #[command(flatten)]
    who: Who,
    /// Make them a member of this group of your rules.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

#[derive(Serialize)]
struct RequestJson {
    kind: &'static str,
    from: String,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

#[derive(Serialize)]
struct SettledJson {
    settled: &'static str,
    from: String,
}

#[derive(Serialize)]
struct HeldJson {
    id: String,
    from: String,
    since: String,
    #[serde(rename = "type")]
    content_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    octets: Option<usize>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (who, decision) = match &args.action {
        None if args.following.follow => {
            let wanted = Wanted { requests: true, ..Wanted::default() };
            return follow(args.following.until(), wanted, client, out, tell).await;
        }
        None | Some(Action::List) => return list(client, out).await,
        Some(Action::Show(who)) => return show(who, client, out).await,
        Some(Action::Allow(Allowed { who, group: Some(group) })) => {
            return Ok(client.allow_into(&who.address, group).await?);
        }
        Some(Action::Allow(Allowed { who, group: None })) => (who, Decision::Allow),
        Some(Action::Polite(who)) => (who, Decision::Polite),
        Some(Action::Deny(who)) => (who, Decision::Deny),
    };
    Ok(client.decide(&who.address, decision).await?)
}

async fn list(client: &Client, out: &mut Output) -> Result<(), Failure> {
    for entry in client.requests().await? {
        out.item(&json(&entry), line)?;
    }
    Ok(())
}

async fn show(who: &Who, client: &Client, out: &mut Output) -> Result<(), Failure> {
    for held in client.requests_of(&who.address).await?.messages {
        out.item(&held_json(&who.address.to_string(), held)?, |item| {
            let body = match (&item.body, item.octets) {
                (Some(body), _) => indented(body),
                (None, octets) => format!("{} octets", octets.unwrap_or_default()),
            };
            format!("{}  {}\n    {body}", item.since, in_line(&item.content_type))
        })?;
    }
    Ok(())
}

/// Prints what is new; says whether there was anything.
fn tell(event: Event, _: &mut Follower<'_>, out: &mut Output) -> Result<u64, Failure> {
    match event {
        Event::Request(RequestNews::Asks(entry)) => out.item(&json(&entry), line)?,
        Event::Request(RequestNews::Settled(kind, from)) => {
            let item = SettledJson { settled: kind.as_str(), from: from.to_string() };
            out.item(&item, |item| {
                format!("{} does not wait any more ({})", item.from, item.settled)
            })?;
        }
        _ => return Ok(0),
    }
    Ok(1)
}

fn line(item: &RequestJson) -> String {
    let wants = match (item.kind, item.count) {
        ("subscribe", _) => "wants to see your presence".to_owned(),
        (_, Some(count)) if count > 1 => format!("wants to send you {count} messages"),
        _ => "wants to send you a message".to_owned(),
    };
    format!("{} {wants}, since {}", item.from, item.since)
}

fn json(entry: &RequestEntry) -> RequestJson {
    RequestJson {
        kind: entry.kind.as_str(),
        from: entry.from.to_string(),
        since: entry.since.to_string(),
        count: entry.count,
    }
}

fn held_json(from: &str, held: HeldMessage) -> Result<HeldJson, Failure> {
    let message = Message::decode(held.message)
        .map_err(|error| ClientError::Protocol(format!("a held message: {error}")))?;
    let text = std::str::from_utf8(&message.body).ok().map(str::to_owned);
    Ok(HeldJson {
        id: message.id.to_string(),
        from: from.to_owned(),
        since: held.since.to_string(),
        content_type: message.content_type.unwrap_or_else(|| "text/plain".to_owned()),
        octets: text.is_none().then_some(message.body.len()),
        body: text,
    })
}
