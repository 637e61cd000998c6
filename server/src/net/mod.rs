//! The shell around sockets: accepting, TLS, reading and writing frames.
//!
//! What frames mean is left to `session`.

pub mod admission;
pub mod complaints;
pub mod connection;
pub mod gate;
pub mod listen;
pub mod liveness;
pub mod pipe;
pub mod rate;
pub mod tls;
