//! E12: what the owner of a log takes away is gone for every reader, gives back what it took, and stays
//! gone.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use impp_storage::*;
use kit::*;
use rusqlite::Connection;

/// Both back ends, new.
fn stores(dir: &Path) -> [Arc<dyn Store>; 2] {
    [memory(), Arc::new(open(dir))]
}

/// A message to alice, as much as she takes, with a copy for bob.
fn message(n: u64) -> Unit {
    let with_body = |owner| Append { with_body: true, ..appending(&owner, "") };
    let ops = vec![
        Op::Append(Append { limit: Some(Limit { items: 3, bytes: 100 }), ..with_body(alice()) }),
        Op::Append(Append { counted: false, ..with_body(bob()) }),
    ];
    let body = Some(Bytes::from(format!("body {n} in about thirty bytes")));
    Unit { dedup: Some(dedup(n, n, 1)), body, ..unit(ops) }
}

fn is_mark(item: &Item) -> bool {
    (item.kind, item.head.len(), item.body.is_none(), item.time) == (MARK, 0, true, at(1000))
}

/// The mark has the item's place and time; what stands around it, and the copy of somebody else, is as
/// it was. A second time there is nothing to take away.
#[tokio::test]
async fn e12_a_mark_stands_where_an_item_was() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        let mut seqs = Vec::new();
        for n in 0..3 {
            seqs.push(commit(&*store, message(n)).await[0]);
        }
        let before = page(&*store, &alice(), 0).await;
        assert_eq!(submit(&*store, vec![erase(&alice(), seqs[1])]).await, done());
        let after = page(&*store, &alice(), 0).await;
        assert_eq!((after.items.len(), after.oldest), (3, before.oldest));
        assert_eq!((&after.items[0], &after.items[2]), (&before.items[0], &before.items[2]));
        assert!(is_mark(&after.items[1]) && after.items[1].seq == seqs[1]);
        assert_eq!(page(&*store, &alice(), seqs[0]).await.items, after.items[1..]);
        let copies = page(&*store, &bob(), 0).await.items;
        assert!(copies.iter().all(|copy| copy.body.is_some()));
        // One that is gone, one of somebody else, one that never was.
        for seq in [seqs[1], copies[0].seq, seqs[2] + 9, 0] {
            let absent = Outcome::Rejected(Rejection::Absent { op: 1 });
            let ops = vec![append(&alice(), "told"), erase(&alice(), seq)];
            assert_eq!(submit(&*store, ops).await, absent, "{seq}");
        }
        assert_eq!(page(&*store, &alice(), 0).await, after);
    }
}

fn done() -> Outcome {
    Outcome::Committed { seqs: vec![], versions: vec![] }
}

/// What an item took of the quota is free again, whether it waits for a device or was taken by one;
/// and its place can be acknowledged as before.
#[tokio::test]
async fn e12_what_is_taken_away_counts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        let mut seqs = Vec::new();
        for n in 0..3 {
            seqs.push(commit(&*store, message(n)).await[0]);
        }
        let full = Outcome::Rejected(Rejection::Full { op: 0 });
        assert_eq!(store.submit(message(3)).await, Ok(full.clone()));
        submit(&*store, vec![erase(&alice(), seqs[1])]).await;
        assert_eq!(state(&*store, &alice()).await.unacked_items, 2);
        seqs.push(commit(&*store, message(3)).await[0]);
        assert_eq!(store.submit(message(4)).await, Ok(full));
        let each = state(&*store, &alice()).await.unacked_bytes / 3;
        submit(&*store, vec![custody(&alice(), seqs[1])]).await;
        let state = state(&*store, &alice()).await;
        assert_eq!((state.unacked_items, state.unacked_bytes), (2, 2 * each));
        // One in custody: the others fit what may be kept, and the marks go with age as all do.
        submit(&*store, vec![erase(&alice(), seqs[0]), trim(&alice(), 1001)]).await;
        assert_eq!(page(&*store, &alice(), 0).await.items.len(), 3, "a unit's own marks stay");
        submit(&*store, vec![trim(&alice(), 1001)]).await;
        let held: Vec<u64> =
            page(&*store, &alice(), 0).await.items.iter().map(|item| item.seq).collect();
        assert_eq!(held, seqs[2..]);
    }
}

