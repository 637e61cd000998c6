//! The filter, case by case; its laws are in `tests/laws/main.rs`.

use std::collections::BTreeSet;

use super::*;
use crate::grants::{Parts, Selector};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(n, v)| (FieldName::parse(n).unwrap(), (*v).into())).collect()
}

fn id(text: &str) -> PartId {
    PartId::parse(text).unwrap()
}

fn full() -> Document {
    let work = fields(&[
        ("class", "work"),
        ("contact", "sip:alice@a.example"),
        ("note", "at my desk"),
        ("priority", "0.8"),
        ("status", "open"),
        ("timestamp", "2026-01-01T00:00:00Z"),
    ]);
    let home = fields(&[("class", "home"), ("status", "closed")]);
    let phone = fields(&[("device-id", "urn:x:1"), ("user-input", "idle")]);
    Document {
        person: fields(&[("mood", "happy"), ("timestamp", "2026-01-02T00:00:00Z")]),
        tuples: impp_protocol::presence::Parts::from_iter([(id("t1"), work), (id("t2"), home)]),
        devices: impp_protocol::presence::Parts::from_iter([(id("phone"), phone)]),
    }
}

fn view(names: &[&str], tuples: PartSet) -> Document {
    let granted = match names {
        ["all"] => FieldSet::All,
        names => FieldSet::of(names.iter().map(|n| FieldName::parse(n).unwrap())),
    };
    let key = ViewKey(Shown::Granted(Grants::new(granted, Parts::tuples(tuples))));
    key.apply(&full()).into_document()
}

fn selected(selector: Selector) -> PartSet {
    PartSet::new(false, BTreeSet::from([selector]))
}

#[test]
fn all_shows_the_document() {
    assert_eq!(view(&["all"], PartSet::all()), full());
}

#[test]
fn status_shows_tuples_with_what_always_shows_and_nothing_else() {
    let shown = view(&["status"], PartSet::all());
    assert!(shown.person.is_empty() && shown.devices.is_empty());
    let names: Vec<&str> = shown.tuples[&id("t1")].keys().map(FieldName::as_str).collect();
    assert_eq!(names, ["contact", "priority", "status", "timestamp"]);
    assert_eq!(shown.tuples[&id("t2")], fields(&[("status", "closed")]));
    assert_eq!(shown, view(&[], PartSet::all()));
}

#[test]
fn the_person_comes_with_its_time_once_a_field_is_granted() {
    assert_eq!(view(&["mood"], PartSet::all()).person, full().person);
    assert!(view(&["note"], PartSet::all()).person.is_empty());
}

#[test]
fn devices_come_with_their_id_once_a_field_is_granted() {
    assert_eq!(view(&["user-input"], PartSet::all()).devices, full().devices);
    let ids = view(&["device-id"], PartSet::all()).devices;
    assert_eq!(ids[&id("phone")], fields(&[("device-id", "urn:x:1")]));
    assert!(view(&["mood"], PartSet::all()).devices.is_empty());
}

#[test]
fn selectors_choose_tuples_and_a_tuple_shown_for_its_class_shows_it() {
    let by_class = view(&[], selected(Selector::Class("work".into())));
    assert_eq!(by_class.tuples.keys().collect::<Vec<_>>(), [&id("t1")]);
    assert_eq!(by_class.tuples[&id("t1")].get("class").map(|v| &**v), Some("work"));
    let by_id = view(&[], selected(Selector::Id(id("t1"))));
    assert_eq!(by_id.tuples[&id("t1")].get("class"), None);
    let by_scheme = view(&[], selected(Selector::Scheme("sip".into())));
    assert_eq!(by_scheme, by_id);
}

#[test]
fn nothing_left_is_offline() {
    assert_eq!(view(&[], selected(Selector::Class("none".into()))), Document::offline());
    assert_eq!(view(&["note"], PartSet::nothing()), Document::offline());
    let person_only = view(&["mood"], PartSet::nothing());
    assert!(person_only.tuples.is_empty() && !person_only.person.is_empty());
}
