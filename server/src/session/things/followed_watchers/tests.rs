//! In virtual time: what is told when.

use std::time::Duration;

use impp_protocol::command::{Fetch, Publish, Subscribe};
use impp_protocol::state::{self, SubscriptionState, Watchers};
use impp_protocol::{Command, What};

use crate::session::tests::{address, ask, events, sign_in, start_by_clock};
use crate::session::things::seldom::PACE;
use crate::session::{Event, Session};

/// What is told of watchers, and whether it is all of them.
async fn told(session: &mut Session) -> Vec<(bool, Watchers)> {
    let read = |event| match event {
        Event::State(notify) if notify.what == What::Watchers => {
            let (whole, content) = (notify.snapshot.is_some(), notify.snapshot.or(notify.patch));
            (whole, state::decode(content.unwrap()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    events(session, 10).await.into_iter().map(read).collect()
}

async fn done(session: &mut Session, command: impl Into<Command>) {
    let answer = ask(session, command).await;
    assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
}

/// However often watchers change, their owner is told once in the pace, and then the newest; what one
/// who follows has left of it costs nobody anything.
#[tokio::test(start_paused = true)]
async fn r5_1_11_changes_of_watchers_come_at_their_pace_and_the_newest() {
    let server = start_by_clock("").await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    let rules = "[[rule]]\nid = \"b\"\nwho = [\"bob@a.example\"]\nhandling = \"allow\"\n\
                 fields = [\"all\"]\n";
    let put = Publish::of(address("alice"), What::Rules, Some(rules.into()));
    done(&mut alice, Publish { base: Some(0), ..put }).await;
    let follow = Subscribe::of(address("alice"), What::Presence);
    let leave = Subscribe { lease: Some(Duration::ZERO), ..follow.clone() };
    done(&mut alice, Subscribe::of(address("alice"), What::Watchers)).await;
    let first = told(&mut alice).await;
    assert!(first.len() == 1 && first[0].0 && first[0].1.entries.is_empty(), "{first:?}");
    for round in 1..=3 {
        // Looked at just before the pace is over, it is not told yet.
        for _ in 0..3 {
            done(&mut bob, follow.clone()).await;
            done(&mut bob, leave.clone()).await;
            assert_eq!(told(&mut alice).await, []);
        }
        done(&mut bob, Fetch::of(address("alice"), What::Presence)).await;
        tokio::time::sleep(PACE - Duration::from_secs(1)).await;
        assert_eq!(told(&mut alice).await, []);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let change = told(&mut alice).await;
        let [(false, Watchers { entries, .. })] = &change[..] else { panic!("{change:?}") };
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].state, entries[0].looks),
            (SubscriptionState::Terminated, Some(round))
        );
    }
    // Nothing was missed, and nothing comes twice.
    tokio::time::sleep(PACE * 3).await;
    assert_eq!(told(&mut alice).await, []);
    let stop = Subscribe::of(address("alice"), What::Watchers);
    done(&mut alice, Subscribe { lease: Some(Duration::ZERO), ..stop }).await;
    done(&mut bob, follow).await;
    tokio::time::sleep(PACE * 3).await;
    assert_eq!(told(&mut alice).await, []);
}

/// Who returns is told all of them anew: what was told last may not have arrived.
#[tokio::test(start_paused = true)]
async fn r5_1_11_who_returns_is_told_all_watchers_anew() {
    let server = start_by_clock("").await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    done(&mut alice, Subscribe::of(address("alice"), What::Watchers)).await;
    assert_eq!(told(&mut alice).await.len(), 1);
    // The rules of a new account ask the owner.
    done(&mut bob, Subscribe::of(address("alice"), What::Presence)).await;
    alice.resume().await.unwrap();
    let again = told(&mut alice).await;
    let [(true, Watchers { entries, more: false, .. })] = &again[..] else { panic!("{again:?}") };
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].state, SubscriptionState::Pending);
}

/// What wakes the session for what was told before it returned comes too early, and is not all.
#[tokio::test(start_paused = true)]
async fn r5_1_11_what_changes_soon_after_a_return_is_told() {
    let server = start_by_clock("").await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    done(&mut alice, Subscribe::of(address("alice"), What::Watchers)).await;
    assert_eq!(told(&mut alice).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    alice.resume().await.unwrap();
    assert_eq!(told(&mut alice).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    done(&mut bob, Subscribe::of(address("alice"), What::Presence)).await;
    assert_eq!(told(&mut alice).await, []);
    // The first would have been over by now, the second is not.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(told(&mut alice).await, []);
    tokio::time::sleep(PACE).await;
    assert_eq!(told(&mut alice).await.len(), 1);
}
