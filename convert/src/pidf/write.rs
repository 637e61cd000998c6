//! A presence document of ours as PIDF with RPID.

use std::fmt::Write;

use impp_protocol::Address;
use impp_protocol::presence::{Document, FieldName, Fields, UserInput, canonical_value};
use quick_xml::escape::escape;

use super::{
    CIPID, ELEMENTS, Form, MODEL, OWN, PIDF, PLACE_IS, PLACE_TYPES, PLACES, RPID, Written,
};
use crate::uri;
use crate::xml::is_xml_char;

/// Writes somebody's document. What has no element of RFC 3863, 4479 or 4480 where it stands is
/// written as an element of our own, `<field name="…">`.
pub fn write(entity: &Address, document: &Document) -> Written {
    let mut lost = Vec::new();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let entity = uri("pres", entity);
    let _ = writeln!(
        out,
        "<presence xmlns=\"{PIDF}\" xmlns:dm=\"{MODEL}\" xmlns:rpid=\"{RPID}\"\n  \
         xmlns:c=\"{CIPID}\" xmlns:lt=\"{PLACES}\"\n  xmlns:impp=\"{OWN}\" entity=\"{}\">",
        escape(&*entity)
    );
    for (id, fields) in &document.tuples {
        part(&mut out, &mut lost, Part::Tuple, id.as_str(), fields);
    }
    if !document.person.is_empty() {
        part(&mut out, &mut lost, Part::Person, &person_id(document), &document.person);
    }
    for (id, fields) in &document.devices {
        part(&mut out, &mut lost, Part::Device, id.as_str(), fields);
    }
    out.push_str("</presence>\n");
    Written { xml: out, lost }
}

/// An id that no tuple and no device has: RFC 4479 wants them unique in a document.
fn person_id(document: &Document) -> String {
    let mut id = "person".to_owned();
    let is_taken =
        |id: &str| document.tuples.keys().chain(document.devices.keys()).any(|k| k.as_str() == id);
    while is_taken(&id) {
        id.push('_');
    }
    id
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Tuple,
    Person,
    Device,
}

/// Writes a part: its elements in the order that the schemas want.
fn part(out: &mut String, lost: &mut Vec<String>, kind: Part, id: &str, fields: &Fields) {
    let (name, prefix) = match kind {
        Part::Tuple => ("tuple", ""),
        Part::Person => ("dm:person", "dm:"),
        Part::Device => ("dm:device", "dm:"),
    };
    let _ = writeln!(out, "  <{name} id=\"{}\">", escape(id));
    if kind == Part::Tuple {
        let status = fields.get("status").filter(|status| has_form("status", status));
        let basic = status.map(|status| format!("<basic>{}</basic>", escape(&**status)));
        let _ = writeln!(out, "    <status>{}</status>", basic.unwrap_or_default());
    }
    let (mut own, mut last) = (String::new(), Last::default());
    for (field, value) in fields {
        if !value.chars().all(is_xml_char) {
            lost.push(format!("{field} of {id}: it has a character that XML does not have"));
            continue;
        }
        // A form that grew elsewhere has no element here.
        let is_known = has_form(field.as_str(), value);
        if is_known && last.takes(kind, prefix, field.as_str(), value, fields) {
            continue;
        }
        match element(field.as_str(), value).filter(|_| is_known) {
            Some(written) => drop(writeln!(out, "    {written}")),
            None => {
                let value = escape(&**value);
                let _ = writeln!(own, "    <impp:field name=\"{field}\">{value}</impp:field>");
            }
        }
    }
    let Last { device, contact, note, timestamp } = last;
    for text in [own, device, contact, note, timestamp] {
        out.push_str(&text);
    }
    let _ = writeln!(out, "  </{name}>");
}

/// Whether a value has the form that the field has here: others may have published more.
fn has_form(field: &str, value: &str) -> bool {
    let name = FieldName::parse(field);
    name.and_then(|name| canonical_value(&name, value)).as_deref() == Some(value)
}

/// What stands behind all other elements of a part.
#[derive(Default)]
struct Last {
    device: String,
    contact: String,
    note: String,
    timestamp: String,
}

