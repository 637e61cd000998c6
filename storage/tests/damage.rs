//! G5, G6: rows that are not as they were written. Whoever asks for one gets an error that names it,
//! never another value and never its absence; whoever asks for anything else gets that.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use impp_storage::*;
use kit::*;
use rusqlite::Connection;

fn database(dir: &Path) -> PathBuf {
    dir.join("store.sqlite")
}

/// Changes a closed store behind its back.
fn change(dir: &Path, sql: &str) {
    let connection = Connection::open(database(dir)).unwrap();
    let changed = connection.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql}");
}

/// Changes bytes where they stand in a closed store.
fn overwrite(dir: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(database(dir)).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty() && from.len() == to.len(), "{from:?}");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(database(dir), bytes).unwrap();
}

/// What is damaged, where something has to be.
fn damage<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Damaged { what }) => what,
        other => panic!("not found: {other:?}"),
    }
}

fn with_body(owner: &impp_protocol::Address, head: &str) -> Op {
    Op::Append(Append { with_body: true, ..appending(owner, head) })
}

/// A message to alice with a copy for bob.
fn message(n: u64) -> Unit {
    let head = n.to_string();
    let body = Some(Bytes::from(format!("body {n}")));
    let ops = vec![with_body(&alice(), &head), with_body(&bob(), &head)];
    Unit { dedup: Some(dedup(n, n, 1)), body, ..unit(ops) }
}

/// A closed store with messages 0 to 5, as items 1 to 12, and records.
async fn made(dir: &Path) {
    let store = open(dir);
    for n in 0..6 {
        commit(&store, message(n)).await;
    }
    for key in ["k0", "k1", "k2"] {
        submit(&store, vec![put(key, Expect::Any, &format!("value of {key}"))]).await;
    }
}

/// A store in which bytes of keys were changed where they stand.
async fn overwritten(from: &[u8], to: &[u8]) -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    overwrite(dir.path(), from, to);
    let store = open(dir.path());
    (dir, store)
}

/// A store in which something was changed.
async fn changed(sql: &str) -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    change(dir.path(), sql);
    let store = open(dir.path());
    (dir, store)
}

/// Asks in every way for the record k1, and for those beside it.
async fn record_is_closed(store: &SqliteStore, how: &str) {
    let what = damage(store.get(key("k1")).await);
    assert!(what.starts_with("record 7 of a.example (k1): "), "{how}: {what}");
    for prefix in ["k", "k1"] {
        let (domain, table) = (alice().domain(), RECORDS);
        let range = Scan { domain, table, prefix: prefix.into(), after: None, max: 10 };
        damage(store.scan(range).await);
    }
    for condition in [Expect::Absent, Expect::Version(2)] {
        damage(store.submit(unit(vec![put("k1", condition, "new")])).await);
    }
    assert_eq!(store.health(), Health::Ok);
    assert!(store.stats().damaged > 0, "{how}");
}

/// Whether a record beside is as it was; else it is an error.
async fn is_served(store: &SqliteStore, name: &str) -> bool {
    match store.get(key(name)).await {
        Ok(record) => {
            assert_eq!(record.unwrap().value, format!("value of {name}"));
            true
        }
        answer => {
            damage(answer);
            false
        }
    }
}

/// A record, whatever of it was changed.
#[tokio::test]
async fn g6_a_damaged_record_is_an_error_and_not_a_value() {
    for set in [
        "value = x'00'",
        "value = CAST(value || 'x' AS BLOB)",
        "version = version + 1",
        "sum = sum + 1",
        "sum = NULL",
        "(version, value) = (SELECT version, value FROM record WHERE key = CAST('k2' AS BLOB))",
    ] {
        let (_dir, store) =
            changed(&format!("UPDATE record SET {set} WHERE key = CAST('k1' AS BLOB)")).await;
        record_is_closed(&store, set).await;
        assert!(is_served(&store, "k0").await && is_served(&store, "k2").await, "{set}");
    }
}

