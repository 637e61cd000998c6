//! Addresses that do not exist, taken for people who never sign in: asked for by another domain, they
//! wait, lapse and fill up as those do, so that nobody can tell them apart.
//!
//! Nothing of it is stored, and nothing of a message is kept. What is answered is left to the links.

use std::collections::VecDeque;
use std::time::Duration;

use impp_acl::{RuleSet, RulesError, default_rules};
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};

use crate::ids::{LinkId, ListenerId};
use crate::places::{Amount, Asker, Places};
use crate::policy::Policy;
use crate::presentity::{Answer, Change, Effects, Layers, PaceLimit, Presentity};

/// So many are known of a link. With a further one the oldest is dropped: its watchers do not hear
/// that they lapse, and it has as much room for them as at first.
const GHOSTS_MAX: usize = 1024;
/// Addresses whose messages are counted; when there are more, all are forgotten.
const INBOXES_MAX: usize = 65_536;

/// Those whose presence was asked for over one link; they end with it.
#[derive(Debug, Default)]
pub struct Ghosts {
    known: HashMap<Address, Presentity>,
    /// Oldest first; some of them may be known no more.
    order: VecDeque<Address>,
    policy: Option<Policy>,
    dropped: Vec<Address>,
    soonest: Option<Timestamp>,
}

impl Ghosts {
    /// Somebody asks one of them for something.
    ///
    /// # Errors
    /// [`RulesError`], if the rules of new accounts are broken.
    pub fn ask(
        &mut self,
        address: &Address,
        now: Timestamp,
        change: Change,
    ) -> Result<(Answer, Effects), RulesError> {
        if !self.known.contains_key(address) {
            let policy = match &self.policy {
                Some(policy) => policy.clone(),
                None => self.policy.insert(newcomers_policy(address)?).clone(),
            };
            self.make_room();
            self.order.push_back(address.clone());
            self.known.insert(address.clone(), with_policy(address, policy, now));
        }
        let Some(ghost) = self.known.get_mut(address) else {
            return Ok((Answer::Done, Effects::default()));
        };
        let made = ghost.make(now, change);
        self.soonest = self.soonest.into_iter().chain(ghost.next_deadline()).min();
        Ok(made)
    }

    /// One of them that was asked for something.
    pub fn find(&mut self, address: &Address) -> Option<&mut Presentity> {
        self.known.get_mut(address)
    }

    /// Whether one is known.
    pub fn contains(&self, address: &Address) -> bool {
        self.known.contains_key(address)
    }

    /// It exists now.
    pub fn forget(&mut self, address: &Address) {
        self.known.remove(address);
    }

    /// Does what is due of all; those of whom there is something to say over the link.
    pub fn expire(&mut self, now: Timestamp, link: LinkId) -> Vec<Address> {
        let mut changed = Vec::new();
        if self.soonest.is_none_or(|at| at > now) {
            return changed;
        }
        self.soonest = None;
        for (address, ghost) in &mut self.known {
            let is_due = ghost.next_deadline().is_some_and(|at| at <= now);
            if is_due && ghost.expire(now).wake.contains(&ListenerId::from(link)) {
                changed.push(address.clone());
            }
            self.soonest = self.soonest.into_iter().chain(ghost.next_deadline()).min();
        }
        changed
    }

    /// When [`Ghosts::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.soonest
    }

    /// Those that were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.dropped)
    }

    fn make_room(&mut self) {
        while self.known.len() >= GHOSTS_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.known.remove(&oldest).is_some() {
                self.dropped.push(oldest);
            }
        }
    }
}

/// One who never signs in, as somebody sees it who looks once.
///
/// # Errors
/// [`RulesError`], if the rules of new accounts are broken.
pub fn ghost(address: &Address, now: Timestamp) -> Result<Presentity, RulesError> {
    Ok(with_policy(address, newcomers_policy(address)?, now))
}

/// The policy of a new account of the same domain.
fn newcomers_policy(address: &Address) -> Result<Policy, RulesError> {
    let text = default_rules(&address.domain());
    Ok(Policy::new(RuleSet::parse(&text)?, &text, 0))
}

fn with_policy(address: &Address, policy: Policy, now: Timestamp) -> Presentity {
    let pace = PaceLimit { burst: 1, interval: Duration::from_secs(1) };
    let (layers, watchers) = (Layers::default(), HashMap::default());
    Presentity::restored(address.clone(), policy, layers, watchers, now, pace, None).0
}

/// How many messages each seems to hold, so that it comes to be full as one would whose owner never
/// looks.
#[derive(Debug, Default)]
pub struct GhostInboxes(HashMap<Address, Places>);

impl GhostInboxes {
    /// Seems to hold one more message of somebody elsewhere; `false` if there is no room among `most`.
    pub fn hold(&mut self, address: &Address, from: &Address, most: u64) -> bool {
        if self.0.len() >= INBOXES_MAX && !self.0.contains_key(address) {
            self.0.clear();
        }
        let places = self.0.entry(address.clone()).or_default();
        // Who never signs in knows nobody.
        places.take(Asker::of(address, from, false), 0, Amount::items(most))
    }

    /// What seemed to be held was a repeat, or could not be stored.
    pub fn release(&mut self, address: &Address, from: &Address) {
        if let Some(places) = self.0.get_mut(address) {
            places.give_back(from, 0);
        }
    }
}
