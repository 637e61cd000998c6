//! A log that is read in other ways than from a place on: from its end, backwards, with one person, without
//! bodies, one item.

use bytes::Bytes;
use impp_protocol::command::{EVERY_ITEM, Fetch, Header, Hello, Message, SERIES, Subscribe};
use impp_protocol::state::{self, Item, ItemKind, Page};
use impp_protocol::{Code, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, message, subscribe};
use impp_tests::running::Running;
use impp_tests::wire::hello;
use impp_tests::{Server, Wire};

use crate::damaged::damage_item;

const BOB: &str = "bob@localhost";

fn log() -> Fetch {
    fetch(BOB, What::Log)
}

fn back() -> Fetch {
    Fetch { backwards: true, ..log() }
}

async fn page(peer: &mut Peer, fetch: Fetch) -> Page {
    state::decode(peer.done(fetch).await.content.unwrap()).unwrap()
}

/// What messages say, with the kind of what is none.
fn said(items: &[Item]) -> Vec<String> {
    let said = |item: &Item| match &item.message {
        Some(message) => {
            let message = Message::decode(message.clone()).unwrap();
            String::from_utf8(message.body.to_vec()).unwrap()
        }
        None => item.kind.to_string(),
    };
    items.iter().map(said).collect()
}

/// All of it, page after page.
async fn all(peer: &mut Peer, fetch: Fetch) -> Vec<Item> {
    let (mut items, mut cursor) = (Vec::new(), fetch.cursor.clone());
    loop {
        let read = page(peer, Fetch { cursor: cursor.take(), ..fetch.clone() }).await;
        items.extend(read.items);
        if !read.more {
            return items;
        }
        cursor = Some(read.cursor);
    }
}

/// Whoever joins now is told nothing of before and all that comes, and has the cursor of where that is.
#[tokio::test]
async fn who_joins_at_the_end_is_told_what_comes_from_then_on() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send(BOB, "one").await;
    let at_end = Subscribe { at_end: true, ..subscribe(BOB, What::Log) };
    let begins = bob.done(at_end.clone()).await.cursor.unwrap();
    let end = page(&mut bob, Fetch { at_end: true, ..log() }).await;
    assert_eq!((end.items.len(), end.more, &end.cursor), (0, false, &begins));
    let waits = bob.ask(Fetch { at_end: true, wait: true, ..log() }).await;
    alice.send(BOB, "two").await;
    let told: Page = state::decode(bob.notify().await.snapshot.unwrap()).unwrap();
    assert_eq!(said(&told.items), ["two"]);
    let waited: Page = state::decode(bob.answer(waits).await.unwrap().content.unwrap()).unwrap();
    assert_eq!(said(&waited.items), ["two"]);
    let behind = Fetch { cursor: Some(begins.clone()), ..log() };
    assert_eq!(said(&page(&mut bob, behind).await.items), ["two"]);
    // Two places are none.
    let both = Subscribe { cursor: Some(begins.clone()), ..at_end };
    assert_eq!(bob.refused(both).await, Code::Malformed);
    let both = Fetch { cursor: Some(begins), at_end: true, ..log() };
    assert_eq!(bob.refused(both).await, Code::Malformed);
    // Of an empty log too.
    let mut carol = Peer::sign_in(&server, "alice").await;
    let end = Fetch { at_end: true, ..fetch("alice@localhost", What::Log) };
    assert_eq!(page(&mut carol, end).await.items.len(), 0);
}

