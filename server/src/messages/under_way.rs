//! Messages on their way to the disk: a repeat of one waits for what becomes of it, so that it is never
//! refused for a place that the first one has.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use impp_protocol::Address;
use impp_protocol::hashing::HashMap;
use impp_storage::Dedup;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// What a repeat is told by.
type Key = ([u8; 16], Address, Address);

/// See the module. Each entry is a request of a connection that is not answered yet, so there are as many
/// as of those.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<Key, CancellationToken>>);

/// One that is on its way until this is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    table: Arc<UnderWay>,
    key: Key,
}

impl UnderWay {
    /// Takes one up, when those of the same id have arrived.
    pub(super) async fn enter(self: &Arc<Self>, dedup: &Dedup) -> Entered {
        let key = (dedup.id, dedup.from.clone(), dedup.to.clone());
        loop {
            let arrived = match self.0.lock().entry(key.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(CancellationToken::new());
                    return Entered { table: self.clone(), key };
                }
                Entry::Occupied(entry) => entry.get().clone(),
            };
            arrived.cancelled().await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(arrived) = self.table.0.lock().remove(&self.key) {
            arrived.cancel();
        }
    }
}
