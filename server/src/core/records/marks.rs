//! What is kept of conversations: how far they were read, by either side.

use serde::{Deserialize, Serialize};

/// How far a conversation was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadMarkRecord {
    /// The last message from the other that the owner has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<SeenRecord>,
    /// The last of which a device has taken custody; kept where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<SeenRecord>,
    /// The number under which the other was told of either last; 0 if never.
    #[serde(default)]
    pub told: Told,
    /// What the other has told of the owner's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub they_received: Option<SaidRecord>,
    /// The same of those that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub they_read: Option<SaidRecord>,
}

/// The numbers of marks that were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Of those received.
    pub received: u64,
    /// Of those read.
    pub read: u64,
}

/// A mark that another has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidRecord {
    /// The message.
    pub id: String,
    /// The number under which it was told.
    pub number: u64,
}

/// A message in its recipient's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenRecord {
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// When the server took it, milliseconds since 1970.
    pub time: u64,
}
