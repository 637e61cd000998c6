//! How many addresses another domain may ask for that it has not asked for lately: each may have to be
//! read from the disk, and given a place if it does not exist.
//!
//! It is counted before anybody looks whether an address exists, so it tells nothing of any. A watcher
//! that stands there already, existing or not, costs nothing, whatever is remembered here: that is
//! `home`'s to say. What an asked-for address costs after that is `budgets`' and the room's that it is
//! asked of.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impp_protocol::hashing::HashSet;
use impp_protocol::{Address, Domain, Timestamp};

use super::LinkMailbox;
use crate::core::DashMap;
use crate::core::budget::{Budget, Cost, Flow, Lacks, Terms};
use crate::core::config::Federation;

/// Addresses of which it is known that one domain has asked for them; with more, all are forgotten, and
/// cost again.
const NAMES_MAX: usize = 16_384;
/// The same of all domains together; of further ones it is not known.
const ALL_NAMES_MAX: usize = 131_072;
/// One address that was not asked for lately.
const ONE: Cost = Cost { work: 1, stored: 0 };

/// See the module.
#[derive(Debug, Default)]
pub struct Names {
    of: DashMap<(Domain, Domain), Asked>,
    all: AtomicUsize,
    /// Names are kept as numbers that nobody outside can foresee.
    hasher: RandomState,
}

/// What one domain has asked of one of ours.
#[derive(Debug, Default)]
struct Asked {
    names: HashSet<u64>,
    budget: Budget,
}

impl Names {
    /// A domain asks for an address here.
    ///
    /// # Errors
    /// How long it has to wait with a new one.
    pub(super) fn ask(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        address: &Address,
    ) -> Result<(), Duration> {
        let (terms, name) = (terms(links), self.hasher.hash_one(address));
        let pair = (link.local.clone(), link.remote.clone());
        {
            let mut asked = self.of.entry(pair.clone()).or_default();
            if asked.names.contains(&name) {
                return Ok(());
            }
            let taken = asked.budget.take(now, terms, ONE);
            taken.map_err(|(Lacks::Work(wait) | Lacks::Stored(wait))| wait)?;
            if asked.names.len() >= NAMES_MAX {
                self.all.fetch_sub(asked.names.len(), Ordering::Relaxed);
                asked.names.clear();
            }
        }
        if self.all.load(Ordering::Relaxed) >= ALL_NAMES_MAX {
            self.forget_rested(now, terms);
        }
        if self.all.load(Ordering::Relaxed) < ALL_NAMES_MAX
            && self.of.entry(pair).or_default().names.insert(name)
        {
            self.all.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same for what is never refused: whatever there is, it is owed.
    pub(super) fn owe(&self, now: Timestamp, link: &LinkMailbox, links: &Federation) {
        let pair = (link.local.clone(), link.remote.clone());
        self.of.entry(pair).or_default().budget.owe(now, terms(links), ONE);
    }

    /// Domains that could ask for as many as new ones are as good as new ones.
    fn forget_rested(&self, now: Timestamp, terms: Terms) {
        self.of.retain(|_, asked| {
            let rested = asked.budget.is_full(now, terms);
            if rested {
                self.all.fetch_sub(asked.names.len(), Ordering::Relaxed);
            }
            !rested
        });
    }
}

fn terms(links: &Federation) -> Terms {
    let flow =
        Flow { per_second: links.new_addresses_per_second, burst: links.new_addresses_burst };
    Terms { work: flow, stored: flow }
}

#[cfg(test)]
mod tests {
    use impp_presence::LinkId;

    use super::*;

    fn link(remote: &str) -> LinkMailbox {
        let domain = |text| Domain::parse(text).unwrap();
        LinkMailbox::new(LinkId([1; 16]), domain("a.example"), domain(remote))
    }

    fn address(index: usize) -> Address {
        format!("n{index}@a.example").parse().unwrap()
    }

    #[test]
    fn f14_new_addresses_cost_and_known_ones_do_not() {
        let links = Federation {
            new_addresses_per_second: 2,
            new_addresses_burst: 10,
            ..Federation::default()
        };
        let (names, now) = (Names::default(), Timestamp::from_millis(1_000_000));
        let later = now.after(Duration::from_secs(3));
        let ask = |of: &str, now, index| names.ask(now, &link(of), &links, &address(index));
        let taken = |of: &str, now, from: usize| {
            (from..from + 100).filter(|index| ask(of, now, *index).is_ok()).count()
        };
        assert_eq!(taken("b.example", now, 0), 10);
        assert_eq!(ask("b.example", now, 50), Err(Duration::from_secs(1)));
        assert!((0..10).all(|index| ask("b.example", now, index).is_ok()), "known ones are free");
        assert_eq!(taken("c.example", now, 0), 10, "another domain has its own");
        assert_eq!(taken("b.example", later, 100), 6);
    }

    #[test]
    fn f14_what_is_known_of_names_is_bounded() {
        const MUCH: u64 = 1 << 40;
        let links = Federation {
            new_addresses_per_second: 1,
            new_addresses_burst: MUCH,
            ..Federation::default()
        };
        let (names, now) = (Names::default(), Timestamp::from_millis(1_000_000));
        for domain in 0..10 {
            let link = link(&format!("d{domain}.example"));
            for index in 0..NAMES_MAX {
                names.ask(now, &link, &links, &address(index)).unwrap();
            }
            let known = names.of.iter().map(|asked| asked.names.len()).sum::<usize>();
            assert_eq!(known, names.all.load(Ordering::Relaxed));
            assert!(known <= ALL_NAMES_MAX);
        }
        // Who has rested makes room.
        let later = now.after(Duration::from_secs(20_000));
        names.ask(later, &link("e.example"), &links, &address(1)).unwrap();
        assert_eq!(names.all.load(Ordering::Relaxed), 1);
    }
}
