//! What other servers say in words, made fit for the log and for our users' logs: one line, as far
//! as a line goes.
//!
//! What it means is left to the codes.

use impp_protocol::Error;

/// How much of it is told.
const CHARS_MAX: usize = 1000;

/// The words of an error, made fit.
pub fn fit(mut error: Error) -> Error {
    error.text = error.text.as_deref().map(line);
    error
}

/// A text, made fit.
pub fn line(text: &str) -> String {
    let mut line = text.replace("\n  ", "; ").replace(|c: char| c.is_control(), " ");
    if let Some((end, _)) = line.char_indices().nth(CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_words_of_others_are_one_line_of_bounded_length() {
        assert_eq!(line("tried:\n  one\n  two\nthree\tfour"), "tried:; one; two three four");
        let long = line(&"\u{1f4a9}".repeat(70_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CHARS_MAX + 1, true));
    }
}
