//! S9: many who are signed in lose their connections at once, and come back all at once.

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::Options;
use crate::crowd::Crowd;
use crate::measured::used;
use crate::protocol::Wish;
use crate::protocols::Start;

/// Clients, if nothing is said.
const CLIENTS: usize = 10_000;
/// So many of them come back at once.
const AT_ONCE: usize = 1000;

pub(super) async fn play(start: Start, options: &Options) -> Value {
    let people = options.size.unwrap_or(CLIENTS);
    let wish = Wish { people, defaults: options.defaults, present: true, ..Wish::default() };
    let protocol = start(&wish).await;
    let crowd = Crowd::of(&*protocol, people, |_, _, _| {}).await;
    let lost = crowd.lost();
    crowd.leave();
    let figures = used(&*protocol, async {
        let back = (0..people).map(|who| {
            // Where there are no sessions to go on with, everybody signs in.
            protocol.resume(who, true).unwrap_or_else(|| protocol.sign_in(who))
        });
        let clients: Vec<_> = stream::iter(back).buffer_unordered(AT_ONCE).collect().await;
        clients.into_iter().filter(Result::is_ok).count() as u64
    });
    let mut figures = Value::Object(figures.await);
    figures["lost_connections"] = json!(lost);
    figures["settings"] = json!(protocol.settings());
    figures
}
