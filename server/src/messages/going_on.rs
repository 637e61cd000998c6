//! Who is at what is left of an owner's decisions: one for each owner, however many causes there are
//! and however often what is left is tried again.
//!
//! It knows no principal, so that it holds also for one that cannot be read just now. What is done is
//! left to `held`.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use impp_protocol::Address;
use impp_protocol::hashing::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module. There is an entry for each owner with a task that is at it.
#[derive(Debug, Default)]
pub(super) struct GoingOn(Mutex<HashMap<Address, Causes>>);

/// What is known of who is at it.
#[derive(Debug, Default)]
struct Causes {
    /// Somebody else wanted to go on meanwhile.
    again: bool,
    /// Ends a pause.
    come: Arc<Notify>,
}

impl Causes {
    fn take(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }
}

/// The turn of who is at it, as long as this lives.
#[derive(Debug)]
pub(super) struct Turn {
    table: Arc<GoingOn>,
    owner: Address,
    come: Arc<Notify>,
}

impl GoingOn {
    /// There is a cause: the turn for it, if nobody is at it; else who is at it takes it up.
    pub(super) fn begin(self: &Arc<Self>, owner: &Address) -> Option<Turn> {
        match self.0.lock().entry(owner.clone()) {
            Entry::Vacant(entry) => {
                let come = entry.insert(Causes::default()).come.clone();
                Some(Turn { table: self.clone(), owner: owner.clone(), come })
            }
            Entry::Occupied(mut entry) => {
                let causes = entry.get_mut();
                causes.again = true;
                causes.come.notify_one();
                None
            }
        }
    }
}

impl Turn {
    /// Waits for another cause.
    pub(super) async fn cause(&self) {
        while !self.again() {
            self.come.notified().await;
        }
    }

    /// The end of it, unless there is another cause.
    pub(super) fn end(self) -> Option<Turn> {
        let mut table = self.table.0.lock();
        let again = table.get_mut(&self.owner).is_some_and(Causes::take);
        if !again {
            table.remove(&self.owner);
        }
        drop(table);
        again.then_some(self)
    }

    fn again(&self) -> bool {
        self.table.0.lock().get_mut(&self.owner).is_some_and(Causes::take)
    }
}

impl Drop for Turn {
    /// However its task ends.
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.table.0.lock().entry(self.owner.clone())
            // After an orderly end it may be the next one's.
            && Arc::ptr_eq(&entry.get().come, &self.come)
        {
            entry.remove();
        }
    }
}
