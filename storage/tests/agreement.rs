//! The back ends agree: random units have the same outcomes and leave the same state.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use bytes::Bytes;
use impp_protocol::Address;
use impp_storage::*;
use kit::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Submit(Unit),
    Reopen,
}

fn owners() -> Vec<Address> {
    vec![alice(), bob(), address("carol@b.example")]
}

fn owner() -> impl Strategy<Value = Address> {
    prop::sample::select(owners())
}

fn an_append() -> impl Strategy<Value = Op> {
    let limit = prop::option::weighted(0.5, (1..12u64, 10..200u64));
    let limit = limit.prop_map(|l| l.map(|(items, bytes)| Limit { items, bytes }));
    let fence = prop_oneof![9 => Just(1u64), 1 => 0..4u64];
    let head = prop::collection::vec(any::<u8>(), 0..20);
    (owner(), fence, 0..3u8, head, any::<bool>(), any::<bool>(), limit).prop_map(
        |(owner, fence, kind, head, with_body, counted, limit)| {
            Op::Append(Append { owner, fence, kind, head: head.into(), with_body, counted, limit })
        },
    )
}

fn a_put() -> impl Strategy<Value = Op> {
    let expect = prop_oneof![
        4 => Just(Expect::Any),
        2 => Just(Expect::Absent),
        4 => (1..30u64).prop_map(Expect::Version),
    ];
    let name = prop::sample::select(vec!["", "a", "a/", "a/1", "b"]);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..9));
    (name, expect, value).prop_map(|(name, expect, value)| Op::Put {
        key: key(name),
        expect,
        value: value.map(Bytes::from),
    })
}

fn an_op() -> impl Strategy<Value = Op> {
    let upto = prop_oneof![8 => 0..60u64, 1 => Just(u64::MAX)];
    prop_oneof![
        10 => an_append(),
        5 => a_put(),
        4 => (owner(), upto).prop_map(|(owner, upto)| Op::Custody { owner, upto }),
        3 => (owner(), 0..120u64).prop_map(|(owner, time)| trim(&owner, time)),
        3 => (owner(), 0..12u64, 0..200u64, 0..2u64).prop_map(|(owner, items, bytes, old)| {
            Op::Trim { owner, before: at(old * 50), most: Limit { items, bytes } }
        }),
        3 => (owner(), 1..60u64).prop_map(|(owner, seq)| erase(&owner, seq)),
        2 => (owner(), 1..12u64, 10..200u64).prop_map(|(owner, items, bytes)| {
            Op::Fits { owner, limit: Limit { items, bytes } }
        }),
        1 => owner().prop_map(|owner| Op::Purge { owner }),
        1 => (0..40u64).prop_map(|time| Op::ExpireDedup { before: at(time) }),
    ]
}

