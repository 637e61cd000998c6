//! Seats of which there are few, and whose they are: so many at once of all, so many of one of those who take
//! them. Each is given back when it is dropped.
//!
//! Who is told what when there is none is left to who asks for one.

use std::hash::Hash;
use std::sync::Arc;

use impp_protocol::hashing::HashMap;
use parking_lot::Mutex;

/// See the module.
#[derive(Debug)]
pub struct Seats<K: Eq + Hash>(Mutex<Taken<K>>);

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    of: HashMap<K, usize>,
}

/// One of them, while it is taken.
#[derive(Debug)]
pub struct Seat<K: Eq + Hash> {
    seats: Arc<Seats<K>>,
    of: K,
}

/// How many there are; a reload changes it under way.
#[derive(Clone, Copy, Debug)]
pub struct Seating {
    /// Of one.
    pub one: usize,
    /// Of all together.
    pub all: usize,
}

impl<K: Eq + Hash> Default for Seats<K> {
    fn default() -> Seats<K> {
        Seats(Mutex::new(Taken { all: 0, of: HashMap::default() }))
    }
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// One for this one, if there is.
    pub fn take(self: &Arc<Seats<K>>, of: K, there_are: Seating) -> Option<Seat<K>> {
        let mut taken = self.0.lock();
        let own = taken.of.get(&of).copied().unwrap_or_default();
        if own >= there_are.one || taken.all >= there_are.all {
            return None;
        }
        taken.all += 1;
        taken.of.insert(of.clone(), own + 1);
        Some(Seat { seats: self.clone(), of })
    }
}

impl<K: Eq + Hash> Seat<K> {
    /// Who has it.
    pub fn of(&self) -> &K {
        &self.of
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.of.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_4_one_leaves_seats_to_others_and_each_comes_back() {
        let (seats, there_are) = (Arc::new(Seats::default()), Seating { one: 2, all: 3 });
        let take = |of: &'static str| seats.take(of, there_are);
        let (first, second) = (take("a").unwrap(), take("a").unwrap());
        assert_eq!((first.of(), take("a").is_none()), (&"a", true));
        let third = take("b").unwrap();
        assert!(take("c").is_none(), "there are three");
        drop((first, second));
        let fourth = take("c").unwrap();
        assert!(take("a").is_some());
        drop((third, fourth));
        assert!(seats.0.lock().of.is_empty() && seats.0.lock().all == 0);
    }
}
