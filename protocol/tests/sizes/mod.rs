//! What operations cost on the wire, as a table of the specification: octets each way, and round trips.
//!
//! Addresses have 16 octets, cursors 24 as this server makes them, and request numbers one octet.
//! What TLS adds to it (22 octets for what is written at once) is left out.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::*;
use impp_protocol::presence::{Document, FieldName, Fields, PartId, Patch, Version};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::state::{self, Item, ItemKind, Page, ShortPage, SubscriptionState};
use impp_protocol::{
    Address, Command, DeviceId, Domain, MessageId, Request, SessionId, Timestamp, What,
};

use crate::hello;

/// What a message of 20 octets may cost with its answer.
const MESSAGE_OCTETS_MAX: usize = 90;

/// Who speaks, a frame at a time.
enum Said {
    Client(u64, Command),
    Server(u64, Command),
}
use Said::{Client, Server};

fn address(name: &str) -> Address {
    let address = Address::parse(&format!("{name}@ab.example")).unwrap();
    assert_eq!(address.as_str().len(), 16);
    address
}

fn octets(number: u64, command: &Command) -> usize {
    let mut bytes = BytesMut::new();
    Request { number, command: command.clone() }.put(&mut bytes).unwrap();
    bytes.len()
}

/// Octets from the client, from the server, and how often the client has to wait for the server.
fn cost(said: &[Said]) -> (usize, usize, usize) {
    let (mut sent, mut got, mut trips, mut asks) = (0, 0, 0, false);
    for said in said {
        match said {
            Client(number, command) => {
                sent += octets(*number, command);
                asks = true;
            }
            Server(number, command) => {
                got += octets(*number, command);
                trips += usize::from(std::mem::take(&mut asks));
            }
        }
    }
    (sent, got, trips)
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_123)
}

fn cursor() -> Bytes {
    Bytes::from_static(&[0xc1; 24])
}

fn hellos() -> [Said; 2] {
    let client = Hello {
        features: [EVERY_ITEM, SHORT_PAGES, REPEATS].map(str::to_owned).to_vec(),
        agent: Some("client/1.0".to_owned()),
        ..Hello::empty()
    };
    let server = Hello {
        features: FEATURES_OF_SERVER.map(str::to_owned).to_vec(),
        time: Some(now()),
        domains: vec![Domain::parse("ab.example").unwrap()],
        ..hello::of_server()
    };
    [Client(0, client.into()), Server(0, server.into())]
}

/// Nonces of 32 characters, one behind the other in the server's words.
fn sign_in() -> Vec<Said> {
    let nonce = "n".repeat(32);
    let first = format!("p=tls-exporter,,n=alice@ab.example,r={nonce}");
    let challenge = format!("r={nonce}{nonce},s={},i=100000", "s".repeat(24));
    let proof = format!("c={},r={nonce}{nonce},p={}", "b".repeat(64), "p".repeat(44));
    let auth = |mechanism: Option<&str>, data: String| Auth {
        mechanism: mechanism.map(str::to_owned),
        data: Some(data.into()),
        device: mechanism.map(|_| DeviceId([1; 16])),
        ..Auth::empty()
    };
    let done = Done {
        data: Some(format!("v={}", "v".repeat(44)).into()),
        address: Some(address("alice")),
        resume: Some(Ticket::new(SessionId([2; 16]), [3; 32]).encode().into()),
        window: Some(Duration::from_secs(300)),
        ..Done::empty()
    };
    let [client, server] = hellos();
    vec![
        client,
        Client(1, auth(Some("SCRAM-SHA-256-PLUS"), first).into()),
        server,
        Server(1, Challenge { data: challenge.into() }.into()),
        Client(2, auth(None, proof).into()),
        Server(2, done.into()),
    ]
}

fn resume() -> Vec<Said> {
    let (session, exporter) = (SessionId([2; 16]), [4; 32]);
    let ticket = Ticket::new(session, [3; 32]);
    let auth = Auth {
        data: Some(Bytes::copy_from_slice(&ticket.client_proof(&exporter))),
        device: Some(DeviceId([1; 16])),
        resume: Some(session),
        ..Auth::empty()
    };
    let done = Done {
        data: Some(Bytes::copy_from_slice(&ticket.server_proof(&exporter))),
        address: Some(address("alice")),
        resume: Some(ticket.encode().into()),
        window: Some(Duration::from_secs(300)),
        resumed: true,
        ..Done::empty()
    };
    let [client, server] = hellos();
    vec![client, Client(1, auth.into()), server, Server(1, done.into())]
}

fn document(note: &str) -> Document {
    let mut document = Document::default();
    let status = [(FieldName::parse("status").unwrap(), "open".into())];
    document.tuples.insert(PartId::parse("d0a1b2c3d").unwrap(), Fields::from_iter(status));
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    document
}

