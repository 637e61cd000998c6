//! `impp status`: publish one's presence, show it, take it back.
//!
//! What is published lasts for a lease: a short command never binds it to its session; one that holds
//! it does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use impp_client::protocol::presence::name::REGISTRY;
use impp_client::protocol::presence::{
    Document, FieldName, FieldType, PartId, Patch, canonical_value,
};
use impp_client::protocol::{Address, DeviceId};
use impp_client::{Client, ClientError, Event, Follower, Wanted};
use serde::Serialize;

use crate::document::{self, DocumentJson};
use crate::output::Output;
use crate::report::Failure;
use crate::stop::Stop;

#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Publish your presence.
    Set(Set),
    /// What you publish from this device.
    Show,
    /// Take it back.
    Clear,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Whether you can be reached; with --for it may be left out.
    status: Option<Status>,
    /// Publish what a file says in PIDF with RPID (RFC 3863, RFC 4480); `-` is stdin.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["status", "note", "activities", "mood", "fields", "tuple"])]
    from: Option<PathBuf>,
    /// A note for people.
    #[arg(long)]
    note: Option<String>,
    /// What you are doing; may be said more than once.
    #[arg(long = "activity", value_name = "ACTIVITY")]
    activities: Vec<String>,
    /// How you feel.
    #[arg(long)]
    mood: Option<String>,
    /// Any other field; may be said more than once.
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// With --for: of which tuple the status is, and the fields that belong to one.
    #[arg(long, value_name = "ID")]
    tuple: Option<String>,
    /// For how many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE_SECONDS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) lease: u32,
    /// As long as this runs, instead of for a lease: it ends soon after the program does, or loses its
    /// connection, and is published again when that is back. Taken back or replaced from elsewhere
    /// with the same profile, it says so and ends.
    #[arg(long, conflicts_with = "lease")]
    hold: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Open,
    Closed,
}

/// For how many seconds presence is published if nobody says.
const LEASE_SECONDS_DEFAULT: u32 = 3600;

/// Fields that belong to a tuple, which is one way to reach the person; all others are the
/// person's.
const TUPLE_FIELDS: &[&str] =
    &["status", "contact", "priority", "service-class", "relationship", "class"];

#[derive(Serialize)]
pub(super) struct PublishedJson {
    presentity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<u64>,
}

impl PublishedJson {
    pub(super) fn new(presentity: &Address, lease: Option<Duration>) -> PublishedJson {
        let lease = lease.map(|lease| lease.as_secs());
        PublishedJson { presentity: presentity.to_string(), lease }
    }
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    match args {
        Args::Set(set) => publish(set, client, out).await,
        Args::Show => {
            let document = client.layer().await?;
            out.item(&DocumentJson::of(&document), |_| {
                let line = document::line(&document);
                format!("{} is {line}\n{}", client.address(), document::lines(&document))
            })
        }
        Args::Clear => {
            client.unpublish().await?;
            let item = PublishedJson::new(client.address(), None);
            out.item(&item, |item| format!("{} publishes nothing here now", item.presentity))
        }
    }
}

async fn publish(set: &Set, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let document = match &set.from {
        Some(path) => super::from_file::presence(path, client.address(), out)?,
        None => layer(set, client.address(), client.device())?,
    };
    let patch = Patch::between(&Document::default(), &document);
    // Its owner's own presence changes where it is taken back from elsewhere.
    let presence = vec![client.address().clone()];
    let held = match set.hold {
        true => {
            let wanted = Wanted { presence, ..Wanted::default() };
            Some((Stop::new()?, client.follow(wanted).await?))
        }
        false => None,
    };
    let lease = (!set.hold).then(|| Duration::from_secs(u64::from(set.lease)));
    let lease = client.publish(&patch, lease, true).await?;
    let item = PublishedJson::new(client.address(), lease);
    out.item(&item, |item| {
        let lease = item.lease.map_or(String::new(), |lease| format!(", for {lease} s"));
        format!("{} is {}{lease}", item.presentity, document::line(&document))
    })?;
    match held {
        Some((stop, follower)) => hold(client, follower, stop, out).await,
        None => Ok(()),
    }
}

