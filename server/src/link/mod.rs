//! Links: connections to the servers of other domains, over which both sides ask.
//!
//! | module | duty |
//! |---|---|
//! | `peers`, `peer`, `links` | the other domains there is something for, and the links to each |
//! | `tending` | the task that sees to one: when to dial, and when it ends |
//! | `claims` | which account pays for a place in their table, and for how many |
//! | `dial`, `opening` | reaching another server, and the HELLOs that open a link from either end |
//! | `ways` | finding a server, connecting to it, and the TLS that proves it |
//! | `open` | the links that are open, as the rest of the server knows of them |
//! | `connection` | an open link: frames in and out, deadlines, requests and answers |
//! | `incoming` | what the other side asks |
//! | `home` | what the other side's watchers are told of presentities here |
//! | `mailbox` | where the rest of the server leaves word for a link |
//! | `words` | what the other side says in words, made fit for logs |
//!
//! What waits for other domains is in `messages`; its order is decided by `impp_federation::queue`, proof by
//! `impp_trust`, where a domain is by `impp_locate`.

mod budgets;
mod claims;
mod connection;
mod dial;
pub mod home;
mod incoming;
mod links;
pub mod mailbox;
mod names;
mod open;
mod opening;
mod peer;
mod peers;
mod tending;
mod told;
mod ways;
mod words;

pub use connection::Serving;
pub use dial::Dialler;
pub(crate) use dial::Ways;
#[cfg(test)]
pub(crate) use dial::{Call, NotOpened};
pub use home::Home;
pub use links::Link;
pub use mailbox::LinkMailbox;
pub use open::OpenLinks;
pub use opening::{Opened, Openings};
pub use peer::Peer;
pub use peers::Peers;
pub(crate) use ways::{Located, handshake};
