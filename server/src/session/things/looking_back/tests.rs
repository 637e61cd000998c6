//! What one request looks at, over a store that has no index of conversations.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message, Publish};
use impp_protocol::state::{self, Page, ReadMark, ReadMarks};
use impp_protocol::{Address, Command, MessageId, What};
use impp_storage::{Limit, Op, Unit};

use crate::core::records::logs;
use crate::life::Server;
use crate::session::Session;
use crate::session::tests::{address, ask, sign_in, start};

/// So many messages from somebody come into bob's log.
async fn comes(server: &Server, from: Address, messages: usize) {
    is_stored(server, from, messages, logs::received(&address("bob"), Limit::NONE)).await;
}

/// Bob sends so many messages.
async fn goes(server: &Server, messages: usize) {
    is_stored(server, address("bob"), messages, logs::copy_sent(&address("bob"))).await;
}

async fn is_stored(server: &Server, from: Address, mut messages: usize, op: Op) {
    let now = server.ground.clock.now();
    let id = MessageId::new(now, [7; 10]);
    let message = Message { from: Some(from), ..Message::new(id, address("bob"), "hi".into()) };
    while messages > 0 {
        let some = messages.min(200);
        let ops = vec![op.clone(); some];
        let unit = Unit { body: Some(message.clone().encode()), ..Unit::of(now, ops) };
        server.ground.store.submit(unit).await.unwrap();
        messages -= some;
    }
}

async fn content(bob: &mut Session, fetch: Fetch) -> Bytes {
    match ask(bob, fetch).await {
        Command::Ok(done) => done.content.unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn unread(bob: &mut Session, from: &str) -> ReadMark {
    let fetch = Fetch::of(address("bob"), What::ReadMarks);
    let marks = content(bob, Fetch { about: Some(address(from)), ..fetch }).await;
    let mut marks = state::decode::<ReadMarks>(marks).unwrap().entries;
    assert_eq!((marks.len(), &marks[0].address), (1, &address(from)));
    marks.remove(0)
}

/// However long the log is, a request does bounded work, and reading on comes to the end.
#[tokio::test]
async fn a_request_looks_at_so_much_and_no_more() {
    let server = start().await;
    let mut bob = sign_in(&server, "bob").await;
    comes(&server, address("carol"), 1).await;
    comes(&server, address("alice"), 1_200).await;
    let (with, mut cursor, mut found) = (Some(address("carol")), None, Vec::new());
    loop {
        let fetch = Fetch::of(address("bob"), What::Log);
        let fetch = Fetch { backwards: true, with: with.clone(), cursor, ..fetch };
        let page: Page = state::decode(content(&mut bob, fetch).await).unwrap();
        found.push(page.items.len());
        if !page.more {
            break;
        }
        cursor = Some(page.cursor);
    }
    assert_eq!(found, [0, 1]);
}

/// Alice, who may read what came to bob.
async fn delegate(server: &Server) -> Session {
    let mut bob = sign_in(server, "bob").await;
    let rules =
        "[[delegate]]\nid = \"a\"\nwho = [\"alice@a.example\"]\nrights = [\"inbox-read\"]\n";
    let rules = Publish::of(address("bob"), What::Rules, Some(rules.into()));
    let set = ask(&mut bob, Publish { base: Some(0), ..rules }).await;
    assert!(matches!(set, Command::Ok(_)), "{set:?}");
    sign_in(server, "alice").await
}

/// A page of bob's log as alice is told it, for whom that is a delegate's.
async fn page(alice: &mut Session, fetch: Fetch) -> Page {
    state::decode(content(alice, fetch).await).unwrap()
}

/// Where very much was sent since anything came, the end is behind all that came and in front of what comes,
/// stays mostly where it is, and nothing is told twice or passed over from there.
#[tokio::test]
async fn the_end_of_what_came_is_a_place_behind_it_however_much_was_sent() {
    let server = start().await;
    let mut alice = delegate(&server).await;
    comes(&server, address("alice"), 10).await;
    goes(&server, 1_030).await;
    let log = || Fetch::of(address("bob"), What::Log);
    let at_end = || Fetch { at_end: true, ..log() };
    let back = || Fetch { backwards: true, ..log() };
    let end = page(&mut alice, at_end()).await;
    assert_eq!((end.items.len(), end.more), (0, false));
    let found = page(&mut alice, Fetch { cursor: Some(end.cursor.clone()), ..back() }).await;
    // So much is looked at, and then what came is found.
    let mut found = vec![found];
    while let Some(last) = found.last().filter(|page| page.more) {
        let cursor = Some(last.cursor.clone());
        found.push(page(&mut alice, Fetch { cursor, ..back() }).await);
    }
    assert_eq!(found.iter().map(|page| page.items.len()).sum::<usize>(), 10);
    let mut ends = vec![end.cursor];
    for _ in 0..20 {
        goes(&server, 1).await;
        ends.push(page(&mut alice, at_end()).await.cursor);
    }
    ends.dedup();
    assert!(ends.len() <= 2, "{}", ends.len());
    comes(&server, address("alice"), 1).await;
    for end in ends {
        let page = page(&mut alice, Fetch { cursor: Some(end), ..log() }).await;
        assert_eq!((page.items.len(), page.more), (1, false));
    }
}

/// Where a page backwards ends for what it has looked at, its place is that in front of the last one told.
#[tokio::test]
async fn a_place_in_front_is_of_what_was_told_also_where_much_lies_between() {
    let server = start().await;
    let mut alice = delegate(&server).await;
    comes(&server, address("alice"), 1).await;
    goes(&server, 1_100).await;
    comes(&server, address("alice"), 2).await;
    let mut found = Vec::new();
    let mut ask = Fetch { backwards: true, ..Fetch::of(address("bob"), What::Log) };
    loop {
        let page = page(&mut alice, ask.clone()).await;
        found.push(page.items.len());
        if !page.more {
            break;
        }
        ask.cursor = Some(page.cursor);
    }
    assert_eq!(found, [2, 0, 1]);
}

/// What was not read of a conversation is counted, as far as anybody wants to know.
#[tokio::test]
async fn what_was_not_read_is_counted_up_to_a_bound() {
    let server = start().await;
    let mut bob = sign_in(&server, "bob").await;
    comes(&server, address("carol"), 3).await;
    comes(&server, address("alice"), 1_000).await;
    let mark = unread(&mut bob, "alice").await;
    assert_eq!((mark.unread, mark.more), (Some(1_000), false));
    comes(&server, address("alice"), 1).await;
    let mark = unread(&mut bob, "alice").await;
    assert_eq!((mark.unread, mark.more), (Some(1_000), true));
    let mark = unread(&mut bob, "carol").await;
    assert_eq!((mark.unread, mark.more, mark.cursor), (Some(3), false, None));
    assert_eq!(unread(&mut bob, "nobody").await.unread, Some(0));
    // Where very much is in between, it is said that there may be more.
    for _ in 0..4 {
        comes(&server, address("alice"), 1_000).await;
    }
    let mark = unread(&mut bob, "carol").await;
    assert_eq!((mark.unread, mark.more), (Some(0), true));
}
