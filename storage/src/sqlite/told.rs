//! What was found damaged: said in the log once each, and counted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What was found damaged since the store was opened, by name.
#[derive(Debug, Default)]
pub(crate) struct Told {
    names: Mutex<BTreeSet<String>>,
    /// The index of conversations is among them.
    talk: AtomicBool,
    /// It is asked nothing.
    talk_closed: AtomicBool,
}

impl Told {
    /// Notes damage; whoever asks for it again is answered the same, without a further line.
    pub(crate) fn tell(&self, what: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX && names.insert(what.to_owned()) {
            drop(names);
            tracing::error!(what, "the store is damaged");
        }
    }

    /// The same of the index of conversations, which can be made anew.
    pub(crate) fn tell_of_talk(&self, what: &str) {
        self.tell(what);
        self.talk.store(true, Ordering::Relaxed);
    }

    /// Whether that was told of the index of conversations.
    pub(crate) fn is_talk_wrong(&self) -> bool {
        self.talk.load(Ordering::Relaxed)
    }

    /// The same where it cannot even be written: it counts for nothing from now on.
    pub(crate) fn close_talk(&self, what: &str) {
        self.tell_of_talk(what);
        self.talk_closed.store(true, Ordering::Relaxed);
    }

    /// It is empty, and begins anew.
    pub(crate) fn open_talk(&self) {
        self.talk_closed.store(false, Ordering::Relaxed);
    }

    /// Whether the index of conversations counts for nothing.
    pub(crate) fn is_talk_closed(&self) -> bool {
        self.talk_closed.load(Ordering::Relaxed)
    }

    /// All of them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many, up to [`NAMES_MAX`].
    pub(crate) fn count(&self) -> u64 {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Where so much is damaged, nobody looks at each.
const NAMES_MAX: usize = 1024;
