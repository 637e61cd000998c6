//! What senders are told of their messages, received and read: where the recipient lets them be, and
//! nothing where not, here and in another domain.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Hello, Message, Publish};
use impp_protocol::state::{
    self, Item, ItemKind, MarkKind, MarkReport, ReadMark, ReadMarkEdit, ReadMarks, TYPING, Typing,
    TypingEdit,
};
use impp_protocol::{Code, Command, MessageId, What};
use impp_tests::badpeer::BadPeer;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::{Domains, eventually};

use crate::rules::{ALL, strangers};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

/// Everybody may write, and be told this.
fn marking(marks: &str) -> String {
    format!(
        "[[delivery]]\nid = \"all\"\nwho = [\"anyone\"]\naction = \"accept\"\nmarks = [{marks}]\n"
    )
}

/// Everybody may see all.
fn seen() -> String {
    format!("[[rule]]\nid = \"seen\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n{ALL}\n")
}

async fn content(peer: &mut Peer) -> Bytes {
    let own = peer.address.clone();
    peer.done(fetch(own.as_str(), What::ReadMarks)).await.content.unwrap_or_default()
}

async fn marks(peer: &mut Peer) -> Vec<ReadMark> {
    state::decode::<ReadMarks>(content(peer).await).unwrap().entries
}

async fn received(peer: &mut Peer) -> Vec<Item> {
    let mut log = peer.log().await;
    log.retain(|item| item.kind == ItemKind::Received);
    log
}

fn id(item: &Item) -> MessageId {
    let message = item.message.clone().expect("a message");
    Message::decode(message).unwrap().id
}

/// Says that the conversation with whom an item is from was read up to it.
async fn reads(peer: &mut Peer, item: &Item) {
    let message = item.message.clone().expect("a message");
    let from = Message::decode(message).unwrap().from.expect("a sender");
    let edit = ReadMarkEdit { address: from, cursor: item.cursor.clone() };
    let own = peer.address.clone();
    peer.done(publish(own.as_str(), What::ReadMarks, Some(state::encode(&edit)))).await;
}

/// Waits until somebody is told these marks of a conversation.
async fn told(peer: &mut Peer, with: &str, marks_of: (Option<MessageId>, Option<MessageId>)) {
    let told = async || {
        let own = marks(peer).await;
        let mark = own.into_iter().find(|mark| mark.address.as_str() == with)?;
        ((mark.received, mark.read) == marks_of).then_some(())
    };
    eventually("a mark", told).await;
}

/// A sender is told up to where its messages are received and read, each as far as the rules say; who
/// follows, as it comes.
#[tokio::test]
async fn a_sender_is_told_what_the_recipient_lets_it_be_told() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.set_rules(&(seen() + &marking("\"received\", \"read\""))).await;
    for text in ["one", "two", "three"] {
        alice.send(BOB, text).await;
    }
    let log = received(&mut bob).await;
    let [_, two, three] = &log[..] else { panic!("{log:?}") };
    alice.done(subscribe(ALICE, What::ReadMarks)).await;
    assert!(alice.notify().await.snapshot.is_some());
    bob.ack_all().await;
    let change = alice.notify().await.patch.expect("a change");
    let change = state::decode::<ReadMarks>(change).unwrap().entries;
    assert_eq!((change[0].received, change[0].read), (Some(id(three)), None));
    assert_eq!((change[0].id, &change[0].cursor), (None, &None));
    reads(&mut bob, two).await;
    told(&mut alice, BOB, (Some(id(three)), Some(id(two)))).await;
    // Of other messages the rules let nothing be told any more.
    bob.set_rules(&(seen() + &marking("\"received\""))).await;
    reads(&mut bob, three).await;
    alice.send(BOB, "four").await;
    bob.ack_all().await;
    let four = received(&mut bob).await.pop().expect("an item");
    told(&mut alice, BOB, (Some(id(&four)), Some(id(two)))).await;
}

/// Of what a delegate wrote in somebody's name that one is told, and not the delegate.
#[tokio::test]
async fn d_4_of_what_a_delegate_wrote_its_owner_is_told() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let lets = "[[delegate]]\nid = \"s\"\nwho = [\"cal@localhost\"]\nrights = [\"send-as\"]\n";
    alice.set_rules(&(seen() + lets)).await;
    bob.set_rules(&(seen() + &marking("\"received\", \"read\""))).await;
    cal.done(Message { from: Some(ALICE.parse().unwrap()), ..message(BOB, "for alice") }).await;
    let item = received(&mut bob).await.remove(0);
    reads(&mut bob, &item).await;
    told(&mut alice, BOB, (None, Some(id(&item)))).await;
    assert_eq!(marks(&mut cal).await, []);
}

