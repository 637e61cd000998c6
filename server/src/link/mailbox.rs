//! A link as others see it: where they leave word that there is news. Signals carry no data.
//!
//! What the link does with them is left to its task.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use impp_presence::ghosts::Ghosts;
use impp_protocol::command::Bye;
use impp_protocol::{Address, Domain};

use crate::ids::SessionId;
use crate::listeners::Listener;
use crate::signal::Signal;

/// See the module.
#[derive(Debug)]
pub struct LinkMailbox {
    /// The link, unique in this run of the server, among links and sessions.
    pub id: SessionId,
    /// Our domain.
    pub local: Domain,
    /// Theirs.
    pub remote: Domain,
    /// Wakes its task.
    pub signal: Signal,
    dirty: Mutex<HashSet<Address>>,
    bye: Mutex<Option<Bye>>,
    watchers: AtomicUsize,
    draining: AtomicBool,
    /// Presentities with requests that were taken and not answered, and how many.
    taking: Mutex<HashMap<Address, usize>>,
    ghosts: Mutex<Ghosts>,
}

impl LinkMailbox {
    /// An empty mailbox.
    pub fn new(id: SessionId, local: Domain, remote: Domain) -> LinkMailbox {
        let (signal, dirty, bye, watchers, draining) = Default::default();
        let (taking, ghosts) = Default::default();
        LinkMailbox { id, local, remote, signal, dirty, bye, watchers, draining, taking, ghosts }
    }

    /// Says after a while that a presentity may have changed.
    pub fn presentity_dirty_later(self: &Arc<Self>, presentity: Address, after: Duration) {
        let mailbox = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            mailbox.presentity_dirty(&presentity);
        });
    }

    /// Takes what may have changed.
    pub fn take(&self) -> HashSet<Address> {
        std::mem::take(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the link; the first reason stays.
    pub fn end(&self, bye: Bye) {
        self.bye.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(bye);
        self.signal.raise();
    }

    /// Takes the goodbye that is to be said.
    pub fn take_bye(&self) -> Option<Bye> {
        self.bye.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Another link is kept, or either side has said goodbye.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.signal.raise();
    }

    /// Whether nothing new is asked over it.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A request is taken: from now on the presentity may know of this link. There are at most as
    /// many as accounts.
    pub(super) fn takes(&self, presentity: &Address) {
        let mut taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        *taking.entry(presentity.clone()).or_default() += 1;
    }

    /// It is answered: whether the presentity knows of this link is in the groups.
    pub(super) fn taken(&self, presentity: &Address) {
        let mut taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taking.get_mut(presentity) {
            *count -= 1;
            if *count == 0 {
                taking.remove(presentity);
            }
        }
    }

    /// The presentities of requests that were not answered.
    pub(super) fn unanswered(&self) -> HashSet<Address> {
        let taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        taking.keys().cloned().collect()
    }

    /// Those who do not exist and were asked for over this link.
    pub(super) fn ghosts(&self) -> MutexGuard<'_, Ghosts> {
        self.ghosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watchers of the other domain hear over this link.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// There were so many of one presentity, and are so many now.
    pub(super) fn count_watchers(&self, before: usize, after: usize) {
        self.watchers.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Listener for LinkMailbox {
    fn presentity_dirty(&self, presentity: &Address) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        // The set is bounded by what is followed over the link.
        if !dirty.contains(presentity) {
            dirty.insert(presentity.clone());
        }
        drop(dirty);
        self.signal.raise();
    }
}
