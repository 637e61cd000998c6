//! Who is to be woken when a presentity may have changed: sessions and links, by their ids.
//!
//! What they do then is left to them; that there is news is all that is said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use impp_presence::ListenerId;
use impp_protocol::Address;
use impp_protocol::hashing::HashSet;
use parking_lot::Mutex;

use crate::core::DashMap;

/// One who listens.
pub trait Listener: Send + Sync {
    /// A presentity may have changed. This returns at once, whatever the listener does.
    fn presentity_dirty(&self, presentity: &Address);
}

/// What a listener could not look at, and looks at again after a while: all of it at once, by one task
/// that sleeps, however much there is and however often it fails.
#[derive(Debug, Default)]
pub struct Again(Mutex<HashSet<Address>>);

impl Again {
    /// When it is looked at again.
    const AFTER: Duration = Duration::from_secs(1);

    /// Adds one; `listener` is told of it later. `again` is where to find what is waiting by then.
    pub fn later<L: Listener + 'static>(
        &self,
        listener: &Arc<L>,
        presentity: Address,
        again: fn(&L) -> &Again,
    ) {
        let mut waiting = self.0.lock();
        let sleeps = !waiting.is_empty();
        waiting.insert(presentity);
        drop(waiting);
        if !sleeps {
            let listener = listener.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Again::AFTER).await;
                let all = std::mem::take(&mut *again(&listener).0.lock());
                all.iter().for_each(|presentity| listener.presentity_dirty(presentity));
            });
        }
    }
}

/// All who listen on this server.
#[derive(Default)]
pub struct Listeners(DashMap<ListenerId, Arc<dyn Listener>>);

impl Listeners {
    /// From now on it is told.
    pub fn enter(&self, id: ListenerId, listener: Arc<dyn Listener>) {
        self.0.insert(id, listener);
    }

    /// It is not told any more.
    pub fn leave(&self, id: ListenerId) {
        self.0.remove(&id);
    }

    /// Says to some of them that a presentity may have changed.
    pub fn wake(&self, presentity: &Address, whom: &BTreeSet<ListenerId>) {
        for id in whom {
            // Not held while it is told.
            let listener = self.0.get(id).map(|listener| listener.value().clone());
            if let Some(listener) = listener {
                listener.presentity_dirty(presentity);
            }
        }
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("len", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Ears {
        heard: Mutex<Vec<Address>>,
        again: Again,
    }

    impl Listener for Ears {
        fn presentity_dirty(&self, presentity: &Address) {
            self.heard.lock().push(presentity.clone());
        }
    }

    /// What fails a thousand times over is looked at again once, by one task.
    #[tokio::test(start_paused = true)]
    async fn what_fails_is_looked_at_again_by_one_task() {
        let ears = Arc::new(Ears::default());
        let presentity = |n: usize| Address::parse(&format!("p{n}@a.example")).unwrap();
        let fail = || {
            let all = (0..1000).map(|n| presentity(n % 10));
            all.for_each(|presentity| ears.again.later(&ears, presentity, |ears| &ears.again));
        };
        for round in 1..=3 {
            fail();
            // The test, and what sleeps.
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
            tokio::time::sleep(Again::AFTER * 2).await;
            assert_eq!(ears.heard.lock().len(), 10 * round);
        }
    }
}
