//! Until when messages may have gone out to each domain, as the disk has it: after a crash, what was
//! queued before that may have been taken there, and is not told as failed.

use std::sync::Arc;

use impp_protocol::{Domain, Timestamp};
use impp_storage::{
    Expect, Lane, Outcome, Payer, Pending, Record, Salvaged, Store, StoreError, Unit,
};

use crate::core::accounts::Accounts;
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::keeping::all;
use crate::core::records::place::{self, Place};
use crate::core::records::{self, LINKED, LinkedRecord};
use crate::core::settings::Settings;

/// See the module.
pub struct Linked {
    store: Arc<dyn Store>,
    clock: Clock,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
}

/// Until when messages may have gone out to each domain.
pub(super) struct Maybe {
    linked: Vec<(Domain, Timestamp)>,
    /// There may be links of which nothing is known.
    unsure: bool,
}

impl Maybe {
    /// Whether a message that waits for a domain since then may have gone out to it.
    pub(super) fn is_taken(&self, remote: &Domain, since: Timestamp) -> bool {
        let mut of = self.linked.iter().filter(|(linked, _)| linked == remote);
        self.unsure || of.any(|(_, until)| since < *until)
    }
}

impl Linked {
    /// Of the links of these accounts' domains.
    pub fn new(ground: &Ground) -> Linked {
        let Ground { store, clock, settings, accounts, .. } = ground.clone();
        Linked { store, clock, settings, accounts }
    }

    /// Notes on the disk that a link to a domain is open, or no more. Queued for the store at once, so
    /// whoever calls this in some order is noted in that order.
    pub fn note(&self, local: &Domain, remote: &Domain, open: bool) -> Pending<Outcome> {
        let record = LinkedRecord { open, until: self.clock.now().as_millis() };
        self.put(place::linked(local, remote), Expect::Any, Some(record))
    }

    fn put(
        &self,
        place: Place<LinkedRecord>,
        expect: Expect,
        record: Option<LinkedRecord>,
    ) -> Pending<Outcome> {
        // That a link has ended is noted on a full disk too; a new one to a domain that had none is
        // not opened then.
        let opens = record.is_some_and(|record| record.open);
        let payer = if opens { Payer::Nobody } else { Payer::Operator };
        let name = place.key().key;
        let ops = vec![place.set_if(expect, record.as_ref())];
        let unit = Unit::of(self.clock.now(), ops).paid_by(payer);
        // Each domain's notes are about itself alone.
        let remote = std::str::from_utf8(&name).ok().and_then(|name| Domain::parse(name).ok());
        self.store.submit(Unit { lane: remote.map(Lane::Domain), ..unit })
    }

    /// Until when messages may have gone out to each domain, at the start. A link that was open at a
    /// crash is noted as closed now; what no message can need any more is forgotten. Of what is
    /// damaged the worst is taken: the link was open.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn restore(&self, local: &Domain) -> Result<Maybe, StoreError> {
        let (mut linked, now) = (Vec::new(), self.clock.now());
        let kept = seconds(self.settings.load().federation.queue_seconds);
        let Salvaged { records: found, damaged, unsure } = all(&*self.store, local, LINKED).await?;
        let found = found.into_iter().map(|(name, record)| (name, Some(record.value)));
        for (name, value) in found.chain(damaged.into_iter().map(|name| (name, None))) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let Ok(remote) = Domain::parse(&name) else {
                tracing::error!(name, "the store is damaged: a link to what is no domain");
                return Ok(Maybe { linked, unsure: true });
            };
            let open = LinkedRecord { open: true, until: 0 };
            let read = value.and_then(|value| records::from_bytes(&value).ok());
            let record: LinkedRecord = read.unwrap_or(open);
            // Open until a crash: whatever the clock says now, all that waits may have gone out.
            let until = match record.open {
                true => Timestamp::from_millis(u64::MAX),
                false => Timestamp::from_millis(record.until),
            };
            let closed = LinkedRecord { open: false, until: until.min(now).as_millis() };
            let closed = (until.after(kept) >= now).then_some(closed);
            if record.open || closed.is_none() {
                self.put(place::linked(local, &remote), Expect::Any, closed).await?;
            }
            linked.push((remote, until));
        }
        Ok(Maybe { linked, unsure })
    }

    /// Forgets which domains had links, as far as no message that waits can need it.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget(&self, now: Timestamp) -> Result<(), StoreError> {
        let kept = seconds(self.settings.load().federation.queue_seconds);
        for local in self.accounts.domains() {
            for (name, Record { value, .. }) in all(&*self.store, local, LINKED).await?.records {
                // What cannot be read stays as it is, and keeps no other from being forgotten.
                let Ok(record) = records::from_bytes::<LinkedRecord>(&value) else {
                    let remote = String::from_utf8_lossy(&name).into_owned();
                    tracing::error!(%local, remote, "the store is damaged: a note of a link");
                    continue;
                };
                let old = Timestamp::from_millis(record.until).after(kept) < now;
                if record.open || !old {
                    continue;
                }
                let place = place::found(local, LINKED, name);
                // One that opens just now is noted meanwhile: only what was seen is forgotten.
                let known = self.store.get(place.key()).await?;
                if let Some(known) = known.filter(|known| known.value == value) {
                    self.put(place, Expect::Version(known.version), None).await?;
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Linked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linked").finish_non_exhaustive()
    }
}