fn a_unit() -> impl Strategy<Value = Unit> {
    let named = prop::option::weighted(0.5, (0..60u64, 0..2u64, 0..2u8));
    let named = named.prop_map(|d| d.map(|(time, tail, digest)| dedup(time, tail, digest)));
    let body = prop::collection::vec(any::<u8>(), 0..30).prop_map(|body| Some(Bytes::from(body)));
    let dedup_max = prop::option::weighted(0.7, 1..9u64);
    (named, body, 0..100u64, dedup_max, prop::collection::vec(an_op(), 0..5)).prop_map(
        |(dedup, body, time, dedup_max, ops)| Unit {
            dedup,
            body,
            dedup_max,
            ..Unit::of(at(time), ops)
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![40 => a_unit().prop_map(Step::Submit), 2 => Just(Step::Reopen)]
}

/// Everything that the trait lets one see.
async fn all(store: &dyn Store) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut logs = Vec::new();
    for owner in owners() {
        logs.push((state(store, &owner).await, page(store, &owner, 0).await));
        let query = ReadLog { owner, after: 7, items_max: 3, bytes_max: 40 };
        let owner = query.owner.clone();
        logs.push((state(store, &alice()).await, store.read(query).await.unwrap()));
        let query = ReadBack { owner, upto: 40, with: None, items_max: 4, bytes_max: 60 };
        logs.push((state(store, &alice()).await, store.read_back(query).await.unwrap()));
    }
    let mut talks = Vec::new();
    for owner in owners() {
        for n in 1..4 {
            talks.push(talk(store, &owner, whom(n)).await);
        }
    }
    let (domain, table) = (alice().domain(), RECORDS);
    let range = Scan { domain, table, prefix: vec![], after: None, max: 100 };
    (logs, talks, store.scan(range).await.unwrap())
}

/// What is about somebody, the newest first.
async fn talk(store: &dyn Store, owner: &Address, whom: Address) -> Vec<Item> {
    let (mut found, mut upto) = (Vec::new(), u64::MAX);
    loop {
        let (owner, with) = (owner.clone(), Some(whom.clone()));
        let query = ReadBack { owner, upto, with, items_max: 3, bytes_max: 60 };
        let page = store.read_back(query).await.unwrap();
        upto = page.items.last().map_or(0, |item| item.seq - 1);
        found.extend(page.items.into_iter().filter(|item| about(item).as_ref() == Some(&whom)));
        if !page.more {
            return found;
        }
    }
}

async fn agree(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory();
    let mut disk = open_listing(dir.path());
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Submit(unit) => {
                let forgets = unit.ops.iter().any(|op| matches!(op, Op::ExpireDedup { .. }));
                answers.push((memory.submit(unit.clone()), disk.submit(unit)));
                if forgets {
                    // On a disk what is forgotten counts until it is swept, which is so few in the
                    // same commit.
                    submit(&disk, Vec::new()).await;
                    submit(&*memory, Vec::new()).await;
                }
            }
            Step::Reopen => {
                drop(disk);
                disk = open_listing(dir.path());
            }
        }
    }
    for (expected, got) in answers {
        prop_assert_eq!(got.await, expected.await);
    }
    prop_assert_eq!(all(&disk).await, all(&*memory).await);
    drop(disk);
    prop_assert_eq!(odd_counts(dir.path()), 0);
    prop_assert_eq!(examine(dir.path(), Some(about)).unwrap().damaged, Vec::<String>::new());
    Ok(())
}

/// Counts that are not those of the rows.
fn odd_counts(dir: &std::path::Path) -> i64 {
    let connection = rusqlite::Connection::open(dir.join("store.sqlite")).unwrap();
    let sql = "SELECT
        (SELECT count(*) FROM log LEFT JOIN kept ON kept.log = log.id WHERE log.id != 0
         AND (kept.items, kept.bytes) IS NOT (SELECT count(*), ifnull(sum(length(head)
                + ifnull((SELECT length(data) FROM body WHERE body.id = item.body), 0)), 0)
            FROM item WHERE item.log = log.id AND (counts IS NULL OR seq <= log.custody)))
        + (SELECT count(*) FROM kept WHERE log NOT IN (SELECT id FROM log))
        + (SELECT count(*) FROM sender WHERE known
            IS NOT (SELECT count(*) FROM dedup WHERE dedup.sender = sender.address))
        + (SELECT count(*) FROM dedup WHERE sender NOT IN (SELECT address FROM sender))";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What the property compares is worth something only as far as random units come there.
#[test]
fn random_units_come_to_every_answer() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut runner = TestRunner::deterministic();
    let mut found = std::collections::BTreeMap::<&str, u32>::new();
    for _ in 0..32 {
        let steps = prop::collection::vec(a_step(), 1..120).new_tree(&mut runner).unwrap();
        let store = memory();
        for step in steps.current() {
            let Step::Submit(unit) = step else { continue };
            let name = match runtime.block_on(async { store.submit(unit).await.unwrap() }) {
                Outcome::Committed { .. } => "committed",
                Outcome::Duplicate { .. } => "duplicate",
                Outcome::Rejected(why) => match why {
                    Rejection::Conflict { .. } => "conflict",
                    Rejection::DedupConflict => "another of the same id",
                    Rejection::OutOfWindow => "out of the window",
                    Rejection::DedupFull => "too many ids",
                    Rejection::Full { .. } => "full",
                    Rejection::Beyond { .. } => "beyond",
                    Rejection::Fenced { .. } => "fenced",
                    Rejection::Absent { .. } => "absent",
                },
            };
            *found.entry(name).or_default() += 1;
        }
    }
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(found.values().all(|count| *count >= 5), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn back_ends_agree(steps in prop::collection::vec(a_step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agree(steps))?;
    }
}
