//! `impp devices`: the devices of the account, and removing one.

use clap::Subcommand;
use impp_client::Client;
use impp_client::protocol::DeviceId;
use impp_client::protocol::state::Device;
use serde::Serialize;

use crate::output::{Output, quoted};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Which devices there are.
    List,
    /// Remove one: what it shows ends, and its sessions; the others find word of it in the inbox.
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// The device's id: 32 hexadecimal digits.
    #[arg(value_name = "ID")]
    device: DeviceId,
}

#[derive(Serialize)]
struct DeviceJson {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    last_seen: String,
    current: bool,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    if let Some(Action::Remove(remove)) = &args.action {
        return Ok(client.remove_device(remove.device).await?);
    }
    for device in client.devices().await? {
        out.item(&json(&device), |item| {
            let name = item.name.as_deref().map_or("(no name)".to_owned(), quoted);
            let current = if item.current { ", this one" } else { "" };
            format!("{}  {name}, last seen {}{current}", item.device, item.last_seen)
        })?;
    }
    Ok(())
}

fn json(device: &Device) -> DeviceJson {
    DeviceJson {
        device: device.id.to_string(),
        name: device.name.clone(),
        last_seen: device.last_seen.to_string(),
        current: device.current,
    }
}
