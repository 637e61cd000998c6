//! G5, G6: single bits of the database flipped, and pages written to another's place, at places that are
//! always the same. A read answers with what was written or with an error; what no digest can see is
//! counted, and bounded.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use impp_protocol::Address;
use impp_storage::*;
use kit::*;

const FLIPS: usize = 200;
const PAGE_BYTES: usize = 4096;
const MISPLACED: usize = 100;
const MESSAGES: u64 = 150;
const ACCOUNTS: u64 = 40;
const TABLES: [Table; 3] = [Table(1), Table(2), Table(3)];

/// What was written, and what a reader is told of it.
#[derive(Default)]
struct Written {
    records: BTreeMap<RecordKey, Bytes>,
    /// By owner: seq, head, body.
    logs: BTreeMap<Address, Vec<(u64, Bytes, Bytes)>>,
    dedups: Vec<Dedup>,
}

/// What came of the flips.
#[derive(Debug, Default)]
struct Found {
    refused: usize,
    errors: usize,
    /// Flips after which a record that is there was told to be absent.
    records_absent: usize,
    /// Flips after which an item was missing, and nothing said of it.
    items_missing: usize,
    repeats_unknown: usize,
}

fn user(n: u64) -> Address {
    address(&format!("user{n}@a.example"))
}

/// Bytes that look like nothing else.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    bytes.take(len).collect::<Vec<u8>>().into()
}

async fn make(dir: &Path) -> Written {
    let store = open(dir);
    let mut written = Written::default();
    for n in 0..ACCOUNTS {
        for table in TABLES {
            let owner = user(n);
            let key = RecordKey { domain: owner.domain(), table, key: owner.local().into() };
            let value = noise(n + 1000 * u64::from(table.0), 60 + 20 * (n as usize % 20));
            let op = Op::Put { key: key.clone(), expect: Expect::Any, value: Some(value.clone()) };
            submit(&store, vec![op]).await;
            written.records.insert(key, value);
        }
    }
    for n in 0..MESSAGES {
        let (to, from) = (user(n % 7), user(7 + n % 5));
        let (head, body) = (noise(n, 20), noise(n + 7, if n % 25 == 0 { 9000 } else { 300 }));
        let append = |owner: &Address| {
            let head = head.clone();
            Op::Append(Append { with_body: true, head, ..appending(owner, "") })
        };
        let dedup = Dedup { from: from.clone(), to: to.clone(), ..dedup(5000 + n, n * n, 1) };
        let ops = vec![append(&to), append(&from)];
        let unit = Unit { dedup: Some(dedup.clone()), body: Some(body.clone()), ..unit(ops) };
        let seqs = commit(&store, unit).await;
        for (owner, seq) in [to, from].into_iter().zip(seqs) {
            let items = written.logs.entry(owner).or_default();
            items.push((seq, head.clone(), body.clone()));
        }
        written.dedups.push(dedup);
    }
    written
}

/// Reads all; what is answered must be what was written.
async fn read(store: &SqliteStore, written: &Written, found: &mut Found) {
    let (mut errors, mut absent, mut missing, mut unknown) = (0, 0, 0, 0);
    for (key, value) in &written.records {
        match store.get(key.clone()).await {
            Ok(Some(record)) => assert_eq!(record.value, value, "{key:?}"),
            Ok(None) => absent += 1,
            Err(_) => errors += 1,
        }
    }
    for table in TABLES {
        let (domain, prefix) = (user(0).domain(), b"user".to_vec());
        match store.scan(Scan { domain: domain.clone(), table, prefix, after: None, max: 99 }).await
        {
            Ok(records) => {
                for (key, record) in &records {
                    let key = RecordKey { domain: domain.clone(), table, key: key.clone() };
                    assert_eq!(Some(&record.value), written.records.get(&key), "{key:?}");
                }
                absent += (ACCOUNTS as usize).saturating_sub(records.len());
            }
            Err(_) => errors += 1,
        }
    }
    for (owner, expected) in &written.logs {
        let query =
            ReadLog { owner: owner.clone(), after: 0, items_max: 1000, bytes_max: usize::MAX };
        match store.read(query).await {
            Ok(page) => {
                for item in &page.items {
                    let one = (item.seq, item.head.clone(), item.body.clone().unwrap());
                    assert!(expected.contains(&one), "{owner} {}", item.seq);
                }
                assert!(page.items.is_sorted_by(|a, b| a.seq < b.seq));
                if page.damaged.is_empty() {
                    missing += expected.len() - page.items.len();
                } else {
                    errors += page.damaged.len();
                }
            }
            Err(_) => errors += 1,
        }
        match store.log_state(owner.clone()).await {
            Ok(state) => assert_eq!(state.last, expected.last().unwrap().0, "{owner}"),
            Err(_) => errors += 1,
        }
    }
    for dedup in &written.dedups {
        match store.accepted(dedup.clone()).await {
            Ok(Some(digest)) => assert_eq!(digest, dedup.digest),
            Ok(None) => unknown += 1,
            Err(_) => errors += 1,
        }
    }
    found.errors += usize::from(errors > 0);
    found.records_absent += usize::from(absent > 0);
    found.items_missing += usize::from(missing > 0);
    found.repeats_unknown += usize::from(unknown > 0);
}

