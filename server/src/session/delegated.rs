//! Permits of those who act for somebody else: by the owner's rules, as they are now.
//!
//! What a right is, and which one a thing asks for, is `impp_acl`'s.

use std::sync::Arc;

use impp_acl::{Ask, Permit, Service, needs, thing};
use impp_protocol::{Address, Error, What};

use super::things::offered;
use crate::core::accounts::Accounts;
use crate::core::answers::Stored;
use crate::core::principals::Principals;

/// See the module.
#[derive(Debug)]
pub(super) struct Delegations {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
}

impl Delegations {
    /// The permit of a delegate to ask this of a thing of another's; nothing without a right to that, or
    /// if there is no such owner, so that who has none cannot tell one from the other.
    ///
    /// # Errors
    /// That the owner's rules cannot be read.
    pub(super) async fn permit(
        &self,
        who: &Address,
        owner: &Address,
        what: What,
        ask: Ask,
    ) -> Result<Option<Permit>, Error> {
        if who == owner || needs(what, ask).is_none() || !self.has(owner, thing(what).service) {
            return Ok(None);
        }
        let mandate = self
            .principals
            .look(owner, |principal, now| principal.presentity.policy().mandate(owner, who, now));
        let mandate = mandate.await.stored()?.map(Arc::new);
        Ok(mandate.and_then(|mandate| Permit::delegate(&mandate, what, ask)))
    }

    /// Whether there is an account here, in use, with the service. No other address is looked for: what
    /// is kept of one would tell that somebody has asked.
    fn has(&self, owner: &Address, service: Option<Service>) -> bool {
        let account = self.accounts.get(owner).filter(|_| self.accounts.is_enabled(owner));
        account
            .is_some_and(|account| service.is_none_or(|service| offered(&account, service).is_ok()))
    }
}
