//! The settings in force: the configuration, and the TLS made from the files that it names. Both are
//! replaced in one step.
//!
//! Reading them is left to `config` and `tls`, applying a change to `life/reload.rs`.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::core::config::Config;
use crate::core::tls::Configurations;

/// One reading of the settings: what is asked of it fits together.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration; [`Snapshot`] stands for it.
    pub config: Config,
    /// `None` in a program that only works on the store.
    pub tls: Option<Arc<Configurations>>,
}

impl Deref for Snapshot {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

/// See the module.
#[derive(Debug)]
pub struct Settings(ArcSwap<Snapshot>);

impl Settings {
    /// These are in force.
    pub fn new(first: Snapshot) -> Settings {
        Settings(ArcSwap::from_pointee(first))
    }

    /// Those in force, for a moment.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Those in force, to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts others in force.
    pub fn put_in_force(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}
