//! An owner's rules: reading and replacing them.
//!
//! What they mean is `impp_acl`'s, to explain it `explain`'s.

use std::sync::Arc;

use impp_acl::{
    Acting, By, DomainPolicy, Mandate, Needs, Outline, RULES_BYTES_MAX, RuleSet, RulesError,
    Watcher, scope,
};
use impp_presence::{Answer, Change};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::{Address, Code, Error};
use impp_storage::StoreError;

use super::explain::{Supposed, outlines};
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored};
use crate::core::principals::{ChangeError, Principal, Principals};

/// How often an edit by the server is tried again when the owner edits at the same time.
const EDITS_MAX: usize = 3;
/// So much a delegate fills of the text, or as much as there was: what is left is for the owner's decisions.
const DELEGATE_BYTES_MAX: usize = RULES_BYTES_MAX / 4 * 3;

/// See the module.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) principals: Arc<Principals>,
    pub(super) accounts: Arc<Accounts>,
}

impl Rules {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Rules>) -> Handled {
        let (text, number) = self.of(acting).await?;
        Ok(Done { content: Some(text.into()), number: Some(number), ..Done::empty() })
    }

    pub(super) async fn publish(&self, acting: &Acting<scope::Rules>, publish: Publish) -> Handled {
        let wrong = |text: &str| Err(Error::new(Code::Malformed, text));
        let Some(content) = publish.content else { return wrong("content: missing") };
        let Some(base) = publish.base else {
            return wrong("base: missing; name the version that the change starts from");
        };
        let Ok(text) = String::from_utf8(content.to_vec()) else {
            return wrong("content: not UTF-8");
        };
        let rules = parsed(&text)?;
        let number = match acting.by() {
            // Who may act is the same as before.
            By::Delegate(mandate) => self.replace_for(mandate, acting, rules, text, base).await?,
            _ => {
                self.delegates_are_here(&rules)?;
                self.replace(acting, rules, text, base).await?
            }
        };
        Ok(Done { number: Some(number), ..Done::empty() })
    }

    /// Replaces rules for a delegate, which grants no more than it is granted. They are compared while
    /// others may go on with the owner's things, so when it is done these have still to be the rules that
    /// were compared.
    async fn replace_for(
        &self,
        mandate: &Mandate,
        acting: &Acting<scope::Rules>,
        new: RuleSet,
        text: String,
        base: u64,
    ) -> Result<u64, Error> {
        let (owner, delegate) = (mandate.owner(), mandate.delegate());
        let (old, domain) = self.grounds(owner, delegate, Some(base)).await?;
        confined(&old, &new, delegate, &domain)?;
        let bytes = text.len();
        // A right that was taken back since was taken by other rules.
        let still = |principal: &mut Principal| {
            let presentity = &principal.presentity;
            if bytes > presentity.policy().text.len().max(DELEGATE_BYTES_MAX) {
                let text = format!(
                    "of the {RULES_BYTES_MAX} bytes of rules a delegate fills {DELEGATE_BYTES_MAX} at most: \
                     the owner's decisions need room"
                );
                return Err(Error::new(Code::Refused, text));
            }
            let same = presentity.all_rules().all(|rules| std::ptr::eq(rules, &*old));
            same.then_some(()).ok_or_else(|| not_the_newest(presentity.policy().number))
        };
        self.replace_if(acting, new, text, base, still).await
    }

    /// The rules and the domain's policy by which a delegate is judged, if its right to edit them still is,
    /// and if they are of that version.
    async fn grounds(
        &self,
        owner: &Address,
        delegate: &Address,
        base: Option<u64>,
    ) -> Result<(Arc<RuleSet>, Arc<DomainPolicy>), Error> {
        let look = self.principals.look(owner, |principal, now| {
            let policy = principal.presentity.policy();
            let mandate = policy.mandate(owner, delegate, now);
            if !mandate.is_some_and(|mandate| mandate.has(Needs::Rules)) {
                return Err(Error::new(Code::Refused, "your right to edit these rules is over"));
            }
            match base.is_none_or(|base| policy.number == base) {
                true => Ok((policy.rules.clone(), policy.domain.clone())),
                false => Err(not_the_newest(policy.number)),
            }
        });
        look.await.stored()?
    }

    /// Who is of another server can prove there only who they are: they cannot act here.
    fn delegates_are_here(&self, rules: &RuleSet) -> Result<(), Error> {
        for delegate in rules.delegates() {
            if let Some(who) = delegate.who.iter().find(|who| !self.accounts.is_local(who)) {
                let text = format!(
                    "[[delegate]] \"{}\": {who} is not of this server, and only who is can act for you",
                    delegate.id
                );
                return Err(Error::new(Code::Malformed, text));
            }
        }
        Ok(())
    }

    pub(super) async fn explain(&self, acting: &Acting<scope::Rules>, fetch: Fetch) -> Handled {
        let (supposed, owner) = (Supposed::of(fetch)?, acting.owner());
        let delegate = match acting.by() {
            By::Delegate(mandate) => Some(mandate.delegate()),
            _ => None,
        };
        match (delegate, supposed.rules()) {
            // What a delegate may not set it may not try either: it would tell what these rules look at.
            (Some(delegate), Some(rules)) => {
                let (old, domain) = self.grounds(owner, delegate, None).await?;
                confined(&old, rules, delegate, &domain)?;
            }
            // Nor does an owner try what would not be taken.
            (None, Some(rules)) => self.delegates_are_here(rules)?,
            (_, None) => {}
        }
        let look = self.principals.look(owner, |principal, now| {
            supposed.answer(owner, delegate, &principal.presentity, now)
        });
        look.await.stored()?
    }

    /// What becomes of somebody who follows, who looks once, and who writes, in names alone: for the
    /// operator, whom contents do not concern.
    ///
    /// # Errors
    /// [`StoreError`] if the owner's rules cannot be read.
    pub async fn outlines(
        &self,
        acting: &Acting<scope::Rules>,
        watcher: &Watcher,
    ) -> Result<[Outline; 3], StoreError> {
        let owner = acting.owner();
        let look = self.principals.look(owner, |principal, now| {
            outlines(owner, &principal.presentity, watcher.clone(), now)
        });
        look.await
    }

    /// The text of an owner's rules and its version.
    async fn of(&self, acting: &Acting<scope::Rules>) -> Result<(String, u64), Error> {
        let look = self.principals.look(acting.owner(), |principal, _| {
            let policy = principal.presentity.policy();
            (policy.text.to_string(), policy.number)
        });
        look.await.stored()
    }

    /// Changes an owner's rules by an edit of their text, again if they were changed meanwhile.
    pub(super) async fn edit(
        &self,
        acting: &Acting<scope::Rules>,
        edit: impl Fn(&str) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let mut last = Error::new(Code::Conflict, "the rules are being changed; try again");
        for _ in 0..EDITS_MAX {
            let (text, number) = self.of(acting).await?;
            let text = edit(&text)?;
            match self.replace(acting, parsed(&text)?, text, number).await {
                Ok(_) => return Ok(()),
                Err(error) if error.code == Code::Conflict => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Replaces rules by these, which the text says, if `base` is still their version; the new one.
    async fn replace(
        &self,
        acting: &Acting<scope::Rules>,
        rules: RuleSet,
        text: String,
        base: u64,
    ) -> Result<u64, Error> {
        self.replace_if(acting, rules, text, base, |_| Ok(())).await
    }

    /// The same, if the owner is as it has to be then.
    async fn replace_if(
        &self,
        acting: &Acting<scope::Rules>,
        rules: RuleSet,
        text: String,
        base: u64,
        fits: impl FnOnce(&mut Principal) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let (rules, text) = (rules.into(), text.into());
        let change = Change::PutRules { rules, text, base };
        let replaced = self.principals.change_if(acting.owner(), change, fits).await;
        if matches!(replaced, Err(ChangeError::Conflict)) {
            return Err(not_the_newest(self.of(acting).await?.1));
        }
        match replaced.stored()?? {
            Answer::Numbered(number) => Ok(number),
            _ => Ok(self.of(acting).await?.1),
        }
    }
}

/// A delegate grants no more than it is granted.
fn confined(
    old: &RuleSet,
    new: &RuleSet,
    delegate: &Address,
    domain: &DomainPolicy,
) -> Result<(), Error> {
    let confined = old.confine(new, delegate, domain);
    confined.map_err(|widened| Error::new(Code::Refused, widened.to_string()))
}

fn not_the_newest(newest: u64) -> Error {
    let mut error = Error::new(Code::Conflict, format!("the rules' version is {newest}"));
    error.version = Some(newest);
    error
}

fn parsed(text: &str) -> Result<RuleSet, Error> {
    RuleSet::parse(text).map_err(|error| unusable(&error))
}

pub(super) fn unusable(error: &RulesError) -> Error {
    let hint = error.hint.as_ref().map(|hint| format!("\nhint: {hint}"));
    Error::new(Code::Malformed, format!("{error}{}", hint.unwrap_or_default()))
}
