//! The canonical encoding of presence documents, and the versions made from it.
//!
//! Parts rise by id, fields by name, values are canonical: one document has one encoding.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::document::{Document, FIELDS_MAX, Fields, PartId, Parts, TUPLES_MAX, may_be_shown};
use super::name::FieldName;
use crate::field::{Fault, FieldError, Octets, Raw, Reader, Slot, Value, Writer};
use crate::schema::{Map, fields};

/// What a watcher holds: a digest of exactly the content it was shown (RFC 2779 5.1.4). Equal
/// content has equal versions, whoever sees it and when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub [u8; 16]);

impl Version {
    /// The version of content in its canonical encoding: the first 16 bytes of its SHA-256.
    pub fn of(content: &[u8]) -> Version {
        let mut version = [0; 16];
        version.copy_from_slice(&Sha256::digest(content)[..16]);
        Version(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Value for Version {
    fn fill(&self, slot: Slot<'_>) {
        self.0.fill(slot);
    }

    fn from_raw(raw: Raw) -> Result<Version, Fault> {
        <[u8; 16]>::from_raw(raw).map(Version)
    }
}

impl Value for FieldName {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self.as_str().as_bytes());
    }

    fn from_raw(raw: Raw) -> Result<FieldName, Fault> {
        FieldName::heard(&String::from_raw(raw)?).ok_or(Fault::Value)
    }
}

impl Octets for FieldName {}

impl Value for PartId {
    fn fill(&self, slot: Slot<'_>) {
        slot.octets(self.as_str().as_bytes());
    }

    fn from_raw(raw: Raw) -> Result<PartId, Fault> {
        PartId::parse(&String::from_raw(raw)?).ok_or(Fault::Value)
    }
}

impl Octets for PartId {}

fields! {
    /// One field of a person, tuple or device.
    pub struct Pair {
        /// The field's name.
        1 name: FieldName,
        /// Its value in canonical form.
        2 value: String,
    }
}

fields! {
    /// A tuple or device and its fields.
    pub struct Part {
        /// Its id, unique among its kind.
        1 id: PartId,
        /// Its fields, rising by name.
        2 fields: Vec<Pair>,
    }
}

fields! {
    /// The encoding of a presence document.
    pub struct WireDocument {
        /// Fields of the person, rising by name.
        1 person: Vec<Pair>,
        /// Tuples, rising by id, at most 16.
        2 tuples: Vec<Part>,
        /// Devices, rising by id, at most 16.
        3 devices: Vec<Part>,
    }
}

/// The wire form of a set of fields.
pub(super) fn pairs(fields: &Fields) -> Vec<Pair> {
    let pair = |(name, value): (&FieldName, &Arc<str>)| Pair {
        name: name.clone(),
        value: value.to_string(),
    };
    fields.iter().map(pair).collect()
}

/// Reads a set of fields: names rise, values hold nothing that is refused. Whether they have the form of
/// their names is for where they are published to say: a form may grow.
pub(super) fn fields_of(pairs: Vec<Pair>) -> Result<Fields, Fault> {
    let mut fields = Fields::default();
    for Pair { name, value } in pairs {
        if !may_be_shown(&value) {
            return Err(Fault::Value);
        }
        if fields.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Fault::Order);
        }
        if fields.len() == FIELDS_MAX {
            return Err(Fault::TooLong);
        }
        fields.insert(name, value.into());
    }
    Ok(fields)
}

fn parts(parts: &Parts) -> Vec<Part> {
    parts.iter().map(|(id, fields)| Part { id: id.clone(), fields: pairs(fields) }).collect()
}

fn parts_of(wire: Vec<Part>) -> Result<Parts, Fault> {
    let mut parts = Parts::default();
    for Part { id, fields } in wire {
        if parts.last().is_some_and(|(last, _)| *last >= id) {
            return Err(Fault::Order);
        }
        if parts.len() == TUPLES_MAX {
            return Err(Fault::TooLong);
        }
        parts.insert(id, fields_of(fields)?);
    }
    Ok(parts)
}

impl Document {
    /// The canonical encoding.
    pub fn encode(&self) -> Bytes {
        let wire = WireDocument {
            person: pairs(&self.person),
            tuples: parts(&self.tuples),
            devices: parts(&self.devices),
        };
        let mut writer = Writer::default();
        wire.put(&mut writer);
        writer.into_bytes()
    }

    /// Reads a document from its canonical encoding.
    ///
    /// # Errors
    /// [`FieldError`] naming the part that is wrong.
    pub fn decode(bytes: Bytes) -> Result<Document, FieldError> {
        let wire = WireDocument::get(Reader::new(bytes))?;
        let fail = |field, number| move |fault| FieldError { field, number, fault };
        Ok(Document {
            person: fields_of(wire.person).map_err(fail("person", 1))?,
            tuples: parts_of(wire.tuples).map_err(fail("tuples", 2))?,
            devices: parts_of(wire.devices).map_err(fail("devices", 3))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::samples::any_document;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_encode_is_identity(document in any_document()) {
            prop_assert_eq!(Document::decode(document.encode()), Ok(document));
        }

        #[test]
        fn encode_decode_is_identity_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            let bytes = Bytes::from(bytes);
            if let Ok(document) = Document::decode(bytes.clone()) {
                // Unknown fields are skipped: what is written is never longer than what was read.
                prop_assert!(document.encode().len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a10_repeated_and_unsorted_fields_are_refused() {
        let pair =
            |name: &str| Pair { name: FieldName::parse(name).unwrap(), value: "open".to_owned() };
        for wrong in [["note", "note"], ["status", "note"]] {
            assert_eq!(fields_of(wrong.map(pair).to_vec()), Err(Fault::Order));
        }
        let name = FieldName::parse("mood").unwrap();
        let value = "\u{202e}evil".to_owned();
        assert_eq!(fields_of(vec![Pair { name, value }]), Err(Fault::Value));
    }
}
