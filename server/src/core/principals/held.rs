//! How many messages are held for an owner's decision, of each sender, and about whom is decided, but
//! not all moved by it: until the last one is, whatever else comes from that sender waits behind it.
//!
//! What is held is in the store, and about whom is decided too: in one commit with the rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_presence::places::{Amount, Asker, Places};
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain};

/// See the module. Those on the way to being held count too.
#[derive(Debug, Default)]
pub struct HeldMessages {
    places: Places,
    aside: Aside,
    /// About whom decisions are just carried out: each has a share in it.
    moving: HashMap<Address, Arc<()>>,
    /// About whom the store has a decision that is not carried out, whether somebody is at it or not.
    decided: BTreeSet<Address>,
}

/// What is held still and has no place any more, as its domain was given up: the owner may decide about it
/// as before, and to its senders it is as if nothing were held.
#[derive(Debug, Default)]
struct Aside {
    /// Up to which version of its record what is held of a domain is.
    upto: HashMap<String, u64>,
    /// Of each sender.
    of: HashMap<Address, u64>,
}

/// What is held of a sender is being moved, as long as this lives: however its task ends, nothing waits
/// for ever behind what was not decided in the end.
#[derive(Debug)]
#[must_use]
pub struct Moving(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl HeldMessages {
    /// One more of a sender, if there is room among `max`.
    pub fn hold(&mut self, from: Asker<'_>, max: u64) -> bool {
        self.places.take(from, 0, Amount::items(max))
    }

    /// One more that is held already, by the version of its record.
    pub(super) fn add(&mut self, from: Asker<'_>, version: u64) {
        if self.is_aside(from.who, version) {
            *self.aside.of.entry(from.who.clone()).or_default() += 1;
        } else {
            self.places.put(from, 0);
        }
    }

    /// One less that was on its way.
    pub fn one_less(&mut self, from: &Address) {
        self.places.give_back(from, 0);
    }

    /// One less of which there was this version of a record.
    pub fn gone(&mut self, from: &Address, version: u64) {
        let is_aside = self.is_aside(from, version);
        match self.aside.of.get_mut(from).filter(|_| is_aside) {
            None => self.one_less(from),
            Some(1) => drop(self.aside.of.remove(from)),
            Some(count) => *count -= 1,
        }
    }

    /// What a domain has up to this version, as it was read, is held without a place from now on. What is
    /// just moved goes, or is told to be left.
    pub(super) fn set_aside<'a>(
        &mut self,
        domain: &Domain,
        upto: u64,
        read: impl Iterator<Item = (&'a Address, u64)>,
    ) {
        self.aside_before(domain, upto);
        let mut of: HashMap<&Address, Vec<u64>> = HashMap::default();
        read.for_each(|(from, version)| of.entry(from).or_default().push(version));
        for (from, versions) in of {
            if !self.moving.get(from).is_some_and(is_shared) {
                self.left(from, versions.into_iter());
            }
        }
    }

    /// This is what is left of a sender, as it was read: a decision about it could not be carried out. What
    /// was set aside meanwhile has no place from now on.
    pub fn left(&mut self, from: &Address, versions: impl Iterator<Item = u64>) {
        let aside = versions.filter(|version| self.is_aside(from, *version)).count() as u64;
        while self.places.of(from).items > 0 && self.aside.count(from) < aside {
            self.one_less(from);
            *self.aside.of.entry(from.clone()).or_default() += 1;
        }
    }

    /// Up to this version what is held of a domain has no place, before anything of it is read.
    pub(super) fn aside_before(&mut self, domain: &Domain, upto: u64) {
        let before = self.aside.upto.entry(domain.as_str().to_owned()).or_default();
        *before = upto.max(*before);
    }

    /// Up to which version that is so.
    pub(super) fn aside_upto(&self, domain: &Domain) -> u64 {
        self.aside.upto.get(domain.as_str()).copied().unwrap_or_default()
    }

    /// Domains of which all that had no place is gone, by what there is: nothing is to be known of them.
    pub(super) fn spent<'a>(
        &self,
        all: impl Iterator<Item = (&'a Address, u64)> + Clone,
    ) -> Vec<Domain> {
        let Aside { of, upto } = &self.aside;
        let spent = upto.iter().filter(|(domain, upto)| {
            // What was read may be older than what is counted.
            !of.keys().any(|from| from.domain_str() == *domain)
                && !all
                    .clone()
                    .any(|(from, version)| from.domain_str() == *domain && version <= **upto)
        });
        spent.filter_map(|(domain, _)| Domain::parse(domain).ok()).collect()
    }

    /// Nothing is known of these any more.
    pub(super) fn forget_aside(&mut self, spent: &[Domain]) {
        // Something of it may have been set aside since they were found to be spent.
        let Aside { of, upto } = &mut self.aside;
        upto.retain(|known, _| {
            of.keys().any(|from| from.domain_str() == known)
                || !spent.iter().any(|domain| domain.as_str() == known)
        });
    }

    /// Whether one has no place.
    pub(super) fn is_aside(&self, from: &Address, version: u64) -> bool {
        version <= self.aside.upto(from)
    }

    /// How many of a sender are held, or on the way to it.
    pub fn count(&self, from: &Address) -> u64 {
        self.places.of(from).items + self.aside.count(from)
    }

    /// None of a sender's are there that can be read.
    pub fn lost(&mut self, from: &Address) {
        (0..self.places.of(from).items).for_each(|_| self.one_less(from));
        self.aside.of.remove(from);
    }

    /// Whether anything of a sender is held, or on the way to it.
    pub fn has(&self, from: &Address) -> bool {
        self.count(from) > 0
    }

    /// Whether what comes from a sender has to wait behind what is being moved.
    pub fn is_moving(&self, from: &Address) -> bool {
        self.decided.contains(from) || self.moving.get(from).is_some_and(is_shared)
    }

    /// From now on what is held of a sender is moved, until [`HeldMessages::moved`] says that it is, or
    /// this is dropped before it is decided: what is left stays held then.
    pub fn begin_moving(&mut self, from: &Address) -> Moving {
        // Those that were dropped are gone with the next decision.
        self.moving.retain(|_, moving| is_shared(moving));
        Moving(self.moving.entry(from.clone()).or_default().clone())
    }

    /// Who is to be noted in the store with rules that are changed now: they may be the decision.
    pub(super) fn being_decided(&self) -> impl Iterator<Item = &Address> {
        self.moving.iter().filter(|(_, moving)| is_shared(moving)).map(|(from, _)| from)
    }

    /// The store has the decision about a sender.
    pub fn decided(&mut self, from: &Address) {
        self.decided.insert(from.clone());
    }

    /// About whom decisions are left to be carried out, whether somebody is at it or not.
    pub fn decided_about(&self) -> impl Iterator<Item = &Address> {
        self.decided.iter()
    }

    /// Whether there are any.
    pub fn has_decided(&self) -> bool {
        !self.decided.is_empty()
    }

    /// Whether all is moved; then nothing has to wait behind it any more, and unless another decision is
    /// at it the store is to forget this one. Else it goes on.
    ///
    /// # Errors
    /// Not all of it is.
    pub fn moved(&mut self, from: &Address, moving: Moving) -> Result<bool, Moving> {
        if self.has(from) { Err(moving) } else { Ok(self.given_up(from, moving)) }
    }

    /// The same, whatever is left: there is a newer word about it.
    pub fn given_up(&mut self, from: &Address, moving: Moving) -> bool {
        drop(moving);
        self.moving.retain(|_, moving| is_shared(moving));
        let last = !self.moving.contains_key(from);
        last && self.decided.remove(from)
    }
}

impl Aside {
    fn count(&self, from: &Address) -> u64 {
        self.of.get(from).copied().unwrap_or_default()
    }

    fn upto(&self, from: &Address) -> u64 {
        self.upto.get(from.domain_str()).copied().unwrap_or_default()
    }
}

/// Whether a decision has its share in it.
fn is_shared(moving: &Arc<()>) -> bool {
    Arc::strong_count(moving) > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_held_ones_are_moved_waits_until_the_last_is() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        let asker = Asker::of(&bob, &bob, false);
        assert!(held.hold(asker, 2) && held.hold(asker, 2) && !held.hold(asker, 2));
        assert!(!held.is_moving(&bob) && held.has(&bob));
        let moving = held.begin_moving(&bob);
        held.one_less(&bob);
        let moving = held.moved(&bob, moving).unwrap_err();
        assert!(held.is_moving(&bob));
        held.one_less(&bob);
        // A word about it that is not in the store leaves nothing there to forget.
        assert!(!held.moved(&bob, moving).unwrap());
        assert!(!held.is_moving(&bob) && !held.has(&bob));
        assert!(held.places.is_empty() && held.moving.is_empty());
    }

    #[test]
    fn what_is_set_aside_has_no_place_and_is_decided_about_like_the_rest() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@b.example").unwrap());
        let owner = Address::parse("o@a.example").unwrap();
        let asker = Asker::of(&owner, &bob, false);
        assert!(held.hold(asker, 2) && held.hold(asker, 2) && !held.hold(asker, 2));
        let read = [(&bob, 7), (&bob, 9)];
        // Twice is as once; what came meanwhile has a place.
        for _ in 0..2 {
            held.set_aside(&bob.domain(), 9, read.into_iter());
            assert!(held.places.of(&bob).items <= 1 && held.has(&bob));
            held.hold(asker, 1);
        }
        assert_eq!((held.count(&bob), held.places.of(&bob).items), (3, 1));
        let moving = held.begin_moving(&bob);
        [9, 7].into_iter().for_each(|version| held.gone(&bob, version));
        let moving = held.moved(&bob, moving).unwrap_err();
        held.gone(&bob, 12);
        assert!(held.moved(&bob, moving).is_ok() && !held.has(&bob) && held.places.is_empty());
        assert!(held.spent([(&bob, 9)].into_iter()).is_empty());
        assert_eq!(held.spent([(&bob, 12)].into_iter()), [bob.domain()]);
        held.forget_aside(&[bob.domain()]);
        assert!(held.spent([(&bob, 12)].into_iter()).is_empty());
        // As it is read after a restart.
        let mut held = HeldMessages::default();
        held.aside_before(&bob.domain(), 9);
        [7, 9, 12].into_iter().for_each(|version| held.add(asker, version));
        assert_eq!((held.count(&bob), held.places.of(&bob).items), (3, 1));
    }

    #[test]
    fn f14_what_is_decided_and_cannot_be_moved_has_no_place_once_its_domain_is_given_up() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@b.example").unwrap());
        let owner = Address::parse("o@a.example").unwrap();
        let asker = Asker::of(&owner, &bob, false);
        let read = || [(&bob, 7), (&bob, 8)].into_iter();
        assert!(held.hold(asker, 2) && held.hold(asker, 2));
        // Somebody is at it: the first one is moved, and then there is no room.
        let moving = held.begin_moving(&bob);
        held.decided(&bob);
        held.set_aside(&bob.domain(), 8, read());
        assert_eq!(held.places.of(&bob).items, 2);
        held.gone(&bob, 7);
        drop(moving);
        held.left(&bob, [8].into_iter());
        assert_eq!((held.count(&bob), held.places.of(&bob).items), (1, 0));
        // Nobody is at it any more, and it is given up again with what came since.
        assert!(held.is_moving(&bob) && held.hold(asker, 2));
        held.set_aside(&bob.domain(), 9, [(&bob, 8), (&bob, 9)].into_iter());
        assert_eq!((held.count(&bob), held.places.of(&bob).items), (2, 0));
        [8, 9].into_iter().for_each(|version| held.gone(&bob, version));
        assert!(!held.has(&bob) && held.places.is_empty());
    }

    #[test]
    fn nothing_waits_behind_a_task_that_has_failed() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        assert!(held.hold(Asker::of(&bob, &bob, false), 1));
        let (first, second) = (held.begin_moving(&bob), held.begin_moving(&bob));
        let task = std::thread::spawn(move || {
            let _moving = first;
            std::panic::resume_unwind(Box::new("it fails"));
        });
        assert!(task.join().is_err() && held.is_moving(&bob));
        drop(second);
        assert!(!held.is_moving(&bob) && held.has(&bob));
    }
    #[test]
    fn what_is_decided_goes_before_what_comes_though_the_move_has_stopped() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        assert!(held.hold(Asker::of(&bob, &bob, false), 1));
        let moving = held.begin_moving(&bob);
        assert!(held.being_decided().eq([&bob]));
        held.decided(&bob);
        drop(moving);
        assert!(held.is_moving(&bob) && held.being_decided().next().is_none());
        assert!(held.decided_about().eq([&bob]));
        let (first, second) = (held.begin_moving(&bob), held.begin_moving(&bob));
        held.one_less(&bob);
        // The last one to end has it forgotten.
        assert!(!held.moved(&bob, first).unwrap() && held.is_moving(&bob));
        assert!(held.moved(&bob, second).unwrap() && !held.is_moving(&bob));
    }
}
