use impp_protocol::presence::document::VALUE_BYTES_MAX;
use impp_protocol::presence::name::REGISTRY;
use impp_protocol::presence::{FieldName, FieldType, Fields, PartId, canonical_value};
use proptest::prelude::*;

use super::*;
use crate::xml::{self, DEPTH_MAX, ELEMENTS_MAX, Element, XML_BYTES_MAX};

const EXCHANGED: &[u8] = include_bytes!("../../corpus/pidf/pidf-rpid.xml");
const CARRIED: &[u8] = include_bytes!("../../corpus/pidf/carried.xml");

fn owner() -> Address {
    "erin@a.example".parse().unwrap()
}

fn part(id: &str) -> PartId {
    PartId::parse(id).unwrap()
}

/// What XML says, whatever its prefixes, its order of attributes and the lines between elements.
fn canonical(bytes: &[u8]) -> Element {
    fn plain(element: &mut Element) {
        element.line = 0;
        if !element.children.is_empty() {
            element.text.clear();
        }
        element.children.iter_mut().for_each(plain);
    }
    let mut root = xml::parse(bytes).unwrap();
    plain(&mut root);
    root
}

#[test]
fn r3_1_1_what_has_a_field_comes_out_as_it_was() {
    let read = read(CARRIED).unwrap();
    assert_eq!(read.lost, Vec::<String>::new());
    let written = write(&read.entity, &read.document);
    assert_eq!(written.lost, Vec::<String>::new());
    assert_eq!(canonical(written.xml.as_bytes()), canonical(CARRIED), "{}", written.xml);
}

#[test]
fn r3_1_1_r3_1_6_a_document_of_others_is_read_and_what_is_lost_is_told() {
    let Read { entity, document, lost } = read(EXCHANGED).unwrap();
    assert_eq!(entity, owner());
    let desk = &document.tuples[&part("desk7")];
    for (name, value) in [
        ("status", "open"),
        ("class", "work"),
        ("contact", "im:erin@a.example"),
        ("priority", "0.8"),
        ("note", "second floor"),
        ("timestamp", "2026-11-29T00:20:00Z"),
    ] {
        assert_eq!(&**desk.get(name).unwrap(), value);
    }
    assert_eq!(&**document.tuples[&part("phone-1")].get("contact").unwrap(), "tel:+15550100");
    assert_eq!(&**document.person.get("activities").unwrap(), "meeting on-the-phone");
    assert_eq!(&**document.person.get("mood").unwrap(), "relaxed");
    let input = "idle idle-threshold=600 last-input=2026-11-29T01:00:00Z";
    assert_eq!(&**document.person.get("user-input").unwrap(), input);
    let device = document.devices[&part("d1")].get("device-id").unwrap();
    assert_eq!(&**device, "urn:uuid:00000000-0000-4000-8000-000000000001");
    let told = [
        "line 3: <ring>: has no field",
        "line 3: <note>: its language \"en\" has no field",
        "line 3: <note>: its language \"de\" has no field",
        "line 3: <note>: there is one note already, and only one is held",
        "line 5: <kiosk>: is no word of RPID",
        "line 5: <place-type>: nothing in it has a field",
    ];
    assert_eq!(lost, told);
}

#[test]
fn prefixes_may_be_anything_and_entities_are_five() {
    let text = r#"<a:presence xmlns:a="urn:ietf:params:xml:ns:pidf" entity="im:erin@a.example">
        <tuple xmlns="urn:ietf:params:xml:ns:pidf" id="a"><status><basic> open </basic></status>
        <b:note xmlns:b="urn:ietf:params:xml:ns:pidf">&lt;&amp;&gt;&apos;&quot;&#65;<![CDATA[<]]></b:note>
        <note>x</note></tuple><a:note>of the person</a:note></a:presence>"#;
    let read = read(text.as_bytes()).unwrap();
    assert_eq!(&**read.document.tuples[&part("a")].get("note").unwrap(), "<&>'\"A<");
    assert_eq!(&**read.document.tuples[&part("a")].get("status").unwrap(), "open");
    assert_eq!(&**read.document.person.get("note").unwrap(), "of the person");
}

