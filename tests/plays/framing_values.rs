//! Values inside frames: faults A10 to A14.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Ack, Fetch, Message, Ping, Publish, Subscribe};
use impp_protocol::field::{INTEGER_MAX, Writer};
use impp_protocol::presence::Patch;
use impp_protocol::state::{self, Contact, Contacts};
use impp_protocol::{Code, MessageId, Timestamp, What};
use impp_tests::peer::{Peer, fetch, id_at, message, publish, subscribe};
use impp_tests::wire::{Ending, bytes_of, raw_frame};
use impp_tests::{Server, Wire};

use crate::corpus;

const MESSAGE: u8 = 10;
const PUBLISH: u8 = 6;
const SUBSCRIBE: u8 = 7;
const FETCH: u8 = 8;

/// The fields of a message up to its body, as they stand on the wire.
fn fields(to: &[u8]) -> Writer {
    let mut writer = Writer::default();
    writer.field(1, &id_at(0));
    writer.field(2, &Bytes::copy_from_slice(to));
    writer
}

/// Sends one frame as a new session of alice, which has to end by it.
async fn ends(server: &Server, kind: u8, fields: &[u8]) -> Ending {
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.wire().write(&raw_frame(kind, 9, fields)).await;
    alice.ending().await
}

/// Sends one frame of which a text is wrong, and a request right behind it: the one is refused under
/// its number, and the other is served.
async fn unfit(alice: &mut Peer, kind: u8, fields: &[u8]) {
    // Not a number that the peer uses itself.
    let (bad, behind) = (1 << 40, (1 << 40) + 1);
    let frames = [raw_frame(kind, bad, fields), bytes_of(behind, Ping::empty())].concat();
    alice.wire().write(&frames).await;
    let error = alice.answer(bad).await.unwrap_err();
    assert_eq!(error.code, Code::Malformed, "{error:?}");
    alice.answer(behind).await.unwrap();
}

/// A list of one header with this value.
fn header(value: &[u8]) -> Vec<u8> {
    let mut header = Writer::default();
    header.field(1, &Bytes::from_static(b"x-any"));
    header.field(2, &Bytes::copy_from_slice(value));
    let header = header.into_bytes();
    [&[u8::try_from(header.len()).unwrap()], &header[..]].concat()
}

async fn nothing_for_bob(server: &Server) {
    let mut bob = Peer::sign_in(server, "bob").await;
    assert_eq!(bob.log().await, vec![]);
    assert_eq!(bob.requests().await.entries, vec![]);
}

/// A field that stands twice is refused, whether the values agree or not: there is no first or
/// last that wins.
#[tokio::test]
async fn a10_a_field_that_stands_twice_is_refused() {
    let server = Server::quickstart();
    let whole = message("bob@localhost", "hi").encode();
    let id = id_at(0);
    let to = |name: &str| Bytes::copy_from_slice(name.as_bytes());
    let twice: [Vec<u8>; 5] = [
        [&whole[..], &whole].concat(),
        {
            let mut writer = fields(b"bob@localhost");
            writer.field(2, &to("carol@localhost"));
            writer.field(5, &to("hi"));
            writer.into_bytes().to_vec()
        },
        {
            let mut writer = fields(b"bob@localhost");
            writer.field(3, &to("alice@localhost"));
            writer.field(3, &to("bob@localhost"));
            writer.field(5, &to("hi"));
            writer.into_bytes().to_vec()
        },
        {
            let mut writer = Writer::default();
            writer.field(1, &id);
            writer.field(1, &id);
            writer.field(2, &to("bob@localhost"));
            writer.field(5, &to("hi"));
            writer.into_bytes().to_vec()
        },
        {
            // In the wrong order.
            let mut writer = fields(b"bob@localhost");
            writer.field(5, &to("hi"));
            writer.field(4, &to("text/plain"));
            writer.into_bytes().to_vec()
        },
    ];
    for fields in twice {
        let ending = ends(&server, MESSAGE, &fields).await;
        assert_eq!(ending.code(), Code::Malformed, "{ending:?}");
    }
    nothing_for_bob(&server).await;
}

