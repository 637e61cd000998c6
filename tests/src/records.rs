//! Records of a server that does not run, changed as the server itself would write them: with their
//! digests. What is to be damaged is changed in the file.

use bytes::Bytes;
use impp_protocol::{Domain, Timestamp};
use impp_storage::{
    Expect, Op, Options, Outcome, Record, RecordKey, Scan, SqliteStore, Store, Table, Unit,
};

use crate::server::{DOMAIN, Server};

/// Changes the records of a kind, by their keys: those of which something else is made. How many.
pub fn edit(
    server: &Server,
    table: u8,
    change: impl Fn(&[u8], &Bytes) -> Option<Vec<u8>> + Send,
) -> usize {
    // A thread of its own: whoever calls may be in a runtime.
    std::thread::scope(|scope| {
        let edited = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(edit_in(server, Table(table), change))
        });
        edited.join().unwrap()
    })
}

async fn edit_in(
    server: &Server,
    table: Table,
    change: impl Fn(&[u8], &Bytes) -> Option<Vec<u8>>,
) -> usize {
    let store = SqliteStore::open(&server.data().join("store"), Options::default()).unwrap();
    let domain = Domain::parse(DOMAIN).unwrap();
    let (prefix, after) = Default::default();
    let range = Scan { domain: domain.clone(), table, prefix, after, max: 1000 };
    let mut edited = 0;
    for (key, Record { value, version }) in store.scan(range).await.unwrap() {
        let Some(value) = change(&key, &value) else { continue };
        let key = RecordKey { domain: domain.clone(), table, key };
        let (expect, value) = (Expect::Version(version), Some(value.into()));
        let unit = Unit::of(Timestamp::from_millis(0), vec![Op::Put { key, expect, value }]);
        let outcome = store.submit(unit).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        edited += 1;
    }
    store.close().await.unwrap();
    edited
}
