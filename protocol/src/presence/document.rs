//! The presence document: fields of the person, tuples, and fields of devices.
//!
//! Its encoding, patches and versions are in the modules beside this one.

use std::fmt;
use std::sync::Arc;

use litemap::LiteMap;

use super::name::{FieldName, FieldType};
use crate::field::Fault;
use crate::time::Timestamp;

/// Most tuples in a document; as many devices.
pub const TUPLES_MAX: usize = 16;
/// Most fields in one tuple, in one device, and of the person.
pub const FIELDS_MAX: usize = 64;
/// Longest id of a tuple or device in bytes.
pub const PART_ID_BYTES_MAX: usize = 64;
/// Longest value of one field in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Longest encoding of a document in bytes: what is around it in a NOTIFY still fits a frame.
pub const DOCUMENT_BYTES_MAX: usize = 48 * 1024;

/// A map in one piece that is as large as what is in it: there are few of each, and they are kept for
/// everybody who is there.
pub type Sorted<K, V> = LiteMap<K, V>;
/// Fields by name; iteration is in the order of names.
pub type Fields = Sorted<FieldName, Arc<str>>;
/// Tuples or devices by id; iteration is in the order of ids.
pub type Parts = Sorted<PartId, Fields>;

/// The id of a tuple or device, unique in its document: visible ASCII without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(Arc<str>);

impl PartId {
    /// Reads an id of 1 to [`PART_ID_BYTES_MAX`] visible ASCII characters.
    pub fn parse(text: &str) -> Option<PartId> {
        let length_ok = (1..=PART_ID_BYTES_MAX).contains(&text.len());
        (length_ok && text.bytes().all(|b| b.is_ascii_graphic())).then(|| PartId(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A presence document (RFC 2778 presence information, RFC 4479's person, services, devices).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Document {
    /// Fields of the person.
    pub person: Fields,
    /// Presence tuples by id: a status, a contact address, other markup.
    pub tuples: Parts,
    /// Fields of devices by id.
    pub devices: Parts,
}

impl Document {
    /// The one document that "offline" looks like, whoever is offline and why: one closed tuple,
    /// no time, no note, no person.
    pub fn offline() -> Document {
        let mut document = Document::default();
        if let (Some(id), Some(status)) = (PartId::parse("im"), FieldName::parse("status")) {
            document.tuples.insert(id, Fields::from_iter([(status, "closed".into())]));
        }
        document
    }

    /// Looks that there are no more parts than may be, and no more fields in any.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if there are.
    pub fn check_counts(&self) -> Result<(), Fault> {
        let parts = self.tuples.values().chain(self.devices.values());
        let most = parts.chain([&self.person]).map(LiteMap::len).max();
        let fits = most.is_none_or(|most| most <= FIELDS_MAX)
            && self.tuples.len().max(self.devices.len()) <= TUPLES_MAX;
        if fits { Ok(()) } else { Err(Fault::TooLong) }
    }

    /// The sphere that the document tells: of all persons' fields that have one, if they agree
    /// (RFC 4745 7.2); compared without regard to case.
    pub fn sphere(&self) -> Option<&str> {
        self.person.get("sphere").map(|value| &**value)
    }
}

/// A value in its canonical form, if it is one that the field takes.
pub fn canonical_value(name: &FieldName, value: &str) -> Option<Arc<str>> {
    if !may_be_shown(value) {
        return None;
    }
    match name.field_type() {
        FieldType::Status => matches!(value, "open" | "closed").then(|| value.into()),
        FieldType::Text => Some(value.into()),
        FieldType::Words => {
            let mut words: Vec<&str> = value.split_ascii_whitespace().collect();
            words.sort_unstable();
            words.dedup();
            (!words.is_empty()).then(|| words.join(" ").into())
        }
        FieldType::Priority => canonical_priority(value),
        FieldType::Time => Timestamp::parse(value).map(|time| time.to_string().into()),
        FieldType::Integer => value.parse::<i32>().ok().map(|number| number.to_string().into()),
    }
}

/// Whether a value, of whatever field, is neither empty nor too long nor holds what is refused.
pub(super) fn may_be_shown(value: &str) -> bool {
    !value.is_empty() && value.len() <= VALUE_BYTES_MAX && !value.chars().any(is_refused)
}

/// Control characters other than line feed and tab, and the bidirectional overrides, never pass
/// into a document that other people's terminals will show.
fn is_refused(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn canonical_priority(value: &str) -> Option<Arc<str>> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    match (whole, fraction) {
        ("0" | "1", "") => Some(whole.into()),
        ("0", _) if digits => Some(format!("0.{fraction}").into()),
        _ => None,
    }
}

/// Documents for property tests.
#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    fn any_field() -> impl Strategy<Value = (FieldName, Arc<str>)> {
        const NAMES: &[&str] =
            &["status", "note", "mood", "activities", "org.example.a", "priority"];
        (proptest::sample::select(NAMES), "[a-z]{1,8}").prop_map(|(name, text)| {
            let name = FieldName::parse(name).unwrap();
            let value = match name.field_type() {
                FieldType::Status => "open".into(),
                FieldType::Priority => "0.5".into(),
                _ => text.into(),
            };
            (name, value)
        })
    }

    fn any_fields() -> impl Strategy<Value = Fields> {
        proptest::collection::vec(any_field(), 0..5).prop_map(|pairs| pairs.into_iter().collect())
    }

    fn any_parts() -> impl Strategy<Value = Parts> {
        btree_map("[a-d]{1,2}".prop_map(|id| PartId::parse(&id).unwrap()), any_fields(), 0..4)
            .prop_map(Parts::from_iter)
    }

    pub(crate) fn any_document() -> impl Strategy<Value = Document> {
        (any_fields(), any_parts(), any_parts()).prop_map(|(person, tuples, devices)| Document {
            person,
            tuples,
            devices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(name: &str, value: &str) -> Option<String> {
        canonical_value(&FieldName::parse(name).unwrap(), value).map(|v| v.to_string())
    }

    #[test]
    fn values_have_one_spelling() {
        assert_eq!(canonical("status", "open").as_deref(), Some("open"));
        assert_eq!(canonical("status", "Open"), None);
        assert_eq!(
            canonical("activities", "meeting  busy meeting").as_deref(),
            Some("busy meeting")
        );
        assert_eq!(canonical("priority", "0.80").as_deref(), Some("0.8"));
        assert_eq!(canonical("priority", "1.0").as_deref(), Some("1"));
        assert_eq!(canonical("priority", "1.1"), None);
        assert_eq!(canonical("priority", "0.8001"), None);
        assert_eq!(canonical("time-offset", "+60").as_deref(), Some("60"));
        assert_eq!(
            canonical("timestamp", "2026-01-01T01:00:00+01:00").as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
        assert_eq!(canonical("note", ""), None);
    }

    #[test]
    fn a12_text_that_would_disturb_a_terminal_is_refused() {
        for bad in ["a\u{1b}[2J", "a\0", "a\r", "\u{202e}txt", "\u{2066}x"] {
            assert_eq!(canonical("note", bad), None, "{bad:?}");
        }
        assert_eq!(canonical("note", "two\nlines").as_deref(), Some("two\nlines"));
    }

    #[test]
    fn offline_is_one_closed_tuple_and_nothing_else() {
        let offline = Document::offline();
        assert_eq!(offline.tuples.len(), 1);
        assert_eq!(
            offline.tuples.values().next().unwrap().get("status").map(|value| &**value),
            Some("closed")
        );
        assert!(offline.person.is_empty() && offline.devices.is_empty());
    }
}
