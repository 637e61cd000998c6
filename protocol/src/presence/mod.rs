//! Presence documents: what a principal publishes and a watcher sees (RFC 2778, RFC 3863).
//!
//! Who may see which part is left to the `acl` crate, leases and layers to the server.

pub mod document;
pub mod name;

pub use document::{Document, Fields, PartId};
pub use name::{FieldName, FieldType};
