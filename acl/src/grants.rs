//! What rules grant of a document: fields by name, tuples by selector; sets that only unite.
//!
//! Applying them to a document is left to [`crate::view`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use impp_protocol::presence::{FieldName, Fields, PartId};

/// Granted fields (RFC 5025 3.3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldSet {
    /// Each, also those that extensions bring (provide-all-attributes).
    All,
    /// These.
    Only(BTreeSet<FieldName>),
}

/// Granted tuples (RFC 5025 3.3.1.3).
///
/// A tuple whose class is selected shows its class: only so does a view say itself why the tuple
/// is in it, and stays what it is when filtered again. Therefore classes stay in the set even
/// where all tuples are granted; another grant on top must not hide them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TupleSet {
    all: bool,
    selectors: BTreeSet<Selector>,
}

/// One way to select tuples.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// By the value of the field `class`.
    Class(Arc<str>),
    /// By id.
    Id(PartId),
    /// By the scheme of its contact URI, in lower case.
    Scheme(Arc<str>),
}

/// What a watcher is granted, as one value; equal grants share a view. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Grants(Arc<Granted>);

#[derive(PartialEq, Eq, Hash)]
struct Granted {
    fields: FieldSet,
    tuples: TupleSet,
}

static NOTHING: LazyLock<Grants> =
    LazyLock::new(|| Grants::new(FieldSet::nothing(), TupleSet::nothing()));
static EVERYTHING: LazyLock<Grants> = LazyLock::new(|| Grants::new(FieldSet::All, TupleSet::all()));

impl FieldSet {
    /// No field.
    pub fn nothing() -> FieldSet {
        FieldSet::Only(BTreeSet::new())
    }

    /// The status alone.
    pub fn status() -> FieldSet {
        FieldSet::Only(FieldName::parse("status").into_iter().collect())
    }

    /// Whether a field is among them.
    pub fn contains(&self, name: &FieldName) -> bool {
        match self {
            FieldSet::All => true,
            FieldSet::Only(names) => names.contains(name),
        }
    }

    /// The words as rules write them: `all`, or names.
    pub fn words(&self) -> Vec<String> {
        match self {
            FieldSet::All => vec!["all".to_owned()],
            FieldSet::Only(names) => names.iter().map(FieldName::to_string).collect(),
        }
    }

    fn includes(&self, other: &FieldSet) -> bool {
        match (self, other) {
            (FieldSet::All, _) => true,
            (FieldSet::Only(_), FieldSet::All) => false,
            (FieldSet::Only(a), FieldSet::Only(b)) => a.is_superset(b),
        }
    }

    fn union(&self, other: &FieldSet) -> FieldSet {
        match (self, other) {
            (FieldSet::Only(a), FieldSet::Only(b)) => FieldSet::Only(a | b),
            _ => FieldSet::All,
        }
    }
}

impl TupleSet {
    /// Each tuple.
    pub fn all() -> TupleSet {
        TupleSet { all: true, selectors: BTreeSet::new() }
    }

    /// No tuple.
    pub fn nothing() -> TupleSet {
        TupleSet { all: false, selectors: BTreeSet::new() }
    }

    /// The tuples that any of these selects; with `all`, each other one too.
    pub fn new(all: bool, mut selectors: BTreeSet<Selector>) -> TupleSet {
        if all {
            selectors.retain(|selector| matches!(selector, Selector::Class(_)));
        }
        TupleSet { all, selectors }
    }

    /// Whether it selects no tuple at all.
    pub fn is_nothing(&self) -> bool {
        !self.all && self.selectors.is_empty()
    }

    /// Whether it selects every tuple.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether a tuple is among them.
    pub fn selects(&self, id: &PartId, fields: &Fields) -> bool {
        self.all || self.selectors.iter().any(|selector| selector.selects(id, fields))
    }

    /// Whether a tuple's class is selected.
    pub fn selects_class(&self, id: &PartId, fields: &Fields) -> bool {
        let is_class = |selector: &&Selector| matches!(selector, Selector::Class(_));
        self.selectors.iter().filter(is_class).any(|selector| selector.selects(id, fields))
    }

