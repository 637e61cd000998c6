//! Permits of those who act for somebody else: by the owner's rules, as they are now.
//!
//! What a right is, and which one a thing asks for, is `impp_acl`'s.

use std::sync::Arc;

use impp_acl::{Acting, Ask, Mandate, Needs, Permit, needs, scope, thing};
use impp_protocol::{Address, Error, Service, What};

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
    /// if there is no such owner, so that who has none cannot tell one from the other. Nothing is read from
    /// the store for who is not named: how long that takes, and how it fails, would tell.
    ///
    /// # Errors
    /// That the owner's rules cannot be read.
    pub(super) async fn permit(
        &self,
        who: &Address,
        owner: &Address,
        what: What,
        ask: Ask,
    ) -> Result<Option<(Permit, Needs)>, Error> {
        let Some(needs) = needs(what, ask) else { return Ok(None) };
        let mandate = self.mandate(who, owner, thing(what).service).await?;
        let permit = mandate.and_then(|mandate| Permit::delegate(&mandate, what, ask));
        Ok(permit.map(|permit| (permit, needs)))
    }

    /// The permit of a delegate to send in an owner's name, which is noted; nothing as above.
    ///
    /// # Errors
    /// As above, or that it cannot be noted.
    pub(super) async fn sending(
        &self,
        who: &Address,
        owner: &Address,
    ) -> Result<Option<Acting<scope::Sending>>, Error> {
        let mandate = self.mandate(who, owner, Some(Service::Messages)).await?;
        let acting = mandate.and_then(|mandate| Acting::sending(&mandate));
        if acting.is_some() {
            self.note(who, owner, Needs::SendAs, false).await?;
        }
        Ok(acting)
    }

    async fn mandate(
        &self,
        who: &Address,
        owner: &Address,
        service: Option<Service>,
    ) -> Result<Option<Arc<Mandate>>, Error> {
        if who == owner || !self.principals.names(owner, who) || !self.has(owner, service) {
            return Ok(None);
        }
        let mandate = self
            .principals
            .look(owner, |principal, now| principal.presentity.policy().mandate(owner, who, now));
        Ok(mandate.await.stored()?.map(Arc::new))
    }

    /// A delegate uses a right.
    ///
    /// # Errors
    /// That it cannot be noted, and is not to be done.
    pub(super) async fn note(
        &self,
        who: &Address,
        owner: &Address,
        needs: Needs,
        takes_back: bool,
    ) -> Result<(), Error> {
        self.principals.note_act(owner, who, needs, takes_back).await
    }

    /// Whether there is an account here, in use, with the service.
    fn has(&self, owner: &Address, service: Option<Service>) -> bool {
        let account = self.accounts.get(owner).filter(|_| self.accounts.is_enabled(owner));
        account
            .is_some_and(|account| service.is_none_or(|service| offered(&account, service).is_ok()))
    }
}
