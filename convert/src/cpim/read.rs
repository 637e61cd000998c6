//! Reading a Message/CPIM: line by line, each error with its line.

use bytes::Bytes;

use super::{
    CPIM_BYTES_MAX, Cpim, CpimError, Fault, HEADERS_MAX, Header, LINE_BYTES_MAX, escapes_are_right,
    is_of_content,
};

pub(super) fn parse(bytes: &[u8]) -> Result<Cpim, CpimError> {
    if bytes.len() > CPIM_BYTES_MAX {
        return Err(CpimError { line: 1, fault: Fault::TooLarge(bytes.len()) });
    }
    let mut lines = Lines { rest: bytes, line: 0 };
    let first = lines.header_line()?;
    let announced = first.split_once(':').is_some_and(|(name, value)| {
        name.eq_ignore_ascii_case("content-type")
            && value.trim().eq_ignore_ascii_case("message/cpim")
    });
    // More headers there are of what carried it, and would be lost.
    if !announced || !lines.header_line()?.is_empty() {
        return Err(lines.wrong(Fault::NotCpim));
    }
    let headers = message_headers(&mut lines)?;
    let content = content_headers(&mut lines, HEADERS_MAX - headers.len())?;
    if !content.iter().any(|header| header.name.eq_ignore_ascii_case("content-type")) {
        return Err(lines.wrong(Fault::NoContentType));
    }
    Ok(Cpim { headers, content, body: Bytes::copy_from_slice(lines.rest) })
}

/// What is not read yet.
struct Lines<'a> {
    rest: &'a [u8],
    /// The last line that was read, from 1.
    line: usize,
}

impl<'a> Lines<'a> {
    fn wrong(&self, fault: Fault) -> CpimError {
        CpimError { line: self.line.max(1), fault }
    }

    /// The next line of headers, without its end.
    fn header_line(&mut self) -> Result<&'a str, CpimError> {
        self.line += 1;
        let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.wrong(Fault::NoLineEnd));
        };
        let (line, rest) = self.rest.split_at(length + 1);
        self.rest = rest;
        let line = line.strip_suffix(b"\r\n").ok_or_else(|| self.wrong(Fault::NoLineEnd))?;
        if line.len() > LINE_BYTES_MAX {
            return Err(self.wrong(Fault::LongLine));
        }
        let line = std::str::from_utf8(line).map_err(|_| self.wrong(Fault::NotUtf8))?;
        // MIME folds lines by tabs too.
        match line.char_indices().any(|(at, c)| c.is_control() && (at > 0 || c != '\t')) {
            true => Err(self.wrong(Fault::Control)),
            false => Ok(line),
        }
    }
}

fn message_headers(lines: &mut Lines<'_>) -> Result<Vec<Header>, CpimError> {
    let (mut headers, mut prefixes) = (Vec::new(), Vec::new());
    loop {
        let line = lines.header_line()?;
        if line.is_empty() {
            return Ok(headers);
        }
        if headers.len() == HEADERS_MAX {
            return Err(lines.wrong(Fault::ManyHeaders));
        }
        let read = message_header(line).and_then(|header| {
            look_at_prefix(&header, &mut prefixes)?;
            Ok(header)
        });
        headers.push(read.map_err(|fault| lines.wrong(fault))?);
    }
}

/// Whether a header can be written among the message headers, behind those that declared `prefixes`.
pub(super) fn is_message_header(header: &Header, prefixes: &mut Vec<String>) -> bool {
    let line = written(header);
    let is_plain = line.len() <= LINE_BYTES_MAX && !line.chars().any(char::is_control);
    is_plain
        && message_header(&line).is_ok_and(|read| read == *header)
        && look_at_prefix(header, prefixes).is_ok()
}

/// Whether a header can be written among those of the body.
pub(super) fn is_content_header(header: &Header) -> bool {
    let text = format!("{}\r\n\r\n", written_content(header));
    let mut lines = Lines { rest: text.as_bytes(), line: 0 };
    content_headers(&mut lines, 1)
        .is_ok_and(|read| read == [header.clone()] && lines.rest.is_empty())
}

