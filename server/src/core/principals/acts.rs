//! What delegates do for owners: counted by the hour, and on the disk before it is done. Of an hour as many
//! are counted as fit, and nothing is done that could not be.
//!
//! Who may do what is left to who asks.

use bytes::Bytes;
use impp_acl::Needs;
use impp_protocol::hashing::HashMap;
use impp_protocol::state::Act;
use impp_protocol::{Address, Code, Error, Timestamp};
use impp_storage::{Lane, Op, Payer, Record, Scan, StoreError, Unit};

use super::Principals;
use crate::core::answers::Stored;
use crate::core::records::place::{self, Raw};
use crate::core::records::{self, ACTS, ActRecord};

/// Delegates and rights that are counted within an hour for one owner.
const ACTS_PER_HOUR_MAX: usize = 64;
/// So long they are kept.
const KEPT_HOURS: u64 = 30 * 24;
/// What is forgotten at once, and read at once.
const ROWS_AT_ONCE: usize = 256;
const HOUR_MILLIS: u64 = 3_600_000;

/// What delegates have done for an owner within the hour.
#[derive(Debug, Default)]
pub(super) struct ActsOfHour {
    /// Which it is, since 1970; 0 before any is read.
    hour: u64,
    counted: HashMap<(Address, Needs), ActRecord>,
}

impl ActsOfHour {
    /// One more; how it stands now. `None` if there is no room for another.
    fn count(&mut self, delegate: &Address, needs: Needs, now: u64) -> Option<ActRecord> {
        let key = (delegate.clone(), needs);
        if self.counted.len() >= ACTS_PER_HOUR_MAX && !self.counted.contains_key(&key) {
            return None;
        }
        let first = ActRecord { count: 0, first: now, last: now };
        let act = self.counted.entry(key).or_insert(first);
        (act.count, act.last) = (act.count + 1, act.last.max(now));
        Some(*act)
    }
}

impl Principals {
    /// A delegate is about to do something for an owner. It is on the disk when this returns.
    ///
    /// # Errors
    /// storage or busy, of which nothing is said to whom `takes_back` something; full.
    pub async fn note_act(
        self: &std::sync::Arc<Self>,
        owner: &Address,
        delegate: &Address,
        needs: Needs,
        takes_back: bool,
    ) -> Result<(), Error> {
        match self.count_act(owner, delegate, needs).await {
            Ok(Some(())) => Ok(()),
            _ if takes_back => Ok(()),
            Ok(None) => {
                let text = format!("more than {ACTS_PER_HOUR_MAX} act for {owner} within the hour");
                Err(Error::new(Code::Full, text))
            }
            Err(error) => Err(error).stored(),
        }
    }

    async fn count_act(
        self: &std::sync::Arc<Self>,
        owner: &Address,
        delegate: &Address,
        needs: Needs,
    ) -> Result<Option<()>, StoreError> {
        let now = self.ground.clock.wall();
        let (millis, hour) = (now.as_millis(), now.as_millis() / HOUR_MILLIS);
        let is_known = self.look(owner, |principal, _| principal.acts.hour == hour).await?;
        let mut ops = Vec::new();
        if !is_known {
            let counted = self.acts_of_hour(owner, hour).await?;
            ops = self.forgetting(owner, hour).await?;
            let begun = |principal: &mut super::Principal, _| {
                // Who has read it meanwhile has counted on.
                if principal.acts.hour != hour {
                    principal.acts = ActsOfHour { hour, counted };
                }
            };
            self.look(owner, begun).await?;
        }
        let store = &self.ground.store;
        let counted = self.look(owner, |principal, _| {
            let act = principal.acts.count(delegate, needs, millis)?;
            ops.push(place::act(owner, hour, delegate, needs).set(Some(&act)));
            let lane = Lane::Account(owner.clone());
            let share = Some(Lane::Account(delegate.clone()));
            let unit = Unit { lane: Some(lane), share, ..Unit::of(now, ops) };
            // Queued where it was counted, so in that order.
            Some(store.submit(unit.paid_by(Payer::Nobody)))
        });
        match counted.await? {
            Some(pending) => pending.await.map(|_| Some(())),
            None => Ok(None),
        }
    }

