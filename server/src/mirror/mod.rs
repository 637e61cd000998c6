//! Presence of other domains for watchers here.

use std::sync::Arc;

use impp_protocol::{Domain, Error};

use crate::host::Host;

/// See the module.
#[derive(Debug, Default)]
pub struct Mirrors {}

impl Mirrors {
    /// Whether anybody here follows anybody there.
    pub fn wanted(&self, _local: &Domain, _remote: &Domain) -> bool {
        false
    }

    /// A link that serves presence has opened.
    pub fn link_up(&self, _host: &Arc<Host>, _local: &Domain, _remote: &Domain) {}

    /// The last link that serves presence has ended.
    pub fn link_down(&self, _host: &Arc<Host>, _local: &Domain, _remote: &Domain) {}

    /// The domain definitely serves no presence.
    pub async fn refused(&self, _: &Arc<Host>, _: &Domain, _: &Domain, _: &Error) {}
}
