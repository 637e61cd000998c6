//! What one request looks at, over a store that has no index of conversations.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message};
use impp_protocol::state::{self, Page, ReadMark, ReadMarks};
use impp_protocol::{Address, Command, MessageId, What};
use impp_storage::{Limit, Unit};

use crate::core::records::logs;
use crate::life::Server;
use crate::session::Session;
use crate::session::tests::{address, ask, sign_in, start};

/// So many messages from somebody come into bob's log.
async fn comes(server: &Server, from: Address, mut messages: usize) {
    let now = server.ground.clock.now();
    let id = MessageId::new(now, [7; 10]);
    let message = Message { from: Some(from), ..Message::new(id, address("bob"), "hi".into()) };
    while messages > 0 {
        let some = messages.min(200);
        let ops = vec![logs::received(&address("bob"), Limit::NONE); some];
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
