//! What the plays share: the real binaries, a server in a folder of its own, a raw peer over TLS.
//!
//! What has to hold is left to the plays. The harness panics where the play cannot go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod accounts;
pub mod authority;
pub mod badpeer;
pub mod binaries;
pub mod cable;
pub mod dice;
pub mod disk;
pub mod dns;
pub mod domains;
pub mod fates;
pub mod impp;
pub mod netns;
pub mod peer;
pub mod power;
pub mod presence;
pub mod proxy;
pub mod records;
pub mod running;
pub mod server;
pub mod times;
pub mod trace;
pub mod wait;
pub mod wire;

pub use authority::Authority;
pub use badpeer::{BadPeer, Link};
pub use cable::Cable;
pub use dns::Dns;
pub use domains::Domains;
pub use peer::Peer;
pub use server::Server;
pub use wait::{DEADLINE, eventually};
pub use wire::Wire;
