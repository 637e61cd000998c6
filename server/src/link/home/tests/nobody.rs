//! Addresses that do not exist, or not yet, as links ask for them.

use impp_presence::ghosts::GHOSTS_PER_DOMAIN_MAX;
use impp_protocol::command::{Message, Written};
use impp_storage::{Op, StoreError};

use super::*;
use crate::core::double::Double;
use crate::core::keeping::scan;
use crate::core::records::HELD;
use crate::messages::Bearer;

#[tokio::test]
async fn f14_who_does_not_exist_lapses_as_who_never_comes_does() {
    let mut pair = Pair::new("").await;
    let mut lapses = Vec::new();
    for whom in ["alice@a.example", "nobody@a.example"] {
        let ask = Subscribe { address: address(whom), ..ask_for("bob@b.example", 1) };
        let taken = home_of(&pair.a).subscribe(&pair.link, ask).await;
        let _ = home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // As the timer does, which both have.
    for whom in ["alice@a.example", "nobody@a.example"] {
        pair.a.rooms.principals.expire(&address(whom)).await.unwrap();
    }
    let mut out = BytesMut::new();
    home_of(&pair.a).tell(&pair.link, &mut pair.groups, &mut out, 1 << 20).await;
    while let Some(frame) = take(&mut out, FRAME_BYTES_MAX).unwrap() {
        if let Command::Notify(notify) = Request::decode(frame).unwrap().command {
            lapses.push(format!("{} {:?}", notify.state, notify.event));
        }
    }
    assert_eq!(lapses, ["waiting Some(Timeout)"; 2]);
}

#[tokio::test]
async fn f14_who_does_not_exist_has_as_many_places_as_who_never_comes() {
    let mut pair = Pair::new("[limits]\npending_max = 8\n").await;
    let mut answers = Vec::new();
    for whom in ["alice@a.example", "nobody@a.example"] {
        let mut codes = Vec::new();
        for index in [0, 1, 2, 0] {
            let watcher = format!("w{index}@b.example");
            let ask = Subscribe { address: address(whom), ..ask_for(&watcher, 60) };
            let taken = home_of(&pair.a).subscribe(&pair.link, ask).await;
            codes.push(match home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await {
                Command::Ok(done) => Ok(done.state),
                Command::Error(error) => Err((error.code, error.by, error.text)),
                other => panic!("{other:?}"),
            });
        }
        answers.push(codes);
    }
    assert_eq!(answers[0], answers[1]);
    // One domain has a quarter of the places, so that others find some.
    let taken: Vec<bool> = answers[0].iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, true]);
    let other = LinkMailbox::new(LinkId([9; 16]), domain("a.example"), domain("d.example"));
    let taken = home_of(&pair.a).subscribe(&other, ask_for("w@d.example", 60)).await;
    let answer = home_of(&pair.a).answer(&other, &mut AllGroups::default(), taken).await;
    assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
}

