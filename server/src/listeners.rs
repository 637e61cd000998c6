//! Who is to be woken when a presentity may have changed: sessions and links, by their ids.
//!
//! What they do then is left to them; that there is news is all that is said.

use std::collections::BTreeSet;
use std::sync::Arc;

use dashmap::DashMap;
use impp_presence::SessionId;
use impp_protocol::Address;

/// One who listens.
pub trait Listener: Send + Sync {
    /// A presentity may have changed. This returns at once, whatever the listener does.
    fn presentity_dirty(&self, presentity: &Address);
}

/// All who listen on this server.
#[derive(Default)]
pub struct Listeners(DashMap<SessionId, Arc<dyn Listener>>);

impl Listeners {
    /// From now on it is told.
    pub fn enter(&self, id: SessionId, listener: Arc<dyn Listener>) {
        self.0.insert(id, listener);
    }

    /// It is not told any more.
    pub fn leave(&self, id: SessionId) {
        self.0.remove(&id);
    }

    /// Says to some of them that a presentity may have changed.
    pub fn wake(&self, presentity: &Address, whom: &BTreeSet<SessionId>) {
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
