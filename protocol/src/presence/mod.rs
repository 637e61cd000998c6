//! Presence documents: what a principal publishes and a watcher sees (RFC 2778, RFC 3863).
//!
//! Who may see which part is left to the `acl` crate, leases and layers to the server.

pub mod amiss;
pub mod codec;
pub mod document;
pub mod name;
pub mod patch;
pub mod user_input;

pub use amiss::field_amiss;
pub use codec::Version;
pub use document::{DOCUMENT_BYTES_MAX, Document, Fields, PartId, Parts, Sorted, canonical_value};
pub use name::{FieldName, FieldType};
pub use patch::{FieldsPatch, PartPatch, Patch};
pub use user_input::UserInput;