/// Fields without end, lists without end and maps in maps are refused at their limits.
#[tokio::test]
async fn a11_nesting_and_counts_are_bounded() {
    let server = Server::quickstart();
    // As many fields as numbers allow that may be skipped, and then one that may not.
    let mut writer = Writer::default();
    (14..64).for_each(|number| writer.field(number, &1_u64));
    let skipped = writer.into_bytes();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.wire().write(&raw_frame(12, 9, &skipped)).await;
    assert!(alice.answer(9).await.is_ok());
    let mut writer = Writer::default();
    (14..10_000).for_each(|number| writer.field(number, &1_u64));
    let many = ends(&server, 12, &writer.into_bytes()).await;
    assert!(matches!(many.code(), Code::Malformed | Code::Unsupported), "{many:?}");
    // A list of 60,000 empty items.
    let mut writer = fields(b"bob@localhost");
    writer.field(5, &Bytes::from_static(b"hi"));
    writer.field(10, &Bytes::from(vec![0; 60_000]));
    assert_eq!(ends(&server, MESSAGE, &writer.into_bytes()).await.code(), Code::Malformed);
    // Ten thousand maps in one another.
    let mut nested = vec![];
    for _ in 0..10_000 {
        let mut writer = Writer::default();
        writer.field(1, &Bytes::from(nested));
        nested = writer.into_bytes().to_vec();
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    for what in [What::Contacts, What::Presence, What::Requests, What::Watchers, What::Devices] {
        let publish = publish("alice@localhost", what, Some(nested.clone().into()));
        assert_eq!(alice.refused(publish).await, Code::Malformed, "{what:?}");
    }
    // Tuples and fields over their counts.
    let many_tuples = {
        let tuple = corpus::note("x").tuples.into_values().next().unwrap();
        let id = |n: u32| impp_protocol::presence::PartId::parse(&format!("t{n}")).unwrap();
        Patch { tuples: (0..17).map(|n| (id(n), tuple.clone())).collect(), ..Patch::default() }
    };
    let mut many_fields = Patch::default();
    for n in 0..65 {
        let name = impp_protocol::presence::FieldName::parse(&format!("org.example.f{n}"));
        many_fields.person.set.insert(name.unwrap(), "x".into());
    }
    for patch in [many_tuples, many_fields] {
        let publish = publish("alice@localhost", What::Presence, Some(patch.encode()));
        let code = alice.refused(publish).await;
        assert!(matches!(code, Code::TooLarge | Code::Malformed), "{code:?}");
    }
    alice.done(Ping::empty()).await;
    nothing_for_bob(&server).await;
}

/// Text that is none, and text that lies to whoever shows it, goes nowhere.
#[tokio::test]
async fn a12_bad_text_is_refused_and_never_relayed() {
    let server = Server::quickstart();
    let addresses: [&[u8]; 12] = [
        b"bob@localhost\0",
        b"bo\0b@localhost",
        b"bob@localhost\r\n",
        b"bob\n@localhost",
        b"b\xc1\xafb@localhost",
        b"\xed\xa0\x80bob@localhost",
        b"bob\xff@localhost",
        "bo\u{200b}b@localhost".as_bytes(),
        "\u{202e}bob@localhost".as_bytes(),
        "bo\u{200d}b@localhost".as_bytes(),
        "\u{feff}bob@localhost".as_bytes(),
        b"bob @localhost",
    ];
    let mut alice = Peer::sign_in(&server, "alice").await;
    for address in addresses {
        let mut writer = fields(address);
        writer.field(5, &Bytes::from_static(b"hi"));
        unfit(&mut alice, MESSAGE, &writer.into_bytes()).await;
        let mut writer = Writer::default();
        writer.field(1, &Bytes::copy_from_slice(address));
        writer.field(2, &1_u64);
        unfit(&mut alice, SUBSCRIBE, &writer.into_bytes()).await;
    }
    let texts: [&[u8]; 4] =
        [b"text/plain\r\nX: y", b"text/\0plain", b"text/\xc0\xafplain", b"\x1b[2J"];
    for text in texts {
        for number in [4, 9, 10] {
            let mut writer = fields(b"bob@localhost");
            if number == 4 {
                writer.field(4, &Bytes::copy_from_slice(text));
            }
            writer.field(5, &Bytes::from_static(b"hi"));
            match number {
                9 => writer.field(9, &Bytes::copy_from_slice(text)),
                10 => writer.field(10, &Bytes::from(header(text))),
                _ => {}
            }
            unfit(&mut alice, MESSAGE, &writer.into_bytes()).await;
        }
    }
    for value in ["\u{202e}evil", "a\u{2066}b", "a\rb", "a\0b"] {
        let mut patch = corpus::note("plain");
        patch.person.set.iter_mut().for_each(|(_, note)| *note = value.into());
        let publish = publish("alice@localhost", What::Presence, Some(patch.encode()));
        let error = alice.request(publish).await.unwrap_err();
        let named = error.text.is_some_and(|text| text.contains("presence field \"note\""));
        assert!(error.code == Code::Malformed && named, "{value:?}");
    }
    nothing_for_bob(&server).await;
}

/// All spellings of an address are one account, and what only looks like it is none.
#[tokio::test]
async fn a13_spellings_of_a_name_are_one_account() {
    let server = Server::quickstart();
    let mut profile = server.profile("alice");
    for name in ["ALICE@LOCALHOST", "Alice@localhost.", "ａｌｉｃｅ@localhost", "alice@ｌocalhost"]
    {
        profile.address = name.to_owned();
        let alice = Peer::over(Wire::dial(&server).await, &profile, 1).await.unwrap();
        assert_eq!(alice.welcome.address.as_ref().unwrap().as_str(), "alice@localhost", "{name}");
        let added = server.user(&["add", name]);
        assert_eq!(added.status.code(), Some(1), "{name}: {added:?}");
    }
    // The first letter is Cyrillic; there are two scripts, or another domain.
    for name in ["аlice@localhost", "alice@lосalhost", "al\u{200d}ice@localhost"] {
        profile.address = name.to_owned();
        let refused = Peer::over(Wire::dial(&server).await, &profile, 1).await;
        let code = refused.unwrap_err().code;
        assert!(matches!(code, Code::AuthFailed | Code::Malformed), "{name}: {code:?}");
        assert_ne!(server.user(&["add", name]).status.code(), Some(0), "{name}");
    }
    // On the wire there is one spelling.
    let mut alice = Peer::sign_in(&server, "alice").await;
    for name in ["Bob@localhost", "bob@localhost.", "ｂｏｂ@localhost", "pres:bob@localhost"] {
        let mut writer = fields(name.as_bytes());
        writer.field(5, &Bytes::from_static(b"hi"));
        unfit(&mut alice, MESSAGE, &writer.into_bytes()).await;
    }
    nothing_for_bob(&server).await;
}

/// Request numbers, leases, counts and times at their edges.
#[tokio::test]
async fn a14_numbers_at_their_edges() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for number in [1, 127, 128, u64::from(u32::MAX), INTEGER_MAX - 1, INTEGER_MAX] {
        alice.wire().send(number, Ping::empty()).await;
        assert!(alice.answer(number).await.is_ok(), "{number}");
    }
    let lease = |seconds| Subscribe {
        lease: Some(Duration::from_secs(seconds)),
        ..subscribe("bob@localhost", What::Presence)
    };
    let most = alice.done(lease(u64::from(u32::MAX))).await.lease.unwrap();
    assert_eq!(most, Duration::from_secs(86_400));
    let short = alice.request(lease(1)).await.unwrap_err();
    assert_eq!((short.code, short.minimum), (Code::TooShort, Some(Duration::from_secs(60))));
    alice.done(lease(60)).await;
    alice.done(lease(0)).await;
    for max in [0, 1, INTEGER_MAX] {
        let fetch = Fetch { max: Some(max), ..fetch("alice@localhost", What::Log) };
        alice.done(fetch).await;
    }
    let past = Timestamp::from_millis(0);
    let expired = Message { expires: Some(past), ..message("bob@localhost", "hi") };
    assert_eq!(alice.refused(expired).await, Code::Expired);
    for id in [[0; 16], [255; 16]].map(MessageId) {
        let bad = Message { id, ..message("bob@localhost", "hi") };
        let code = alice.refused(bad).await;
        assert!(matches!(code, Code::Malformed | Code::OutOfWindow), "{code:?}");
    }
    let cursors: [&[u8]; 4] = [b"", b"x", &[0; 24], &[255; 1000]];
    for cursor in cursors.map(Bytes::from_static) {
        let address = alice.address.clone();
        assert_eq!(alice.refused(Ack { address, cursor: cursor.clone() }).await, Code::BadCursor);
        let fetch = Fetch { cursor: Some(cursor), ..fetch("alice@localhost", What::Log) };
        assert_eq!(alice.refused(fetch).await, Code::BadCursor);
    }
    for base in [1, INTEGER_MAX] {
        let rules = publish("alice@localhost", What::Rules, Some(Bytes::new()));
        let code = alice.refused(Publish { base: Some(base), ..rules }).await;
        assert!(matches!(code, Code::Conflict | Code::BadVersion), "{code:?}");
    }
    nothing_for_bob(&server).await;
}

