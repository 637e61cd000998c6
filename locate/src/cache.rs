//! Answers of DNS that still hold: pure.
//!
//! The clock is left to the caller. A failure is not an answer and is not held.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::srv::SrvRecord;
use crate::step::RecordKind;

/// An answer holds no longer than this, whatever it says itself.
pub(crate) const TTL_SECONDS_MAX: u32 = 86_400;
/// That something does not exist holds no longer than this, which RFC 2308 section 5 lets us choose:
/// whoever has just made a record is waiting for it to be found.
pub(crate) const NEGATIVE_TTL_SECONDS_MAX: u32 = 60;
/// Bytes of answers held, about; a cache that is full and in which nothing has expired starts anew.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an answer takes besides its records, about.
const ENTRY_BYTES: usize = 256;

/// What is in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Records of the type asked for.
    Records(Vec<Datum>, u32),
    /// No such name.
    NoName(Option<u32>),
    /// No such record.
    NoRecord(Option<u32>),
    /// No usable answer.
    Failed(String),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datum {
    Srv(SrvRecord),
    Address(IpAddr),
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<(String, RecordKind), (Reply, Instant)>,
    bytes: usize,
}

impl Reply {
    /// Seconds for which it may be held.
    fn holds(&self) -> u32 {
        match self {
            Reply::Records(_, ttl) => *ttl.min(&TTL_SECONDS_MAX),
            Reply::NoName(ttl) | Reply::NoRecord(ttl) => {
                ttl.unwrap_or(0).min(NEGATIVE_TTL_SECONDS_MAX)
            }
            Reply::Failed(_) => 0,
        }
    }

    fn is_absence(&self) -> bool {
        matches!(self, Reply::NoName(_) | Reply::NoRecord(_))
    }

    fn with_ttl(self, left: u32) -> Reply {
        match self {
            Reply::Records(data, _) => Reply::Records(data, left),
            Reply::NoName(_) => Reply::NoName(Some(left)),
            Reply::NoRecord(_) => Reply::NoRecord(Some(left)),
            Reply::Failed(error) => Reply::Failed(error),
        }
    }

    fn bytes(&self) -> usize {
        let Reply::Records(data, _) = self else { return ENTRY_BYTES };
        let of = |datum: &Datum| match datum {
            Datum::Srv(record) => record.target.len(),
            Datum::Address(_) => 0,
        };
        ENTRY_BYTES + data.iter().map(|datum| size_of::<Datum>() + of(datum)).sum::<usize>()
    }
}

impl Cache {
    /// What is held, with the seconds for which it still holds.
    pub(crate) fn get(&self, name: &str, kind: RecordKind, now: Instant) -> Option<Reply> {
        let (reply, until) = self.entries.get(&(name.to_owned(), kind))?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let seconds = left.as_secs_f64().ceil();
        Some(reply.clone().with_ttl(seconds as u32))
    }

    /// Holds the records of a name no longer. That there are none is held on.
    pub(crate) fn forget(&mut self, name: &str, kind: RecordKind) {
        let key = (name.to_owned(), kind);
        if matches!(self.entries.get(&key), Some((Reply::Records(..), _)))
            && let Some((reply, _)) = self.entries.remove(&key)
        {
            self.bytes -= reply.bytes();
        }
    }

    /// Holds no longer that there is nothing: for a domain and the names below it, or for any.
    pub(crate) fn forget_absent(&mut self, domain: Option<&str>) {
        let is_of = |name: &str, domain: &str| {
            let above = name.strip_suffix('.').and_then(|name| name.strip_suffix(domain));
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        };
        self.entries.retain(|(name, _), (reply, _)| {
            !reply.is_absence() || domain.is_some_and(|domain| !is_of(name, domain))
        });
        self.bytes = self.entries.values().map(|(reply, _)| reply.bytes()).sum();
    }

