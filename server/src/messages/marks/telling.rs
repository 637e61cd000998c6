//! Who is told how far it was read, or taken custody of, what they wrote: whom the reader's rules let, at the
//! moment when it is said. A mark that cannot be told then comes with the next: that says as much.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use impp_acl::Marks as Granted;
use impp_protocol::command::{Message, Publish};
use impp_protocol::state::{self, ItemKind, MarkKind, MarkReport};
use impp_protocol::{Address, MessageId, What};
use impp_storage::{Dedup, Lane, ReadBack, StoreError};

use super::{ASKING, Marks, Said, Seen};
use crate::core::principals::Principal;
use crate::core::records::{self, ReadMarkRecord, place};
use crate::reach::{Brought, bring};

/// Items that are read at once where custody is taken of them, the newest first, and so often at most: whose
/// messages are all older than these is told when they write again.
const ITEMS_AT_ONCE: usize = 256;
const PAGES_MAX: usize = 4;
/// Their bytes.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Senders of what is acknowledged at once who are told.
const SENDERS_MAX: usize = 64;

impl Marks {
    /// What an owner says of a conversation; the other is told, if that may be.
    pub(super) async fn say(
        self: &Arc<Self>,
        owner: &Address,
        with: &Address,
        kind: MarkKind,
        seen: Seen,
    ) -> Result<(), StoreError> {
        let is_told = has(self.granted(owner, with).await?, kind);
        if kind == MarkKind::Received && !is_told {
            return Ok(());
        }
        let share = Lane::Account(owner.clone());
        let merged = self.merge(owner, with, Said::Own(kind, seen, is_told), &share).await?;
        if let Some(merged) = merged.filter(|_| is_told) {
            let (marks, with) = (self.clone(), with.clone());
            let report = report(owner, kind, seen.id, &merged);
            // Nobody waits for that.
            tokio::spawn(async move { marks.tell(&with, report).await });
        }
        Ok(())
    }

