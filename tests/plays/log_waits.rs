//! FETCH of the log that waits for news: long polling, as scripts do it that keep no state.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message, Ping};
use impp_protocol::state::{self, Item, ItemKind, Page};
use impp_protocol::{Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Answer, Peer, fetch};
use impp_tests::{Server, Wire, eventually};

/// As many as may wait in one session.
const WAITS_MAX: usize = 4;
/// Longer than any play lasts: who is answered before was not answered because of time.
const LONG: Duration = Duration::from_secs(300);

/// Reads bob's log behind a cursor when there are so many items.
fn waits(cursor: Option<&Bytes>, min: u64, timeout: Duration) -> Fetch {
    let (min, timeout, cursor) = (Some(min), Some(timeout), cursor.cloned());
    Fetch { cursor, wait: true, min, timeout, ..fetch("bob@localhost", What::Log) }
}

fn page(answer: Answer) -> Page {
    state::decode(answer.unwrap().content.unwrap()).unwrap()
}

fn texts(page: &Page) -> Vec<String> {
    let text = |item: &Item| {
        let message = Message::decode(item.message.clone().unwrap()).unwrap();
        String::from_utf8(message.body.to_vec()).unwrap()
    };
    page.items.iter().filter(|item| item.kind == ItemKind::Received).map(text).collect()
}

/// What is there is told at once. Else the answer comes with what comes, and what is asked behind it is
/// answered before.
#[tokio::test]
async fn a_reader_waits_for_what_comes_and_holds_up_nobody() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("bob@localhost", "one").await;
    let first = page(bob.request(waits(None, 1, LONG)).await);
    assert_eq!((texts(&first), first.more), (vec!["one".into()], false));

    let waiting = bob.ask(waits(Some(&first.cursor), 1, LONG)).await;
    bob.done(Ping::empty()).await;
    // Other requests about the same log are answered meanwhile.
    assert_eq!(bob.log().await.len(), 1);
    alice.send("bob@localhost", "two").await;
    let second = page(bob.answer(waiting).await);
    assert_eq!(texts(&second), ["two"]);
    // Nothing is told twice to who reads on from there.
    let third = page(bob.request(waits(Some(&second.cursor), 1, Duration::ZERO)).await);
    assert_eq!((third.items.len(), third.cursor), (0, second.cursor));
}

/// With `min` it waits until there are so many; what came before the time is over is told then.
#[tokio::test]
async fn so_many_are_waited_for_and_fewer_come_when_time_is_over() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let waiting = bob.ask(waits(None, 3, LONG)).await;
    for text in ["one", "two", "three"] {
        bob.done(Ping::empty()).await;
        alice.send("bob@localhost", text).await;
    }
    // All three came in one page: it was not answered at the first.
    assert_eq!(texts(&page(bob.answer(waiting).await)), ["one", "two", "three"]);
    let short = waits(None, 4, Duration::from_secs(1));
    assert_eq!(texts(&page(bob.request(short).await)), ["one", "two", "three"]);
    // More than fits a page is not waited for.
    let all = Fetch { max: Some(2), ..waits(None, 1_000, LONG) };
    let some = page(bob.request(all).await);
    assert_eq!((texts(&some).len(), some.more), (2, true));
}

/// So many wait in one session, and no more. They end with its connection, and the next session has all
/// its places.
#[tokio::test]
async fn few_may_wait_and_they_end_with_the_connection() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    for round in 0..2 {
        for _ in 0..WAITS_MAX {
            bob.ask(waits(None, 1, LONG)).await;
        }
        assert_eq!(bob.refused(waits(None, 1, LONG)).await, Code::Full, "round {round}");
        bob.done(Ping::empty()).await;
        let held = bob.held();
        bob.cut();
        // The same session on a new connection, which may have to wait until the old one has ended.
        bob = Peer::resume(Wire::dial(&server).await, &held).await.unwrap();
    }
    // An answer makes a place free.
    let mut numbers = Vec::new();
    for _ in 0..WAITS_MAX {
        numbers.push(bob.ask(waits(None, 1, LONG)).await);
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "one").await;
    for number in numbers {
        assert_eq!(texts(&page(bob.answer(number).await)), ["one"]);
    }
    bob.done(waits(None, 1, LONG)).await;
    assert_eq!(bob.refused(waits(Some(&Bytes::from_static(b"?")), 1, LONG)).await, Code::BadCursor);
}

/// An orderly stop waits for nobody who waits.
#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_wait() {
    let mut server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let number = bob.ask(waits(None, 1, LONG)).await;
    bob.done(Ping::empty()).await;
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    // With what there is, as when time is over; or with the end of the connection.
    if let Some(answer) = bob.try_answer(number).await {
        assert_eq!(page(answer).items, []);
    }
    stopping.await.unwrap();
}

/// `impp inbox --wait` prints what there is, or what comes in time.
#[tokio::test]
async fn a_person_waits_for_a_message_by_the_command_line() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let bob = Impp::of(&server, "bob");
    // Its end alone.
    assert_eq!(bob.run(&["inbox", "--wait", "1"]).one()["item"], "end");
    let waiting = tokio::task::spawn_blocking(move || bob.run(&["inbox", "--wait", "300"]));
    let there = async || (server.metrics().get("impp_sessions") >= 2.0).then_some(());
    eventually("bob has signed in", there).await;
    alice.send("bob@localhost", "hello").await;
    let told = waiting.await.unwrap();
    assert_eq!((told.code, told.objects.len()), (0, 2), "{told:?}");
    assert_eq!(told.objects[0]["body"], "hello");
}
