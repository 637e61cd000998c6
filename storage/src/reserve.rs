//! What may still be written on a full disk, from a reserve that was kept for that: what needs no more
//! room than there was, and what takes something back, in bounds for each account.
//!
//! One pure place for what a unit grows by and who pays for it; files are left to `sqlite/room.rs`.

use std::collections::HashMap;

use bytes::Bytes;
use impp_protocol::Address;

use crate::RecordKey;
use crate::plan::{Facts, Kept};
use crate::unit::{Op, Unit};

/// Whose part of the reserve a unit may use when the disk is full. Whoever makes a unit says so, as
/// it knows what the unit is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Payer {
    /// Nobody's: it needs no more room than what it replaces and deletes had, or it is refused.
    #[default]
    Nobody,
    /// That of an account, which takes something back.
    Account(Address),
    /// That of the operator and of the server's own notes, which no account can use up.
    Operator,
}

/// What accounts have used of the reserve since the disk was full.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    used: HashMap<Address, u64>,
    all: u64,
    all_max: u64,
    each_max: u64,
}

impl Ledger {
    /// With a reserve of so many bytes.
    pub(crate) fn of(reserve_bytes: u64) -> Ledger {
        let all_max = reserve_bytes / ACCOUNTS_SHARE;
        let each_max = (all_max / ACCOUNTS_MIN).min(ACCOUNT_BYTES_MAX);
        Ledger { used: HashMap::new(), all: 0, all_max, each_max }
    }

    /// Takes it from the payer's part, or gives back to it what shrinks; `false`, and nothing is
    /// taken, if there is not enough left.
    pub(crate) fn admits(&mut self, payer: &Payer, growth: i64) -> bool {
        let Payer::Account(account) = payer else {
            return growth <= 0 || *payer == Payer::Operator;
        };
        let before = self.used.get(account).copied().unwrap_or_default();
        // Not below nothing: who had much before the disk was full has no larger part for it.
        let after = before.saturating_add_signed(growth);
        let all = self.all - before + after;
        if growth > 0 && (after > self.each_max || all > self.all_max) {
            return false;
        }
        self.all = all;
        match after {
            0 => self.used.remove(account),
            after => self.used.insert(account.clone(), after),
        };
        true
    }

    /// There is room again: what was used counts no more.
    pub(crate) fn give_back(&mut self) {
        (self.used, self.all) = (HashMap::new(), 0);
    }
}

/// How many bytes more a store has after a unit than before, about. What is purged, trimmed or
/// forgotten gives its room back later, and counts for nothing here.
pub(crate) fn growth<F: Facts>(unit: &Unit, facts: &mut F) -> Result<i64, F::Error> {
    let row = |bytes: usize| (bytes as u64).saturating_add(ROW_BYTES).cast_signed();
    let body = unit.body.as_ref().map_or(0, Bytes::len);
    let (mut growth, mut stored) = (0, false);
    let mut written: Vec<(&RecordKey, i64)> = Vec::new();
    for op in &unit.ops {
        match op {
            Op::Append(append) => {
                growth += row(append.head.len());
                stored |= append.with_body;
            }
            Op::Put { key, value, .. } => {
                let after = value.as_ref().map_or(0, |value| row(key.key.len() + value.len()));
                // The unit's own earlier writes come before what is stored.
                let before = match written.iter_mut().find(|(other, _)| *other == key) {
                    Some((_, bytes)) => std::mem::replace(bytes, after),
                    None => {
                        written.push((key, after));
                        let stored = facts.length(key)?;
                        stored.map_or(0, |length| row(key.key.len().saturating_add(length)))
                    }
                };
                growth += after - before;
            }
            // A mark stays; and so does a body that is another's too.
            Op::Erase { owner, seq, .. } => {
                let log = facts.log(owner)?.id;
                let freed = |item: Kept| item.bytes.saturating_sub(item.shared).cast_signed();
                growth -= facts.at(log, *seq)?.map_or(0, freed);
            }
            Op::Fits { .. }
            | Op::Custody { .. }
            | Op::Trim { .. }
            | Op::Purge { .. }
            | Op::ExpireDedup { .. } => {}
        }
    }
    let repeats = unit.dedup.as_ref().map_or(0, |_| row(0));
    Ok(growth + repeats + if stored { body as i64 } else { 0 })
}

