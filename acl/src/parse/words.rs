//! The small words inside values: fields, selectors, spans of time, rates, rights.
//!
//! Which key takes which of them is left to the module above.

use std::time::Duration;

use impp_protocol::Timestamp;
use impp_protocol::presence::name::REGISTRY;
use impp_protocol::presence::{FieldName, PartId};

use super::reader::{Reader, Text};
use crate::conditions::Validity;
use crate::error::{RulesError, did_you_mean, one_of};
use crate::grants::Selector;
use crate::rules::{Rate, Right};

const SELECTORS: [&str; 3] = ["class:", "id:", "scheme:"];
const RIGHTS: [&str; 5] = ["publish:FIELD", "rules", "watchers", "inbox-read", "send-as"];
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

/// A selector of tuples.
pub(super) fn selector(reader: Reader<'_>, text: &Text<'_>) -> Result<Selector, RulesError> {
    let found = match text.value.split_once(':') {
        Some(("class", class)) if !class.is_empty() => Some(Selector::Class(class.into())),
        Some(("id", id)) => PartId::parse(id).map(Selector::Id),
        Some(("scheme", scheme)) if is_scheme(scheme) => {
            Some(Selector::Scheme(scheme.to_ascii_lowercase().into()))
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let error = reader.error(text.span.clone(), format!("bad selector \"{}\"", text.value));
        error.hinting(Some(one_of(SELECTORS.into_iter().chain(["all"]))))
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
        value => match value.strip_prefix("publish:") {
            Some(name) => field(reader, text, name).map(Right::Publish),
            None => {
                let hint = did_you_mean(value, RIGHTS).unwrap_or_else(|| one_of(RIGHTS));
                let error = reader.error(text.span.clone(), format!("unknown right \"{value}\""));
                Err(error.hinting(Some(hint)))
            }
        },
    }
}

/// RFC 3986 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}
