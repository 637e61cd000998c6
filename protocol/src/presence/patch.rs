//! Patches: what makes one presence document into another; also what PUBLISH does to a layer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::codec::{Pair, fields_of, pairs};
use super::document::{Document, FIELDS_MAX, Fields, PartId, Parts, TUPLES_MAX};
use super::name::FieldName;
use crate::field::{Fault, FieldError, Reader, Writer};
use crate::schema::{Map, fields};

/// Fields set and unset in the person, in one tuple or in one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldsPatch {
    /// Fields to set, by name.
    pub set: Fields,
    /// Names of fields to remove; none of them is also set.
    pub unset: BTreeSet<FieldName>,
}

/// What happens to one tuple or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartPatch {
    /// It is made if it is not there, and its fields change.
    Change(FieldsPatch),
    /// It goes.
    Remove,
}

/// A change of a presence document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Fields of the person.
    pub person: FieldsPatch,
    /// Tuples by id.
    pub tuples: BTreeMap<PartId, PartPatch>,
    /// Devices by id.
    pub devices: BTreeMap<PartId, PartPatch>,
}

fields! {
    /// The encoding of a change of one tuple or device.
    pub struct WirePart {
        /// Its id.
        1 id: PartId,
        /// Fields to set, rising by name.
        2 set: Vec<Pair>,
        /// Names of fields to remove, rising.
        3 unset: Vec<FieldName>,
        /// The whole tuple or device goes; nothing else is said then.
        4 remove: bool,
    }
}

fields! {
    /// The encoding of a patch.
    pub struct WirePatch {
        /// Fields of the person to set, rising by name.
        1 set: Vec<Pair>,
        /// Names of fields of the person to remove, rising.
        2 unset: Vec<FieldName>,
        /// Changes of tuples, rising by id.
        3 tuples: Vec<WirePart>,
        /// Changes of devices, rising by id.
        4 devices: Vec<WirePart>,
    }
}

