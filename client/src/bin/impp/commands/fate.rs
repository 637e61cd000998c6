//! `impp fate`: where a message that was sent is, or how it ended.

use impp_client::Client;
use impp_client::protocol::MessageId;
use impp_client::protocol::state::Whereabouts;
use serde::Serialize;

use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id that `impp send` printed.
    #[arg(value_name = "UUID")]
    id: MessageId,
}

#[derive(Serialize)]
struct FateJson {
    id: String,
    to: String,
    fate: &'static str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let found = client.fate(args.id).await?;
    out.item(&FateJson::new(args.id, &found), line)
}

impl FateJson {
    fn new(id: MessageId, found: &Whereabouts) -> FateJson {
        let cause = found.code.map(|code| match &found.text {
            Some(text) => format!("{code}: {text}"),
            None => code.to_string(),
        });
        FateJson {
            id: id.to_string(),
            to: found.to.to_string(),
            fate: found.fate.map_or("queued", |fate| fate.as_str()),
            since: found.since.to_string(),
            cause,
            by: found.by.map(|by| by.as_str()),
            next_try: found.next_try.map(|time| time.to_string()),
            address: found.address.as_ref().map(ToString::to_string),
        }
    }
}

fn line(fate: &FateJson) -> String {
    let mut line = format!("{} to {} since {}", fate.fate, fate.to, fate.since);
    if let Some(cause) = &fate.cause {
        // What was tried, a step each.
        line.push_str(&format!("\n  {}", cause.replace("; ", "\n  ")));
    }
    if let Some(by) = fate.by {
        line.push_str(&format!(" (says: {by})"));
    }
    if let Some(next_try) = &fate.next_try {
        line.push_str(&format!("\n  next try at {next_try}"));
    }
    if let Some(address) = &fate.address {
        line.push_str(&format!("\n  impp send {address} TEXT sends it to the new address"));
    }
    line
}