/// A `next` that no answer has brought is some place in a list: what is behind it comes, or nothing.
#[tokio::test]
async fn a14_a_list_is_read_from_any_place() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let all = contacts(&mut alice, None).await;
    assert_eq!(all.len(), 2, "bob and carol");
    let places: [(&[u8], usize); 7] = [
        (b"", 0),
        (b"\0", 0),
        (&[b'a'; 60_000], 0),
        (b"bob@localhost", 1),
        (b"bob@localhost\0", 1),
        (b"x", 2),
        (&[255; 1_000], 2),
    ];
    for (cursor, before) in places {
        let cursor = Bytes::from_static(cursor);
        assert_eq!(contacts(&mut alice, Some(cursor.clone())).await, all[before..]);
        for what in LISTS {
            let part = Fetch { cursor: Some(cursor.clone()), ..fetch("alice@localhost", what) };
            assert_eq!(alice.done(part).await.next, None, "{what:?}");
        }
    }
}

/// What is read in parts, beside contacts.
const LISTS: [What; 6] = [
    What::Requests,
    What::Watchers,
    What::Subscriptions,
    What::ReadMarks,
    What::Acts,
    What::Delegations,
];

async fn contacts(alice: &mut Peer, cursor: Option<Bytes>) -> Vec<Contact> {
    let part = Fetch { cursor, ..fetch("alice@localhost", What::Contacts) };
    state::decode::<Contacts>(alice.done(part).await.content.unwrap()).unwrap().entries
}

