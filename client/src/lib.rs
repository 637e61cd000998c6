//! The client of IMPP/1 as a library: connections, a client that outlives them, typed calls, and
//! what is followed across reconnects.
//!
//! Frames, commands and sign-in mechanisms are `impp_protocol`'s; what a person reads and types is
//! left to the binary `impp`.
//!
//! Start with [`Profile`] (who one is), [`Client`] (ask) and [`Follower`] (be told). [`Connection`]
//! is one TLS connection, for who wants no reconnecting.

pub mod backoff;
mod calls;
mod client;
pub mod connection;
mod dial;
mod error;
pub mod follow;
pub mod outbox;
pub mod profile;
mod published;
mod sign_in;
mod tls;

pub use calls::{ExplainKind, Fetched, Outgoing, Sent, Supposed, contact_change, local_time};
pub use client::{Client, Options};
pub use connection::{Connection, Incoming};
pub use error::{ClientError, Refusal};
pub use follow::{Event, Follower, Wanted};
pub use impp_locate as locate;
pub use impp_protocol as protocol;
pub use profile::{Credentials, Profile, ProfileError};