    /// What a device of an owner's is about to take custody of, up to a place: the last from each sender, if the
    /// owner's rules let anybody be told so. Of very much at once it is the newest; and nothing, where it
    /// cannot be read now.
    pub async fn received(&self, owner: &Address, upto: u64) -> Vec<(Address, Seen)> {
        // Nearly nobody lets others be told what is received.
        if !self.grants_any(owner).await.unwrap_or(false) {
            return Vec::new();
        }
        let found = self.last_of(owner, upto).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was received cannot be told");
            Vec::new()
        })
    }

    async fn last_of(
        &self,
        owner: &Address,
        upto: u64,
    ) -> Result<Vec<(Address, Seen)>, StoreError> {
        let custody = self.store.log_state(owner.clone()).await?.custody;
        let (mut last, mut place) = (BTreeMap::new(), upto);
        for _ in 0..PAGES_MAX {
            if place <= custody || last.len() >= SENDERS_MAX {
                break;
            }
            let (with, items_max, bytes_max) = (None, ITEMS_AT_ONCE, BYTES_AT_ONCE);
            let query = ReadBack { owner: owner.clone(), upto: place, with, items_max, bytes_max };
            let page = self.store.read_back(query).await?;
            let received = ItemKind::Received.number();
            for item in page.items.iter().filter(|item| u64::from(item.kind) == received) {
                let message = item.body.clone().and_then(|body| Message::decode(body).ok());
                let Some(message) = message.filter(|_| item.seq > custody) else { continue };
                let seen = Seen { seq: item.seq, id: message.id, time: item.time };
                if let Some(from) = message.from {
                    // The newest comes first.
                    last.entry(from).or_insert(seen);
                }
            }
            match page.items.iter().map(|item| item.seq).min() {
                Some(oldest) if page.more => place = oldest.saturating_sub(1),
                _ => break,
            }
        }
        Ok(last.into_iter().take(SENDERS_MAX).collect())
    }

    /// That is in custody: whoever may be told so is.
    pub async fn say_received(self: &Arc<Self>, owner: &Address, received: Vec<(Address, Seen)>) {
        for (from, seen) in received {
            if let Err(error) = self.say(owner, &from, MarkKind::Received, seen).await {
                tracing::warn!(%error, "what was received could not be told");
            }
        }
    }

    /// Whether an owner's rules let anybody be told anything.
    async fn grants_any(&self, owner: &Address) -> Result<bool, StoreError> {
        let rules =
            |principal: &mut Principal, _| principal.presentity.policy().rules.grants_marks();
        self.principals.look(owner, rules).await
    }

    /// What somebody may be told by an owner's rules now.
    pub(super) async fn granted(
        &self,
        owner: &Address,
        with: &Address,
    ) -> Result<Granted, StoreError> {
        let may = |principal: &mut Principal, now| principal.presentity.marks(now, with);
        self.principals.look(owner, may).await
    }

    /// Tells it to whom it is for, here or in another domain.
    async fn tell(&self, to: &Address, report: MarkReport) {
        let telling = Telling { marks: self, to, report: &report };
        let told = bring(&self.routes, &report.from, to, telling).await;
        if let Err(error) = told {
            tracing::warn!(%error, "a mark could not be told");
        }
    }

    /// Asks another domain once, for somebody here; what it answers is for nobody.
    pub(super) fn ask_beyond(&self, of: &Address, publish: Publish) {
        let Some(beyond) = self.beyond.get().and_then(Weak::upgrade) else { return };
        // Of more than that nothing is said: they leave others room on the link, and one leaves others seats.
        let Some(seat) = self.asking.take(of.clone(), ASKING) else { return };
        let (of, remote) = (of.clone(), publish.address.domain());
        tokio::spawn(async move {
            let _seat = seat;
            let told = match beyond.claim(&of, &remote) {
                Ok(claim) => beyond.ask(claim, publish.into()).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::debug!(%error, "a mark was not taken over a link");
            }
        });
    }

    /// A mark has come over a link, from whom it says. It is taken of a conversation that is known, or of
    /// a message that was sent lately.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn told_over_link(
        &self,
        owner: &Address,
        report: &MarkReport,
    ) -> Result<(), StoreError> {
        if self.accounts.get(owner).is_none_or(|account| !account.services.im) {
            return Ok(());
        }
        let known = place::read_mark(owner, &report.from).key();
        let is_known = self.store.get(known).await?.is_some();
        if !is_known && !self.was_sent(owner, report).await? {
            return Ok(());
        }
        self.take(owner, report, Lane::Domain(report.from.domain())).await
    }

    async fn take(
        &self,
        owner: &Address,
        report: &MarkReport,
        share: Lane,
    ) -> Result<(), StoreError> {
        let said = Said::Theirs(report.kind, report.id, report.number);
        self.merge(owner, &report.from, said, &share).await.map(drop)
    }

    async fn was_sent(&self, owner: &Address, report: &MarkReport) -> Result<bool, StoreError> {
        let (from, to) = (owner.clone(), report.from.clone());
        let sent = Dedup { id: report.id.0, from, to, digest: [0; 32] };
        Ok(self.store.accepted(sent).await?.is_some())
    }
}

/// A mark on its way to whom it is for.
struct Telling<'a> {
    marks: &'a Marks,
    to: &'a Address,
    report: &'a MarkReport,
}

impl Brought for Telling<'_> {
    type Outcome = Result<(), StoreError>;

    async fn here(self) -> Result<(), StoreError> {
        let Telling { marks, to, report } = self;
        match marks.accounts.get(to).is_some_and(|account| account.services.im) {
            true => marks.take(to, report, Lane::Account(report.from.clone())).await,
            false => Ok(()),
        }
    }

    async fn elsewhere(self) -> Result<(), StoreError> {
        let content = Some(state::encode(self.report));
        let publish = Publish::of(self.to.clone(), What::ReadMarks, content);
        self.marks.ask_beyond(&self.report.from, publish);
        Ok(())
    }
}

/// What the other is told of what an owner has said.
fn report(owner: &Address, kind: MarkKind, id: MessageId, known: &ReadMarkRecord) -> MarkReport {
    let records::Told { received, read } = known.told;
    let number = match kind {
        MarkKind::Received => received,
        MarkKind::Read => read,
    };
    MarkReport { from: owner.clone(), kind, id, number }
}

fn has(granted: Granted, kind: MarkKind) -> bool {
    match kind {
        MarkKind::Received => granted.received,
        MarkKind::Read => granted.read,
    }
}