impl FieldsPatch {
    fn between(old: &Fields, new: &Fields) -> FieldsPatch {
        let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
        FieldsPatch {
            set: changed.map(|(name, value)| (name.clone(), value.clone())).collect(),
            unset: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    fn apply(&self, fields: &mut Fields) {
        fields.retain(|name, _| !self.unset.contains(name));
        fields.extend(self.set.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn from_wire(set: Vec<Pair>, unset: Vec<FieldName>) -> Result<FieldsPatch, Fault> {
        let set = fields_of(set)?;
        if !unset.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(Fault::Order);
        }
        if unset.len() > FIELDS_MAX {
            return Err(Fault::TooLong);
        }
        if unset.iter().any(|name| set.contains_key(name)) {
            return Err(Fault::NotCanonical);
        }
        Ok(FieldsPatch { set, unset: unset.into_iter().collect() })
    }
}

impl Patch {
    /// The smallest patch that makes `new` out of `old`.
    pub fn between(old: &Document, new: &Document) -> Patch {
        Patch {
            person: FieldsPatch::between(&old.person, &new.person),
            tuples: parts_between(&old.tuples, &new.tuples),
            devices: parts_between(&old.devices, &new.devices),
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.person.is_empty() && self.tuples.is_empty() && self.devices.is_empty()
    }

    /// Makes the change.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the document would exceed its limits; it is left as it was.
    pub fn apply(&self, document: &mut Document) -> Result<(), Fault> {
        *document = self.applied(document.clone())?;
        Ok(())
    }

    /// What the change makes of a document.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if that would exceed the limits.
    pub fn applied(&self, mut document: Document) -> Result<Document, Fault> {
        self.person.apply(&mut document.person);
        apply_parts(&self.tuples, &mut document.tuples);
        apply_parts(&self.devices, &mut document.devices);
        document.check_counts()?;
        Ok(document)
    }

    /// Names of all fields that the patch sets or unsets, and of what it removes.
    pub fn changed(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = names(&self.person).map(str::to_owned).collect();
        for (kind, parts) in [("tuple", &self.tuples), ("device", &self.devices)] {
            for (id, part) in parts {
                match part {
                    PartPatch::Remove => drop(names.insert(format!("{kind}:{id}"))),
                    PartPatch::Change(change) => {
                        names.extend(self::names(change).map(str::to_owned));
                    }
                }
            }
        }
        names
    }

    /// The encoding.
    pub fn encode(&self) -> Bytes {
        let wire = WirePatch {
            set: pairs(&self.person.set),
            unset: self.person.unset.iter().cloned().collect(),
            tuples: wire_parts(&self.tuples),
            devices: wire_parts(&self.devices),
        };
        let mut writer = Writer::default();
        wire.put(&mut writer);
        writer.into_bytes()
    }

    /// Reads a patch.
    ///
    /// # Errors
    /// [`FieldError`] naming the part that is wrong.
    pub fn decode(bytes: Bytes) -> Result<Patch, FieldError> {
        let wire = WirePatch::get(Reader::new(bytes))?;
        let fail = |field, number| move |fault| FieldError { field, number, fault };
        Ok(Patch {
            person: FieldsPatch::from_wire(wire.set, wire.unset).map_err(fail("set", 1))?,
            tuples: parts_from_wire(wire.tuples).map_err(fail("tuples", 3))?,
            devices: parts_from_wire(wire.devices).map_err(fail("devices", 4))?,
        })
    }
}

type PartPatches = BTreeMap<PartId, PartPatch>;

fn names(patch: &FieldsPatch) -> impl Iterator<Item = &str> {
    patch.set.keys().chain(&patch.unset).map(FieldName::as_str)
}

fn parts_between(old: &Parts, new: &Parts) -> PartPatches {
    let none = Fields::default();
    let mut patches = PartPatches::new();
    for (id, fields) in new {
        let change = FieldsPatch::between(old.get(id).unwrap_or(&none), fields);
        if !change.is_empty() || !old.contains_key(id) {
            patches.insert(id.clone(), PartPatch::Change(change));
        }
    }
    for id in old.keys().filter(|id| !new.contains_key(*id)) {
        patches.insert(id.clone(), PartPatch::Remove);
    }
    patches
}

fn apply_parts(patches: &PartPatches, parts: &mut Parts) {
    for (id, patch) in patches {
        match patch {
            PartPatch::Remove => drop(parts.remove(id)),
            PartPatch::Change(change) => change.apply(parts.entry(id.clone()).or_default()),
        }
    }
}

fn wire_parts(patches: &PartPatches) -> Vec<WirePart> {
    let wire = |(id, patch): (&PartId, &PartPatch)| match patch {
        PartPatch::Remove => WirePart { id: id.clone(), set: vec![], unset: vec![], remove: true },
        PartPatch::Change(change) => WirePart {
            id: id.clone(),
            set: pairs(&change.set),
            unset: change.unset.iter().cloned().collect(),
            remove: false,
        },
    };
    patches.iter().map(wire).collect()
}

fn parts_from_wire(wire: Vec<WirePart>) -> Result<PartPatches, Fault> {
    let mut patches = PartPatches::new();
    for WirePart { id, set, unset, remove } in wire {
        if patches.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(Fault::Order);
        }
        if patches.len() == 2 * TUPLES_MAX {
            return Err(Fault::TooLong);
        }
        let change = FieldsPatch::from_wire(set, unset)?;
        let patch = match (remove, change.is_empty()) {
            (false, _) => PartPatch::Change(change),
            (true, true) => PartPatch::Remove,
            (true, false) => return Err(Fault::NotCanonical),
        };
        patches.insert(id, patch);
    }
    Ok(patches)
}

#[cfg(test)]
mod tests {
    use super::super::document::samples::any_document;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_patch_between_makes_the_one_out_of_the_other(old in any_document(), new in any_document()) {
            let patch = Patch::between(&old, &new);
            prop_assert_eq!(Patch::decode(patch.encode()), Ok(patch.clone()));
            prop_assert_eq!(patch.is_empty(), old == new);
            let mut patched = old;
            patch.apply(&mut patched).unwrap();
            prop_assert_eq!(patched, new);
        }
    }

    #[test]
    fn one_field_of_twenty_is_a_small_patch() {
        let mut old = Document::default();
        for index in 0..20 {
            let name = FieldName::parse(&format!("org.example.f{index}")).unwrap();
            old.person.insert(name, "a value that is not very short".into());
        }
        let mut new = old.clone();
        new.person.insert(FieldName::parse("org.example.f7").unwrap(), "x".into());
        assert!(Patch::between(&old, &new).encode().len() < 32);
    }

    #[test]
    fn a_patch_never_makes_a_document_too_large() {
        let mut document = Document::default();
        let mut patch = Patch::default();
        for index in 0..17 {
            let id = PartId::parse(&format!("t{index}")).unwrap();
            patch.tuples.insert(id, PartPatch::Change(FieldsPatch::default()));
        }
        assert_eq!(patch.apply(&mut document), Err(Fault::TooLong));
        assert_eq!(document, Document::default());
    }
}