/// The line of a message header: parameters stand between the colon and the space.
pub(super) fn written(header: &Header) -> String {
    let (name, parameters) = match header.name.find(';') {
        Some(at) => header.name.split_at(at),
        None => (&*header.name, ""),
    };
    format!("{name}:{parameters} {}", header.value)
}

/// The line of a header of the body, or its lines.
pub(super) fn written_content(header: &Header) -> String {
    format!("{}: {}", header.name, header.value)
}

/// Takes note of the prefix that an NS header declares; any other header's has to be declared.
fn look_at_prefix(header: &Header, prefixes: &mut Vec<String>) -> Result<(), Fault> {
    if header.name == "NS" {
        prefixes.push(declared(&header.value).ok_or(Fault::BadNamespace)?.0.to_owned());
    }
    match header.base_name().split_once('.') {
        Some((prefix, _)) if !prefixes.iter().any(|known| known == prefix) => {
            Err(Fault::UnknownPrefix(prefix.to_owned()))
        }
        _ => Ok(()),
    }
}

/// `Name: value`, or `Name:;parameter=x value` (RFC 3862 2.3).
fn message_header(line: &str) -> Result<Header, Fault> {
    let (name, rest) = line.split_once(':').ok_or(Fault::NotAHeader)?;
    let parts = name.split('.');
    if parts.clone().count() > 2 || !parts.into_iter().all(is_name) {
        return Err(Fault::NotAHeader);
    }
    if is_of_content(name) {
        return Err(Fault::Misplaced(name.to_owned()));
    }
    let space = parameters_end(rest).ok_or(Fault::NotAHeader)?;
    let (parameters, value) = (&rest[..space], &rest[space + 1..]);
    if value.starts_with(' ') || value.ends_with(' ') {
        return Err(Fault::Blanks);
    }
    if !escapes_are_right(value) || !escapes_are_right(parameters) {
        return Err(Fault::NoEscape);
    }
    Ok(Header::new(format!("{name}{parameters}"), value))
}

/// Where the space behind the parameters is: they may have spaces in quotes.
fn parameters_end(rest: &str) -> Option<usize> {
    if !rest.starts_with([';', ' ']) {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Prefix and URI of the value of an NS header; without a prefix it is empty.
pub(super) fn declared(value: &str) -> Option<(&str, &str)> {
    let (prefix, uri) = value.split_once('<')?;
    let uri = uri.strip_suffix('>')?;
    let prefix = match prefix {
        "" => "",
        prefix => prefix.strip_suffix(' ').filter(|prefix| is_name(prefix))?,
    };
    (!uri.is_empty() && !uri.contains(['<', '>', ' '])).then_some((prefix, uri))
}

/// RFC 3862's NAMECHARs.
fn is_name(name: &str) -> bool {
    let is_own = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_own)
}

fn content_headers(lines: &mut Lines<'_>, most: usize) -> Result<Vec<Header>, CpimError> {
    let mut headers: Vec<Header> = Vec::new();
    loop {
        let line = lines.header_line()?;
        if line.is_empty() {
            return Ok(headers);
        }
        if line.starts_with([' ', '\t']) {
            let folded = headers.last_mut().ok_or_else(|| lines.wrong(Fault::NotAHeader))?;
            folded.value.push_str("\r\n");
            folded.value.push_str(line);
            if folded.value.len() > LINE_BYTES_MAX {
                return Err(lines.wrong(Fault::LongLine));
            }
            continue;
        }
        if headers.len() == most {
            return Err(lines.wrong(Fault::ManyHeaders));
        }
        let split = line.split_once(": ").filter(|(name, _)| is_name(name));
        let (name, value) = split.ok_or_else(|| lines.wrong(Fault::NotAHeader))?;
        headers.push(Header::new(name, value));
    }
}
