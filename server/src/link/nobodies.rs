//! Those who do not exist, taken for people who never sign in: asked for by another domain, they
//! wait, lapse and fill up as those do, so that nobody can tell them apart.
//!
//! Nothing of it is stored, and it ends with the link; what is answered is left to `home`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use impp_acl::{RuleSet, RulesError, default_rules};
use impp_protocol::{Address, Timestamp};

use crate::policy::Policy;
use crate::presentity::{Effects, PaceLimit, Presentity};

/// So many are known of a link. With a further one the oldest is dropped: its watchers do not hear
/// that they lapse, and it has as much room for them as at first.
const NOBODIES_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Nobodies {
    known: HashMap<Address, Presentity>,
    /// Oldest first; some of them may be known no more.
    order: VecDeque<Address>,
    policy: Option<Policy>,
    dropped: Vec<Address>,
    soonest: Option<Timestamp>,
}

impl Nobodies {
    /// Somebody asks one of them for something.
    ///
    /// # Errors
    /// [`RulesError`], if the rules of new accounts are broken.
    pub(super) fn ask<R>(
        &mut self,
        address: &Address,
        now: Timestamp,
        act: impl FnOnce(&mut Presentity, &Policy, Timestamp) -> (R, Effects),
    ) -> Result<(R, Effects), RulesError> {
        let policy = match self.policy.take() {
            Some(policy) => policy,
            None => policy(address)?,
        };
        if !self.known.contains_key(address) {
            self.make_room();
            self.order.push_back(address.clone());
        }
        let new = || nobody(address, now);
        let nobody = self.known.entry(address.clone()).or_insert_with(new);
        let done = act(nobody, &policy, now);
        self.policy = Some(policy);
        self.soonest = self.soonest.into_iter().chain(nobody.next_deadline()).min();
        Ok(done)
    }

    /// One of them that was asked for something.
    pub(super) fn find(&mut self, address: &Address) -> Option<&mut Presentity> {
        self.known.get_mut(address)
    }

    /// Whether one is known.
    pub(super) fn contains(&self, address: &Address) -> bool {
        self.known.contains_key(address)
    }

    /// It exists now.
    pub(super) fn forget(&mut self, address: &Address) {
        self.known.remove(address);
    }

    /// Does what is due of all; those of whom there is something to say.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Address> {
        let mut changed = Vec::new();
        if self.soonest.is_none_or(|at| at > now) {
            return changed;
        }
        self.soonest = None;
        let Some(policy) = &self.policy else { return changed };
        for (address, nobody) in &mut self.known {
            if nobody.next_deadline().is_some_and(|at| at <= now)
                && !nobody.expire(now, policy).wake.is_empty()
            {
                changed.push(address.clone());
            }
            self.soonest = self.soonest.into_iter().chain(nobody.next_deadline()).min();
        }
        changed
    }

    /// When [`Nobodies::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.soonest
    }

    /// Those that were dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.dropped)
    }

    fn make_room(&mut self) {
        while self.known.len() >= NOBODIES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.known.remove(&oldest).is_some() {
                self.dropped.push(oldest);
            }
        }
    }
}

/// The rules of a new account of the same domain.
///
/// # Errors
/// [`RulesError`].
pub(super) fn policy(address: &Address) -> Result<Policy, RulesError> {
    let text = default_rules(&address.domain());
    let rules = RuleSet::parse(&text)?;
    Ok(Policy { rules, text, number: 0, contacts: Default::default() })
}

/// One who never signs in.
pub(super) fn nobody(address: &Address, now: Timestamp) -> Presentity {
    let pace = PaceLimit { burst: 1, interval: Duration::from_secs(1) };
    let (layers, watchers) = Default::default();
    Presentity::new(address.clone(), layers, watchers, now, pace, None)
}
