//! Accounts by what people take their names for, so that no two new ones are taken for one another.
//!
//! What makes names alike is `impp_protocol::likeness`; accounts of before that are alike go on.

use dashmap::Entry;
use impp_protocol::likeness::likenesses;
use impp_protocol::{Address, Domain};

use super::DashMap;

/// See the module. Two entries for each account.
#[derive(Debug, Default)]
pub(super) struct Alike(DashMap<(Domain, String), Address>);

impl Alike {
    /// An account is there already.
    pub(super) fn learn(&self, address: &Address) {
        for key in keys(address) {
            self.0.entry(key).or_insert_with(|| address.clone());
        }
    }

    /// Takes the likenesses of an account that is to be made.
    ///
    /// # Errors
    /// Which account has one of them.
    pub(super) fn claim(&self, address: &Address) -> Result<(), Address> {
        for key in keys(address) {
            let other = match self.0.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(address.clone());
                    continue;
                }
                Entry::Occupied(found) if found.get() == address => continue,
                Entry::Occupied(found) => found.get().clone(),
            };
            self.release(address);
            return Err(other);
        }
        Ok(())
    }

    /// It was not made.
    pub(super) fn release(&self, address: &Address) {
        for key in keys(address) {
            self.0.remove_if(&key, |_, of| of == address);
        }
    }
}

fn keys(address: &Address) -> [(Domain, String); 2] {
    likenesses(address.local()).map(|likeness| (address.domain(), likeness))
}
