//! Addresses here at which another domain waits, and those among them that do not exist. Each of these
//! is a principal like any other, read from the store, changed and stored like one: with the rules of a
//! new account, and an owner who never signs in. So what is answered is the same because the same code
//! answers.
//!
//! What is their own is that there may not be any number of them. Only those that are in the table of
//! [`Ghosts`] stay in memory; where one goes from it, its domain's requests are given up, and nothing of
//! one without an account stays on the disk. As that is told, it is the same for accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use impp_presence::Change;
use impp_presence::ghosts::{Ghosts, Gone};
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Domain};
use impp_storage::{Lane, Op, Payer, StoreError};
use parking_lot::MutexGuard;

use super::{HeldMessages, Principals};
use crate::core::keeping::{self, Bill, Commits};
use crate::core::records::place::{self, Place, Raw};
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
                self.unhold(&address).await?;
            }
            let gone = {
                let mut ghosts = self.table();
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
        let is_there = self.ground.accounts.get(owner).is_some();
        let gone = {
            let mut ghosts = self.table();
            // Looked for alike: that takes time too.
            if ghosts.waits(owner, domain) || is_there { None } else { ghosts.ask(owner, domain) }
        };
        gone.into_iter().for_each(|gone| self.let_go(gone));
    }

    /// Another domain waits for an owner, or for nobody. One that is in memory may just be given up: then
    /// it has a place again, and stays.
    pub fn waits_at(self: &Arc<Self>, owner: &Address, domain: &Domain) {
        let gone = self.table().ask(owner, domain);
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
        let kept = self.table().note(owner, asked_by);
        kept.then(|| place::ghost(owner, asked_by).set(Some(&asked_by.to_string())))
    }

    /// The account is there now. Who waits for its owner stays, as with any account; but of messages
    /// that it seemed to hold there is nothing to decide about.
    ///
    /// # Errors
    /// [`StoreError`]: they go at the next start.
    pub async fn born(&self, owner: &Address) -> Result<(), StoreError> {
        if !self.table().contains(owner) {
            return Ok(());
        }
        if let Some(entry) = self.entries.get(owner) {
            entry.value().lock().held = HeldMessages::default();
        }
        self.unhold(owner).await
    }

    /// How many principals were asked for so far, and how often the table of who waits where was.
    #[cfg(test)]
    pub fn steps(&self) -> [u64; 2] {
        self.steps.each_ref().map(|count| count.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// The table; what is asked of it for who exists is asked for who does not.
    fn table(&self) -> MutexGuard<'_, Ghosts> {
        #[cfg(test)]
        self.steps[1].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.ghosts.lock()
    }

    /// Whether a principal stays in memory: of those who do not exist only so many do.
    pub(super) fn stays(&self, owner: &Address) -> bool {
        let waits = self.table().contains(owner);
        self.ground.accounts.get(owner).is_some() || waits
    }

    /// Those of the domain who wait there are told, and nothing of one without an account stays.
    async fn give_up(self: &Arc<Self>, gone: &Gone) -> Result<(), StoreError> {
        let Gone { address, asked_by, noted } = gone;
        if *noted {
            for watcher in self.waiting(address, asked_by).await? {
                if self.table().waits(address, asked_by) {
                    // Asked for again: the rest waits on.
                    break;
                }
                let end = Change::End(watcher, SubscriptionEvent::Giveup);
                // What of it is stored is found at the next start.
                if let Err(super::ChangeError::Store(error)) = self.change(address, end).await {
                    return Err(error);
                }
            }
        }
        if self.ground.accounts.get(address).is_some() {
            return match *noted {
                true => self.unplace_at_owner(address, asked_by).await,
                false => Ok(()),
            };
        }
        // Whoever asks anew meanwhile reads it when this is done: not what just goes.
        let turn = self.turn_to_load(address);
        let taken = turn.lock().await;
        self.forget_unless_asked(address);
        let done = match *noted {
            true => self.unplace_at_nobody(address, asked_by).await,
            false => Ok(()),
        };
        drop(taken);
        self.end_turn_to_load(address, turn);
        done
    }

    /// One without an account is not in memory any more, unless a domain waits there.
    fn forget_unless_asked(&self, address: &Address) {
        // Who asks from here on finds none, and waits for its turn to read it.
        // There may be an account by now.
        let gone = self.entries.remove_if(address, |_, _| !self.stays(address));
        if gone.is_some() {
            self.forget(address);
        }
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

    /// Of messages that nobody will read, as they were for an address without an account, nothing stays.
    async fn unhold(&self, address: &Address) -> Result<(), StoreError> {
        let held = self.held_at(address).await?;
        let nobodys = held.into_iter().filter(|one| one.is_empty);
        let mut ops: Vec<Op> = nobodys.map(|one| one.place(address).delete()).collect();
        if ops.is_empty() {
            return Ok(());
        }
        ops.push(place::ghost_alone(address).delete());
        let (store, now) = (&*self.ground.store, self.ground.clock.now());
        let bill = Bill { payer: Payer::Operator, share: None };
        Commits::submit(store, now, ops, &bill, Some(address)).done().await
    }

    /// What is held of a domain that is given up has no place any more: without an owner it goes.
    async fn unplace_at_nobody(&self, address: &Address, of: &Domain) -> Result<(), StoreError> {
        let mut held = self.held_at(address).await?;
        held.retain(|one| one.is_empty && one.is_of(of));
        let ops = held.iter().map(|one| one.place(address).delete()).collect();
        self.unplaced(address, of, ops).await?;
        self.held_no_more(address, held.iter());
        Ok(())
    }

    /// The same for an owner: it stays, set aside. The same is read, and as much stored. Of what is set
    /// aside there is as much at most as may be held.
    async fn unplace_at_owner(
        self: &Arc<Self>,
        address: &Address,
        of: &Domain,
    ) -> Result<(), StoreError> {
        let held = self.held_at(address).await?;
        let own = held.iter().filter(|one| one.is_of(of));
        let Some(upto) = own.map(|one| one.version).max() else {
            return self.unplaced(address, of, Vec::new()).await;
        };
        let most = self.ground.settings.load().limits.pending_max;
        let look = self.look(address, |principal, _| {
            let messages = &principal.held;
            let upto = upto.max(messages.aside_upto(of));
            let is_aside = |one: &&HeldOne| {
                messages.is_aside(&one.from, one.version) || one.is_of(of) && one.version <= upto
            };
            let aside = held.iter().filter(is_aside).collect();
            let gone = too_many(aside, usize::try_from(most).unwrap_or(usize::MAX));
            (gone, messages.spent(held.iter().map(|one| (&one.from, one.version))), upto)
        });
        let (gone, spent, upto) = look.await?;
        if !gone.is_empty() {
            let count = gone.len();
            tracing::warn!(%address, count, "messages that were held and given up made room for others");
        }
        let mut ops: Vec<Op> = gone.iter().map(|one| one.place(address).delete()).collect();
        ops.extend(spent.iter().map(|domain| place::aside(address, domain).delete()));
        ops.push(place::aside(address, of).set(Some(&upto)));
        self.unplaced(address, of, ops).await?;
        self.held_no_more(address, gone.into_iter());
        self.is_aside_now(address, of, upto, &spent).await
    }

    /// What is left of a domain up to this version has no place any more, as the store has it; of those that
    /// are spent nothing is known.
    async fn is_aside_now(
        &self,
        address: &Address,
        of: &Domain,
        upto: u64,
        spent: &[Domain],
    ) -> Result<(), StoreError> {
        // Read again: some of it may have been moved meanwhile.
        let left = self.held_at(address).await?;
        if let Some(entry) = self.entries.get(address).map(|entry| entry.value().clone()) {
            let own = left.iter().filter(|one| one.is_of(of));
            let mut principal = entry.lock();
            principal.held.forget_aside(spent);
            principal.held.set_aside(of, upto, own.map(|one| (&one.from, one.version)));
        }
        Ok(())
    }

    /// This is stored of what is given up, and that its domain waits there no more.
    async fn unplaced(
        &self,
        address: &Address,
        of: &Domain,
        mut ops: Vec<Op>,
    ) -> Result<(), StoreError> {
        // Asked for again it has its place.
        if !self.table().waits(address, of) {
            ops.push(place::ghost(address, of).delete());
        }
        ops.push(place::ghost_alone(address).delete());
        let (store, now) = (&*self.ground.store, self.ground.clock.now());
        // In the lane of its watchers' records. What was held was written in that of who wrote, but it was
        // read, so it is there; what is just on its way stays until the next start, as after a crash. The
        // domain that has asked has its share of the queue taken.
        let share = Some(Lane::Domain(of.clone()));
        let bill = Bill { payer: Payer::Operator, share };
        Commits::submit(store, now, ops, &bill, Some(address)).done().await
    }

    /// These are held no more, as the store has it: there is room for others.
    fn held_no_more<'a>(&self, address: &Address, gone: impl Iterator<Item = &'a HeldOne>) {
        if let Some(entry) = self.entries.get(address).map(|entry| entry.value().clone()) {
            let mut principal = entry.lock();
            gone.for_each(|one| principal.held.gone(&one.from, one.version));
        }
    }

    /// What is held there, the oldest first.
    async fn held_at(&self, address: &Address) -> Result<Vec<HeldOne>, StoreError> {
        let records = keeping::salvage(&*self.ground.store, address, HELD).await?.records;
        let held = records.into_iter().filter_map(|(key, record)| {
            let from = Address::parse_canonical(records::parts(&key).nth(1)?).ok()?;
            let (version, is_empty) = (record.version, record.value.is_empty());
            Some(HeldOne { key, from, version, is_empty })
        });
        let mut held: Vec<HeldOne> = held.collect();
        held.sort_by_key(|one| one.version);
        Ok(held)
    }
}

