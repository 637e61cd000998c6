//! Who acts for whom, as far as rules name them: known of all accounts without reading any, so that one
//! whom nobody names has the store asked nothing, whoever it asks about.
//!
//! What somebody who is named may do then, say the owner's rules (`impp_acl`'s `RuleSet::mandate`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use impp_acl::RuleSet;
use impp_presence::{Change, Saying};
use impp_protocol::{Address, DeviceId};
use impp_storage::StoreError;
use parking_lot::Mutex;

use super::{ChangeError, Principal, Principals};
use crate::core::keeping;
use crate::core::records::{self, RULES};

/// See the module. No more than the rules of all accounts say, whose text is bounded.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<BothWays>);

#[derive(Debug, Default)]
struct BothWays {
    /// By owner, whom its rules name.
    by_owner: BTreeMap<Address, BTreeSet<Address>>,
    /// By who is named.
    by_delegate: BTreeMap<Address, BTreeSet<Address>>,
}

impl Named {
    /// The rules of an owner name these, and others no more.
    fn set(&self, owner: &Address, names: BTreeSet<Address>) {
        let mut both = self.0.lock();
        let BothWays { by_owner, by_delegate } = &mut *both;
        let before = by_owner.remove(owner).unwrap_or_default();
        for gone in before.difference(&names) {
            if let Some(owners) = by_delegate.get_mut(gone) {
                owners.remove(owner);
                if owners.is_empty() {
                    by_delegate.remove(gone);
                }
            }
        }
        for name in &names {
            by_delegate.entry(name.clone()).or_default().insert(owner.clone());
        }
        if !names.is_empty() {
            by_owner.insert(owner.clone(), names);
        }
    }

    /// They name these too, or are about to.
    fn add(&self, owner: &Address, mut names: BTreeSet<Address>) {
        if !names.is_empty() {
            names.extend(self.0.lock().by_owner.get(owner).into_iter().flatten().cloned());
            self.set(owner, names);
        }
    }
}

impl Principals {
    /// Reads whom the rules of all accounts name.
    ///
    /// # Errors
    /// The store's, but not that some are damaged: whose rules cannot be read has no delegates.
    pub async fn recall_delegates(&self) -> Result<(), StoreError> {
        for domain in self.ground.accounts.domains() {
            let read = |key: &[u8], text: &[u8]| {
                // Most name nobody, and need not be understood; a key may be written with escapes.
                let may_name = text.contains(&b'\\') || has(text, b"delegate");
                let text = str::from_utf8(text).ok().filter(|_| may_name);
                let rules = text.and_then(|text| RuleSet::parse(text).ok());
                let name = records::parts(key).next().unwrap_or_default();
                if let (Some(rules), Ok(owner)) = (rules, Address::new(name, domain)) {
                    self.named.add(&owner, self.named_by(&rules));
                }
            };
            keeping::each(&*self.ground.store, domain, RULES, read).await?;
        }
        Ok(())
    }

    /// Whether an owner's rules name somebody as a delegate, as they are or are about to be.
    pub fn names(&self, owner: &Address, delegate: &Address) -> bool {
        self.named.0.lock().by_delegate.get(delegate).is_some_and(|owners| owners.contains(owner))
    }

    /// Whose rules name somebody as a delegate; those who are removed are left out.
    pub fn owners_for(&self, delegate: &Address) -> Vec<Address> {
        let mut owners: Vec<Address> =
            self.named.0.lock().by_delegate.get(delegate).into_iter().flatten().cloned().collect();
        owners.retain(|owner| self.ground.accounts.get(owner).is_some());
        owners
    }

    /// A delegate is gone, or one of its devices: what was said by it of others ends with it.
    ///
    /// # Errors
    /// The first [`ChangeError`]. It is not shown all the same, and the other owners are seen to.
    pub async fn part_delegate(
        self: &Arc<Self>,
        delegate: &Address,
        device: Option<DeviceId>,
    ) -> Result<(), ChangeError> {
        let mut parted = Ok(());
        for owner in self.owners_for(delegate) {
            if self.is_silent(&owner, delegate) {
                continue;
            }
            let change = Change::ByDelegate(delegate.clone(), Saying::Parts(device));
            match self.change(&owner, change).await {
                // What cannot be read is shown to nobody.
                Ok(_) | Err(ChangeError::Store(StoreError::Damaged { .. })) => {}
                Err(error) => parted = parted.and(Err(error)),
            }
        }
        parted
    }

    /// Whether it is known without reading that a delegate says nothing of an owner.
    fn is_silent(&self, owner: &Address, delegate: &Address) -> bool {
        let entry = self.entries.get(owner).map(|entry| entry.value().clone());
        entry.is_some_and(|entry| !entry.lock().presentity.speakers().contains(delegate))
    }

    /// An owner is about to have other rules: who is named by them may act as soon as they are there.
    pub(super) fn will_name(&self, owner: &Address, principal: &mut Principal, change: &Change) {
        if let Change::PutRules { rules, .. } = change {
            self.named.add(owner, self.named_by(rules));
            principal.renames = true;
        }
    }

    /// Who is not named any more, by the rules that an owner has or those that are on their way, is
    /// forgotten.
    pub(super) fn note_named(&self, owner: &Address, principal: &mut Principal) {
        if principal.renames {
            let all: Vec<&RuleSet> = principal.presentity.all_rules().collect();
            self.named.set(owner, all.iter().flat_map(|rules| self.named_by(rules)).collect());
            principal.renames = all.len() > 1;
        }
    }

    /// An account is gone.
    pub(super) fn forget_named(&self, owner: &Address) {
        if self.ground.accounts.get(owner).is_none() {
            self.named.set(owner, BTreeSet::new());
        }
    }

    /// Whom rules name who is of this server. They may be older than the list of its domains.
    fn named_by(&self, rules: &RuleSet) -> BTreeSet<Address> {
        let all = rules.delegates().iter().flat_map(|delegate| &delegate.who);
        all.filter(|who| self.ground.accounts.is_local(who)).cloned().collect()
    }
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_named_any_more_is_forgotten_from_both_sides() {
        let [alice, bob, cal] =
            ["alice@a.example", "bob@a.example", "cal@a.example"].map(|a| a.parse().unwrap());
        let named = Named::default();
        let set = |of: &[&Address]| of.iter().map(|who| (*who).clone()).collect::<BTreeSet<_>>();
        named.set(&alice, set(&[&cal]));
        named.add(&alice, set(&[&bob]));
        named.set(&bob, set(&[&cal]));
        let owners = |of: &Address| named.0.lock().by_delegate.get(of).cloned();
        assert_eq!(
            (owners(&cal), owners(&bob)),
            (Some(set(&[&alice, &bob])), Some(set(&[&alice])))
        );
        named.set(&alice, set(&[&bob]));
        assert_eq!((owners(&cal), owners(&bob)), (Some(set(&[&bob])), Some(set(&[&alice]))));
        named.set(&alice, set(&[]));
        assert_eq!((owners(&bob), named.0.lock().by_owner.len()), (None, 1));
    }
}
