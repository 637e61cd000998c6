//! PIDF with RPID as a presence document of ours.

use impp_protocol::Address;
use impp_protocol::presence::document::TUPLES_MAX;
use impp_protocol::presence::{
    Document, FieldName, Fields, PartId, Parts, UserInput, canonical_value,
};
use impp_protocol::time::Timestamp;

use super::{CIPID, ELEMENTS, Form, MODEL, OWN, PIDF, PLACE_IS, PLACES, PidfError, RPID, Read};
use crate::xml::{self, Element};

const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// Reads a document.
///
/// # Errors
/// [`PidfError`] names the line. What has no field is no error: it is named in [`Read::lost`].
pub fn read(bytes: &[u8]) -> Result<Read, PidfError> {
    let root = xml::parse(bytes)?;
    if !root.is(PIDF, "presence") {
        return Err(wrong(&root, format!("expected <presence> of {PIDF}, got <{}>", root.name)));
    }
    let named = root.attribute("entity").ok_or_else(|| wrong(&root, "<presence> has no entity"))?;
    let entity = Address::parse(named).map_err(|error| wrong(&root, format!("entity: {error}")))?;
    let mut reading = Reading::default();
    let mut notes = Vec::new();
    for child in &root.children {
        match (&*child.namespace, &*child.name) {
            (PIDF, "tuple") => {
                let id = part_id(child)?;
                let fields = reading.part(child)?;
                insert(&mut reading.document.tuples, id, fields, child)?;
            }
            (PIDF, "note") => notes.push(child),
            (MODEL, "person") if reading.is_person => reading.lose(child, "a second person"),
            (MODEL, "person") => {
                reading.is_person = true;
                reading.document.person = reading.part(child)?;
            }
            (MODEL, "device") => {
                let id = part_id(child)?;
                let fields = reading.part(child)?;
                insert(&mut reading.document.devices, id, fields, child)?;
            }
            _ => reading.lose(child, "has no field"),
        }
    }
    // RFC 4479 3.6: they are those of a person without notes.
    let mut person = std::mem::take(&mut reading.document.person);
    notes.into_iter().for_each(|note| reading.put(&mut person, note, "note", &note.text));
    reading.document.person = person;
    let fits = reading.document.check_counts();
    fits.map_err(|_| wrong(&root, "more fields in a part than a document holds"))?;
    Ok(Read { entity, document: reading.document, lost: reading.lost })
}

#[derive(Default)]
struct Reading {
    document: Document,
    is_person: bool,
    lost: Vec<String>,
}

impl Reading {
    fn lose(&mut self, element: &Element, why: &str) {
        self.lost.push(format!("line {}: <{}>: {why}", element.line, element.name));
    }

    /// The fields of a tuple, of the person or of a device.
    fn part(&mut self, part: &Element) -> Result<Fields, PidfError> {
        let mut fields = Fields::default();
        for child in &part.children {
            let value = child.text.trim();
            match (&*child.namespace, &*child.name) {
                (PIDF, "status") => self.status(&mut fields, child)?,
                (PIDF, "contact") => {
                    self.put(&mut fields, child, "contact", value);
                    // RFC 3863 4.1.5: one that is none is as if it were not there.
                    if let Some(priority) = child.attribute("priority") {
                        self.put(&mut fields, child, "priority", priority.trim());
                    }
                }
                (PIDF | MODEL, "note") => self.put(&mut fields, child, "note", &child.text),
                (PIDF | MODEL, "timestamp") => self.put(&mut fields, child, "timestamp", value),
                (MODEL, "deviceID") => self.put(&mut fields, child, "device-id", value),
                (OWN, "field") => {
                    let name = child.attribute("name").unwrap_or_default();
                    self.put(&mut fields, child, name, &child.text);
                }
                _ => self.element(&mut fields, child),
            }
        }
        Ok(fields)
    }

    fn status(&mut self, fields: &mut Fields, status: &Element) -> Result<(), PidfError> {
        for child in &status.children {
            match (child.is(PIDF, "basic"), child.text.trim()) {
                (true, basic @ ("open" | "closed")) => self.put(fields, child, "status", basic),
                (true, other) => {
                    let fault = format!("<basic> is {other:?}, expected open or closed");
                    return Err(wrong(child, fault));
                }
                (false, _) => self.lose(child, "has no field"),
            }
        }
        Ok(())
    }

