//! An item of the log as JSON and as lines for people.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use impp_client::protocol::command::Message;
use impp_client::protocol::state::{DeviceReport, FateReport, Item, ItemKind};
use serde::Serialize;

use crate::output::{in_line, indented, quoted};

#[derive(Debug, Default, Serialize)]
pub(in crate::commands) struct ItemJson {
    item: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    to: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpim_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderJson>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    volatile: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirected_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceJson>,
}

impl ItemJson {
    /// Shows the message as it is in Message/CPIM.
    pub(super) fn carry(&mut self, octets: &[u8]) {
        self.cpim_base64 = Some(STANDARD.encode(octets));
    }
}

/// A device that is none any more.
#[derive(Debug, Serialize)]
struct DeviceJson {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    event: &'static str,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    newcomer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newcomer_name: Option<String>,
}

#[derive(Debug, Serialize)]
struct HeaderJson {
    name: String,
    value: String,
}

/// What an item is called that is not as this program knows such.
const UNREADABLE: &str = "unreadable";
/// The type of a body that names none.
const TYPE_DEFAULT: &str = "text/plain";

/// An item of the log. One that this program cannot read keeps nobody from the next.
pub(in crate::commands) fn json(item: &Item) -> ItemJson {
    let (cursor, time) = (Some(self::cursor(&item.cursor)), Some(item.time.to_string()));
    let read = match item.kind {
        ItemKind::Received | ItemKind::Sent => {
            message(item).map(|message| ItemJson { received: time, ..of_message(&message) })
        }
        ItemKind::Fate => item.fate.as_ref().map(|report| ItemJson { since: time, ..fate(report) }),
        ItemKind::Device => item.device.as_ref().map(|report| {
            let device = Some(device(report));
            ItemJson { since: time, device, ..ItemJson::default() }
        }),
        ItemKind::Deleted => item.deleted.as_ref().map(|report| {
            let id = report.id.map(|id| id.to_string()).unwrap_or_default();
            let deleted = Some(self::cursor(&report.cursor));
            ItemJson { since: time, id, deleted, ..ItemJson::default() }
        }),
        ItemKind::Gone => Some(ItemJson { since: time, ..ItemJson::default() }),
        ItemKind::Damaged => Some(ItemJson::default()),
    };
    match read {
        Some(json) => ItemJson { item: item.kind.as_str(), cursor, ..json },
        None => ItemJson { item: UNREADABLE, cursor, ..ItemJson::default() },
    }
}

/// The message of an item, if there is one in it.
pub(super) fn message(item: &Item) -> Option<Message> {
    Message::decode(item.message.clone()?).ok()
}

/// A message that is in no log.
pub(super) fn volatile(message: &Message) -> ItemJson {
    ItemJson { item: ItemKind::Received.as_str(), ..of_message(message) }
}

/// The text of a cursor.
pub(in crate::commands) fn cursor(cursor: &Bytes) -> String {
    URL_SAFE_NO_PAD.encode(cursor)
}

/// Reads the text of a cursor.
pub(in crate::commands) fn parse_cursor(text: &str) -> Result<Bytes, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not a cursor that inbox printed")?;
    Ok(bytes.into())
}

fn of_message(message: &Message) -> ItemJson {
    let content_type = message.content_type.as_deref().unwrap_or(TYPE_DEFAULT);
    let text = match is_text(content_type) {
        true => std::str::from_utf8(&message.body).ok(),
        false => None,
    };
    let header = |header: &impp_client::protocol::command::Header| HeaderJson {
        name: header.name.clone(),
        value: header.value.clone(),
    };
    ItemJson {
        id: message.id.to_string(),
        from: message.from.as_ref().map(ToString::to_string),
        to: message.to.to_string(),
        content_type: Some(content_type.to_owned()),
        body: text.map(str::to_owned),
        body_base64: text.is_none().then(|| STANDARD.encode(&message.body)),
        created: message.created.or_else(|| message.id.time()).map(|time| time.to_string()),
        expires: message.expires.map(|time| time.to_string()),
        reply_to: message.reply_to.as_ref().map(ToString::to_string),
        thread: message.thread.clone(),
        headers: message.headers.iter().map(header).collect(),
        volatile: message.volatile,
        sender: message.sender.as_ref().map(ToString::to_string),
        redirected_from: message.redirected_from.as_ref().map(ToString::to_string),
        ..ItemJson::default()
    }
}

fn fate(report: &FateReport) -> ItemJson {
    ItemJson {
        item: ItemKind::Fate.as_str(),
        id: report.id.to_string(),
        to: report.to.to_string(),
        fate: Some(report.fate.as_str()),
        cause: report.code.map(|code| code.as_str()),
        address: report.address.as_ref().map(ToString::to_string),
        ..ItemJson::default()
    }
}

fn device(report: &DeviceReport) -> DeviceJson {
    DeviceJson {
        device: report.id.to_string(),
        name: report.name.clone(),
        event: report.event.as_str(),
        last_seen: report.last_seen.to_string(),
        newcomer: report.newcomer.map(|id| id.to_string()),
        newcomer_name: report.newcomer_name.clone(),
    }
}

