//! Who follows presentities of other domains beyond sessions, read from the store.

use std::collections::BTreeSet;

use impp_federation::shares::Shares;
use impp_presence::followed::{MirrorKey, Terms};
use impp_protocol::{Address, Domain, Timestamp};
use impp_storage::StoreError;

use super::shared::pair;
use super::{Mirrors, Slot, terms};
use crate::core::ground::Ground;
use crate::core::keeping;
use crate::core::records::{self, FOLLOWED, WatcherRecord};
use crate::core::timers::Due;

impl Mirrors {
    /// Reads who follows presentities of other domains beyond sessions. Where a record is damaged, its
    /// watcher does not follow until it asks again; the others do.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(ground: Ground, shares: &Shares) -> Result<Mirrors, StoreError> {
        let (config, now) = (ground.settings.load_full(), ground.clock.now());
        let (beyond, all, peers) = Default::default();
        let mirrors = Mirrors { ground, beyond, mirrors: all, peers };
        if !config.federation.enabled {
            return Ok(mirrors);
        }
        let (terms, ground) = (terms(&config), &mirrors.ground);
        let domains = ground.accounts.domains();
        for domain in domains {
            for (key, record) in keeping::all(&*ground.store, domain, FOLLOWED).await?.records {
                let restored = mirrors.restore(domain, domains, &key, &record.value, now, terms);
                if let Err(error) = restored {
                    tracing::error!(%error, "what somebody follows is passed over");
                }
            }
        }
        for mut slot in mirrors.mirrors.iter_mut() {
            let remote = slot.key().presentity.domain();
            let watchers: Vec<Address> = slot.mirror.followers().map(|(w, _)| w.clone()).collect();
            for watcher in watchers {
                let claim = shares.claim_held(&watcher, &remote);
                slot.claims.insert(watcher, claim);
            }
            let deadline = slot.mirror.next_deadline(now, terms);
            ground.timers.set(Due::Mirror(slot.key().clone()), deadline);
        }
        Ok(mirrors)
    }

    fn restore(
        &self,
        domain: &Domain,
        hosted: &[Domain],
        key: &[u8],
        value: &[u8],
        now: Timestamp,
        terms: Terms,
    ) -> Result<(), StoreError> {
        let damaged = || {
            let key = String::from_utf8_lossy(key).replace('\0', " ");
            StoreError::Damaged { what: format!("record {} of {domain} ({key})", FOLLOWED.0) }
        };
        let text = std::str::from_utf8(key).map_err(|_| damaged())?;
        let (local, presentity) = text.split_once('\0').ok_or_else(damaged)?;
        let presentity = Address::parse_canonical(presentity).map_err(|_| damaged())?;
        if hosted.contains(&presentity.domain()) {
            return Ok(());
        }
        // Whoever was followed when this server still hosted the domain has no record.
        let Ok(record) = records::from_bytes::<WatcherRecord>(value) else { return Ok(()) };
        let watcher = Address::new(local, domain).map_err(|_| damaged())?;
        let key = MirrorKey { local: domain.clone(), presentity };
        let mut peer = self.peers.entry(pair(&key)).or_default();
        peer.presentities.insert(key.presentity.clone());
        drop(peer);
        let mut slot =
            self.mirrors.entry(key.clone()).or_insert_with(|| Slot::new(&key, None, now));
        slot.mirror.restore(now, watcher.clone(), record.kept().ok_or_else(damaged)?, terms);
        slot.note_leases(&self.ground.standing, &key, &BTreeSet::from([watcher]));
        let (before, after) = (slot.counted, slot.count());
        drop(slot);
        self.peers.entry(pair(&key)).or_default().total.change(before, after);
        Ok(())
    }
}
