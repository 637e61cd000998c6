//! `impp fetch`: somebody's presence, once.

use clap::ValueEnum;
use impp_client::Client;
use impp_convert::pidf;
use serde::Serialize;

use super::Who;
use crate::document::{self, DocumentJson};
use crate::output::{Output, printable};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) who: Who,
    /// Prove no name: you see what they show to everybody.
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// Print the document in this format of others.
    #[arg(long)]
    format: Option<Format>,
}

/// Formats of presence documents.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// PIDF with RPID (RFC 3863, RFC 4480).
    Pidf,
}

#[derive(Serialize)]
struct FetchedJson {
    presentity: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pidf: Option<String>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let presentity = &args.who.address;
    let fetched = client.presence(presentity).await?;
    let (version, document) = fetched.content.unzip();
    let written = match (args.format, &document) {
        (Some(Format::Pidf), Some(document)) => Some(pidf::write(presentity, document)),
        _ => None,
    };
    for lost in written.iter().flat_map(|written| &written.lost) {
        out.note(&format!("not in PIDF: {lost}"));
    }
    let pidf = written.map(|written| written.xml);
    let item = FetchedJson {
        presentity: presentity.to_string(),
        state: fetched.state.as_str(),
        version: version.map(|version| version.to_string()),
        document: document.as_ref().filter(|_| pidf.is_none()).map(DocumentJson::of),
        pidf,
    };
    out.item(&item, |item| match (&document, &item.pidf) {
        (_, Some(xml)) => printable(xml),
        (Some(document), None) => {
            let line = document::line(document);
            format!("{} is {line}\n{}", item.presentity, document::lines(document))
        }
        (None, None) => format!("{} has not decided yet whether you may see this", item.presentity),
    })
}
