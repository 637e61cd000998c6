//! Message/CPIM (RFC 3862): headers for people, then a MIME body; as it is written, to the byte.
//!
//! What is read is kept as written and written again the same, so that what somebody has signed stays
//! what it was. What its headers mean for a message of ours is in `message`.

mod message;
mod read;

use bytes::Bytes;

pub use message::{Unfit, from_message, to_message};

/// Longest Message/CPIM that is read, in bytes.
pub const CPIM_BYTES_MAX: usize = 64 * 1024;
/// Longest line of a header, in bytes, without its end.
pub const LINE_BYTES_MAX: usize = 4096;
/// Most headers before the body and of the body, together. More than a message can have: it has fields
/// for some of them.
pub const HEADERS_MAX: usize = 64;

/// The first lines, which say what follows.
const PROLOGUE: &str = "Content-type: Message/CPIM\r\n\r\n";

/// A header as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, and behind it its parameters if there are any: `Subject;lang=de`.
    pub name: String,
    /// What stands behind the colon and one space. Of a message header on one line, with RFC 3862's
    /// escapes; of a header of the body perhaps on several lines.
    pub value: String,
}

/// A Message/CPIM, its parts as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpim {
    /// The message headers, in their order.
    pub headers: Vec<Header>,
    /// The MIME headers of the body, in their order.
    pub content: Vec<Header>,
    /// The body, octets.
    pub body: Bytes,
}

/// What is wrong with a text that should be a Message/CPIM, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct CpimError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with a Message/CPIM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than is read.
    #[error("{0} bytes, at most {CPIM_BYTES_MAX} are taken")]
    TooLarge(usize),
    /// A header line that never comes to an end.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// More headers than are taken.
    #[error("more than {HEADERS_MAX} headers")]
    ManyHeaders,
    /// No `\r\n` at the end of a header line.
    #[error("expected CR LF at the end of the line")]
    NoLineEnd,
    /// The first line is another.
    #[error("expected `Content-type: Message/CPIM` and an empty line")]
    NotCpim,
    /// No UTF-8 where headers are.
    #[error("headers are UTF-8, and this is not")]
    NotUtf8,
    /// A control character in a header.
    #[error("a control character: it is written as an escape, such as \\t or \\u0009")]
    Control,
    /// A line that is no header.
    #[error(
        "expected `Name: value`, the name of letters, digits and -, one space behind the colon"
    )]
    NotAHeader,
    /// Blanks around a value.
    #[error("blanks before or behind the value")]
    Blanks,
    /// A backslash before something else than RFC 3862 says.
    #[error("no escape: expected one of \\\\ \\\" \\' \\b \\t \\n \\r \\uXXXX")]
    NoEscape,
    /// A prefix that no NS header before it declares.
    #[error("no NS header before it declares the prefix {0:?}")]
    UnknownPrefix(String),
    /// An NS header of another form.
    #[error("expected `NS: prefix <URI>`")]
    BadNamespace,
    /// A header among the message headers that belongs to the body.
    #[error("{0} is a header of the body: it stands behind an empty line")]
    Misplaced(String),
    /// A body without its type.
    #[error("the body has no Content-type")]
    NoContentType,
}

impl Cpim {
    /// Reads one: all of it.
    ///
    /// # Errors
    /// [`CpimError`] names the line, and what is wrong in it.
    pub fn parse(bytes: &[u8]) -> Result<Cpim, CpimError> {
        read::parse(bytes)
    }

    /// Writes it. What [`parse`](Cpim::parse) took is written the same again.
    pub fn write(&self) -> Vec<u8> {
        let mut text = PROLOGUE.to_owned();
        for header in &self.headers {
            text.push_str(&read::written(header));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        for header in &self.content {
            text.push_str(&read::written_content(header));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The names that its readers have to understand, or may not read it (RFC 3862 3.7).
    pub fn required(&self) -> impl Iterator<Item = &str> {
        let requiring = self.headers.iter().filter(|header| header.base_name() == "Require");
        requiring.flat_map(|header| header.value.split(',').map(str::trim))
    }
}

impl Header {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    /// The name without parameters.
    pub fn base_name(&self) -> &str {
        self.name.split(';').next().unwrap_or_default()
    }
}

/// Whether a header of that name is one of the body: MIME's.
fn is_of_content(name: &str) -> bool {
    const START: &str = "content-";
    name.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Looks that each backslash begins an escape of RFC 3862 2.3.
fn escapes_are_right(value: &str) -> bool {
    let mut rest = value;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        let length = match escape.bytes().next() {
            Some(b'\\' | b'"' | b'\'' | b'b' | b't' | b'n' | b'r') => 1,
            Some(b'u')
                if escape.len() >= 5
                    && escape.as_bytes()[1..5].iter().all(u8::is_ascii_hexdigit) =>
            {
                5
            }
            _ => return false,
        };
        rest = &escape[length..];
    }
    true
}

/// A text as it stands in a header: the backslash and control characters escaped, and blanks at its
/// edges, nothing else.
fn escape_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\u{8}' => escaped.push_str("\\b"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            ' ' if at == 0 || at + 1 == text.len() => escaped.push_str("\\u0020"),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The text that stands in a header with its escapes.
fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                text.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests;
