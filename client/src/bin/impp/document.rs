//! Presence documents as JSON and as lines for people.

use std::collections::BTreeMap;

use impp_client::protocol::presence::{Document, Fields, Parts};
use serde::Serialize;

/// A document as scripts read it: fields by name, tuples and devices with their id.
#[derive(Debug, Serialize)]
pub(crate) struct DocumentJson {
    person: FieldsJson,
    tuples: Vec<PartJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<PartJson>,
}

type FieldsJson = BTreeMap<String, String>;

#[derive(Debug, Serialize)]
struct PartJson {
    id: String,
    #[serde(flatten)]
    fields: FieldsJson,
}

impl DocumentJson {
    pub(crate) fn of(document: &Document) -> DocumentJson {
        DocumentJson {
            person: fields(&document.person),
            tuples: parts(&document.tuples),
            devices: parts(&document.devices),
        }
    }
}

fn fields(fields: &Fields) -> FieldsJson {
    fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn parts(parts: &Parts) -> Vec<PartJson> {
    parts.iter().map(|(id, part)| PartJson { id: id.to_string(), fields: fields(part) }).collect()
}

/// The document in one line: `open: "in a meeting"`.
pub(crate) fn line(document: &Document) -> String {
    let statuses = document.tuples.values().filter_map(|tuple| tuple.get("status"));
    let mut statuses: Vec<&str> = statuses.map(|status| &**status).collect();
    // Somebody is open if any of their tuples is.
    statuses.sort_unstable_by_key(|status| *status != "open");
    // What else others may say comes as a text does: it begins no line of its own.
    let status = match statuses.first().copied() {
        Some(known @ ("open" | "closed")) => known.to_owned(),
        Some(other) => format!("{other:?}"),
        None => "of unknown status".to_owned(),
    };
    let notes = document.tuples.values().filter_map(|tuple| tuple.get("note"));
    match document.person.get("note").or_else(|| notes.into_iter().next()) {
        Some(note) => format!("{status}: {note:?}"),
        None => status,
    }
}

/// The document in full.
pub(crate) fn lines(document: &Document) -> String {
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        let value = value.replace('\n', "\n    ");
        text.push_str(&format!("  {name}: {value}\n"));
    };
    for (name, value) in &document.person {
        put(name.as_str(), value);
    }
    for (kind, parts) in [("tuple", &document.tuples), ("device", &document.devices)] {
        for (id, part) in parts {
            let words = part.iter().map(|(name, value)| format!("{name} {value}"));
            put(&format!("{kind} {id}"), &words.collect::<Vec<_>>().join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::presence::FieldName;

    fn document() -> Document {
        let mut document = Document::offline();
        document.person.insert(FieldName::parse("note").unwrap(), "a \"b\"\nc".into());
        document
    }

    #[test]
    fn json_is_as_in_the_contract() {
        assert_eq!(
            serde_json::to_string(&DocumentJson::of(&document())).unwrap(),
            r#"{"person":{"note":"a \"b\"\nc"},"tuples":[{"id":"im","status":"closed"}]}"#
        );
        assert_eq!(
            serde_json::to_string(&DocumentJson::of(&Document::default())).unwrap(),
            r#"{"person":{},"tuples":[]}"#
        );
    }

    #[test]
    fn people_read_a_line_or_all() {
        assert_eq!(line(&document()), "closed: \"a \\\"b\\\"\\nc\"");
        assert_eq!(line(&Document::default()), "of unknown status");
        assert_eq!(lines(&document()), "  note: a \"b\"\n    c\n  tuple im: status closed\n");
    }
}
