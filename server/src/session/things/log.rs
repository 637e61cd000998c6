//! An owner's log: reading it from a cursor, following it, taking custody.
//!
//! Storing it is left to the store, sealing cursors to `secrets`.

use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{Acting, By, scope};
use impp_protocol::command::{Ack, Done, Fetch, Subscribe};
use impp_protocol::state::{self, Item, ItemKind, Page};
use impp_protocol::{Code, Error};
use impp_storage::{Lane, Outcome, ReadLog, Store, StoreError, Tails, Unit};

use super::following::{Following, Telling};
use super::items::{Reader, Room, damaged_behind, item_told};
use super::trimming::Trimming;
use super::{Client, Things};
use crate::core::answers::{Answer, Handled, Stored};
use crate::core::clock::Clock;
use crate::core::principals::Principals;
use crate::core::records::logs;
use crate::core::secrets::Secrets;
use crate::core::sessions::Sessions;
use crate::messages::{Delivery, Marks};
use crate::session::{Event, Front};

/// Items in one page, at most.
pub(super) const PAGE_ITEMS_MAX: u64 = 256;

/// What a FETCH asks of a log.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Asked {
    /// What is behind this place.
    pub after: u64,
    /// So many items at most.
    pub max: u64,
}

/// See the module.
pub(in crate::session) struct Logs {
    pub store: Arc<dyn Store>,
    pub tails: Arc<Tails>,
    pub secrets: Arc<Secrets>,
    pub clock: Clock,
    pub principals: Arc<Principals>,
    pub delivery: Arc<Delivery>,
    pub marks: Arc<Marks>,
    pub(super) trimming: Arc<Trimming>,
    pub(super) sessions: Arc<Sessions>,
}

/// The cursor that was sealed last: to seal one anew costs more than all else that an item costs here.
#[derive(Debug, Default)]
pub(in crate::session) struct Sealed(Option<(u64, Bytes)>);

impl Sealed {
    /// The cursor of a place, sealed if it is not that of before.
    fn of(&mut self, seq: u64, seal: impl FnOnce() -> Bytes) -> Bytes {
        match &self.0 {
            Some((last, cursor)) if *last == seq => cursor.clone(),
            _ => self.0.insert((seq, seal())).1.clone(),
        }
    }
}

impl Logs {
    /// Reads what is asked for: a page from a place on or back, or one item.
    pub(super) async fn fetch(
        &self,
        acting: &Acting<scope::Inbox>,
        every: bool,
        fetch: Fetch,
    ) -> Handled {
        let received = matches!(acting.by(), By::Delegate(_));
        let reader = Reader { every: every && !received, received, bare: fetch.metadata };
        if let Some(cursor) = fetch.item {
            return self.one(acting, reader, cursor).await;
        }
        if fetch.backwards {
            return self.back(acting, reader, fetch).await;
        }
        if fetch.with.is_some() || fetch.since.is_some() {
            return Err(Error::new(Code::Malformed, "with, since: only backwards"));
        }
        let asked = self.asked(acting, &fetch).await?;
        match received {
            true => self.came(acting, asked, reader).await,
            false => self.answer(acting, asked, reader).await,
        }
    }

    /// From where on is read, and how much.
    ///
    /// # Errors
    /// bad-cursor; malformed, if two places are named.
    pub(in crate::session) async fn asked(
        &self,
        acting: &Acting<scope::Inbox>,
        fetch: &Fetch,
    ) -> Result<Asked, Error> {
        let after = self.start(acting, fetch.cursor.clone(), fetch.at_end).await?;
        Ok(Asked { after, max: fetch.max.unwrap_or(PAGE_ITEMS_MAX).clamp(1, PAGE_ITEMS_MAX) })
    }

    /// The page that is asked for, as it is now.
    pub(in crate::session) async fn answer(
        &self,
        acting: &Acting<scope::Inbox>,
        Asked { after, max }: Asked,
        reader: Reader,
    ) -> Handled {
        let oldest = &mut Sealed::default();
        let (page, _) = self.page(acting, after, max, reader, oldest).await.stored()?;
        Ok(Done { content: Some(state::encode(&page)), ..Done::empty() })
    }

