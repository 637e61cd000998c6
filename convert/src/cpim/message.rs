//! A Message/CPIM as a message of ours, and back.
//!
//! From, To, DateTime and the body's type are fields. The other headers go along as headers, in their
//! order and as they are written. Where the fields' headers are not written as we write them (a name
//! beside an address, another time zone, another order), they go along too: what we write again is what
//! came, as long as it says what the fields say.

use impp_protocol::command::{Header as Kept, Message};
use impp_protocol::{Address, MessageId, Timestamp};

use super::{Cpim, Header, escape_value, is_of_content, read, unescape};
use crate::{MESSAGE_NAMESPACE, uri};

/// Why a Message/CPIM is no message of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A header that has to be there once is not.
    #[error("{count} {name} headers, expected one")]
    Count {
        /// Its name.
        name: &'static str,
        /// So many are there.
        count: usize,
    },
    /// A value that is none for the header.
    #[error("{name}: {value:?} is no {expected}")]
    Value {
        /// The header's name.
        name: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// Among the headers of the body one that is not MIME's `Content-…`.
    #[error("the body's header {0} cannot be carried, only Content-… can")]
    Content(String),
}

/// Prefix of what CPIM has no header for, in what we write.
const PREFIX: &str = "impp";
const MESSAGE_ID: &str = "Message-ID";
const EXPIRES: &str = "Expires";
const REPLY_TO: &str = "Reply-To";
const THREAD: &str = "Thread";

/// How a body's type is written that a message need not name.
const TYPE_DEFAULT: &str = "text/plain; charset=utf-8";

/// Makes a message of it. `id` is the message's if none is written in it.
///
/// # Errors
/// [`Unfit`] says what a message cannot be made of.
pub fn to_message(cpim: &Cpim, id: MessageId) -> Result<Message, Unfit> {
    let to = at_most_one(cpim, "To")?.ok_or(Unfit::Count { name: "To", count: 0 })?;
    let mut message = Message::new(id, address(to, "To")?, cpim.body.clone());
    message.from = at_most_one(cpim, "From")?.map(|from| address(from, "From")).transpose()?;
    message.created = at_most_one(cpim, "DateTime")?.map(|at| time(at, "DateTime")).transpose()?;
    for (name, value) in ours(cpim) {
        match name {
            MESSAGE_ID => {
                message.id = value.parse().map_err(|_| wrong(MESSAGE_ID, value, "UUID"))?
            }
            EXPIRES => message.expires = Some(time(value, EXPIRES)?),
            REPLY_TO => message.reply_to = Some(address(value, REPLY_TO)?),
            THREAD => message.thread = Some(unescape(value)),
            _ => {}
        }
    }
    if let Some(other) = cpim.content.iter().find(|header| !is_of_content(&header.name)) {
        return Err(Unfit::Content(other.name.clone()));
    }
    message.content_type = cpim.content.iter().find(|h| is_type(h)).and_then(media_type);
    let headers = cpim.headers.strip_prefix(&*head(&message)).unwrap_or(&cpim.headers);
    let content = cpim.content.strip_prefix(&[typed(&message)]).unwrap_or(&cpim.content);
    let kept = |header: &Header| Kept { name: header.name.clone(), value: header.value.clone() };
    message.headers = headers.iter().chain(content).map(kept).collect();
    Ok(message)
}

