//! File descriptors that are kept for those who must always be answered: the operator, who looks at
//! the server's health, and files that are read again. Clients and links leave them.
//!
//! The system gives the lowest number that is free: so a connection that has one of the last has
//! found all before it in use.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, getrlimit};

/// So many of the last are kept,
pub const KEPT_MAX: u64 = 64;
/// and of a low limit one in so many.
const KEPT_SHARE: u64 = 8;

/// Whether a connection that was just made has a descriptor that is kept for others: it is given up.
pub fn is_kept_for_others(connection: &impl AsFd) -> bool {
    let number = u64::try_from(connection.as_fd().as_raw_fd()).unwrap_or_default();
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number >= limit - kept(limit))
}

fn kept(limit: u64) -> u64 {
    (limit / KEPT_SHARE).min(KEPT_MAX)
}
