//! `impp read`: how far conversations were read, by whom one may know it of, and saying that one was.

use impp_client::Client;
use impp_client::protocol::state::ReadMark;
use impp_client::protocol::{Address, MessageId};
use serde::Serialize;

use crate::output::Output;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation with whom was read; without it, how far each was.
    #[arg(value_name = "ADDRESS")]
    with: Option<Address>,
    /// Up to which message; without it, up to the newest.
    #[arg(value_name = "ID", requires = "with")]
    id: Option<MessageId>,
}

#[derive(Serialize)]
struct MarkJson {
    with: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    they_received: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    they_read: Option<String>,
}

#[derive(Serialize)]
struct ReadJson {
    with: String,
    id: Option<String>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let Some(with) = &args.with else {
        for mark in client.read_marks().await? {
            out.item(&json(&mark), |mark| {
                let upto = mark.id.as_deref().unwrap_or("nothing");
                let time = mark.time.as_ref().map_or(String::new(), |time| format!(", of {time}"));
                let theirs = |word, id: &Option<String>| {
                    id.as_ref().map_or(String::new(), |id| format!("; they {word} up to {id}"))
                };
                let theirs =
                    theirs("received", &mark.they_received) + &theirs("read", &mark.they_read);
                format!("{}  read up to {upto}{time}{theirs}", mark.with)
            })?;
        }
        return Ok(());
    };
    let id = client.mark_read_up_to(with, args.id).await?;
    out.item(&ReadJson { with: with.to_string(), id: id.map(|id| id.to_string()) }, |read| {
        match &read.id {
            Some(id) => format!("read up to {id}"),
            // It may be read already, or be gone.
            None if args.id.is_some() => "not among what was not read".to_owned(),
            None => "nothing there that was not read".to_owned(),
        }
    })
}

fn json(mark: &ReadMark) -> MarkJson {
    MarkJson {
        with: mark.address.to_string(),
        id: mark.id.map(|id| id.to_string()),
        time: mark.time.map(|time| time.to_string()),
        they_received: mark.received.map(|id| id.to_string()),
        they_read: mark.read.map(|id| id.to_string()),
    }
}
