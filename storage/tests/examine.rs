//! G5, G6: the look at a whole store at rest.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::fs;
use std::path::Path;

use impp_storage::*;
use kit::*;
use rusqlite::Connection;

fn with_body(owner: &impp_protocol::Address, head: &str) -> Op {
    Op::Append(Append { with_body: true, ..appending(owner, head) })
}

/// A closed store with messages, as items 1 to 12, and records.
async fn made(dir: &Path) {
    let store = open(dir);
    for n in 0..6u64 {
        let head = n.to_string();
        let ops = vec![with_body(&alice(), &head), with_body(&bob(), &head)];
        let body = Some(format!("body {n}").into());
        commit(&store, Unit { dedup: Some(dedup(n, n, 1)), body, ..unit(ops) }).await;
    }
    for key in ["k0", "k1", "k2"] {
        submit(&store, vec![put(key, Expect::Any, &format!("value of {key}"))]).await;
    }
}

/// What is found after something was changed behind the store's back.
async fn changed(sql: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    let connection = Connection::open(dir.path().join("store.sqlite")).unwrap();
    for sql in sql {
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
    }
    drop(connection);
    let before = fs::read(dir.path().join("store.sqlite")).unwrap();
    let examined = examine(dir.path(), None).unwrap();
    assert!(fs::read(dir.path().join("store.sqlite")).unwrap() == before, "a look changes nothing");
    let damaged = sql.iter().any(|sql| sql.contains("UPDATE place"));
    assert_eq!(examined.restored, damaged.then_some(Restored::Damaged));
    examined.damaged
}

#[tokio::test]
async fn a_store_that_is_well_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    let examined = examine(dir.path(), None).unwrap();
    let Examined { damaged, bytes, restored } = &examined;
    assert!(damaged.is_empty() && *bytes > 1000 && restored.is_none(), "{examined:?}");
    // Again, and it opens after it.
    assert_eq!(examine(dir.path(), None).unwrap(), examined);
    assert_eq!(open(dir.path()).restored(), None);
}

#[tokio::test]
async fn g5_g6_all_that_is_damaged_is_named() {
    let mut found = changed(&[
        "UPDATE record SET value = x'00' WHERE key = CAST('k1' AS BLOB)",
        "UPDATE log SET custody = 11 WHERE local = 'alice'",
        "UPDATE item SET kind = 9 WHERE seq = 3",
        "UPDATE body SET refs = 9 WHERE id = 5",
        "UPDATE dedup SET seqs = x'' WHERE seqs = x'00000000000000050000000000000006'",
        "DELETE FROM body WHERE id = 7",
        "UPDATE meta SET seq = 77",
        "UPDATE place SET starts = 77",
    ])
    .await;
    let id = u128::from_be_bytes(id(2, 2));
    let mut expected = vec![
        "record 7 of a.example (k1): it does not fit its digest".to_owned(),
        "log of alice@a.example: it does not fit its digest".to_owned(),
        "item 3: it does not fit its digest".to_owned(),
        "body 5: it does not fit its digest".to_owned(),
        format!("de-duplication {id:032x}: it does not fit its digest"),
        "item 7: body 7 is missing".to_owned(),
        "item 8: body 7 is missing".to_owned(),
        "store.sqlite: meta: it does not fit its digest".to_owned(),
        "store.sqlite: place: it does not fit its digest".to_owned(),
    ];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// What no digest sees: a row to which nothing leads any more.
#[tokio::test]
async fn g6_pages_that_do_not_fit_together_are_named() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'record'";
    let path = dir.path().join("store.sqlite");
    let root: u32 = Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    // The page's count of its rows, one less.
    let mut bytes = fs::read(&path).unwrap();
    bytes[(root as usize - 1) * 4096 + 4] -= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = examine(dir.path(), None).unwrap().damaged;
    assert!(!damaged.is_empty());
    assert!(damaged.iter().all(|what| what.starts_with("store.sqlite: ")), "{damaged:?}");
}

/// A store that somebody has open, or none at all, is not looked at, and none is made.
#[tokio::test]
async fn what_cannot_be_looked_at_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    assert!(matches!(examine(&none, None), Err(StoreError::Io { .. })) && !none.exists());
    assert!(matches!(examine(dir.path(), None), Err(StoreError::Io { .. })));
    assert!(!dir.path().join("store.sqlite").exists());
    let store = open(dir.path());
    assert!(matches!(examine(dir.path(), None), Err(StoreError::Locked { .. })));
    drop(store);
    assert_eq!(examine(dir.path(), None).unwrap().damaged, [""; 0]);
}

/// G14: the pages of a store that has no digests yet are looked at, and those of one that has a log.
#[tokio::test]
async fn g14_stores_of_earlier_formats_are_looked_at() {
    for (version, rows) in [("v1", false), ("v2", true)] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stores").join(version);
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("store.sqlite");
        fs::copy(from.join("store/store.sqlite"), &database).unwrap();
        let before = fs::read(&database).unwrap();
        let Examined { damaged, bytes, restored } = examine(dir.path(), None).unwrap();
        assert!(damaged.is_empty() && (bytes > 0) == rows && restored.is_none(), "{damaged:?}");
        assert!(fs::read(&database).unwrap() == before, "{version}");
    }
}

/// What the log of a process that was killed holds is looked at too.
#[tokio::test]
async fn g6_what_is_in_the_log_is_looked_at() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = open(dir.path());
    commit(&store, unit(vec![append(&alice(), "x")])).await;
    for name in ["store.sqlite", "store.sqlite-wal", "witness"] {
        fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
    }
    let examined = examine(killed.path(), None).unwrap();
    assert_eq!((examined.damaged, examined.restored), (vec![], Some(Restored::Moved)));
    assert!(examined.bytes > 0);
    let opened = open(killed.path());
    assert_eq!(heads(&opened, &alice()).await, ["x"]);
}
