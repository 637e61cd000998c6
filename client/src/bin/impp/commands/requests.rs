//! `impp requests`: who waits for one's decision, and deciding. A decision becomes a rule.

use clap::Subcommand;
use impp_client::Client;
use impp_client::protocol::state::{Decision, RequestEntry};
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
    /// Who waits.
    List,
    /// Say yes.
    Allow(Who),
    /// Say no without saying so: they see you offline.
    Polite(Who),
    /// Say no.
    Deny(Who),
}

#[derive(Serialize)]
struct RequestJson {
    kind: &'static str,
    from: String,
    since: String,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let (who, decision) = match &args.action {
        None | Some(Action::List) => return list(client, out).await,
        Some(Action::Allow(who)) => (who, Decision::Allow),
        Some(Action::Polite(who)) => (who, Decision::Polite),
        Some(Action::Deny(who)) => (who, Decision::Deny),
    };
    Ok(client.decide(&who.address, decision).await?)
}

async fn list(client: &Client, out: &mut Output) -> Result<(), Failure> {
    for entry in client.requests().await? {
        out.item(&json(&entry), |item| {
            let wants = match item.kind {
                "subscribe" => "wants to see your presence",
                _ => "wants to send you a message",
            };
            format!("{} {wants}, since {}", item.from, item.since)
        })?;
    }
    Ok(())
}

fn json(entry: &RequestEntry) -> RequestJson {
    RequestJson {
        kind: entry.kind.as_str(),
        from: entry.from.to_string(),
        since: entry.since.to_string(),
    }
}
