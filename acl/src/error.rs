//! What is wrong with a rules text, and on which line.
//!
//! The file's name and exit codes are left to the programs that print this.

use std::ops::Range;

/// Most letters that a mistyped word may be off by and still be guessed.
const GUESS_DISTANCE_MAX: usize = 3;

/// Why a text is no set of rules; the fault is its author's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RulesError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was found and what was expected.
    pub message: String,
    /// What would probably help.
    pub hint: Option<String>,
}

impl RulesError {
    /// An error at a place in the text; without one, on the first line.
    pub(crate) fn at(text: &str, span: Option<Range<usize>>, message: String) -> RulesError {
        let before = span.and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        RulesError { line, message, hint: None }
    }

    /// What the TOML parser has found.
    pub(crate) fn toml(text: &str, error: &toml_edit::TomlError) -> RulesError {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        RulesError::at(text, error.span(), message)
    }

    /// The same with a hint.
    pub(crate) fn hinting(mut self, hint: Option<String>) -> RulesError {
        self.hint = hint;
        self
    }
}

/// "did you mean", if one of the known words is near enough to the given one.
pub(crate) fn did_you_mean<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= GUESS_DISTANCE_MAX.min(word.len() / 2))
        .min()
        .map(|(_, word)| format!("did you mean \"{word}\"?"))
}

/// Known words in a row, for a hint where no guess is near.
pub(crate) fn one_of<'a>(known: impl IntoIterator<Item = &'a str>) -> String {
    format!("one of: {}", known.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_guessed_and_far_ones_are_not() {
        let known = ["handling", "fields", "who"];
        assert_eq!(did_you_mean("handlnig", known).as_deref(), Some("did you mean \"handling\"?"));
        assert_eq!(did_you_mean("feilds", known).as_deref(), Some("did you mean \"fields\"?"));
        assert_eq!(did_you_mean("colour", known), None);
        assert_eq!(did_you_mean("xyz", known), None);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let at = |start| RulesError::at("a\nb\nc", Some(start..start), String::new()).line;
        assert_eq!((at(0), at(2), at(4), at(99)), (1, 2, 3, 1));
    }
}
