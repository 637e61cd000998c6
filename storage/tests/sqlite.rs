//! What only a store on disk has: reopening, locks, modes, refusal of what is not ours.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use impp_storage::*;
use kit::*;
use rusqlite::Connection;

fn database(dir: &Path) -> PathBuf {
    dir.join("store.sqlite")
}

/// Looks into a closed store.
fn count(dir: &Path, table: &str) -> i64 {
    let connection = Connection::open(database(dir)).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// E1, G15: all that was answered is there after a reopening: items, records, counters, the
/// de-duplication window, the incarnation; and no number is given twice, though all is trimmed.
#[tokio::test]
async fn e1_reopening_keeps_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let incarnation = store.incarnation();
    let send = || Unit {
        dedup: Some(dedup(5000, 1, 1)),
        body: Some(Bytes::from_static(b"body")),
        ..unit(vec![
            Op::Append(Append { with_body: true, ..appending(&alice(), "a") }),
            append(&bob(), "b"),
        ])
    };
    commit(&store, Unit { dedup: Some(dedup(3999, 7, 1)), ..unit(vec![]) }).await;
    let seqs = commit(&store, send()).await;
    let version = versions(&store, vec![put("k", Expect::Any, "v")]).await[0];
    submit(&store, vec![Op::ExpireDedup { before: at(4000) }, custody(&bob(), seqs[1])]).await;
    let before = (page(&store, &alice(), 0).await, state(&store, &bob()).await);
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!((page(&store, &alice(), 0).await, state(&store, &bob()).await), before);
    assert_eq!(store.get(key("k")).await.unwrap().unwrap().version, version);
    assert_eq!(store.submit(send()).await, Ok(Outcome::Duplicate { seqs: seqs.clone() }));
    let old = Unit { dedup: Some(dedup(3999, 1, 1)), ..unit(vec![]) };
    assert_eq!(store.submit(old).await, Ok(Outcome::Rejected(Rejection::OutOfWindow)));
    submit(&store, vec![custody_of_all(&store, &alice()).await, trim(&alice(), 9999)]).await;
    submit(&store, vec![trim(&bob(), 9999), delete("k", Expect::Any)]).await;
    store.close().await.unwrap();
    assert!(!dir.path().join("store.sqlite-wal").exists(), "an orderly end leaves one file");

    let store = open(dir.path());
    assert!(commit(&store, unit(vec![append(&bob(), "later")])).await[0] > seqs[1]);
    assert!(versions(&store, vec![put("k", Expect::Absent, "v")]).await[0] > version + 1);
}

/// G2: what a killed process had written but perhaps not synced is brought onto the disk when the
/// store is opened, before a repeat of it is answered.
#[tokio::test]
async fn g2_what_the_log_holds_is_secured_at_opening() {
    let [dir, killed, bare] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let store = open(dir.path());
    commit(&store, unit(vec![append(&alice(), "x")])).await;
    for name in ["store.sqlite", "store.sqlite-wal"] {
        fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
    }
    let reopened = open(killed.path());
    // A copy without the log: only what is in the database itself.
    fs::copy(database(killed.path()), database(bare.path())).unwrap();
    assert_eq!(heads(&open(bare.path()), &alice()).await, ["x"]);
    assert_eq!(heads(&reopened, &alice()).await, ["x"]);
}

/// A body lies in the database once, and goes with the last item that refers to it.
#[tokio::test]
async fn a_body_is_stored_once_and_goes_with_its_last_item() {
    let dir = tempfile::tempdir().unwrap();
    let with_body = |owner| Op::Append(Append { with_body: true, ..appending(owner, "h") });
    let body = Some(Bytes::from_static(b"hello"));
    let store = open(dir.path());
    let ops = vec![with_body(&alice()), with_body(&bob()), append(&bob(), "none")];
    commit(&store, Unit { body: body.clone(), ..unit(ops) }).await;
    commit(&store, Unit { body, ..unit(vec![append(&bob(), "nobody refers to it")]) }).await;
    drop(store);
    assert_eq!(count(dir.path(), "body"), 1);
    let store = open(dir.path());
    submit(&store, vec![custody_of_all(&store, &alice()).await, trim(&alice(), 9999)]).await;
    assert!(page(&store, &bob(), 0).await.items[0].body.is_some());
    submit(&store, vec![custody_of_all(&store, &bob()).await, trim(&bob(), 9999)]).await;
    drop(store);
    assert_eq!(count(dir.path(), "body"), 0);
}

