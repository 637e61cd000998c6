//! Short ways to build units and to read stores, for all test files.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};
use impp_storage::*;

pub(crate) const RECORDS: Table = Table(7);

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn alice() -> Address {
    address("alice@a.example")
}

pub(crate) fn bob() -> Address {
    address("bob@a.example")
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A UUIDv7-like id of a time.
pub(crate) fn id(millis: u64, tail: u64) -> [u8; 16] {
    ((u128::from(millis) << 80) | u128::from(tail)).to_be_bytes()
}

pub(crate) fn dedup(millis: u64, tail: u64, digest: u8) -> Dedup {
    Dedup { id: id(millis, tail), from: bob(), to: alice(), digest: [digest; 32] }
}

pub(crate) fn unit(ops: Vec<Op>) -> Unit {
    Unit::of(at(1000), ops)
}

pub(crate) fn appending(owner: &Address, head: &str) -> Append {
    Append {
        owner: owner.clone(),
        fence: 0,
        kind: 1,
        head: Bytes::copy_from_slice(head.as_bytes()),
        with_body: false,
        counted: true,
        limit: None,
    }
}

pub(crate) fn append(owner: &Address, head: &str) -> Op {
    Op::Append(appending(owner, head))
}

pub(crate) fn key(text: &str) -> RecordKey {
    RecordKey { domain: alice().domain(), table: RECORDS, key: text.into() }
}

pub(crate) fn put(text: &str, expect: Expect, value: &str) -> Op {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Op::Put { key: key(text), expect, value }
}

pub(crate) fn delete(text: &str, expect: Expect) -> Op {
    Op::Put { key: key(text), expect, value: None }
}

pub(crate) fn custody(owner: &Address, upto: u64) -> Op {
    Op::Custody { owner: owner.clone(), upto }
}

pub(crate) async fn custody_of_all(store: &dyn Store, owner: &Address) -> Op {
    custody(owner, state(store, owner).await.last)
}

pub(crate) fn trim(owner: &Address, before: u64) -> Op {
    Op::Trim { owner: owner.clone(), before: at(before), most: Limit::NONE }
}

/// An item that its owner may lose: a copy, a fate.
pub(crate) fn copy(owner: &Address, head: &str) -> Op {
    Op::Append(Append { counted: false, ..appending(owner, head) })
}

/// Keeps so many of these.
pub(crate) fn keep(owner: &Address, items: u64) -> Op {
    let most = Limit { items, ..Limit::NONE };
    Op::Trim { owner: owner.clone(), before: at(0), most }
}

/// The kind of marks.
pub(crate) const MARK: u8 = 9;

pub(crate) fn erase(owner: &Address, seq: u64) -> Op {
    Op::Erase { owner: owner.clone(), seq, mark: MARK }
}

pub(crate) async fn submit(store: &dyn Store, ops: Vec<Op>) -> Outcome {
    store.submit(unit(ops)).await.unwrap()
}

/// Submits what must be committed; answers the seqs.
pub(crate) async fn commit(store: &dyn Store, unit: Unit) -> Vec<u64> {
    match store.submit(unit).await.unwrap() {
        Outcome::Committed { seqs, .. } => seqs,
        other => panic!("not committed: {other:?}"),
    }
}

/// Submits puts that must be committed; answers the versions.
pub(crate) async fn versions(store: &dyn Store, ops: Vec<Op>) -> Vec<u64> {
    match submit(store, ops).await {
        Outcome::Committed { versions, .. } => versions,
        other => panic!("not committed: {other:?}"),
    }
}

pub(crate) async fn page(store: &dyn Store, owner: &Address, after: u64) -> Page {
    let query = ReadLog { owner: owner.clone(), after, items_max: 1000, bytes_max: usize::MAX };
    store.read(query).await.unwrap()
}

pub(crate) async fn heads(store: &dyn Store, owner: &Address) -> Vec<String> {
    let page = page(store, owner, 0).await;
    page.items.iter().map(|item| String::from_utf8_lossy(&item.head).into_owned()).collect()
}

pub(crate) async fn state(store: &dyn Store, owner: &Address) -> LogState {
    store.log_state(owner.clone()).await.unwrap()
}

pub(crate) fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, small()).unwrap()
}

/// The same with an index of conversations.
pub(crate) fn open_listing(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, Options { about: Some(about), ..small() }).unwrap()
}

/// Whom an item is about, by the first octet of its head.
pub(crate) fn about(item: &Item) -> Option<Address> {
    match item.head.first()? % 4 {
        0 => None,
        n => Some(whom(n)),
    }
}

/// One of those whom items are about.
pub(crate) fn whom(n: u8) -> Address {
    address(&format!("u{n}@a.example"))
}

/// As by default, with a reserve that is made quickly.
pub(crate) fn small() -> Options {
    Options { reserve_bytes: 64 * 1024, ..Options::default() }
}

pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new().unwrap())
}
