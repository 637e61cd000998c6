//! Clearing away what nobody needs any more: records by which repeats are known, and notes of links.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Timestamp;
use impp_storage::{Expect, Op, Payer, Store, StoreError, Unit};

use crate::core::clock::Clock;
use crate::core::records;
use crate::messages::{DEDUP_KEPT, Outgoing};

/// How often.
const SWEEP: Duration = Duration::from_secs(3600);

/// For ever.
pub(super) async fn run(store: Arc<dyn Store>, clock: Clock, outgoing: Arc<Outgoing>) {
    let mut since = clock.started();
    loop {
        let now = clock.now();
        if let Err(error) = once(&*store, now, now.since(since)).await {
            tracing::warn!(%error, "old records of de-duplication could not be cleared");
        }
        if let Err(error) = outgoing.forget_linked(now).await {
            tracing::warn!(%error, "what is noted of links could not be cleared");
        }
        since = now;
        tokio::time::sleep(SWEEP).await;
    }
}

/// The floor follows the clock, but never faster than time has passed while a server ran: a clock
/// that was wrong at a start must not refuse everybody's messages after it was set right.
async fn once(store: &dyn Store, now: Timestamp, passed: Duration) -> Result<(), StoreError> {
    let Ok(key) = records::meta("dedup-floor") else { return Ok(()) };
    let wanted = now.before(DEDUP_KEPT);
    let known = store.get(key.clone()).await?;
    let known: Option<u64> = known.and_then(|record| records::from_bytes(&record.value).ok());
    let known = known.map(|millis| Timestamp::from_millis(millis).after(passed));
    let before = known.map_or(wanted, |highest| highest.min(wanted));
    let value = Some(records::to_bytes(&before.as_millis()));
    let put = Op::Put { key, expect: Expect::Any, value };
    let ops = vec![Op::ExpireDedup { before }, put];
    store.submit(Unit::of(now, ops).paid_by(Payer::Operator)).await?;
    Ok(())
}
