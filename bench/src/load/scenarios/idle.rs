//! S3: many are signed in and do nothing.

use std::time::Duration;

use impp_bench::usage::Used;
use serde_json::{Value, json};

use super::Options;
use crate::crowd::Crowd;
use crate::protocol::Wish;
use crate::protocols::Start;

/// Sessions, if nothing is said.
const SESSIONS: usize = 5000;

pub(super) async fn play(start: Start, options: &Options) -> Value {
    let people = options.size.unwrap_or(SESSIONS);
    let defaults = options.defaults;
    let wish = Wish { people, defaults, present: true, ..Wish::default() };
    let protocol = start(&wish).await;
    // What it needs for the first of all is not for each.
    let warm = protocol.sign_in(0).await.expect("a sign-in");
    drop(warm);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Used::by(&protocol.processes());
    let crowd = Crowd::of(&*protocol, people, |_, _, _| {}).await;
    tokio::time::sleep(options.span()).await;
    let grown = Used::by(&protocol.processes()).since(&before);
    let lost = crowd.lost();
    crowd.leave();
    json!({
        "done": people - lost,
        "lost_connections": lost,
        "kib": grown.resident as f64 / 1024.0 / people as f64,
        "settings": protocol.settings(),
    })
}
