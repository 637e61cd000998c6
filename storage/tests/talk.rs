//! The index of conversations: what is read with it is what is read without, and what goes from a log goes
//! from it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::fs;
use std::path::Path;
use std::time::Duration;

use impp_protocol::Address;
use impp_storage::*;
use kit::*;
use rusqlite::Connection;

fn look(dir: &Path) -> Connection {
    Connection::open(dir.join("store.sqlite")).unwrap()
}

fn number(dir: &Path, sql: &str) -> i64 {
    look(dir).query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Waits until all items but fewer than these are in the index.
async fn wait_until_listed(dir: &Path, but: i64) {
    let connection = look(dir);
    let behind = || -> i64 {
        let sql = "SELECT (SELECT seq FROM meta) - ifnull((SELECT upto FROM listed), 0)";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    for _ in 0..6000 {
        if behind() < but {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} items are not in the index", behind());
}

/// Items of alice's, about these.
async fn fill(store: &dyn Store, about: impl Iterator<Item = u8>) -> Vec<u64> {
    let mut seqs = Vec::new();
    let about: Vec<u8> = about.collect();
    for some in about.chunks(200) {
        let ops = some.iter().map(|n| copy(&alice(), &char::from(*n).to_string()));
        seqs.extend(commit(store, unit(ops.collect())).await);
    }
    seqs
}

/// A closed store in which all is in the index: items 1 to 12 of alice's, about three by turns.
async fn made(dir: &Path) {
    let store = open_listing(dir);
    fill(&store, (0..12).map(|n| n % 3 + 1)).await;
    drop(store);
    listed(dir).await;
}

/// A start puts into the index whatever is not in it yet.
async fn listed(dir: &Path) {
    let store = open_listing(dir);
    wait_until_listed(dir, 1).await;
    drop(store);
}

/// With one person, page after page: what is about them, how many items came in all, and what was damaged.
async fn with(store: &dyn Store, whom: Address) -> (Vec<u64>, usize, Vec<u64>) {
    let (mut found, mut came, mut damaged, mut upto) = (Vec::new(), 0, Vec::new(), u64::MAX);
    loop {
        let (owner, with) = (alice(), Some(whom.clone()));
        let query = ReadBack { owner, upto, with, items_max: 7, bytes_max: usize::MAX };
        let page = store.read_back(query).await.unwrap();
        came += page.items.len();
        let seqs = page.items.iter().map(|item| item.seq).chain(page.damaged.iter().map(|d| d.seq));
        upto = seqs.min().map_or(0, |seq| seq - 1);
        damaged.extend(page.damaged.iter().map(|damaged| damaged.seq));
        let theirs = page.items.iter().filter(|item| about(item).as_ref() == Some(&whom));
        found.extend(theirs.map(|item| item.seq));
        if !page.more {
            return (found, came, damaged);
        }
    }
}

/// What is in the index is found without what stands between, and what is not yet in it is found too.
#[tokio::test]
async fn a_conversation_is_read_without_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_listing(dir.path());
    let seqs = fill(&store, (0..2000).map(|n| if n % 100 == 0 { 1 } else { 2 })).await;
    wait_until_listed(dir.path(), 256).await;
    let mut expected: Vec<u64> = seqs.into_iter().step_by(100).collect();
    expected.extend(fill(&store, [1, 2, 1].into_iter()).await.into_iter().step_by(2));
    expected.reverse();
    let (found, came, damaged) = with(&store, whom(1)).await;
    assert_eq!((found, damaged), (expected, vec![]));
    assert!(came < 20 + 256 + 3, "{came} items were read");
    assert_eq!(with(&store, whom(3)).await.0, [0; 0]);
}

/// Whichever way an item goes, it is in no index; and nobody else's goes with it.
#[tokio::test]
async fn what_goes_from_a_log_goes_from_the_index() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    let rows = |sql: &str| number(dir.path(), &format!("SELECT count(*) FROM talk {sql}"));
    assert_eq!(rows(""), 12);
    let store = open_listing(dir.path());
    commit(&store, unit(vec![copy(&bob(), "\u{1}"), copy(&bob(), "\u{2}")])).await;
    drop(store);
    listed(dir.path()).await;
    let store = open_listing(dir.path());
    submit(&store, vec![erase(&alice(), 6)]).await;
    assert_eq!((rows(""), rows("WHERE seq = 6")), (13, 0));
    submit(&store, vec![keep(&alice(), 8)]).await;
    assert_eq!(page(&store, &alice(), 0).await.items.len(), 8);
    assert_eq!((rows(""), rows("WHERE seq < 5")), (9, 0));
    submit(&store, vec![Op::Purge { owner: bob() }]).await;
    assert_eq!(rows(""), 7);
    assert_eq!(with(&store, whom(3)).await.0, [12, 9]);
    drop(store);
    assert_eq!(examine(dir.path(), Some(about)).unwrap().damaged, [""; 0]);
    // A program that knows of no index leaves none that is wrong.
    let store = open(dir.path());
    submit(&store, vec![erase(&alice(), 9)]).await;
    assert_eq!(rows("WHERE seq = 9"), 0);
}

/// G5, G6: what is damaged in it is named, and is in nobody's way.
#[tokio::test]
async fn g5_g6_a_damaged_index_is_named_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    let connection = look(dir.path());
    for sql in ["UPDATE talk SET sum = 1 WHERE seq = 4", "DELETE FROM talk WHERE seq = 7"] {
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    }
    let sql = "UPDATE talk SET other = other + 1 WHERE seq = 8";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    let mut found = examine(dir.path(), Some(about)).unwrap().damaged;
    found.sort();
    let digest = |seq| format!("talk of log 1, item {seq}: it does not fit its digest");
    let missing = |seq| format!("item {seq}: the index of conversations is wrong about it");
    assert_eq!(found, [missing(7), missing(8), digest(4), digest(8)]);
    let store = open_listing(dir.path());
    // What is wrong of it is told, and leads where it leads; then it is made anew.
    let (found, _, damaged) = with(&store, whom(1)).await;
    assert!([vec![10, 4, 1], vec![10, 7, 4, 1]].contains(&found), "{found:?}");
    assert_eq!(damaged, [0; 0]);
    for _ in 0..6000 {
        if number(dir.path(), "SELECT count(*) FROM talk WHERE seq = 7") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(with(&store, whom(1)).await, (vec![10, 7, 4, 1], 4, vec![]));
    assert_eq!(with(&store, whom(3)).await, (vec![12, 9, 6, 3], 4, vec![]));
    drop(store);
    assert_eq!(examine(dir.path(), Some(about)).unwrap().damaged, [""; 0]);
    // Where nobody knows how far it goes, it is made anew.
    assert_eq!(look(dir.path()).execute("UPDATE listed SET upto = 3", []).unwrap(), 1);
    let store = open_listing(dir.path());
    assert_eq!(with(&store, whom(1)).await.0, [10, 7, 4, 1]);
    wait_until_listed(dir.path(), 1).await;
    assert_eq!(with(&store, whom(1)).await, (vec![10, 7, 4, 1], 4, vec![]));
}

/// Makes the first page of a table unreadable.
fn spoil(dir: &Path, table: &str) {
    let page = |sql: &str| u64::try_from(number(dir, sql)).unwrap();
    let root = page(&format!("SELECT rootpage FROM sqlite_schema WHERE name = '{table}'"));
    let size = page("PRAGMA page_size");
    let mut bytes = fs::read(dir.join("store.sqlite")).unwrap();
    let at = usize::try_from((root - 1) * size).unwrap();
    bytes[at..at + 16].fill(0xff);
    fs::write(dir.join("store.sqlite"), bytes).unwrap();
}

/// G5, G6: a page of it that cannot be read stops neither a start, nor what is read, nor what comes.
#[tokio::test]
async fn g5_g6_an_index_that_cannot_be_read_is_in_nobodys_way() {
    for table in ["talk", "listed"] {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path()).await;
        spoil(dir.path(), table);
        let store = open_listing(dir.path());
        assert_eq!(with(&store, whom(1)).await, (vec![10, 7, 4, 1], 12, vec![]), "{table}");
        let came = fill(&store, [1].into_iter()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(with(&store, whom(1)).await.0, [came[0], 10, 7, 4, 1], "{table}");
        assert!(fill(&store, [1].into_iter()).await[0] > came[0]);
        assert_eq!(store.health(), Health::Ok, "{table}");
        assert!(store.stats().damaged > 0, "{table}");
    }
}

/// G6: nor in the way of who looks for damage elsewhere.
#[tokio::test]
async fn g6_an_index_that_cannot_be_read_hides_no_damage_of_items() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    look(dir.path()).execute("UPDATE item SET kind = 7 WHERE seq = 9", []).unwrap();
    spoil(dir.path(), "talk");
    let damaged = examine(dir.path(), Some(about)).unwrap().damaged;
    let is_told = |what: &String| what.starts_with("item 9: it does not fit");
    assert!(damaged.iter().any(is_told), "{damaged:?}");
}