/// Backwards it is the same log, from the end or from any place.
#[tokio::test]
async fn a_log_is_read_backwards_from_its_end_and_from_a_cursor() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for n in 0..7 {
        alice.send(BOB, &n.to_string()).await;
    }
    bob.send("alice@localhost", "answer").await;
    let mut forwards = bob.log().await;
    for max in [1, 3, 256] {
        let mut read = all(&mut bob, Fetch { max: Some(max), ..back() }).await;
        read.reverse();
        assert_eq!(read, forwards, "{max}");
    }
    let newest = page(&mut bob, Fetch { max: Some(3), ..back() }).await;
    assert_eq!(
        (said(&newest.items), newest.more),
        (vec!["fate".into(), "answer".into(), "6".into()], true)
    );
    // From an item on, with itself; and up to a time.
    let from = Fetch { cursor: Some(forwards[2].cursor.clone()), ..back() };
    assert_eq!(said(&all(&mut bob, from).await), ["2", "1", "0"]);
    let since = Fetch { since: Some(forwards[4].time), ..back() };
    let read = all(&mut bob, since.clone()).await;
    assert!(read.iter().all(|item| item.time >= forwards[4].time) && read.len() >= 5);
    let ahead = forwards.pop().unwrap().time.after(std::time::Duration::from_millis(1));
    let none = page(&mut bob, Fetch { since: Some(ahead), ..back() }).await;
    assert_eq!((none.items.len(), none.more), (0, false));
    for odd in [
        Fetch { wait: true, ..back() },
        Fetch { at_end: true, ..back() },
        Fetch { since: Some(ahead), ..log() },
        Fetch { with: Some(alice.address.clone()), ..log() },
    ] {
        assert_eq!(bob.refused(odd).await, Code::Malformed);
    }
}

/// With one person: what they wrote and were written, and what became of that, however long the log is
/// between. An index leads there but for what came last, so that it takes two requests at most.
#[tokio::test]
async fn a_conversation_is_read_from_among_all_others() {
    let server = Server::with().no_rates().accounts(["alice", "bob", "carol"]).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    alice.set_rules(OPEN_INBOX).await;
    bob.set_rules(OPEN_INBOX).await;
    carol.send(BOB, "from carol").await;
    for _ in 0..12 {
        let flight = (0..100).map(|_| message(BOB, "noise").into());
        for number in alice.flight(flight).await {
            alice.answer(number).await.unwrap();
        }
    }
    bob.send("carol@localhost", "to carol").await;
    let with = Fetch { with: Some(carol.address.clone()), ..back() };
    let first = page(&mut bob, with.clone()).await;
    let mut items = first.items;
    if first.more {
        let second = page(&mut bob, Fetch { cursor: Some(first.cursor), ..with.clone() }).await;
        assert!(!second.more);
        items.extend(second.items);
    }
    assert_eq!(said(&items), ["fate", "to carol", "from carol"]);
    assert_eq!(said(&all(&mut bob, with).await), ["fate", "to carol", "from carol"]);
    let nobody = Fetch { with: Some("x@localhost".parse().unwrap()), ..back() };
    assert_eq!(all(&mut bob, nobody).await, []);
}

/// A list of what there is costs no bodies: each item says how long its own is, and is read by its
/// cursor.
#[tokio::test]
async fn a_log_is_read_without_bodies_and_an_item_by_its_cursor() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let header = Header { name: "Subject".to_owned(), value: "x".repeat(100) };
    let sent: Vec<Message> = (1..=5)
        .map(|n| {
            let headers = vec![header.clone()];
            let content_type = Some("text/x".to_owned());
            Message { headers, content_type, ..message(BOB, &"y".repeat(n * 10_000)) }
        })
        .collect();
    for message in &sent {
        alice.done(message.clone()).await;
    }
    let whole = bob.log().await;
    for bare in [Fetch { metadata: true, ..log() }, Fetch { metadata: true, ..back() }] {
        let mut read = page(&mut bob, bare.clone()).await;
        assert!(!read.more, "all five in one page");
        read.items.sort_by_key(|item| item.size);
        for ((item, whole), sent) in read.items.iter().zip(&whole).zip(&sent) {
            let told = Message::decode(item.message.clone().unwrap()).unwrap();
            let from = Some(alice.address.clone());
            let bare = Message { body: Bytes::new(), headers: vec![], from, ..sent.clone() };
            assert_eq!((told, item.size), (bare, Some(sent.body.len() as u64)));
            assert_eq!(
                (&item.cursor, item.time, item.kind),
                (&whole.cursor, whole.time, whole.kind)
            );
        }
    }
    for item in &whole {
        let read = page(&mut bob, Fetch { item: Some(item.cursor.clone()), ..log() }).await;
        assert_eq!((&read.items[..], &read.cursor), (std::slice::from_ref(item), &item.cursor));
    }
    let forged = Fetch { item: Some(Bytes::from_static(b"forged")), ..log() };
    assert_eq!(bob.refused(forged).await, Code::BadCursor);
    bob.ack_all().await;
}

