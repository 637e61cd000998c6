//! G2: a real process with a store is killed at random moments, again and again; what it had
//! acknowledged is there, once, and what is tried again is not doubled.
//!
//! The child is this test's own binary, started with a variable that names the directory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use impp_storage::*;
use kit::*;

const DIR: &str = "IMPP_STORAGE_KILL_DIR";
const START: &str = "IMPP_STORAGE_KILL_START";
const ROUNDS: u64 = 10;
/// Units that the child has on their way at once.
const FLIGHT: u64 = 64;

fn send(store: &dyn Store, n: u64) -> Pending<Outcome> {
    let copy = Op::Append(Append { with_body: true, ..appending(&bob(), &n.to_string()) });
    let ops =
        vec![Op::Append(Append { with_body: true, ..appending(&alice(), &n.to_string()) }), copy];
    let body = Some(vec![b'x'; 300].into());
    store.submit(Unit { dedup: Some(dedup(n, n, 1)), body, ..unit(ops) })
}

/// Not a test of its own: does nothing unless started by the one below.
#[tokio::test]
async fn child() {
    let (Ok(dir), Ok(start)) = (std::env::var(DIR), std::env::var(START)) else { return };
    let store = open(Path::new(&dir));
    let mut next: u64 = start.parse().unwrap();
    loop {
        let answers: Vec<_> = (next..next + FLIGHT).map(|n| (n, send(&store, n))).collect();
        next += FLIGHT;
        for (n, answer) in answers {
            let Outcome::Committed { seqs, .. } = answer.await.unwrap() else { panic!() };
            // One write each: what the parent reads was acknowledged.
            let line = format!("ack {n} {}\n", seqs[0]);
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
}

#[tokio::test]
async fn g2_kill_9_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<u64, u64> = BTreeMap::new();
    let mut start = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(START, start.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let acks = lines.filter_map(|line| {
                let (n, seq) = line.split_once("ack ")?.1.split_once(' ')?;
                Some((n.parse::<u64>().unwrap(), seq.parse::<u64>().unwrap()))
            });
            acks.collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(60 + round * 37 % 120));
        if round == 0 {
            let busy = SqliteStore::open(dir.path(), small()).err();
            let locked = StoreError::Locked { dir: dir.path().into(), pid: Some(child.id()) };
            assert_eq!(busy, Some(locked), "G13: the other process is named");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let acks = reader.join().unwrap();
        let sent = acks.last().map_or(start, |(n, _)| n + 1) + 2 * FLIGHT;
        acked.extend(acks);

        let store = open(dir.path());
        let present = present(&store).await;
        for (n, seq) in &acked {
            assert_eq!(present.get(n), Some(seq), "round {round}: {n} was acknowledged");
        }
        // The client tries all again that may have been on their way.
        for n in start..sent {
            match send(&store, n).await.unwrap() {
                Outcome::Duplicate { seqs } => assert_eq!(present.get(&n), Some(&seqs[0])),
                Outcome::Committed { .. } => assert!(!present.contains_key(&n)),
                other => panic!("{other:?}"),
            }
        }
        start = sent;
        let all = self::present(&store).await;
        assert_eq!(all.len() as u64, sent, "each once");
        let copies: BTreeSet<String> = heads_of(&store, &bob()).await.into_iter().collect();
        assert_eq!(copies.len() as u64, sent);
        acked = all;
        store.close().await.unwrap();
    }
    let options = Options { verify: true, ..small() };
    SqliteStore::open(dir.path(), options).unwrap();
    assert!(acked.len() as u64 > ROUNDS * 2 * FLIGHT, "the children did work");
}

/// The numbers in alice's log with their seqs; each at most once.
async fn present(store: &dyn Store) -> BTreeMap<u64, u64> {
    let mut present = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = page(store, &alice(), after).await;
        let Some(last) = page.items.last() else { return present };
        after = last.seq;
        for item in page.items {
            let n = std::str::from_utf8(&item.head).unwrap().parse().unwrap();
            assert_eq!(item.body.as_ref().map(|body| body.len()), Some(300));
            assert_eq!(present.insert(n, item.seq), None, "{n} is there twice");
        }
    }
}

async fn heads_of(store: &dyn Store, owner: &impp_protocol::Address) -> Vec<String> {
    let query =
        ReadLog { owner: owner.clone(), after: 0, items_max: usize::MAX, bytes_max: usize::MAX };
    let page = store.read(query).await.unwrap();
    page.items.iter().map(|item| String::from_utf8_lossy(&item.head).into_owned()).collect()
}
