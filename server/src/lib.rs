//! The daemon: presence and instant messages of the domains it hosts, and the commands for it. The
//! program is the crate `imppd`.
//!
//! Rooms lie one above the other, and no path leads up:
//!
//! | room | holds |
//! |---|---|
//! | `core/` | what is kept and who is woken: accounts, principals, records, settings, timers |
//! | `wire/` | frames over TLS: how fast and how long a peer may, and who gets a place |
//! | `reach/` | one door to a presentity, here or elsewhere; those of other domains that are followed |
//! | `messages/` | a message into an inbox here, and what waits for other domains |
//! | `session/` | signing in, and what a signed-in device asks and is told |
//! | `link/` | links to the servers of other domains |
//! | `front/` | what speaks to the outside: clients' connections, the operator's socket, metrics |
//! | `life/` | the server put together, started, reloaded, stopped; its log |
//! | `cli/` | the commands of `imppd`, but for `quickstart` |

pub mod cli;
pub mod core;
pub mod front;
pub mod life;
pub mod link;
pub mod messages;
pub mod reach;
pub mod session;
pub mod wire;
#[cfg(test)]
mod world;
