//! Records of a server that does not run, changed as the server itself would write them: with their
//! digests. What is to be damaged is changed in the file.

use bytes::Bytes;
use impp_protocol::{Domain, Timestamp};
use impp_storage::{
    Expect, Op, Options, Outcome, Record, RecordKey, Scan, SqliteStore, Store, Table, UNIT_OPS_MAX,
    Unit,
};

use crate::server::{DOMAIN, Server};

/// Changes the records of a kind, by their keys: those of which something else is made. How many.
pub fn edit(
    server: &Server,
    table: u8,
    change: impl Fn(&[u8], &Bytes) -> Option<Vec<u8>> + Send,
) -> usize {
    within(server, async move |store: &SqliteStore| {
        let (mut edited, domain) = (0, Domain::parse(DOMAIN).unwrap());
        for (key, Record { value, version }) in all(store, table).await {
            let Some(value) = change(&key, &value) else { continue };
            let key = RecordKey { domain: domain.clone(), table: Table(table), key };
            let (expect, value) = (Expect::Version(version), Some(value.into()));
            let unit = Unit::of(Timestamp::from_millis(0), vec![Op::Put { key, expect, value }]);
            let outcome = store.submit(unit).await.unwrap();
            assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
            edited += 1;
        }
        edited
    })
}

/// The records of a kind, by their keys.
pub fn read(server: &Server, table: u8) -> Vec<(Vec<u8>, Bytes)> {
    within(server, async |store: &SqliteStore| {
        let records = all(store, table).await.into_iter();
        records.map(|(key, record)| (key, record.value)).collect()
    })
}

/// A record to be added.
pub fn put(table: u8, key: Vec<u8>, value: Bytes) -> Op {
    put_in(DOMAIN, table, key, value)
}

/// The same of another domain.
pub fn put_in(domain: &str, table: u8, key: Vec<u8>, value: impl Into<Bytes>) -> Op {
    let key = RecordKey { domain: Domain::parse(domain).unwrap(), table: Table(table), key };
    Op::Put { key, expect: Expect::Any, value: Some(value.into()) }
}

/// Adds to what is stored.
pub fn add(server: &Server, ops: &[Op]) {
    within(server, async |store: &SqliteStore| {
        for some in ops.chunks(UNIT_OPS_MAX) {
            let unit = Unit::of(Timestamp::from_millis(0), some.to_vec());
            let outcome = store.submit(unit).await.unwrap();
            assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        }
    });
}

/// Does something with the store of a server that does not run.
fn within<T: Send>(server: &Server, what: impl AsyncFnOnce(&SqliteStore) -> T + Send) -> T {
    // A thread of its own: whoever calls may be in a runtime.
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let store = SqliteStore::open(&server.store(), Options::default()).unwrap();
                let done = what(&store).await;
                store.close().await.unwrap();
                done
            })
        });
        done.join().unwrap()
    })
}

async fn all(store: &SqliteStore, table: u8) -> Vec<(Vec<u8>, Record)> {
    let (prefix, after) = Default::default();
    let (domain, table) = (Domain::parse(DOMAIN).unwrap(), Table(table));
    store.scan(Scan { domain, table, prefix, after, max: 1000 }).await.unwrap()
}
