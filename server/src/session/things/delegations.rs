//! Who may act for an owner and for whom the owner may, with what is said by that now.
//!
//! What a right lets somebody do is left to each thing, and what was done by it to `acts`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{Acting, scope};
use impp_protocol::Address;
use impp_protocol::command::Fetch;
use impp_protocol::state::{self, DelegatedRight, Delegation, Delegations};
use impp_storage::StoreError;

use super::lists;
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored};
use crate::core::principals::{Principal, Principals};

/// Entries in one answer, and rights of one that are named: each fits a frame then.
const ENTRIES_MAX: usize = 64;
/// See there.
const RIGHTS_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Delegated {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
}

impl Delegated {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Rules>, fetch: Fetch) -> Handled {
        let mut pairs = self.pairs(acting.owner()).await.stored()?;
        if let Some(after) = &fetch.cursor {
            pairs.retain(|(owner, delegate)| key(owner, delegate) > *after);
        }
        let more = pairs.iter().nth(ENTRIES_MAX - 1).filter(|_| pairs.len() > ENTRIES_MAX);
        let more = more.map(|(owner, delegate)| key(owner, delegate));
        let mut entries = Vec::new();
        for (owner, delegate) in pairs.into_iter().take(ENTRIES_MAX) {
            match self.entry(owner, delegate).await {
                // Whose rules cannot be read lets nobody do anything.
                Err(StoreError::Damaged { .. }) => {}
                entry => entries.extend(entry.stored()?),
            }
        }
        let by = |entry: &Delegation| key(&entry.owner, &entry.delegate);
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), by);
        Ok(lists::answer(state::encode(&Delegations { entries }), next.or(more)))
    }

    /// Owners and delegates that somebody is one of.
    async fn pairs(&self, who: &Address) -> Result<BTreeSet<(Address, Address)>, StoreError> {
        let named = |principal: &mut Principal, _| {
            let rules = &principal.presentity.policy().rules;
            let all = rules.delegates().iter().flat_map(|delegate| &delegate.who);
            all.cloned().collect::<BTreeSet<Address>>()
        };
        let given = self.principals.look(who, named).await?;
        let given = given.into_iter().filter(|delegate| self.accounts.is_local(delegate));
        let given = given.map(|delegate| (who.clone(), delegate));
        let mut held = self.principals.owners_for(who);
        held.retain(|owner| self.accounts.is_enabled(owner));
        Ok(given.chain(held.into_iter().map(|owner| (owner, who.clone()))).collect())
    }

    /// What stands between the two now, if anything does.
    async fn entry(
        &self,
        owner: Address,
        delegate: Address,
    ) -> Result<Option<Delegation>, StoreError> {
        let looked = self.principals.look(&owner, |principal, now| {
            let presentity = &principal.presentity;
            let mandate = presentity.policy().mandate(&owner, &delegate, now);
            let rights = mandate.iter().flat_map(|mandate| mandate.rights());
            let rights = rights.take(RIGHTS_MAX).map(|(right, until)| {
                let right = right.to_string();
                DelegatedRight { right, until }
            });
            (rights.collect::<Vec<_>>(), presentity.said_by(&delegate))
        });
        let (rights, says) = looked.await?;
        let any = !rights.is_empty() || !says.is_empty();
        Ok(any.then_some(Delegation { owner, delegate, rights, says }))
    }
}

fn key(owner: &Address, delegate: &Address) -> Bytes {
    format!("{owner}\0{delegate}").into_bytes().into()
}
