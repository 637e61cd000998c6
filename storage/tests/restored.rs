//! G15: a store that was put back from a copy, or moved, knows it; one that was not never does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::fs;
use std::path::Path;

use impp_storage::*;
use kit::*;

/// Copies the files of a stopped store over those of another, in place.
fn copy(from: &Path, to: &Path, names: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for name in names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

const BOTH: [&str; 2] = ["store.sqlite", "witness"];

/// Takes an item and a record; answers the seq and the version.
async fn write(store: &SqliteStore) -> (u64, u64) {
    let ops = vec![append(&alice(), "x"), put("key", Expect::Any, "value")];
    let Outcome::Committed { seqs, versions } = submit(store, ops).await else { panic!() };
    (seqs[0], versions[0])
}

/// A store that was written to, stopped and copied, and written to and stopped again.
struct Copied {
    dir: tempfile::TempDir,
    copy: tempfile::TempDir,
    incarnation: [u8; 16],
    /// What was given last.
    last: (u64, u64),
}

async fn copied() -> Copied {
    let [dir, copied] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = open(dir.path());
    assert_eq!(store.restored(), None);
    let incarnation = store.incarnation();
    write(&store).await;
    drop(store);
    copy(dir.path(), copied.path(), &BOTH);
    let store = open(dir.path());
    assert_eq!((store.restored(), store.incarnation()), (None, incarnation));
    write(&store).await;
    let last = write(&store).await;
    drop(store);
    Copied { dir, copy: copied, incarnation, last }
}

impl Copied {
    /// What is here now is a copy: it is another store, gives no number twice, and stays that store.
    async fn is_restored(&self, dir: &Path, why: Restored) {
        let store = open(dir);
        assert_eq!(store.restored(), Some(why));
        let incarnation = store.incarnation();
        assert_ne!(incarnation, self.incarnation);
        let next = write(&store).await;
        assert!(next.0 > self.last.0 && next.1 > self.last.1, "{next:?} {:?}", self.last);
        drop(store);
        let store = open(dir);
        assert_eq!((store.restored(), store.incarnation()), (None, incarnation));
    }
}

#[tokio::test]
async fn g15_an_older_database_put_back_is_told() {
    let store = copied().await;
    copy(store.copy.path(), store.dir.path(), &["store.sqlite"]);
    store.is_restored(store.dir.path(), Restored::OtherTime).await;
}

#[tokio::test]
async fn g15_both_files_put_back_are_told() {
    let store = copied().await;
    copy(store.copy.path(), store.dir.path(), &BOTH);
    store.is_restored(store.dir.path(), Restored::Changed).await;
}

#[tokio::test]
async fn g15_a_database_in_an_empty_folder_is_told() {
    let store = copied().await;
    let empty = tempfile::tempdir().unwrap();
    copy(store.copy.path(), empty.path(), &["store.sqlite"]);
    store.is_restored(empty.path(), Restored::Alone).await;
}

#[tokio::test]
async fn g15_a_store_copied_to_another_place_is_told() {
    let store = copied().await;
    store.is_restored(store.copy.path(), Restored::Moved).await;
}

/// A witness that is damaged tells nothing, and that is no reason to trust the database.
#[tokio::test]
async fn g15_a_witness_that_cannot_be_read_is_told() {
    let store = copied().await;
    fs::write(store.dir.path().join("witness"), "starts 1").unwrap();
    store.is_restored(store.dir.path(), Restored::Alone).await;
}

/// What the database itself holds of it is damaged: nobody can tell, so it counts as a copy, and opens.
#[tokio::test]
async fn g6_g15_a_damaged_note_in_the_database_counts_as_a_copy() {
    for damage in ["starts = 77", "put_away = 1", "sum = NULL"] {
        let store = copied().await;
        let file = rusqlite::Connection::open(store.dir.path().join("store.sqlite")).unwrap();
        file.execute(&format!("UPDATE place SET {damage}"), []).unwrap();
        drop(file);
        store.is_restored(store.dir.path(), Restored::Damaged).await;
    }
}

/// G14: a store of a program that knew of no witness is no copy at its first start, nor at the next;
/// put back later, it is one.
#[test]
fn g14_g15_a_store_of_an_earlier_format_is_no_copy() {
    for version in ["v1", "v2"] {
        let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stores");
        opens_as_it_is(&stores.join(version).join("store"));
    }
}

fn opens_as_it_is(from: &Path) {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path(), &["store.sqlite"]);
    let store = open(dir.path());
    assert_eq!(store.restored(), None);
    let incarnation = store.incarnation();
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.restored(), store.incarnation()), (None, incarnation));
    drop(store);
    copy(from, dir.path(), &["store.sqlite"]);
    assert_eq!(open(dir.path()).restored(), Some(Restored::OtherTime));
}