    /// Follows it from a cursor, or from its end.
    ///
    /// # Errors
    /// bad-cursor; malformed, if two places are named.
    pub(super) async fn follow(
        &self,
        acting: &Acting<scope::Inbox>,
        subscribe: Subscribe,
    ) -> Result<FollowedLog, Error> {
        let at_end = subscribe.at_end;
        let after = self.start(acting, subscribe.cursor, at_end).await?;
        let begins = at_end.then(|| self.cursor(acting, after, &mut Sealed::default()));
        let (acting, oldest) = (acting.clone(), Sealed::default());
        Ok(FollowedLog { acting, after, begins, damaged: 0, oldest, told: None })
    }

    /// Takes custody for the device that asks.
    ///
    /// # Errors
    /// bad-cursor.
    pub(in crate::session) fn ack(
        &self,
        acting: &Acting<scope::Inbox>,
        ack: &Ack,
    ) -> Result<Answer, Error> {
        let owner = acting.owner().clone();
        let opened = self.secrets.open_cursor(&owner, self.store.incarnation(), &ack.cursor);
        let upto = opened.ok_or_else(bad_cursor)?;
        let custody = logs::acknowledged(&owner, upto);
        let ops = vec![custody, self.trimming.at_once(&owner)];
        let unit = Unit::of(self.clock.trusted(), ops).in_lane(Lane::Account(owner.clone()));
        let (principals, trimming) = (self.principals.clone(), self.trimming.clone());
        let (delivery, store, marks) =
            (self.delivery.clone(), self.store.clone(), self.marks.clone());
        // What the inbox has room for again counts, also if the client is gone by then.
        Ok(Answer::when_done(async move {
            // Looked at before: what is in custody may go at once.
            let received = marks.received(&owner, upto).await;
            if let Outcome::Rejected(_) = store.submit(unit).await.stored()? {
                return Err(bad_cursor());
            }
            trimming.soon(&owner, upto);
            if principals.acknowledged(&owner, upto).await.stored()? {
                // There may be room again, for which what is decided has waited.
                delivery.go_on(&owner).await;
            }
            if !received.is_empty() {
                tokio::spawn(async move { marks.say_received(&owner, received).await });
            }
            Ok(Done::empty())
        }))
    }

    /// What is behind a place, and where the next page starts. From page to page `oldest` is mostly the
    /// same.
    pub(in crate::session) async fn page(
        &self,
        acting: &Acting<scope::Inbox>,
        after: u64,
        max: u64,
        reader: Reader,
        oldest: &mut Sealed,
    ) -> Result<(Page, u64), StoreError> {
        let query = ReadLog {
            owner: acting.owner().clone(),
            after,
            items_max: max as usize,
            bytes_max: reader.read_bytes_max(),
        };
        let read = self.tails.read(&*self.store, query).await?;
        let mut damaged: Vec<u64> = read.damaged.iter().map(|damaged| damaged.seq).collect();
        damaged.retain(|seq| reader.every && *seq > after);
        damaged.sort_unstable_by(|a, b| b.cmp(a));
        let (mut items, mut next, mut sealed) = (Vec::new(), after, Sealed::default());
        let (mut room, mut more) = (Room::default(), read.more);
        for item in read.items {
            let seq = item.seq;
            while let Some(before) = damaged.pop_if(|damaged| *damaged <= seq) {
                // What the index names twice is served once.
                if before < seq {
                    items.push(damaged_behind(self.cursor(acting, next, &mut sealed)));
                }
            }
            let seal = |seq| self.cursor(acting, seq, &mut sealed);
            let told = item_told(item, reader, seal);
            // Without bodies more was read than a page may hold.
            if reader.bare && !told.as_ref().is_none_or(|told| room.takes(told)) {
                more = true;
                break;
            }
            next = seq;
            items.extend(told);
        }
        // Those behind the last one; where there is more they are among that.
        if !more {
            let mut behind = || damaged_behind(self.cursor(acting, next, &mut sealed));
            items.extend(damaged.iter().map(|_| behind()));
        }
        let page = Page {
            items,
            cursor: self.cursor(acting, next, &mut sealed),
            more,
            oldest: self.cursor(acting, read.oldest.saturating_sub(1), oldest),
        };
        Ok((page, next))
    }

