//! What was told as ended and may not have arrived: a connection may have been lost just then.

use std::collections::BTreeMap;

use impp_protocol::Address;

/// Of whom, and what was told beside: since the client was last heard after a PING, and since the time
/// before.
#[derive(Debug)]
pub(super) struct Unheard<T> {
    newer: BTreeMap<Address, T>,
    older: BTreeMap<Address, T>,
}

impl<T> Default for Unheard<T> {
    fn default() -> Unheard<T> {
        Unheard { newer: BTreeMap::new(), older: BTreeMap::new() }
    }
}

impl<T> Unheard<T> {
    /// It is told. So many are remembered at most.
    pub(super) fn told(&mut self, of: Address, what: T, most: usize) {
        if self.newer.len() < most {
            self.newer.insert(of, what);
        }
    }

    /// The client has answered what was sent after the older ones.
    pub(super) fn heard(&mut self) {
        self.older = std::mem::take(&mut self.newer);
    }

    /// It goes on again.
    pub(super) fn remove(&mut self, of: &Address) {
        self.newer.remove(of);
        self.older.remove(of);
    }

    /// All of it is to be told once more.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Address, T)> + use<T> {
        let Unheard { newer, older } = std::mem::take(self);
        older.into_iter().chain(newer)
    }
}
