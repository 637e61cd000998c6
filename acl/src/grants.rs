//! What rules grant of a document: fields by name, parts by selector; sets that only unite.
//!
//! Applying them to a document is left to [`crate::view`].

mod fields;
mod parts;

use std::fmt;
use std::sync::{Arc, LazyLock};

pub use fields::{Depth, FieldSet};
pub use parts::{PartSet, Selected, Selector};

/// What a watcher is granted, as one value; equal grants share a view. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Grants(Arc<Granted>);

#[derive(PartialEq, Eq, Hash)]
struct Granted {
    fields: FieldSet,
    parts: Parts,
}

/// The parts of a document, of each kind those that are granted (RFC 5025 3.3.1).
///
/// Rules that say nothing about the person or devices grant each of which they grant a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parts {
    /// Tuples: services.
    pub tuples: PartSet,
    /// The person.
    pub persons: PartSet,
    /// Devices.
    pub devices: PartSet,
}

static NOTHING: LazyLock<Grants> = LazyLock::new(|| {
    let none = PartSet::nothing;
    let parts = Parts { tuples: none(), persons: none(), devices: none() };
    Grants(Arc::new(Granted { fields: FieldSet::nothing(), parts }))
});
static EVERYTHING: LazyLock<Grants> =
    LazyLock::new(|| Grants::new(FieldSet::All, Parts::tuples(PartSet::all())));

impl Parts {
    /// These tuples; of the rest what has granted fields.
    pub fn tuples(tuples: PartSet) -> Parts {
        Parts { tuples, persons: PartSet::with_fields(), devices: PartSet::with_fields() }
    }

    fn each(&self) -> [(&'static str, &PartSet); 3] {
        [("", &self.tuples), ("persons:", &self.persons), ("devices:", &self.devices)]
    }
}

impl Grants {
    /// These fields of these parts.
    pub fn new(fields: FieldSet, parts: Parts) -> Grants {
        let none = fields.is_nothing();
        let beside = |set: PartSet| if none { set.without_fields() } else { set };
        let Parts { tuples, persons, devices } = parts;
        let parts = Parts { tuples, persons: beside(persons), devices: beside(devices) };
        // There is one that grants nothing, which a rule that only asks or blocks has: see `unite`.
        match none && parts.each().iter().all(|(_, set)| set.is_nothing()) {
            true => Grants::nothing(),
            false => Grants(Arc::new(Granted { fields, parts })),
        }
    }

    /// Nothing.
    pub fn nothing() -> Grants {
        NOTHING.clone()
    }

    /// Everything.
    pub fn everything() -> Grants {
        EVERYTHING.clone()
    }

    /// The granted fields.
    pub fn fields(&self) -> &FieldSet {
        &self.0.fields
    }

    /// The granted parts.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Whether all that `other` grants is granted here.
    pub fn includes(&self, other: &Grants) -> bool {
        let parts = self.0.parts.each().into_iter().zip(other.0.parts.each());
        self.0.fields.includes(&other.0.fields) && parts.into_iter().all(|(a, b)| a.1.includes(b.1))
    }

    /// Whether nothing at all is granted.
    fn is_nothing(&self) -> bool {
        Arc::ptr_eq(&self.0, &NOTHING.0)
    }

    /// What either grants.
    #[must_use]
    pub fn union(mut self, other: &Grants) -> Grants {
        self.unite(other);
        self
    }

    /// Grants what another grants too.
    pub(crate) fn unite(&mut self, other: &Grants) {
        if other.is_nothing() || self.includes(other) {
            return;
        }
        if self.is_nothing() || other.includes(self) {
            self.clone_from(other);
            return;
        }
        let (a, b) = (&self.0.parts, &other.0.parts);
        let parts = Parts {
            tuples: a.tuples.union(&b.tuples),
            persons: a.persons.union(&b.persons),
            devices: a.devices.union(&b.devices),
        };
        *self = Grants::new(self.0.fields.union(&other.0.fields), parts);
    }

    /// The same, of fields no more than these.
    #[must_use]
    pub fn cut(self, most: &FieldSet) -> Grants {
        if most.includes(&self.0.fields) {
            return self;
        }
        Grants::new(self.0.fields.intersection(most), self.0.parts.clone())
    }

    /// In words for the owner: the fields, then what selects tuples unless all are granted, then
    /// what selects the person and devices where a rule says so.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.0.fields.words();
        for (kind, parts) in self.0.parts.each() {
            let tuples = kind.is_empty();
            if !(parts.is_all() && tuples) {
                words.extend(parts.words().into_iter().map(|word| format!("{kind}{word}")));
            }
            if !tuples && parts.is_nothing() && !self.0.fields.is_nothing() {
                words.push(format!("{kind}none"));
            }
        }
        words
    }
}

impl Parts {
    /// What selects of each kind, `tuples:class:work`: with the same words the parts are the same.
    pub fn words(&self) -> Vec<String> {
        let kinds =
            [("tuples", &self.tuples), ("persons", &self.persons), ("devices", &self.devices)];
        let words = |(kind, parts): (&str, &PartSet)| -> Vec<String> {
            parts.whole_words().into_iter().map(|word| format!("{kind}:{word}")).collect()
        };
        kinds.into_iter().flat_map(words).collect()
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grants({:?}, {:?})", self.0.fields, self.0.parts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use impp_protocol::presence::FieldName;

    use super::*;

    fn only(names: &[&str]) -> FieldSet {
        FieldSet::of(names.iter().map(|name| FieldName::parse(name).unwrap()))
    }

    #[test]
    fn a_union_grants_what_either_grants() {
        let a = Grants::new(only(&["note"]), Parts::tuples(PartSet::nothing()));
        let b = Grants::new(only(&["mood"]), Parts::tuples(PartSet::all()));
        let both = a.clone().union(&b);
        assert_eq!(both, Grants::new(only(&["mood", "note"]), Parts::tuples(PartSet::all())));
        assert!(both.includes(&a) && both.includes(&b) && !a.includes(&b));
        assert_eq!(Grants::everything().union(&a), Grants::everything());
        assert_eq!(Grants::nothing().union(&b), b);
        assert_eq!(b.clone().union(&Grants::nothing()), b);
        let nothing = Grants::new(only(&[]), Parts::tuples(PartSet::nothing()));
        assert!(nothing == Grants::nothing() && nothing.is_nothing() && !a.is_nothing());
    }

    /// A rule that names parts is not opened by one that grants no field, only by one that does.
    #[test]
    fn what_opens_parts_beside_a_rule_that_names_them_are_fields() {
        let devices = PartSet::new(false, BTreeSet::from([Selector::Class("work".into())]));
        let parts = |devices| Parts { devices, ..Parts::tuples(PartSet::nothing()) };
        let named = Grants::new(only(&["note"]), parts(devices));
        let asks = Grants::new(FieldSet::nothing(), parts(PartSet::with_fields()));
        assert_eq!(named.clone().union(&asks), named);
        let more =
            named.clone().union(&Grants::new(only(&["mood"]), parts(PartSet::with_fields())));
        assert_eq!(named.words(), ["note", "devices:class:work"]);
        let both = &more.parts().devices;
        assert!(both.selects(None, &Default::default(), true).shown);
        assert!(!both.selects(None, &Default::default(), false).shown);
        assert!(more.includes(&named) && !named.includes(&more));
    }
}