/// Who may not be told, or may not see whether the recipient is there, reads what one reads whose messages
/// nobody has received: to the byte, whatever the recipient does.
#[tokio::test]
async fn d1_who_is_not_told_cannot_tell_it_from_what_was_not_read() {
    let names = ["bob", "carol", "dave", "eve", "frank"];
    let server = strangers(&names);
    let polite = "[[rule]]\nid = \"seen\"\nwho = [\"anyone\"]\nhandling = \"polite-block\"\n";
    let all = marking("\"received\", \"read\"");
    let dropped = all.replace(
        "who = [\"anyone\"]",
        "who = [\"domain:localhost\"]\nexcept = [\"alice@localhost\"]",
    ) + "[[delivery]]\nid = \"d\"\nwho = [\"alice@localhost\"]\naction = \"drop\"\n";
    let held = dropped.replace("\"drop\"", "\"hold\"");
    let marked = seen() + &all;
    let rules = [
        seen() + &marking(""),
        polite.to_owned() + &all,
        all.clone(),
        seen() + &dropped,
        seen() + &held,
    ];
    let mut alice = Peer::sign_in(&server, "alice").await;
    for (name, rules) in names.iter().zip(rules) {
        let mut peer = Peer::sign_in(&server, name).await;
        peer.set_rules(&rules).await;
        alice.send(&format!("{name}@localhost"), "hello").await;
        peer.ack_all().await;
        for item in received(&mut peer).await {
            reads(&mut peer, &item).await;
        }
        // To look at what is held takes nothing, and is told to nobody.
        let requests = Fetch {
            about: Some(ALICE.parse().unwrap()),
            ..fetch(peer.address.as_str(), What::Requests)
        };
        peer.done(requests).await;
    }
    // What was told comes before what is told of one who is told all.
    let mut bob = Peer::sign_in_on(&server, "bob", 2).await;
    bob.set_rules(&marked).await;
    alice.send(BOB, "hello again").await;
    bob.ack_all().await;
    let last = received(&mut bob).await.pop().expect("an item");
    told(&mut alice, BOB, (Some(id(&last)), None)).await;
    assert_eq!(marks(&mut alice).await.len(), 1);
}

/// Over a link too; and a server that does not know marks is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn marks_cross_links_to_servers_that_know_them() {
    let domains = Domains::two().await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(&(seen() + &marking("\"received\", \"read\""))).await;
    alice.queue("bob@b.example", "hello").await;
    bob.texts(1).await;
    bob.ack_all().await;
    let item = received(&mut bob).await.pop().expect("an item");
    told(&mut alice, "bob@b.example", (Some(id(&item)), None)).await;
    reads(&mut bob, &item).await;
    told(&mut alice, "bob@b.example", (Some(id(&item)), Some(id(&item)))).await;
    // That one writes too, and not from whom nothing is told.
    alice.done(subscribe("alice@a.example", What::Typing)).await;
    types_to(&mut bob, "alice@a.example").await;
    bob.set_rules(&(seen() + &marking("\"typing\""))).await;
    let typing = async || {
        types_to(&mut bob, "alice@a.example").await;
        alice.so_far().await.pop()
    };
    let Command::Notify(told) = eventually("who writes", typing).await else { panic!("no notify") };
    assert_eq!(told.what, What::Typing);
    let typing: Typing = state::decode(told.snapshot.expect("who")).unwrap();
    assert_eq!(typing.from.as_str(), "bob@b.example");
}

