//! A link as others see it: where they leave word that there is news. Signals carry no data.
//!
//! What the link does with them is left to its task. Why sessions have another one, `core/sessions.rs` says.

use std::sync::Arc;

use impp_presence::LinkId;
use impp_protocol::command::Bye;
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::{Address, Domain};
use parking_lot::Mutex;

use crate::core::listeners::{Again, Listener};
use crate::core::signal::Signal;

/// See the module.
#[derive(Debug)]
pub struct LinkMailbox {
    /// The link.
    pub id: LinkId,
    /// Our domain.
    pub local: Domain,
    /// Theirs.
    pub remote: Domain,
    /// Wakes its task.
    pub signal: Signal,
    news: Mutex<News>,
    /// What could not be looked at.
    again: Again,
    asking: Mutex<Asking>,
}

/// Who hears over it, or wants to.
#[derive(Debug, Default)]
struct Asking {
    watchers: usize,
    /// Presentities with requests that were taken and not answered, and how many.
    taking: HashMap<Address, usize>,
}

/// What its task has to look at.
#[derive(Debug, Default)]
struct News {
    /// Presentities that may have changed; bounded by what is followed over the link.
    dirty: HashSet<Address>,
    /// The link has to end, and why.
    bye: Option<Bye>,
    /// Nothing new is asked over it.
    draining: bool,
}

impl LinkMailbox {
    /// An empty mailbox.
    pub fn new(id: LinkId, local: Domain, remote: Domain) -> LinkMailbox {
        let (signal, news, again, asking) = Default::default();
        LinkMailbox { id, local, remote, signal, news, again, asking }
    }

    /// Says after a while that a presentity may have changed.
    pub fn presentity_dirty_later(self: &Arc<Self>, presentity: Address) {
        self.again.later(self, presentity, |mailbox| &mailbox.again);
    }

    /// Takes what may have changed.
    pub fn take(&self) -> HashSet<Address> {
        std::mem::take(&mut self.news.lock().dirty)
    }

    /// Ends the link; the first reason stays.
    pub fn end(&self, bye: Bye) {
        self.news.lock().bye.get_or_insert(bye);
        self.signal.raise();
    }

    /// Takes the goodbye that is to be said.
    pub fn take_bye(&self) -> Option<Bye> {
        self.news.lock().bye.take()
    }

    /// Another link is kept, or either side has said goodbye.
    pub fn drain(&self) {
        self.news.lock().draining = true;
        self.signal.raise();
    }

    /// Whether nothing new is asked over it.
    pub fn is_draining(&self) -> bool {
        self.news.lock().draining
    }

    /// A request is taken: from now on the presentity may know of this link. There are at most as
    /// many as requests unanswered.
    pub(super) fn takes(&self, presentity: &Address) {
        *self.asking.lock().taking.entry(presentity.clone()).or_default() += 1;
    }

    /// It is answered: whether the presentity knows of this link is in the groups.
    pub(super) fn taken(&self, presentity: &Address) {
        let taking = &mut self.asking.lock().taking;
        if let Some(count) = taking.get_mut(presentity) {
            *count -= 1;
            if *count == 0 {
                taking.remove(presentity);
            }
        }
    }

    /// The presentities of requests that were not answered.
    pub(super) fn unanswered(&self) -> HashSet<Address> {
        self.asking.lock().taking.keys().cloned().collect()
    }

    /// How many watchers of the other domain hear over this link.
    pub fn watchers(&self) -> usize {
        self.asking.lock().watchers
    }

    /// There were so many of one presentity, and are so many now.
    pub(super) fn count_watchers(&self, before: usize, after: usize) {
        let watchers = &mut self.asking.lock().watchers;
        *watchers = (*watchers + after).saturating_sub(before);
    }
}

impl Listener for LinkMailbox {
    fn presentity_dirty(&self, presentity: &Address) {
        let mut news = self.news.lock();
        if !news.dirty.contains(presentity) {
            news.dirty.insert(presentity.clone());
        }
        drop(news);
        self.signal.raise();
    }
}
