//! What goes to stdout: one JSON object per line, or lines for people. And words to stderr.

use std::borrow::Cow;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::report::Failure;

/// Stdout in one of the two forms.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json, out: BufWriter::new(std::io::stdout()) }
    }

    /// Prints one object: as JSON, or as `text` says it to people (nothing if that is empty).
    pub(crate) fn item<T: Serialize>(
        &mut self,
        item: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = if self.json {
            serde_json::to_string(item).map_err(|error| Failure::Output(error.into()))?
        } else {
            text(item)
        };
        if !line.is_empty() {
            if !line.ends_with('\n') {
                line.push('\n');
            }
            self.out.write_all(line.as_bytes()).map_err(Failure::Output)?;
        }
        Ok(())
    }

    /// Prints octets as they are, to a terminal what does not disturb it; false if objects are wanted, and none were printed.
    pub(crate) fn octets(&mut self, octets: &[u8]) -> Result<bool, Failure> {
        if self.json {
            return Ok(false);
        }
        let shown = match std::io::stdout().is_terminal() {
            true => Cow::from(printable(&String::from_utf8_lossy(octets)).into_bytes()),
            false => Cow::from(octets),
        };
        self.out.write_all(&shown).map_err(Failure::Output)?;
        Ok(true)
    }

    /// Hands all to who reads it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// Words to the person at the terminal; never data.
    pub(crate) fn note(&self, words: &str) {
        let _ = writeln!(std::io::stderr(), "{words}");
    }
}

/// Somebody else's text, harmless to a terminal: control characters but line feed and tab, and
/// bidirectional overrides, are shown as what they are.
pub(crate) fn printable(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => c.escape_unicode().to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// The same of what stands within a line of ours: it begins none of its own.
pub(crate) fn in_line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// The same of a text of several lines, below a line of ours: each stands in from the left, so that none
/// passes for one of ours.
pub(crate) fn indented(text: &str) -> String {
    printable(text).replace('\n', "\n    ")
}

/// A name that somebody gave to a thing, in quotes and within its line, whatever is in it: it cannot
/// pass for words of ours.
pub(crate) fn quoted(name: &str) -> String {
    format!("{name:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_text_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a\\u{1b}[2Jb\\r\n\tc\\u{9b}");
        assert_eq!(printable("x\u{202e}y ü"), "x\\u{202e}y ü");
        assert_eq!(in_line("x)\nbob\t\u{1b}"), "x)\\nbob\\t\\u{1b}");
        assert_eq!(indented("a\nb"), "a\n    b");
    }

    #[test]
    fn a_name_stays_in_its_quotes_and_its_line() {
        let name = "pc\", was removed\n2026\tü\u{200b}\u{2028}";
        assert_eq!(quoted(name), r#""pc\", was removed\n2026\tü\u{200b}\u{2028}""#);
    }
}
