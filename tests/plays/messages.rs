//! Messages from one person to another: faults E1 to E11, requirements 4.1 and 5.4.

use bytes::Bytes;
use impp_protocol::command::{Ack, Done, Fetch, Header, Message, Outcome, Ping};
use impp_protocol::field::{INTEGER_MAX, Writer};
use impp_protocol::state::{self, ItemKind, Page};
use impp_protocol::{By, Code, MessageId, What};
use impp_tests::Server;
use impp_tests::peer::{Peer, fetch, id_at, message, subscribe};
use impp_tests::wire::raw_frame;

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.body).unwrap()).collect()
}

/// What was answered OK is there after a kill -9 that comes at once, with the sender's copy.
#[tokio::test]
async fn e1_what_is_acknowledged_is_on_disk() {
    let mut server = Server::quickstart();
    let mut sent = Vec::new();
    for round in 0..5 {
        let mut alice = Peer::sign_in(&server, "alice").await;
        for n in 0..5 {
            let text = format!("{round}/{n}");
            assert_eq!(alice.send("bob@localhost", &text).await, Outcome::Delivered);
            sent.push(text);
        }
        server.kill9();
        server.restart();
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(texts(&bob.inbox().await), sent);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let log = alice.log().await;
    let count = |kind| log.iter().filter(|item| item.kind == kind).count();
    assert_eq!((count(ItemKind::Sent), count(ItemKind::Fate)), (sent.len(), sent.len()));
}

/// The same id again is the same message: delivered once, whatever was lost or restarted between.
#[tokio::test]
async fn e2_a_repeat_is_delivered_once() {
    let mut server = Server::quickstart();
    let first = message("bob@localhost", "once");
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Delivered));
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Duplicate));
    alice.cut();
    let mut alice = Peer::sign_in_on(&server, "alice", 2).await;
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Duplicate));
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Duplicate));
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(texts(&bob.inbox().await), ["once"]);
    assert_eq!(alice.log().await.len(), 2, "one copy and one fate");
}

/// The same id with another content is refused, and the first stays.
#[tokio::test]
async fn e3_an_id_cannot_be_used_for_other_content() {
    let mut server = Server::quickstart();
    let first = message("bob@localhost", "first");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(first.clone()).await;
    let other = [
        Message { body: "second".into(), ..first.clone() },
        Message { content_type: Some("text/html".into()), ..first.clone() },
        Message { thread: Some("t".into()), ..first.clone() },
    ];
    for message in other.clone() {
        assert_eq!(alice.refused(message).await, Code::Conflict);
    }
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for message in other {
        assert_eq!(alice.refused(message).await, Code::Conflict);
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(texts(&bob.inbox().await), ["first"]);
}

/// A cursor that is forged, foreign or goes back takes custody of nothing, and nothing goes that
/// was not delivered.
#[tokio::test]
async fn e5_false_cursors_delete_nothing() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for text in ["1", "2", "3"] {
        alice.send("bob@localhost", text).await;
        alice.send("carol@localhost", text).await;
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let (log, other) = (bob.log().await, carol.log().await);
    let ack = |cursor: &Bytes| Ack { address: bob_address(), cursor: cursor.clone() };
    assert_eq!(bob.refused(ack(&other[2].cursor)).await, Code::BadCursor);
    for index in 0..log[2].cursor.len() {
        let mut forged = log[2].cursor.to_vec();
        forged[index] ^= 1;
        assert_eq!(bob.refused(ack(&forged.into())).await, Code::BadCursor);
    }
    let carols = Ack { address: "carol@localhost".parse().unwrap(), ..ack(&other[2].cursor) };
    assert_eq!(bob.refused(carols).await, Code::Refused);
    bob.done(ack(&log[2].cursor)).await;
    // Back, and the same again.
    bob.done(ack(&log[0].cursor)).await;
    bob.done(ack(&log[2].cursor)).await;
    assert_eq!(bob.log().await, log, "what was acknowledged stays for its retention");
    assert_eq!(carol.log().await, other);
}

fn bob_address() -> impp_protocol::Address {
    "bob@localhost".parse().unwrap()
}

/// Each device has a cursor of its own, and what one takes, the other still gets.
#[tokio::test]
async fn e6_devices_read_for_themselves() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut phone = Peer::sign_in_on(&server, "bob", 1).await;
    let mut desk = Peer::sign_in_on(&server, "bob", 2).await;
    phone.done(subscribe("bob@localhost", What::Log)).await;
    for text in ["1", "2", "3"] {
        alice.send("bob@localhost", text).await;
        phone.ack_all().await;
    }
    assert_eq!(texts(&desk.inbox().await), ["1", "2", "3"]);
    desk.ack_all().await;
    assert_eq!(texts(&phone.inbox().await), ["1", "2", "3"]);
    // What the phone follows came to it, in its order.
    let mut pushed = Vec::new();
    while pushed.len() < 3 {
        let notify = phone.notify().await;
        let page: Page = state::decode(notify.snapshot.unwrap()).unwrap();
        pushed.extend(page.items);
    }
    assert_eq!(pushed, phone.log().await);
}