#[test]
fn a12_what_is_no_document_is_told_with_its_line() {
    let with = |inside: &str| {
        format!(
            "<presence xmlns=\"{PIDF}\"\n xmlns:r=\"{RPID}\" entity=\"pres:erin@a.example\">\n{inside}</presence>"
        )
    };
    let tuple = |id: &str| format!("<tuple id=\"{id}\"><status/></tuple>");
    let deep = format!("{}{}", "<x>".repeat(DEPTH_MAX), "</x>".repeat(DEPTH_MAX));
    for (text, told) in [
        (String::new(), "line 1: no element"),
        ("<presence entity=\"pres:erin@a.example\"/>".to_owned(), "line 1: expected <presence> of"),
        (with("").replace("pres:erin@a.example", "erin"), "line 3: entity: no domain"),
        (format!("<!DOCTYPE x [<!ENTITY e \"ee\">]>{}", with("")), "line 1: a DTD"),
        (with("<note>&e;</note>"), "line 3: no entity &e;"),
        (with("<note>&#0;</note>"), "line 3: "),
        (with("<note x=\"&e;\"/>"), "line 3: "),
        (with("<note x=\"1\" x=\"2\"/>"), "line 3: "),
        (with("<note>\u{1}</note>"), "line 3: a character that XML does not have"),
        (with("<z:note/>"), "line 3: "),
        (with("<note>"), "line 3: "),
        (with("<tuple/>"), "line 3: <tuple> has no id"),
        (with(&tuple("a b")), "line 3: id \"a b\": expected 1 to 64 visible ASCII characters"),
        (with(&format!("{}\n{}", tuple("a"), tuple("a"))), "line 4: the id a is there twice"),
        (
            with("<tuple id=\"a\"><status><basic>away</basic></status></tuple>"),
            "line 3: <basic> is \"away\"",
        ),
        (with(&deep), "line 3: elements nested deeper than 32"),
        (with(&"<x/>".repeat(ELEMENTS_MAX)), "line 3: more than 2048 elements"),
        (" ".repeat(XML_BYTES_MAX + 1), "line 1: 65537 bytes"),
        (
            format!("<?xml version=\"1.0\" encoding=\"latin1\"?>{}", with("")),
            "line 1: encoding latin1",
        ),
    ] {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(told), "{told}: {error}");
    }
    let many: String = (0..17).map(|id| tuple(&id.to_string())).collect();
    assert!(read(with(&many).as_bytes()).is_err());
    assert!(read(with("<note>\u{ff}</note>").replace('\u{ff}', "").as_bytes()).is_ok());
}

fn any_field() -> impl Strategy<Value = (FieldName, std::sync::Arc<str>)> {
    let names: Vec<&str> =
        REGISTRY.iter().map(|(name, ..)| *name).chain(["org.example.seat"]).collect();
    let values = prop_oneof![
        "\\PC{1,8}",
        "[ \n\t<>&'\"a\u{85}]{1,6}",
        proptest::sample::select(vec![
            "work",
            "in-person",
            "office",
            "other",
            "happy tired other",
            "self",
            "audio=ok text=ok",
            "text=ok audio=ok",
            "audio=loud",
            "idle idle-threshold=5",
            "active ",
            "\u{ffff}",
        ])
        .prop_map(str::to_owned),
    ];
    (proptest::sample::select(names), values).prop_filter_map("no value", |(name, value)| {
        let field = FieldName::parse(name).unwrap();
        let value = match field.field_type() {
            FieldType::Status => "open".to_owned(),
            FieldType::Priority => "0.25".to_owned(),
            FieldType::Time => "2026-12-01T09:00:00.5Z".to_owned(),
            FieldType::Integer => "-60".to_owned(),
            FieldType::Text | FieldType::Words => value,
        };
        let value = canonical_value(&field, &value)?;
        assert!(value.len() <= VALUE_BYTES_MAX);
        Some((field, value))
    })
}

fn any_fields() -> impl Strategy<Value = Fields> {
    proptest::collection::vec(any_field(), 0..9).prop_map(|pairs| pairs.into_iter().collect())
}

fn any_document() -> impl Strategy<Value = Document> {
    let id = || "[a-d<&\"]{1,2}|person".prop_map(|id| PartId::parse(&id).unwrap());
    let parts = || proptest::collection::btree_map(id(), any_fields(), 0..3);
    (any_fields(), parts(), parts()).prop_map(|(person, tuples, devices)| Document {
        person,
        tuples: tuples.into_iter().collect(),
        devices: devices.into_iter().collect(),
    })
}

/// A form that this registry does not have may come from elsewhere: it is a field of our own, and no XML.
#[test]
fn a_form_that_is_not_known_makes_no_element() {
    let mut document = Document::default();
    let mut tuple = Fields::default();
    let evil = "open</basic></status></tuple><tuple id=\"x\"><status><basic>open";
    for (name, value) in
        [("contact", "im:eve@evil.example"), ("priority", "1\" x=\"2"), ("status", evil)]
    {
        tuple.insert(FieldName::parse(name).unwrap(), value.into());
    }
    tuple.insert(FieldName::heard("weather").unwrap(), "rain".into());
    document.tuples.insert(PartId::parse("t").unwrap(), tuple);
    let written = write(&owner(), &document).xml;
    assert_eq!(written.matches("<tuple").count(), 1, "{written}");
    assert!(!written.contains("<basic>") && !written.contains("priority=\""), "{written}");
    let read = read(written.as_bytes()).unwrap();
    assert_eq!(read.document.tuples.len(), 1);
    assert_eq!(read.lost.len(), 3, "{:?}", read.lost);
}

proptest! {
    #[test]
    fn r3_1_1_what_we_write_is_read_as_what_it_was(mut document in any_document()) {
        let written = write(&owner(), &document);
        let read = read(written.xml.as_bytes()).unwrap();
        let parts = document.tuples.iter_mut().chain(document.devices.iter_mut()).map(|(_, part)| part);
        let mut lost = 0;
        for fields in parts.chain([&mut document.person]) {
            let before = fields.len();
            fields.retain(|_, value| !value.contains(['\u{fffe}', '\u{ffff}']));
            lost += before - fields.len();
        }
        prop_assert_eq!(written.lost.len(), lost);
        prop_assert_eq!(&read.document, &document, "{}", written.xml);
        prop_assert_eq!(read.lost, Vec::<String>::new());
        // Written again it is the same.
        prop_assert_eq!(write(&owner(), &read.document).xml, write(&owner(), &document).xml);
    }

    #[test]
    fn any_bytes_are_a_document_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&bytes);
    }
}
