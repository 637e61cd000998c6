//! What is known of ids, and what logs hold of fates, is cleared at the instant at which repeats come:
//! whichever is first, nothing is taken twice.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::sync::Barrier;

use bytes::Bytes;
use impp_storage::*;
use kit::*;

const IDS: u64 = 300;
const TAKEN: u64 = 1;
const NEVER_SENT: u64 = 2;

/// When a message was sent, by its id.
fn sent_at(n: u64) -> u64 {
    (n + 1) * 10
}

/// A message to alice, whose fate is in bob's log.
fn message(n: u64, tail: u64) -> Unit {
    let name = format!("{n} {tail}");
    let ops = vec![append(&alice(), &name), copy(&bob(), &name)];
    // As those of a pair have one lane, and what is cleared has none.
    let lane = n.is_multiple_of(2).then(|| Lane::Account(bob()));
    let body = Some(Bytes::from_static(b"hello"));
    Unit { dedup: Some(dedup(sent_at(n), tail, 7)), body, lane, ..unit(ops) }
}

fn cleared(n: u64) -> Unit {
    unit(vec![Op::ExpireDedup { before: at(sent_at(n)) }])
}

/// How one came that may have been known: taken, or not.
fn is_taken(answer: &Result<Outcome, StoreError>) -> bool {
    match answer {
        Ok(Outcome::Committed { .. }) => true,
        Ok(Outcome::Duplicate { .. } | Outcome::Rejected(Rejection::OutOfWindow)) => false,
        other => panic!("{other:?}"),
    }
}

/// Each of these is there once, and not taken if it comes again; what nobody knows is out of the window.
async fn holds_each_once(store: &dyn Store, mut expected: Vec<String>) {
    let mut found = heads(store, &alice()).await;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for name in &expected {
        let (n, tail) = name.split_once(' ').unwrap();
        let (n, tail) = (n.parse().unwrap(), tail.parse().unwrap());
        let known = store.accepted(dedup(sent_at(n), tail, 7)).await.unwrap();
        let again = store.submit(message(n, tail)).await;
        match known {
            // Below the floor it may be there still.
            Some(_) => assert!(!is_taken(&again), "{name}"),
            None => assert_eq!(again, Ok(Outcome::Rejected(Rejection::OutOfWindow)), "{name}"),
        }
    }
    assert_eq!(heads(store, &alice()).await.len(), expected.len());
}

async fn one_behind_the_other(store: &dyn Store) {
    let mut answers = Vec::new();
    for n in 0..IDS {
        // Between each two something of the other kind: nothing is waited for.
        let first = store.submit(message(n, TAKEN));
        let repeat = store.submit(message(n, TAKEN));
        let clear = store.submit(cleared(n));
        let again = store.submit(message(n, TAKEN));
        let fates = store.submit(unit(vec![keep(&bob(), 3)]));
        let behind = store.submit(message(n.saturating_sub(1), TAKEN));
        let late = store.submit(message(n.saturating_sub(1), NEVER_SENT));
        answers.push((n, first, [repeat, again, behind], late, [clear, fates]));
    }
    let mut expected = Vec::new();
    for (n, first, repeats, late, others) in answers {
        if is_taken(&first.await) {
            expected.push(format!("{n} {TAKEN}"));
        }
        for repeat in repeats {
            assert!(!is_taken(&repeat.await), "{n} is taken twice");
        }
        if is_taken(&late.await) {
            expected.push(format!("{} {NEVER_SENT}", n.saturating_sub(1)));
        }
        for other in others {
            assert!(matches!(other.await, Ok(Outcome::Committed { .. })));
        }
    }
    assert!(expected.len() >= IDS as usize);
    assert!(heads(store, &bob()).await.len() <= 6, "fates were cleared");
    holds_each_once(store, expected).await;
}

async fn at_the_same_instant(store: &dyn Store) {
    let mut expected = Vec::new();
    for n in 0..IDS {
        assert!(is_taken(&store.submit(message(n, TAKEN)).await));
        expected.push(format!("{n} {TAKEN}"));
    }
    let start = Barrier::new(3);
    let ask = |asked: &dyn Fn(u64) -> Unit| {
        start.wait();
        (0..IDS).map(|n| store.submit(asked(n))).collect::<Vec<_>>()
    };
    let (repeats, late, clears) = std::thread::scope(|scope| {
        let repeats = scope.spawn(|| ask(&|n| message(n, TAKEN)));
        let late = scope.spawn(|| ask(&|n| message(n, NEVER_SENT)));
        let clears = scope.spawn(|| {
            ask(&|n| match n % 2 {
                0 => cleared(n),
                _ => unit(vec![keep(&bob(), IDS - n)]),
            })
        });
        (repeats.join().unwrap(), late.join().unwrap(), clears.join().unwrap())
    });
    for repeat in repeats {
        assert!(!is_taken(&repeat.await), "a repeat is taken");
    }
    for (n, late) in late.into_iter().enumerate() {
        if is_taken(&late.await) {
            expected.push(format!("{n} {NEVER_SENT}"));
        }
    }
    for clear in clears {
        assert!(matches!(clear.await, Ok(Outcome::Committed { .. })));
    }
    holds_each_once(store, expected).await;
}

#[tokio::test]
async fn in_memory_a_repeat_behind_and_before_a_clearing_is_not_taken() {
    one_behind_the_other(&*memory()).await;
}

#[tokio::test]
async fn on_disk_a_repeat_behind_and_before_a_clearing_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    one_behind_the_other(&open(dir.path())).await;
}

#[tokio::test]
async fn in_memory_a_repeat_at_the_instant_of_a_clearing_is_not_taken() {
    at_the_same_instant(&*memory()).await;
}

#[tokio::test]
async fn on_disk_a_repeat_at_the_instant_of_a_clearing_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    at_the_same_instant(&store).await;
    // Nor after what was cleared is swept, and all is read anew.
    drop(store);
    let store = open(dir.path());
    for n in 0..IDS {
        assert!(!is_taken(&store.submit(message(n, TAKEN)).await), "{n}");
    }
}

/// What is acknowledged is kept for a while, each log by itself: however much there is of it in one, it
/// pushes nothing out of another.
async fn each_log_loses_its_own(store: &dyn Store) {
    for n in 0..20 {
        submit(store, vec![append(&alice(), &n.to_string())]).await;
        submit(store, vec![append(&bob(), &n.to_string()), copy(&bob(), "copy")]).await;
    }
    for owner in [alice(), bob()] {
        let custody = custody_of_all(store, &owner).await;
        submit(store, vec![custody]).await;
    }
    let before = (state(store, &alice()).await, page(store, &alice(), 0).await);
    for n in 20..60 {
        submit(store, vec![append(&bob(), &n.to_string()), keep(&bob(), 10)]).await;
        let custody = custody_of_all(store, &bob()).await;
        submit(store, vec![custody, keep(&bob(), 10)]).await;
    }
    assert_eq!(heads(store, &bob()).await.len(), 10);
    assert_eq!((state(store, &alice()).await, page(store, &alice(), 0).await), before);
}

#[tokio::test]
async fn in_memory_what_is_acknowledged_pushes_nothing_out_of_another_log() {
    each_log_loses_its_own(&*memory()).await;
}

#[tokio::test]
async fn on_disk_what_is_acknowledged_pushes_nothing_out_of_another_log() {
    let dir = tempfile::tempdir().unwrap();
    each_log_loses_its_own(&open(dir.path())).await;
}
