//! Whose turn it is: what waits, by lanes, each of which keeps its order; the lanes take turns, so that
//! whoever has much waiting holds up nobody who has little.
//!
//! What has no lane keeps its place among all. How much may wait is left to `shared.rs`, what goes into
//! one commit to `jobs.rs`. Handshakes have turns too (`server/src/wire/turns.rs` says what is other there).

use std::collections::{HashMap, VecDeque};

use crate::unit::Lane;

/// See the module.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// Nothing of one goes before all of the one in front of it has gone.
    stretches: VecDeque<Stretch<T>>,
}

#[derive(Debug)]
enum Stretch<T> {
    /// What has no lane.
    Alone(T),
    /// Lanes between two of these.
    Lanes(Lanes<T>),
}

#[derive(Debug)]
struct Lanes<T> {
    /// None is empty.
    waiting: HashMap<Lane, VecDeque<T>>,
    /// Each of them once, the next one first.
    order: VecDeque<Lane>,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { stretches: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Puts one behind the others of its lane; without a lane, behind all.
    pub(crate) fn push(&mut self, lane: Option<&Lane>, one: T) {
        let Some(lane) = lane else {
            return self.stretches.push_back(Stretch::Alone(one));
        };
        if !matches!(self.stretches.back(), Some(Stretch::Lanes(_))) {
            let (waiting, order) = Default::default();
            self.stretches.push_back(Stretch::Lanes(Lanes { waiting, order }));
        }
        if let Some(Stretch::Lanes(lanes)) = self.stretches.back_mut() {
            lanes.push(lane, one);
        }
    }

    /// Takes the next one whose lane `may` give one more; none if what is next has to wait.
    pub(crate) fn pop(&mut self, may: impl Fn(&Lane) -> bool) -> Option<T> {
        let (one, over) = match self.stretches.front_mut()? {
            Stretch::Lanes(lanes) => {
                let one = lanes.pop(may)?;
                (one, lanes.order.is_empty())
            }
            Stretch::Alone(_) => match self.stretches.pop_front()? {
                Stretch::Alone(one) => return Some(one),
                Stretch::Lanes(_) => return None,
            },
        };
        if over {
            self.stretches.pop_front();
        }
        Some(one)
    }

    /// Whether nothing waits that has no lane, nor behind such.
    pub(crate) fn is_one_stretch(&self) -> bool {
        self.stretches.len() <= 1
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}

impl<T> Lanes<T> {
    fn push(&mut self, lane: &Lane, one: T) {
        if let Some(waiting) = self.waiting.get_mut(lane) {
            return waiting.push_back(one);
        }
        self.waiting.insert(lane.clone(), VecDeque::from([one]));
        self.order.push_back(lane.clone());
    }

    fn pop(&mut self, may: impl Fn(&Lane) -> bool) -> Option<T> {
        let next = self.order.iter().position(may)?;
        let lane = self.order.remove(next)?;
        let waiting = self.waiting.get_mut(&lane)?;
        let one = waiting.pop_front();
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&lane)),
            false => self.order.push_back(lane),
        }
        one
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::Address;
    use proptest::prelude::*;

    use super::*;

    fn lane(n: u8) -> Lane {
        Lane::Account(Address::parse(&format!("u{n}@a.example")).unwrap())
    }

    fn all(turns: &mut Turns<(Option<u8>, usize)>) -> Vec<(Option<u8>, usize)> {
        std::iter::from_fn(|| turns.pop(|_| true)).collect()
    }

    #[test]
    fn who_has_little_waiting_does_not_wait_behind_who_has_much() {
        let mut turns = Turns::default();
        (0..1000).for_each(|n| turns.push(Some(&lane(1)), (Some(1), n)));
        turns.push(Some(&lane(2)), (Some(2), 1000));
        let order = all(&mut turns);
        assert_eq!(order.iter().position(|(of, _)| *of == Some(2)), Some(1));
        assert!(turns.is_empty());
    }

    #[test]
    fn what_has_no_lane_keeps_its_place_and_a_lane_that_may_not_holds_up_no_other() {
        let mut turns = Turns::default();
        for (of, n) in [(Some(1), 0), (Some(1), 1), (Some(2), 2), (None, 3), (Some(2), 4)] {
            turns.push(of.map(lane).as_ref(), (of, n));
        }
        let not_the_first = |other: &Lane| *other != lane(1);
        assert_eq!(turns.pop(not_the_first), Some((Some(2), 2)));
        assert_eq!(turns.pop(not_the_first), None, "what comes behind passes nothing of before");
        assert!(!turns.is_one_stretch());
        let rest: Vec<usize> = all(&mut turns).into_iter().map(|(_, n)| n).collect();
        assert_eq!(rest, [0, 1, 3, 4]);
    }

    proptest! {
        /// Whatever comes in and goes out in whatever order: nothing is lost, each lane keeps its
        /// order, nothing passes what has no lane or is passed by it, and no lane has two turns
        /// while another waits with it.
        #[test]
        fn every_lane_keeps_its_order(
            steps in prop::collection::vec(prop_oneof![
                3 => (0..4_u8).prop_map(Some).prop_map(Some),
                1 => Just(Some(None)),
                2 => Just(None),
            ], 0..200),
        ) {
            let mut turns = Turns::default();
            let (mut put, mut got) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Some(of) => {
                        let one = (of, put.len());
                        turns.push(of.map(lane).as_ref(), one);
                        put.push(one);
                    }
                    None => got.extend(turns.pop(|_| true)),
                }
            }
            got.extend(all(&mut turns));
            let mut sorted = got.clone();
            sorted.sort_by_key(|(_, n)| *n);
            prop_assert_eq!(&sorted, &put);
            for (at, (of, n)) in got.iter().enumerate() {
                for (other, m) in &got[at + 1..] {
                    let ordered = of.is_none() || other.is_none() || of == other;
                    prop_assert!(!ordered || n < m, "{n} of {of:?} before {m} of {other:?}");
                }
            }
        }
    }
}