/// A message that is held, without what it says.
#[derive(Debug)]
struct HeldOne {
    key: Vec<u8>,
    from: Address,
    version: u64,
    is_empty: bool,
}

impl HeldOne {
    fn is_of(&self, domain: &Domain) -> bool {
        self.from.domain_str() == domain.as_str()
    }

    fn place(&self, owner: &Address) -> Place<Raw> {
        place::found(&owner.domain(), HELD, self.key.clone())
    }
}

/// Those of these, the oldest first, that are too many: each time the oldest of the domain that has most.
fn too_many(mut all: Vec<&HeldOne>, most: usize) -> Vec<&HeldOne> {
    let mut gone = Vec::new();
    while all.len() > most {
        let mut domains: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().for_each(|one| *domains.entry(one.from.domain_str()).or_default() += 1);
        let worst = domains.into_iter().max_by_key(|(_, count)| *count).map(|(domain, _)| domain);
        let Some(oldest) = all.iter().position(|one| Some(one.from.domain_str()) == worst) else {
            break;
        };
        gone.push(all.remove(oldest));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_what_is_set_aside_is_bounded_and_who_has_most_of_it_loses_its_oldest() {
        let one = |version: u64, from: &str| {
            let from = Address::parse(from).unwrap();
            HeldOne { key: Vec::new(), from, version, is_empty: false }
        };
        let all: Vec<HeldOne> = (1..=6)
            .map(|version| one(version, "m@evil.example"))
            .chain([one(7, "a@b.example"), one(8, "b@b.example")])
            .collect();
        let versions = |most| -> Vec<u64> {
            too_many(all.iter().collect(), most).iter().map(|one| one.version).collect()
        };
        assert!(versions(8).is_empty());
        assert_eq!(versions(4), [1, 2, 3, 4]);
    }
}
