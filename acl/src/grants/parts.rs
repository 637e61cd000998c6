//! Granted parts of a document: tuples, the person, devices; which of them, not what of them.
//!
//! One kind of set serves all three; what selects what is told apart where rules are read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use impp_protocol::presence::{Fields, PartId};

/// Granted parts of one kind (RFC 5025 3.3.1).
///
/// A part whose class is selected shows its class: only so does a view say itself why the part
/// is in it, and stays what it is when filtered again. Therefore classes stay in the set even
/// where all parts are granted; another grant on top must not hide them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartSet {
    all: bool,
    with_fields: bool,
    selectors: BTreeSet<Selector>,
}

/// One way to select parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// By the value of the field `class`.
    Class(Arc<str>),
    /// By id.
    Id(PartId),
    /// By the scheme of its contact URI, in lower case.
    Scheme(Arc<str>),
    /// By its contact URI; the scheme of both is compared without regard to case.
    Uri(Arc<str>),
    /// By the value of the field `device-id`.
    DeviceId(Arc<str>),
}

impl PartSet {
    /// Each part.
    pub fn all() -> PartSet {
        PartSet { all: true, with_fields: false, selectors: BTreeSet::new() }
    }

    /// No part.
    pub fn nothing() -> PartSet {
        PartSet { all: false, with_fields: false, selectors: BTreeSet::new() }
    }

    /// Each part of which a granted field shows.
    pub fn with_fields() -> PartSet {
        PartSet { all: false, with_fields: true, selectors: BTreeSet::new() }
    }

    /// The parts that any of these selects; with `all`, each other one too.
    pub fn new(all: bool, selectors: BTreeSet<Selector>) -> PartSet {
        PartSet { all, with_fields: false, selectors }.tidy()
    }

    /// Whether it selects no part at all.
    pub fn is_nothing(&self) -> bool {
        !self.all && !self.with_fields && self.selectors.is_empty()
    }

    /// Whether it selects every part.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether it selects some part though no granted field shows of it.
    pub fn is_named(&self) -> bool {
        self.all || !self.selectors.is_empty()
    }

    /// Whether a part is among them, and its class with it; `any` says whether any granted field
    /// shows of it. The person has no id.
    pub fn selects(&self, id: Option<&PartId>, fields: &Fields, any: bool) -> Selected {
        let mut selected = Selected { shown: self.all || (self.with_fields && any), class: false };
        for selector in &self.selectors {
            let found = selector.selects(id, fields);
            selected.shown |= found;
            selected.class |= found && matches!(selector, Selector::Class(_));
        }
        selected
    }

    pub(super) fn includes(&self, other: &PartSet) -> bool {
        let covered = |selector: &Selector| {
            self.selectors.contains(selector)
                || (self.all && !matches!(selector, Selector::Class(_)))
        };
        (self.all || !other.all)
            && (self.all || self.with_fields || !other.with_fields)
            && other.selectors.iter().all(covered)
    }

    pub(super) fn union(&self, other: &PartSet) -> PartSet {
        let selectors = &self.selectors | &other.selectors;
        let (all, with_fields) = (self.all || other.all, self.with_fields || other.with_fields);
        PartSet { all, with_fields, selectors }.tidy()
    }

    /// The same without what is opened by fields alone: there are none.
    pub(super) fn without_fields(mut self) -> PartSet {
        self.with_fields = false;
        self
    }

    fn tidy(mut self) -> PartSet {
        if self.all {
            self.with_fields = false;
            self.selectors.retain(|selector| matches!(selector, Selector::Class(_)));
        }
        self
    }

    /// All that makes the set what it is, in words: two sets with the same words are the same.
    pub(super) fn whole_words(&self) -> Vec<String> {
        let opened = [("all", self.all), ("by-fields", self.with_fields)];
        let opened = opened.into_iter().filter(|(_, is)| *is).map(|(word, _)| word.to_owned());
        opened.chain(self.selectors.iter().map(Selector::to_string)).collect()
    }

    /// What selects, as rules write it; `all` alone where all are.
    pub fn words(&self) -> Vec<String> {
        match self.all {
            true => vec!["all".to_owned()],
            false => self.selectors.iter().map(Selector::to_string).collect(),
        }
    }
}

/// How a set takes a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// It is shown.
    pub shown: bool,
    /// Its class is selected, and shown with it.
    pub class: bool,
}

impl Selector {
    /// Whether it selects a part.
    pub fn selects(&self, id: Option<&PartId>, fields: &Fields) -> bool {
        let field = |name: &str| fields.get(name).map(|value| &**value);
        match self {
            Selector::Class(class) => field("class") == Some(&**class),
            Selector::Id(own) => id == Some(own),
            Selector::DeviceId(urn) => field("device-id") == Some(&**urn),
            Selector::Scheme(scheme) => field("contact")
                .and_then(|uri| uri.split_once(':'))
                .is_some_and(|(own, _)| own.eq_ignore_ascii_case(scheme)),
            Selector::Uri(uri) => field("contact")
                .and_then(|own| own.split_once(':').zip(uri.split_once(':')))
                .is_some_and(|(a, b)| a.0.eq_ignore_ascii_case(b.0) && a.1 == b.1),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Class(class) => write!(f, "class:{class}"),
            Selector::Id(id) => write!(f, "id:{id}"),
            Selector::Scheme(scheme) => write!(f, "scheme:{scheme}"),
            Selector::Uri(uri) => write!(f, "uri:{uri}"),
            Selector::DeviceId(urn) => write!(f, "device-id:{urn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::presence::FieldName;

    #[test]
    fn selectors_look_at_class_id_scheme_uri_and_device_id() {
        let name = |text| FieldName::parse(text).unwrap();
        let fields = Fields::from_iter([
            (name("class"), "work".into()),
            (name("contact"), "SIP:alice@a.example".into()),
            (name("device-id"), "urn:uuid:1".into()),
        ]);
        let id = &PartId::parse("desk").unwrap();
        let selects = |selector: Selector| selector.selects(Some(id), &fields);
        assert!(selects(Selector::Class("work".into())));
        assert!(!selects(Selector::Class("wor".into())));
        assert!(selects(Selector::Scheme("sip".into())));
        assert!(!selects(Selector::Scheme("sips".into())));
        assert!(selects(Selector::Uri("sip:alice@a.example".into())));
        assert!(!selects(Selector::Uri("sip:Alice@a.example".into())));
        assert!(!selects(Selector::Uri("sip:alice@a.example.org".into())));
        assert!(selects(Selector::DeviceId("urn:uuid:1".into())));
        assert!(!selects(Selector::DeviceId("urn:uuid:".into())));
        assert!(Selector::Id(id.clone()).selects(Some(id), &Fields::default()));
        assert!(!Selector::Id(id.clone()).selects(None, &Fields::default()));
        assert!(!Selector::Class("work".into()).selects(Some(id), &Fields::default()));
    }
}
