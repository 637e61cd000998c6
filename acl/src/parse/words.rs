//! The small words inside values: fields, selectors, spans of time, rates, rights.
//!
//! Which key takes which of them is left to the module above.

use std::time::Duration;

use impp_protocol::Timestamp;
use impp_protocol::presence::name::REGISTRY;
use impp_protocol::presence::{FieldName, PartId};

use super::reader::{Reader, Text};
use crate::conditions::Validity;
use crate::delegation::Right;
use crate::error::{RulesError, did_you_mean, one_of};
use crate::grants::{Depth, FieldSet, Selector};
use crate::rules::Rate;

/// A kind of part, and what selects of it.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) key: &'static str,
    selectors: &'static [&'static str],
}

impl Kind {
    pub(super) const TUPLES: Kind =
        Kind { key: "tuples", selectors: &["class:", "id:", "scheme:", "uri:"] };
    /// A document has one person, which has no id.
    pub(super) const PERSONS: Kind = Kind { key: "persons", selectors: &["class:"] };
    pub(super) const DEVICES: Kind =
        Kind { key: "devices", selectors: &["class:", "id:", "device-id:"] };
}

const RIGHTS: [&str; 6] =
    ["publish:FIELD", "publish-tuple:ID", "rules", "watchers", "inbox-read", "send-as"];
const PERIODS: &[(&str, u64)] = &[
    ("s", 1),
    ("sec", 1),
    ("second", 1),
    ("min", 60),
    ("minute", 60),
    ("h", 3_600),
    ("hour", 3_600),
    ("d", 86_400),
    ("day", 86_400),
];

/// A field's name.
pub(super) fn field(
    reader: Reader<'_>,
    text: &Text<'_>,
    name: &str,
) -> Result<FieldName, RulesError> {
    FieldName::parse(name).ok_or_else(|| {
        let known = REGISTRY.iter().map(|entry| entry.0).chain(["all"]);
        let hint = did_you_mean(name, known)
            .unwrap_or_else(|| "an extension's name has dots: \"org.example.seat\"".to_owned());
        reader.error(text.span.clone(), format!("unknown field \"{name}\"")).hinting(Some(hint))
    })
}

/// A field that is granted, perhaps by a step of it.
pub(super) fn granted(
    reader: Reader<'_>,
    text: &Text<'_>,
) -> Result<(FieldName, Depth), RulesError> {
    if let Some((name, _)) = text.value.split_once(':')
        && FieldName::parse(name).is_some()
    {
        return FieldSet::stepped(text.value).ok_or_else(|| {
            let steps = Depth::WORDS.map(|(word, _)| format!("user-input:{word}"));
            let error =
                reader.error(text.span.clone(), format!("unknown field \"{}\"", text.value));
            error.hinting(Some(one_of(steps.iter().map(String::as_str))))
        });
    }
    Ok((field(reader, text, text.value)?, Depth::Full))
}

/// A selector of parts of a kind.
pub(super) fn selector(
    reader: Reader<'_>,
    text: &Text<'_>,
    kind: Kind,
) -> Result<Selector, RulesError> {
    let known =
        |prefix: &str| kind.selectors.iter().any(|own| own.strip_suffix(':') == Some(prefix));
    let found = match text.value.split_once(':').filter(|(prefix, _)| known(prefix)) {
        Some(("class", class)) if !class.is_empty() => Some(Selector::Class(class.into())),
        Some(("id", id)) => PartId::parse(id).map(Selector::Id),
        Some(("scheme", scheme)) if is_scheme(scheme) => {
            Some(Selector::Scheme(scheme.to_ascii_lowercase().into()))
        }
        Some(("uri", uri)) => uri
            .split_once(':')
            .filter(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
            .map(|_| Selector::Uri(uri.into())),
        Some(("device-id", urn)) if !urn.is_empty() => Some(Selector::DeviceId(urn.into())),
        _ => None,
    };
    found.ok_or_else(|| {
        let error = reader.error(text.span.clone(), format!("bad selector \"{}\"", text.value));
        error.hinting(Some(one_of(kind.selectors.iter().copied().chain(["all"]))))
    })
}

/// A span `FROM/UNTIL`.
pub(super) fn validity(reader: Reader<'_>, text: &Text<'_>) -> Result<Validity, RulesError> {
    let Some((from, until)) = text.value.split_once('/') else {
        let error = reader.error(text.span.clone(), format!("bad span \"{}\"", text.value));
        let hint = "\"2026-12-01T00:00:00Z/2026-12-24T00:00:00Z\"".to_owned();
        return Err(error.hinting(Some(hint)));
    };
    let span = Validity { from: time(reader, text, from)?, until: time(reader, text, until)? };
    if span.from >= span.until {
        let message = format!("the span \"{}\" ends before it begins", text.value);
        return Err(reader.error(text.span.clone(), message));
    }
    Ok(span)
}

/// A point in time.
pub(super) fn time(
    reader: Reader<'_>,
    text: &Text<'_>,
    value: &str,
) -> Result<Timestamp, RulesError> {
    Timestamp::parse(value.trim()).ok_or_else(|| {
        let message = format!("bad time \"{value}\": expected RFC 3339");
        let hint = "\"2026-12-01T00:00:00Z\"".to_owned();
        reader.error(text.span.clone(), message).hinting(Some(hint))
    })
}

/// A rate `60/min`.
pub(super) fn rate(reader: Reader<'_>, text: &Text<'_>) -> Result<Rate, RulesError> {
    let parsed = text.value.split_once('/').and_then(|(count, period)| {
        let count = count.trim().parse().ok().filter(|count| *count > 0)?;
        let (_, seconds) = PERIODS.iter().find(|(word, _)| *word == period.trim())?;
        Some(Rate { count, period: Duration::from_secs(*seconds) })
    });
    parsed.ok_or_else(|| {
        let message = format!("bad rate \"{}\"", text.value);
        let hint = "a number per s, min, hour or day: \"60/min\"".to_owned();
        reader.error(text.span.clone(), message).hinting(Some(hint))
    })
}

/// A delegate's right.
pub(super) fn right(reader: Reader<'_>, text: &Text<'_>) -> Result<Right, RulesError> {
    match text.value {
        "rules" => Ok(Right::Rules),
        "watchers" => Ok(Right::Watchers),
        "inbox-read" => Ok(Right::InboxRead),
        "send-as" => Ok(Right::SendAs),
        value => {
            if let Some(name) = value.strip_prefix("publish:") {
                return field(reader, text, name).map(Right::Publish);
            }
            let tuple = value.strip_prefix("publish-tuple:").map(PartId::parse);
            if let Some(Some(id)) = tuple {
                return Ok(Right::PublishTuple(id));
            }
            let hint = did_you_mean(value, RIGHTS).unwrap_or_else(|| one_of(RIGHTS));
            let error = reader.error(text.span.clone(), format!("unknown right \"{value}\""));
            Err(error.hinting(Some(hint)))
        }
    }
}

/// RFC 3986 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}
