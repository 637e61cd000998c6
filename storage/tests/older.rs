//! G14: stores of earlier programs (`tests/stores/`): their rows have no digests, and get them while
//! the store works.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use impp_protocol::Domain;
use impp_storage::*;
use kit::*;
use rusqlite::Connection;

/// A copy of the store that the programs of format 1 have left.
fn v1() -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stores/v1/store");
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn look(dir: &Path) -> Connection {
    Connection::open(dir.join("store.sqlite")).unwrap()
}

type Records = BTreeMap<(String, u8, Vec<u8>), (u64, Vec<u8>)>;

/// All records, without our own eyes.
fn raw(connection: &Connection) -> Records {
    let sql = "SELECT domain, kind, key, version, value FROM record";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let version: i64 = row.get(3)?;
        Ok(((row.get(0)?, row.get(1)?, row.get(2)?), (version.cast_unsigned(), row.get(4)?)))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

async fn assert_has(store: &SqliteStore, records: &Records) {
    assert!(records.len() > 20, "{records:?}");
    for ((domain, kind, key), (version, value)) in records {
        let domain = Domain::parse(domain).unwrap();
        let key = RecordKey { domain, table: Table(*kind), key: key.clone() };
        let record = store.get(key).await.unwrap().unwrap();
        assert_eq!((record.version, record.value), (*version, Bytes::from(value.clone())));
    }
}

/// Rows without a digest, and whether it is noted that there are none.
fn unsummed(connection: &Connection) -> (i64, bool) {
    let tables = ["meta", "log", "item", "body", "record", "dedup", "purged"];
    let counts = tables.map(|table| format!("(SELECT count(*) FROM {table} WHERE sum IS NULL)"));
    let sql = format!("SELECT {}, summed FROM meta", counts.join(" + "));
    connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

async fn wait_until_summed(dir: &Path) {
    let connection = look(dir);
    for _ in 0..3000 {
        if unsummed(&connection) == (0, true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not all have a digest: {:?}", unsummed(&connection));
}

/// All that was there is there, at once and when each row has its digest; from then on one without
/// is damaged.
#[tokio::test]
async fn g14_g6_rows_of_an_older_store_get_digests_while_it_works() {
    let dir = v1();
    let records = raw(&look(dir.path()));
    let store = open(dir.path());
    assert_has(&store, &records).await;
    let items = page(&store, &alice(), 0).await;
    assert!(items.items.len() > 2 && items.damaged.is_empty());
    commit(&store, unit(vec![append(&alice(), "new")])).await;
    wait_until_summed(dir.path()).await;
    assert_has(&store, &records).await;
    assert_eq!(page(&store, &alice(), 0).await.items[..items.items.len()], items.items);
    drop(store);

    let store = open(dir.path());
    assert_has(&store, &records).await;
    assert_eq!(store.stats().damaged, 0);
    drop(store);
    look(dir.path()).execute("UPDATE record SET sum = NULL WHERE kind = 1", []).unwrap();
    let store = open(dir.path());
    let ((domain, kind, key), _) = records.iter().find(|((_, kind, _), _)| *kind == 1).unwrap();
    let domain = Domain::parse(domain).unwrap();
    let key = RecordKey { domain, table: Table(*kind), key: key.clone() };
    assert!(matches!(store.get(key).await, Err(StoreError::Damaged { .. })));
}

/// G14: of a log of before nothing is counted until it is written to; then its quota holds for all of it.
#[tokio::test]
async fn g14_the_log_of_an_older_store_is_counted_when_it_is_written_to() {
    let dir = v1();
    let store = open(dir.path());
    let unacked = state(&store, &alice()).await.unacked_items;
    let before = page(&store, &alice(), 0).await.items.len() as u64;
    assert!(before > unacked, "{before} {unacked}");
    commit(&store, unit(vec![copy(&alice(), "new")])).await;
    drop(store);
    let store = open(dir.path());
    submit(&store, vec![keep(&alice(), 1)]).await;
    let after = page(&store, &alice(), 0).await;
    assert_eq!(after.items.len() as u64, unacked + 1);
    assert_eq!(after.items.last().unwrap().head, "new");
    assert_eq!(state(&store, &alice()).await.unacked_items, unacked);
}

/// What has a digest already is held against it, also while others have none.
#[tokio::test]
async fn g6_damage_is_found_while_rows_are_still_without_digests() {
    let dir = v1();
    drop(open(dir.path()));
    let connection = look(dir.path());
    connection.execute("UPDATE meta SET summed = 0, sum = NULL", []).unwrap();
    connection.execute("UPDATE record SET sum = 1 WHERE kind = 1", []).unwrap();
    connection.execute("UPDATE record SET sum = NULL WHERE kind != 1", []).unwrap();
    let records = raw(&connection);
    drop(connection);
    let store = open(dir.path());
    wait_until_summed(dir.path()).await;
    for (domain, kind, key) in records.keys() {
        let domain = Domain::parse(domain).unwrap();
        let key = RecordKey { domain, table: Table(*kind), key: key.clone() };
        let got = store.get(key).await;
        assert_eq!(matches!(got, Err(StoreError::Damaged { .. })), *kind == 1, "{got:?}");
    }
}
