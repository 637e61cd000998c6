//! Who has the places for other domains: an account has one of each domain of which it needs
//! anything, and no more than its share of them.
//!
//! What is needed, and what a place is, are the caller's. A [`Claim`] is what it holds as long as it
//! needs something; without one there is no way to a place.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain};

/// All claims, by account and by place. It is bounded by what claims are held for.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Mutex<Table>>);

/// An account needs something of another domain. Its place there is its own until the last claim of
/// it is dropped.
#[derive(Clone, Debug)]
pub struct Claim(Arc<Held>);

/// The account has its share already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareTaken;

#[derive(Debug, Default)]
struct Table {
    /// How many claims each account holds of each domain; at least one.
    accounts: HashMap<Address, HashMap<Domain, usize>>,
    /// The same from the other side: who has claims, by our domain and the other.
    places: HashMap<(Domain, Domain), BTreeSet<Address>>,
}

#[derive(Debug)]
struct Held {
    account: Address,
    remote: Domain,
    shares: Shares,
}

impl Shares {
    /// A claim of an account that has none of this domain only if it has places in fewer than `most`.
    ///
    /// # Errors
    /// [`ShareTaken`].
    pub fn claim(
        &self,
        account: &Address,
        remote: &Domain,
        most: usize,
    ) -> Result<Claim, ShareTaken> {
        let mut table = self.lock();
        let places = table.accounts.get(account);
        let (known, many) =
            places.map_or((false, 0), |places| (places.contains_key(remote), places.len()));
        if !known && many >= most {
            return Err(ShareTaken);
        }
        Ok(self.enter(&mut table, account, remote))
    }

    /// A claim for what is there already, on the disk say, whatever the share.
    pub fn claim_held(&self, account: &Address, remote: &Domain) -> Claim {
        self.enter(&mut self.lock(), account, remote)
    }

    /// One more claim of somebody of our domain who has one of the other; of somebody else than
    /// `but`.
    pub fn of_any(&self, local: &Domain, remote: &Domain, but: Option<&Address>) -> Option<Claim> {
        let mut table = self.lock();
        let holders = table.places.get(&(local.clone(), remote.clone()))?;
        let holder = holders.iter().find(|account| Some(*account) != but)?.clone();
        Some(self.enter(&mut table, &holder, remote))
    }

    /// The domains of which an account holds a single claim.
    pub fn single(&self, account: &Address) -> Vec<Domain> {
        let table = self.lock();
        let places = table.accounts.get(account).into_iter().flatten();
        places.filter(|(_, claims)| **claims == 1).map(|(remote, _)| remote.clone()).collect()
    }

    /// How many claims an account holds of a domain.
    pub fn claims(&self, account: &Address, remote: &Domain) -> usize {
        let table = self.lock();
        table.accounts.get(account).and_then(|places| places.get(remote)).copied().unwrap_or(0)
    }

    /// Whether somebody of our domain has a claim of the other.
    pub fn is_claimed(&self, local: &Domain, remote: &Domain) -> bool {
        self.lock().places.contains_key(&(local.clone(), remote.clone()))
    }

    /// How many places somebody has a claim of.
    pub fn places(&self) -> u64 {
        self.lock().places.len() as u64
    }

    /// How many domains an account has places of.
    pub fn domains_of(&self, account: &Address) -> usize {
        self.lock().accounts.get(account).map_or(0, HashMap::len)
    }

    fn enter(&self, table: &mut Table, account: &Address, remote: &Domain) -> Claim {
        let places = table.accounts.entry(account.clone()).or_default();
        *places.entry(remote.clone()).or_default() += 1;
        let place = (account.domain(), remote.clone());
        table.places.entry(place).or_default().insert(account.clone());
        let (account, remote, shares) = (account.clone(), remote.clone(), self.clone());
        Claim(Arc::new(Held { account, remote, shares }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whose it is.
    pub fn account(&self) -> &Address {
        &self.0.account
    }

    /// Of which domain.
    pub fn remote(&self) -> &Domain {
        &self.0.remote
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.shares.lock();
        let Some(places) = table.accounts.get_mut(&self.account) else { return };
        if let Some(claims) = places.get_mut(&self.remote) {
            *claims -= 1;
            if *claims > 0 {
                return;
            }
        }
        places.remove(&self.remote);
        if places.is_empty() {
            table.accounts.remove(&self.account);
        }
        let place = (self.account.domain(), self.remote.clone());
        if let Some(holders) = table.places.get_mut(&place) {
            holders.remove(&self.account);
            if holders.is_empty() {
                table.places.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Address {
        format!("{name}@a.example").parse().unwrap()
    }

    fn domain(n: usize) -> Domain {
        Domain::parse(&format!("d{n}.example")).unwrap()
    }

    #[test]
    fn f12_an_account_has_its_share_of_the_domains_and_no_more() {
        let (shares, alice, bob) = (Shares::default(), account("alice"), account("bob"));
        let first = shares.claim(&alice, &domain(1), 2).unwrap();
        let _second = shares.claim(&alice, &domain(2), 2).unwrap();
        assert_eq!(shares.claim(&alice, &domain(3), 2).unwrap_err(), ShareTaken);
        // What it has already costs nothing more; a place that two need counts for both.
        let again = shares.claim(&alice, &domain(1), 2).unwrap();
        let bobs = shares.claim(&bob, &domain(1), 1).unwrap();
        assert_eq!(shares.claim(&bob, &domain(3), 1).unwrap_err(), ShareTaken);
        // It comes back with the last claim.
        drop(first);
        let copied = again.clone();
        drop(again);
        assert!(shares.claim(&alice, &domain(3), 2).is_err());
        drop(copied);
        assert!(shares.claim(&alice, &domain(3), 2).is_ok());
        let others = shares.of_any(&account("x").domain(), &domain(1), Some(&alice));
        assert_eq!(others.map(|claim| claim.account().clone()), Some(bob.clone()));
        assert!(shares.of_any(&alice.domain(), &domain(1), Some(&bob)).is_none());
        drop(bobs);
        assert!(shares.of_any(&alice.domain(), &domain(1), None).is_none());
    }

    /// Whatever is claimed and let go in whatever order: nobody gets a place over the share, whoever
    /// has room gets one, and nothing is left in the end.
    #[test]
    fn f12_what_is_counted_is_what_is_held() {
        const MOST: usize = 5;
        let (shares, mut held) = (Shares::default(), Vec::<Claim>::new());
        let mut random: u64 = 3;
        let mut dice = |max: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % max
        };
        let accounts = ["alice", "bob", "carol"].map(account);
        for _ in 0..20_000 {
            let (who, of) = (&accounts[dice(3)], domain(dice(12)));
            let of_account = |claim: &&Claim| claim.account() == who;
            let places: BTreeSet<String> =
                held.iter().filter(of_account).map(|claim| claim.remote().to_string()).collect();
            assert_eq!(shares.domains_of(who), places.len());
            match dice(5) {
                0 | 1 => {
                    let fits = places.len() < MOST || places.contains(of.as_str());
                    let claim = shares.claim(who, &of, MOST);
                    assert_eq!(claim.is_ok(), fits);
                    held.extend(claim);
                }
                2 if !held.is_empty() => held.push(held[dice(held.len())].clone()),
                _ if !held.is_empty() => drop(held.swap_remove(dice(held.len()))),
                _ => {}
            }
        }
        held.clear();
        let table = shares.lock();
        assert!(table.accounts.is_empty() && table.places.is_empty(), "{table:?}");
    }
}