/// A message as Message/CPIM, and the names of its headers that cannot stand there: a message may have
/// others than were ever written in this form.
pub fn from_message(message: &Message) -> (Cpim, Vec<String>) {
    let (mut headers, mut content, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let mut prefixes = Vec::new();
    for kept in &message.headers {
        let header = Header::new(&*kept.name, &*kept.value);
        match is_of_content(&header.name) {
            true if read::is_content_header(&header) => content.push(header),
            false if read::is_message_header(&header, &mut prefixes) => headers.push(header),
            _ => lost.push(header.name),
        }
    }
    // The body's type as it is written, if it is the message's.
    if content.iter().find(|h| is_type(h)).is_none_or(|h| media_type(h) != message.content_type) {
        content.retain(|header| !is_type(header));
        content.insert(0, typed(message));
    }
    let mut cpim = Cpim { headers, content, body: message.body.clone() };
    if !says_the_same(&cpim, message) {
        cpim.headers.retain(|header| !FIELDS.contains(&header.base_name()));
        let own: Vec<Header> = ours(&cpim).map(|(name, value)| Header::new(name, value)).collect();
        let is_own = |h: &Header| {
            let name = h.name.split_once('.').map_or("", |(_, name)| name);
            own.iter().any(|own| own.name == name && own.value == h.value)
        };
        cpim.headers.retain(|header| !is_own(header));
        cpim.headers.splice(0..0, head(message));
    }
    (cpim, lost)
}

/// The headers that are fields.
const FIELDS: [&str; 3] = ["From", "To", "DateTime"];

/// Whether the headers say of the fields what the message says: then they are left as written. That
/// the id is not among them, or the time, is no reason to write others.
fn says_the_same(cpim: &Cpim, message: &Message) -> bool {
    let Ok(read) = to_message(cpim, message.id) else { return false };
    read.id == message.id
        && (&read.to, &read.from) == (&message.to, &message.from)
        && read.created.is_none_or(|at| Some(at) == message.created)
        && (read.expires, &read.reply_to) == (message.expires, &message.reply_to)
        && read.thread == message.thread
}

/// The headers that the fields make, as we write them.
fn head(message: &Message) -> Vec<Header> {
    let place = |address: &Address| format!("<{}>", uri("im", address));
    let mut head = Vec::new();
    head.extend(message.from.as_ref().map(|from| Header::new("From", place(from))));
    head.push(Header::new("To", place(&message.to)));
    head.extend(message.created.map(|at| Header::new("DateTime", at.to_string())));
    head.push(Header::new("NS", format!("{PREFIX} <{MESSAGE_NAMESPACE}>")));
    let own = |name: &str, value: String| Header::new(format!("{PREFIX}.{name}"), value);
    head.push(own(MESSAGE_ID, message.id.to_string()));
    head.extend(message.expires.map(|at| own(EXPIRES, at.to_string())));
    head.extend(message.reply_to.as_ref().map(|to| own(REPLY_TO, place(to))));
    head.extend(message.thread.as_ref().map(|thread| own(THREAD, escape_value(thread))));
    head
}

/// The header of the body's type, as we write it.
fn typed(message: &Message) -> Header {
    Header::new("Content-type", message.content_type.as_deref().unwrap_or(TYPE_DEFAULT))
}

fn is_type(header: &Header) -> bool {
    header.name.eq_ignore_ascii_case("content-type")
}

/// The type that a header names, on one line; none if it is the default.
fn media_type(header: &Header) -> Option<String> {
    (header.value != TYPE_DEFAULT).then(|| header.value.replace("\r\n", ""))
}

/// Names and values of the headers in our own namespace, whatever its prefix.
fn ours(cpim: &Cpim) -> impl Iterator<Item = (&str, &str)> {
    let mut prefix = "";
    cpim.headers.iter().filter_map(move |header| {
        if header.name == "NS"
            && let Some((declared, uri)) = read::declared(&header.value)
        {
            match uri == MESSAGE_NAMESPACE {
                true => prefix = declared,
                false if declared == prefix => prefix = "",
                false => {}
            }
        }
        let (own, name) = header.name.split_once('.')?;
        (own == prefix).then_some((name, &*header.value))
    })
}

fn at_most_one<'a>(cpim: &'a Cpim, name: &'static str) -> Result<Option<&'a str>, Unfit> {
    let mut all = cpim.headers.iter().filter(|header| header.base_name() == name);
    match (all.next(), all.count()) {
        (first, 0) => Ok(first.map(|header| &*header.value)),
        (_, more) => Err(Unfit::Count { name, count: more + 1 }),
    }
}

/// The address in `Name <im:user@domain>`.
fn address(value: &str, name: &'static str) -> Result<Address, Unfit> {
    let uri = value.rsplit_once('<').and_then(|(_, uri)| uri.strip_suffix('>'));
    let address = uri.filter(|uri| uri.contains(':')).and_then(|uri| Address::parse(uri).ok());
    address.ok_or_else(|| wrong(name, value, "<im:user@domain>"))
}

fn time(value: &str, name: &'static str) -> Result<Timestamp, Unfit> {
    Timestamp::parse(value).ok_or_else(|| wrong(name, value, "time such as 2026-12-01T09:00:00Z"))
}

fn wrong(name: &'static str, value: &str, expected: &'static str) -> Unfit {
    Unfit::Value { name, value: value.to_owned(), expected }
}
