//! Elements of an XMPP stream, as plainly as the scenarios need them: none that they meet has one of
//! its own name within it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, Bytes, BytesMut};

use super::spawned::HOST;
use crate::protocol::{Came, Speech};

/// What one client says and hears.
#[derive(Default)]
pub(super) struct Stanzas {
    /// How often a status was shown.
    turn: u64,
}

impl Speech for Stanzas {
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut) {
        let head = format!("<message to='p{to}@{HOST}' type='chat'><body>");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"</body></message>");
    }

    fn publish(&mut self, text: &str, out: &mut BytesMut) {
        self.turn += 1;
        let show = if self.turn.is_multiple_of(2) { "chat" } else { "away" };
        let stanza = format!("<presence><show>{show}</show><status>{text}</status></presence>");
        out.extend_from_slice(stanza.as_bytes());
    }

    fn follow(&mut self, whom: usize, out: &mut BytesMut) {
        let stanza = format!("<presence to='p{whom}@{HOST}' type='subscribe'/>");
        out.extend_from_slice(stanza.as_bytes());
    }

    fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut, came: &mut Vec<Came>) {
        while let Some(stanza) = element(input) {
            let head = &stanza[..stanza.iter().position(|octet| *octet == b'>').unwrap_or(0)];
            let head = String::from_utf8_lossy(head);
            came.push(match attribute(&head, "type") {
                Some("error") => Came::Refused,
                Some("subscribe") => {
                    let who = attribute(&head, "from").unwrap_or_default();
                    let stanza = format!("<presence to='{who}' type='subscribed'/>");
                    out.extend_from_slice(stanza.as_bytes());
                    Came::Else
                }
                _ if head.starts_with("<message") => Came::Message(stanza),
                _ if head.starts_with("<presence") => Came::Status(stanza),
                _ => Came::Else,
            });
        }
    }
}

/// The next element, if it is whole.
pub(super) fn element(input: &mut BytesMut) -> Option<Bytes> {
    let blank = input.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
    input.advance(blank);
    let head = input.iter().position(|octet| *octet == b'>')?;
    if input[head - 1] == b'/' {
        return Some(input.split_to(head + 1).freeze());
    }
    let ends_name = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'>';
    let name = input.iter().position(ends_name)?;
    let tail = [b"</", &input[1..name], b">"].concat();
    let at = input[head..].windows(tail.len()).position(|some| some == tail)?;
    Some(input.split_to(head + at + tail.len()).freeze())
}

/// An attribute's value, in whichever quotes.
fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let rest = head.split_once(&format!(" {name}="))?.1;
    let quote = rest.chars().next()?;
    rest[1..].split(quote).next()
}

pub(super) fn base64(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

/// What stands in base64 within an element.
pub(super) fn unbase64(element: &str) -> Vec<u8> {
    let text = element.split(['<', '>']).nth(2).unwrap_or_default();
    BASE64_STANDARD.decode(text).expect("base64")
}
