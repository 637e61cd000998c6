//! FETCH of the log that waits until there is something (long polling, as the Series Transfer Pattern has
//! it): nobody else waits for it, and it ends with the connection.
//!
//! Reading the log is left to `things/log`; that it may have grown says the mailbox.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use impp_acl::{Acting, scope};
use impp_protocol::command::Fetch;
use impp_protocol::state::{Item, ItemKind};
use impp_protocol::{Code, Error};
use impp_storage::StoreError;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Session;
use super::things::items::Reader;
use super::things::log::{Logs, Sealed};
use super::things::log_of;
use crate::core::answers::{Answer, Stored};

/// So many may wait in one session: a further one is answered `full`.
const WAITS_MAX: usize = 4;
/// It waits so long at most, and if it does not say how long.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Tells those who wait in a session that its log may have grown, or another thing changed. Each of them holds it.
pub(super) type Grown = Arc<Notify>;

impl Session {
    /// Reads a page when there is as much as is asked for, or when it has waited long enough.
    ///
    /// # Errors
    /// As of every FETCH of the log; full, if so many wait already.
    pub(super) async fn wait_for_log(&self, fetch: Fetch) -> Result<Answer, Error> {
        let acting = log_of(&self.client, &fetch.address)?;
        // The session holds it too.
        if Arc::strong_count(&self.grown) > WAITS_MAX {
            let text = format!("{WAITS_MAX} requests wait for the log, and that is the most");
            return Err(Error::new(Code::Full, text));
        }
        if fetch.item.is_some() || fetch.backwards || fetch.with.is_some() || fetch.since.is_some()
        {
            return Err(Error::new(Code::Malformed, "wait: only for what comes"));
        }
        let asked = self.serving.things.logs.asked(&acting, &fetch).await?;
        let by = Instant::now() + fetch.timeout.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        let min = fetch.min.unwrap_or(1).clamp(1, asked.max);
        let reader = Reader { bare: fetch.metadata, ..Reader::whole(self.client.every_item) };
        let serving = self.serving.clone();
        let (grown, hurry) = (self.grown.clone(), self.hurry.clone().notified_owned());
        Ok(Answer::later(async move {
            let logs = &serving.things.logs;
            let there = has_come(logs, &acting, (asked.after, min), reader, &grown);
            let waited = tokio::select! {
                biased;
                there = there => there,
                () = tokio::time::sleep_until(by) => Ok(()),
                () = hurry => Ok(()),
            };
            Answer::said(match waited.stored() {
                Ok(()) => logs.answer(&acting, asked, reader).await,
                Err(error) => Err(error),
            })
        }))
    }
}

/// Waits until there are so many items behind a place, or as many as fit a page.
async fn has_come(
    logs: &Logs,
    acting: &Acting<scope::Inbox>,
    (mut after, mut missing): (u64, u64),
    reader: Reader,
    grown: &Notify,
) -> Result<(), StoreError> {
    let oldest = &mut Sealed::default();
    loop {
        // Heard from here on, so what comes while it is read is not missed.
        let mut grows = pin!(grown.notified());
        grows.as_mut().enable();
        let (page, next) = logs.page(acting, after, missing, reader, oldest).await?;
        missing = missing.saturating_sub(news(&page.items));
        if missing == 0 || page.more {
            return Ok(());
        }
        after = next;
        grows.await;
    }
}

/// How many of these were not there before. What cannot be read and stands at the end is told to whoever
/// reads from there, again and again: nobody would ever wait.
fn news(items: &[Item]) -> u64 {
    let is_read = |item: &Item| item.kind != ItemKind::Damaged;
    items.iter().rposition(is_read).map_or(0, |last| last as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::{Command, What};

    use crate::session::tests::{address, ask, sign_in, start_by_clock};

    /// Whoever asks for longer than one may wait, or does not say how long, is answered when that is over.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_one_may() {
        let server = start_by_clock("").await;
        let mut alice = sign_in(&server, "alice").await;
        let hour = Duration::from_secs(3_600);
        for (timeout, waited) in [
            (Some(Duration::from_secs(299)), Duration::from_secs(299)),
            (Some(WAIT_MAX + Duration::from_secs(1)), WAIT_MAX),
            (Some(hour), WAIT_MAX),
            (Some(Duration::from_secs(u32::MAX.into())), WAIT_MAX),
            (None, WAIT_MAX),
        ] {
            let log = Fetch::of(address("alice"), What::Log);
            let asked = Instant::now();
            let answer = ask(&mut alice, Fetch { wait: true, timeout, ..log }).await;
            assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
            let took = asked.elapsed();
            assert!(
                took >= waited && took < waited + Duration::from_secs(1),
                "{timeout:?}: {took:?}"
            );
        }
    }
}