/// A full inbox is told to the sender before anything is acknowledged; nothing goes for it, nobody
/// else is touched, and there is room again when its owner has taken what is there.
#[tokio::test]
async fn e7_a_full_inbox_is_told_before_ok() {
    let server = Server::with().set("inbox.items_max", 5).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let first = message("bob@localhost", "0");
    alice.done(first.clone()).await;
    for text in ["1", "2", "3", "4"] {
        alice.send("bob@localhost", text).await;
    }
    let refused = message("bob@localhost", "5");
    for _ in 0..3 {
        let error = alice.request(refused.clone()).await.unwrap_err();
        assert_eq!((error.code, error.by), (Code::Full, By::Recipient));
    }
    assert_eq!(alice.done(first).await.outcome, Some(Outcome::Duplicate));
    assert_eq!(alice.send("carol@localhost", "to somebody else").await, Outcome::Delivered);
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.send("alice@localhost", "I can still write").await, Outcome::Delivered);
    assert_eq!(texts(&bob.inbox().await), ["0", "1", "2", "3", "4"]);
    bob.ack_all().await;
    // Refused is not kept: the same id is taken now.
    assert_eq!(alice.done(refused).await.outcome, Some(Outcome::Delivered));
    assert_eq!(texts(&bob.inbox().await), ["0", "1", "2", "3", "4", "5"]);
}

/// Nobody writes in another's name: what only servers write is refused, and the sender is who
/// signed in.
#[tokio::test]
async fn e10_a_sender_cannot_be_forged() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let plain = || message("bob@localhost", "hi");
    let address = |text: &str| Some(text.parse().unwrap());
    let forged = [
        Message { from: address("carol@localhost"), ..plain() },
        Message { from: address("bob@localhost"), ..plain() },
        Message { from: address("alice@elsewhere.example"), ..plain() },
        Message { sender: address("carol@localhost"), ..plain() },
        Message { sender: address("alice@localhost"), ..plain() },
        Message { hops: Some(3), ..plain() },
    ];
    for message in forged {
        assert_eq!(alice.refused(message.clone()).await, Code::Refused, "{message:?}");
        let volatile = Message { volatile: true, ..message };
        assert_eq!(alice.refused(volatile).await, Code::Refused);
    }
    let header = Header { name: "From".into(), value: "carol@localhost".into() };
    alice.done(Message { headers: vec![header], ..plain() }).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].from, address("alice@localhost"));
    assert_eq!(inbox[0].sender, None);
}

/// An answer to what was never asked does nothing.
#[tokio::test]
async fn e11_an_answer_to_nothing_does_nothing() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for number in [1, 2, 3, 64, INTEGER_MAX] {
        alice.wire().send(number, Done::empty()).await;
        assert_eq!(alice.answer(number).await.unwrap_err().code, Code::WrongState);
    }
    alice.done(Ping::empty()).await;
}

/// A message names its sender and its recipient, or it is none.
#[tokio::test]
async fn r4_1_2_a_message_names_sender_and_recipient() {
    let server = Server::quickstart();
    let mut nameless = Writer::default();
    nameless.field(1, &id_at(0));
    nameless.field(5, &Bytes::from_static(b"hi"));
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.wire().write(&raw_frame(10, 9, &nameless.into_bytes())).await;
    assert_eq!(alice.ending().await.code(), Code::Malformed);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "hi").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    assert_eq!(inbox[0].from.as_ref(), Some(&alice.address));
    assert_eq!(inbox[0].to, bob.address);
}

/// A message carries where an answer should go, and an answer made of it alone arrives.
#[tokio::test]
async fn r4_1_3_a_message_carries_a_return_address() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let reply_to = Some("carol@localhost".parse().unwrap());
    alice.done(Message { reply_to, ..message("bob@localhost", "ask her") }).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let received = bob.inbox().await.remove(0);
    bob.send(received.reply_to.unwrap().as_str(), "asked").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    assert_eq!(texts(&carol.inbox().await), ["asked"]);
}

