//! What was found damaged: said in the log once each, and counted.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What was found damaged since the store was opened, by name.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Notes damage; whoever asks for it again is answered the same, without a further line.
    pub(crate) fn tell(&self, what: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX && names.insert(what.to_owned()) {
            drop(names);
            tracing::error!(what, "the store is damaged");
        }
    }

    /// All of them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many, up to [`NAMES_MAX`].
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Where so much is damaged, nobody looks at each.
const NAMES_MAX: usize = 1024;
