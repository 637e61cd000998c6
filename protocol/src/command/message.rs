//! MESSAGE and ACK: appending to an inbox, and taking custody of what is in it (RFC 3860).

use bytes::Bytes;

use crate::address::Address;
use crate::field::{FieldError, Later, Reader, Writer};
use crate::ids::MessageId;
use crate::schema::{Map, fields};
use crate::time::Timestamp;
use crate::varint;

/// Longest body of a message in bytes.
pub const BODY_BYTES_MAX: usize = 60 * 1024;
/// Longest content type, thread or header name in bytes.
pub const LABEL_BYTES_MAX: usize = 255;
/// Longest message in its encoding, in bytes: what is around it in a NOTIFY still fits a frame.
pub const MESSAGE_BYTES_MAX: usize = 62 * 1024;
/// Most headers of a message.
pub const HEADERS_MAX: usize = 32;

fields! {
    /// A header of a message, passed on as it is.
    pub struct Header {
        /// Its name.
        1 name: String,
        /// Its value.
        2 value: String,
    }
}

fields! {
    /// MESSAGE: one message for one recipient.
    pub struct Message {
        /// A UUIDv7 that the sender made from the server's time; a repeat has the same.
        1 id: MessageId,
        /// The recipient.
        2 to: Address,
        /// The sender. The server writes it; a client leaves it out, or says its own address or that of
        /// whose delegate it is.
        3 from: Option<Address>,
        /// The media type of the body; absent is text/plain in UTF-8.
        4 content_type: Option<String>,
        /// The body, opaque octets.
        5 body: Bytes,
        /// When the sender wrote it.
        6 created: Option<Timestamp>,
        /// When it is of no use any more.
        7 expires: Option<Timestamp>,
        /// Where an answer should go, if not to the sender.
        8 reply_to: Option<Address>,
        /// The conversation that it belongs to.
        9 thread: Option<String>,
        /// Further headers.
        10 headers: Vec<Header>,
        /// Not stored: passed to the devices that are connected, or to none.
        11 volatile: bool,
        /// Who wrote it, if a delegate sent it for `from`. The server writes it.
        12 sender: Option<Address>,
        /// Links: how many more servers may pass it on.
        13 hops: Option<u64>,
        /// Up to 47: what later versions say. It is kept and passed on as it is.
        14 later: Later<47>,
        /// The recipient whom its sender named, if a redirect led on from there. Servers write it.
        48 redirected_from: Option<Address>,
        /// Up to 63: what only servers write, in later versions. Nobody passes it on.
        49 later_stamps: Later<63>,
    }
}

impl Message {
    /// A message of plain text or octets, and nothing else said.
    pub fn new(id: MessageId, to: Address, body: Bytes) -> Message {
        Message {
            id,
            to,
            from: None,
            content_type: None,
            body,
            created: None,
            expires: None,
            reply_to: None,
            thread: None,
            headers: Vec::new(),
            volatile: false,
            sender: None,
            hops: None,
            later: Later::default(),
            redirected_from: None,
            later_stamps: Later::default(),
        }
    }

    /// Whether it has what only servers write, [`from`](Message::from) aside.
    pub fn is_stamped(&self) -> bool {
        self.sender.is_some() || self.is_on_its_way()
    }

    /// Whether servers have stamped something on it on its way.
    fn is_on_its_way(&self) -> bool {
        self.hops.is_some() || self.redirected_from.is_some() || !self.later_stamps.is_empty()
    }

    /// The message as its sender wrote it, without what servers stamp on it on its way: what a
    /// repeat is told by, and what its size is measured by.
    #[must_use]
    pub fn unstamped(&self) -> Message {
        let (hops, redirected_from, later_stamps) = (None, None, Later::default());
        Message { hops, redirected_from, later_stamps, ..self.clone() }
    }

    /// The first of the message's parts that exceeds its limit, named with the limit. In the whole, its
    /// sender does not count: who leaves that out and who says it may write as much.
    pub fn over_limit(&self) -> Option<String> {
        self.over(self.unstamped().encode().len())
    }

    /// The same, of one that is so long in its encoding, as its sender wrote it.
    fn over(&self, encoded: usize) -> Option<String> {
        let over = |name: &str, length: usize, max: usize| {
            (length > max).then(|| format!("{name} of {length} bytes, at most {max} are taken"))
        };
        let label = |name: &str, text: Option<&String>| {
            text.and_then(|text| over(name, text.len(), LABEL_BYTES_MAX))
        };
        over("body", self.body.len(), BODY_BYTES_MAX)
            .or_else(|| label("content_type", self.content_type.as_ref()))
            .or_else(|| label("thread", self.thread.as_ref()))
            .or_else(|| self.headers.iter().find_map(|h| label("header name", Some(&h.name))))
            .or_else(|| over("message", encoded - self.sender_bytes(), MESSAGE_BYTES_MAX))
            .or_else(|| {
                let count = self.headers.len();
                (count > HEADERS_MAX)
                    .then(|| format!("{count} headers, at most {HEADERS_MAX} are taken"))
            })
    }