/// Bodies of any kind arrive octet by octet, with their type and headers.
#[tokio::test]
async fn r4_1_5_bodies_arrive_unchanged_with_their_type() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let every: Vec<u8> = (0..=255).cycle().take(60 * 1024).collect();
    let multipart = "multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b";
    let bodies: [(Option<&str>, &[u8]); 6] = [
        (None, "Grüße, 世界 👋🏽".as_bytes()),
        (Some("text/plain; charset=utf-8"), "e\u{301} \u{202b}עברית\u{202c}".as_bytes()),
        (Some("text/plain; charset=iso-8859-1"), b"Gr\xfc\xdfe"),
        (Some("application/octet-stream"), &every),
        (
            Some(multipart),
            b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b--\r\n",
        ),
        (Some("text/plain"), b""),
    ];
    let headers = vec![
        Header { name: "Content-Language".into(), value: "de".into() },
        Header { name: "org.example.unknown".into(), value: "kept".into() },
    ];
    for (content_type, body) in bodies {
        let message = Message {
            content_type: content_type.map(str::to_owned),
            body: Bytes::copy_from_slice(body),
            headers: headers.clone(),
            thread: Some("a thread".to_owned()),
            ..message("bob@localhost", "")
        };
        alice.done(message).await;
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    assert_eq!(inbox.len(), bodies.len());
    for (message, (content_type, body)) in inbox.iter().zip(bodies) {
        assert_eq!(message.content_type.as_deref(), content_type);
        assert!(message.body == body, "{content_type:?}");
        assert_eq!(message.headers, headers);
        assert_eq!(message.thread.as_deref(), Some("a thread"));
    }
}

/// An id is a UUIDv7 of about now, made by the sender; it is the message's to each recipient.
#[tokio::test]
async fn r4_1_9_an_id_is_the_senders_unique_and_of_its_time() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let with = |id| Message { id, ..message("bob@localhost", "hi") };
    const HOUR: i64 = 3600;
    for (seconds, taken) in [
        (-25 * HOUR, false),
        (-23 * HOUR, true),
        (0, true),
        (8 * 60, true),
        (12 * 60, false),
        (HOUR, false),
    ] {
        match alice.request(with(id_at(seconds))).await {
            Ok(_) => assert!(taken, "{seconds}"),
            Err(error) => {
                assert!(!taken && error.code == Code::OutOfWindow, "{seconds}: {error:?}");
            }
        }
    }
    // Version 4, and a variant that is none.
    for (index, byte) in [(6, 0x40), (8, 0x00), (8, 0xff)] {
        let mut id = id_at(0);
        id.0[index] = byte;
        assert_eq!(alice.refused(with(id)).await, Code::Malformed);
    }
    // One id to two recipients, and one from two senders, are different messages.
    let id = id_at(0);
    let mut carol = Peer::sign_in(&server, "carol").await;
    let delivered = Some(Outcome::Delivered);
    assert_eq!(alice.done(with(id)).await.outcome, delivered);
    assert_eq!(carol.done(with(id)).await.outcome, delivered);
    let other = Message { id, ..message("carol@localhost", "hi") };
    assert_eq!(alice.done(other).await.outcome, delivered);
    assert_eq!(alice.done(with(id)).await.outcome, Some(Outcome::Duplicate));
}

/// A repeat whose id has grown too old meanwhile is still one, and not "definitely not accepted".
#[tokio::test]
async fn e12_g12_a_repeat_outlives_the_window_of_its_id() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    const DAY: i64 = 24 * 3600;
    // Just young enough, however long the way takes.
    let mut taken = None;
    for seconds in [3, 10, 25] {
        let id = id_at(seconds - DAY);
        let message = Message { id, ..message("bob@localhost", "just in time") };
        if alice.request(message.clone()).await.is_ok() {
            taken = Some(message);
            break;
        }
    }
    let taken = taken.expect("an id that is young enough");
    let mut other = taken.clone();
    impp_tests::eventually("the id's time to be too old", async || {
        other.id =
            MessageId::new(taken.id.time()?, *uuid::Uuid::new_v4().as_bytes().first_chunk()?);
        let refused = alice.request(other.clone()).await.err()?;
        (refused.code == Code::OutOfWindow).then_some(())
    })
    .await;
    assert_eq!(alice.done(taken.clone()).await.outcome, Some(Outcome::Duplicate));
    let changed = Message { body: Bytes::from_static(b"else"), ..taken };
    assert_eq!(alice.refused(changed).await, Code::Conflict);
}