    fn includes(&self, other: &TupleSet) -> bool {
        let covered = |selector: &Selector| {
            self.selectors.contains(selector)
                || (self.all && !matches!(selector, Selector::Class(_)))
        };
        (self.all || !other.all) && other.selectors.iter().all(covered)
    }

    fn union(&self, other: &TupleSet) -> TupleSet {
        TupleSet::new(self.all || other.all, &self.selectors | &other.selectors)
    }
}

impl Selector {
    /// Whether it selects a tuple.
    pub fn selects(&self, id: &PartId, fields: &Fields) -> bool {
        let field = |name: &str| fields.get(name).map(|value| &**value);
        match self {
            Selector::Class(class) => field("class") == Some(&**class),
            Selector::Id(own) => own == id,
            Selector::Scheme(scheme) => field("contact")
                .and_then(|uri| uri.split_once(':'))
                .is_some_and(|(own, _)| own.eq_ignore_ascii_case(scheme)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Class(class) => write!(f, "class:{class}"),
            Selector::Id(id) => write!(f, "id:{id}"),
            Selector::Scheme(scheme) => write!(f, "scheme:{scheme}"),
        }
    }
}

impl Grants {
    /// These fields of these tuples, of the person and of devices.
    pub fn new(fields: FieldSet, tuples: TupleSet) -> Grants {
        Grants(Arc::new(Granted { fields, tuples }))
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

    /// The granted tuples.
    pub fn tuples(&self) -> &TupleSet {
        &self.0.tuples
    }

    /// Whether all that `other` grants is granted here.
    pub fn includes(&self, other: &Grants) -> bool {
        self.0.fields.includes(&other.0.fields) && self.0.tuples.includes(&other.0.tuples)
    }

    /// What either grants.
    #[must_use]
    pub fn union(self, other: &Grants) -> Grants {
        if self.includes(other) {
            self
        } else if other.includes(&self) {
            other.clone()
        } else {
            Grants::new(self.0.fields.union(&other.0.fields), self.0.tuples.union(&other.0.tuples))
        }
    }

    /// In words for the owner: the fields, then what selects tuples unless all are granted.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.0.fields.words();
        if !self.0.tuples.all {
            words.extend(self.0.tuples.selectors.iter().map(Selector::to_string));
        }
        words
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grants({:?}, {:?})", self.0.fields, self.0.tuples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> FieldSet {
        FieldSet::Only(names.iter().map(|name| FieldName::parse(name).unwrap()).collect())
    }

    #[test]
    fn a_union_grants_what_either_grants() {
        let a = Grants::new(only(&["note"]), TupleSet::nothing());
        let b = Grants::new(only(&["mood"]), TupleSet::all());
        let both = a.clone().union(&b);
        assert_eq!(both, Grants::new(only(&["mood", "note"]), TupleSet::all()));
        assert!(both.includes(&a) && both.includes(&b) && !a.includes(&b));
        assert_eq!(Grants::everything().union(&a), Grants::everything());
        assert_eq!(Grants::nothing().union(&b), b);
    }

    #[test]
    fn selectors_look_at_class_id_and_scheme() {
        let name = |text| FieldName::parse(text).unwrap();
        let fields = Fields::from([
            (name("class"), "work".into()),
            (name("contact"), "SIP:alice@a.example".into()),
        ]);
        let id = PartId::parse("desk").unwrap();
        assert!(Selector::Class("work".into()).selects(&id, &fields));
        assert!(!Selector::Class("wor".into()).selects(&id, &fields));
        assert!(Selector::Scheme("sip".into()).selects(&id, &fields));
        assert!(!Selector::Scheme("sips".into()).selects(&id, &fields));
        assert!(Selector::Id(id.clone()).selects(&id, &Fields::new()));
        assert!(!Selector::Class("work".into()).selects(&id, &Fields::new()));
    }
}