/// Of the reserve, accounts together may use one part in so many; the rest is for the write-ahead log
/// on its way into the database, and for the operator.
pub(crate) const ACCOUNTS_SHARE: u64 = 4;
/// Most bytes of it that one account may use: a hundred denials.
const ACCOUNT_BYTES_MAX: u64 = 16 * 1024;
/// And no more than one part in so many of what all may use.
const ACCOUNTS_MIN: u64 = 16;
/// What a row weighs beside its contents.
const ROW_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use impp_protocol::Timestamp;

    use super::*;
    use crate::plan::{LogRow, Seen, Usage};
    use crate::unit::{Append, Dedup, Expect};
    use crate::{Op, Table};

    /// Records by their keys.
    struct Stored(Vec<(&'static str, usize)>);

    impl Facts for Stored {
        type Error = std::convert::Infallible;

        fn log(&mut self, _: &Address) -> Result<LogRow, Self::Error> {
            Ok(LogRow::default())
        }

        fn version(&mut self, _: &RecordKey) -> Result<Option<u64>, Self::Error> {
            Ok(None)
        }

        fn length(&mut self, key: &RecordKey) -> Result<Option<usize>, Self::Error> {
            let found = self.0.iter().find(|(known, _)| known.as_bytes() == key.key);
            Ok(found.map(|(_, length)| *length))
        }

        fn seen(&mut self, _: &Dedup) -> Result<Option<Seen>, Self::Error> {
            Ok(None)
        }

        fn counted(&mut self, _: u64, _: u64, _: u64) -> Result<Usage, Self::Error> {
            Ok(Usage::default())
        }

        fn at(&mut self, _: u64, seq: u64) -> Result<Option<Kept>, Self::Error> {
            let time = Timestamp::from_millis(0);
            // That of 2 has a body that is another's too.
            let shared = if seq == 2 { 880 } else { 0 };
            Ok(Some(Kept { seq, kind: 1, time, bytes: 900, shared, counts: None, body: None }))
        }

        fn known(&mut self, _: &Address) -> Result<u64, Self::Error> {
            Ok(0)
        }

        fn losable(
            &mut self,
            _: u64,
            _: u64,
            _: u64,
            _: &mut dyn FnMut(Kept) -> bool,
        ) -> Result<(), Self::Error> {
            Ok(())
        }

        fn first_but(&mut self, _: u64, _: &[u64]) -> Result<Option<u64>, Self::Error> {
            Ok(None)
        }

        fn newest_seen(&mut self, _: Timestamp) -> Result<Option<Timestamp>, Self::Error> {
            Ok(None)
        }
    }

    fn alice() -> Address {
        Address::parse("alice@a.example").unwrap()
    }

    fn put(key: &str, bytes: Option<usize>) -> Op {
        let key = RecordKey { domain: alice().domain(), table: Table(1), key: key.into() };
        Op::Put { key, expect: Expect::Any, value: bytes.map(|bytes| vec![0; bytes].into()) }
    }

    fn append(with_body: bool) -> Op {
        let (fence, kind, head, counted, limit) = (0, 1, Bytes::new(), true, None);
        Op::Append(Append { owner: alice(), fence, kind, head, with_body, counted, limit })
    }

    fn grows(body: Option<usize>, ops: Vec<Op>) -> i64 {
        let mut stored = Stored(vec![("kept", 100), ("held", 500)]);
        let body = body.map(|bytes| vec![0; bytes].into());
        let unit = Unit { body, ..Unit::of(Timestamp::from_millis(1), ops) };
        growth(&unit, &mut stored).unwrap()
    }

    #[test]
    fn g8_what_replaces_as_much_as_it_writes_does_not_grow() {
        assert_eq!(grows(None, vec![put("kept", Some(100))]), 0);
        assert!(grows(None, vec![put("kept", Some(101))]) > 0);
        assert!(grows(None, vec![put("kept", None)]) < 0);
        assert!(grows(None, vec![put("new", Some(1))]) > 0);
        assert_eq!(grows(None, vec![put("absent", None)]), 0);
        // Held, and then in the inbox: the record goes, its bytes become a body.
        assert!(grows(Some(500), vec![put("held", None), append(true)]) <= 0);
        assert!(grows(Some(500), vec![append(true)]) > 500);
        let erase = |seq| Op::Erase { owner: alice(), seq, mark: 9 };
        assert!(grows(None, vec![erase(1), append(false)]) < 0);
        assert!(grows(None, vec![erase(2)]) < 0);
        assert!(grows(None, vec![erase(2), append(false)]) > 0, "the body stays with the other");
        // A unit sees its own writes: what it deletes is not there a second time.
        let twice = vec![put("kept", None), put("kept", Some(200)), put("kept", Some(300))];
        assert_eq!(grows(None, twice), 200);
    }

    #[test]
    fn g8_nobody_uses_up_the_part_of_another() {
        let account =
            |n: usize| Payer::Account(Address::parse(&format!("u{n}@a.example")).unwrap());
        let mut ledger = Ledger::of(1024 * 1024);
        let each = 1024 * 1024 / 4 / 16;
        assert!(ledger.admits(&account(0), each));
        assert!(!ledger.admits(&account(0), 1), "its part is used up");
        assert!(ledger.admits(&account(1), 1), "and no other's");
        assert!(ledger.admits(&account(0), -10) && ledger.admits(&account(0), 10));
        assert!(!ledger.admits(&account(0), 1));
        assert!(ledger.admits(&account(2), -1000), "what frees room is always taken,");
        assert!(!ledger.admits(&account(2), each + 1), "and makes nobody's part larger");
        assert!((2..17).filter(|n| ledger.admits(&account(*n), each)).count() == 14);
        assert!(!ledger.admits(&account(17), each), "all of them together have a bound");
        assert!(ledger.admits(&Payer::Operator, each), "but the operator");
        assert!(!ledger.admits(&Payer::Nobody, 1) && ledger.admits(&Payer::Nobody, 0));
        ledger.give_back();
        assert!(ledger.admits(&account(0), each));
    }
}
