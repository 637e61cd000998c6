//! Following one of one's own states, until Ctrl-C, a count or a time.
//!
//! Which one, and what is printed of it, is left to the commands.

use std::time::Duration;

use impp_client::{Client, Event, Wanted};
use tokio::time::Instant;

use crate::output::Output;
use crate::report::Failure;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
pub(crate) struct Following {
    /// Go on as it changes.
    #[arg(long)]
    pub(super) follow: bool,
    /// Stop after so many lines.
    #[arg(long, value_name = "N", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", requires = "follow")]
    seconds: Option<u32>,
}

/// Follows something, and has each event of it printed; `tell` says whether it has printed a line.
pub(super) async fn follow(
    following: &Following,
    wanted: Wanted,
    client: &Client,
    out: &mut Output,
    tell: impl Fn(&Event, &mut Output) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let end = following.seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let deadline = Instant::now() + end.unwrap_or(Duration::ZERO);
    let mut follower = tokio::select! {
        follower = client.follow(wanted) => follower?,
        () = stop.wait() => return Ok(()),
    };
    let mut left = following.count;
    let outcome = loop {
        let event = tokio::select! {
            biased;
            () = stop.wait() => break Ok(()),
            () = tokio::time::sleep_until(deadline), if end.is_some() => break Ok(()),
            event = follower.next() => event,
        };
        let told = match event {
            Err(error) => break Err(error.into()),
            Ok(Event::Lost { error, wait }) => {
                out.note(&format!("{error}; trying again in {:.1} s", wait.as_secs_f32()));
                Ok(false)
            }
            Ok(Event::Back) => {
                out.note("connected again");
                Ok(false)
            }
            Ok(event) => tell(&event, out).and_then(|told| out.flush().map(|()| told)),
        };
        match told {
            Err(failure) => break Err(failure),
            Ok(told) => left = left.map(|left| left - u64::from(told)),
        }
        if left == Some(0) {
            break Ok(());
        }
    };
    follower.end().await;
    outcome
}
