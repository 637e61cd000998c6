//! What is kept of contact lists: entries, and what has become of them.

use impp_presence::{Contact, Trace};
use impp_protocol::Timestamp;
use impp_protocol::state::Grant;
use serde::{Deserialize, Serialize};

/// An entry of a contact list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactRecord {
    /// What its owner calls them.
    pub name: Option<String>,
    /// Groups of the owner's.
    pub groups: Vec<String>,
    /// Whether the owner follows them.
    pub follow: bool,
    /// What they may see.
    #[serde(with = "grant")]
    pub grant: Grant,
}

impl From<&Contact> for ContactRecord {
    fn from(contact: &Contact) -> ContactRecord {
        let Contact { name, groups, follow, grant } = contact.clone();
        ContactRecord { name, groups, follow, grant }
    }
}

impl From<ContactRecord> for Contact {
    fn from(record: ContactRecord) -> Contact {
        let ContactRecord { name, groups, follow, grant } = record;
        Contact { name, groups, follow, grant }
    }
}

/// What has become of an entry of a contact list: which number the list had then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRecord {
    /// When anything of it changed last.
    pub changed: u64,
    /// When what it grants changed last.
    pub granted: u64,
    /// When it was removed last; 0 if never.
    pub removed: u64,
    /// And the time of that, milliseconds since 1970.
    pub removed_at: u64,
}

impl From<&Trace> for TraceRecord {
    fn from(trace: &Trace) -> TraceRecord {
        let Trace { changed, granted, removed, removed_at } = *trace;
        TraceRecord { changed, granted, removed, removed_at: removed_at.as_millis() }
    }
}

impl From<TraceRecord> for Trace {
    fn from(record: TraceRecord) -> Trace {
        let TraceRecord { changed, granted, removed, removed_at } = record;
        Trace { changed, granted, removed, removed_at: Timestamp::from_millis(removed_at) }
    }
}

/// Grants by their names.
mod grant {
    use impp_protocol::state::Grant;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        grant: &Grant,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(grant.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Grant, D::Error> {
        let name = String::deserialize(deserializer)?;
        Grant::from_name(&name).ok_or_else(|| serde::de::Error::custom("no such grant"))
    }
}
