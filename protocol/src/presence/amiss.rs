//! Which presence field of a patch may not be published, in words for who has.
//!
//! Reading patches is left to `patch`, which takes more: what others have published, where names and
//! forms may be known that are not known here.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::document::{Fields, canonical_value};
use super::name::{FIELD_NAME_BYTES_MAX, FieldName};
use super::patch::{PartPatch, Patch};
use crate::field::Reader;
use crate::schema::{Map, fields};

fields! {
    /// A pair whose name may be none.
    pub struct LoosePair {
        /// Said to be a name.
        1 name: String,
        /// Said to be its value.
        2 value: Bytes,
    }
}

fields! {
    /// Of the change of a part, what it sets.
    pub struct LoosePart {
        /// Fields to set.
        2 set: Vec<LoosePair>,
    }
}

fields! {
    /// Of a patch, all that it sets.
    pub struct LoosePatch {
        /// Fields of the person to set.
        1 set: Vec<LoosePair>,
        /// Changes of tuples.
        3 tuples: Vec<LoosePart>,
        /// Changes of devices.
        4 devices: Vec<LoosePart>,
    }
}

/// The first presence field that a patch must not set like this, and why; `None` if no field is what
/// is wrong with it.
pub fn field_amiss(patch: Bytes) -> Option<String> {
    let patch = LoosePatch::get(Reader::new(patch)).ok()?;
    let of_parts = patch.tuples.into_iter().chain(patch.devices).flat_map(|part| part.set);
    patch.set.into_iter().chain(of_parts).find_map(|pair| {
        let shown: String = pair.name.chars().take(FIELD_NAME_BYTES_MAX).collect();
        why(&pair).map(|why| format!("presence field {shown:?}: {why}"))
    })
}

impl Patch {
    /// The first presence field that may not be published, and why.
    pub fn amiss(&self) -> Option<String> {
        let changes = self.tuples.values().chain(self.devices.values());
        let of_parts = changes.filter_map(|part| match part {
            PartPatch::Change(change) => Some(change),
            PartPatch::Remove => None,
        });
        let mut all = std::iter::once(&self.person).chain(of_parts);
        all.find_map(|change| of_fields(&change.set).or_else(|| of_names(&change.unset)))
    }
}

fn of_fields(fields: &Fields) -> Option<String> {
    fields.iter().find_map(|(name, value)| {
        let why = if name.may_be_published() { of_value(name, Some(value)) } else { unknown() };
        why.map(|why| format!("presence field {:?}: {why}", name.as_str()))
    })
}

/// Of names alone.
fn of_names(names: &BTreeSet<FieldName>) -> Option<String> {
    let name = names.iter().find(|name| !name.may_be_published())?;
    unknown().map(|why| format!("presence field {:?}: {why}", name.as_str()))
}

fn why(pair: &LoosePair) -> Option<String> {
    match FieldName::parse(&pair.name) {
        Some(name) => of_value(&name, std::str::from_utf8(&pair.value).ok()),
        None => unknown(),
    }
}

fn unknown() -> Option<String> {
    Some("no such name is registered, and one of your own has a dot".to_owned())
}

fn of_value(name: &FieldName, value: Option<&str>) -> Option<String> {
    match value.and_then(|value| canonical_value(name, value)) {
        Some(canonical) if value == Some(&*canonical) => None,
        Some(canonical) => Some(format!("its canonical form is {canonical:?}")),
        None => Some("its value is none that the field may have".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Writer;

    fn set(name: &str, value: &str) -> Bytes {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let pair = LoosePair { name: name.to_owned(), value };
        let part = LoosePart { set: vec![pair] };
        let mut writer = Writer::default();
        LoosePatch { set: vec![], tuples: vec![part], devices: vec![] }.put(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let said = |name: &str, value: &str| {
            let said = field_amiss(set(name, value)).unwrap_or_default();
            if let Ok(patch) = Patch::decode(set(name, value)) {
                assert_eq!(patch.amiss().unwrap_or_default(), said);
            }
            said
        };
        assert_eq!(said("note", "fine"), "");
        assert_eq!(said("org.example.seat", "12"), "");
        for (name, value, words) in [
            ("moood", "happy", "no such name"),
            ("activities", "b a", "\"a b\""),
            ("status", "away", "none that the field may have"),
            ("note", "\u{202e}evil", "none that the field may have"),
        ] {
            let said = said(name, value);
            assert!(said.contains(&format!("{name:?}")) && said.contains(words), "{said}");
        }
        assert!(said(&"x".repeat(10_000), "y").len() < 200);
        let mut patch = Patch::default();
        patch.person.unset.insert(FieldName::heard("weather").unwrap());
        assert!(patch.amiss().is_some_and(|said| said.contains("\"weather\"")));
    }
}