/// `device 0102… "phone" was removed`.
fn device_text(device: &DeviceJson) -> String {
    let named = |id: &str, name: &Option<String>| match name {
        Some(name) => format!("device {id} {}", quoted(name)),
        None => format!("device {id}"),
    };
    let gone = named(&device.device, &device.name);
    let last = &device.last_seen;
    match &device.newcomer {
        Some(new) => {
            let new = named(new, &device.newcomer_name);
            format!("{gone}, last used {last}, made room for {new}")
        }
        None => format!("{gone}, last used {last}, was removed"),
    }
}

fn is_text(content_type: &str) -> bool {
    content_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}

/// What is said of an item in which nothing is, or nothing that can be shown.
fn without_message(item: &ItemJson, time: &str) -> Option<String> {
    let is = |kind: ItemKind| item.item == kind.as_str();
    if is(ItemKind::Damaged) {
        let words = "an item is damaged in the server's store and cannot be shown; its operator can \
                     tell more";
        return Some(words.to_owned());
    }
    if item.item == UNREADABLE {
        let words = "an item cannot be read by this program; a newer one may be able to";
        return Some(words.to_owned());
    }
    if is(ItemKind::Gone) {
        return Some(format!("{time} (deleted)"));
    }
    let what = if item.id.is_empty() { "an item of the log" } else { &item.id };
    is(ItemKind::Deleted).then(|| format!("{time} you deleted {what}"))
}

