//! `impp delegations`: who may act for one and for whom one may, and what was done by that.

use clap::Subcommand;
use impp_client::protocol::Address;
use impp_client::protocol::presence::Document;
use impp_client::protocol::state::{Act, Delegation};
use impp_client::{Client, ClientError};
use serde::Serialize;

use crate::document::{self, DocumentJson};
use crate::output::{Output, printable};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What others did for you in the last 30 days, by the hour.
    Acts,
}

#[derive(Serialize)]
struct DelegationJson {
    owner: String,
    delegate: String,
    rights: Vec<RightJson>,
    says: Vec<DocumentJson>,
}

#[derive(Serialize)]
struct RightJson {
    right: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Serialize)]
struct ActJson {
    delegate: String,
    right: String,
    count: u64,
    first: String,
    last: String,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    if let Some(Action::Acts) = args.action {
        for act in client.acts().await? {
            out.item(&act_json(act), |act| {
                let ActJson { delegate, right, count, first, last } = act;
                format!("{delegate}  {} {count} from {first} to {last}", printable(right))
            })?;
        }
        return Ok(());
    }
    for entry in client.delegations().await? {
        print(&entry, client.address(), out)?;
    }
    Ok(())
}

fn print(entry: &Delegation, own: &Address, out: &mut Output) -> Result<(), Failure> {
    let broken = |error| ClientError::Protocol(format!("what a delegate says: {error}"));
    let said = entry.says.iter().map(|said| Document::decode(said.clone()));
    let said = said.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let rights = entry.rights.iter().map(|right| RightJson {
        right: right.right.clone(),
        until: right.until.map(|until| until.to_string()),
    });
    let json = DelegationJson {
        owner: entry.owner.to_string(),
        delegate: entry.delegate.to_string(),
        rights: rights.collect(),
        says: said.iter().map(DocumentJson::of).collect(),
    };
    out.item(&json, |item| {
        let who = match entry.owner == *own {
            true => format!("{} may act for you", item.delegate),
            false => format!("you may act for {}", item.owner),
        };
        let rights = item.rights.iter().map(|right| match &right.until {
            Some(until) => format!("{} until {until}", printable(&right.right)),
            None => printable(&right.right).to_string(),
        });
        let says = said.iter().map(|said| format!("\nsays now:\n{}", document::lines(said)));
        format!("{who}: {}{}", rights.collect::<Vec<_>>().join(", "), says.collect::<String>())
    })
}

fn act_json(act: Act) -> ActJson {
    let Act { delegate, right, count, first, last } = act;
    let [first, last] = [first, last].map(|at| at.to_string());
    ActJson { delegate: delegate.to_string(), right, count, first, last }
}
