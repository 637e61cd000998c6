//! What is merged, and what is let go of.

use std::path::Path;

use impp_storage::MemoryStore;

use super::*;
use crate::core::config::Config;
use crate::life::Server;

async fn marks(settings: &str) -> Arc<Marks> {
    let domain = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
    let config = Config::parse(&format!("{settings}{domain}"), Path::new("imppd.toml")).unwrap();
    let server = Server::load(config, Arc::new(MemoryStore::new().unwrap())).await.unwrap();
    Arc::new(Marks::new(
        &server.ground,
        server.rooms.routes.clone(),
        server.rooms.principals.clone(),
        server.rooms.live.sessions.clone(),
    ))
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@a.example")).unwrap()
}

fn at(seq: u64) -> Seen {
    Seen {
        seq,
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        time: Timestamp::from_millis(1),
    }
}

/// Devices that were away say in any order how far they have read, at once too: in the end the one that is
/// furthest on is right.
#[tokio::test]
async fn of_two_marks_the_further_one_stands_in_whatever_order_they_come() {
    let marks = marks("").await;
    let (alice, bob) = (address("alice"), address("bob"));
    let places = [5, 3, 9, 1, 7, 9, 2].map(|seq| {
        let (marks, alice, bob) = (marks.clone(), alice.clone(), bob.clone());
        tokio::spawn(async move { marks.read(&alice, &bob, at(seq)).await })
    });
    for place in places {
        place.await.unwrap().unwrap();
    }
    let all = marks.all(&alice).await.unwrap();
    assert_eq!(
        all.iter().map(|one| (&one.with, one.read.unwrap().seq)).collect::<Vec<_>>(),
        [(&bob, 9)]
    );
    assert_eq!(marks.all(&bob).await.unwrap(), []);
}

/// There are as many as there is room for; which is furthest back in the log, goes.
#[tokio::test]
async fn d_4_marks_are_bounded_and_the_one_furthest_back_goes() {
    let marks = marks("[limits]\ncontacts_max = 2\n").await;
    let (alice, most) = (address("alice"), 2 + CONVERSATIONS_BESIDE);
    for n in 0..most {
        marks.read(&alice, &address(&format!("u{n}")), at(n + 1)).await.unwrap();
    }
    marks.read(&alice, &address("u0"), at(5_000)).await.unwrap();
    marks.read(&alice, &address("newcomer"), at(5_001)).await.unwrap();
    let all = marks.all(&alice).await.unwrap();
    let has = |name: &str| all.iter().any(|one| one.with == address(name));
    assert_eq!(all.len() as u64, most);
    assert!(has("u0") && has("newcomer") && !has("u1") && has("u2"));
}
