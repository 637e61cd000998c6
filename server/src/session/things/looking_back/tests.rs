//! What one request looks at, over a store that has no index of conversations.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message};
use impp_protocol::state::{self, Page};
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
