//! One battery of cases, run over every back end: what the trait promises.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;

use bytes::Bytes;
use impp_storage::*;
use kit::*;

/// Each case becomes a test over memory and one over SQLite.
macro_rules! battery {
    ($($(#[$doc:meta])* async fn $case:ident($store:ident: &dyn Store) $body:block)*) => {
        mod cases {
            use super::*;
            $($(#[$doc])* pub(crate) async fn $case($store: &dyn Store) $body)*
        }
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(&*super::memory()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                super::cases::$case(&super::open(dir.path())).await;
            })*
        }
    };
}

battery! {
    /// Items come back in order, behind a cursor, each log on its own.
    async fn logs_are_read_in_order_behind_a_cursor(store: &dyn Store) {
        let mut seqs = Vec::new();
        for n in 0..10 {
            seqs.extend(commit(store, unit(vec![append(&alice(), &n.to_string())])).await);
            commit(store, unit(vec![append(&bob(), "other")])).await;
        }
        assert!(seqs.is_sorted_by(|a, b| a < b));
        let all = page(store, &alice(), 0).await;
        assert_eq!(all.items.iter().map(|item| item.seq).collect::<Vec<_>>(), seqs);
        assert_eq!((all.oldest, all.more), (seqs[0], false));
        assert_eq!(all.items[3].time, at(1000));
        assert_eq!((all.items[3].kind, all.items[3].body.clone()), (1, None));
        let rest = page(store, &alice(), seqs[7]).await;
        assert_eq!(rest.items.iter().map(|item| item.seq).collect::<Vec<_>>(), seqs[8..]);
        assert_eq!(page(store, &alice(), seqs[9]).await.items, []);
        assert_eq!(page(store, &alice(), u64::MAX).await.items, []);
        let none = page(store, &address("nobody@a.example"), 0).await;
        assert_eq!((none.items.len(), none.oldest, none.more), (0, 1, false));
    }

    /// Whether there is more is seen in what is held, not in the numbers that were given: items at
    /// the end of a log may be gone.
    async fn there_is_more_only_where_more_is_held(store: &dyn Store) {
        let mut seqs = Vec::new();
        for n in 0..3 {
            seqs.extend(commit(store, unit(vec![append(&alice(), &n.to_string())])).await);
        }
        let of = async |after, items_max| {
            let query = ReadLog { owner: alice(), after, items_max, bytes_max: 1 << 20 };
            store.read(query).await.unwrap()
        };
        assert!(of(0, 2).await.more);
        assert!(!of(0, 3).await.more);
        assert!(of(seqs[0], 1).await.more);
        let owner = alice();
        let trim = trim(&owner, 1 << 40);
        commit(store, unit(vec![Op::Custody { owner, upto: seqs[2] }, trim])).await;
        for after in [0, seqs[1], seqs[2]] {
            let page = of(after, 10).await;
            assert_eq!((page.items.len(), page.more, page.oldest), (0, false, seqs[2] + 1));
        }
    }

    /// A page ends at its limits, but has one item whatever they are.
    async fn pages_are_bounded_but_never_empty(store: &dyn Store) {
        for n in 0..5 {
            commit(store, unit(vec![append(&alice(), &format!("{n}{}", "x".repeat(99)))])).await;
        }
        for (items_max, bytes_max, expected) in
            [(3, 1000, 3), (10, 250, 2), (10, 200, 2), (10, 1, 1), (0, 0, 1), (10, 10_000, 5)]
        {
            let query = ReadLog { owner: alice(), after: 0, items_max, bytes_max };
            assert_eq!(store.read(query).await.unwrap().items.len(), expected);
        }
    }

    /// The items that ask for the unit's body have it, the others do not.
    async fn a_body_is_shared_by_the_items_of_its_unit(store: &dyn Store) {
        let with_body = |owner| Op::Append(Append { with_body: true, ..appending(owner, "h") });
        let body = Some(Bytes::from_static(b"hello"));
        let ops = vec![with_body(&alice()), append(&alice(), "none"), with_body(&bob())];
        commit(store, Unit { body: body.clone(), ..unit(ops) }).await;
        let page_of_alice = page(store, &alice(), 0).await;
        assert_eq!(page_of_alice.items[0].body, body);
        assert_eq!(page_of_alice.items[1].body, None);
        let purge = Op::Purge { owner: alice() };
        submit(store, vec![purge]).await;
        assert_eq!(page(store, &bob(), 0).await.items[0].body, body);
    }

    /// E2: a repeat finds the first answer, for as long as the window; E3: the same id for
    /// something else is refused; outside the window nothing is taken twice.
    async fn e2_e3_repeats_are_found_within_the_window(store: &dyn Store) {
        let send = |millis, tail, digest| {
            let ops = vec![append(&alice(), "m"), append(&bob(), "copy")];
            let dedup = Some(dedup(millis, tail, digest));
            store.submit(Unit { dedup, ..unit(ops) })
        };
        let Outcome::Committed { seqs, .. } = send(5000, 1, 1).await.unwrap() else { panic!() };
        assert_eq!(send(5000, 1, 1).await, Ok(Outcome::Duplicate { seqs: seqs.clone() }));
        assert_eq!(send(5000, 1, 2).await, Ok(Outcome::Rejected(Rejection::DedupConflict)));
        assert_eq!(heads(store, &alice()).await, ["m"]);
        // Queued together: the second finds the first before it is committed.
        let (first, second) = (send(5001, 2, 1), send(5001, 2, 1));
        let Outcome::Committed { seqs: both, .. } = first.await.unwrap() else { panic!() };
        assert_eq!(second.await, Ok(Outcome::Duplicate { seqs: both }));
        // Another sender's same id is another key.
        let mut other = dedup(5000, 1, 9);
        other.from = alice();
        let ops = vec![append(&alice(), "other")];
        commit(store, Unit { dedup: Some(other), ..unit(ops) }).await;

        submit(store, vec![Op::ExpireDedup { before: at(5001) }]).await;
        let out = Ok(Outcome::Rejected(Rejection::OutOfWindow));
        assert_eq!(send(5000, 1, 1).await, out);
        assert_eq!(send(5000, 3, 1).await, out);
        assert!(matches!(send(5001, 2, 1).await, Ok(Outcome::Duplicate { .. })));
        // The floor never sinks.
        submit(store, vec![Op::ExpireDedup { before: at(10) }]).await;
        assert_eq!(send(5000, 3, 1).await, out);
        assert_eq!(heads(store, &alice()).await, ["m", "m", "other"]);
    }

    /// G12: what a clock that runs ahead has swept makes what is as old or older unknown, and nothing
    /// that is newer: the floor rises as far as there was something, and no further.
    async fn g12_the_floor_stands_behind_what_was_swept(store: &dyn Store) {
        let send = |millis, tail| {
            let dedup = Some(dedup(millis, tail, 1));
            store.submit(Unit { dedup, ..unit(vec![append(&alice(), "m")]) })
        };
        let taken = |answer| matches!(answer, Ok(Outcome::Committed { .. }));
        submit(store, vec![Op::ExpireDedup { before: at(1 << 40) }]).await;
        for millis in [5000, 7000, 9000] {
            assert!(taken(send(millis, 1).await), "nothing was swept");
        }
        submit(store, vec![Op::ExpireDedup { before: at(8000) }]).await;
        let out = Ok(Outcome::Rejected(Rejection::OutOfWindow));
        for (millis, tail) in [(5000, 1), (7000, 1), (7000, 2), (6999, 2), (1, 1)] {
            assert_eq!(send(millis, tail).await, out, "{millis}");
        }
        assert!(taken(send(7001, 1).await));
        for millis in [7001, 9000] {
            assert!(matches!(send(millis, 1).await, Ok(Outcome::Duplicate { .. })));
        }
    }

    /// A unit that only holds a message back, in a record, is not doubled either.
    async fn a_unit_without_appends_is_deduplicated(store: &dyn Store) {
        let hold = || {
            let ops = vec![put("held", Expect::Any, "v")];
            store.submit(Unit { dedup: Some(dedup(1, 1, 1)), ..unit(ops) })
        };
        assert!(matches!(hold().await, Ok(Outcome::Committed { .. })));
        assert_eq!(hold().await, Ok(Outcome::Duplicate { seqs: vec![] }));
        let empty = || store.submit(Unit { dedup: Some(dedup(1, 2, 1)), ..unit(vec![]) });
        assert!(matches!(empty().await, Ok(Outcome::Committed { .. })));
        assert_eq!(empty().await, Ok(Outcome::Duplicate { seqs: vec![] }));
    }

    /// A record changes only from the version that the caller knows.
    async fn records_change_by_compare_and_swap(store: &dyn Store) {
        let conflict = |version| Outcome::Rejected(Rejection::Conflict { op: 0, version });
        let first = versions(store, vec![put("k", Expect::Absent, "1")]).await[0];
        let refused = submit(store, vec![put("k", Expect::Absent, "2")]).await;
        assert_eq!(refused, conflict(Some(first)));
        let second = versions(store, vec![put("k", Expect::Version(first), "2")]).await[0];
        assert!(second > first);
        let refused = submit(store, vec![put("k", Expect::Version(first), "3")]).await;
        assert_eq!(refused, conflict(Some(second)));
        let found = store.get(key("k")).await.unwrap();
        assert_eq!(found, Some(Record { value: Bytes::from_static(b"2"), version: second }));
        assert_eq!(
            submit(store, vec![delete("k", Expect::Version(first))]).await,
            conflict(Some(second))
        );
        let refused = submit(store, vec![delete("other", Expect::Version(first))]).await;
        assert_eq!(refused, conflict(None));
    }

    /// Who changes a record that it knows learns nothing of what else was written.
    async fn d6_a_version_counts_the_changes_of_its_own_record(store: &dyn Store) {
        let first = versions(store, vec![put("k", Expect::Absent, "1")]).await[0];
        versions(store, vec![put("x", Expect::Any, "1"), put("y", Expect::Any, "1")]).await;
        let second = versions(store, vec![put("k", Expect::Version(first), "2")]).await[0];
        assert_eq!(second, first + 1);
        submit(store, vec![delete("k", Expect::Version(second))]).await;
        let anew = versions(store, vec![put("k", Expect::Absent, "1")]).await[0];
        assert!(anew > second, "{anew}");
    }

    /// A version of a record that is gone never fits the one that came after.
    async fn a_record_made_again_has_a_new_version(store: &dyn Store) {
        let old = versions(store, vec![put("k", Expect::Absent, "1")]).await[0];
        submit(store, vec![delete("k", Expect::Version(old))]).await;
        assert_eq!(store.get(key("k")).await.unwrap(), None);
        let new = versions(store, vec![put("k", Expect::Absent, "1")]).await[0];
        assert_ne!(old, new);
        assert!(matches!(
            submit(store, vec![put("k", Expect::Version(old), "2")]).await,
            Outcome::Rejected(Rejection::Conflict { op: 0, version: Some(_) })
        ));
        // A unit sees its own puts.
        let ops = vec![
            delete("k", Expect::Any),
            put("k", Expect::Absent, "3"),
            put("k", Expect::Absent, "4"),
        ];
        assert!(matches!(
            submit(store, ops).await,
            Outcome::Rejected(Rejection::Conflict { op: 2, version: Some(_) })
        ));
        assert_eq!(store.get(key("k")).await.unwrap().unwrap().version, new);
    }

    /// A scan stays in its domain, table and prefix, and goes on where it ended.
    async fn scans_are_ordered_and_bounded(store: &dyn Store) {
        for text in ["b/2", "a/1", "b/1", "b/10", "b", "c", "b/\u{ff}", ""] {
            submit(store, vec![put(text, Expect::Any, text)]).await;
        }
        let mut elsewhere = key("b/0");
        elsewhere.table = Table(8);
        let value = Some(Bytes::from_static(b"x"));
        submit(store, vec![Op::Put { key: elsewhere.clone(), expect: Expect::Any, value }]).await;
        let scan = async |prefix: &[u8], after: Option<&[u8]>, max| {
            let (domain, table) = (alice().domain(), RECORDS);
            let after = after.map(<[u8]>::to_vec);
            let range = Scan { domain, table, prefix: prefix.to_vec(), after, max };
            let found = store.scan(range).await.unwrap();
            let keys = found.into_iter().map(|(key, record)| {
                assert_eq!(key, record.value);
                String::from_utf8(key).unwrap()
            });
            keys.collect::<Vec<_>>()
        };
        assert_eq!(scan(b"b/", None, 10).await, ["b/1", "b/10", "b/2", "b/\u{ff}"]);
        assert_eq!(scan(b"b/", None, 2).await, ["b/1", "b/10"]);
        assert_eq!(scan(b"b/", Some(b"b/10"), 2).await, ["b/2", "b/\u{ff}"]);
        assert_eq!(scan(b"b/", Some(b"a"), 1).await, ["b/1"]);
        assert_eq!(scan(b"b/", Some(b"c"), 1).await, [""; 0]);
        assert_eq!(scan(b"\xff", None, 1).await, [""; 0]);
        assert_eq!(scan(b"", Some(b""), 2).await, ["a/1", "b"]);
        assert_eq!(scan(b"", None, 100).await.len(), 8);
        assert_eq!(scan(b"", None, 0).await, [""; 0]);
        elsewhere.domain = address("x@b.example").domain();
        assert_eq!(store.get(elsewhere).await.unwrap(), None);
    }

    /// E7: a full inbox refuses before it answers, keeps what it has, and takes again what
    /// fits once a device has acknowledged.
    async fn e7_a_full_log_refuses_until_custody_moves(store: &dyn Store) {
        let limited = |items, bytes| {
            let limit = Some(Limit { items, bytes });
            Op::Append(Append { limit, ..appending(&alice(), "12345") })
        };
        let full = Outcome::Rejected(Rejection::Full { op: 0 });
        let first = commit(store, unit(vec![limited(2, 100)])).await[0];
        let second = commit(store, unit(vec![limited(2, 100)])).await[0];
        assert_eq!(submit(store, vec![limited(2, 100)]).await, full);
        assert_eq!(submit(store, vec![limited(9, 14)]).await, full);
        assert_eq!(page(store, &alice(), 0).await.items.len(), 2);
        // What only asks whether one more would fit is told the same, and leaves nothing.
        let fits = |items| Op::Fits { owner: alice(), limit: Limit { items, bytes: 100 } };
        assert_eq!(submit(store, vec![fits(2)]).await, full);
        assert!(commit(store, unit(vec![fits(3)])).await.is_empty());
        // Others, and items that do not count, are not affected.
        commit(store, unit(vec![append(&bob(), "x")])).await;
        let free = Append { counted: false, limit: Some(Limit { items: 0, bytes: 0 }),
            ..appending(&alice(), "fate") };
        commit(store, unit(vec![Op::Append(free)])).await;
        let counted = state(store, &alice()).await;
        assert_eq!((counted.unacked_items, counted.unacked_bytes), (2, 10));

        submit(store, vec![custody(&alice(), first)]).await;
        let counted = state(store, &alice()).await;
        assert_eq!((counted.unacked_items, counted.unacked_bytes), (1, 5));
        commit(store, unit(vec![limited(9, 10)])).await;
        assert_eq!(submit(store, vec![limited(2, 100)]).await, full);
        // In one unit: what custody frees can be used at once.
        commit(store, unit(vec![custody(&alice(), second), limited(2, 10)])).await;
        submit(store, vec![custody_of_all(store, &alice()).await]).await;
        let counted = state(store, &alice()).await;
        assert_eq!((counted.unacked_items, counted.unacked_bytes), (0, 0));
        assert_eq!(page(store, &alice(), 0).await.items.len(), 5);
    }

    /// A unit's own appends count for its later ones.
    async fn a_unit_cannot_pass_a_limit_by_many_appends(store: &dyn Store) {
        let limited = || {
            let limit = Some(Limit { items: 2, bytes: 100 });
            Op::Append(Append { limit, ..appending(&alice(), "x") })
        };
        let outcome = submit(store, vec![limited(), limited(), limited()]).await;
        assert_eq!(outcome, Outcome::Rejected(Rejection::Full { op: 2 }));
        assert_eq!(page(store, &alice(), 0).await.items, []);
    }

    /// E5: an acknowledgement of more than there is, or of less than before, changes nothing
    /// that was not delivered.
    async fn e5_custody_of_more_than_there_is_is_refused_and_none_goes_back(store: &dyn Store) {
        let beyond = Outcome::Rejected(Rejection::Beyond { op: 0 });
        assert_eq!(submit(store, vec![custody(&alice(), 7)]).await, beyond);
        assert_eq!(state(store, &alice()).await.custody, 0);
        let seqs = commit(store, unit((0..4).map(|_| append(&alice(), "x")).collect())).await;
        submit(store, vec![custody(&alice(), seqs[2])]).await;
        for upto in [0, seqs[0], seqs[2], seqs[3] + 1, 1 << 63] {
            let outcome = submit(store, vec![custody(&alice(), upto)]).await;
            assert_eq!(outcome == beyond, upto > seqs[3], "{upto}");
            let log = state(store, &alice()).await;
            assert_eq!((log.custody, log.unacked_items), (seqs[2], 1), "after {upto}");
        }
        let later = commit(store, unit(vec![append(&alice(), "y")])).await[0];
        let log = state(store, &alice()).await;
        assert_eq!((log.custody, log.last, log.unacked_items), (seqs[2], later, 2));
    }

    /// Only what a device has, and what is old enough, goes; seqs are not given again.
    async fn trim_takes_what_is_in_custody_and_old(store: &dyn Store) {
        let mut seqs = Vec::new();
        for n in 0..6 {
            let time = at(1000 + n * 100);
            seqs.extend(commit(store, Unit { time, ..unit(vec![append(&alice(), "x")]) }).await);
        }
        let left = async || {
            let page = page(store, &alice(), 0).await;
            (page.items.len(), page.oldest)
        };
        submit(store, vec![trim(&alice(), 9999)]).await;
        assert_eq!(left().await, (6, seqs[0]), "nothing is in custody");
        submit(store, vec![custody(&alice(), seqs[3]), trim(&alice(), 1200)]).await;
        assert_eq!(left().await, (4, seqs[2]), "older than, not as old as");
        submit(store, vec![trim(&alice(), 9999)]).await;
        assert_eq!(left().await, (2, seqs[4]));
        submit(store, vec![custody(&alice(), seqs[5]), trim(&alice(), 9999)]).await;
        assert_eq!(left().await, (0, seqs[5] + 1));
        assert_eq!(state(store, &alice()).await.last, seqs[5]);
        let next = commit(store, unit(vec![append(&alice(), "x")])).await[0];
        assert!(next > seqs[5]);
        submit(store, vec![trim(&bob(), 9999)]).await;
    }

    /// Beyond its quota a log loses what its owner may lose, the oldest first, and what is in custody
    /// before all else; never what was received and no device has taken. Where something is missing
    /// between what is held, that is told.
    async fn a_quota_takes_what_may_be_lost_and_nothing_else(store: &dyn Store) {
        for n in 0..3 {
            commit(store, unit(vec![append(&alice(), &format!("in{n}"))])).await;
            let copy = copy(&alice(), &format!("out{n}"));
            commit(store, unit(vec![copy, keep(&alice(), 2)])).await;
        }
        let quota = async || commit(store, unit(vec![keep(&alice(), 2)])).await;
        let held = page(store, &alice(), 0).await;
        assert_eq!(heads(store, &alice()).await, ["in0", "in1", "out1", "in2", "out2"]);
        assert_eq!(held.oldest, held.items[0].seq + 2, "behind the one that is gone");
        assert_eq!(state(store, &alice()).await.oldest, held.oldest);
        // What a device has taken may be lost, and goes first.
        submit(store, vec![custody(&alice(), held.items[1].seq)]).await;
        quota().await;
        assert_eq!(heads(store, &alice()).await, ["out1", "in2", "out2"]);
        assert_eq!(state(store, &alice()).await.unacked_items, 1);
        commit(store, unit(vec![append(&alice(), "in3"), keep(&alice(), 0)])).await;
        assert_eq!(heads(store, &alice()).await, ["in2", "in3"]);
        let last = state(store, &alice()).await.last;
        submit(store, vec![custody(&alice(), last), keep(&alice(), 1)]).await;
        assert_eq!(heads(store, &alice()).await, ["in3"]);
        submit(store, vec![keep(&alice(), 0), keep(&bob(), 0)]).await;
        assert_eq!(page(store, &alice(), 0).await.items, []);
    }

    /// Bodies count, also those that another log has too.
    async fn a_quota_counts_bytes(store: &dyn Store) {
        let most = Limit { bytes: 250, ..Limit::NONE };
        for n in 0..5 {
            let copy = |owner| Append { with_body: true, counted: false, ..appending(&owner, "x") };
            let trim = Op::Trim { owner: alice(), before: at(0), most };
            let ops = vec![trim, Op::Append(copy(alice())), Op::Append(copy(bob()))];
            let body = Some(Bytes::from(vec![n; 99]));
            commit(store, Unit { body, ..unit(ops) }).await;
        }
        assert_eq!(page(store, &alice(), 0).await.items.len(), 3);
        assert_eq!(page(store, &bob(), 0).await.items.len(), 5);
        let bodies = page(store, &alice(), 0).await.items.into_iter().map(|item| item.body);
        assert!(bodies.flatten().map(|body| body[0]).eq(2..5));
    }

    /// So many ids of a sender are known at once, and room comes back as they are forgotten; repeats
    /// are told as such all the same, and another sender has its own.
    async fn the_ids_of_a_sender_are_bounded(store: &dyn Store) {
        let send = async |from: &impp_protocol::Address, n: u64| {
            let dedup = Some(Dedup { from: from.clone(), ..dedup(1000 + n, n, 1) });
            let sent = Unit { dedup, dedup_max: Some(3), ..unit(vec![append(&alice(), "x")]) };
            store.submit(sent).await.unwrap()
        };
        let full = Outcome::Rejected(Rejection::DedupFull);
        for n in 0..3 {
            assert!(matches!(send(&bob(), n).await, Outcome::Committed { .. }));
        }
        assert_eq!(send(&bob(), 3).await, full);
        assert!(matches!(send(&bob(), 2).await, Outcome::Duplicate { .. }));
        assert!(matches!(send(&alice(), 3).await, Outcome::Committed { .. }));
        assert_eq!(page(store, &alice(), 0).await.items.len(), 4);
        commit(store, unit(vec![Op::ExpireDedup { before: at(1002) }])).await;
        // Room comes back with the sweep, which a commit brings along.
        for n in 4..6 {
            commit(store, unit(vec![])).await;
            assert!(matches!(send(&bob(), n).await, Outcome::Committed { .. }), "{n}");
        }
        assert_eq!(send(&bob(), 6).await, full);
    }

    /// Trimming takes a bounded slice at a time.
    async fn trim_works_in_slices(store: &dyn Store) {
        for _ in 0..2 {
            commit(store, unit((0..200).map(|_| append(&alice(), "x")).collect())).await;
        }
        submit(store, vec![custody_of_all(store, &alice()).await, trim(&alice(), 9999)]).await;
        assert_eq!(page(store, &alice(), 0).await.items.len(), 400 - TRIM_ITEMS_MAX);
        submit(store, vec![trim(&alice(), 9999)]).await;
        assert_eq!(page(store, &alice(), 0).await.items, []);
    }

    /// A purged log is empty at once, and what comes after is behind every old cursor.
    async fn purge_empties_a_log_but_keeps_its_place(store: &dyn Store) {
        for _ in 0..3 {
            commit(store, unit((0..200).map(|_| append(&alice(), "x")).collect())).await;
        }
        commit(store, unit(vec![append(&bob(), "mine")])).await;
        let before = state(store, &alice()).await;
        submit(store, vec![Op::Purge { owner: alice() }]).await;
        let after = state(store, &alice()).await;
        let expected = LogState {
            last: before.last,
            oldest: before.last + 1,
            custody: before.last,
            unacked_items: 0,
            unacked_bytes: 0,
        };
        assert_eq!(after, expected);
        let ops = vec![append(&alice(), "new"), Op::Purge { owner: alice() },
            append(&alice(), "newer"), Op::Purge { owner: address("nobody@a.example") }];
        let seqs = commit(store, unit(ops)).await;
        assert_eq!(heads(store, &alice()).await, ["newer"]);
        assert_eq!(state(store, &alice()).await.oldest, seqs[1]);
        assert_eq!(heads(store, &bob()).await, ["mine"]);
    }

    /// An old owner of a log cannot write after a newer one has, not even after a purge.
    async fn an_old_writer_is_fenced_off(store: &dyn Store) {
        let fenced = |fence| Op::Append(Append { fence, ..appending(&alice(), "x") });
        commit(store, unit(vec![fenced(3)])).await;
        commit(store, unit(vec![fenced(3), fenced(u64::MAX - 1)])).await;
        let refused = |op| Outcome::Rejected(Rejection::Fenced { op });
        assert_eq!(submit(store, vec![fenced(3)]).await, refused(0));
        assert_eq!(submit(store, vec![fenced(u64::MAX), fenced(3)]).await, refused(1));
        submit(store, vec![Op::Purge { owner: alice() }]).await;
        assert_eq!(submit(store, vec![fenced(3)]).await, refused(0));
        commit(store, unit(vec![fenced(u64::MAX - 1)])).await;
    }

    /// A refused unit leaves nothing; those beside it are as if it had not been.
    async fn a_unit_is_whole_or_not_at_all(store: &dyn Store) {
        let good = |n: u64| {
            unit(vec![append(&alice(), "good"), put("k", Expect::Any, &n.to_string())])
        };
        let bad = || Unit {
            dedup: Some(dedup(1, 1, 1)),
            body: Some(Bytes::from_static(b"body")),
            ..unit(vec![
                Op::Append(Append { with_body: true, ..appending(&alice(), "bad") }),
                put("k", Expect::Any, "bad"),
                custody(&bob(), 1),
                Op::Purge { owner: bob() },
                Op::ExpireDedup { before: at(9999) },
                put("k", Expect::Absent, "bad"),
            ])
        };
        commit(store, unit(vec![append(&bob(), "bob's")])).await;
        let answers = [store.submit(good(1)), store.submit(bad()), store.submit(good(2)),
            store.submit(bad()), store.submit(good(3))];
        let mut seqs = Vec::new();
        for (n, answer) in answers.into_iter().enumerate() {
            match answer.await.unwrap() {
                Outcome::Committed { seqs: one, .. } => seqs.extend(one),
                Outcome::Rejected(Rejection::Conflict { op: 5, version: Some(_) }) => {
                    assert_eq!(n % 2, 1);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seqs.len(), 3);
        assert_eq!(seqs[2], seqs[0] + 2, "a refused unit takes no seq");
        assert_eq!(heads(store, &alice()).await, ["good"; 3]);
        assert_eq!(heads(store, &bob()).await, ["bob's"]);
        assert_eq!(state(store, &bob()).await.unacked_items, 1);
        assert_eq!(store.get(key("k")).await.unwrap().unwrap().value, "3");
        // Neither its de-duplication key nor its floor stayed.
        let again = Unit { dedup: Some(dedup(1, 1, 2)), ..unit(vec![]) };
        assert!(matches!(store.submit(again).await, Ok(Outcome::Committed { .. })));
    }

    /// Units take effect in the order of submission, however many are on their way.
    async fn order_is_that_of_submission(store: &dyn Store) {
        let answers: Vec<_> =
            (0..500).map(|n| store.submit(unit(vec![append(&alice(), &n.to_string())]))).collect();
        let mut last = 0;
        for answer in answers {
            let Outcome::Committed { seqs, .. } = answer.await.unwrap() else { panic!() };
            assert!(seqs[0] > last);
            last = seqs[0];
        }
        let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        assert_eq!(heads(store, &alice()).await, expected);
        assert_eq!(store.stats().units, 500);
    }

    /// What breaks a named limit is refused with the limit, before anything is done.
    async fn limits_are_said(store: &dyn Store) {
        let too_large = async |unit| match store.submit(unit).await {
            Err(StoreError::TooLarge { what, max, .. }) => (what, max),
            other => panic!("{other:?}"),
        };
        let zeros = |n| Bytes::from(vec![0; n]);
        let head = zeros(HEAD_BYTES_MAX + 1);
        let op = Op::Append(Append { head, ..appending(&alice(), "") });
        assert_eq!(too_large(unit(vec![op])).await, ("head", HEAD_BYTES_MAX));
        let body = Some(zeros(BODY_BYTES_MAX + 1));
        let big = Unit { body, ..unit(vec![]) };
        assert_eq!(too_large(big).await, ("body", BODY_BYTES_MAX));
        let many = unit(vec![append(&alice(), ""); UNIT_OPS_MAX + 1]);
        assert_eq!(too_large(many).await, ("unit's operations", UNIT_OPS_MAX));
        let long = put(&"k".repeat(KEY_BYTES_MAX + 1), Expect::Any, "");
        assert_eq!(too_large(unit(vec![long])).await, ("key", KEY_BYTES_MAX));
        let value = Some(zeros(VALUE_BYTES_MAX));
        let op = Op::Put { key: key("k"), expect: Expect::Any, value };
        assert_eq!(too_large(unit(vec![op; 5])).await, ("unit", UNIT_BYTES_MAX));
        let op = Op::Append(Append { with_body: true, ..appending(&alice(), "") });
        let missing = store.submit(unit(vec![op])).await;
        assert!(matches!(missing, Err(StoreError::BadUnit(_))));
        assert_eq!(heads(store, &alice()).await, [""; 0]);
    }

    /// What was queued before is answered; what comes after is told that it is too late.
    async fn close_drains_and_then_refuses(store: &dyn Store) {
        let answers: Vec<_> =
            (0..100).map(|_| store.submit(unit(vec![append(&alice(), "x")]))).collect();
        store.close().await.unwrap();
        for answer in answers {
            assert!(matches!(answer.await, Ok(Outcome::Committed { .. })));
        }
        assert_eq!(store.submit(unit(vec![])).await, Err(StoreError::Stopped));
        assert_eq!(store.get(key("k")).await, Err(StoreError::Stopped));
        assert_eq!(store.log_state(alice()).await, Err(StoreError::Stopped));
        assert_eq!(store.close().await, Err(StoreError::Stopped));
    }
}
