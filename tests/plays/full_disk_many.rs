//! An account of which very much is stored, on a full disk: the operator disables and removes it, in steps
//! that are small enough for what is kept for that. Faults G8, I9.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use impp_storage::{Append, Op};
use impp_tests::disk::SmallDisk;
use impp_tests::peer::Peer;
use impp_tests::presence::at_once;
use impp_tests::{Server, eventually, records};

use crate::full_disk::{exhaust, fill, on_small_disk};
use crate::removal::{full_life, records_of};

/// Kinds, as `server/src/core/records/mod.rs` numbers them.
const ACCOUNT: u8 = 1;
const CONTACT: u8 = 3;
const WATCHER: u8 = 6;
const HELD: u8 = 7;
const FOLLOWED: u8 = 9;
/// Of each kind.
const MANY: usize = 4000;

/// Thousands of each: contacts, watchers, whom it follows, what is held for it, what waits in its inbox.
fn much_more(server: &Server, name: &str) {
    let own = format!("{name}@localhost");
    let first = |table| {
        let of = format!("{name}\0").into_bytes();
        let found = records::read(server, table).into_iter().find(|(key, _)| key.starts_with(&of));
        found.expect("one of each kind").1
    };
    let [contact, watcher, held] = [CONTACT, WATCHER, HELD].map(first);
    let mut ops = Vec::new();
    for n in 0..MANY {
        let other = format!("w{n:05}");
        let of = |rest: String| format!("{name}\0{rest}").into_bytes();
        ops.push(records::put(CONTACT, of(format!("{other}@localhost")), contact.clone()));
        ops.push(records::put(WATCHER, of(format!("{other}@localhost")), watcher.clone()));
        // The other end, among the records of each of them.
        let there = format!("{other}\0{own}").into_bytes();
        ops.push(records::put(FOLLOWED, there, Bytes::from_static(b"{}")));
        ops.push(records::put(HELD, of(format!("{other}@localhost\0{n:032x}")), held.clone()));
        ops.push(Op::Append(Append {
            owner: own.parse().unwrap(),
            fence: 0,
            kind: 2,
            head: Bytes::from_static(&[b'x'; 300]),
            with_body: false,
            counted: false,
            limit: None,
        }));
    }
    records::add(server, &ops);
}

/// How many follow it, by what is stored of them; and how many items there are.
fn left(server: &Server, name: &str) -> (i64, i64) {
    let store = rusqlite::Connection::open(server.store().join("store.sqlite")).unwrap();
    let sql = "SELECT (SELECT count(*) FROM record WHERE kind = ?1
                       AND instr(key, CAST(char(0) || ?2 || '@' AS BLOB)) > 0),
                      (SELECT count(*) FROM item)";
    store.query_row(sql, (FOLLOWED, name), |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Takes what the server gives up for anybody, until nothing is left but the operator's part.
async fn nothing_is_left(disk: &SmallDisk, server: &Server) {
    let mut mallory = Peer::sign_in(server, "mallory").await;
    fill(disk, &mut mallory).await;
    exhaust(disk, &mut mallory).await;
    disk.fill();
}

/// The server, with much of alice's and of dave's, on a disk that is full but for the operator's part.
async fn on_the_last_part() -> Option<(SmallDisk, Server)> {
    let start = at_once().accounts(["alice", "bob", "mallory"]);
    let (disk, mut server) = on_small_disk(start)?;
    full_life(&server).await;
    server.stop();
    much_more(&server, "alice");
    server.restart();
    nothing_is_left(&disk, &server).await;
    Some((disk, server))
}

/// It goes with all that it has, though that is many times what is kept for the operator.
#[tokio::test]
async fn g8_i9_an_account_with_very_much_is_removed_on_the_operators_last_part() {
    let Some((_disk, server)) = on_the_last_part().await else { return };
    let (followers, items) = left(&server, "alice");
    let own = records_of(&server, "alice").len();
    assert!(own > 3 * MANY && followers >= MANY as i64 && items > MANY as i64, "{own} {followers}");
    server.user_ok(&["disable", "alice@localhost"]);
    server.user_ok(&["remove", "alice@localhost"]);
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    assert_eq!(left(&server, "alice").0, 0, "nobody follows it");
    server.user_ok(&["disable", "bob@localhost"]);
    // Its log goes by and by, with no more room than that.
    eventually("the inbox to go", async || (left(&server, "alice").1 < MANY as i64).then_some(()))
        .await;
}

/// Readers of a store, of which one is at it at each moment: the log of writes is then never begun anew by
/// itself.
struct Reading {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Reading {
    /// So long one looks at the store, and the next begins before it ends.
    const LOOK: Duration = Duration::from_millis(20);

    fn begin(server: &Server) -> Reading {
        let ends = Arc::new(AtomicBool::new(false));
        let read = |n: u32| {
            let (ends, path) = (ends.clone(), server.store().join("store.sqlite"));
            std::thread::spawn(move || {
                let store = rusqlite::Connection::open(path).unwrap();
                std::thread::sleep(Self::LOOK * n / 3);
                while !ends.load(Ordering::Relaxed) {
                    let look = store.unchecked_transaction().unwrap();
                    look.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).unwrap();
                    std::thread::sleep(Self::LOOK);
                }
            })
        };
        let threads = (0..3).map(read).collect();
        Reading { ends, threads }
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// So it does while the store is read all the time, as it is by a copy that is made of it, or by the server
/// itself when it is busy.
#[tokio::test]
async fn g8_i9_an_account_with_very_much_is_removed_while_the_store_is_read() {
    let Some((_disk, server)) = on_the_last_part().await else { return };
    let reading = Reading::begin(&server);
    server.user_ok(&["disable", "alice@localhost"]);
    server.user_ok(&["remove", "alice@localhost"]);
    reading.end();
    assert_eq!(records_of(&server, "alice"), [ACCOUNT]);
    assert_eq!(left(&server, "alice").0, 0, "nobody follows it");
}