/// Stays connected until it is told to stop, or what it holds is taken back from elsewhere.
async fn hold(
    client: &Client,
    mut follower: Follower<'_>,
    mut stop: Stop,
    out: &mut Output,
) -> Result<(), Failure> {
    out.flush()?;
    let outcome = loop {
        let looked = async {
            let event = follower.next().await?;
            let still = match &event {
                // What came while it was away may have come to nothing new.
                Event::Notify { .. } | Event::Back => client.still_publishes().await,
                _ => Ok(true),
            };
            Ok::<_, ClientError>((event, still))
        };
        let (event, still) = tokio::select! {
            biased;
            () = stop.wait() => break Ok(()),
            looked = looked => match looked {
                Ok(looked) => looked,
                Err(error) => break Err(error.into()),
            },
        };
        match event {
            Event::Lost { error, wait } => {
                out.note(&format!("{error}; trying again in {:.1} s", wait.as_secs_f32()));
            }
            Event::Back => out.note("connected again"),
            _ => {}
        }
        match still {
            Ok(true) => {}
            Ok(false) => break Err(taken_back()),
            // It is looked at again when there is a connection again.
            Err(error) if error.is_transient() => out.note(&error.to_string()),
            Err(error) => break Err(error.into()),
        }
    };
    follower.end().await;
    outcome
}

fn taken_back() -> Failure {
    let message = "what was held was taken back, or replaced, from elsewhere on this device";
    Failure::Ended { message: message.to_owned(), name: "taken-back" }
}

/// The whole layer that is published.
fn layer(set: &Set, own: &Address, device: DeviceId) -> Result<Document, Failure> {
    if set.tuple.is_some() {
        return Err(Failure::usage("--tuple goes with --for: your own is named by its device"));
    }
    if set.status.is_none() {
        return Err(Failure::usage_hint(
            "no status",
            "impp status set open, or closed, or --from FILE",
        ));
    }
    let id = format!("d{}", &device.to_string()[..8]);
    let id = PartId::parse(&id).ok_or_else(|| Failure::usage("bad device id"))?;
    let mut document = Document::default();
    put(&mut document, Some(&id), "contact", &impp_convert::uri("im", own))?;
    say(set, &mut document, Some(&id))?;
    Ok(document)
}

/// The whole layer that is published for somebody else: what is said, and nothing by itself.
pub(super) fn layer_for(set: &Set) -> Result<Document, Failure> {
    if set.hold {
        return Err(Failure::usage("--hold: what is said for somebody else is for a lease"));
    }
    if set.from.is_some() {
        return Err(Failure::usage("--from: what a file says is published for yourself alone"));
    }
    let wrong = |id: &String| Failure::usage(format!("--tuple {id:?}: visible ASCII, no spaces"));
    let id = set.tuple.as_ref().map(|id| PartId::parse(id).ok_or_else(|| wrong(id))).transpose()?;
    let mut document = Document::default();
    say(set, &mut document, id.as_ref())?;
    match document == Document::default() {
        true => Err(Failure::usage_hint("nothing to say", "such as --activity meeting")),
        false => Ok(document),
    }
}

/// What the command line says of the person, and of a tuple.
fn say(set: &Set, document: &mut Document, id: Option<&PartId>) -> Result<(), Failure> {
    let status = set.status.map(|status| match status {
        Status::Open => "open".to_owned(),
        Status::Closed => "closed".to_owned(),
    });
    let activities = (!set.activities.is_empty()).then(|| set.activities.join(" "));
    for (name, value) in
        [("status", &status), ("activities", &activities), ("note", &set.note), ("mood", &set.mood)]
    {
        if let Some(value) = value {
            put(document, id, name, value)?;
        }
    }
    for field in &set.fields {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--field {field:?}: expected NAME=VALUE")))?;
        put(document, id, name, value)?;
    }
    Ok(())
}

