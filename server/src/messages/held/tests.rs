//! What the store has no time for is not left until somebody comes.

use std::path::Path;

use impp_protocol::sasl::scram::{Iterations, Verifier};
use impp_storage::{Store, StoreError};

use super::*;
use crate::core::clock::Clock;
use crate::core::config::Config;
use crate::core::double::Double;
use crate::core::records::{AccountRecord, AccountState, Services, VerifierRecord};
use crate::life::{Server, Surroundings};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// alice, who has decided about two messages of bob's that are held, and a store that is too busy for
/// so many of what is put into a log.
async fn decided(busy: u32) -> (Server, Arc<Double>) {
    let (alice, bob) = (address("alice@a.example"), address("bob@a.example"));
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
    let body = |n: u8| Bytes::from(vec![n]);
    let held = |n: u8| {
        let id = MessageId::new(Timestamp::from_millis(n.into()), [n; 10]);
        place::held(&alice, &bob, id).put_bytes(Expect::Any, body(n))
    };
    let mark = Op::Put {
        key: place::decided(&alice, &bob).key(),
        expect: Expect::Any,
        value: Some(Bytes::from_static(b"{}")),
    };
    let ops = vec![place::account(&alice).set(Some(&account)), held(1), held(2), mark];
    store.submit(Unit::of(Timestamp::from_millis(1), ops)).await.unwrap();
    let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
    let config = Config::parse(text, Path::new("imppd.toml")).unwrap();
    // By the runtime's time, which goes on when nothing else does.
    let clock = Clock::started_at(Timestamp::from_millis(1_800_000_000_000));
    let surroundings = Surroundings { clock, ..Surroundings::real() };
    (Server::load_in(surroundings, config, store.clone()).await.unwrap(), store)
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
