//! Clients at the door: accepting, TLS, and their connections.
//!
//! A connection of another domain's server is handed to `link`; what clients ask, to `session`.

pub mod connection;
pub mod listen;
