//! Accounts that were there at the start and cannot be read: each is there, and nobody knows whether
//! it may be used.

use std::collections::HashSet;

use impp_protocol::{Address, Domain};
use parking_lot::RwLock;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// Until they are removed.
    known: RwLock<HashSet<Address>>,
    /// Domains with an account of which not even the name could be read.
    unsure: HashSet<Domain>,
}

impl Closed {
    /// One more, by the key of its record: its address, if that can be read.
    pub(super) fn close(&mut self, domain: &Domain, key: &[u8]) -> Option<Address> {
        let name = std::str::from_utf8(key).ok();
        let address = name.and_then(|name| Address::new(name, domain).ok());
        match &address {
            Some(address) => drop(self.known.get_mut().insert(address.clone())),
            None => self.close_somebody(domain),
        }
        address
    }

    /// There is an account of a domain of which not even the name can be read.
    pub(super) fn close_somebody(&mut self, domain: &Domain) {
        self.unsure.insert(domain.clone());
    }

    /// Whether an address is that of one of them.
    pub(super) fn has(&self, address: &Address) -> bool {
        self.known.read().contains(address)
    }

    /// Whether one that is not known may be of this domain.
    pub(super) fn has_somebody(&self, domain: &Domain) -> bool {
        self.unsure.contains(domain)
    }

    /// How many are known, and domains of which more may be.
    pub(super) fn count(&self) -> usize {
        self.known.read().len() + self.unsure.len()
    }

    /// It is removed.
    pub(super) fn forget(&self, address: &Address) {
        self.known.write().remove(address);
    }
}
