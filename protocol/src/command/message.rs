//! MESSAGE and ACK: appending to an inbox, and taking custody of what is in it (RFC 3860).

use bytes::Bytes;

use crate::address::Address;
use crate::field::{FieldError, Reader, Stamps, Writer};
use crate::ids::MessageId;
use crate::schema::{Map, fields};
use crate::time::Timestamp;

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
        /// The recipient whom its sender named, if a redirect led on from there. Servers write it.
        48 redirected_from: Option<Address>,
        /// Up to 63: what only servers write, in later versions. Nobody passes it on.
        49 later_stamps: Stamps<63>,
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
            redirected_from: None,
            later_stamps: Stamps::default(),
        }
    }

    /// Whether it has what only servers write, [`from`](Message::from) aside.
    pub fn is_stamped(&self) -> bool {
        self.sender.is_some()
            || self.hops.is_some()
            || self.redirected_from.is_some()
            || !self.later_stamps.is_empty()
    }

    /// The message as its sender wrote it, without what servers stamp on it on its way: what a
    /// repeat is told by, and what its size is measured by.
    #[must_use]
    pub fn unstamped(&self) -> Message {
        let (hops, redirected_from, later_stamps) = (None, None, Stamps::default());
        Message { hops, redirected_from, later_stamps, ..self.clone() }
    }

    /// The first of the message's parts that exceeds its limit, named with the limit.
    pub fn over_limit(&self) -> Option<String> {
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
            .or_else(|| over("message", self.unstamped().encode().len(), MESSAGE_BYTES_MAX))
            .or_else(|| {
                let count = self.headers.len();
                (count > HEADERS_MAX)
                    .then(|| format!("{count} headers, at most {HEADERS_MAX} are taken"))
            })
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

fields! {
    /// ACK: this device has all items up to the cursor.
    pub struct Ack {
        /// Whose log: the caller's own.
        1 address: Address,
        /// Up to here.
        2 cursor: Bytes,
    }
}
