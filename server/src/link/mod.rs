//! Links to the servers of other domains.
//!
//! What watchers of the other domain see of our presentities is in `home`; what our watchers see of
//! theirs in `mirror`.

pub mod home;
pub mod mailbox;