/// `2026-12-01T09:00:00Z bob@localhost: hello`.
pub(in crate::commands) fn text(item: &ItemJson) -> String {
    let time = item.received.as_ref().or(item.since.as_ref()).or(item.created.as_ref());
    let time = time.map(String::as_str).unwrap_or_default();
    if let Some(words) = without_message(item, time) {
        return words;
    }
    if let Some(fate) = item.fate {
        let cause = match (item.cause, &item.address) {
            (Some(cause), Some(address)) => format!(" ({cause}, said to be {address} now)"),
            (Some(cause), None) => format!(" ({cause})"),
            (None, _) => String::new(),
        };
        return format!("{time} {} to {}: {fate}{cause}", item.id, item.to);
    }
    if let Some(device) = &item.device {
        return format!("{time} {}", device_text(device));
    }
    let who = match (&item.from, item.item) {
        (Some(from), "message") => {
            let written = item.sender.as_ref().map(|by| format!(" (sent by {by})"));
            let named = item.redirected_from.as_ref();
            let named = named.map(|named| format!(" (to {named}, redirected)"));
            format!("{from}{}{}", written.unwrap_or_default(), named.unwrap_or_default())
        }
        (None, "message") => "somebody".to_owned(),
        // A copy of what one wrote for somebody, or they for one.
        _ => match (&item.from, &item.sender) {
            (Some(from), Some(by)) => format!("to {} (from {from}, sent by {by})", item.to),
            _ => format!("to {}", item.to),
        },
    };
    let body = match (&item.body, &item.content_type) {
        (Some(body), _) => indented(body),
        (None, content_type) => {
            let bytes = item.body_base64.as_ref().map_or(0, |text| text.len() / 4 * 3);
            format!("({}, about {bytes} bytes)", in_line(content_type.as_deref().unwrap_or("?")))
        }
    };
    format!("{time} {who}: {}", body.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::state::{DeviceEvent, Fate};
    use impp_client::protocol::{Code, DeviceId, MessageId, Timestamp};

    fn message(content_type: Option<&str>, body: &'static [u8]) -> Message {
        let id = MessageId([
            0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a,
            0x80, 0x57,
        ]);
        let body = Bytes::from_static(body);
        Message {
            from: Some("bob@a.example".parse().unwrap()),
            content_type: content_type.map(str::to_owned),
            ..Message::new(id, "alice@a.example".parse().unwrap(), body)
        }
    }

    fn received(message: &Message) -> Item {
        let time = Timestamp::parse("2026-12-01T09:00:00Z").unwrap();
        let item = Item::of(ItemKind::Received, Bytes::from_static(b"\xff\xfe"), time);
        Item { message: Some(message.encode()), ..item }
    }

    #[test]
    fn a_message_is_as_in_the_contract() {
        let item = json(&received(&message(None, b"hello")));
        assert_eq!(
            serde_json::to_string(&item).unwrap(),
            "{\"item\":\"message\",\"cursor\":\"__4\",\
             \"id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"from\":\"bob@a.example\",\
             \"to\":\"alice@a.example\",\"type\":\"text/plain\",\"body\":\"hello\",\
             \"created\":\"2023-06-30T03:34:18.518Z\",\"received\":\"2026-12-01T09:00:00Z\"}"
        );
        assert_eq!(text(&item), "2026-12-01T09:00:00Z bob@a.example: hello");
    }

    #[test]
    fn a_body_that_is_no_text_is_base64() {
        for (content_type, body) in [("image/png", &b"ab"[..]), ("text/plain", b"a\xff")] {
            let item = json(&received(&message(Some(content_type), body)));
            assert!(item.body.is_none() && item.body_base64.is_some(), "{content_type}");
        }
        let item = json(&received(&message(Some("TEXT/html; charset=utf-8"), b"<p>")));
        assert_eq!(item.body.as_deref(), Some("<p>"));
    }

    #[test]
    fn a_fate_says_what_and_why() {
        let id = message(None, b"").id;
        let to = "bob@b.example".parse().unwrap();
        let report = FateReport {
            id,
            to,
            fate: Fate::Failed,
            code: Some(Code::Refused),
            by: None,
            text: None,
            address: None,
        };
        let item = |report| Item {
            kind: ItemKind::Fate,
            message: None,
            fate: Some(report),
            ..received(&message(None, b""))
        };
        let line = serde_json::to_string(&json(&item(report.clone()))).unwrap();
        assert!(line.contains(r#""item":"fate""#) && line.contains(r#""cause":"refused""#));
        let address = Some("bob@c.example".parse().unwrap());
        let moved = json(&item(FateReport { code: Some(Code::Moved), address, ..report }));
        assert_eq!(moved.address.as_deref(), Some("bob@c.example"));
        assert!(text(&moved).ends_with("failed (moved, said to be bob@c.example now)"));
    }

    /// Who reads a copy sees for whom it was written, and by whom.
    #[test]
    fn a_copy_that_was_sent_for_somebody_says_so() {
        let [alice, bob] = ["alice@a.example", "bob@a.example"].map(|text| text.parse().ok());
        let copy = |sender| {
            let message = Message { from: alice.clone(), sender, ..message(None, b"hi") };
            text(&json(&Item { kind: ItemKind::Sent, ..received(&message) }))
        };
        let words = "(from alice@a.example, sent by bob@a.example): hi";
        assert!(copy(bob.clone()).ends_with(words), "{}", copy(bob));
        assert!(!copy(None).contains("sent by"));
    }

    #[test]
    fn a_message_that_was_redirected_says_so() {
        let named = Some("alice@people.a.example".parse().unwrap());
        let item = json(&received(&Message { redirected_from: named, ..message(None, b"hi") }));
        assert_eq!(item.redirected_from.as_deref(), Some("alice@people.a.example"));
        let line = "2026-12-01T09:00:00Z bob@a.example (to alice@people.a.example, redirected): hi";
        assert_eq!(text(&item), line);
    }

    #[test]
    fn a_device_that_made_room_says_for_which() {
        let report = DeviceReport {
            id: DeviceId([1; 16]),
            name: Some("phone".to_owned()),
            event: DeviceEvent::MadeRoom,
            last_seen: Timestamp::parse("2026-11-01T09:00:00Z").unwrap(),
            newcomer: Some(DeviceId([2; 16])),
            newcomer_name: None,
        };
        let (kind, bobs) = (ItemKind::Device, message(None, b""));
        let item = Item { kind, message: None, device: Some(report), ..received(&bobs) };
        let item = json(&item);
        let (one, two) = ("01".repeat(16), "02".repeat(16));
        assert_eq!(
            serde_json::to_string(&item).unwrap(),
            format!(
                "{{\"item\":\"device\",\"cursor\":\"__4\",\"since\":\"2026-12-01T09:00:00Z\",\
                 \"device\":\"{one}\",\"name\":\"phone\",\"event\":\"made-room\",\
                 \"last_seen\":\"2026-11-01T09:00:00Z\",\"newcomer\":\"{two}\"}}"
            )
        );
        let words = format!(
            "2026-12-01T09:00:00Z device {one} \"phone\", last used 2026-11-01T09:00:00Z, made room \
             for device {two}"
        );
        assert_eq!(text(&item), words);
    }

    /// E9: a message of which this program knows too little keeps nobody from the next one.
    #[test]
    fn e9_what_cannot_be_read_is_told_as_such() {
        let odd = Some(Bytes::from_static(b"\xff"));
        let item = Item { message: odd, ..received(&message(None, b"")) };
        let without = Item { message: None, kind: ItemKind::Fate, ..item.clone() };
        for item in [item, without] {
            let json = json(&item);
            let line = "{\"item\":\"unreadable\",\"cursor\":\"__4\"}";
            assert_eq!(serde_json::to_string(&json).unwrap(), line);
            assert!(text(&json).contains("cannot be read"));
        }
    }

    #[test]
    fn a_cursor_survives_being_printed() {
        let bytes = Bytes::from_static(b"\x00\xff\x10 cursor");
        assert_eq!(parse_cursor(&cursor(&bytes)), Ok(bytes));
        assert!(parse_cursor("a=b").is_err());
    }

    /// One of 64 begins as an option does.
    #[test]
    fn a_cursor_may_begin_with_a_hyphen() {
        use clap::Parser;
        for words in [
            ["inbox", "--since", "-qgQ"].as_slice(),
            &["history", "bob@localhost", "--before", "-qgQ"],
        ] {
            let words = ["impp"].iter().chain(words);
            assert!(crate::args::Args::try_parse_from(words).is_ok());
        }
    }
}
