//! What one of many may still ask for: how much work, and how many bytes on the disk, each a bucket
//! that fills with time. A pure machine; whose it is, and what something costs, is left to the caller.

use std::time::Duration;

use impp_protocol::Timestamp;

/// How fast a bucket fills, and how much is in a full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// So much a second.
    pub per_second: u64,
    /// So much at once after a rest.
    pub burst: u64,
}

/// What something costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Work: that of a plain request is 1.
    pub work: u64,
    /// Bytes that are stored, with what a row weighs beside them.
    pub stored: u64,
}

/// What holds for a budget now; a reload changes it under way.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of work.
    pub work: Flow,
    /// Of bytes stored.
    pub stored: Flow,
}

impl Terms {
    /// One part in so many of each, unless that is too little to be of use.
    pub fn part(self, of: u64) -> Terms {
        let part = |flow: Flow, least: u64| Flow {
            per_second: (flow.per_second / of).max(1),
            burst: (flow.burst / of).max(least).min(flow.burst),
        };
        let (work, stored) = (part(self.work, WORK_MIN), part(self.stored, STORED_MIN));
        Terms { work, stored }
    }
}

/// What there is not enough of, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Work.
    Work(Duration),
    /// Bytes to store.
    Stored(Duration),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    work: Bucket,
    stored: Bucket,
}

/// What was spent and has not come back, in thousandths: so a new one is full whatever its flow is.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    spent: u64,
    at: Timestamp,
}

impl Budget {
    /// Takes all that something costs, or nothing: what there is has to suffice for a beginning, and
    /// the rest is owed. So what is dear has its turn as what is cheap does, where others of the same
    /// owner take whatever comes back.
    ///
    /// # Errors
    /// What there is not enough of.
    pub fn take(&mut self, now: Timestamp, terms: Terms, cost: Cost) -> Result<(), Lacks> {
        let work = self.work.after(now, terms.work, cost.work).map_err(Lacks::Work)?;
        let stored = self.stored.after(now, terms.stored, cost.stored).map_err(Lacks::Stored)?;
        (self.work, self.stored) = (work, stored);
        Ok(())
    }

    /// Takes it whatever there is: it is known only afterwards what something has cost, or it has come
    /// already. For how long more is owed than a full one has: what comes next waits so long. No more
    /// is owed than a full one has once more.
    pub fn owe(&mut self, now: Timestamp, terms: Terms, cost: Cost) -> Duration {
        self.work = self.work.filled(now, terms.work).owing(terms.work, cost.work);
        self.stored = self.stored.filled(now, terms.stored).owing(terms.stored, cost.stored);
        self.work.over(terms.work).max(self.stored.over(terms.stored))
    }

    /// Whether nothing is spent: it is as good as a new one.
    pub fn is_full(&self, now: Timestamp, terms: Terms) -> bool {
        let buckets = [(self.work, terms.work), (self.stored, terms.stored)];
        buckets.into_iter().all(|(bucket, flow)| bucket.filled(now, flow).spent == 0)
    }
}

impl Bucket {
    /// What has come back by now has.
    fn filled(self, now: Timestamp, flow: Flow) -> Bucket {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let back = millis.saturating_mul(flow.per_second);
        Bucket { spent: self.spent.saturating_sub(back), at: now.max(self.at) }
    }

    fn with(self, cost: u64) -> Bucket {
        Bucket { spent: self.spent.saturating_add(cost.saturating_mul(THOUSAND)), ..self }
    }

    /// With this taken whatever there is, as far as it can be owed.
    fn owing(self, flow: Flow, cost: u64) -> Bucket {
        let most = flow.burst.saturating_mul(2 * THOUSAND);
        Bucket { spent: self.with(cost).spent.min(most), ..self }
    }

    /// With this taken too, if there is enough for its first unit.
    fn after(self, now: Timestamp, flow: Flow, cost: u64) -> Result<Bucket, Duration> {
        let filled = self.filled(now, flow);
        if cost == 0 {
            return Ok(filled);
        }
        let over = filled.with(1).over(flow);
        if over.is_zero() {
            return Ok(filled.with(cost));
        }
        // Whole seconds, as they are told.
        Err(Duration::from_secs(over.as_secs() + u64::from(over.subsec_nanos() > 0)))
    }

