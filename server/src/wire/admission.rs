//! Who may connect: bounds on connections that have not signed in, in total, by address and by
//! network. When the total is reached, the heaviest network makes way for those that have less.
//!
//! Accepting and closing is left to `listen`, leaving to who holds a place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use impp_protocol::hashing::HashMap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::core::config::Limits;

/// Counts connections that have not signed in.
#[derive(Debug, Default)]
pub struct Admission {
    waiting: Mutex<Waiting>,
}

/// How many connections may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of all.
    pub total: u64,
    /// Of one IPv4 address or IPv6 /64.
    pub source: u64,
    /// Of one IPv6 /48.
    pub network: u64,
}

impl Bounds {
    /// As the configuration says.
    pub fn of(limits: &Limits) -> Bounds {
        Bounds {
            total: limits.unsigned_max,
            source: limits.unsigned_per_address_max,
            network: limits.unsigned_per_network_max,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    total: u64,
    /// The number of the next that comes: who has a lower one is older.
    next: u64,
    sources: HashMap<IpAddr, u64>,
    networks: HashMap<IpAddr, Network>,
    /// By stage, the networks with somebody in it: last the one with the most places, and of equal
    /// ones that with the oldest.
    heaviest: [BTreeSet<Weight>; 2],
}

/// How many places a network has, who is its oldest in a stage, and which it is.
type Weight = (usize, Reverse<u64>, IpAddr);

/// The places of a network by stage: those whose handshake is not over, who make way first, and
/// those whose is.
#[derive(Debug, Default)]
struct Network {
    stages: [BTreeMap<u64, (IpAddr, CancellationToken)>; 2],
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// Too many connections have not signed in.
    #[error("too many have not signed in")]
    Total,
    /// Too many of them come from this address.
    #[error("too many from this address have not signed in")]
    Source,
    /// Too many of them come from this /48.
    #[error("too many from this network have not signed in")]
    Network,
    /// The descriptors that are left are kept for others.
    #[error("too many files are open")]
    Descriptors,
}

/// A place among the connections that have not signed in; given back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    source: IpAddr,
    number: u64,
    /// The place was given to another.
    lost: CancellationToken,
}

impl Admission {
    /// Takes a place for a connection from `address`.
    ///
    /// # Errors
    /// [`Crowded`] if a bound is reached.
    pub fn enter(self: &Arc<Admission>, address: IpAddr, max: Bounds) -> Result<Place, Crowded> {
        let (source, network) = (source_of(address), network_of(address));
        let mut waiting = self.waiting.lock();
        if waiting.sources.get(&source).is_some_and(|count| *count >= max.source) {
            return Err(Crowded::Source);
        }
        let places = waiting.networks.get(&network).map_or(0, Network::len);
        if network.is_ipv6() && places as u64 >= max.network {
            return Err(Crowded::Network);
        }
        if waiting.total >= max.total && !waiting.make_way(places) {
            return Err(Crowded::Total);
        }
        let (number, lost) = (waiting.next, CancellationToken::new());
        waiting.next += 1;
        waiting.total += 1;
        *waiting.sources.entry(source).or_default() += 1;
        let held = (source, lost.clone());
        waiting.change(network, |network| {
            let [silent, _] = &mut network.stages;
            silent.insert(number, held);
        });
        Ok(Place { admission: self.clone(), source, number, lost })
    }
}

impl Place {
    /// The handshake is over.
    pub fn past_handshake(&self) {
        self.admission.waiting.lock().change(network_of(self.source), |network| {
            let [silent, shaken] = &mut network.stages;
            shaken.extend(silent.remove_entry(&self.number));
        });
    }

    /// Whether, and when, the place is given to another: who has it leaves at once.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.waiting.lock().leave(self.source, self.number);
    }
}

impl Waiting {
    /// Takes a place from a network that has more than one with `places` will have, if there is one:
    /// the oldest of the heaviest, and nobody's whose handshake is over as long as there is a silent
    /// one. Where all have as few, as when many come back at once, who has begun goes on.
    fn make_way(&mut self, places: usize) -> bool {
        let heaviest = self.heaviest.iter().filter_map(|networks| networks.last());
        let Some((_, Reverse(oldest), network)) = heaviest.copied().find(|(n, ..)| *n > places + 1)
        else {
            return false;
        };
        let stages = self.networks.get(&network).map(|network| &network.stages);
        let held = stages.into_iter().flatten().find_map(|stage| stage.get(&oldest));
        let Some((source, lost)) = held.cloned() else { return false };
        lost.cancel();
        self.leave(source, oldest);
        true
    }

    /// Gives a place back, if it is not given to another already.
    fn leave(&mut self, source: IpAddr, number: u64) {
        let mut held = None;
        self.change(network_of(source), |network| {
            held = network.stages.iter_mut().find_map(|stage| stage.remove(&number));
        });
        if held.is_none() {
            return;
        }
        self.total -= 1;
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Changes a network's places, and where it stands among the others.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Network)) {
        let network = self.networks.entry(address).or_default();
        for (standing, weight) in self.heaviest.iter_mut().zip(network.weights(address)) {
            weight.map(|weight| standing.remove(&weight));
        }
        change(network);
        for (standing, weight) in self.heaviest.iter_mut().zip(network.weights(address)) {
            standing.extend(weight);
        }
        if network.len() == 0 {
            self.networks.remove(&address);
        }
    }
}

impl Network {
    fn len(&self) -> usize {
        self.stages.iter().map(BTreeMap::len).sum()
    }

