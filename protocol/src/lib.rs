//! IMPP/1 without I/O: the words of the field, frames, commands, errors.
//!
//! Sockets, clocks, storage and access rules are left to the other crates; time and randomness
//! come in as arguments.

pub mod address;
pub mod command;
pub mod corpus;
pub mod error;
pub mod field;
pub mod frame;
pub mod hashing;
pub mod ids;
pub mod likeness;
pub mod presence;
pub mod sasl;
pub mod schema;
pub mod state;
pub mod thing;
pub mod time;
pub mod varint;

pub use address::{Address, Domain};
pub use command::{Command, Kind, Request};
pub use error::{By, Code, Error};
pub use ids::{DeviceId, MessageId, SessionId};
pub use thing::{Service, What};
pub use time::Timestamp;

/// ALPN protocol id of connections from clients.
pub const ALPN_CLIENT: &[u8] = b"impp/1";
/// ALPN protocol id of links between servers.
pub const ALPN_LINK: &[u8] = b"impp-s2s/1";
/// The port of both.
pub const PORT: u16 = 2778;
