//! `impp watch`: presence as it changes, until Ctrl-C, a count or a time.

use impp_client::follow::EndCause;
use impp_client::protocol::Address;
use impp_client::protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_client::{Client, ClientError, Event, Follower, Wanted};
use serde::Serialize;

use super::followed::{Until, follow};
use crate::document::{self, DocumentJson};
use crate::output::{Output, printable};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom; without any all contacts that you follow.
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<Address>,
    /// Prove no name: you see what they show to everybody. All are of one domain.
    #[arg(long, requires = "addresses")]
    pub(crate) anonymous: bool,
    /// Stop after so many notifications.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u32>,
}

#[derive(Default, Serialize)]
struct EventJson {
    event: &'static str,
    presentity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    let wanted = Wanted {
        presence: args.addresses.clone(),
        contacts: args.addresses.is_empty(),
        ..Wanted::default()
    };
    let until = Until { count: args.count, seconds: args.seconds };
    follow(until, wanted, client, out, tell).await
}

/// Prints an event; says how much it counts. It is a failure if nothing is followed after it.
fn tell(event: Event, follower: &mut Follower<'_>, out: &mut Output) -> Result<u64, Failure> {
    if let Event::PutOff { presentity, error, wait } = &event {
        let wait = wait.as_secs_f32();
        let error = printable(&error.to_string());
        out.note(&format!("{presentity}: {error}; asking again in {wait:.0} s"));
    }
    if let Some(item) = json(&event) {
        out.item(&item, |_| text(&event))?;
        // Also where nothing follows it but a failure.
        out.flush()?;
    }
    match event {
        Event::Ended { presentity, cause } if !follower.is_following() => {
            Err(ended(&presentity, &cause))
        }
        event => Ok(matches!(event, Event::Notify { .. }).into()),
    }
}

fn ended(presentity: &Address, cause: &EndCause) -> Failure {
    match cause {
        EndCause::Error(error) => Failure::Client(ClientError::Answered(error.clone())),
        EndCause::Event(_) => {
            let name = cause.as_str();
            let message = format!("the subscription to {presentity} ended: {name}");
            Failure::Ended { message, name }
        }
    }
}

fn json(event: &Event) -> Option<EventJson> {
    match event {
        Event::Subscribed { presentity, state } => Some(EventJson {
            event: "subscribed",
            presentity: presentity.to_string(),
            state: state.map(|state| state.as_str()),
            ..EventJson::default()
        }),
        Event::Notify { presentity, state, reason, change, content } => Some(EventJson {
            event: "notify",
            presentity: presentity.to_string(),
            state: Some(state.as_str()),
            kind: change.as_ref().map(|change| change.kind.as_str()),
            version: content.as_ref().map(|(version, _)| version.to_string()),
            document: content.as_ref().map(|(_, document)| DocumentJson::of(document)),
            changed: change.as_ref().map(|change| change.changed.iter().cloned().collect()),
            reason: reason.map(|reason| reason.as_str()),
        }),
        Event::Ended { presentity, cause } => Some(EventJson {
            event: "ended",
            presentity: presentity.to_string(),
            state: Some("terminated"),
            reason: Some(cause.as_str()),
            ..EventJson::default()
        }),
        _ => None,
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Subscribed { presentity, state } => {
            let state = state.map_or(String::new(), |state| format!(" ({state})"));
            format!("watching {presentity}{state}")
        }
        Event::Notify {
            presentity,
            state: SubscriptionState::Stale,
            content: Some((_, document)),
            ..
        } => {
            format!("{presentity} was {} (stale)", document::line(document))
        }
        Event::Notify { presentity, content: Some((_, document)), .. } => {
            format!("{presentity} is {}", document::line(document))
        }
        Event::Notify { presentity, state, .. } => format!("{presentity}: {state}"),
        // Its lease, or that its owner has removed the entry.
        Event::Ended { presentity, cause: EndCause::Event(Some(SubscriptionEvent::Timeout)) } => {
            format!("no longer watching {presentity}: you do not follow them any more")
        }
        Event::Ended { presentity, cause } => {
            format!("no longer watching {presentity}: {}", cause.as_str())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::follow::{Change, ChangeKind};
    use impp_client::protocol::presence::{Document, Version};

    #[test]
    fn events_are_as_in_the_contract() {
        let presentity = Address::parse("bob@a.example").unwrap();
        let state = Some(SubscriptionState::Pending);
        let event = Event::Subscribed { presentity: presentity.clone(), state };
        let line = |event| serde_json::to_string(&json(&event).unwrap()).unwrap();
        assert_eq!(
            line(event),
            r#"{"event":"subscribed","presentity":"bob@a.example","state":"pending"}"#
        );
        let changed = ["status".to_owned()].into();
        let event = Event::Notify {
            presentity: presentity.clone(),
            state: SubscriptionState::Active,
            reason: None,
            change: Some(Change { kind: ChangeKind::Patch, changed }),
            content: Some((Version([1; 16]), Document::offline())),
        };
        assert_eq!(text(&event), "bob@a.example is closed");
        assert_eq!(
            line(event),
            concat!(
                r#"{"event":"notify","presentity":"bob@a.example","state":"active","#,
                r#""kind":"patch","version":"01010101010101010101010101010101","#,
                r#""document":{"person":{},"tuples":[{"id":"im","status":"closed"}]},"#,
                r#""changed":["status"]}"#
            )
        );
        let cause = EndCause::Event(Some(SubscriptionEvent::Timeout));
        let event = Event::Ended { presentity: presentity.clone(), cause };
        assert!(text(&event).ends_with("you do not follow them any more"));
        let event = Event::Ended { presentity, cause: EndCause::Event(None) };
        assert_eq!(
            line(event),
            concat!(
                r#"{"event":"ended","presentity":"bob@a.example","state":"terminated","#,
                r#""reason":"terminated"}"#
            )
        );
    }
}