/// A record whose key was changed where it stands is not taken for absent, wherever its new key
/// would lie. Those beside it are served where it is still between them; else it misleads who looks
/// for them, and they are errors too.
#[tokio::test]
async fn g6_a_record_with_a_damaged_key_is_not_taken_for_absent() {
    let keys = ["\x07k!", "\x07k3", "\x07\x001", "\x07\x7f1", "\x06k1", "\x0fk1"];
    let mut changes: Vec<String> = keys.iter().map(|key| format!("a.example{key}")).collect();
    changes.extend(["A.example\x07k1".into(), "b.example\x07k1".into()]);
    for to in changes {
        let (_dir, store) = overwritten(b"a.example\x07k1", to.as_bytes()).await;
        record_is_closed(&store, &to).await;
        is_served(&store, "k0").await;
        is_served(&store, "k2").await;
    }
    for to in ["a.example\x07k1a", "a.example\x07k1c"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for name in ["k0", "k1b", "k2"] {
            submit(&store, vec![put(name, Expect::Any, &format!("value of {name}"))]).await;
        }
        drop(store);
        overwrite(dir.path(), b"a.example\x07k1b", to.as_bytes());
        let store = open(dir.path());
        damage(store.get(key("k1b")).await);
        assert!(is_served(&store, "k0").await && is_served(&store, "k2").await);
    }
}

/// Whoever has nothing stored is not taken for damaged because of a neighbour's value; and what
/// is written anew is well again.
#[tokio::test]
async fn a_damaged_value_is_its_own_keys_trouble_and_ends_when_it_is_written_anew() {
    let sql = "UPDATE record SET value = x'00' WHERE key = CAST('k1' AS BLOB)";
    let (_dir, store) = changed(sql).await;
    for absent in ["k", "k0x", "k1x", "z"] {
        assert_eq!(store.get(key(absent)).await, Ok(None), "{absent}");
    }
    submit(&store, vec![put("k1", Expect::Any, "new")]).await;
    assert_eq!(store.get(key("k1")).await.unwrap().unwrap().value, "new");
}

/// An item or its body: the page names it, and has the others.
#[tokio::test]
async fn g5_g6_a_damaged_item_is_named_and_the_others_are_served() {
    for (sql, whose) in [
        ("UPDATE item SET head = x'ff' WHERE seq = 5", "item 5"),
        ("UPDATE item SET kind = 2 WHERE seq = 5", "item 5"),
        ("UPDATE item SET time = 0 WHERE seq = 5", "item 5"),
        ("UPDATE item SET counts = NULL WHERE seq = 5", "item 5"),
        ("UPDATE item SET body = 7 WHERE seq = 5", "item 5"),
        ("UPDATE item SET body = NULL WHERE seq = 5", "item 5"),
        ("UPDATE item SET sum = NULL WHERE seq = 5", "item 5"),
        ("UPDATE body SET data = x'00' WHERE id = 5", "body 5"),
        ("UPDATE body SET refs = 1 WHERE id = 5", "body 5"),
        ("UPDATE body SET data = (SELECT data FROM body WHERE id = 7) WHERE id = 5", "body 5"),
        ("DELETE FROM body WHERE id = 5", "body 5"),
    ] {
        let (_dir, store) = changed(sql).await;
        let all = page(&store, &alice(), 0).await;
        let seqs: Vec<u64> = all.items.iter().map(|item| item.seq).collect();
        assert_eq!(seqs, [1, 3, 7, 9, 11], "{sql}");
        assert_eq!(all.damaged.len(), 1, "{sql}");
        assert_eq!(all.damaged[0].seq, 5, "{sql}");
        assert!(all.damaged[0].what.starts_with(whose), "{sql}: {:?}", all.damaged);
        // Who reads on an item at a time comes past it.
        let mut after = 3;
        let mut read = Vec::new();
        loop {
            let query = ReadLog { owner: alice(), after, items_max: 1, bytes_max: 0 };
            let page = store.read(query).await.unwrap();
            let Some(item) = page.items.last() else { break };
            after = item.seq;
            read.push(item.seq);
            if !page.more {
                break;
            }
        }
        assert_eq!(read, [7, 9, 11], "{sql}");
        let of_bob = if whose == "item 5" { 6 } else { 5 };
        assert_eq!(page(&store, &bob(), 0).await.items.len(), of_bob, "{sql}");
    }
}

/// An item that was moved into another log, by its row or by the index, is shown in neither.
#[tokio::test]
async fn g5_an_item_is_served_to_nobody_but_its_owner() {
    let (_dir, store) = changed("UPDATE item SET log = 2 WHERE seq = 5").await;
    let of_bob = page(&store, &bob(), 0).await;
    assert_eq!(of_bob.items.iter().map(|item| item.seq).collect::<Vec<_>>(), [2, 4, 6, 8, 10, 12]);
    assert_eq!(of_bob.damaged[0].seq, 5);
    assert_eq!(heads(&store, &alice()).await, ["0", "1", "3", "4", "5"]);
    assert!(commit(&store, message(6)).await.len() == 2);
}

