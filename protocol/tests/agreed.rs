//! The vectors in JSON, which a client in another language has made and a server has agreed to: this
//! reader finds in them what they say.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::Message;
use impp_protocol::field::{Reader, Writer};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::presence::{Document, Patch, Version};
use impp_protocol::sasl::Password;
use impp_protocol::sasl::scram::{Binding, Client, Nonce};
use impp_protocol::schema::Map;
use impp_protocol::state::{self, Contacts, Watchers};
use impp_protocol::{Address, Request};
use serde_json::Value;

fn vectors(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The entries of a list, of which there are some.
fn each<'a>(vectors: &'a Value, list: &str) -> &'a [Value] {
    let entries = vectors[list].as_array().unwrap();
    assert!(!entries.is_empty(), "{list}");
    entries
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().expect(name)
}

fn hex(entry: &Value, name: &str) -> Bytes {
    let digits = text(entry, name).as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

#[test]
fn addresses() {
    let vectors = vectors("addresses.json");
    for address in each(&vectors, "accepted") {
        let address = address.as_str().unwrap();
        assert_eq!(Address::parse_canonical(address).map(|a| a.to_string()), Ok(address.into()));
    }
    for refused in ["refused", "refused_by_tables"] {
        for address in each(&vectors, refused) {
            let address = address.as_str().unwrap();
            assert!(Address::parse_canonical(address).is_err(), "{address}");
        }
    }
    for entry in each(&vectors, "written") {
        let address = Address::parse(text(entry, "written")).unwrap();
        assert_eq!(address.as_str(), text(entry, "address"));
    }
}

#[test]
fn sign_ins() {
    let vectors = vectors("sign-ins.json");
    for entry in each(&vectors, "sign_ins") {
        let binding = match entry["exporter"].is_null() {
            true => Binding::None,
            false => Binding::TlsExporter(hex(entry, "exporter")[..].try_into().unwrap()),
        };
        let password = Password::prepare(text(entry, "password")).unwrap();
        let nonce = Nonce::from_text(text(entry, "client_nonce")).unwrap();
        let (client, first) =
            Client::start(text(entry, "address"), password, nonce, binding).unwrap();
        assert_eq!(first, text(entry, "client_first").as_bytes());
        let challenge = text(entry, "server_first").as_bytes();
        let (client, last) = client.handle_challenge(challenge, None).unwrap();
        assert_eq!(last, text(entry, "client_final").as_bytes());
        assert!(client.handle_success(text(entry, "server_final").as_bytes()).is_ok(), "{entry}");
    }
}

#[test]
fn documents() {
    let unknown = vectors("unknown.json");
    let vectors = vectors("documents.json");
    for entry in each(&unknown, "shown") {
        let number = match entry.get("contacts") {
            Some(_) => {
                let contacts: Contacts = state::decode(hex(entry, "contacts")).unwrap();
                contacts.entries[0].grant.to_string()
            }
            None => {
                let watchers: Watchers = state::decode(hex(entry, "watchers")).unwrap();
                watchers.entries[0].by.unwrap().to_string()
            }
        };
        assert_eq!(number, entry["number"].to_string(), "{entry}");
    }
    for entry in each(&vectors, "patches") {
        let (base, result) = (hex(entry, "base"), hex(entry, "result"));
        assert_eq!(Version::of(&base).to_string(), text(entry, "base_version"));
        assert_eq!(Version::of(&result).to_string(), text(entry, "version"));
        let patch = Patch::decode(hex(entry, "patch")).unwrap();
        let made = patch.applied(Document::decode(base).unwrap()).unwrap();
        assert_eq!(made.encode(), result, "{entry}");
    }
}

fn read(entry: &Value, name: &str) -> Option<Request> {
    let mut bytes = BytesMut::from(&hex(entry, name)[..]);
    let frame = frame::take(&mut bytes, FRAME_BYTES_MAX).ok()??;
    assert!(bytes.is_empty(), "{entry}");
    Request::decode(frame).ok()
}

#[test]
fn what_nobody_knows_yet() {
    let vectors = vectors("unknown.json");
    for entry in each(&vectors, "skipped") {
        let known = read(entry, "known").map(|request| request.command);
        assert_eq!(read(entry, "frame").map(|request| request.command), known, "{entry}");
        assert!(known.is_some(), "{entry}");
    }
    for entry in each(&vectors, "refused") {
        assert_eq!(read(entry, "frame"), None, "{entry}");
    }
    for entry in each(&vectors, "patches") {
        let patch = Patch::decode(hex(entry, "patch")).unwrap();
        let made = patch.applied(Document::default()).unwrap();
        assert_eq!(made.encode(), hex(entry, "result"), "{entry}");
    }
    for entry in each(&vectors, "kept") {
        let mut message = Message::get(Reader::new(hex(entry, "sent"))).unwrap();
        message.from = Some(Address::parse("bob@localhost").unwrap());
        let mut stored = Writer::default();
        message.put(&mut stored);
        assert_eq!(stored.into_bytes(), hex(entry, "stored"), "{entry}");
    }
}
