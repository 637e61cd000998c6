//! Addresses here at which another domain waits, and those among them that do not exist. Each of these
//! is a principal like any other, read from the store, changed and stored like one: with the rules of a
//! new account, and an owner who never signs in. So what is answered is the same because the same code
//! answers.
//!
//! What is their own is that there may not be any number of them. Only those that are in the table of
//! [`Ghosts`] stay in memory; where one goes from it, its domain's requests are given up, and nothing of
//! one without an account stays on the disk. As that is told, it is the same for accounts.

use std::sync::Arc;

use impp_presence::Change;
use impp_presence::ghosts::Gone;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Domain};
use impp_storage::{Lane, Op, Payer, StoreError};

use super::{HeldMessages, Principals};
use crate::core::keeping::{self, Bill, Commits};
use crate::core::records::place::{self, Raw};
use crate::core::records::{self, GHOST, HELD};

impl Principals {
    /// Reads which of them the server before this one has kept.
    ///
    /// # Errors
    /// The store's, but not that some are damaged.
    pub async fn recall_ghosts(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for domain in self.ground.accounts.domains() {
            for (key, record) in keeping::all(&*self.ground.store, domain, GHOST).await?.records {
                let name = records::parts(&key).next().unwrap_or_default();
                let asked_by: Result<String, _> = records::from_bytes(&record.value);
                let asked_by = asked_by.ok().and_then(|text| Domain::parse(&text).ok());
                if let (Ok(address), Some(asked_by)) = (Address::new(name, domain), asked_by) {
                    found.push((record.version, address, asked_by));
                }
            }
        }
        // In the order in which they were last stored.
        found.sort();
        for (_, address, asked_by) in found {
            if self.ground.accounts.get(&address).is_some() {
                // A crash may have come between the account and the end of this.
                self.unhold(&address, None).await?;
            }
            let gone = {
                let mut ghosts = self.ghosts.lock();
                let gone = ghosts.ask(&address, &asked_by);
                ghosts.note(&address, &asked_by);
                gone
            };
            // A crash came between one that made room and its end.
            gone.into_iter().for_each(|gone| self.let_go(gone));
        }
        Ok(())
    }

    /// Another domain is about to ask for an address of ours, and may not be told whether it exists. At an
    /// account it has a place only if it comes to wait there.
    pub fn asked_from(self: &Arc<Self>, owner: &Address, domain: &Domain) {
        // Nobody waits for the table who asks for somebody that exists.
        if self.ground.accounts.get(owner).is_none() {
            self.waits_at(owner, domain);
        }
    }

    /// Another domain waits for an owner, or for nobody. One that is in memory may just be given up: then
    /// it has a place again, and stays.
    pub fn waits_at(self: &Arc<Self>, owner: &Address, domain: &Domain) {
        let gone = self.ghosts.lock().ask(owner, domain);
        gone.into_iter().for_each(|gone| self.let_go(gone));
    }

    /// One has made room. That is seen to later: whoever has made it may hold what that needs.
    fn let_go(self: &Arc<Self>, gone: Gone) {
        let principals = self.clone();
        tokio::spawn(async move {
            if let Err(error) = principals.give_up(&gone).await {
                tracing::warn!(%error, "what is stored of a request that was given up stays");
            }
        });
    }

    /// What is stored beside something that waits: that it does, for the next run of the server.
    pub fn ghost_note(&self, owner: &Address, asked_by: &Domain) -> Option<Op> {
        let kept = self.ghosts.lock().note(owner, asked_by);
        kept.then(|| place::ghost(owner, asked_by).set(Some(&asked_by.to_string())))
    }

    /// The account is there now. Who waits for its owner stays, as with any account; but of messages
    /// that it seemed to hold there is nothing to decide about.
    ///
    /// # Errors
    /// [`StoreError`]: they go at the next start.
    pub async fn born(&self, owner: &Address) -> Result<(), StoreError> {
        if !self.ghosts.lock().contains(owner) {
            return Ok(());
        }
        if let Some(entry) = self.entries.get(owner) {
            entry.value().lock().held = HeldMessages::default();
        }
        self.unhold(owner, None).await
    }

    /// How many principals were asked for so far.
    #[cfg(test)]
    pub fn looked_at(&self) -> u64 {
        self.looked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether a principal stays in memory: of those who do not exist only so many do.
    pub(super) fn stays(&self, owner: &Address) -> bool {
        self.ground.accounts.get(owner).is_some() || self.ghosts.lock().contains(owner)
    }

    /// Those of the domain who wait there are told, and nothing of one without an account stays.
    async fn give_up(self: &Arc<Self>, gone: &Gone) -> Result<(), StoreError> {
        let Gone { address, asked_by, noted } = gone;
        if *noted {
            for watcher in self.waiting(address, asked_by).await? {
                if self.ghosts.lock().waits(address, asked_by) {
                    // Asked for again: the rest waits on.
                    return Ok(());
                }
                let end = Change::End(watcher, SubscriptionEvent::Giveup);
                // What of it is stored is found at the next start.
                if let Err(super::ChangeError::Store(error)) = self.change(address, end).await {
                    return Err(error);
                }
            }
        }
        if !self.stays(address) {
            self.forget(address);
        }
        if *noted && !self.ghosts.lock().waits(address, asked_by) {
            self.unhold(address, Some(asked_by)).await?;
        }
        Ok(())
    }

    /// Who of a domain waits for the owner there.
    async fn waiting(
        self: &Arc<Self>,
        address: &Address,
        asked_by: &Domain,
    ) -> Result<Vec<Address>, StoreError> {
        let look = self.look(address, |principal, _| {
            let all = principal.presentity.watchers();
            let of = all.filter(|(watcher, watching)| {
                watching.is_waiting() && watcher.domain_str() == asked_by.as_str()
            });
            of.map(|(watcher, _)| watcher.clone()).collect()
        });
        look.await
    }

    /// Of messages that nobody will read, as they were for an address without an account, nothing stays;
    /// nor that this domain waits there.
    async fn unhold(&self, address: &Address, of: Option<&Domain>) -> Result<(), StoreError> {
        let held = keeping::salvage(&*self.ground.store, address, HELD).await?.records;
        let mut ops = Vec::new();
        for (key, record) in held {
            let from = records::parts(&key).nth(1).map(Address::parse_canonical);
            let Some(Ok(from)) = from else { continue };
            let is_of = of.is_none_or(|domain| domain.as_str() == from.domain_str());
            if record.value.is_empty() && is_of {
                ops.push(place::found::<Raw>(&address.domain(), HELD, key).delete());
                let entry = self.entries.get(address).map(|entry| entry.value().clone());
                if let Some(entry) = entry.filter(|_| of.is_some()) {
                    entry.lock().held.one_less(&from);
                }
            }
        }
        if ops.is_empty() && of.is_none() {
            return Ok(());
        }
        ops.extend(of.map(|domain| place::ghost(address, domain).delete()));
        ops.push(place::ghost_alone(address).delete());
        let (store, now) = (&*self.ground.store, self.ground.clock.now());
        // In the lane of its watchers' records. What was held was written in that of who wrote, but it was
        // read, so it is there; what is just on its way stays until the next start, as after a crash. The
        // domain that has asked has its share of the queue taken.
        let share = of.cloned().map(Lane::Domain);
        let bill = Bill { payer: Payer::Operator, share };
        Commits::submit(store, now, ops, &bill, Some(address)).done().await
    }
}