/// G5, G6: nor what goes from a log, whichever way; and what has gone is not missed after a restart.
#[tokio::test]
async fn g5_g6_an_index_that_cannot_be_written_is_in_nobodys_way() {
    for tables in [&["talk"][..], &["talk", "listed"]] {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path()).await;
        tables.iter().for_each(|table| spoil(dir.path(), table));
        let mut store = open_listing(dir.path());
        let ops = vec![erase(&alice(), 6), copy(&bob(), "\u{1}")];
        assert!(matches!(submit(&store, ops).await, Outcome::Committed { .. }));
        submit(&store, vec![keep(&alice(), 8)]).await;
        submit(&store, vec![Op::Purge { owner: bob() }]).await;
        for start in 0..3 {
            if start > 0 {
                drop(store);
                store = open_listing(dir.path());
            }
            assert_eq!(with(&store, whom(1)).await.0, [10, 7], "{tables:?}");
            assert_eq!(with(&store, whom(3)).await, (vec![12, 9], 8, vec![]), "{tables:?}");
            submit(&store, vec![copy(&bob(), "\u{2}")]).await;
            assert_eq!(store.health(), Health::Ok, "{tables:?}");
            // Who lists in the background may come to it last.
            let told = async {
                while store.stats().damaged == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
            let names = store.stats().damaged;
            assert!(names <= 4, "{names}");
        }
    }
}

