//! A link as others see it: where they leave word that there is news. Signals carry no data.
//!
//! What the link does with them is left to its task.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use impp_protocol::command::Bye;
use impp_protocol::{Address, Domain};

use crate::net::pipe::Signal;
use crate::sessions::SessionId;

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
}

impl LinkMailbox {
    /// An empty mailbox.
    pub fn new(id: SessionId, local: Domain, remote: Domain) -> LinkMailbox {
        let (signal, dirty, bye, watchers, draining) = Default::default();
        LinkMailbox { id, local, remote, signal, dirty, bye, watchers, draining }
    }

    /// Says that a presentity of ours may have changed. The set is bounded by what is followed over
    /// the link.
    pub fn presentity_dirty(&self, presentity: &Address) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        if !dirty.contains(presentity) {
            dirty.insert(presentity.clone());
        }
        drop(dirty);
        self.signal.raise();
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

    /// How many watchers of the other domain hear over this link.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// There were so many of one presentity, and are so many now.
    pub(super) fn count_watchers(&self, before: usize, after: usize) {
        self.watchers.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}
