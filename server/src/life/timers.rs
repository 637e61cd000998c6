//! Doing what is due: leases, graces, and windows that end.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::core::answers::Unstored;
use crate::core::clock::Clock;
use crate::core::principals::Principals;
use crate::core::timers::{Due, Timers};
use crate::reach::Mirrors;
use crate::session::Live;

/// Timers that are worked on at once.
const DUE_AT_ONCE_MAX: usize = 64;

/// What can be due.
pub(super) struct Housekeeping {
    pub clock: Clock,
    pub timers: Arc<Timers>,
    pub principals: Arc<Principals>,
    pub mirrors: Arc<Mirrors>,
    pub live: Arc<Live>,
}

impl Housekeeping {
    /// Sleeps until something is due and does it, for ever.
    pub(super) async fn run(self) {
        let (this, at_work) = (Arc::new(self), Arc::new(Semaphore::new(DUE_AT_ONCE_MAX)));
        let timers = &this.timers;
        loop {
            while let Some(due) = timers.take(this.clock.now()) {
                let Ok(permit) = at_work.clone().acquire_owned().await else { return };
                let this = this.clone();
                tokio::spawn(async move {
                    this.see_to(due).await;
                    drop(permit);
                });
            }
            let changed = timers.changed.notified();
            match timers.next() {
                Some(next) => {
                    tokio::select! { () = this.clock.reach(next) => {}, () = changed => {} }
                }
                None => changed.await,
            }
        }
    }

    async fn see_to(&self, due: Due) {
        match due {
            Due::Presentity(owner) => {
                if let Err(error) = self.principals.expire(&owner).await {
                    tracing::error!(%error, "a presentity could not be read");
                }
            }
            Due::Mirror(key) => {
                if let Err(error) = self.mirrors.expire(&key).await {
                    error.unstored("the end of a subscription");
                }
            }
            Due::Session(id) => {
                if let Some(session) = self.live.take(id) {
                    session.end().await;
                }
            }
        }
    }
}