/// A log's own row: nothing is told of it, and nothing added; others go on in the same commit.
#[tokio::test]
async fn g6_a_damaged_log_answers_nothing_and_takes_nothing() {
    let changes =
        ["custody = 11", "last = 10", "fence = 9", "id = 2", "unacked_items = 0", "sum = NULL"];
    for set in changes {
        let (_dir, store) = changed(&format!("UPDATE log SET {set} WHERE local = 'alice'")).await;
        log_is_closed(&store, set).await;
        // In the same commit as what is refused.
        let [one, other, two] =
            [alice(), bob(), alice()].map(|owner| store.submit(unit(vec![append(&owner, "x")])));
        damage(one.await);
        assert!(matches!(other.await, Ok(Outcome::Committed { .. })), "{set}");
        damage(two.await);
        assert_eq!(page(&store, &bob(), 0).await.items.len(), 7, "{set}");
    }
    for to in ["a.examplealicf", "a.examplezlice", "z.examplealice", "A.examplealice"] {
        let (_dir, store) = overwritten(b"a.examplealice", to.as_bytes()).await;
        log_is_closed(&store, to).await;
    }
}

async fn log_is_closed(store: &SqliteStore, how: &str) {
    let what = damage(store.log_state(alice()).await);
    assert!(what.starts_with("log of alice@a.example: "), "{how}: {what}");
    damage(store.read(ReadLog { owner: alice(), after: 0, items_max: 10, bytes_max: 10 }).await);
    damage(store.submit(unit(vec![append(&alice(), "x")])).await);
    assert_eq!(store.health(), Health::Ok);
}

/// Whether something was accepted before is not guessed.
#[tokio::test]
async fn e2_g6_a_damaged_repeat_is_neither_taken_nor_answered() {
    let (from, mut to) = (id(2, 2), id(2, 2));
    to[15] = 0x82;
    let mut stores = vec![overwritten(&from, &to).await];
    for set in ["digest = zeroblob(32)", "seqs = x''", "sum = NULL"] {
        let sql =
            format!("UPDATE dedup SET {set} WHERE seqs = x'00000000000000050000000000000006'");
        stores.push(changed(&sql).await);
    }
    for (_dir, store) in stores {
        damage(store.submit(message(2)).await);
        damage(store.accepted(dedup(2, 2, 1)).await);
        let again = store.submit(message(4)).await;
        assert_eq!(again, Ok(Outcome::Duplicate { seqs: vec![9, 10] }));
        assert_eq!(page(&store, &alice(), 0).await.items.len(), 6);
    }
}

/// The newest key is beside those of all new messages: it is in the way of its own repeat alone.
#[tokio::test]
async fn g6_a_damaged_key_of_the_newest_message_stands_in_no_other_ones_way() {
    for set in ["sender = 'mallory@a.example'", "recipient = 'a'"] {
        let sql = format!("UPDATE dedup SET {set} WHERE id = (SELECT max(id) FROM dedup)");
        let (_dir, store) = changed(&sql).await;
        damage(store.submit(message(5)).await);
        assert_eq!(commit(&store, message(6)).await.len(), 2, "{set}");
        assert_eq!(commit(&store, message(7)).await.len(), 2, "{set}");
        damage(store.submit(message(5)).await);
    }
}

/// Counters that everything hangs on: the store does not open.
#[tokio::test]
async fn g6_damaged_counters_keep_the_store_closed() {
    for set in ["seq = seq + 1", "version = 0", "dedup_floor = 1", "summed = 0", "sum = NULL"] {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path()).await;
        change(dir.path(), &format!("UPDATE meta SET {set}"));
        let what = damage(SqliteStore::open(dir.path(), small()));
        assert!(what.starts_with("store.sqlite: meta: "), "{set}: {what}");
    }
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    change(dir.path(), "DELETE FROM meta");
    damage(SqliteStore::open(dir.path(), small()));
}

