//! What the store has no time for is not left until somebody comes, and nobody's messages are left
//! because of another's.

use std::path::Path;

use impp_presence::places::Asker;
use impp_protocol::sasl::scram::{Iterations, Verifier};
use impp_storage::{Store, StoreError};

use super::*;
use crate::core::clock::Clock;
use crate::core::config::Config;
use crate::core::double::Double;
use crate::core::records::{AccountRecord, AccountState, CONTACT, Services, VerifierRecord};
use crate::life::{Server, Surroundings};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// alice, who has decided about two messages of each of these senders that are held, and a store that is
/// too busy for so many of what is put into a log.
async fn decided_about(senders: &[&str], busy: u32, rules: &str) -> (Server, Arc<Double>) {
    let alice = address("alice@a.example");
    let (store, mut left) = (Double::new(), busy);
    store.refuse(move |unit| {
        unit.ops.iter().any(|op| matches!(op, Op::Append(_))).then_some(())?;
        left = left.checked_sub(1)?;
        Some(StoreError::Busy)
    });
    let iterations = Iterations::new(4096).unwrap();
    let account = AccountRecord {
        services: Services { pres: true, im: true },
        state: AccountState::Enabled,
        created: 0,
        verifier: VerifierRecord::new(&Verifier::decoy(&[0; 32], "alice", iterations)),
    };
    let mut ops = vec![place::account(&alice).set(Some(&account))];
    let rules = (!rules.is_empty()).then(|| rules.to_owned().into());
    ops.extend(rules.map(|rules| place::rules(&alice).put_bytes(Expect::Any, rules)));
    for sender in senders {
        let sender = address(sender);
        let held = |n: u8| {
            let id = MessageId::new(Timestamp::from_millis(n.into()), [n; 10]);
            place::held(&alice, &sender, id).put_bytes(Expect::Any, Bytes::from(vec![n]))
        };
        let mark = Op::Put {
            key: place::decided(&alice, &sender).key(),
            expect: Expect::Any,
            value: Some(Bytes::from_static(b"{}")),
        };
        ops.extend([held(1), held(2), mark]);
    }
    store.submit(Unit::of(Timestamp::from_millis(1), ops)).await.unwrap();
    let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n\
                [inbox]\nitems_max = 1\n";
    let text = if senders.len() > 1 { text } else { text.split("[inbox]").next().unwrap() };
    let config = Config::parse(text, Path::new("imppd.toml")).unwrap();
    // By the runtime's time, which goes on when nothing else does.
    let clock = Clock::started_at(Timestamp::from_millis(1_800_000_000_000));
    let surroundings = Surroundings { clock, ..Surroundings::real() };
    (Server::load_in(surroundings, config, store.clone()).await.unwrap(), store)
}

/// The same about one sender.
async fn decided(busy: u32) -> (Server, Arc<Double>) {
    decided_about(&["bob@a.example"], busy, "").await
}

/// What is in alice's inbox, and whether anything is held still or noted of her decision.
async fn left(store: &Double) -> (u64, usize) {
    let alice = address("alice@a.example");
    let inbox = store.log_state(alice.clone()).await.unwrap().unacked_items;
    let held = keeping::scan(store, &alice, HELD).await.unwrap().len();
    (inbox, held + keeping::scan(store, &alice, DECIDED).await.unwrap().len())
}

