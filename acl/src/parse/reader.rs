//! Typed values out of TOML tables, each with its place in the text.
//!
//! What the values mean is left to the module above.

use std::ops::Range;

use impp_protocol::{Address, Domain};
use toml_edit::{Item, TableLike, Value};

use crate::error::{RulesError, did_you_mean, one_of};
use crate::rules::ID_BYTES_MAX;

/// A string and where it stands.
pub(super) struct Text<'t> {
    pub(super) value: &'t str,
    pub(super) span: Option<Range<usize>>,
}

/// The text, to tell lines.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
}

impl Reader<'_> {
    pub(super) fn error(self, span: Option<Range<usize>>, message: String) -> RulesError {
        RulesError::at(self.text, span, message)
    }

    pub(super) fn key_span(self, table: &dyn TableLike, key: &str) -> Option<Range<usize>> {
        table.key(key).and_then(toml_edit::Key::span)
    }

    /// Refuses keys that are not known: a condition that is not understood must never grant.
    pub(super) fn only_keys(self, table: &dyn TableLike, known: &[&str]) -> Result<(), RulesError> {
        let Some((key, _)) = table.iter().find(|(key, _)| !known.contains(key)) else {
            return Ok(());
        };
        let hint = did_you_mean(key, known.iter().copied())
            .unwrap_or_else(|| one_of(known.iter().copied()));
        let error = self.error(self.key_span(table, key), format!("unknown key \"{key}\""));
        Err(error.hinting(Some(hint)))
    }

    /// The string under a key, if the key is there.
    pub(super) fn optional<'t>(
        self,
        table: &'t dyn TableLike,
        key: &str,
    ) -> Result<Option<Text<'t>>, RulesError> {
        let Some(item) = table.get(key) else { return Ok(None) };
        match item.as_str() {
            Some(value) => Ok(Some(Text { value, span: item.span() })),
            None => {
                let message = format!("\"{key}\" is {}, expected a string", item.type_name());
                Err(self.error(item.span(), message))
            }
        }
    }

    /// The string under a key that must be there.
    pub(super) fn required<'t>(
        self,
        table: &'t dyn TableLike,
        span: Option<Range<usize>>,
        section: &str,
        key: &str,
    ) -> Result<Text<'t>, RulesError> {
        match self.optional(table, key)? {
            Some(text) => Ok(text),
            None => Err(self.error(span, format!("[[{section}]] has no \"{key}\""))),
        }
    }

    /// A list of strings of bounded length.
    pub(super) fn texts<'t>(
        self,
        item: &'t Item,
        key: &str,
        max: usize,
    ) -> Result<Vec<Text<'t>>, RulesError> {
        let Some(array) = item.as_array() else {
            let message = format!("\"{key}\" is {}, expected a list", item.type_name());
            let hint = item.as_str().map(|value| format!("{key} = [\"{value}\"]"));
            return Err(self.error(item.span(), message).hinting(hint));
        };
        if array.len() > max {
            let message = format!("{} items in \"{key}\", at most {max} are taken", array.len());
            return Err(self.error(item.span(), message));
        }
        let text = |value: &'t Value| match value.as_str() {
            Some(text) => Ok(Text { value: text, span: value.span() }),
            None => {
                let found = value.type_name();
                let message = format!("\"{key}\" holds a {found}, expected strings");
                Err(self.error(value.span(), message))
            }
        };
        array.iter().map(text).collect()
    }

    /// One of some known words.
    pub(super) fn word<T: Copy>(
        self,
        table: &dyn TableLike,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, RulesError> {
        let Some(text) = self.optional(table, key)? else { return Ok(None) };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Ok(Some(*value));
        }
        let known = words.iter().map(|(word, _)| *word);
        let hint = did_you_mean(text.value, known.clone()).unwrap_or_else(|| one_of(known));
        let error = self.error(text.span, format!("unknown {key} \"{}\"", text.value));
        Err(error.hinting(Some(hint)))
    }

    pub(super) fn address(self, text: &Text<'_>) -> Result<Address, RulesError> {
        Address::parse(text.value).map_err(|why| {
            let words = ["contacts", "authenticated", "anyone", "anonymous"];
            let message = format!("bad address \"{}\": {why}", text.value);
            let error = self.error(text.span.clone(), message);
            let hint = did_you_mean(text.value, words).or_else(|| wildcard_hint(text.value));
            error.hinting(hint.or_else(|| domain_hint(text.value)))
        })
    }

    pub(super) fn domain(self, domain: &str, text: &Text<'_>) -> Result<Domain, RulesError> {
        Domain::parse(domain).map_err(|why| {
            let message = format!("bad domain \"{domain}\": {why}");
            self.error(text.span.clone(), message).hinting(wildcard_hint(domain))
        })
    }

    pub(super) fn check_id(self, text: &Text<'_>) -> Result<(), RulesError> {
        let length_ok = (1..=ID_BYTES_MAX).contains(&text.value.len());
        if length_ok && !text.value.chars().any(char::is_control) {
            return Ok(());
        }
        let message = format!(
            "bad id or name \"{}\": expected 1 to {ID_BYTES_MAX} bytes without control characters",
            text.value.escape_debug()
        );
        Err(self.error(text.span.clone(), message))
    }
}

/// Who writes a domain means its people.
fn domain_hint(text: &str) -> Option<String> {
    let is_domain = text.contains('.') && Domain::parse(text).is_ok();
    is_domain.then(|| format!("everybody of that domain is \"domain:{text}\""))
}

fn wildcard_hint(text: &str) -> Option<String> {
    text.contains('*').then(|| "there are no patterns; \"domain:NAME\" is one domain".to_owned())
}
