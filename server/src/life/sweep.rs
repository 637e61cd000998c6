//! Clearing away what nobody needs any more: records by which repeats are known, and notes of links.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Timestamp;
use impp_storage::{Payer, Store, StoreError, Unit};

use crate::core::clock::Clock;
use crate::core::records::{self, logs, place};
use crate::messages::{DEDUP_KEPT, Outgoing};

/// How often. What of it has passed when the server stops is lost to the floor: at twice the speed of
/// time it keeps up with servers that are started again every ten minutes.
const SWEEP: Duration = Duration::from_secs(300);
/// So many times faster than time passes, or the days on which no server ran were never made up for.
const CATCHING_UP: u32 = 2;

/// For ever.
pub(super) async fn run(store: Arc<dyn Store>, clock: Clock, outgoing: Arc<Outgoing>) {
    let mut since = clock.started();
    loop {
        let now = clock.now();
        match once(&*store, clock.trusted(), now.since(since)).await {
            // Only what is stored counts: else the time until now would be lost to the floor.
            Ok(()) => since = now,
            Err(error) => {
                tracing::warn!(%error, "old records of de-duplication could not be cleared");
            }
        }
        if let Err(error) = outgoing.forget_linked(now).await {
            tracing::warn!(%error, "what is noted of links could not be cleared");
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// Sweeping follows the clock, but never much faster than time has passed while a server ran: a clock
/// that runs ahead for a while does not make everything forgotten at once. What is swept raises the
/// store's floor behind it, and nothing else does: so where there was nothing a wrong clock leaves no
/// trace, and the floor never hinders what is newer than all that was swept.
async fn once(store: &dyn Store, now: Timestamp, passed: Duration) -> Result<(), StoreError> {
    let Ok(place) = place::meta::swept() else { return Ok(()) };
    let wanted = now.before(DEDUP_KEPT);
    let known = match store.get(place.key()).await {
        // Then it is as if this were the first start: else nothing were cleared ever again.
        Err(StoreError::Damaged { .. }) => None,
        known => known?,
    };
    let known: Option<u64> = known.and_then(|record| records::from_bytes(&record.value).ok());
    let known = known.map(|millis| Timestamp::from_millis(millis).after(passed * CATCHING_UP));
    let before = known.map_or(wanted, |highest| highest.min(wanted));
    let ops = vec![logs::expire_dedup(before), place.set(Some(&before.as_millis()))];
    store.submit(Unit::of(now, ops).paid_by(Payer::Operator)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
