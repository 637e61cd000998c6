//! Where the rest of the server leaves word for a link: marks, no data.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use impp_protocol::command::Bye;
use impp_protocol::{Address, Domain};

use crate::net::pipe::Signal;
use crate::sessions::SessionId;

/// See the module.
#[derive(Debug)]
pub struct LinkMailbox {
    /// The link; of the same ids as sessions, as presentities know their listeners by them.
    pub id: SessionId,
    /// The domain here.
    pub local: Domain,
    /// The domain at the other end.
    pub remote: Domain,
    /// Wakes the link's task.
    pub signal: Signal,
    news: Mutex<LinkNews>,
}

/// What a link has to look at.
#[derive(Debug, Default)]
pub struct LinkNews {
    /// Presentities here that the other side watches and that may have changed.
    pub dirty: HashSet<Address>,
    /// The link has to end, and why.
    pub bye: Option<Bye>,
}

impl LinkMailbox {
    /// An empty mailbox.
    pub fn new(id: SessionId, local: Domain, remote: Domain) -> LinkMailbox {
        LinkMailbox { id, local, remote, signal: Signal::default(), news: Mutex::default() }
    }

    /// Says that a presentity may have changed.
    pub fn presentity_dirty(&self, presentity: &Address) {
        self.tell(|news| {
            // Bounded by what the other side watches.
            news.dirty.insert(presentity.clone());
        });
    }

    /// Ends the link; the first reason stays.
    pub fn end(&self, bye: Bye) {
        self.tell(|news| {
            news.bye.get_or_insert(bye);
        });
    }

    /// Takes what there is.
    pub fn take(&self) -> LinkNews {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, change: impl FnOnce(&mut LinkNews)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.signal.raise();
    }
}
