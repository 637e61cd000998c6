//! The principals of the hosted domains: their presentities, each under its own lock, and what is
//! counted of them.
//!
//! This is the one place that changes a presentity. A change is staged, and queued for the store, under
//! the lock, so that the store sees changes in their order; a task of its own waits for the store, shows
//! the change or takes it back, and only then wakes whoever has to look, also if the one who asked has
//! gone. What a presentity does is left to `impp_presence`, what it looks like on disk to `records`.

mod acts;
mod first_rules;
mod ghosts;
mod held;
mod inbox;
mod load;
mod looking;
mod mandates;
mod recovery;
mod storing;
mod surroundings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use impp_presence::ghosts::Ghosts;
use impp_presence::places::Asker;
use impp_presence::{Answer, Change, Effects, Presentity, Staging, Write};
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};
use impp_storage::{Payer, StoreError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::core::DashMap;
use crate::core::accounts::AccountError;
use crate::core::answers::Unstored;
use crate::core::ground::Ground;
use crate::core::keeping::{Bill, Committed};
use crate::core::rates::Rates;
use crate::core::settings::Settings;
use crate::core::standing::Standing;
use crate::core::timers::Due;
use acts::ActsOfHour;
use first_rules::FirstRules;
pub use held::{HeldMessages, Moving};
pub use inbox::{Dropped, InboxShares, Put};
pub use load::pace_limit;
use looking::LookedAt;
use mandates::Named;
pub use recovery::Recovery;
use surroundings::Surroundings;

/// One principal.
#[derive(Debug)]
pub struct Principal {
    /// Rules, contacts, layers and watchers.
    pub presentity: Presentity,
    /// What senders may still send.
    pub rates: Rates,
    /// Messages held for the owner's decision.
    pub held: HeldMessages,
    /// Whose messages are in the inbox.
    pub inbox: InboxShares,
    acts: ActsOfHour,
    /// Whether whom its rules name may be about to change.
    renames: bool,
    waiting: HashMap<u64, Waiting>,
    /// In which surroundings it is decided.
    surroundings: u64,
}

/// A change on its way to the disk.
#[derive(Debug)]
struct Waiting {
    tell: oneshot::Sender<Result<Answer, ChangeError>>,
    /// Whose subscriptions it is about.
    watchers: Vec<Address>,
    /// Who pays for it, also where it is made once more.
    bill: Bill,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The store; it may have been stored only if it says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another change came first.
    #[error("it was changed meanwhile")]
    Conflict,
}

impl From<ChangeError> for AccountError {
    fn from(error: ChangeError) -> AccountError {
        match error {
            ChangeError::Store(error) => error.into(),
            ChangeError::Conflict => StoreError::Busy.into(),
        }
    }
}

impl Principal {
    /// One who asks for a place among the owner's.
    pub fn asker<'a>(&self, owner: &Address, who: &'a Address) -> Asker<'a> {
        Asker::of(owner, who, self.presentity.policy().contacts.contains_key(who))
    }

    fn new(presentity: Presentity, held: HeldMessages, inbox: InboxShares) -> Principal {
        let (rates, acts, renames, waiting, surroundings) = Default::default();
        Principal { presentity, rates, held, inbox, acts, renames, waiting, surroundings }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Principals {
    ground: Ground,
    recovery: Recovery,
    entries: DashMap<Address, Arc<Mutex<Principal>>>,
    surroundings: Surroundings,
    first_rules: FirstRules,
    /// Those that are just read.
    loading: DashMap<Address, load::Turn>,
    /// Those who do not exist.
    ghosts: Mutex<Ghosts>,
    /// At whom somebody has looked once.
    looked_at: Mutex<LookedAt>,
    /// Who acts for whom, as far as rules name them.
    named: Named,
    /// How often one was asked for, and how often who waits where; tests compare it.
    #[cfg(test)]
    steps: [std::sync::atomic::AtomicU64; 2],
}

impl Principals {
    /// None is loaded yet.
    pub fn new(ground: Ground, recovery: Recovery) -> Principals {
        let (entries, surroundings, first_rules, loading) = Default::default();
        let (ghosts, looked_at, named) = Default::default();
        Principals {
            ground,
            recovery,
            entries,
            surroundings,
            first_rules,
            loading,
            ghosts,
            looked_at,
            named,
            #[cfg(test)]
            steps: Default::default(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.ground.settings
    }

    /// How those who watch, or follow elsewhere, stand.
    pub fn standing(&self) -> &Standing {
        &self.ground.standing
    }

    /// Looks at a principal as it is now: what time has ended is ended first, however late the timer
    /// is.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be loaded.
    pub async fn look<R>(
        self: &Arc<Self>,
        owner: &Address,
        act: impl FnOnce(&mut Principal, Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let entry = self.load(owner).await?;
        let (mut principal, now) = (self.enter(owner, &entry), self.ground.clock.now());
        if principal.presentity.is_over(now) {
            self.expire_now(owner, &entry, &mut principal, now);
        }
        let answer = act(&mut principal, now);
        let encodes = principal.presentity.take_encodes();
        self.ground.metrics.view_encodes.inc_by(encodes);
        Ok(answer)
    }

    /// Makes a change. It is on the disk and shown when this returns.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing of it is shown then, unless it is true whatever the store says.
    pub async fn change(
        self: &Arc<Self>,
        owner: &Address,
        change: Change,
    ) -> Result<Answer, ChangeError> {
        let fits = |_: &mut Principal| Ok::<_, std::convert::Infallible>(());
        match self.change_if(owner, change, fits).await? {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }

    /// The same for the operator, who pays for it on a full disk, whosever the principal is.
    ///
    /// # Errors
    /// As [`Principals::change`].
    pub async fn change_for_operator(
        self: &Arc<Self>,
        owner: &Address,
        change: Change,
    ) -> Result<Answer, ChangeError> {
        let bill = |bill: Bill| Bill { payer: Payer::Operator, ..bill };
        let fits = |_: &mut Principal| Ok::<_, std::convert::Infallible>(());
        match self.change_paid(owner, change, bill, fits).await? {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }

    /// The same, if the principal is as it has to be.
    ///
    /// # Errors
    /// As [`Principals::change`]; within, what `fits` says.
    pub async fn change_if<E>(
        self: &Arc<Self>,
        owner: &Address,
        change: Change,
        fits: impl FnOnce(&mut Principal) -> Result<(), E>,
    ) -> Result<Result<Answer, E>, ChangeError> {
        self.change_paid(owner, change, |bill| bill, fits).await
    }

    async fn change_paid<E>(
        self: &Arc<Self>,
        owner: &Address,
        change: Change,
        paid: impl FnOnce(Bill) -> Bill,
        fits: impl FnOnce(&mut Principal) -> Result<(), E>,
    ) -> Result<Result<Answer, E>, ChangeError> {
        let entry = self.load(owner).await?;
        let told = {
            let (mut principal, now) = (self.enter(owner, &entry), self.ground.clock.now());
            if let Err(unfit) = fits(&mut principal) {
                return Ok(Err(unfit));
            }
            let bill = paid(self.bill(owner, &principal.presentity, &change));
            self.will_name(owner, &mut principal, &change);
            let (staging, mut effects) = principal.presentity.stage(now, change);
            let writes = std::mem::take(&mut effects.writes);
            let told = match staging {
                Staging::Shown(answer) => Ok((answer, writes)),
                Staging::Staged(id) => {
                    let (tell, told) = oneshot::channel();
                    let watchers = watchers_of(&writes);
                    self.note(owner, &principal, &watchers);
                    let waiting = Waiting { tell, watchers, bill: bill.clone() };
                    principal.waiting.insert(id, waiting);
                    self.store((owner, &entry, &principal), id, (writes, &bill), now);
                    Err(told)
                }
            };
            self.follow_up(owner, &entry, &mut principal, effects, now);
            // After what is stored again: it corrects what that comes to.
            told.map(|(answer, writes)| {
                self.note(owner, &principal, &watchers_of(&writes));
                (answer, self.submit(owner, writes, &bill, now))
            })
        };
        match told {
            Ok((answer, commits)) => Ok(Ok(commits.done().await.map(|()| answer)?)),
            Err(told) => told.await.unwrap_or(Err(StoreError::Stopped.into())).map(Ok),
        }
    }

    /// Does what time has made due of a presentity.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be loaded.
    pub async fn expire(self: &Arc<Self>, owner: &Address) -> Result<(), StoreError> {
        let entry = self.load(owner).await?;
        let (mut principal, now) = (self.enter(owner, &entry), self.ground.clock.now());
        self.expire_now(owner, &entry, &mut principal, now);
        Ok(())
    }

    /// Forgets a principal whose account is gone; what it had is asked from the store again.
    pub fn forget(&self, owner: &Address) {
        self.entries.remove(owner);
        self.forget_named(owner);
        self.ground.timers.set(Due::Presentity(owner.clone()), None);
    }

    fn expire_now(
        self: &Arc<Self>,
        owner: &Address,
        entry: &Arc<Mutex<Principal>>,
        principal: &mut Principal,
        now: Timestamp,
    ) {
        let effects = principal.presentity.expire(now);
        self.follow_up(owner, entry, principal, effects, now);
    }

    /// The store has answered for a staged change.
    fn ended(
        self: &Arc<Self>,
        owner: &Address,
        entry: &Arc<Mutex<Principal>>,
        id: u64,
        committed: Committed,
        of_rules: bool,
    ) {
        let (mut principal, now) = (self.enter(owner, entry), self.ground.clock.now());
        let presentity = &mut principal.presentity;
        let (effects, error) = match committed {
            Committed::All(versions) => {
                let number = versions.first().copied().filter(|_| of_rules);
                (presentity.committed(now, id, number), None)
            }
            Committed::Conflict => (presentity.failed(now, id, false), Some(ChangeError::Conflict)),
            Committed::Failed { error, partly } => {
                (presentity.failed(now, id, partly), Some(error.into()))
            }
        };
        let failed = error.and_then(|error| Some((principal.waiting.remove(&id)?, error)));
        if let Some((Waiting { watchers, .. }, _)) = &failed {
            self.note(owner, &principal, watchers);
        }
        self.follow_up(owner, entry, &mut principal, effects, now);
        if let Some((Waiting { tell, .. }, error)) = failed {
            let _ = tell.send(Err(error));
        }
    }

    /// All that follows from a step: what else is to be stored, the timer, who is told, who is woken.
    fn follow_up(
        self: &Arc<Self>,
        owner: &Address,
        entry: &Arc<Mutex<Principal>>,
        principal: &mut Principal,
        effects: Effects,
        now: Timestamp,
    ) {
        self.note_named(owner, principal);
        let Effects { mut writes, again, later, wake, answers } = effects;
        writes.extend(later);
        for (id, writes) in again {
            self.note(owner, principal, &watchers_of(&writes));
            let waiting = principal.waiting.get(&id);
            let bill = waiting.map(|waiting| waiting.bill.clone()).unwrap_or_default();
            self.store((owner, entry, principal), id, (writes, &bill), now);
        }
        if !writes.is_empty() {
            self.note(owner, principal, &watchers_of(&writes));
            // What is true already, or was there before: it gives nothing new to anybody.
            let bill = Bill { payer: Payer::Account(owner.clone()), share: None };
            let commits = self.submit(owner, writes, &bill, now);
            tokio::spawn(async move {
                // It is true all the same, and judged anew when it is loaded.
                let stored = commits.done().await;
                let _ = stored.inspect_err(|error| error.unstored("how watchers and leases stand"));
            });
        }
        self.ground.metrics.view_encodes.inc_by(principal.presentity.take_encodes());
        let deadline = principal.presentity.next_deadline();
        self.ground.timers.set(Due::Presentity(owner.clone()), deadline);
        // Before the answer: whoever is asked after it has heard of what it is about.
        self.ground.listeners.wake(owner, &wake);
        for (id, answer) in answers {
            if let Some(Waiting { tell, .. }) = principal.waiting.remove(&id) {
                // Whoever has stopped waiting does not hear it.
                let _ = tell.send(Ok(answer));
            }
        }
    }

    fn note(&self, owner: &Address, principal: &Principal, watchers: &[Address]) {
        self.ground.standing.note(owner, &principal.presentity, watchers);
    }
}

fn watchers_of(writes: &[Write]) -> Vec<Address> {
    let watcher = |write: &Write| match write {
        Write::Watcher(watcher, _) => Some(watcher.clone()),
        Write::Layer(..)
        | Write::Contact(..)
        | Write::Trace(..)
        | Write::Floor(_)
        | Write::Rules(..) => None,
    };
    writes.iter().filter_map(watcher).collect()
}
