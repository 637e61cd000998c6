//! Whoever asks to follow somebody of another domain by a lease, and is gone before the store has it.

use impp_presence::followed::MirrorKey;
use impp_storage::{Lack, StoreError};
use tokio::task::yield_now;

use super::*;
use crate::core::double::Double;

/// More turns than anything here takes.
const TURNS_MAX: usize = 10_000;

/// Bob's session asks to follow alice, and dies when the store is at it.
async fn deserted(refused: bool) -> Pair {
    let store = Double::new();
    let pair = Pair::with("", store.clone()).await;
    let mut bob = session(&pair.b, "bob@b.example", 2);
    store.keep_back();
    if refused {
        store.refuse(|_| Some(StoreError::NoSpace(Lack::Bytes)));
    }
    let before = store.units();
    let lease = Some(Duration::from_secs(600));
    let ask = Subscribe { lease, ..Subscribe::of(address("alice@a.example"), What::Presence) };
    let asking = tokio::spawn(async move {
        if let Answer::Later(later) = bob.handle(ask.into()).await {
            later.await;
        }
    });
    turns(|| store.units() > before).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled(), "it was answered");
    let (local, remote) = (domain("b.example"), domain("a.example"));
    assert!(!pair.b.mirrors.wanted(&local, &remote), "it is not stored yet");
    store.answer();
    pair
}

/// Others have turns until it is so.
async fn turns(is_so: impl Fn() -> bool) {
    for _ in 0..TURNS_MAX {
        if is_so() {
            return;
        }
        yield_now().await;
    }
    panic!("it does not come to be so");
}

fn key() -> MirrorKey {
    MirrorKey { local: domain("b.example"), presentity: address("alice@a.example") }
}

#[tokio::test]
async fn who_is_gone_before_the_store_has_it_follows_and_the_home_is_asked() {
    let mut pair = deserted(false).await;
    turns(|| pair.b.mirrors.wanted(&domain("b.example"), &domain("a.example"))).await;
    let mut alice = session(&pair.a, "alice@a.example", 1);
    pair.allow("all").await;
    publish(&mut alice, "one").await;
    pair.carry().await;
    assert_eq!(pair.asked, 1);
    let sees = |mirror: &mut impp_presence::followed::Mirror| {
        mirror.follower(&address("bob@b.example")).is_some_and(|bob| bob.sees())
    };
    assert_eq!(pair.b.mirrors.look(&key(), sees), Some(true));
}

#[tokio::test]
async fn who_is_gone_before_the_store_says_no_leaves_nothing_behind() {
    let mut pair = deserted(true).await;
    turns(|| pair.b.mirrors.look(&key(), |_| ()).is_none()).await;
    pair.carry().await;
    assert_eq!(pair.asked, 0);
    assert!(!pair.b.mirrors.wanted(&domain("b.example"), &domain("a.example")));
}