/// Whether a store of these bytes tells of anything as absent; it is as it was then.
async fn tells_of_absence(dir: &Path, bytes: &[u8], written: &Written, found: &mut Found) -> bool {
    fs::write(dir.join("store.sqlite"), bytes).unwrap();
    let before = (found.records_absent, found.items_missing, found.repeats_unknown);
    match SqliteStore::open(dir, small()) {
        Ok(store) => read(&store, written, found).await,
        Err(_) => found.refused += 1,
    }
    let tells = before != (found.records_absent, found.items_missing, found.repeats_unknown);
    if tells {
        fs::write(dir.join("store.sqlite"), bytes).unwrap();
    }
    tells
}

/// G5: a page that stands where another belongs is never served as what it is not. Of a table whose rows go by
/// more than a number, rows whose page is not there may be told to be absent: who looks at everything
/// finds each of these.
#[tokio::test]
async fn g5_a_page_in_anothers_place_is_never_served_and_always_found() {
    let made = tempfile::tempdir().unwrap();
    let written = make(made.path()).await;
    let whole = fs::read(made.path().join("store.sqlite")).unwrap();
    let mut found = Found::default();
    let place = |page: usize| page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
    // Leaves of trees that hold rows, of which many are of the same one. The first page begins with the
    // file's header.
    let is_leaf = |page: &usize| {
        let at = page * PAGE_BYTES;
        matches!(whole[at], 0x0a | 0x0d) && whole[at + 3..][..2] != [0, 0]
    };
    let leaves: Vec<usize> = (1..whole.len() / PAGE_BYTES).filter(is_leaf).collect();
    let alike = |[a, b]: &[usize; 2]| {
        a != b
            && whole[a * PAGE_BYTES] == whole[b * PAGE_BYTES]
            && whole[place(*a)] != whole[place(*b)]
    };
    let pairs = leaves.iter().flat_map(|a| leaves.iter().map(|b| [*a, *b])).filter(alike);
    let pairs: Vec<[usize; 2]> = pairs.collect();
    for [from, to] in pairs.iter().copied().step_by(pairs.len().div_ceil(MISPLACED)) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes.copy_within(place(from), to * PAGE_BYTES);
        if tells_of_absence(dir.path(), &bytes, &written, &mut found).await {
            let damaged = examine(dir.path(), None).unwrap().damaged;
            let scrubbed = damaged.iter().any(|what| !what.starts_with("store.sqlite"));
            assert!(scrubbed, "{from} in the place of {to}: {damaged:?}");
        }
    }
    assert!(found.errors + found.refused > MISPLACED / 2, "{found:?}");
}

/// G5, G6: never another value; never absence, but where the pages are damaged so that nothing leads
/// to a row and nothing beside its place is odd: of 3,000 flips four, all of them for repeats. The look at the pages (`verify`) finds each of these.
#[tokio::test]
async fn g5_g6_a_flipped_bit_is_never_served() {
    let made = tempfile::tempdir().unwrap();
    let written = make(made.path()).await;
    let whole = fs::read(made.path().join("store.sqlite")).unwrap();
    let mut found = Found::default();
    let mut place: usize = 17;
    for _ in 0..FLIPS {
        // Steps that share no divisor with the length come everywhere.
        place = (place + 7_919 * 8 + 3) % (whole.len() * 8);
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[place / 8] ^= 1 << (place % 8);
        if tells_of_absence(dir.path(), &bytes, &written, &mut found).await {
            let verified = SqliteStore::open(dir.path(), Options { verify: true, ..small() });
            assert!(verified.is_err(), "bit {place}: {found:?}");
        }
    }
    assert!(found.errors + found.refused > FLIPS / 2, "{found:?}");
    assert!(found.records_absent == 0, "{found:?}");
    assert!(found.items_missing <= 1, "{found:?}");
    // Where key and digest are garbage both, as where the length of a column was hit.
    assert!(found.repeats_unknown <= 2, "{found:?}");
}