fn publish(old: &Document, lease: Option<u64>) -> [Said; 2] {
    let content = Some(Patch::between(old, &document("at my desk")).encode());
    let lease = lease.map(Duration::from_secs);
    let replace = old.person.is_empty();
    let publish = Publish::of(address("alice"), What::Presence, content);
    let publish = Publish { lease, replace, ..publish };
    [Client(3, publish.into()), Server(3, Done { lease, ..Done::empty() }.into())]
}

fn notify(held: Option<&Document>) -> Said {
    let new = document("at my desk");
    let version = |document: &Document| Version::of(&document.encode());
    let told = Notify {
        base: held.map(version),
        version: Some(version(&new)),
        snapshot: held.is_none().then(|| new.encode()),
        patch: held.map(|held| Patch::between(held, &new).encode()),
        ..Notify::of(address("alice"), What::Presence, SubscriptionState::Active)
    };
    Server(0, told.into())
}

fn follow() -> Vec<Said> {
    let done = Done {
        state: Some(SubscriptionState::Active),
        version: Some(Version([5; 16])),
        ..Done::empty()
    };
    let ask = Subscribe::of(address("alice"), What::Presence);
    vec![Client(3, ask.into()), Server(3, done.into()), notify(None)]
}

fn message() -> Message {
    let body = Bytes::from_static(b"twenty octets of it.");
    assert_eq!(body.len(), 20);
    Message::new(MessageId::new(now(), [6; 10]), address("bobby"), body)
}

fn send() -> [Said; 2] {
    let done = Done { outcome: Some(Outcome::Delivered), time: Some(now()), ..Done::empty() };
    [Client(3, message().into()), Server(3, done.into())]
}

/// A page with that message, as its recipient is told it.
fn page() -> Page {
    let message = Message { from: Some(address("alice")), ..message() };
    let item = Item::of(ItemKind::Received, cursor(), now());
    let item = Item { message: Some(message.encode()), ..item };
    Page { items: vec![item], cursor: cursor(), more: false, oldest: cursor() }
}

/// As it is told to a client that takes short pages, and has been told one before.
fn delivered() -> [Said; 1] {
    let short = ShortPage::of(page(), &address("bobby"), true);
    let snapshot = Some(state::encode(&short));
    let of_log = Notify::of(address("bobby"), What::Log, SubscriptionState::Active);
    [Server(0, Notify { snapshot, ..of_log }.into())]
}

fn read() -> [Said; 2] {
    let ask = Fetch { cursor: Some(cursor()), ..Fetch::of(address("bobby"), What::Log) };
    let content = Some(state::encode(&page()));
    [Client(3, ask.into()), Server(3, Done { content, ..Done::empty() }.into())]
}

fn acknowledge() -> [Said; 2] {
    let ack = Ack { address: address("bobby"), cursor: cursor() };
    [Client(3, ack.into()), Server(3, Done::empty().into())]
}

/// The rows of the table.
pub(crate) fn table() -> String {
    let ping = Done { time: Some(now()), ..Done::empty() };
    let rows: Vec<(&str, Vec<Said>)> = vec![
        ("HELLO and signing in by SCRAM-SHA-256-PLUS", sign_in()),
        ("HELLO and resuming", resume()),
        ("PUBLISH a status and a note, leased", publish(&Document::default(), Some(3_600)).into()),
        ("PUBLISH another note, bound to the session", publish(&document("away"), None).into()),
        ("SUBSCRIBE, and the first NOTIFY", follow()),
        ("NOTIFY of another note", vec![notify(Some(&document("away")))]),
        ("MESSAGE of 20 octets", send().into()),
        ("NOTIFY of the log with that message", delivered().into()),
        ("FETCH of the log with that message", read().into()),
        ("ACK", acknowledge().into()),
        ("PING", vec![Client(3, Ping::empty().into()), Server(3, ping.into())]),
    ];
    let mut table = String::from(
        "| what | octets from the client | from the server | round trips |\n|---|---|---|---|\n",
    );
    for (what, said) in rows {
        let (sent, got, trips) = cost(&said);
        let _ = writeln!(table, "| {what} | {sent} | {got} | {trips} |");
    }
    table
}

/// What a message costs its sender is bounded.
#[test]
fn a_message_and_its_answer_are_short() {
    let (sent, got, trips) = cost(&send());
    assert!(sent + got <= MESSAGE_OCTETS_MAX, "{sent} + {got}");
    assert_eq!(trips, 1);
    assert_eq!(cost(&sign_in()).2, 2);
    assert_eq!(cost(&resume()).2, 1);
}