    /// The fields of a message, as [`encode`](Message::encode) gives them, without `to` where it is that.
    #[must_use]
    pub fn without_to(fields: Bytes, to: &Address) -> Bytes {
        let (start, field) = (ID_FIELD_BYTES, field_of(to));
        match fields.get(start..).is_some_and(|rest| rest.starts_with(&field)) {
            true => [&fields[..start], &fields[start + field.len()..]].concat().into(),
            false => fields,
        }
    }

    /// The same fields with `to`, if they are those of a message and have none.
    #[must_use]
    pub fn with_to(fields: Bytes, to: &Address) -> Bytes {
        let start = ID_FIELD_BYTES;
        // The key of `to` is 5; a later field has a higher one.
        let has_none =
            fields.starts_with(&[3, 16]) && fields.get(start).is_some_and(|key| *key > 5);
        match has_none {
            true => [&fields[..start], &field_of(to), &fields[start..]].concat().into(),
            false => fields,
        }
    }

    /// What its sender takes of the encoding.
    fn sender_bytes(&self) -> usize {
        let length = self.from.as_ref().map(|from| from.as_str().len());
        // The key of the field is one byte.
        length.map_or(0, |length| 1 + varint::length(length as u64) + length)
    }

    /// The message as its log keeps it: the fields of the frame.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        self.put(&mut writer);
        writer.into_bytes()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`FieldError`] naming the wrong field.
    pub fn decode(bytes: Bytes) -> Result<Message, FieldError> {
        Message::get(Reader::new(bytes))
    }
}

/// A message with its encoding, which is made once: by it the message is measured and a repeat is told,
/// it is what logs keep, and what readers are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    message: Message,
    encoded: Bytes,
    /// As its sender wrote it: the same bytes, unless something was stamped on it on its way.
    unstamped: Bytes,
}

impl Written {
    /// Encodes it.
    pub fn new(message: Message) -> Written {
        let encoded = message.encode();
        let unstamped = match message.is_on_its_way() {
            true => message.unstamped().encode(),
            false => encoded.clone(),
        };
        Written { message, encoded, unstamped }
    }

    /// As [`Message::encode`].
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// As its sender wrote it ([`Message::unstamped`]).
    pub fn unstamped(&self) -> &Bytes {
        &self.unstamped
    }

    /// As [`Message::over_limit`].
    pub fn over_limit(&self) -> Option<String> {
        self.message.over(self.unstamped.len())
    }
}

/// It is read alone: changed, it would not be what is written.
impl std::ops::Deref for Written {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// Bytes of the first field, the id: key, length, 16 octets.
const ID_FIELD_BYTES: usize = 18;

/// The second field.
fn field_of(to: &Address) -> Bytes {
    let mut writer = Writer::default();
    writer.field(2, to);
    writer.into_bytes()
}

fields! {
    /// ACK: this device has all items up to the cursor.
    pub struct Ack {
        /// Whose log: the caller's own.
        1 address: Address,
        /// Up to here.
        2 cursor: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is stamped on it, and without a second encoding where nothing is.
    #[test]
    fn a_message_is_written_as_it_is_encoded() {
        let address = |text| Address::parse(text).unwrap();
        let id = MessageId::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        let (to, from) = (address("bob@b.example"), Some(address("alice@a.example")));
        let plain = Message { from, ..Message::new(id, to, vec![b'x'; 2000].into()) };
        let written = Written::new(plain.clone());
        assert_eq!(written.encoded().as_ptr(), written.unstamped().as_ptr());
        let redirected_from = Some(address("carol@c.example"));
        for stamped in [
            Message { hops: Some(3), ..plain.clone() },
            Message { redirected_from, ..plain.clone() },
            plain,
        ] {
            let written = Written::new(stamped.clone());
            assert_eq!(*written.encoded(), stamped.encode());
            assert_eq!(*written.unstamped(), stamped.unstamped().encode());
            assert_eq!(Written::new(stamped.unstamped()).unstamped(), written.unstamped());
        }
    }

    /// Who says its own address may write as much as who leaves it to the server, here and over a link.
    #[test]
    fn what_a_message_may_have_does_not_go_with_who_sends_it() {
        let address = |text: &str| Address::parse(text).unwrap();
        let long = format!("{}@a.example", "a".repeat(60));
        let id = MessageId::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        let with = |header: usize| {
            let body = vec![b'x'; BODY_BYTES_MAX].into();
            let header = Header { name: "n".to_owned(), value: "v".repeat(header) };
            Message { headers: vec![header], ..Message::new(id, address("bob@b.example"), body) }
        };
        let most = 1000 + MESSAGE_BYTES_MAX - with(1000).encode().len();
        assert_eq!(with(most).encode().len(), MESSAGE_BYTES_MAX);
        for from in [None, Some(address("a@b.example")), Some(address(&long))] {
            for (header, fits) in [(most, true), (most + 1, false)] {
                let message = Message { from: from.clone(), ..with(header) };
                assert_eq!(message.over_limit().is_none(), fits, "{from:?}");
                assert_eq!(Written::new(message).over_limit().is_none(), fits, "{from:?}");
            }
        }
    }
}