    /// How long it takes until no more is spent than a full one has.
    fn over(self, flow: Flow) -> Duration {
        let over = self.spent.saturating_sub(flow.burst.saturating_mul(THOUSAND));
        Duration::from_millis(over.div_ceil(flow.per_second.max(1)))
    }
}

const THOUSAND: u64 = 1000;
/// Work at once that is not shared out,
const WORK_MIN: u64 = 8;
/// and bytes: some of the largest messages.
const STORED_MIN: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Cost = Cost { work: 0, stored: 0 };

    fn terms(per_second: u64, burst: u64) -> Terms {
        let flow = Flow { per_second, burst };
        Terms { work: flow, stored: Flow { per_second: 10 * per_second, burst: 10 * burst } }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn a_burst_then_the_rate_and_what_is_refused_costs_nothing() {
        let (terms, one) = (terms(10, 3), Cost { work: 1, stored: 0 });
        let mut budget = Budget::default();
        assert_eq!((0..5).filter(|_| budget.take(at(0), terms, one).is_ok()).count(), 3);
        assert_eq!((0..5).filter(|_| budget.take(at(250), terms, one).is_ok()).count(), 2);
        let dear = Cost { work: 1, stored: 31 };
        let second = Duration::from_secs(1);
        assert_eq!(budget.take(at(250), terms, dear), Err(Lacks::Work(second)));
        // More than a full one has: it has its turn, and then nothing goes for as long as it takes.
        assert_eq!(budget.take(at(1000), terms, dear), Ok(()));
        assert_eq!(
            budget.take(at(1000), terms, Cost { stored: 1, ..NONE }),
            Err(Lacks::Stored(second))
        );
        // What is owed is bounded by what a full one has.
        budget.owe(at(2000), terms, Cost { work: 1_000_000, ..NONE });
        assert_eq!(budget.take(at(2000), terms, one), Err(Lacks::Work(second)));
        assert_eq!(budget.take(at(2400), terms, one), Ok(()));
    }

    /// Others of the same owner take each unit as it comes back: what is dear has its turn too.
    #[test]
    fn what_is_dear_goes_where_what_is_cheap_does() {
        let terms = terms(10, 100);
        let (cheap, dear) = (Cost { work: 1, ..NONE }, Cost { work: 32, ..NONE });
        let mut budget = Budget::default();
        while budget.take(at(0), terms, cheap).is_ok() {}
        let turns = (1..=200).map(|n| {
            let cost = if n % 2 == 0 { dear } else { cheap };
            budget.take(at(n * 101), terms, cost).is_ok() && n % 2 == 0
        });
        assert!(turns.filter(|went| *went).count() >= 5);
    }

    proptest! {
        /// Whatever is asked whenever: no more is given than a burst, what has come back since, and
        /// what the last one owes,
        /// who was told to wait gets it when that is over, and a clock that runs back gives nothing.
        #[test]
        fn never_more_than_a_burst_and_the_rate(
            per_second in 1..1000_u64,
            burst in 1..5000_u64,
            asked in prop::collection::vec((0..2000_u64, 0..100_u64, any::<bool>()), 1..100),
        ) {
            let terms = terms(per_second, burst);
            let (mut budget, mut now, mut given) = (Budget::default(), 0, 0);
            let mut dearest = 0;
            for (later, work, back) in asked {
                now += later;
                let seen = if back { now.saturating_sub(500) } else { now };
                let cost = Cost { work: work.min(burst), ..NONE };
                match budget.clone().take(at(seen), terms, cost) {
                    Ok(()) => {
                        budget.take(at(seen), terms, cost).unwrap();
                        given += cost.work;
                        dearest = dearest.max(cost.work);
                    }
                    Err(Lacks::Work(wait)) => {
                        prop_assert!(wait <= Duration::from_secs(2 * burst / per_second + 2));
                        let then = at(now).after(wait);
                        prop_assert_eq!(budget.clone().take(then, terms, cost), Ok(()));
                    }
                    Err(other) => panic!("{other:?}"),
                }
                prop_assert!(given <= burst + dearest + now * per_second / 1000 + 1);
            }
        }
    }
}