/// E12: what is deleted is gone in all these ways too; who does not know of marks is told that nothing is
/// there.
#[tokio::test]
async fn e12_what_is_deleted_is_read_in_no_other_way() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let hello = Hello { features: vec![EVERY_ITEM.to_owned()], ..hello() };
    let wire = Wire::dial(&server).await;
    let mut bob = Peer::over_saying(hello, wire, &server.profile("bob"), 1).await.unwrap();
    let mut older = Peer::sign_in_on(&server, "bob", 2).await;
    for text in ["one", "two"] {
        alice.send(BOB, text).await;
    }
    let cursor = bob.log().await[0].cursor.clone();
    let deletion = state::encode(&state::Deletion { cursor: cursor.clone() });
    bob.done(impp_tests::peer::publish(BOB, What::Log, Some(deletion))).await;
    assert_eq!(said(&all(&mut bob, back()).await), ["deleted", "two", "gone"]);
    assert_eq!(said(&all(&mut older, back()).await), ["two"]);
    let with = Fetch { with: Some(alice.address.clone()), ..back() };
    assert_eq!(said(&all(&mut bob, with).await), ["two"]);
    let item = Fetch { item: Some(cursor), ..log() };
    let gone = page(&mut bob, item.clone()).await.items.remove(0);
    assert_eq!((gone.kind, gone.message), (ItemKind::Gone, None));
    assert_eq!(older.refused(item).await, Code::NotFound);
}

/// E9: an item that cannot be read keeps nobody from the others, whichever way they are read. It is not
/// deleted as long as nobody knows what it was.
#[tokio::test]
async fn e9_g6_a_damaged_item_is_in_no_readers_way() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..3 {
        alice.send(BOB, &n.to_string()).await;
    }
    let log_before = Peer::sign_in(&server, "bob").await.log().await;
    server.stop();
    damage_item(&server, 1);
    server.restart();
    let hello = Hello { features: vec![EVERY_ITEM.to_owned()], ..hello() };
    let wire = Wire::dial(&server).await;
    let mut bob = Peer::over_saying(hello, wire, &server.profile("bob"), 1).await.unwrap();
    let with = Some("alice@localhost".parse().unwrap());
    for max in [1, 256] {
        let max = Some(max);
        let read = all(&mut bob, Fetch { max, ..back() }).await;
        assert_eq!(said(&read), ["2", "damaged", "0"], "{max:?}");
        // As forwards, the cursor is that of the item before it.
        assert_eq!(read[1].cursor, log_before[0].cursor, "{max:?}");
        // Whose it was is not known: it may come with whomever one asks for.
        let mut read = all(&mut bob, Fetch { max, with: with.clone(), ..back() }).await;
        read.retain(|item| item.kind != ItemKind::Damaged);
        assert_eq!(said(&read), ["2", "0"], "{max:?}");
    }
    let bare = page(&mut bob, Fetch { metadata: true, ..log() }).await;
    let kinds: Vec<ItemKind> = bare.items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [ItemKind::Received, ItemKind::Damaged, ItemKind::Received]);
    let damaged = log_before[1].cursor.clone();
    let item = Fetch { item: Some(damaged.clone()), ..log() };
    assert_eq!(said(&page(&mut bob, item).await.items), ["damaged"]);
    let deletion = state::encode(&state::Deletion { cursor: damaged });
    let deletion = impp_tests::peer::publish(BOB, What::Log, Some(deletion));
    assert_eq!(bob.refused(deletion).await, Code::Storage);
}