/// Trimming and sweeping pass over what is damaged, and take nothing else for it.
#[tokio::test]
async fn what_is_damaged_is_not_trimmed_and_stands_in_nobodys_way() {
    let (_dir, store) = changed("UPDATE item SET body = 7 WHERE seq = 5").await;
    // Custody of a part counts; custody of all brings the count to zero.
    submit(&store, vec![custody(&alice(), 7)]).await;
    assert_eq!(state(&store, &alice()).await.unacked_items, 3);
    submit(&store, vec![custody_of_all(&store, &alice()).await]).await;
    assert_eq!(state(&store, &alice()).await.unacked_items, 0);
    submit(&store, vec![trim(&alice(), 9999)]).await;
    let left = page(&store, &alice(), 0).await;
    assert_eq!((left.items.len(), left.damaged.len(), left.oldest), (0, 1, 5));
    // The body that it seems to refer to is still that of another item.
    let of_bob = page(&store, &bob(), 0).await;
    assert_eq!(of_bob.items[3].body, Some(Bytes::from_static(b"body 3")));
    assert_eq!((of_bob.items.len(), of_bob.damaged.len()), (6, 0));
}

/// What a log has lost is not forgotten with the row that says so: nobody is told that nothing is
/// missing where something may be. What it counts is made anew.
#[tokio::test]
async fn g6_a_damaged_count_of_a_log_claims_nothing_to_be_there_that_is_lost() {
    for set in ["lost = 0", "lost = 3", "lost = 999", "items = 9", "bytes = 0", "sum = NULL"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let heads: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        // A message first, then its owner's copies; of these four stay.
        let mut ops = vec![append(&alice(), "not to go")];
        ops.extend(heads.iter().map(|head| copy(&alice(), head)));
        submit(&store, ops).await;
        submit(&store, vec![keep(&alice(), 4)]).await;
        let oldest = state(&store, &alice()).await.oldest;
        assert_eq!(oldest, 7);
        drop(store);
        change(dir.path(), &format!("UPDATE kept SET {set}"));
        let store = open(dir.path());
        assert_eq!(state(&store, &alice()).await.oldest, oldest, "{set}");
        assert_eq!(page(&store, &alice(), 0).await.oldest, oldest, "{set}");
        // Counted anew, and stored so.
        submit(&store, vec![copy(&alice(), "9"), keep(&alice(), 4)]).await;
        drop(store);
        let store = open(dir.path());
        let all = page(&store, &alice(), 0).await;
        assert_eq!((all.items.len(), all.oldest, all.damaged.len()), (5, oldest + 1, 0), "{set}");
    }
}

/// If all that could go is gone, all may be lost, up to the last.
#[tokio::test]
async fn g6_a_damaged_count_of_a_log_without_anything_to_lose_counts_all_for_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    submit(&store, vec![append(&alice(), "not to go"), copy(&alice(), "gone")]).await;
    submit(&store, vec![keep(&alice(), 0)]).await;
    drop(store);
    change(dir.path(), "UPDATE kept SET lost = 0");
    let store = open(dir.path());
    let all = page(&store, &alice(), 0).await;
    assert_eq!((all.items.len(), all.oldest, all.damaged.len()), (1, 3, 0));
}

/// A purge that would sweep another log sweeps nothing.
#[tokio::test]
async fn g5_a_damaged_purge_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    change(dir.path(), "INSERT INTO purged (log, sum) VALUES (1, 77)");
    let store = open(dir.path());
    commit(&store, unit(vec![Op::ExpireDedup { before: at(1) }])).await;
    assert_eq!(page(&store, &alice(), 0).await.items.len(), 6);
}

/// G6: damage for which nobody asks is found, and an item that the index does not know.
#[tokio::test]
async fn g6_the_scrub_comes_to_everything() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    change(dir.path(), "UPDATE record SET value = x'00' WHERE key = CAST('k1' AS BLOB)");
    change(dir.path(), "UPDATE log SET custody = 11 WHERE local = 'alice'");
    change(dir.path(), "UPDATE item SET kind = 9 WHERE seq = 3");
    change(dir.path(), "UPDATE body SET refs = 9 WHERE id = 5");
    change(
        dir.path(),
        "UPDATE dedup SET seqs = x'' WHERE seqs = x'00000000000000050000000000000006'",
    );
    overwrite(dir.path(), b"a.example\x07k0", b"z.example\x07k0");
    let store = open(dir.path());
    let mut stats = store.stats();
    for _ in 0..6000 {
        stats = store.stats();
        if stats.damaged >= 6 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(stats.damaged, 6);
    assert!(stats.scrubbed_bytes > 0);
    assert!(heads(&store, &bob()).await.len() == 5, "the others are served");
}