    pub(super) fn cursor(
        &self,
        acting: &Acting<scope::Inbox>,
        seq: u64,
        sealed: &mut Sealed,
    ) -> Bytes {
        sealed.of(seq, || self.secrets.seal_cursor(acting.owner(), self.store.incarnation(), seq))
    }

    /// The place behind which is read.
    async fn start(
        &self,
        acting: &Acting<scope::Inbox>,
        cursor: Option<Bytes>,
        at_end: bool,
    ) -> Result<u64, Error> {
        match (cursor, at_end) {
            (Some(_), true) => Err(Error::new(Code::Malformed, "at_end: a cursor is named too")),
            (None, true) => self.end(acting).await,
            (cursor, false) => self.position(acting, cursor).await,
        }
    }

    /// The place behind the newest item that is told to who asks.
    pub(super) async fn end(&self, acting: &Acting<scope::Inbox>) -> Result<u64, Error> {
        match acting.by() {
            By::Delegate(_) => self.end_of_what_came(acting).await.stored(),
            _ => Ok(self.store.log_state(acting.owner().clone()).await.stored()?.last),
        }
    }

    /// The place that a cursor stands for. One of before the store was put back from a copy is of
    /// another incarnation, and none of this log for ever; nor is one behind the end of the log.
    pub(super) async fn position(
        &self,
        acting: &Acting<scope::Inbox>,
        cursor: Option<Bytes>,
    ) -> Result<u64, Error> {
        let Some(cursor) = cursor else { return Ok(0) };
        let owner = acting.owner();
        let opened = self.secrets.open_cursor(owner, self.store.incarnation(), &cursor);
        let last = self.store.log_state(owner.clone()).await.stored()?.last;
        opened.filter(|position| *position <= last).ok_or_else(bad_cursor)
    }
}

/// A log as its owner follows it.
pub(super) struct FollowedLog {
    acting: Acting<scope::Inbox>,
    /// The position behind which the next page starts.
    after: u64,
    /// The cursor of where it began, if that was the end of the log.
    begins: Option<Bytes>,
    /// How many items behind it were told to be damaged already.
    damaged: usize,
    /// The cursor of where the log begins, as it was sealed last.
    oldest: Sealed,
    /// And as it was told last.
    told: Option<Bytes>,
}

impl Following for FollowedLog {
    fn begins(&self) -> Option<Bytes> {
        self.begins.clone()
    }

    /// Tells pages of it.
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a> {
        Box::pin(async move {
            while front.has_room() {
                let (acting, after, oldest) = (&self.acting, self.after, &mut self.oldest);
                let reader = Reader::whole(client.every_item);
                let page = things.logs.page(acting, after, PAGE_ITEMS_MAX, reader, oldest);
                let (mut page, next) = page.await.stored()?;
                let more = page.more;
                let is_damaged = |item: &&Item| item.kind == ItemKind::Damaged;
                // Behind the last one that could be read, whatever comes there is told with them.
                let damaged = page.items.iter().rev().take_while(is_damaged).count();
                let told = page.items.iter().take_while(is_damaged).count().min(self.damaged);
                page.items.drain(..told);
                if !page.items.is_empty() {
                    let knows_oldest = self.told.as_ref() == Some(&page.oldest);
                    self.told = Some(page.oldest.clone());
                    front.tell(Event::Page {
                        owner: self.acting.owner().clone(),
                        page,
                        knows_oldest,
                    });
                }
                (self.after, self.damaged) = (next, damaged);
                if !more {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

pub(super) fn bad_cursor() -> Error {
    Error::new(Code::BadCursor, "the cursor is none of this log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_was_sealed_is_told_for_its_own_place_alone() {
        let mut sealed = Sealed::default();
        let seal = |seq: u8| move || Bytes::copy_from_slice(&[seq]);
        assert_eq!(sealed.of(1, seal(1)), [1][..]);
        assert_eq!(sealed.of(1, || unreachable!("it is known")), [1][..]);
        assert_eq!(sealed.of(2, seal(2)), [2][..]);
        assert_eq!(sealed.of(1, seal(1)), [1][..]);
    }
}