    async fn acts_of_hour(
        &self,
        owner: &Address,
        hour: u64,
    ) -> Result<HashMap<(Address, Needs), ActRecord>, StoreError> {
        let prefix = records::prefix(owner, &[&place::hour(hour), ""]);
        let rows = self.rows_of_acts(owner, prefix, None).await?;
        let read = rows.iter().filter_map(|(key, record)| {
            let (_, delegate, needs, act) = read(key, record)?;
            Some(((delegate, needs), act))
        });
        Ok(read.collect())
    }

    /// The operations that forget the oldest, as far as they are too old.
    async fn forgetting(&self, owner: &Address, hour: u64) -> Result<Vec<Op>, StoreError> {
        let prefix = records::prefix(owner, &[""]);
        let rows = match self.rows_of_acts(owner, prefix, None).await {
            // Those that can be read are told; nobody is kept from acting by one that cannot.
            Err(StoreError::Damaged { .. }) => return Ok(Vec::new()),
            rows => rows?,
        };
        let domain = owner.domain();
        let is_old = |key: &[u8]| hour_of(key).is_none_or(|of| of + KEPT_HOURS < hour);
        let old = rows.into_iter().map(|(key, _)| key).filter(|key| is_old(key));
        // With what is counted it fits a unit.
        let old = old.take(ROWS_AT_ONCE - 1);
        Ok(old.map(|key| place::found::<Raw>(&domain, ACTS, key).delete()).collect())
    }

    /// What delegates did for an owner in the last 30 days, from a place on, the oldest first; and the place
    /// behind, if there may be more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acts(
        &self,
        owner: &Address,
        after: Option<&Bytes>,
    ) -> Result<(Vec<Act>, Option<Bytes>), StoreError> {
        let prefix = records::prefix(owner, &[""]);
        let after = after.map(|after| [&*prefix, &**after].concat());
        let rows = self.rows_of_acts(owner, prefix.clone(), after).await?;
        let last = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE);
        let next = last.map(|(key, _)| Bytes::copy_from_slice(&key[prefix.len()..]));
        let oldest =
            (self.ground.clock.wall().as_millis() / HOUR_MILLIS).saturating_sub(KEPT_HOURS);
        let told = rows.iter().filter_map(|(key, record)| {
            let (hour, delegate, needs, act) = read(key, record)?;
            let [first, last] = [act.first, act.last].map(Timestamp::from_millis);
            let right = needs.as_str().to_owned();
            (hour >= oldest).then_some(Act { delegate, right, count: act.count, first, last })
        });
        Ok((told.collect(), next))
    }

    async fn rows_of_acts(
        &self,
        owner: &Address,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        let (domain, max) = (owner.domain(), ROWS_AT_ONCE);
        self.ground.store.scan(Scan { domain, table: ACTS, prefix, after, max }).await
    }
}

/// What a row says: the hour, who, by which right, and how often.
fn read(key: &[u8], record: &Record) -> Option<(u64, Address, Needs, ActRecord)> {
    let mut parts = records::parts(key).skip(2);
    let delegate = Address::parse_canonical(parts.next()?).ok()?;
    let needs = Needs::from_name(parts.next()?)?;
    Some((hour_of(key)?, delegate, needs, records::from_bytes(&record.value).ok()?))
}

fn hour_of(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(records::parts(key).nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_4_no_more_are_counted_than_there_is_room_for_and_those_that_are_go_on() {
        let mut acts = ActsOfHour::default();
        let who = |n: usize| Address::parse(&format!("d{n}@a.example")).unwrap();
        for n in 0..ACTS_PER_HOUR_MAX {
            assert!(acts.count(&who(n), Needs::Publish, 5).is_some());
        }
        assert_eq!(acts.count(&who(ACTS_PER_HOUR_MAX), Needs::Publish, 6), None);
        assert_eq!(acts.count(&who(0), Needs::Rules, 6), None);
        let again = acts.count(&who(0), Needs::Publish, 7);
        assert_eq!(again, Some(ActRecord { count: 2, first: 5, last: 7 }));
    }
}
