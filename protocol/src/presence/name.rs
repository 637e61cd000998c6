//! Names of presence fields: PIDF's and RPID's, and reverse-domain names for extensions.
//!
//! What a field's grant means is left to the access rules.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest field name in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 64;

/// The name of a presence field: registered, or a reverse-domain name such as `org.example.seat`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Arc<str>);

/// What values a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// `open` or `closed` (RFC 3863's basic status).
    Status,
    /// Any text.
    Text,
    /// Words separated by one space, sorted, without repeats: a set.
    Words,
    /// 0 to 1 with at most three decimals (RFC 3863's contact priority).
    Priority,
    /// RFC 3339, UTC.
    Time,
    /// A whole number, perhaps negative.
    Integer,
}

/// The registry: every unqualified name, its type and where it comes from. Extensions need no
/// entry: they are reverse-domain names and take any text.
pub const REGISTRY: &[(&str, FieldType, &str)] = &[
    ("activities", FieldType::Words, "RFC 4480 3.2"),
    ("class", FieldType::Text, "RFC 4480 3.3"),
    ("contact", FieldType::Text, "RFC 3863 4.1.5"),
    ("device-id", FieldType::Text, "RFC 4480 3.4"),
    ("display-name", FieldType::Text, "RFC 4482 3.2"),
    ("last-seen", FieldType::Time, "IMPP/1: when the last device was signed in"),
    ("mood", FieldType::Words, "RFC 4480 3.5"),
    ("note", FieldType::Text, "RFC 3863 4.1.6"),
    ("place-is", FieldType::Text, "RFC 4480 3.6"),
    ("place-type", FieldType::Text, "RFC 4480 3.7"),
    ("priority", FieldType::Priority, "RFC 3863 4.1.5"),
    ("privacy", FieldType::Words, "RFC 4480 3.8"),
    ("relationship", FieldType::Text, "RFC 4480 3.9"),
    ("service-class", FieldType::Text, "RFC 4480 3.10"),
    ("sphere", FieldType::Text, "RFC 4480 3.11"),
    ("status", FieldType::Status, "RFC 3863 4.1.4"),
    ("status-icon", FieldType::Text, "RFC 4480 3.12"),
    ("time-offset", FieldType::Integer, "RFC 4480 3.13"),
    ("timestamp", FieldType::Time, "RFC 3863 4.1.7"),
    ("user-input", FieldType::Text, "RFC 4480 3.14"),
];

impl FieldName {
    /// Reads a name as it may be published: one of [`REGISTRY`], or lower-case labels with at least one
    /// dot between them.
    pub fn parse(text: &str) -> Option<FieldName> {
        FieldName::heard(text).filter(FieldName::may_be_published)
    }

    /// Reads a name that somebody has published elsewhere, where more may be registered by now: lower-case
    /// labels, with dots between them or none.
    pub fn heard(text: &str) -> Option<FieldName> {
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let fits = text.len() <= FIELD_NAME_BYTES_MAX && text.split('.').all(label_ok);
        fits.then(|| FieldName(text.into()))
    }

    /// Whether it is registered, or somebody's own.
    pub fn may_be_published(&self) -> bool {
        self.0.contains('.')
            || REGISTRY.binary_search_by_key(&self.as_str(), |entry| entry.0).is_ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What values the field takes.
    pub fn field_type(&self) -> FieldType {
        let found = REGISTRY.binary_search_by_key(&self.as_str(), |entry| entry.0);
        found.map_or(FieldType::Text, |index| REGISTRY[index].1)
    }
}

impl Borrow<str> for FieldName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_sorted_and_its_names_parse() {
        assert!(REGISTRY.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(REGISTRY.iter().all(|(name, _, _)| FieldName::parse(name).is_some()));
    }

    #[test]
    fn names_outside_the_registry_need_a_domain() {
        assert!(FieldName::parse("org.example.seat").is_some());
        for bad in ["", "seat", "Status", "org..seat", ".org", "org.Example", "a b.c"] {
            assert!(FieldName::parse(bad).is_none(), "{bad}");
        }
    }

    /// What is registered tomorrow is read today.
    #[test]
    fn a_name_that_is_heard_need_not_be_known() {
        assert!(FieldName::heard("weather").is_some_and(|name| !name.may_be_published()));
        for bad in ["", "Status", "org..seat", ".org", "a b.c", &"x".repeat(65)] {
            assert!(FieldName::heard(bad).is_none(), "{bad}");
        }
    }
}