const LEFT: [&str; 3] = ["store.sqlite", "store.sqlite-wal", "witness"];

/// What a kill in this moment leaves of an open store.
fn killed(dir: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    copy(dir, left.path(), &LEFT);
    left
}

/// A database that is older than the log beside it is not put together with it, whatever of the log
/// is still there. One that the log goes on from is whole again.
#[tokio::test]
async fn g15_an_older_database_beneath_a_newer_log_is_told() {
    let [dir, first, second] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for copied in [&first, &second] {
        write(&open(dir.path())).await;
        copy(dir.path(), copied.path(), &["store.sqlite"]);
    }
    let store = open(dir.path());
    let mut last = write(&store).await;
    let all_in_log = killed(dir.path());
    let other = rusqlite::Connection::open(dir.path().join("store.sqlite")).unwrap();
    other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    last = last.max(write(&store).await);
    let begun_anew = killed(dir.path());
    drop((store, other));

    for (left, older, is_told) in [
        (&all_in_log, None, false),
        (&all_in_log, Some(&first), true),
        (&all_in_log, Some(&second), false),
        (&begun_anew, None, false),
        (&begun_anew, Some(&first), true),
        (&begun_anew, Some(&second), true),
    ] {
        copy(left.path(), dir.path(), &LEFT);
        if let Some(older) = older {
            copy(older.path(), dir.path(), &["store.sqlite"]);
        }
        if is_told {
            for opened in
                [SqliteStore::open(dir.path(), small()).map(|_| ()), glance(dir.path()).map(|_| ())]
            {
                let Err(StoreError::Damaged { what }) = opened else { panic!("{opened:?}") };
                assert!(what.contains("the database beneath it is an older one"), "{what}");
            }
            // Without the log it is a copy as any other.
            fs::remove_file(dir.path().join("store.sqlite-wal")).unwrap();
            assert_eq!(open(dir.path()).restored(), Some(Restored::OtherTime));
        } else {
            let store = open(dir.path());
            assert_eq!(store.restored(), None);
            let next = write(&store).await;
            let known = if left.path() == begun_anew.path() { last.0 } else { last.0 - 1 };
            assert_eq!(next.0, known + 1);
        }
    }
}

/// A copy is opened, and what opened it is killed at once: what is left is no other one's log.
#[tokio::test]
async fn g2_g15_a_copy_whose_first_start_is_killed_opens() {
    let store = copied().await;
    let dir = store.dir.path();
    for _ in 0..5 {
        drop(open(dir));
    }
    copy(store.copy.path(), dir, &["store.sqlite"]);
    let opened = open(dir);
    assert_eq!(opened.restored(), Some(Restored::OtherTime));
    let (incarnation, left) = (opened.incarnation(), killed(dir));
    drop(opened);
    copy(left.path(), dir, &LEFT);
    let opened = open(dir);
    assert_eq!((opened.restored(), opened.incarnation()), (None, incarnation));
}

/// A record of a copy goes on beyond what the original may have given it since.
#[tokio::test]
async fn g15_d6_no_version_of_a_record_is_given_twice() {
    let [dir, copied] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let known = versions(&store, vec![put("k", Expect::Absent, "1")]).await[0];
    drop(store);
    copy(dir.path(), copied.path(), &BOTH);
    let (store, mut last) = (open(dir.path()), known);
    for _ in 0..5 {
        last = versions(&store, vec![put("k", Expect::Version(last), "lost")]).await[0];
    }
    drop(store);
    copy(copied.path(), dir.path(), &["store.sqlite"]);
    let store = open(dir.path());
    assert_eq!(store.restored(), Some(Restored::OtherTime));
    let next = versions(&store, vec![put("k", Expect::Version(known), "2")]).await[0];
    assert!(next > last, "{next} after {last}");
    let after = versions(&store, vec![put("k", Expect::Version(next), "3")]).await[0];
    assert_eq!(after, next + 1);
}