    /// Holds an answer.
    pub(crate) fn put(&mut self, name: &str, kind: RecordKind, reply: &Reply, now: Instant) {
        let seconds = reply.holds();
        if seconds == 0 {
            return;
        }
        let bytes = reply.bytes();
        if self.bytes + bytes > BYTES_MAX {
            self.entries.retain(|_, (_, until)| *until > now);
            self.bytes = self.entries.values().map(|(reply, _)| reply.bytes()).sum();
        }
        if self.bytes + bytes > BYTES_MAX {
            self.entries.clear();
            self.bytes = 0;
        }
        let until = now + Duration::from_secs(seconds.into());
        self.bytes += bytes;
        if let Some((old, _)) = self.entries.insert((name.to_owned(), kind), (reply.clone(), until))
        {
            self.bytes -= old.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8, ttl: u32) -> Reply {
        Reply::Records((0..count).map(|n| Datum::Address(IpAddr::from([n; 4]))).collect(), ttl)
    }

    #[test]
    fn answers_hold_for_their_ttl_and_tell_what_is_left() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        cache.put("a.", RecordKind::A, &addresses(1, 60), now);
        assert_eq!(cache.get("a.", RecordKind::A, after(20)), Some(addresses(1, 40)));
        assert_eq!(cache.get("a.", RecordKind::Aaaa, now), None);
        assert_eq!(cache.get("a.", RecordKind::A, after(60)), None);
    }

    #[test]
    fn d_5_4_5_1_5_negative_answers_hold_only_if_they_say_how_long() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put("a.", RecordKind::A, &Reply::NoName(Some(30)), now);
        assert_eq!(cache.get("a.", RecordKind::A, now), Some(Reply::NoName(Some(30))));
        cache.put("b.", RecordKind::A, &Reply::NoRecord(None), now);
        cache.put("c.", RecordKind::A, &Reply::Failed("SERVFAIL".to_owned()), now);
        assert_eq!(cache.get("b.", RecordKind::A, now), None);
        assert_eq!(cache.get("c.", RecordKind::A, now), None);
    }

    #[test]
    fn f5_that_something_does_not_exist_holds_for_a_minute_at_most() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let ceiling = Some(NEGATIVE_TTL_SECONDS_MAX);
        for says in [NEGATIVE_TTL_SECONDS_MAX + 1, 86_400, 1 << 31] {
            cache.put("a.", RecordKind::A, &Reply::NoName(Some(says)), now);
            assert_eq!(cache.get("a.", RecordKind::A, now), Some(Reply::NoName(ceiling)));
            cache.put("b.", RecordKind::A, &Reply::NoRecord(Some(says)), now);
            assert_eq!(cache.get("b.", RecordKind::A, now), Some(Reply::NoRecord(ceiling)));
        }
        assert_eq!(NEGATIVE_TTL_SECONDS_MAX, 60);
    }

    #[test]
    fn that_there_is_nothing_is_forgotten_of_one_domain_or_of_all() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let names = ["b.example.", "_im._impp.b.example.", "ab.example.", "example."];
        for name in names {
            cache.put(name, RecordKind::A, &Reply::NoName(Some(30)), now);
            cache.put(name, RecordKind::Aaaa, &addresses(1, 30), now);
        }
        cache.forget_absent(Some("b.example"));
        let held = |cache: &Cache, kind| names.map(|name| cache.get(name, kind, now).is_some());
        assert_eq!(held(&cache, RecordKind::A), [false, false, true, true]);
        cache.forget_absent(None);
        assert_eq!(held(&cache, RecordKind::A), [false; 4]);
        assert_eq!(held(&cache, RecordKind::Aaaa), [true; 4], "what there is is held on");
        assert_eq!(cache.bytes, 4 * addresses(1, 30).bytes());
    }

    #[test]
    fn f5_a_ttl_of_0_or_2_to_the_31_is_harmless() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put("a.", RecordKind::A, &addresses(1, 0), now);
        assert_eq!(cache.get("a.", RecordKind::A, now), None);
        cache.put("a.", RecordKind::A, &addresses(1, 1 << 31), now);
        let held = cache.get("a.", RecordKind::A, now);
        assert_eq!(held, Some(addresses(1, TTL_SECONDS_MAX)));
    }

    #[test]
    fn f5_what_is_held_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..20_000 {
            cache.put(&format!("{n}."), RecordKind::A, &addresses(100, 60), now);
            assert!(cache.bytes <= BYTES_MAX);
        }
        let held: usize = cache.entries.values().map(|(reply, _)| reply.bytes()).sum();
        assert_eq!(held, cache.bytes);
    }
}