impl Last {
    /// Takes a field that PIDF or the data model has an element for in such a part.
    fn takes(&mut self, kind: Part, prefix: &str, field: &str, value: &str, all: &Fields) -> bool {
        let text = escape(value);
        let is_token = value.trim() == value;
        match (field, kind) {
            // It is written.
            ("status", Part::Tuple) => {}
            ("priority", Part::Tuple) if all.get("contact").is_some_and(|c| is_contact(c)) => {}
            ("contact", Part::Tuple) if is_contact(value) => {
                let priority = all.get("priority").filter(|value| has_form("priority", value));
                let priority = priority.map(|value| format!(" priority=\"{}\"", escape(&**value)));
                let priority = priority.unwrap_or_default();
                self.contact = format!("    <contact{priority}>{text}</contact>\n");
            }
            ("device-id", Part::Tuple | Part::Device) if is_token => {
                self.device = format!("    <dm:deviceID>{text}</dm:deviceID>\n");
            }
            ("note", _) => self.note = format!("    <{prefix}note>{text}</{prefix}note>\n"),
            ("timestamp", _) => {
                self.timestamp = format!("    <{prefix}timestamp>{text}</{prefix}timestamp>\n");
            }
            _ => return false,
        }
        true
    }
}

/// Whether a contact stands in an element as it is.
fn is_contact(value: &str) -> bool {
    value.trim() == value && value.chars().all(is_xml_char)
}

/// The element of RPID or CIPID that says it, if one does.
fn element(field: &str, value: &str) -> Option<String> {
    let (_, namespace, name, form) = ELEMENTS.iter().find(|(known, ..)| *known == field)?;
    let prefix = if *namespace == CIPID { "c" } else { "rpid" };
    let inside = match form {
        Form::Text => escape(value).into_owned(),
        // Blanks around it would be lost.
        _ if value.trim() != value => return None,
        Form::Token => escape(value).into_owned(),
        Form::Choice(known, other) => word(value, known, *other),
        Form::Words(known, other) => value.split(' ').map(|one| word(one, known, *other)).collect(),
        Form::Place if PLACE_TYPES.contains(&value) => format!("<lt:{value}/>"),
        Form::Place => word(value, &[], true),
        Form::PlaceIs => place_is(value)?,
        Form::UserInput => return user_input(value),
    };
    Some(format!("<{prefix}:{name}>{inside}</{prefix}:{name}>"))
}

/// A word as RPID's element of that name; another one in `<other>` or a `<word>` of our own.
fn word(value: &str, known: &[&str], other: bool) -> String {
    match (known.contains(&value), other) {
        (true, _) => format!("<rpid:{value}/>"),
        (false, true) => format!("<rpid:other>{}</rpid:other>", escape(value)),
        (false, false) => format!("<impp:word>{}</impp:word>", escape(value)),
    }
}

/// `audio=noisy text=ok` as elements.
fn place_is(value: &str) -> Option<String> {
    let words: Vec<(&str, &str)> =
        value.split(' ').map(|word| word.split_once('=')).collect::<Option<_>>()?;
    let mut rest = words.as_slice();
    let mut written = String::new();
    for (kind, values) in PLACE_IS {
        if let [(named, value), more @ ..] = rest
            && named == kind
        {
            let known = values.contains(value);
            known.then_some(())?;
            let _ = write!(written, "<rpid:{kind}><rpid:{value}/></rpid:{kind}>");
            rest = more;
        }
    }
    rest.is_empty().then_some(written)
}

fn user_input(value: &str) -> Option<String> {
    let input = UserInput::parse(value).filter(|input| input.to_string() == value)?;
    let threshold = input.idle_threshold.map(|seconds| format!(" idle-threshold=\"{seconds}\""));
    let last = input.last_input.map(|time| format!(" last-input=\"{time}\""));
    let (threshold, last) = (threshold.unwrap_or_default(), last.unwrap_or_default());
    let word = if input.idle { "idle" } else { "active" };
    Some(format!("<rpid:user-input{threshold}{last}>{word}</rpid:user-input>"))
}