/// A thing that came later, or never, is one that this server does not serve: the connection lives.
#[tokio::test]
async fn a7_an_unknown_thing_gets_an_error_and_the_connection_lives() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut number = 20;
    for kind in [SUBSCRIBE, FETCH, PUBLISH] {
        for what in [0, 4, 999, INTEGER_MAX] {
            number += 1;
            let mut writer = Writer::default();
            writer.field(1, &Bytes::from_static(b"bob@localhost"));
            writer.field(2, &what);
            alice.wire().write(&raw_frame(kind, number, &writer.into_bytes())).await;
            let error = alice.answer(number).await.unwrap_err();
            assert_eq!(error.code, Code::Unsupported, "{kind}: {what}");
            assert!(error.text.unwrap().contains("\"what\" (2)"));
        }
    }
    alice.done(Ping::empty()).await;
}

/// Numbers beyond their edges are no numbers.
#[tokio::test]
async fn a14_numbers_beyond_their_edges_are_malformed() {
    let server = Server::quickstart();
    // A lease of 2^32, a lease of 2^64 - 1.
    for lease in [1_u64 << 32, u64::MAX] {
        let mut writer = Writer::default();
        writer.field(1, &Bytes::from_static(b"bob@localhost"));
        writer.field(2, &1_u64);
        writer.field(3, &lease);
        let code = ends(&server, SUBSCRIBE, &writer.into_bytes()).await.code();
        assert_eq!(code, Code::Malformed, "lease {lease}");
    }
    // A time beyond the year 9999, an id of 15 bytes, a flag of 2.
    let mut late = fields(b"bob@localhost");
    late.field(5, &Bytes::from_static(b"hi"));
    late.field(7, &u64::MAX);
    let mut short = Writer::default();
    short.field(1, &Bytes::from_static(&[7; 15]));
    short.field(2, &Bytes::from_static(b"bob@localhost"));
    short.field(5, &Bytes::from_static(b"hi"));
    let mut flag = fields(b"bob@localhost");
    flag.field(5, &Bytes::from_static(b"hi"));
    flag.field(11, &2_u64);
    for writer in [late, short, flag] {
        assert_eq!(ends(&server, MESSAGE, &writer.into_bytes()).await.code(), Code::Malformed);
    }
    // A count that not every client could hold exactly.
    for max in [INTEGER_MAX + 1, u64::MAX] {
        let mut log = Writer::default();
        log.field(1, &Bytes::from_static(b"alice@localhost"));
        log.field(2, &32_u64);
        log.field(5, &max);
        assert_eq!(ends(&server, FETCH, &log.into_bytes()).await.code(), Code::Malformed, "{max}");
    }
    // Requests with number 0 and 2^53, and varints that are too long or of more than 64 bits.
    let frames: [&[u8]; 5] = [
        &[0, 0, 1, 12, 0],
        &[0, 0, 8, 12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
        &[0, 0, 2, 12, 0x80, 0],
        &[0, 0, 10, 12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        &[0, 0, 11, 12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    ];
    for frame in frames {
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.wire().write(frame).await;
        assert_eq!(alice.ending().await.code(), Code::Malformed, "{frame:?}");
    }
    assert_eq!(ends(&server, PUBLISH, b"").await.code(), Code::Malformed);
    nothing_for_bob(&server).await;
}
