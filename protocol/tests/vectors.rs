//! Frames in hex with their meaning, for authors of other clients: `protocol/vectors/`.
//!
//! `UPDATE=1 cargo test -p impp-protocol --test vectors` writes them anew from this table.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hello;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::*;
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::presence::{Document, FieldName, Fields, PartId, Patch, Version};
use impp_protocol::sasl::resume::{Binding as TicketBinding, Bound, Ticket, end_point};
use impp_protocol::sasl::scram::{Binding, Client, Iterations, Nonce, Server, Verifier};
use impp_protocol::sasl::{Mechanism, Password};
use impp_protocol::state::{
    self, Contact, ContactEdit, Deletion, DeletionReport, DeviceEvent, DeviceReport, Grant, Item,
    ItemKind, Page, Proof, ShortPage, SubscriptionEvent, SubscriptionState, WatcherEntry, Watchers,
};
use impp_protocol::{
    Address, Code, Command, DeviceId, Domain, Error, MessageId, Request, SessionId, Timestamp, What,
};

struct Vector {
    name: &'static str,
    meaning: &'static str,
    request: Request,
}

fn vector(
    name: &'static str,
    meaning: &'static str,
    number: u64,
    command: impl Into<Command>,
) -> Vector {
    Vector { name, meaning, request: Request { number, command: command.into() } }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A whole sign-in, each message as its frame: alice's password is "pencil", the exporter's value
/// the bytes 0 to 31, the salt those from 0 to 15.
fn sign_in() -> Vec<Vector> {
    let exporter = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let salt = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let [client_nonce, server_nonce] = ["abc", "def"].map(|text| Nonce::from_text(text).unwrap());
    let (password, binding) =
        (Password::prepare("pencil").unwrap(), Binding::TlsExporter(exporter));
    let verifier = Verifier::from_password(&password, salt, Iterations::RANDOM_PASSWORD);
    let alice = address("alice@a.example");
    let (client, first) = Client::start(alice.as_str(), password, client_nonce, binding).unwrap();
    let server = Server::start(Mechanism::ScramSha256Plus, &first, Some(&exporter)).unwrap();
    let (server, challenge) = server.challenge(&alice, &verifier, &server_nonce).unwrap();
    let (client, proof) = client.handle_challenge(&challenge, None).unwrap();
    let proven = server.finish(&proof).unwrap();
    assert!(client.handle_success(proven.server_final()).is_ok());
    let auth = Auth {
        mechanism: Some("SCRAM-SHA-256-PLUS".to_owned()),
        data: Some(first.into()),
        device: Some(DeviceId([0x11; 16])),
        device_name: Some("laptop".to_owned()),
        ..Auth::empty()
    };
    let deviceless = Auth { device: None, device_name: None, ..auth.clone() };
    let challenge = Challenge { data: challenge.into() };
    let session = SessionId([0x22; 16]);
    let (old, new) = (Ticket::new(session, [0x33; 32]), Ticket::new(session, [0x44; 32]));
    let second = Auth { data: Some(proof.into()), ..Auth::empty() };
    let signed_in = Done {
        data: Some(Bytes::copy_from_slice(proven.server_final())),
        address: Some(alice),
        resume: Some(old.encode().into()),
        window: Some(Duration::from_secs(300)),
        ..Done::empty()
    };
    let later = resumptions((&old, &new), &exporter, &signed_in);
    let mut vectors = vec![
        vector("auth", "alice begins to sign in from a device", 1, auth),
        vector("auth-without-device", "the same by a script that keeps nothing", 1, deviceless),
        vector("challenge", "the server's salt, iteration count and nonce", 1, challenge),
        vector("auth-proof", "alice proves that she knows the password", 2, second),
        vector("ok-signed-in", "alice is signed in, and the server proven", 2, signed_in),
    ];
    vectors.extend(later);
    vectors
}

/// How the session that was signed in is resumed by the first of two tickets, which brings the second.
fn resumptions(
    (old, new): (&Ticket, &Ticket),
    exporter: &[u8; 32],
    signed_in: &Done,
) -> Vec<Vector> {
    let resume = Auth {
        data: Some(Bytes::copy_from_slice(&old.client_proof(exporter))),
        device: Some(DeviceId([0x11; 16])),
        resume: Some(old.session()),
        ..Auth::empty()
    };
    let shown = Bound::EndPoint(end_point(b"certificate"));
    let resume_by_end_point = Auth {
        data: Some(Bytes::copy_from_slice(&old.client_proof(&shown))),
        binding: Some(TicketBinding::EndPoint),
        ..resume.clone()
    };
    let resumed_by_end_point = Done {
        data: Some(Bytes::copy_from_slice(&old.server_proof(&shown))),
        resume: Some(new.encode().into()),
        resumed: true,
        ..signed_in.clone()
    };
    let resumed = Done {
        data: Some(Bytes::copy_from_slice(&old.server_proof(exporter))),
        resume: Some(new.encode().into()),
        resumed: true,
        ..signed_in.clone()
    };
    let late = Done { layer_ended: true, ..resumed.clone() };
    vec![
        vector("auth-resume", "later she resumes the session (the same exporter)", 1, resume),
        vector("ok-resumed", "it goes on; the next ticket", 1, resumed),
        vector(
            "auth-resume-by-end-point",
            "another client resumes it, by the end point of a server whose certificate is the 11 \
             octets \"certificate\"",
            1,
            resume_by_end_point,
        ),
        vector(
            "ok-resumed-by-end-point",
            "it goes on; the server knows the ticket too",
            1,
            resumed_by_end_point,
        ),
        vector(
            "ok-resumed-late",
            "it goes on, but her layer has ended: she publishes it again",
            1,
            late,
        ),
    ]
}

/// A SUBSCRIBE of the contacts that says what is held.
fn holding() -> Subscribe {
    let held = HeldVersion { address: address("bob@a.example"), version: Version([0x55; 16]) };
    let subscribe = Subscribe::of(address("alice@a.example"), What::Contacts);
    Subscribe { expand: true, versions: vec![held], ..subscribe }
}

/// Alice's log with one message from Bob in it.
fn page() -> Page {
    let cursor = Bytes::from_static(&[0xc1; 24]);
    let message = Message {
        to: address("alice@a.example"),
        from: Some(address("bob@a.example")),
        ..message()
    };
    let time = Timestamp::from_millis(1_700_000_000_123);
    let item = Item::of(ItemKind::Received, cursor.clone(), time);
    let item = Item { message: Some(message.encode()), ..item };
    let oldest = Bytes::from_static(&[0xc0; 24]);
    Page { items: vec![item], cursor, more: false, oldest }
}

/// The page as it is told to alice, who follows and knows where the log begins.
fn short_page() -> Notify {
    let owner: Address = "alice@a.example".parse().unwrap();
    let snapshot = Some(state::encode(&ShortPage::of(page(), &owner, true)));
    Notify { snapshot, ..Notify::of(owner, What::Log, SubscriptionState::Active) }
}

/// Alice's log where her old phone had to make room.
fn page_of_device() -> Page {
    let page = page();
    let report = DeviceReport {
        id: DeviceId([0xd1; 16]),
        name: Some("phone".to_owned()),
        event: DeviceEvent::MadeRoom,
        last_seen: Timestamp::from_millis(1_690_000_000_000),
        newcomer: Some(DeviceId([0xd2; 16])),
        newcomer_name: None,
    };
    let of_device = |item: Item| Item {
        kind: ItemKind::Device,
        message: None,
        device: Some(report.clone()),
        ..item
    };
    Page { items: page.items.into_iter().map(of_device).collect(), ..page }
}

/// Alice's log where she deleted bob's message, as it is told to who follows it.
fn page_of_deletion() -> Page {
    let page = page();
    let id = Some(message().id);
    let cursor = Bytes::from_static(&[0xc2; 24]);
    let report = DeletionReport { cursor: page.cursor.clone(), id };
    let time = Timestamp::from_millis(1_700_000_100_000);
    let item = Item::of(ItemKind::Deleted, cursor.clone(), time);
    Page { items: vec![Item { deleted: Some(report), ..item }], cursor, ..page }
}

fn message() -> Message {
    let id = MessageId([1, 0x93, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    let body = Bytes::from_static("h\u{e9}llo".as_bytes());
    Message {
        created: Some(Timestamp::from_millis(1_700_000_000_000)),
        ..Message::new(id, address("bob@a.example"), body)
    }
}

fn document() -> Document {
    let mut document = Document::default();
    let fields = [("contact", "im:alice@a.example"), ("status", "open")];
    let fields = fields.map(|(name, value)| (FieldName::parse(name).unwrap(), value.into()));
    document.tuples.insert(PartId::parse("d1").unwrap(), Fields::from_iter(fields));
    document.person.insert(FieldName::parse("note").unwrap(), "writing".into());
    document
}

fn hellos() -> [Vector; 2] {
    let hello = Hello { agent: Some("test/1".to_owned()), ..Hello::empty() };
    let server_hello = Hello {
        time: Some(Timestamp::from_millis(1_700_000_000_000)),
        domains: vec![Domain::parse("a.example").unwrap()],
        ..hello::of_server()
    };
    [
        vector("hello", "a client speaks version 1", 0, hello),
        vector("hello-server", "the server tells its time, limits and mechanisms", 0, server_hello),
    ]
}

fn publish() -> Publish {
    Publish {
        address: address("alice@a.example"),
        what: What::Presence,
        content: Some(Patch::between(&Document::default(), &document()).encode()),
        lease: Some(Duration::from_secs(3600)),
        replace: true,
        base: None,
    }
}

fn of_presence() -> [Vector; 4] {
    let mut changed = document();
    changed.person.insert(FieldName::parse("note").unwrap(), "reading".into());
    let patch = Patch::between(&document(), &changed);
    let (old, new) = (Version::of(&document().encode()), Version::of(&changed.encode()));
    let subscribe = Subscribe::of(address("alice@a.example"), What::Presence);
    let notify = Notify {
        version: Some(old),
        snapshot: Some(document().encode()),
        ..Notify::of(address("alice@a.example"), What::Presence, SubscriptionState::Active)
    };
    let patched = Notify {
        base: Some(old),
        version: Some(new),
        snapshot: None,
        patch: Some(patch.encode()),
        ..notify.clone()
    };
    [
        vector("publish", "alice's device is open, with a note, for an hour", 3, publish()),
        vector("subscribe", "follow alice as long as the session lives", 4, subscribe),
        vector("notify-snapshot", "all that the watcher may see of alice", 0, notify),
        vector("notify-patch", "her note has changed", 0, patched),
    ]
}

/// Alice's watchers: bob, and then carol of another domain, whom she blocks politely.
fn of_watchers() -> [Vector; 2] {
    let bob = WatcherEntry {
        watcher: address("bob@a.example"),
        state: SubscriptionState::Active,
        event: SubscriptionEvent::Approved,
        since: Some(Timestamp::from_millis(1_700_000_000_000)),
        proven: true,
        by: Some(Proof::SignIn.into()),
        polite: false,
        looks: None,
        looked: None,
        sessions: None,
    };
    let carol = WatcherEntry {
        watcher: address("carol@b.example"),
        event: SubscriptionEvent::Subscribe,
        by: Some(Proof::Domain.into()),
        polite: true,
        looks: Some(2),
        looked: Some(Timestamp::from_millis(1_700_000_060_000)),
        ..bob.clone()
    };
    let (gone, counts) = (vec![], vec![]);
    let all = Watchers { entries: vec![bob.clone()], gone, more: false, dropped: None, counts };
    let change = Watchers { entries: vec![carol], gone: vec![bob.watcher], ..all.clone() };
    let notify = Notify::of(address("alice@a.example"), What::Watchers, SubscriptionState::Active);
    let (snapshot, patch) = (Some(state::encode(&all)), Some(state::encode(&change)));
    let changed = Notify { patch, ..notify.clone() };
    [
        vector("notify-watchers", "bob watches alice", 0, Notify { snapshot, ..notify }),
        vector("notify-watchers-change", "carol does now, and bob is gone", 0, changed),
    ]
}

fn publish_contact() -> Publish {
    let contact = Contact {
        address: address("bob@a.example"),
        name: Some("Bob".to_owned()),
        groups: vec!["work".to_owned()],
        follow: true,
        grant: Grant::Status.into(),
        subscription: None,
    };
    let edit = ContactEdit::set(contact);
    Publish {
        what: What::Contacts,
        content: Some(state::encode(&edit)),
        lease: None,
        replace: false,
        ..publish()
    }
}

fn forgotten() -> Vector {
    vector(
        "error-forgotten",
        "a repeat of request 7, of which nothing is kept any more: it may have been done",
        7,
        Error { text: None, ..Error::forgotten("") },
    )
}

fn vectors() -> Vec<Vector> {
    let delivered = Done {
        outcome: Some(Outcome::Delivered),
        time: Some(Timestamp::from_millis(1_700_000_000_123)),
        ..Done::empty()
    };
    let fetch = Fetch { max: Some(10), ..Fetch::of(address("alice@a.example"), What::Log) };
    let back = Fetch { backwards: true, with: Some(address("bob@a.example")), ..fetch.clone() };
    let content = Some(state::encode(&page()));
    let ok_page = Done { content, ..Done::empty() };
    let content = Some(state::encode(&page_of_device()));
    let ok_page_device = Done { content, ..Done::empty() };
    let delete = state::encode(&Deletion { cursor: page().cursor });
    let delete = Publish::of(address("alice@a.example"), What::Log, Some(delete));
    let content = Some(state::encode(&page_of_deletion()));
    let ok_page_deleted = Done { content, ..Done::empty() };
    let ack = Ack { address: address("alice@a.example"), cursor: page().cursor };
    let bye = Bye {
        reason: ByeReason::Stopping,
        text: None,
        retry_after: Some(Duration::from_secs(3)),
        server: None,
    };
    let mut vectors = Vec::from(hellos());
    vectors.extend(sign_in());
    vectors.extend(of_presence());
    vectors.extend(of_watchers());
    vectors.extend([
        vector("message", "a message to bob, text/plain", 5, message()),
        vector("ok-delivered", "bob's home server has it", 5, delivered),
        vector(
            "error-not-found",
            "there is no such address",
            6,
            Error::new(Code::NotFound, "dave@a.example does not exist"),
        ),
        forgotten(),
        vector(
            "ping-answered",
            "alice has the answers to her requests up to 40",
            41,
            Ping { answered: Some(40) },
        ),
        vector("ping", "are you there?", 7, Ping::empty()),
        vector("fetch", "at most ten items of alice's own log, from the oldest", 8, fetch),
        vector("fetch-back", "the newest ten of what alice and bob wrote", 8, back),
        vector("ok-page", "one message from bob, and no more", 8, ok_page),
        vector("ok-page-device", "a device made room for another", 8, ok_page_device),
        vector("publish-deletion", "bob's message is to go", 12, delete),
        vector("ok-page-deleted", "bob's message was deleted", 8, ok_page_deleted),
        vector(
            "notify-short-page",
            "the same to who follows it, with little said twice",
            0,
            short_page(),
        ),
        vector(
            "subscribe-versions",
            "alice follows her contacts, and holds something of bob's",
            8,
            holding(),
        ),
        vector("ack", "this device has it", 9, ack),
        vector("publish-contact", "bob is followed and may see the status", 10, publish_contact()),
        vector("bye", "the server stops; come back in 3 seconds", 0, bye),
    ]);
    vectors
}

/// Frames that are refused, and the error that says why.
const REFUSED: &[(&str, &str, &str)] = &[
    ("repeated-field", "HELLO with two versions", "0000050100020102 01"),
    ("falling-field", "HELLO with features after agent", "00000801 00 0201 070178 0500"),
    ("field-zero", "PING with a field 0", "0000030c070028"),
    ("long-varint", "PING whose number takes two bytes and could take one", "0000020c8700"),
    ("critical-field", "PING with an unknown field 64", "0000040c07800101"),
    ("large-number", "PING whose number is 2^53", "0000080c8080808080808010"),
    (
        "large-integer",
        "FETCH of alice's log, at most 2^53 items",
        "00001d08 02 030f 616c69636540612e6578616d706c65 0420 0a8080808080808010",
    ),
    ("wrong-shape", "HELLO whose version is bytes", "0000040100030101"),
    ("missing-field", "HELLO without a version", "0000010100"),
    ("truncated-field", "HELLO whose agent is longer than the frame", "0000050100020107 05"),
    (
        "upper-case-address",
        "SUBSCRIBE to Alice@a.example",
        "00001407 04 03 0f 416c69636540612e6578616d706c65 04 01",
    ),
    ("empty-body", "a frame without a request number", "0000000c"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn read(bytes: &[u8]) -> Result<Request, String> {
    let frame = frame::take(&mut BytesMut::from(bytes), FRAME_BYTES_MAX);
    let frame = frame.map_err(|error| error.to_string())?.ok_or("incomplete")?;
    Request::decode(frame).map_err(|error| error.to_string())
}

fn same_as_file(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert_eq!(file, text, "{} is not what this table makes; see this file", path.display());
}

#[test]
fn d_6_3_accepted_frames_are_those_of_the_file_and_read_back() {
    let mut text = String::from("# Frames in hex, each read and written alike by every client.\n");
    for Vector { name, meaning, request } in vectors() {
        let mut bytes = BytesMut::new();
        request.put(&mut bytes).unwrap();
        assert_eq!(read(&bytes).as_ref(), Ok(&request), "{name}");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(folder().join("../fuzz/corpus/frame").join(name), &bytes).unwrap();
        }
        let _ = writeln!(text, "\n{name}: {meaning}\n{}", hex(&bytes));
    }
    same_as_file("accepted.txt", &text);
}

#[test]
fn d_6_3_refused_frames_are_those_of_the_file_and_are_refused() {
    let mut text = String::from("# Frames in hex that every reader refuses, and why.\n");
    for (name, meaning, bytes) in REFUSED {
        let bytes = unhex(bytes);
        let error = read(&bytes).expect_err(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(folder().join("../fuzz/corpus/frame").join(name), &bytes).unwrap();
        }
        let _ = writeln!(text, "\n{name}: {meaning}\n{}\n{error}", hex(&bytes));
    }
    same_as_file("refused.txt", &text);
}
