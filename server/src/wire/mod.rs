//! What clients and other servers have in common on the wire: a proven connection as a pipe of frames,
//! what drives it, how fast and how long a peer may, and who gets a place at all.
//!
//! Who is served is left to those that accept and dial, what frames mean to sessions and links. The
//! TLS configurations are in `tls`.

pub mod admission;
pub mod channel;
pub mod complaints;
pub mod descriptors;
pub mod driver;
pub mod gate;
pub mod liveness;
pub mod pipe;
pub mod proxied;
pub mod rate;
pub mod turns;