    /// An element of RPID or CIPID.
    fn element(&mut self, fields: &mut Fields, element: &Element) {
        let row = ELEMENTS
            .iter()
            .find(|(_, namespace, name, _)| element.is(namespace, name))
            .filter(|(_, namespace, ..)| [RPID, CIPID].contains(namespace));
        let Some((field, _, _, form)) = row else {
            return self.lose(element, "has no field");
        };
        let value = match form {
            Form::Text => Some(element.text.clone()),
            Form::Token => Some(element.text.trim().to_owned()),
            Form::Choice(..) | Form::Words(..) | Form::Place => {
                let words = self.words(element);
                match form {
                    Form::Words(..) => Some(words.join(" ")),
                    _ => words.into_iter().next(),
                }
            }
            Form::PlaceIs => Some(self.place_is(element)),
            Form::UserInput => user_input(element),
        };
        for name in ["from", "until"] {
            if element.attribute(name).is_some() {
                self.lose(element, &format!("its {name:?} has no field"));
            }
        }
        match value.filter(|value| !value.is_empty()) {
            Some(value) => self.put(fields, element, field, &value),
            None => self.lose(element, "nothing in it has a field"),
        }
    }

    /// The words that elements are, or have in them.
    fn words(&mut self, element: &Element) -> Vec<String> {
        let mut words = Vec::new();
        for child in &element.children {
            let text = child.text.trim();
            match (&*child.namespace, &*child.name) {
                (RPID, "note") => self.lose(child, "a note within has no field"),
                (RPID, "other") | (OWN, "word") if !text.is_empty() => words.push(text.to_owned()),
                (RPID | PLACES, name) => words.push(name.to_owned()),
                _ => self.lose(child, "is no word of RPID"),
            }
        }
        words
    }

    fn place_is(&mut self, element: &Element) -> String {
        let mut words = Vec::new();
        for (kind, values) in PLACE_IS {
            let found = element.children.iter().find(|child| child.is(RPID, kind));
            let value = found.and_then(|kind| kind.children.first());
            if let Some(value) = value.filter(|value| values.contains(&&*value.name)) {
                words.push(format!("{kind}={}", value.name));
            }
        }
        for child in &element.children {
            if !PLACE_IS.iter().any(|(kind, _)| child.is(RPID, kind)) {
                self.lose(child, "has no field");
            }
        }
        words.join(" ")
    }

    /// Puts a field into a part: the first of its name.
    fn put(&mut self, fields: &mut Fields, element: &Element, name: &str, value: &str) {
        let Some(field) = FieldName::parse(name) else {
            return self.lose(element, &format!("no field has the name {name:?}"));
        };
        let Some(value) = canonical_value(&field, value) else {
            return self.lose(element, &format!("no value of {name}"));
        };
        if let Some(language) = element.attributes.get(&(XML.to_owned(), "lang".to_owned())) {
            self.lose(element, &format!("its language {language:?} has no field"));
        }
        match fields.contains_key(&field) {
            true => {
                self.lose(element, &format!("there is one {name} already, and only one is held"))
            }
            false => drop(fields.insert(field, value)),
        }
    }
}

fn user_input(element: &Element) -> Option<String> {
    let idle = match element.text.trim() {
        "active" => false,
        "idle" => true,
        _ => return None,
    };
    let idle_threshold = element.attribute("idle-threshold").and_then(|text| text.parse().ok());
    let last_input = element.attribute("last-input").and_then(Timestamp::parse);
    Some(UserInput { idle, idle_threshold, last_input }.to_string())
}

fn part_id(part: &Element) -> Result<PartId, PidfError> {
    let id =
        part.attribute("id").ok_or_else(|| wrong(part, format!("<{}> has no id", part.name)))?;
    PartId::parse(id)
        .ok_or_else(|| wrong(part, format!("id {id:?}: expected 1 to 64 visible ASCII characters")))
}

fn insert(parts: &mut Parts, id: PartId, fields: Fields, part: &Element) -> Result<(), PidfError> {
    if parts.len() == TUPLES_MAX {
        return Err(wrong(part, format!("more than {TUPLES_MAX} of <{}>", part.name)));
    }
    match parts.contains_key(&id) {
        true => Err(wrong(part, format!("the id {id} is there twice"))),
        false => {
            parts.insert(id, fields);
            Ok(())
        }
    }
}

fn wrong(element: &Element, fault: impl Into<String>) -> PidfError {
    PidfError::Wrong { line: element.line, fault: fault.into() }
}