/// What was purged or expired is soon gone from the disk too, without anybody asking again.
#[tokio::test]
async fn what_cannot_be_seen_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut answers = Vec::new();
    for n in 0..3000 {
        let ops = vec![append(&alice(), "x")];
        answers.push(store.submit(Unit { dedup: Some(dedup(n, n, 1)), ..unit(ops) }));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    submit(&store, vec![Op::Purge { owner: alice() }, Op::ExpireDedup { before: at(2999) }]).await;
    // Reads beside the store, while it works.
    let left = || {
        let connection = Connection::open(database(dir.path())).unwrap();
        let sql = "SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM dedup),
                          (SELECT count(*) FROM purged)";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        connection.query_row(sql, [], row).unwrap()
    };
    for _ in 0..1000 {
        if left() == (0, 1, 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not swept: {:?}", left());
}

/// Many at once share a sync.
#[tokio::test]
async fn units_that_wait_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let answers: Vec<_> = (0..2000u64)
        .map(|n| {
            let ops = vec![append(&address(&format!("u{}@a.example", n % 100)), "x")];
            store.submit(Unit { dedup: Some(dedup(n, n, 1)), ..unit(ops) })
        })
        .collect();
    for answer in answers {
        assert!(matches!(answer.await, Ok(Outcome::Committed { .. })));
    }
    let stats = store.stats();
    assert_eq!(stats.units, 2000);
    assert!(stats.syncs >= 1 && stats.syncs <= stats.units / 8, "{stats:?}");
    // What changes nothing costs no sync.
    let ops = vec![append(&alice(), "x")];
    store.submit(Unit { dedup: Some(dedup(1, 1, 1)), ..unit(ops) }).await.unwrap();
    assert_eq!(store.stats().syncs, stats.syncs);
}

/// G13: a second opener is told who has the store; the end of the first lets it in.
#[tokio::test]
async fn g13_a_second_opener_is_told_the_pid() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = SqliteStore::open(dir.path(), small());
    let locked = StoreError::Locked { dir: dir.path().into(), pid: Some(std::process::id()) };
    assert_eq!(second.err(), Some(locked));
    commit(&store, unit(vec![append(&alice(), "x")])).await;
    store.close().await.unwrap();
    assert_eq!(heads(&open(dir.path()), &alice()).await, ["x"]);
}

/// G14: what is not a store of ours, or of a later version, is refused and stays as it is.
#[test]
fn g14_foreign_and_newer_files_are_left_alone() {
    let refused = |name: &str, write: &dyn Fn(&Path), expected: &dyn Fn(&Path) -> StoreError| {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        write(&path);
        let before = fs::read(&path).unwrap();
        for _ in 0..2 {
            let got = SqliteStore::open(dir.path(), small()).err();
            assert_eq!(got, Some(expected(&path)), "{name}");
            assert!(fs::read(&path).unwrap() == before, "{name}: bytes changed");
        }
    };
    let foreign = |path: &Path| StoreError::Foreign { path: path.into() };
    refused("empty", &|path| fs::write(path, "").unwrap(), &foreign);
    refused("short", &|path| fs::write(path, "SQLite format 3\0").unwrap(), &foreign);
    let noise: Vec<u8> = (0..8192u32).map(|n| (n * n % 251) as u8).collect();
    refused("random", &|path| fs::write(path, &noise).unwrap(), &foreign);
    let another = |path: &Path| {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA user_version = 1; CREATE TABLE item (seq)").unwrap();
    };
    refused("another application's", &another, &foreign);
    let newer = |path: &Path| {
        drop(open(path.parent().unwrap()));
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
    };
    let known = |_: &Path| StoreError::Newer { found: 99, known: 5 };
    refused("newer", &newer, &known);
}

/// G14: also a newer format that only the write-ahead log tells of yet.
#[test]
fn g14_a_newer_format_in_the_log_is_seen() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(dir.path()));
    let connection = Connection::open(database(dir.path())).unwrap();
    connection.pragma_update(None, "user_version", 77).unwrap();
    for name in ["store.sqlite", "store.sqlite-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let before = fs::read(database(copy.path())).unwrap();
    let got = SqliteStore::open(copy.path(), small()).err();
    assert_eq!(got, Some(StoreError::Newer { found: 77, known: 5 }));
    assert!(fs::read(database(copy.path())).unwrap() == before);
    assert!(copy.path().join("store.sqlite-wal").exists());
}