/// Where items had to go already no mark is left: readers know that something is missing there, and
/// nobody can fill a log with marks.
#[tokio::test]
async fn no_mark_is_left_where_items_had_to_go() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        let first = commit(&*store, unit(vec![append(&alice(), "in")])).await[0];
        commit(&*store, unit(vec![copy(&alice(), "out"), keep(&alice(), 0)])).await;
        submit(&*store, vec![keep(&alice(), 0)]).await;
        let before = state(&*store, &alice()).await;
        assert!(before.oldest > first, "{before:?}");
        submit(&*store, vec![erase(&alice(), first)]).await;
        let after = page(&*store, &alice(), 0).await;
        assert_eq!((after.items, after.oldest), (vec![], before.oldest));
        assert_eq!(state(&*store, &alice()).await.unacked_items, 0);
        // In front of it marks go as all else that may be lost.
        let next = commit(&*store, unit(vec![append(&alice(), "next")])).await[0];
        submit(&*store, vec![erase(&alice(), next)]).await;
        assert!(is_mark(&page(&*store, &alice(), 0).await.items[0]));
        submit(&*store, vec![keep(&alice(), 0)]).await;
        assert_eq!(page(&*store, &alice(), 0).await.items, []);
    }
}

/// The octets are no row's any more when the last who had them has taken them away; a repeat of the
/// message is told as one, and a restart brings nothing back.
#[tokio::test]
async fn e12_bodies_go_with_the_last_who_has_them_and_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let seqs = commit(&store, message(0)).await;
    commit(&store, message(1)).await;
    submit(&store, vec![erase(&alice(), seqs[0])]).await;
    assert_eq!(page(&store, &bob(), 0).await.items[0].body, message(0).body);
    submit(&store, vec![erase(&bob(), seqs[1])]).await;
    assert_eq!(store.submit(message(0)).await, Ok(Outcome::Duplicate { seqs: seqs.clone() }));
    drop(store);
    let connection = Connection::open(dir.path().join("store.sqlite")).unwrap();
    let bodies = "SELECT count(*), max(data) FROM body";
    let (count, body): (i64, Vec<u8>) =
        connection.query_row(bodies, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((count, Some(Bytes::from(body))), (1, message(1).body));
    drop(connection);
    let store = open(dir.path());
    for (owner, seq) in [(alice(), seqs[0]), (bob(), seqs[1])] {
        let first = page(&store, &owner, 0).await.items.remove(0);
        assert!(is_mark(&first) && first.seq == seq);
    }
    assert_eq!(store.submit(message(0)).await, Ok(Outcome::Duplicate { seqs }));
}

/// G5: of an item that cannot be read nobody is told that it is gone; a mark that was changed shows
/// nothing of what was there.
#[tokio::test]
async fn g5_e12_damage_brings_nothing_back_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (first, second) =
        (commit(&store, message(0)).await[0], commit(&store, message(1)).await[0]);
    submit(&store, vec![erase(&alice(), first)]).await;
    drop(store);
    let connection = Connection::open(dir.path().join("store.sqlite")).unwrap();
    for seq in [first, second] {
        let sql = "UPDATE item SET kind = 1, body = 2 WHERE seq = ?1";
        assert_eq!(connection.execute(sql, [seq.cast_signed()]).unwrap(), 1);
    }
    drop(connection);
    let store = open(dir.path());
    let read = page(&store, &alice(), 0).await;
    assert_eq!(read.items, []);
    assert_eq!(read.damaged.iter().map(|damaged| damaged.seq).collect::<Vec<_>>(), [first, second]);
    let refused = store.submit(unit(vec![erase(&alice(), second)])).await;
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
}
