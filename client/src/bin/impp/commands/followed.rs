//! Following, until Ctrl-C, a count or a time.
//!
//! Which one, and what is printed of it, is left to the commands.

use std::time::Duration;

use impp_client::{Client, ClientError, Event, Follower, Wanted};
use tokio::time::{Instant, timeout_at};

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

/// How long the end waits for the answer to the last ACK.
const LAST_ACK_WAIT: Duration = Duration::from_secs(5);

/// Follows something, and has each event of it printed; `tell` says how many lines of it count.
pub(super) async fn follow(
    until: Until,
    wanted: Wanted,
    client: &Client,
    out: &mut Output,
    mut tell: impl FnMut(Event, &mut Follower<'_>, &mut Output) -> Result<u64, Failure>,
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
                Ok(0)
            }
            Ok(Event::Back) => {
                out.note("connected again");
                Ok(0)
            }
            Ok(event) => {
                tell(event, &mut follower, out).and_then(|told| out.flush().map(|()| told))
            }
        };
        match told {
            Err(failure) => break Err(failure),
            Ok(told) => left = left.map(|left| left.saturating_sub(told)),
        }
        if left == Some(0) {
            break Ok(());
        }
    };
    let outcome = match outcome {
        Ok(()) => last_ack(&mut follower).await,
        Err(failure) => Err(failure),
    };
    follower.end().await;
    outcome
}

/// Waits until the server knows what was acknowledged; what comes meanwhile stays in the log.
async fn last_ack(follower: &mut Follower<'_>) -> Result<(), Failure> {
    let deadline = Instant::now() + LAST_ACK_WAIT;
    while follower.is_acking() {
        match timeout_at(deadline, follower.next()).await {
            Ok(event) => drop(event?),
            Err(_) => return Err(ClientError::Timeout(LAST_ACK_WAIT).into()),
        }
    }
    Ok(())
}