/// G5, G6: damage is said, not served; with `verify` also where nothing would look.
#[tokio::test]
async fn g6_damage_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..50 {
        let ops = (0..100).map(|_| append(&alice(), &"x".repeat(100))).collect();
        commit(&store, unit(ops)).await;
    }
    drop(store);
    let whole = fs::read(database(dir.path())).unwrap();
    let damage = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0xa5);
        fs::write(database(dir.path()), bytes).unwrap();
    };
    let is_damaged = |verify| {
        let options = Options { verify, ..small() };
        matches!(SqliteStore::open(dir.path(), options), Err(StoreError::Damaged { .. }))
    };
    damage(100, 4096);
    assert!(is_damaged(false), "the schema is broken");
    damage(whole.len() / 2 / 4096 * 4096, whole.len() / 2 / 4096 * 4096 + 4096);
    assert!(is_damaged(true), "a page in the middle is broken");
    fs::write(database(dir.path()), &whole[..whole.len() / 2]).unwrap();
    assert!(is_damaged(true), "half of it is missing");
    fs::write(database(dir.path()), &whole).unwrap();
    assert!(!is_damaged(true));
    // A log without its database must not be replayed into a new one.
    fs::remove_file(database(dir.path())).unwrap();
    fs::write(dir.path().join("store.sqlite-wal"), "x").unwrap();
    assert!(is_damaged(false));
    assert!(!database(dir.path()).exists());
}

/// G5: a sector of the log that went astray after its sync, with later transactions behind it, is
/// said: these were answered, and would be gone.
#[tokio::test]
async fn g5_a_damaged_log_is_said() {
    let [dir, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for head in ["a", "b", "c"] {
        commit(&store, unit(vec![append(&alice(), head)])).await;
    }
    fs::copy(database(dir.path()), database(copy.path())).unwrap();
    let log = fs::read(dir.path().join("store.sqlite-wal")).unwrap();
    let places = [
        // In the second frame: behind the header and the commit that opening makes.
        (32 + 4120 + 24 + 1000, "frame 2"),
        // How all the rest is read, how large its pages are, and by what its frames are known.
        (3, "its header"),
        (10, "its header"),
        (17, "its header"),
    ];
    for (at, place) in places {
        let mut damaged = log.clone();
        damaged[at] ^= 1;
        fs::write(copy.path().join("store.sqlite-wal"), &damaged).unwrap();
        let opened = SqliteStore::open(copy.path(), small());
        let Err(StoreError::Damaged { what }) = opened else { panic!("{place}: {opened:?}") };
        assert!(what.contains(&format!("store.sqlite-wal: {place} is damaged")), "{what}");
        let left = fs::read(copy.path().join("store.sqlite-wal")).unwrap();
        assert_eq!(left, damaged, "it is left as it was");
    }
}

/// Nobody else reads the store, whatever the umask and whatever the files were before.
#[tokio::test]
async fn files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/store");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for _ in 0..2 {
        let store = open(&dir);
        commit(&store, unit(vec![append(&alice(), "x")])).await;
        assert_eq!(mode(&dir), 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        let files = ["store.sqlite", "store.sqlite-shm", "store.sqlite-wal"];
        assert_eq!(names, [&["lock", "reserve"], &files[..], &["witness"]].concat());
        drop(store);
        let others = ["lock", "reserve", "witness"].map(|name| dir.join(name));
        for path in [dir.clone(), database(&dir)].into_iter().chain(others) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // A directory that somebody else uses keeps its mode.
    let shared = parent.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(shared.join("other"), "x").unwrap();
    drop(open(&shared));
    assert_eq!(mode(&shared), 0o755);
}

/// A crash while a store was made leaves nothing that stands in the way.
#[tokio::test]
async fn a_half_made_store_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store.sqlite.new"), "half").unwrap();
    fs::write(dir.path().join("reserve"), "half").unwrap();
    let store = open(dir.path());
    commit(&store, unit(vec![append(&alice(), "x")])).await;
    assert!(!dir.path().join("store.sqlite.new").exists());
    assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 64 * 1024);
    assert_eq!(store.health(), Health::Ok);
}

/// G10: what waits is bounded; who comes too late is told at once, and nothing of it is done.
#[tokio::test]
async fn g10_a_full_queue_answers_busy() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Another process holds the database, so the writer waits.
    let holder = Connection::open(database(dir.path())).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = Some(Bytes::from(vec![0; BODY_BYTES_MAX]));
    let answers: Vec<_> = (0..100)
        .map(|_| store.submit(Unit { body: body.clone(), ..unit(vec![append(&alice(), "x")]) }))
        .collect();
    holder.execute_batch("ROLLBACK").unwrap();
    let (mut done, mut busy) = (0, 0);
    for answer in answers {
        match answer.await {
            Ok(_) => done += 1,
            Err(StoreError::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(done > 0 && busy > 0 && done + busy == 100, "{done} done, {busy} busy");
    assert_eq!(page(&store, &alice(), 0).await.items.len(), done);
}