/// G6: after an unclean end the pages are looked at before the start: rows to which nothing leads any
/// more are no digest's matter.
#[tokio::test]
async fn g6_after_an_unclean_end_damaged_pages_keep_the_store_closed() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    made(dir.path()).await;
    let root: u32 = Connection::open(database(dir.path()))
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'record'", [], |r| r.get(0))
        .unwrap();
    // The page's count of its rows, one less.
    let mut bytes = fs::read(database(dir.path())).unwrap();
    bytes[(root as usize - 1) * 4096 + 4] -= 1;
    fs::write(database(dir.path()), bytes).unwrap();
    let store = open(dir.path());
    commit(&store, unit(vec![append(&bob(), "x")])).await;
    for name in ["store.sqlite", "store.sqlite-wal"] {
        fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
    }
    let what = damage(SqliteStore::open(killed.path(), small()));
    assert!(what.starts_with("store.sqlite: "), "{what}");
}

/// D8, G6: what is well of a kind is found around what is not; what is damaged is named by its key, and
/// where not even that is known, it is said.
#[tokio::test]
async fn d8_g6_the_others_of_a_kind_are_salvaged() {
    async fn salvaged(store: &SqliteStore, table: Table) -> (Vec<String>, Vec<String>, bool) {
        let found = store.salvage(alice().domain(), table, Vec::new()).await.unwrap();
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let records = found.records.iter().map(|(key, record)| {
            assert_eq!(record.value, format!("value of {}", text(key)));
            text(key)
        });
        (records.collect(), found.damaged.iter().map(|key| text(key)).collect(), found.unsure)
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = names(&["k0", "k1", "k2"]);
    let (_dir, store) =
        changed("UPDATE record SET value = x'00' WHERE key = CAST('k1' AS BLOB)").await;
    let expected = (names(&["k0", "k2"]), names(&["k1"]), false);
    assert_eq!(salvaged(&store, RECORDS).await, expected);
    // Of a range no more is read than that, where no key is damaged.
    for (prefix, left, lost) in [("k0", 1, 0), ("k1", 0, 1), ("k", 2, 1), ("l", 0, 0)] {
        let prefix = prefix.as_bytes().to_vec();
        let found = store.salvage(alice().domain(), RECORDS, prefix.clone()).await.unwrap();
        assert_eq!((found.records.len(), found.damaged.len()), (left, lost), "{prefix:?}");
        assert!(found.records.iter().all(|(key, _)| key.starts_with(&prefix)) && !found.unsure);
    }
    for (from, to) in [("k0", "z0"), ("k1", "z1"), ("k1", "a1"), ("k2", "a2")] {
        // What is damaged does not lead astray on the way to what comes behind it.
        let (_dir, store) = overwritten(
            &[b"a.example\x07", from.as_bytes()].concat(),
            &[b"a.example\x07", to.as_bytes()].concat(),
        )
        .await;
        let left: Vec<String> = all.iter().filter(|name| *name != from).cloned().collect();
        assert_eq!(salvaged(&store, RECORDS).await, (left, vec![], true), "{from} {to}");
        let found = store.salvage(alice().domain(), RECORDS, b"k".to_vec()).await.unwrap();
        assert_eq!((found.records.len(), found.unsure), (2, true), "{from} {to}");
    }
    // The domain or the kind of one was changed: it ends no walk, and is missed nowhere.
    for (from, to) in
        [("a.example\x07k1", "z.example\x07k1"), ("a.example\x07k1", "a.example\x08k1")]
    {
        let (_dir, store) = overwritten(from.as_bytes(), to.as_bytes()).await;
        let expected = (names(&["k0", "k2"]), vec![], true);
        assert_eq!(salvaged(&store, RECORDS).await, expected, "{to:?}");
        assert!(store.stats().damaged > 0);
    }
    // A kind that it cannot be of goes its way.
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        for kind in [6, 7, 8] {
            for key in ["k0", "k1", "k2"] {
                let value = Some(Bytes::from(format!("value of {key}")));
                let key = RecordKey { table: Table(kind), ..kit::key(key) };
                submit(&store, vec![Op::Put { key, expect: Expect::Any, value }]).await;
            }
        }
    }
    overwrite(dir.path(), b"a.example\x06k1", b"a.example\x06z1");
    let store = open(dir.path());
    for (kind, unsure) in [(6, true), (7, false), (8, false)] {
        let (records, _, said) = salvaged(&store, Table(kind)).await;
        assert_eq!((records.len(), said), (if unsure { 2 } else { 3 }, unsure), "{kind}");
    }
}