/// Nobody acknowledges or decides anything, nor is the server started again.
#[tokio::test(start_paused = true)]
async fn what_the_store_was_too_busy_for_is_moved_by_itself() {
    let (server, store) = decided(5).await;
    server.rooms.delivery.go_on_with_all(&[address("alice@a.example").domain()]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(left(&store).await, (0, 3), "it is too busy at first");
    tokio::time::sleep(BACKOFF.max * 5).await;
    assert_eq!(left(&store).await, (2, 0));
}

/// Nor for ever: what comes to nothing so often waits for a cause.
#[tokio::test(start_paused = true)]
async fn what_the_store_stays_too_busy_for_is_left_after_so_many_tries() {
    let (server, store) = decided(1000).await;
    server.rooms.delivery.go_on_with_all(&[address("alice@a.example").domain()]).await;
    tokio::time::sleep(BACKOFF.max * (TRIES_MAX + 1)).await;
    assert_eq!(store.refused(), u64::from(TRIES_MAX + 1));
    assert_eq!(left(&store).await, (0, 3));
    // There is one: all is as it was at first.
    store.refuse(|_| None);
    server.rooms.delivery.go_on(&address("alice@a.example")).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(left(&store).await, (2, 0));
}

/// However many causes come while it is tried again: each would else go on for a quarter of an hour.
#[tokio::test(start_paused = true)]
async fn causes_that_come_while_it_is_tried_again_add_no_tries_of_their_own() {
    let (server, store) = decided(1000).await;
    let alice = address("alice@a.example");
    for _ in 0..6 {
        server.rooms.delivery.go_on(&alice).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(BACKOFF.max * (TRIES_MAX + 2)).await;
    let (tries, most) = (store.refused(), u64::from(TRIES_MAX));
    assert!((most..=most + 6).contains(&tries), "{tries} tries");
}

/// An owner who cannot be read is no owner without anything to do.
#[tokio::test(start_paused = true)]
async fn who_could_not_be_read_is_tried_again() {
    let (server, store) = decided(0).await;
    store.be_busy(CONTACT, 5);
    server.rooms.delivery.go_on_with_all(&[address("alice@a.example").domain()]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(left(&store).await, (0, 3), "it cannot be read at first");
    tokio::time::sleep(BACKOFF.max * 5).await;
    assert_eq!(left(&store).await, (2, 0));
}

/// bob's messages do not fit; carol's are dropped, which needs no room.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_of_one_sender_keeps_nobody_elses() {
    let rule = |who: &str, action: &str| {
        format!(
            "[[delivery]]\nid = \"{who}\"\nwho = [\"{who}@a.example\"]\naction = \"{action}\"\n"
        )
    };
    let rules = rule("bob", "accept") + &rule("carol", "drop");
    let (server, store) = decided_about(&["bob@a.example", "carol@a.example"], 0, &rules).await;
    server.rooms.delivery.go_on_with_all(&[address("alice@a.example").domain()]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    // One of bob's, and that something is decided.
    assert_eq!(left(&store).await, (1, 2));
}

/// A message is on its way to being held for longer than a move looks for it.
#[tokio::test(start_paused = true)]
async fn what_a_move_did_not_wait_for_is_moved_later() {
    let (server, store) = decided(0).await;
    let (alice, bob) = (address("alice@a.example"), address("bob@a.example"));
    let (delivery, principals) = (&server.rooms.delivery, &server.rooms.principals);
    let asker = Asker::of(&alice, &bob, false);
    assert!(principals.look(&alice, |principal, _| principal.held.hold(asker, 9)).await.unwrap());
    delivery.go_on(&alice).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(left(&store).await, (2, 1), "it has moved what there was, and does not rest");
    let late = MessageId::new(Timestamp::from_millis(3), [3; 10]);
    let late = place::held(&alice, &bob, late).put_bytes(Expect::Any, Bytes::from_static(b"3"));
    store.submit(Unit::of(Timestamp::from_millis(2), vec![late])).await.unwrap();
    tokio::time::sleep(BACKOFF.max * 2).await;
    assert_eq!(left(&store).await, (3, 0));
}

/// Whether it was damaged before anybody looked, or counted as held until it was.
#[tokio::test(start_paused = true)]
async fn g6_a_damaged_message_that_is_held_keeps_none_of_the_others() {
    for is_counted in [false, true] {
        let (server, store) = decided(0).await;
        let (alice, bob) = (address("alice@a.example"), address("bob@a.example"));
        let principals = &server.rooms.principals;
        let damaged = MessageId::new(Timestamp::from_millis(1), [1; 10]);
        if is_counted {
            principals.look(&alice, |_, _| ()).await.unwrap();
        }
        store.damage(place::held(&alice, &bob, damaged).key());
        server.rooms.delivery.go_on(&alice).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let held = keeping::salvage(&*store, &alice, HELD).await.unwrap();
        assert_eq!((held.records.len(), held.damaged.len()), (0, 1), "{is_counted}");
        let inbox = store.log_state(alice.clone()).await.unwrap().unacked_items;
        let noted = keeping::scan(&*store, &alice, DECIDED).await.unwrap().len();
        assert_eq!((inbox, noted), (1, 0), "{is_counted}");
        let waits = principals.look(&alice, |principal, _| {
            principal.held.is_moving(&bob) || principal.held.has(&bob)
        });
        assert!(!waits.await.unwrap(), "{is_counted}: what comes later waits behind it");
    }
}
