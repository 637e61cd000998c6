//! Addresses here that do not exist and that another domain asks for. Each is a principal like any
//! other, read from the store, changed and stored like one: with the rules of a new account, and an
//! owner who never signs in. So what is answered is the same because the same code answers.
//!
//! What is their own is that there may not be any number of them. Only those that are in the table of
//! [`Ghosts`] stay in memory; one that goes from it is given up, and nothing of it stays on the disk.

use std::sync::Arc;

use impp_presence::Change;
use impp_presence::ghosts::Gone;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Domain};
use impp_storage::{Op, Payer, StoreError};

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
                if let (Ok(ghost), Some(asked_by)) = (Address::new(name, domain), asked_by) {
                    found.push((record.version, ghost, asked_by));
                }
            }
        }
        // In the order in which they were last stored.
        found.sort();
        for (_, ghost, asked_by) in found {
            if self.ground.accounts.get(&ghost).is_some() {
                // A crash came between the account and the end of this.
                self.clear(&ghost).await?;
                continue;
            }
            let gone = {
                let mut ghosts = self.ghosts.lock();
                let gone = ghosts.ask(&ghost, &asked_by);
                ghosts.note(&ghost);
                gone
            };
            // A crash came between one that made room and its end.
            gone.into_iter().for_each(|gone| self.let_go(gone));
        }
        Ok(())
    }

    /// Another domain is about to ask for an address of ours, and may not be told whether it exists.
    pub fn asked_from(self: &Arc<Self>, owner: &Address, domain: &Domain) {
        // Nobody waits for the table who asks for somebody that exists. One that is in memory may just be
        // given up: then it has a place again, and stays.
        if self.ground.accounts.get(owner).is_some() {
            return;
        }
        let gone = self.ghosts.lock().ask(owner, domain);
        gone.into_iter().for_each(|gone| self.let_go(gone));
    }

    /// One has made room.
    fn let_go(self: &Arc<Self>, Gone { address, noted }: Gone) {
        if !noted {
            return self.forget(&address);
        }
        let principals = self.clone();
        tokio::spawn(async move {
            if let Err(error) = principals.give_up(&address).await {
                tracing::warn!(%error, "what is stored of an address without an account stays");
            }
        });
    }

    /// What is stored beside something of a ghost: that it is kept, for the next run of the server.
    pub fn ghost_note(&self, owner: &Address) -> Option<Op> {
        if self.ground.accounts.get(owner).is_some() {
            return None;
        }
        let mut ghosts = self.ghosts.lock();
        let asked_by = ghosts.note(owner)?.to_string();
        Some(place::ghost(owner).set(Some(&asked_by)))
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
        self.ghosts.lock().forget(owner);
        if let Some(entry) = self.entries.get(owner) {
            entry.value().lock().held = HeldMessages::default();
        }
        self.clear(owner).await
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

    /// Those who wait for it are told, and nothing of it stays.
    async fn give_up(self: &Arc<Self>, ghost: &Address) -> Result<(), StoreError> {
        let close = Change::Close(SubscriptionEvent::Giveup);
        let closed = self.change(ghost, close).await;
        // It may have been asked for again, or have come to be.
        if self.stays(ghost) {
            self.ghosts.lock().note(ghost);
            return Ok(());
        }
        self.forget(ghost);
        match closed {
            // What of it is stored is found at the next start.
            Err(super::ChangeError::Store(error)) => Err(error),
            _ => self.clear(ghost).await,
        }
    }

    /// Nothing stays stored of one, but who waits for it.
    async fn clear(&self, ghost: &Address) -> Result<(), StoreError> {
        let held = keeping::scan(&*self.ground.store, ghost, HELD).await?;
        let empty = held.into_iter().filter(|(_, record)| record.value.is_empty());
        let domain = ghost.domain();
        let held = empty.map(|(key, _)| place::found::<Raw>(&domain, HELD, key).delete());
        let ops = held.chain([place::ghost(ghost).delete()]).collect();
        let (store, now) = (&*self.ground.store, self.ground.clock.now());
        // In no lane: some of it was written in that of who wrote.
        let bill = Bill { payer: Payer::Operator, ..Bill::default() };
        Commits::submit(store, now, ops, &bill, None).done().await
    }
}