/// A delegate who may read the inbox sees what came, in these ways too.
#[tokio::test]
async fn a_delegate_reads_what_came_and_no_more() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let rights = "[[delegate]]\nid = \"a\"\nwho = [\"alice@localhost\"]\nrights = [\"inbox-read\"]";
    bob.set_rules(&format!("{OPEN_INBOX}\n{rights}\n")).await;
    alice.send(BOB, "one").await;
    bob.send("alice@localhost", "his own").await;
    assert_eq!(said(&all(&mut alice, back()).await), ["one"]);
    let sent = bob.log().await.into_iter().find(|item| item.kind == ItemKind::Sent).unwrap();
    let item = Fetch { item: Some(sent.cursor), ..log() };
    assert_eq!(alice.refused(item).await, Code::NotFound);
    let bare = page(&mut alice, Fetch { metadata: true, ..log() }).await;
    assert_eq!((bare.items.len(), bare.items[0].size), (1, Some(3)));
}

/// The server says that it knows of all this, so that no client asks one that does not.
#[tokio::test]
async fn the_server_says_that_it_can() {
    let server = Server::quickstart();
    let (_, hello) = Wire::greeted(&server).await;
    assert!(hello.features.iter().any(|feature| feature == SERIES), "{hello:?}");
}

/// `impp history`: the last of a conversation, in its order, and on from there.
#[tokio::test]
async fn the_client_shows_a_conversation() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    for text in ["one", "two"] {
        alice.run(&["send", BOB, text]).one();
    }
    bob.run(&["send", "alice@localhost", "three"]).one();
    let shown = |args: &[&str]| {
        let ran = bob.run(&[&["history", "alice@localhost"], args].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        let bodies = ran.objects.iter().filter_map(|item| item["body"].as_str());
        let bodies: Vec<String> = bodies.map(str::to_owned).collect();
        (bodies, ran.objects.last().cloned().unwrap())
    };
    let (bodies, end) = shown(&[]);
    assert_eq!(
        (bodies, end["more"].as_bool()),
        (vec!["one".into(), "two".into(), "three".into()], Some(false))
    );
    let (bodies, end) = shown(&["--max", "2"]);
    assert_eq!((bodies, end["more"].as_bool()), (vec!["two".into(), "three".into()], Some(true)));
    let (bodies, _) = shown(&["--before", end["before"].as_str().unwrap()]);
    assert_eq!(bodies, ["one"]);
    let nobody = bob.run(&["history", "x@localhost"]);
    assert_eq!((nobody.code, nobody.objects.len()), (0, 1));
    // How much of it was not read yet.
    let unread = || shown(&[]).1["unread"].as_u64();
    assert_eq!(unread(), Some(2));
    bob.run(&["read", "alice@localhost"]).one();
    assert_eq!(unread(), Some(0));
    alice.run(&["send", BOB, "four"]).one();
    assert_eq!(unread(), Some(1));
}

/// `impp inbox --follow --from-now` says at once where it begins: from there on nothing is missed, also if
/// nothing came.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_from_now_on_has_a_cursor_though_nothing_came() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    alice.run(&["send", BOB, "before"]).one();
    let mut follow = Running::start(&server, "bob", &["inbox", "--follow", "--from-now"]);
    let begins = follow.object();
    assert_eq!(begins["item"], "begins");
    let (code, rest) = follow.interrupt_and_rest();
    assert_eq!((code, rest.len(), &rest[0]["item"]), (Some(0), 1, &"end".into()));
    assert_eq!(rest[0]["cursor"], begins["cursor"]);
    alice.run(&["send", BOB, "after"]).one();
    let since = bob.run(&["inbox", "--since", begins["cursor"].as_str().unwrap()]);
    let bodies: Vec<_> = since.objects.iter().filter_map(|item| item["body"].as_str()).collect();
    assert_eq!(bodies, ["after"]);
}
