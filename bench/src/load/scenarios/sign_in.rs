//! S4: people sign in, for the first time, later, and with what they have kept of a session.

use std::future::Future;
use std::io;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::Options;
use crate::crowd::AT_ONCE;
use crate::measured::used;
use crate::protocol::{Client, Protocol, Wish};
use crate::protocols::Start;

/// Sign-ins of each kind, if nothing is said.
const SIGN_INS: usize = 2000;

pub(super) async fn play(start: Start, options: &Options) -> Value {
    let people = options.size.unwrap_or(SIGN_INS);
    let wish = Wish { people, defaults: options.defaults, present: true, ..Wish::default() };
    let protocol = start(&wish).await;
    let protocol = &*protocol;
    let mut figures = json!({"settings": protocol.settings()});
    for kind in ["first", "later"] {
        let all = (0..people).map(|who| protocol.sign_in(who)).collect();
        figures[kind] = measured(protocol, all).await;
    }
    // The first by ticket gets the ticket for the others.
    for (kind, by_ticket) in [("resumed", false), ("resumed_by_ticket", true)] {
        let all: Option<Vec<_>> = (0..people).map(|who| protocol.resume(who, by_ticket)).collect();
        if let Some(all) = all {
            figures[kind] = measured(protocol, all).await;
        }
    }
    figures["done"] = json!(people);
    figures
}

/// Does all of them, some at once. Each hangs up when it has signed in.
async fn measured(
    protocol: &dyn Protocol,
    all: Vec<impl Future<Output = io::Result<Client>>>,
) -> Value {
    let figures = used(protocol, async {
        let mut done = 0;
        let mut clients = stream::iter(all).buffer_unordered(AT_ONCE);
        while let Some(client) = clients.next().await {
            client.expect("a sign-in");
            done += 1;
        }
        done
    });
    Value::Object(figures.await)
}
