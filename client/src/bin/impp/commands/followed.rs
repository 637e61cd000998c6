//! Following, until Ctrl-C, a count or a time.
//!
//! Which one, and what is printed of it, is left to the commands.

use std::time::Duration;

use impp_client::{Client, Event, Follower, Wanted};
use tokio::time::Instant;

use crate::output::Output;
use crate::report::Failure;
use crate::stop::Stop;

/// How one of one's own states is followed, by a command that otherwise reads it once.
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

impl Following {
    pub(super) fn until(&self) -> Until {
        Until { count: self.count, seconds: self.seconds }
    }
}

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    /// After so many lines that count.
    pub count: Option<u64>,
    /// After so many seconds.
    pub seconds: Option<u32>,
}

/// Follows something, and has each event of it printed; `tell` says whether it counts.
pub(super) async fn follow(
    until: Until,
    wanted: Wanted,
    client: &Client,
    out: &mut Output,
    tell: impl Fn(&Event, &Follower<'_>, &mut Output) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let end = until.seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let deadline = Instant::now() + end.unwrap_or(Duration::ZERO);
    let mut follower = tokio::select! {
        follower = client.follow(wanted) => follower?,
        () = stop.wait() => return Ok(()),
    };
    let mut left = until.count;
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
            Ok(event) => tell(&event, &follower, out).and_then(|told| out.flush().map(|()| told)),
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
