//! Tails agree with the stores that they are the tails of, and spare them the reads of those who
//! follow.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::sync::Arc;

use bytes::Bytes;
use impp_protocol::Address;
use impp_storage::*;
use kit::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Submit(Box<Unit>),
    /// Of whose log, behind which of its items, counted from the newest; and how much at most.
    Read(usize, usize, usize, usize),
    Reopen,
}

fn owners() -> [Address; 3] {
    [alice(), bob(), address("carol@b.example")]
}

fn an_op() -> impl Strategy<Value = Op> {
    let owner = prop::sample::select(owners().to_vec());
    let head = prop::collection::vec(any::<u8>(), 0..40);
    let item = (owner.clone(), head, any::<[bool; 2]>()).prop_map(|(owner, head, has)| {
        let [with_body, counted] = has;
        Op::Append(Append { with_body, counted, head: head.into(), ..appending(&owner, "") })
    });
    prop_oneof![
        12 => item,
        2 => (owner.clone(), 0..200u64).prop_map(|(owner, upto)| custody(&owner, upto)),
        1 => (owner.clone(), 0..100u64).prop_map(|(owner, time)| trim(&owner, time)),
        4 => (owner.clone(), 0..8u64).prop_map(|(owner, items)| keep(&owner, items)),
        2 => (owner.clone(), 1..200u64).prop_map(|(owner, seq)| erase(&owner, seq)),
        1 => owner.prop_map(|owner| Op::Purge { owner }),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    let id = prop::option::weighted(0.3, (0..8u64).prop_map(|tail| dedup(1, tail, 0)));
    let unit = (id, 0..100u64, prop::collection::vec(an_op(), 1..4)).prop_map(|(id, time, ops)| {
        let body = Some(Bytes::from(vec![7; 30]));
        Unit { dedup: id, body, ..Unit::of(at(time), ops) }
    });
    let read = (0..3usize, 0..6usize, 1..5usize, 1..200usize);
    prop_oneof![
        10 => unit.prop_map(|unit| Step::Submit(Box::new(unit))),
        20 => read.prop_map(|(owner, back, items, bytes)| Step::Read(owner, back, items, bytes)),
        1 => Just(Step::Reopen),
    ]
}

/// Room for some items, and few enough that many are forgotten.
fn small_tails() -> Arc<Tails> {
    Arc::new(Tails::bounded(1200, 2400))
}

async fn agree(steps: Vec<Step>, on_disk: bool) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let start = || -> (Arc<dyn Store>, Arc<Tails>) {
        let store = if on_disk { Arc::new(open(dir.path())) as Arc<dyn Store> } else { memory() };
        let tails = small_tails();
        store.observe(tails.clone());
        (store, tails)
    };
    let (mut store, mut tails) = start();
    for step in steps {
        match step {
            Step::Submit(unit) => drop(store.submit(*unit).await.unwrap()),
            Step::Read(owner, back, items_max, bytes_max) => {
                let owner = owners()[owner].clone();
                let all = page(&*store, &owner, 0).await.items;
                let behind = all.iter().rev().nth(back).map_or(0, |item| item.seq);
                let query = ReadLog { owner, after: behind, items_max, bytes_max };
                let expected = store.read(query.clone()).await.unwrap();
                let got = tails.read(&*store, query).await.unwrap();
                prop_assert_eq!(got, expected);
            }
            Step::Reopen if on_disk => {
                drop(store);
                (store, tails) = start();
            }
            Step::Reopen => {}
        }
        prop_assert!(tails.bytes() <= 2400);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever was written, trimmed, purged and forgotten, and over restarts.
    #[test]
    fn tails_answer_as_the_store_does(
        steps in prop::collection::vec(a_step(), 1..150),
        on_disk in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agree(steps, on_disk))?;
    }
}

/// A store that is closed can be asked nothing any more: what comes is from memory.
#[tokio::test]
async fn who_is_at_the_end_of_a_log_is_served_without_the_store() {
    let dir = tempfile::tempdir().unwrap();
    for store in [memory(), Arc::new(open(dir.path()))] {
        let tails = Arc::<Tails>::default();
        store.observe(tails.clone());
        let query = |after| ReadLog { owner: alice(), after, items_max: 10, bytes_max: usize::MAX };
        let first = commit(&*store, unit(vec![append(&alice(), "one")])).await[0];
        let page = tails.read(&*store, query(0)).await.unwrap();
        assert_eq!(page.items.len(), 1);
        commit(&*store, unit(vec![append(&alice(), "two"), append(&bob(), "his")])).await;
        store.close().await.unwrap();
        let page = tails.read(&*store, query(first)).await.unwrap();
        assert_eq!((page.items[0].head.as_ref(), page.oldest), (&b"two"[..], first));
        let other = ReadLog { owner: bob(), ..query(0) };
        assert_eq!(tails.read(&*store, other).await, Err(StoreError::Stopped));
    }
}

/// A log at its quota loses an item with each that comes: who follows is served from memory all the same, and told what is oldest as the store says it.
#[tokio::test]
async fn a_log_at_its_quota_is_told_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    for store in [memory(), Arc::new(open(dir.path()))] {
        // Room for four items, of a quota of six and one that may not go.
        let tails = Arc::new(Tails::bounded(4 * 260, 1 << 20));
        store.observe(tails.clone());
        let query = |after| ReadLog { owner: alice(), after, items_max: 10, bytes_max: usize::MAX };
        let first = commit(&*store, unit(vec![append(&alice(), "not to go")])).await[0];
        let mut last = first;
        let mut asked = 0;
        for n in 0..30 {
            let come = vec![copy(&alice(), &n.to_string()), keep(&alice(), 6)];
            let come = commit(&*store, unit(come)).await[0];
            let page = tails.read(&*store, query(last)).await.unwrap();
            assert_eq!(page, store.read(query(last)).await.unwrap());
            assert_eq!(page.items.len(), 1);
            last = come;
            if n == 10 {
                asked = tails.asked();
            }
        }
        assert_eq!(tails.asked(), asked, "the store is asked no more");
        // All that may be lost goes: the one that stays is the store's to tell.
        commit(&*store, unit(vec![keep(&alice(), 0)])).await;
        assert_eq!(tails.bytes(), 0);
        let page = tails.read(&*store, query(0)).await.unwrap();
        assert_eq!((page.items.len(), page.oldest), (1, last + 1));
    }
}
