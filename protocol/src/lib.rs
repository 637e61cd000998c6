//! IMPP/1 without I/O: the words of the field, frames, commands, errors.
//!
//! Sockets, clocks, storage and access rules are left to the other crates; time and randomness
//! come in as arguments.

pub mod address;
pub mod presence;
pub mod sasl;
pub mod time;

pub use address::{Address, Domain};
pub use time::Timestamp;
