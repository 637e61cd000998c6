//! What an account has stored for itself has an end: copies, fates, what it has taken, ids by which
//! repeats are known; and what waits for the disk waits in turns.

use impp_protocol::command::{Fetch, Ping};
use impp_protocol::state::{self, ItemKind, Page};
use impp_protocol::{By, Code, What};
use impp_tests::peer::{fetch, message};
use impp_tests::{Peer, Server};
use rusqlite::Connection;

use crate::settings::{Setting, large};

async fn first_page(peer: &mut Peer) -> Page {
    let page = peer.done(fetch(peer.address.as_str(), What::Log)).await.content.unwrap();
    state::decode(page).unwrap()
}

/// Of what an account may lose so much stays, over a crash too: the newest. What it has received and no
/// device has taken stays, however much is in front of it and behind it; and that something is
/// missing in between is told.
pub(crate) async fn one_kept_more(setting: Setting) {
    let most = setting.value as usize;
    let mut server = setting.server();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "not taken").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..most {
        alice.send("bob@localhost", &n.to_string()).await;
    }
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("bob@localhost", "the last one").await;
    let page = first_page(&mut alice).await;
    let kinds = page.items.iter().map(|item| item.kind);
    let received = kinds.clone().filter(|kind| *kind == ItemKind::Received).count();
    assert_eq!((received, kinds.clone().count()), (1, most + 1), "{:?}", kinds.collect::<Vec<_>>());
    assert_eq!(page.items[0].kind, ItemKind::Received);
    let newest = |kind| page.items.iter().rev().find(|item| item.kind == kind).unwrap().clone();
    assert_eq!(newest(ItemKind::Fate).cursor, page.cursor);
    // Behind the one in front, as copies between it and the next are gone.
    let fetch = Fetch { cursor: Some(page.oldest), ..fetch("alice@localhost", What::Log) };
    let whole: Page = state::decode(alice.done(fetch).await.content.unwrap()).unwrap();
    assert_eq!(whole.items, page.items[1..]);

    assert_eq!(bob.inbox().await.len(), most + 1, "nothing of it is taken yet");
    bob.ack_all().await;
    assert_eq!(bob.log().await.len(), most);
    bob.send("carol@localhost", "one more").await;
    assert_eq!(bob.log().await.len(), most);
}

/// The same of bytes.
pub(crate) async fn one_byte_kept_more(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let part = setting.value as usize / 3;
    for _ in 0..6 {
        alice.done(large("bob@localhost", part)).await;
    }
    let copies = alice.log().await.into_iter().filter(|item| item.kind == ItemKind::Sent);
    let bytes: usize = copies.map(|item| item.message.unwrap().len()).sum();
    assert!((part..=setting.value as usize).contains(&bytes), "{bytes}");
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.inbox().await.len(), 6);
}

/// So many ids of one sender are known; a repeat of one of these is one all the same, and another
/// sender has as many.
pub(crate) async fn one_id_more(setting: Setting) {
    let mut server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut last = message("bob@localhost", "0");
    for n in 0..setting.value {
        last = message("bob@localhost", &n.to_string());
        alice.done(last.clone()).await;
    }
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for to in ["bob@localhost", "carol@localhost"] {
        let error = alice.request(message(to, "one more")).await.unwrap_err();
        assert_eq!((error.code, error.by), (Code::Full, By::Server), "{error:?}");
    }
    let repeat = alice.done(last).await;
    assert_eq!(repeat.outcome, Some(impp_protocol::command::Outcome::Duplicate));
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "another sender").await;
}

/// While the disk is busy with something else, one writes much; of who writes little behind that only
/// what has its turn goes first, not all that waits.
#[tokio::test]
async fn who_writes_little_has_its_turn_before_all_that_waits() {
    const MUCH: usize = 48;
    let server = Server::with().no_rates().set("inbox.items_max", 1_000_000).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let database = Connection::open(server.data().join("store/store.sqlite")).unwrap();
    loop {
        // Nothing is written until it is let go; the server waits for that, but not for ever.
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        let much = (0..MUCH).map(|_| large("bob@localhost", 60_000).into());
        let much = alice.flight(much).await;
        // Who is answered this has had all before taken over to the disk.
        alice.done(Ping::empty()).await;
        let little = carol.ask(message("bob@localhost", "little")).await;
        carol.done(Ping::empty()).await;
        database.execute_batch("ROLLBACK").unwrap();
        let mut all = vec![carol.answer(little).await];
        for number in much {
            all.push(alice.answer(number).await);
        }
        if all.iter().all(Result::is_ok) {
            break;
        }
        let busy = |answer: &_| matches!(answer, Err(error) if is_busy(error)) || answer.is_ok();
        assert!(all.iter().all(busy), "{all:?}");
        let mut bob = Peer::sign_in(&server, "bob").await;
        bob.ack_all().await;
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox: Vec<_> = bob.inbox().await.into_iter().rev().take(MUCH + 1).collect();
    let of_carol = |m: &impp_protocol::command::Message| m.from.as_ref() == Some(&carol.address);
    let before = inbox.iter().rev().position(of_carol).unwrap();
    // What had been taken into a commit before, and in its own as much as goes into one.
    assert!(before <= MUCH / 3, "{before} of {MUCH}");
}

fn is_busy(error: &impp_protocol::Error) -> bool {
    error.code == Code::Busy
}