/// What comes over a link is taken from whom the other side speaks for, of conversations that there are, and the
/// newest: whoever sends marks of messages that were never sent fills nobody's records.
#[tokio::test(flavor = "multi_thread")]
async fn f1_marks_of_nothing_that_was_sent_are_not_kept() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let report = |from: &str, id, number| {
        let report = MarkReport { from: from.parse().unwrap(), kind: MarkKind::Read, id, number };
        let content = Some(state::encode(&report));
        Publish::of("alice@a.example".parse().unwrap(), What::ReadMarks, content)
    };
    let never = impp_tests::peer::id_at(0);
    let mut link = evil.call(&domains["a.example"]).await;
    for name in ["mallory", "eve"] {
        let from = format!("{name}@evil.example");
        assert!(link.request(report(&from, never, 1)).await.is_ok());
    }
    // Nobody tells by the answer who has an account.
    let nobody = Publish {
        address: "nobody@a.example".parse().unwrap(),
        ..report("x@evil.example", never, 1)
    };
    assert!(link.request(nobody).await.is_ok());
    assert_eq!(marks(&mut alice).await, []);
    let sent = alice.queue("mallory@evil.example", "hello").await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, sent);
    link.take(number).await;
    for (id, number) in [(sent, 5), (never, 4), (never, 5)] {
        assert!(link.request(report("mallory@evil.example", id, number)).await.is_ok());
    }
    let own = marks(&mut alice).await;
    assert_eq!((own.len(), own[0].read), (1, Some(sent)));
    // A mark for it goes to no server that has not said that it takes them.
    alice.set_rules(&(seen() + &marking("\"received\""))).await;
    let from = evil.message("mallory", "alice@a.example", "and to you");
    link.deliver(from).await;
    alice.texts(1).await;
    alice.ack_all().await;
    alice.queue("mallory@evil.example", "the next that comes").await;
    let next = link.try_asked().await.expect("a request");
    assert!(matches!(next.command, Command::Message(_)), "{next:?}");
    let number = link.ask(report("bob@a.example", sent, 9)).await;
    let ending = link.ending().await;
    assert_eq!((ending.errors[0].0, ending.code()), (number, Code::Refused));
}

/// A server says that it takes marks.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_on_links_that_it_takes_marks() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let good = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    alice.set_rules(&(seen() + &marking("\"received\""))).await;
    let mut features = good.hello.features.clone();
    features.push("marks".to_owned());
    let hello = Hello { features, ..good.hello.clone() };
    let mut link = good.dial(&domains["a.example"]).connect().await.expect("a connection");
    link.send(0, hello.clone()).await;
    assert!(link.hello().await.features.contains(&"marks".to_owned()));
    let mut link = impp_tests::badpeer::Link::open(link, hello);
    let from = good.message("mallory", "alice@a.example", "hello");
    let sent = from.id;
    link.deliver(from).await;
    alice.texts(1).await;
    alice.ack_all().await;
    let next = link.try_asked().await.expect("a request");
    let Command::Publish(publish) = next.command else { panic!("{next:?}") };
    let report: MarkReport = state::decode(publish.content.unwrap()).unwrap();
    assert_eq!((report.kind, report.id), (MarkKind::Received, sent));
    assert_eq!(report.from.as_str(), "alice@a.example");
}

/// Somebody writes to alice just now.
async fn types(peer: &mut Peer) {
    types_to(peer, ALICE).await;
}

async fn types_to(peer: &mut Peer, to: &str) {
    let (own, to) = (peer.address.clone(), to.parse().unwrap());
    let edit = Some(state::encode(&TypingEdit { to }));
    peer.done(publish(own.as_str(), What::Typing, edit)).await;
}

/// That somebody writes is told to who follows it, as far as the writer's rules let it be, for some seconds; and
/// it is in no log.
#[tokio::test]
async fn who_writes_is_told_to_whom_the_rules_let_be_told() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::open_inbox(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    bob.set_rules(&(seen() + &marking("\"received\", \"read\""))).await;
    carol.set_rules(&(seen() + &marking("\"typing\""))).await;
    alice.done(subscribe(ALICE, What::Typing)).await;
    types(&mut bob).await;
    types(&mut carol).await;
    let told = alice.notify().await;
    assert_eq!(told.what, What::Typing);
    let typing: Typing = state::decode(told.snapshot.expect("who")).unwrap();
    assert_eq!(typing.from.as_str(), "carol@localhost");
    assert!(typing.lasts <= TYPING && !typing.lasts.is_zero());
    // Bob is not told of.
    assert_eq!(alice.fence().await.len(), 0);
    assert_eq!(alice.log().await, []);
    // Who is not taken messages from is not heard either.
    let refuse = "[[delivery]]\nid = \"a\"\nwho = [\"bob@localhost\"]\naction = \"accept\"\n";
    alice.set_rules(refuse).await;
    bob.set_rules(&(seen() + &marking("\"typing\""))).await;
    let mut late = Peer::sign_in_on(&server, "alice", 2).await;
    late.done(subscribe(ALICE, What::Typing)).await;
    types(&mut bob).await;
    let typing: Typing = state::decode(late.notify().await.snapshot.expect("who")).unwrap();
    assert_eq!(typing.from.as_str(), BOB);
}
