//! What the writer knows after a commit that failed: no more than before it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};

use super::*;
use crate::pending::Pending;
use crate::reserve::Payer;
use crate::sqlite::jobs::Waiting;
use crate::sqlite::{rows, schema, witness};
use crate::unit::{Append, Dedup, Op, Unit};
use crate::{RESERVE_BYTES, Tails};

/// A writer whose commits fail from when this is set.
fn writer(dir: &Path) -> (Writer, Arc<AtomicBool>) {
    let home = Home::take(dir).unwrap();
    let room = Room::open(dir, RESERVE_BYTES / 256).unwrap();
    let mut connection = schema::open(&home, false).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    connection.commit_hook(Some(move || failing.load(Ordering::SeqCst))).unwrap();
    let mut meta = rows::meta(&connection).unwrap();
    let (witness, _) = witness::behold(&home, &connection, &mut meta).unwrap();
    let shared = Arc::new(Shared::new(meta.summed, None));
    let readers = Readers::start(&home, 1, &shared).unwrap();
    let held = Held { home, connection, witness, room };
    (Writer::open(held, meta, readers, shared).unwrap(), fails)
}

fn alice() -> Address {
    Address::parse("alice@a.example").unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn unit(ops: Vec<Op>) -> Unit {
    Unit::of(at(9), ops)
}

fn append() -> Unit {
    unit(vec![appends(false)])
}

fn appends(with_body: bool) -> Op {
    let (owner, head) = (alice(), Bytes::from_static(b"x"));
    Op::Append(Append { owner, fence: 0, kind: 1, head, with_body, counted: true, limit: None })
}

/// Has these done as one group; whether all of them were.
async fn are_done(writer: &mut Writer, units: Vec<Unit>) -> bool {
    let (mut group, mut answers) = (Vec::new(), Vec::new());
    for unit in units {
        let (promise, pending) = Pending::promise();
        group.push(Waiting { unit, bytes: 0, promise });
        answers.push(pending);
    }
    writer.settle(group);
    let mut done = true;
    for answer in answers {
        done &= answer.await.is_ok();
    }
    done
}

/// What a commit has swept, and how far, it has swept only if it is done: else the rest would stay, or
/// be taken for gone.
#[tokio::test]
async fn what_a_failed_commit_has_swept_is_swept_still() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, fails) = writer(dir.path());
    let message = |n: u64| {
        let id = ((1 << 80) | u128::from(n)).to_be_bytes();
        let dedup = Some(Dedup { id, from: alice(), to: alice(), digest: [1; 32] });
        Unit { dedup, ..unit(vec![]) }
    };
    // More than a slice, and less than two.
    assert!(are_done(&mut writer, (0..1500).map(message).collect()).await);
    assert!(are_done(&mut writer, vec![unit(vec![Op::ExpireDedup { before: at(2) }])]).await);
    assert!(writer.sweeping, "there is more to sweep");
    let before = writer.meta.counters;
    fails.store(true, Ordering::SeqCst);
    assert!(!are_done(&mut writer, vec![append()]).await);
    assert!(writer.sweeping, "nothing of it was swept");
    assert_eq!(writer.meta.counters, before);
}

/// Of a commit that may be there nobody has told the tails: they know nothing any more.
#[tokio::test]
async fn after_a_commit_of_which_nothing_is_known_logs_are_read_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, fails) = writer(dir.path());
    let tails = Arc::new(Tails::default());
    writer.shared.set_observer(tails.clone());
    assert!(are_done(&mut writer, vec![append(), append()]).await);
    assert!(tails.bytes() > 0);
    fails.store(true, Ordering::SeqCst);
    assert!(!are_done(&mut writer, vec![append()]).await);
    assert_eq!(tails.bytes(), 0);
}

/// Where a group is done one by one, what one of its units has made of logs is told though the next one
/// fails.
#[tokio::test]
async fn what_is_done_of_a_group_is_told_though_the_rest_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = writer(dir.path());
    let tails = Arc::new(Tails::default());
    writer.shared.set_observer(tails.clone());
    let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let pages = writer.connection.pragma_query_value(None, "page_count", count).unwrap();
    let most = format!("PRAGMA max_page_count = {}", pages + 8);
    writer.connection.query_row(&most, [], count).unwrap();
    let small = Unit { payer: Payer::Operator, ..append() };
    let body = Some(vec![7; 256 * 1024].into());
    let large = Unit { body, ops: vec![appends(true)], ..small.clone() };
    assert!(!are_done(&mut writer, vec![small, large]).await);
    assert_eq!(writer.meta.counters.seq, 1, "the small one is done");
    assert!(tails.bytes() > 0, "nobody was told");
}
