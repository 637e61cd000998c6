//! How much of a conversation was not read yet, by the log and the owner's mark.

use impp_protocol::Address;
use impp_protocol::state::ItemKind;
use impp_storage::{ReadBack, StoreError};

use super::Marks;
use crate::core::records::logs::about;

/// Messages that are counted; a client shows no larger number.
const COUNTED_MAX: u64 = 1_000;
/// Items that are looked at for that, and their bytes.
const LOOKED_ITEMS_MAX: usize = 4_096;
const LOOKED_BYTES_MAX: usize = 1024 * 1024;
/// Items that are read at once.
const ITEMS_AT_ONCE: usize = 256;

/// How much of a conversation was not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// So many messages at least.
    pub messages: u64,
    /// There may be more.
    pub more: bool,
}

impl Marks {
    /// Counts the messages from somebody behind a place in an owner's log, the newest first. What cannot be
    /// read counts for nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unread(
        &self,
        owner: &Address,
        from: &Address,
        after: u64,
    ) -> Result<Unread, StoreError> {
        let (mut unread, mut upto) = (Unread::default(), u64::MAX);
        let (mut items_left, mut bytes_left) = (LOOKED_ITEMS_MAX, LOOKED_BYTES_MAX);
        let received = ItemKind::Received.number();
        while items_left > 0 && bytes_left > 0 {
            let (items_max, bytes_max) = (ITEMS_AT_ONCE.min(items_left), bytes_left);
            let (owner, with) = (owner.clone(), Some(from.clone()));
            let page =
                self.store.read_back(ReadBack { owner, upto, with, items_max, bytes_max }).await?;
            let seqs = page.items.iter().map(|item| item.seq);
            let lowest = seqs.chain(page.damaged.iter().map(|damaged| damaged.seq)).min();
            items_left = items_left.saturating_sub(page.damaged.len());
            for item in page.items.into_iter().filter(|item| item.seq > after) {
                items_left = items_left.saturating_sub(1);
                bytes_left = bytes_left.saturating_sub(item.size());
                if u64::from(item.kind) != received || about(&item).as_ref() != Some(from) {
                    continue;
                }
                if unread.messages == COUNTED_MAX {
                    return Ok(Unread { more: true, ..unread });
                }
                unread.messages += 1;
            }
            match lowest {
                Some(lowest) if page.more && lowest > after.saturating_add(1) => upto = lowest - 1,
                _ => return Ok(unread),
            }
        }
        Ok(Unread { more: true, ..unread })
    }
}
