//! How far conversations were read: told by one device to the others, and kept.

use impp_protocol::command::Notify;
use impp_protocol::state::{self, Item, ItemKind, ReadMark, ReadMarkEdit, ReadMarks};
use impp_protocol::{Code, Command, MessageId, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, publish, subscribe};

use crate::rules::strangers;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const ACCEPT: &str = "[[delivery]]\nid = \"all\"\nwho = [\"anyone\"]\naction = \"accept\"\n";

fn edit(with: &str, item: &Item) -> Command {
    let edit = ReadMarkEdit { address: with.parse().unwrap(), cursor: item.cursor.clone() };
    publish(ALICE, What::ReadMarks, Some(state::encode(&edit))).into()
}

fn entries(content: Option<bytes::Bytes>) -> Vec<ReadMark> {
    state::decode::<ReadMarks>(content.expect("read marks")).unwrap().entries
}

async fn marks(peer: &mut Peer) -> Vec<(String, MessageId)> {
    let marks = entries(peer.done(fetch(ALICE, What::ReadMarks)).await.content);
    marks.into_iter().map(|mark| (mark.address.to_string(), mark.id.expect("an id"))).collect()
}

fn id(item: &Item) -> MessageId {
    let message = item.message.clone().expect("a message");
    impp_protocol::command::Message::decode(message).unwrap().id
}

async fn marked(peer: &mut Peer) -> Notify {
    let notify = peer.notify().await;
    assert_eq!(notify.what, What::ReadMarks);
    notify
}

/// What one device has read, the others are told: first all there is, then what has changed. The
/// furthest stands, in whatever order devices say it, and over a crash.
#[tokio::test]
async fn what_one_device_has_read_all_know_and_the_furthest_stands() {
    let mut server = strangers(&["bob", "carol"]);
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    let mut laptop = Peer::sign_in_on(&server, "alice", 2).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    phone.set_rules(ACCEPT).await;
    for text in ["one", "two", "three"] {
        bob.send(ALICE, text).await;
    }
    phone.send(BOB, "four").await;
    let log = phone.log().await;
    let received = |item: &&Item| item.kind == ItemKind::Received;
    let [one, two, three] = log.iter().filter(received).collect::<Vec<_>>()[..] else { panic!() };
    laptop.done(subscribe(ALICE, What::ReadMarks)).await;
    let all = marked(&mut laptop).await;
    assert_eq!((entries(all.snapshot), all.patch), (vec![], None));
    phone.done(edit(BOB, two)).await;
    let change = marked(&mut laptop).await;
    let told = entries(change.patch);
    assert_eq!((told.len(), told[0].id), (1, Some(id(two))));
    assert_eq!((&told[0].cursor, told[0].time), (&Some(two.cursor.clone()), Some(two.time)));
    // A device that was away says what it read before: that changes nothing.
    laptop.done(edit(BOB, one)).await;
    assert_eq!(marks(&mut phone).await, [(BOB.to_owned(), id(two))]);
    laptop.done(edit(BOB, three)).await;
    server.kill9();
    server.restart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    assert_eq!(marks(&mut phone).await, [(BOB.to_owned(), id(three))]);
}

/// A mark is behind a message of that conversation, and no other's: neither of what was sent, nor of
/// another sender, nor of another log. They are their owner's alone.
#[tokio::test]
async fn d1_a_mark_is_behind_a_message_of_its_conversation() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.set_rules(ACCEPT).await;
    bob.set_rules(ACCEPT).await;
    bob.send(ALICE, "hello").await;
    alice.send(BOB, "hello yourself").await;
    let log = alice.log().await;
    let of = |kind| log.iter().find(|item| item.kind == kind).expect("an item");
    let (received, sent) = (of(ItemKind::Received), of(ItemKind::Sent));
    let theirs = bob.log().await.pop().expect("an item");
    for (with, item) in [(BOB, sent), ("carol@localhost", received), (BOB, &theirs)] {
        assert_eq!(alice.refused(edit(with, item)).await, Code::BadCursor);
    }
    let nothing = publish(ALICE, What::ReadMarks, None);
    assert_eq!(alice.refused(nothing).await, Code::Malformed);
    assert_eq!(bob.refused(fetch(ALICE, What::ReadMarks)).await, Code::Refused);
    assert_eq!(bob.refused(subscribe(ALICE, What::ReadMarks)).await, Code::Refused);
    assert_eq!(marks(&mut alice).await, []);
    alice.done(edit(BOB, received)).await;
    assert_eq!(marks(&mut alice).await.len(), 1);
}

/// The command line says how far was read, up to the newest or to a message, and shows it.
#[tokio::test]
async fn the_command_line_reads_on_and_never_back() {
    let server = strangers(&["bob"]);
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    Peer::sign_in(&server, "alice").await.set_rules(ACCEPT).await;
    let sent: Vec<_> = ["one", "two", "three"]
        .map(|text| bob.run(&["send", ALICE, text]).one()["id"].clone())
        .into_iter()
        .collect();
    let id = |n: usize| sent[n].as_str().expect("an id");
    assert_eq!(alice.run(&["read", BOB, id(1)]).one()["id"], sent[1]);
    assert!(alice.run(&["read", BOB, id(0)]).one()["id"].is_null());
    let listed = alice.run(&["read"]).one();
    assert_eq!((&listed["with"], &listed["id"]), (&BOB.into(), &sent[1]));
    assert_eq!(alice.run(&["read", BOB]).one()["id"], sent[2]);
    assert_eq!(alice.run(&["read"]).one()["id"], sent[2]);
}
