//! `impp --for ADDRESS status`: what one says of somebody whose rules let one.

use std::time::Duration;

use impp_client::Client;
use impp_client::protocol::Address;
use impp_client::protocol::presence::{Document, Patch};

use super::status::{Args, PublishedJson, layer_for};
use crate::document::{self, DocumentJson};
use crate::output::Output;
use crate::report::Failure;

pub(crate) async fn status(
    args: &Args,
    owner: &Address,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    match args {
        Args::Set(set) => {
            let said = layer_for(set)?;
            let patch = Patch::between(&Document::default(), &said);
            // It takes the place of all that was said before.
            let before = client.layer_for(owner).await.unwrap_or_default();
            let lease = Duration::from_secs(u64::from(set.lease));
            let lease = client.publish_for(owner, &patch, lease, true).await?;
            if before != Document::default() && before != said {
                let before = document::lines(&before);
                out.note(&format!("this is instead of what you said of {owner} before:\n{before}"));
            }
            let item = PublishedJson::new(owner, lease);
            out.item(&item, |item| {
                let lease = item.lease.map_or(String::new(), |lease| format!(" for {lease} s"));
                format!("said of {owner}{lease}:\n{}", document::lines(&said))
            })
        }
        Args::Show => {
            let said = client.layer_for(owner).await?;
            out.item(&DocumentJson::of(&said), |_| {
                format!("you say of {owner}:\n{}", document::lines(&said))
            })
        }
        Args::Clear => {
            client.unpublish_for(owner).await?;
            out.item(&PublishedJson::new(owner, None), |_| {
                format!("you say nothing of {owner} from here now")
            })
        }
    }
}
