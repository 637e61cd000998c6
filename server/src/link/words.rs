//! What other servers say in words, made fit for the log and for our users' logs: one line, as far
//! as a line goes.
//!
//! What it means is left to the codes.

use impp_protocol::{Code, Error};

/// How much of it is told.
const CHARS_MAX: usize = 1000;

/// An error of another server, made fit: its words, and its code where that is about signing in,
/// which is between our users and us.
pub(super) fn fit(mut error: Error) -> Error {
    if matches!(error.code, Code::AuthFailed | Code::NotSignedIn) {
        error.code = Code::Internal;
    }
    error.text = error.text.as_deref().map(line);
    error
}

/// A text, made fit.
pub(super) fn line(text: &str) -> String {
    let mut line = text.replace("\n  ", "; ").replace(is_odd, " ");
    if let Some((end, _)) = line.char_indices().nth(CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// What moves, hides or breaks the text around it.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_words_of_others_are_one_line_of_bounded_length() {
        assert_eq!(line("tried:\n  one\n  two\nthree\tfour"), "tried:; one; two three four");
        assert_eq!(line("a\u{202e}b\u{2028}c\u{e0041}d"), "a b c d");
        let long = line(&"\u{1f4a9}".repeat(70_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CHARS_MAX + 1, true));
    }
}