/// An item that cannot be read when its turn comes keeps nobody else's out of the index.
#[tokio::test]
async fn e9_g6_a_damaged_item_does_not_stop_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, (0..9).map(|n| n % 3 + 1)).await;
    drop(store);
    look(dir.path()).execute("UPDATE item SET kind = 7 WHERE seq = 4", []).unwrap();
    listed(dir.path()).await;
    let store = open_listing(dir.path());
    assert_eq!(with(&store, whom(1)).await.0, [7, 1]);
    assert_eq!(with(&store, whom(2)).await, (vec![8, 5, 2], 3, vec![]));
}

fn bobs(_: &Item) -> Option<Address> {
    Some(bob())
}

/// G14: of the stores of earlier programs nothing is in the index, and all comes in.
#[tokio::test]
async fn g14_the_items_of_an_older_store_come_into_the_index() {
    for version in ["v1", "v2", "v4"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stores").join(version);
        let dir = tempfile::tempdir().unwrap();
        fs::copy(from.join("store/store.sqlite"), dir.path().join("store.sqlite")).unwrap();
        let options = Options { about: Some(bobs), ..small() };
        let store = SqliteStore::open(dir.path(), options).unwrap();
        let mut all = page(&store, &alice(), 0).await.items;
        all.reverse();
        let of = |upto| ReadBack {
            owner: alice(),
            upto,
            with: Some(bob()),
            items_max: 99,
            bytes_max: usize::MAX,
        };
        assert_eq!(store.read_back(of(u64::MAX)).await.unwrap().items, all, "{version}");
        wait_until_listed(dir.path(), 1).await;
        assert_eq!(store.read_back(of(u64::MAX)).await.unwrap().items, all, "{version}");
        drop(store);
        let examined = examine(dir.path(), Some(bobs)).unwrap();
        assert_eq!(examined.damaged, [""; 0], "{version}");
        let rows = number(dir.path(), "SELECT count(*) FROM talk");
        assert_eq!(rows, number(dir.path(), "SELECT count(*) FROM item"), "{version}");
    }
}