/// Whatever keeps a message from its recipient is told to the sender, with who says so.
#[tokio::test]
async fn r5_4_1_a_sender_hears_of_non_delivery() {
    let server = Server::with().set("inbox.items_max", 1).start();
    server.user_ok(&["add", "pat@localhost", "--services", "pres"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("carol@localhost", "the only one").await;
    let rules =
        "[[delivery]]\nid = \"no-alice\"\nwho = [\"alice@localhost\"]\naction = \"refuse\"\n";
    bob.set_rules(rules).await;
    for (to, code, by) in [
        ("nobody@localhost", Code::NotFound, By::Server),
        ("someone@elsewhere.example", Code::UnknownDomain, By::Server),
        ("pat@localhost", Code::NotOffered, By::Server),
        ("bob@localhost", Code::Refused, By::Recipient),
        ("carol@localhost", Code::Full, By::Recipient),
    ] {
        let error = alice.request(message(to, "hi")).await.unwrap_err();
        assert_eq!((error.code, error.by), (code, by), "{to}: {error:?}");
    }
    let long = Message { body: vec![0; 60 * 1024 + 1].into(), ..message("alice@localhost", "") };
    assert_eq!(alice.refused(long).await, Code::TooLarge);
    assert_eq!(bob.inbox().await, vec![]);
    let log = alice.log().await;
    assert_eq!(log.iter().filter(|item| item.kind == ItemKind::Sent).count(), 1, "{log:?}");
}

/// A connection cut before the answer, at any moment, and the same id again: one copy.
#[tokio::test]
async fn r5_4_2_a_message_whose_answer_was_lost_is_delivered_once() {
    const MESSAGES: usize = 30;
    let server = Server::with().set("limits.sessions_max", 100_000).start();
    let mut sent = Vec::new();
    for n in 0..MESSAGES {
        let message = message("bob@localhost", &n.to_string());
        sent.push(n.to_string());
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.ask(message.clone()).await;
        if n % 3 == 0 {
            // The message is with the server, its answer perhaps under way.
            alice.ask(Ping::empty()).await;
        }
        alice.cut_with(n % 2 == 0);
        let mut alice = Peer::sign_in_on(&server, "alice", 2).await;
        alice.done(message).await;
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(texts(&bob.inbox().await), sent);
}

/// Who sent a message is what the sender proved, in every copy of it.
#[tokio::test]
async fn r5_4_3_the_sender_is_who_signed_in() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("bob@localhost", What::Log)).await;
    let own = Some(alice.address.clone());
    alice.done(Message { from: own, ..message("bob@localhost", "from alice") }).await;
    carol.send("bob@localhost", "from carol").await;
    let forged =
        Message { from: Some(alice.address.clone()), ..message("bob@localhost", "forged") };
    assert_eq!(carol.refused(forged).await, Code::Refused);
    let mut pushed = Vec::new();
    while pushed.len() < 2 {
        let page: Page = state::decode(bob.notify().await.snapshot.unwrap()).unwrap();
        pushed.extend(page.items);
    }
    let pushed = pushed.into_iter().map(|item| Message::decode(item.message.unwrap()).unwrap());
    for message in bob.inbox().await.into_iter().chain(pushed) {
        let from = message.from.unwrap();
        assert_eq!(message.body, format!("from {}", from.local()).as_bytes());
    }
    assert_eq!(bob.inbox().await.len(), 2);
}

/// Who gets a message can answer it with nothing but the message.
#[tokio::test]
async fn r5_4_4_the_recipient_can_answer() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let asked = Message { thread: Some("t1".to_owned()), ..message("bob@localhost", "well?") };
    alice.done(asked).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let received = bob.inbox().await.remove(0);
    let to = received.from.unwrap();
    let answer = Message { thread: received.thread, ..message(to.as_str(), "well!") };
    bob.done(answer).await;
    let inbox = alice.inbox().await;
    assert_eq!(texts(&inbox), ["well!"]);
    assert_eq!(inbox[0].thread.as_deref(), Some("t1"));
}

/// After the end of a subscription nothing more comes, however much is published.
#[tokio::test]
async fn r5_1_7_after_cancel_no_notification_comes() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.done(subscribe("bob@localhost", What::Presence)).await;
    alice.notify().await;
    let publish = |n: u32| {
        let content = Some(crate::corpus::note(&format!("note {n}")).encode());
        impp_tests::peer::publish("bob@localhost", What::Presence, content)
    };
    bob.done(publish(0)).await;
    alice.notify().await;
    let end = impp_protocol::command::Subscribe {
        lease: Some(std::time::Duration::ZERO),
        ..subscribe("bob@localhost", What::Presence)
    };
    alice.done(end).await;
    alice.so_far().await;
    for n in 1..=10 {
        bob.done(publish(n)).await;
    }
    // Whatever was to be told of bob is told by the time a later change of carol's is.
    let mut carol = Peer::sign_in(&server, "carol").await;
    alice.done(subscribe("carol@localhost", What::Presence)).await;
    let content = Some(crate::corpus::note("later").encode());
    carol.done(impp_tests::peer::publish("carol@localhost", What::Presence, content)).await;
    loop {
        let notify = alice.notify().await;
        assert_ne!(notify.address, bob.address, "{notify:?}");
        if notify.patch.is_some()
            || notify.snapshot.is_some_and(|s| s.windows(5).any(|w| w == b"later"))
        {
            break;
        }
    }
    let shown = alice.done(Fetch { version: None, ..fetch("bob@localhost", What::Presence) }).await;
    assert!(shown.content.unwrap().windows(7).any(|w| w == b"note 10"), "bob did publish");
}
