//! `impp fetch`: somebody's presence, once.

use impp_client::Client;
use serde::Serialize;

use super::Who;
use crate::document::{self, DocumentJson};
use crate::output::Output;
use crate::report::Failure;

pub(crate) type Args = Who;

#[derive(Serialize)]
struct FetchedJson {
    presentity: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentJson>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let fetched = client.presence(&args.address).await?;
    let (version, document) = fetched.content.unzip();
    let item = FetchedJson {
        presentity: args.address.to_string(),
        state: fetched.state.as_str(),
        version: version.map(|version| version.to_string()),
        document: document.as_ref().map(DocumentJson::of),
    };
    out.item(&item, |item| match &document {
        Some(document) => {
            let line = document::line(document);
            format!("{} is {line}\n{}", item.presentity, document::lines(document))
        }
        None => format!("{} has not decided yet whether you may see this", item.presentity),
    })
}