    fn weights(&self, address: IpAddr) -> [Option<Weight>; 2] {
        let len = self.len();
        self.stages.each_ref().map(|stage| {
            let (oldest, _) = stage.first_key_value()?;
            Some((len, Reverse(*oldest), address))
        })
    }
}

/// What counts as one source: an IPv4 address, however written, or an IPv6 /64.
pub fn source_of(address: IpAddr) -> IpAddr {
    prefix(address, 64)
}

/// What counts as one network: an IPv4 address, or an IPv6 /48, which is what one customer is given.
pub fn network_of(address: IpAddr) -> IpAddr {
    prefix(address, 48)
}

/// An IPv4 address, or the first bits of an IPv6 address.
fn prefix(address: IpAddr, bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (128 - bits);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn enter(admission: &Arc<Admission>, text: &str) -> Result<Place, Crowded> {
        let max = Bounds { total: 5, source: 2, network: 3 };
        admission.enter(text.parse().unwrap(), max)
    }

    fn lost(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.lost().is_cancelled()).collect()
    }

    #[test]
    fn b9_places_are_bounded_by_source_and_network_and_given_back() {
        let admission = Arc::new(Admission::default());
        let first = enter(&admission, "2001:db8::1").unwrap();
        let _second = enter(&admission, "2001:db8::2").unwrap();
        assert_eq!(enter(&admission, "2001:db8::3").unwrap_err(), Crowded::Source);
        let _third = enter(&admission, "2001:db8:0:1::3").unwrap();
        assert_eq!(enter(&admission, "2001:db8:0:2::3").unwrap_err(), Crowded::Network);
        assert!(enter(&admission, "2001:db8:1::3").is_ok());
        drop(first);
        assert!(enter(&admission, "2001:db8::4").is_ok());
        assert!(enter(&admission, "::ffff:127.0.0.1").is_ok());
        assert_eq!(source_of("::ffff:127.0.0.1".parse().unwrap()).to_string(), "127.0.0.1");
        assert!(admission.waiting.lock().sources.len() < 4);
    }

    #[test]
    fn b1_the_oldest_silent_one_of_the_heaviest_makes_way() {
        let admission = Arc::new(Admission::default());
        let ours = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"];
        let mut ours: Vec<_> = ours.iter().map(|a| enter(&admission, a).unwrap()).collect();
        // Past its handshake, it stays as long as there are silent ones in such a network.
        ours[0].past_handshake();
        let _one = enter(&admission, "10.0.0.4").unwrap();
        assert_eq!(lost(&ours), [false, true, false, false, false]);
        let _two = enter(&admission, "10.0.0.5").unwrap();
        assert_eq!(lost(&ours), [false, true, true, false, false]);
        // Who has as many as the heaviest takes nothing from anybody.
        assert_eq!(enter(&admission, "10.0.0.5").unwrap_err(), Crowded::Total);
        assert_eq!(enter(&admission, "10.0.0.1").unwrap_err(), Crowded::Total);
        // A place that was given to another is not given back twice.
        drop(ours.remove(1));
        assert_eq!(admission.waiting.lock().total, 5);
        for place in &ours {
            place.past_handshake();
        }
        assert_eq!(admission.waiting.lock().total, 5);
    }

    #[test]
    fn b1_nobody_past_the_handshake_makes_way_while_there_is_a_silent_one() {
        let admission = Arc::new(Admission::default());
        let ours = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"];
        let ours: Vec<_> = ours.iter().map(|a| enter(&admission, a).unwrap()).collect();
        ours[0].past_handshake();
        ours[1].past_handshake();
        let _one = enter(&admission, "10.0.0.5").unwrap();
        assert_eq!(lost(&ours), [false, false, true, false, false]);
        // The silent ones are of networks no heavier than the newcomer's will be.
        let _two = enter(&admission, "10.0.0.6").unwrap();
        assert_eq!(lost(&ours), [true, false, true, false, false]);
    }

    #[test]
    fn b1_h3_where_each_has_one_place_nobody_makes_way() {
        let admission = Arc::new(Admission::default());
        let all: Vec<_> =
            (1..6).map(|n| enter(&admission, &format!("10.0.0.{n}")).unwrap()).collect();
        assert_eq!(enter(&admission, "10.0.0.9").unwrap_err(), Crowded::Total);
        assert_eq!(lost(&all), [false; 5]);
    }

    proptest! {
        #[test]
        fn b1_what_is_counted_is_who_is_there(
            steps in proptest::collection::vec((0_u8..6, 0_u8..3, any::<prop::sample::Index>()), 0..200),
        ) {
            let admission = Arc::new(Admission::default());
            let mut held: Vec<Place> = Vec::new();
            for (n, what, index) in steps {
                match what {
                    0 | 1 if held.is_empty() || what == 0 => {
                        held.extend(enter(&admission, &format!("2001:db8:{}:{n}::", n % 3)));
                    }
                    1 => held[index.index(held.len())].past_handshake(),
                    _ if held.is_empty() => {}
                    _ => drop(held.swap_remove(index.index(held.len()))),
                }
                held.retain(|place| !place.lost().is_cancelled());
                let waiting = admission.waiting.lock();
                prop_assert_eq!(waiting.total, held.len() as u64);
                prop_assert!(waiting.total <= 5);
                let all: usize = waiting.networks.values().map(Network::len).sum();
                prop_assert_eq!(all, held.len());
                let standing: usize = waiting.heaviest.iter().map(BTreeSet::len).sum();
                let stages = waiting.networks.values().flat_map(|network| &network.stages);
                prop_assert_eq!(standing, stages.filter(|stage| !stage.is_empty()).count());
            }
        }
    }
}