fn put(
    document: &mut Document,
    id: Option<&PartId>,
    name: &str,
    value: &str,
) -> Result<(), Failure> {
    let field = FieldName::parse(name).ok_or_else(|| unknown_field(name))?;
    let value = canonical_value(&field, value).ok_or_else(|| bad_value(&field, value))?;
    let fields = match (TUPLE_FIELDS.contains(&name), id) {
        (false, _) => &mut document.person,
        (true, Some(id)) => document.tuples.entry(id.clone()).or_default(),
        (true, None) => {
            return Err(Failure::usage_hint(
                format!("{name} is of a tuple"),
                "--tuple ID says of which",
            ));
        }
    };
    fields.insert(field, value);
    Ok(())
}

fn unknown_field(name: &str) -> Failure {
    Failure::usage_hint(format!("unknown field {name:?}"), meant(name))
}

/// What may have been meant by a field's name that is none.
pub(super) fn meant(name: &str) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    let nearest = REGISTRY.iter().map(|(known, _, _)| (likeness(known), known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness > 0.8 => format!("did you mean {known:?}?"),
        _ => "your own fields are named by a domain of yours, such as org.example.seat".to_owned(),
    }
}

fn bad_value(field: &FieldName, value: &str) -> Failure {
    let expected = match field.field_type() {
        FieldType::Status => "open or closed",
        FieldType::Priority => "0 to 1, at most three decimals",
        FieldType::Time => "a time such as 2026-12-01T09:00:00Z",
        FieldType::Integer => "a whole number",
        FieldType::Text | FieldType::Words => "text of 1 to 4096 bytes without control characters",
    };
    Failure::usage_hint(format!("bad value of {field}: {value:?}"), format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args as All, Command};
    use clap::Parser;

    fn layer_of(words: &[&str]) -> Result<Document, Failure> {
        let line = ["impp", "status", "set", "open"].iter().chain(words);
        let all = All::try_parse_from(line).unwrap();
        let Command::Status(Args::Set(set)) = all.command else { panic!("not status set") };
        layer(&set, &Address::parse("alice@a.example").unwrap(), DeviceId([0xab; 16]))
    }

    #[test]
    fn fields_go_where_they_belong() {
        let words = [
            ["--note", "hi"],
            ["--activity", "meeting"],
            ["--activity", "busy"],
            ["--field", "priority=0.50"],
            ["--field", "org.example.seat=4=b"],
        ];
        let document = layer_of(&words.concat()).unwrap();
        assert_eq!(
            serde_json::to_string(&DocumentJson::of(&document)).unwrap(),
            "{\"person\":{\"activities\":\"busy meeting\",\"note\":\"hi\",\
             \"org.example.seat\":\"4=b\"},\"tuples\":[{\"id\":\"dabababab\",\
             \"contact\":\"im:alice@a.example\",\"priority\":\"0.5\",\"status\":\"open\"}]}"
        );
    }

    #[test]
    fn unknown_names_and_bad_values_are_usage_errors_with_a_hint() {
        for (field, hint) in [
            ("priorty=1", "did you mean \"priority\"?"),
            ("xyz=1", "your own fields are named by a domain of yours, such as org.example.seat"),
            ("priority=2", "expected 0 to 1, at most three decimals"),
            ("status=away", "expected open or closed"),
        ] {
            match layer_of(&["--field", field]) {
                Err(Failure::Usage { hint: Some(told), .. }) => assert_eq!(told, hint),
                other => panic!("{field}: {other:?}"),
            }
        }
        assert!(matches!(layer_of(&["--field", "note"]), Err(Failure::Usage { .. })));
    }
}
