//! What came to an owner, as a delegate reads it who may read that and nothing else. Places are told only of
//! what is told: equal places have equal cursors, so one that moved while nothing came, or a page that is
//! empty with more behind it, would tell of each message that the owner sends, and when.
//!
//! Where very much lies between that is not told, a page is empty all the same, and read on from: the work of
//! one request is bounded.

use impp_acl::{Acting, scope};
use impp_protocol::command::Done;
use impp_protocol::state::{self, Page};
use impp_storage::{Item, ReadBack, ReadLog, StoreError};

use super::items::{BARE_BYTES_MAX, PAGE_BYTES_MAX, Reader, Room, item_told};
use super::log::{Asked, Logs, PAGE_ITEMS_MAX, Sealed};
use crate::core::answers::{Handled, Stored};

/// Items of the log that one request looks at.
const LOOKED_ITEMS_MAX: u64 = 1024;

/// What one request may still look at.
struct Left {
    items: u64,
    bytes: usize,
}

impl Left {
    fn all() -> Left {
        Left { items: LOOKED_ITEMS_MAX, bytes: BARE_BYTES_MAX }
    }

    fn is_none(&self) -> bool {
        self.items == 0 || self.bytes == 0
    }

    fn look(&mut self, item: &Item) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(item.size());
    }

    /// So many could not be read.
    fn pass_over(&mut self, damaged: usize) {
        self.items = self.items.saturating_sub(damaged as u64);
    }
}

impl Logs {
    /// The page of what came behind a place.
    pub(super) async fn came(
        &self,
        acting: &Acting<scope::Inbox>,
        asked: Asked,
        reader: Reader,
    ) -> Handled {
        let page = self.page_of_what_came(acting, asked, reader).await.stored()?;
        Ok(Done { content: Some(state::encode(&page)), ..Done::empty() })
    }

    async fn page_of_what_came(
        &self,
        acting: &Acting<scope::Inbox>,
        Asked { after, max }: Asked,
        reader: Reader,
    ) -> Result<Page, StoreError> {
        let (mut items, mut room, mut sealed) = (Vec::new(), Room::default(), Sealed::default());
        let (mut next, mut looked, mut left) = (after, after, Left::all());
        let more = 'looking: loop {
            let query = ReadLog {
                owner: acting.owner().clone(),
                after: looked,
                items_max: left.items.min(PAGE_ITEMS_MAX) as usize,
                bytes_max: reader.read_bytes_max(),
            };
            let read = self.tails.read(&*self.store, query).await?;
            let before = looked;
            for item in read.items {
                looked = item.seq;
                left.look(&item);
                let seal = |seq| self.cursor(acting, seq, &mut sealed);
                let Some(told) = item_told(item, reader, seal) else { continue };
                if items.len() as u64 >= max || !room.takes(&told) {
                    break 'looking true;
                }
                next = looked;
                items.push(told);
            }
            if !read.more || looked == before {
                break false;
            }
            if left.is_none() {
                // Who was told something finds the rest behind that.
                next = if items.is_empty() { looked } else { next };
                break true;
            }
        };
        let cursor = self.cursor(acting, next, &mut sealed);
        // What of the log has gone would tell of the rest too.
        Ok(Page { items, oldest: cursor.clone(), cursor, more })
    }

    /// The place of the newest that came. Where that is far back, it is one behind which nothing came, and that
    /// stays the same for a while.
    pub(super) async fn end_of_what_came(
        &self,
        acting: &Acting<scope::Inbox>,
    ) -> Result<u64, StoreError> {
        let owner = acting.owner();
        let last = self.store.log_state(owner.clone()).await?.last;
        let reader = Reader { every: false, received: true, bare: true };
        let (mut upto, mut left) = (last, Left::all());
        while !left.is_none() && upto > 0 {
            let query = ReadBack {
                owner: owner.clone(),
                upto,
                with: None,
                items_max: left.items.min(PAGE_ITEMS_MAX) as usize,
                bytes_max: PAGE_BYTES_MAX,
            };
            let read = self.store.read_back(query).await?;
            let came = read.items.iter().filter(|item| reader.is_told(item.kind));
            if let Some(newest) = came.map(|item| item.seq).max() {
                return Ok(newest);
            }
            read.items.iter().for_each(|item| left.look(item));
            left.pass_over(read.damaged.len());
            let seqs = read.items.iter().map(|item| item.seq);
            match seqs.chain(read.damaged.iter().map(|damaged| damaged.seq)).min() {
                Some(oldest) if read.more => upto = oldest.min(upto).saturating_sub(1),
                _ => return Ok(0),
            }
        }
        Ok(roundest(upto, last))
    }
}

/// The roundest number behind one place and not behind another, in twos: while both move on, it stays for
/// long. The first place, if there is none.
fn roundest(after: u64, upto: u64) -> u64 {
    if after >= upto {
        return upto;
    }
    let digit = (after ^ upto).ilog2();
    upto >> digit << digit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roundest_place_is_one_of_those_between_and_seldom_another() {
        let ends = (0..200).chain([1 << 20, (1 << 40) - 1, u64::MAX - 199]);
        for after in ends {
            for upto in after..=after.saturating_add(199) {
                let place = roundest(after, upto);
                let between = (after + u64::from(after < upto))..=upto;
                assert!(between.contains(&place), "{after}, {upto}: {place}");
                let most = between.map(u64::trailing_zeros).max();
                assert_eq!(Some(place.trailing_zeros()), most, "{after}, {upto}: {place}");
            }
        }
        let places = (1..100_000).map(|n| roundest(n, n + LOOKED_ITEMS_MAX));
        let mut places: Vec<u64> = places.collect();
        places.dedup();
        assert!(places.is_sorted() && places.len() <= 200, "{}", places.len());
    }
}