#[tokio::test]
async fn f14_of_many_who_do_not_decide_the_oldest_are_given_up_and_told_so() {
    let mut pair = Pair::new("").await;
    // Some of them exist, which makes no difference.
    for index in [0, 7, 75, 80] {
        add(&pair.a, &format!("nobody{index}@a.example")).await;
    }
    for index in 0..GHOSTS_PER_DOMAIN_MAX + 76 {
        let whom = address(&format!("nobody{index}@a.example"));
        let ask = Subscribe { address: whom, ..ask_for("bob@b.example", 60) };
        let taken = home_of(&pair.a).subscribe(&pair.link, ask).await;
        let answer = home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await;
        assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
    }
    let (mut out, mut told) = (BytesMut::new(), Vec::new());
    let given_up = async {
        while told.len() < 76 {
            home_of(&pair.a).tell(&pair.link, &mut pair.groups, &mut out, 1 << 20).await;
            while let Some(frame) = take(&mut out, FRAME_BYTES_MAX).unwrap() {
                let Command::Notify(notify) = Request::decode(frame).unwrap().command else {
                    panic!("something else is told");
                };
                assert_eq!(notify.event, Some(SubscriptionEvent::Giveup), "{notify:?}");
                told.push(notify.address);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_up).await.unwrap();
    assert!(told.iter().all(|whom| whom.local().len() <= "nobody75".len()), "{told:?}");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 76);
    let most = GHOSTS_PER_DOMAIN_MAX;
    assert_eq!((pair.groups.len(), pair.link.watchers()), (most, most));
}

#[tokio::test]
async fn whoever_is_added_while_links_ask_for_it_is_followed_as_any_other() {
    let mut pair = Pair::new("").await;
    let ask = || Subscribe { address: address("dora@a.example"), ..ask_for("bob@b.example", 60) };
    let taken = home_of(&pair.a).subscribe(&pair.link, ask()).await;
    home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await;
    add(&pair.a, "dora@a.example").await;
    let taken = home_of(&pair.a).subscribe(&pair.link, ask()).await;
    let answer = home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await;
    assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
    let dora = address("dora@a.example");
    let waits =
        pair.a.rooms.principals.look(&dora, |principal, _| principal.presentity.watchers().count());
    assert_eq!(waits.await.unwrap(), 1);
}

/// Nobody, at whom a message of bob's is held; the server, and what it keeps.
async fn held_at_nobody() -> (Server, Arc<Double>) {
    let store = Double::new();
    let server = start("a.example", "", store.clone()).await;
    let (nobody, bob) = (address("nobody@a.example"), address("bob@b.example"));
    let id = impp_protocol::MessageId::new(server.ground.clock.wall(), [1; 10]);
    let message = Message { from: Some(bob.clone()), ..Message::new(id, nobody, "hello".into()) };
    let delivered = server.rooms.delivery.deliver(Written::new(message), bob, Bearer::Link).await;
    let Ok(Answer::Later(later)) = delivered else { panic!("it is refused") };
    assert!(matches!(later.await, Command::Ok(_)));
    assert_eq!((kept(&server).await, counted(&server).await), (1, 1));
    (server, store)
}

/// How much the store has that is held there.
async fn kept(server: &Server) -> usize {
    let nobody = address("nobody@a.example");
    scan(&*server.ground.store, &nobody, HELD).await.unwrap().len()
}

/// How much counts as held there of bob's.
async fn counted(server: &Server) -> u64 {
    let (bob, nobody) = (address("bob@b.example"), address("nobody@a.example"));
    let look = server.rooms.principals.look(&nobody, |principal, _| principal.held.count(&bob));
    look.await.unwrap()
}

/// Their domain asks for so many others that nobody is given up.
fn ask_for_others(server: &Server) {
    for index in 0..GHOSTS_PER_DOMAIN_MAX {
        let other = address(&format!("other{index}@a.example"));
        server.rooms.principals.asked_from(&other, &domain("b.example"));
    }
}

/// So long something may take that does not wait for anybody.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn f14_who_is_asked_for_anew_while_it_is_given_up_keeps_no_counts() {
    // In whatever order it comes: so many turns later it is asked for again.
    for later in 0..24 {
        let (server, store) = held_at_nobody().await;
        store.be_slow();
        ask_for_others(&server);
        for _ in 0..later {
            tokio::task::yield_now().await;
        }
        server.rooms.principals.asked_from(&address("nobody@a.example"), &domain("b.example"));
        counted(&server).await;
        let gone = async {
            while kept(&server).await > 0 || counted(&server).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(LONG, gone).await;
        let left = (kept(&server).await, counted(&server).await);
        assert!(gone.is_ok(), "asked for {later} turns later, kept and counted: {left:?}");
    }
}

#[tokio::test]
async fn f14_what_the_store_does_not_give_up_still_counts() {
    let (server, store) = held_at_nobody().await;
    let is_end = |op: &Op| matches!(op, Op::Put { key, value: None, .. } if key.table == HELD);
    store.refuse(move |unit| {
        unit.ops.iter().any(is_end).then_some(StoreError::NoSpace(impp_storage::Lack::Bytes))
    });
    ask_for_others(&server);
    // Before it is given up: it stays in memory.
    server.rooms.principals.asked_from(&address("nobody@a.example"), &domain("b.example"));
    let refused = async {
        while store.refused() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, refused).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!((kept(&server).await, counted(&server).await), (1, 1));
    }
}
