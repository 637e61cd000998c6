//! A log that is read from a place back: the same items, the other way round; what is damaged is passed
//! over and named, and bounds the page.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use impp_storage::*;
use kit::*;

async fn back(store: &dyn Store, upto: u64, items_max: usize, bytes_max: usize) -> Page {
    let query = ReadBack { owner: alice(), upto, with: None, items_max, bytes_max };
    store.read_back(query).await.unwrap()
}

fn seqs(page: &Page) -> Vec<u64> {
    page.items.iter().map(|item| item.seq).collect()
}

/// From the end, or from a place, one page behind the other, it is the log backwards.
#[tokio::test]
async fn a_log_is_the_same_backwards() {
    let dir = tempfile::tempdir().unwrap();
    for store in [memory(), std::sync::Arc::new(open(dir.path()))] {
        assert_eq!(seqs(&back(&*store, u64::MAX, 9, 9000).await), []);
        for n in 0..10 {
            let ops = vec![append(&alice(), &format!("{n}")), append(&bob(), "another's")];
            commit(&*store, unit(ops)).await;
        }
        submit(&*store, vec![erase(&alice(), 3)]).await;
        let forwards = page(&*store, &alice(), 0).await;
        let (mut found, mut upto, mut pages) = (Vec::new(), u64::MAX, 0);
        loop {
            let page = back(&*store, upto, 3, usize::MAX).await;
            assert_eq!(page.oldest, forwards.oldest);
            upto = page.items.last().unwrap().seq - 1;
            found.extend(page.items);
            pages += 1;
            if !page.more {
                break;
            }
        }
        found.reverse();
        assert_eq!((found, pages), (forwards.items.clone(), 4));
        // An item itself is in front of its place, and at least one comes.
        let place = forwards.items[4].seq;
        let one = back(&*store, place, 5, 0).await;
        assert_eq!((seqs(&one), one.more), (vec![place], true));
        assert_eq!(seqs(&back(&*store, forwards.items[0].seq - 1, 5, 9000).await), []);
        let nobody = ReadBack {
            owner: address("x@a.example"),
            upto: 99,
            with: None,
            items_max: 1,
            bytes_max: 1,
        };
        assert_eq!(store.read_back(nobody).await.unwrap().items, []);
    }
}

/// E9, G5: one damaged item keeps nobody from the others; very many of them are read in parts.
#[tokio::test]
async fn e9_g5_damage_is_passed_over_backwards_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..2 {
        commit(&store, unit((0..100).map(|_| append(&alice(), "x")).collect())).await;
    }
    drop(store);
    let connection = rusqlite::Connection::open(dir.path().join("store.sqlite")).unwrap();
    let sql = "UPDATE item SET kind = 9 WHERE seq = 200 OR seq BETWEEN 50 AND 149";
    connection.execute(sql, []).unwrap();
    drop(connection);
    let store = open(dir.path());
    let (mut upto, mut read, mut damaged) = (u64::MAX, Vec::new(), Vec::new());
    loop {
        let page = back(&store, upto, 1000, usize::MAX).await;
        assert!(page.damaged.len() <= DAMAGED_MAX);
        read.extend(seqs(&page));
        damaged.extend(page.damaged.iter().map(|damaged| damaged.seq));
        upto = read.iter().chain(&damaged).min().unwrap() - 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(damaged, [200].into_iter().chain((50..150).rev()).collect::<Vec<_>>());
    assert_eq!(read, (150..200).rev().chain((1..50).rev()).collect::<Vec<_>>());
}
