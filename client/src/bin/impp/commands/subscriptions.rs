//! `impp subscriptions`: whom one follows, and ending one.

use clap::Subcommand;
use impp_client::Client;
use impp_client::protocol::state::Subscription;
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
    /// Do not follow somebody any more.
    Cancel(Who),
}

#[derive(Serialize)]
struct SubscriptionJson {
    presentity: String,
    state: &'static str,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    if let Some(Action::Cancel(who)) = &args.action {
        return Ok(client.cancel_subscription(&who.address).await?);
    }
    for entry in client.subscriptions().await? {
        out.item(&json(&entry), |item| {
            let left = item.expires_in.map_or(String::new(), |left| format!(", for {left} s"));
            format!("{}  {} ({}){left}", item.presentity, item.state, item.event)
        })?;
    }
    Ok(())
}

fn json(entry: &Subscription) -> SubscriptionJson {
    SubscriptionJson {
        presentity: entry.presentity.to_string(),
        state: entry.state.as_str(),
        event: entry.event.as_str(),
        expires_in: entry.expires_in.map(|left| left.as_secs()),
    }
}
