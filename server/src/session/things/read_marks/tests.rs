//! In virtual time: what is told of marks that were forgotten.

use std::time::Duration;

use impp_protocol::command::Subscribe;
use impp_protocol::state::{self, ReadMark, ReadMarks};
use impp_protocol::{Address, Command, Timestamp, What};

use crate::life::Server;
use crate::messages::{CONVERSATIONS_BESIDE, Seen};
use crate::session::tests::{address, ask, events, sign_in, start_by_clock};
use crate::session::things::seldom::PACE;
use crate::session::{Event, Session};

async fn told(session: &mut Session) -> Vec<ReadMark> {
    let read = |event| match event {
        Event::State(notify) if notify.what == What::ReadMarks => {
            let content = notify.snapshot.or(notify.patch).unwrap_or_default();
            state::decode::<ReadMarks>(content).unwrap().entries
        }
        other => panic!("{other:?}"),
    };
    events(session, 10).await.into_iter().flat_map(read).collect()
}

async fn read(server: &Server, with: &Address, seq: u64) {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let seen = Seen { seq, id, time: Timestamp::from_millis(1) };
    server.rooms.marks.read(&address("alice"), with, seen).await.unwrap();
}

/// Where there is no room for another mark, all devices know which conversation counts as unread again.
#[tokio::test(start_paused = true)]
async fn a_mark_that_is_forgotten_is_told_to_who_follows() {
    let server = start_by_clock("contacts_max = 2").await;
    let mut alice = sign_in(&server, "alice").await;
    let most = CONVERSATIONS_BESIDE + 2;
    for n in 0..most {
        read(&server, &address(&format!("u{n}")), n + 1).await;
    }
    let follow = Subscribe::of(address("alice"), What::ReadMarks);
    assert!(matches!(ask(&mut alice, follow).await, Command::Ok(_)));
    assert_eq!(told(&mut alice).await.len() as u64, most);
    read(&server, &address("newcomer"), 5_000).await;
    tokio::time::sleep(PACE + Duration::from_secs(1)).await;
    let news = told(&mut alice).await;
    let news: Vec<_> = news.iter().map(|mark| (mark.address.as_str(), mark.id.is_some())).collect();
    assert_eq!(news, [("newcomer@a.example", true), ("u0@a.example", false)]);
    tokio::time::sleep(PACE * 2).await;
    assert_eq!(told(&mut alice).await, []);
    // Also what was forgotten while the client was away, and what may have gone into a dead connection:
    // until the client has been heard after it.
    read(&server, &address("another"), 5_001).await;
    for (heard, expected) in [(0, &["u0", "u1"][..]), (1, &["u0", "u1"]), (2, &[])] {
        (0..heard).for_each(|_| alice.is_there());
        alice.resume().await.unwrap();
        let news = told(&mut alice).await;
        assert_eq!(news.len() as u64, most + expected.len() as u64);
        let forgotten = news.iter().filter(|mark| mark.id.is_none());
        let forgotten: Vec<&str> = forgotten.map(|mark| mark.address.local()).collect();
        assert_eq!(forgotten, expected, "heard {heard} times");
    }
}
