//! What the writer does when nothing waits: it sweeps, gives digests to rows of older stores, and puts
//! items into the index of conversations, a slice at a time.

use super::Writer;
use crate::StoreError;
use crate::sqlite::fault::open_error;
use crate::sqlite::room::Sake;
use crate::sqlite::rows::Rows;
use crate::sqlite::summing::Summing;
use crate::sqlite::sweep::{self, Slice};
use crate::sqlite::tables::write_meta;
use crate::sqlite::talk::{self, UNLISTED_MAX};

/// How far the index of conversations has come.
pub(super) struct Listing {
    /// Up to which item all are in it.
    upto: u64,
    /// It has not come to the end since it was found behind.
    behind: bool,
    /// Whether anybody can tell whom items are about, and they can be read.
    can: bool,
    /// It was found wrong since the start, and begun anew; that is done once.
    anew: bool,
    /// It was closed since the start.
    closed: bool,
}

impl Listing {
    /// What a start finds: whatever is not in it yet comes in.
    pub(super) fn open(rows: Rows<'_>) -> Result<Listing, StoreError> {
        let upto = rows.listed().map_err(open_error)?;
        Ok(Listing { upto, behind: true, can: rows.about.is_some(), anew: false, closed: false })
    }
}

impl Writer {
    pub(super) fn has_idle_work(&mut self) -> bool {
        if !self.listing.anew && self.shared.is_talk_wrong() {
            (self.listing.upto, self.listing.behind, self.listing.anew) = (0, true, true);
        }
        self.sweeping || self.may_sum() || self.may_list()
    }

    /// One slice of it, if there is any.
    pub(super) fn work_idle(&mut self) {
        if self.sweeping {
            self.sweep_slice();
        } else if self.may_sum() {
            self.sum_slice();
        } else if self.may_list() {
            self.list_slice();
        }
    }

    /// Whether the index of conversations was found damaged just now, by whom it is not told; then that
    /// is noted, so that nobody trusts in it after a restart either.
    pub(super) fn closes_talk(&mut self) -> bool {
        if self.listing.closed || !self.shared.is_talk_closed() {
            return false;
        }
        self.listing.closed = true;
        // If it has been made anew already, it is not once more before a restart.
        self.listing.can &= !self.listing.anew;
        let _ = self.transact(talk::forget);
        true
    }

    fn sweep_slice(&mut self) {
        let was_closed = self.listing.closed;
        let (floor, is_tight) = (self.meta.counters.dedup_floor, self.room.is_tight());
        let most = if is_tight { Slice::SMALL } else { Slice::LARGE };
        if is_tight {
            // In the room that the log has already.
            self.checkpoint("PASSIVE", Sake::Room);
        }
        // After a failure, once more only when there is something new to sweep, or room again, or after a
        // restart.
        let more = self.transact(|rows| sweep::sweep(rows, floor, most));
        let without_index = more.is_none() && self.listing.closed != was_closed;
        self.sweeping = self.failed.is_none() && (more == Some(true) || without_index);
        self.logs.forget_senders();
    }

    /// Whether there are rows without digests, and room for them: what is kept for a full disk is for
    /// those who take back.
    fn may_sum(&self) -> bool {
        self.summing.is_some() && !self.room.is_tight()
    }

    /// Gives digests to rows of an older store, and notes when all have one.
    fn sum_slice(&mut self) {
        let Some(mut summing) = self.summing.take() else { return };
        let mut meta = self.meta.clone();
        let done = self.transact(|rows| {
            let more = summing.slice(rows)?;
            meta.summed = !more && summing.is_whole();
            write_meta(rows.connection, &meta)?;
            Ok(more)
        });
        match done {
            Some(true) => self.summing = Some(summing),
            Some(false) if meta.summed => {
                self.meta = meta;
                self.shared.set_summed();
                tracing::info!("every row of the store has a digest now");
            }
            // Once more after a restart.
            Some(false) => {}
            // From the start, when there is room: what the slice did was taken back.
            None => self.summing = Some(Summing::default()),
        }
    }

    /// Whether enough is behind the index, and room for that.
    fn may_list(&self) -> bool {
        let Listing { upto, behind, can, .. } = self.listing;
        let last = self.meta.counters.seq;
        let is_due = last - upto.min(last) >= if behind { 1 } else { UNLISTED_MAX };
        can && is_due && !self.room.is_tight()
    }

    fn list_slice(&mut self) {
        let (upto, last) = (self.listing.upto, self.meta.counters.seq);
        match self.transact(|rows| talk::slice(rows, upto, last)) {
            Some(Some(upto)) => {
                // What it holds is as it is noted.
                self.shared.open_talk();
                self.listing.closed = false;
                self.listing.upto = upto;
                self.listing.behind = upto < last;
            }
            // Once more after a restart.
            Some(None) => self.listing.can = false,
            // What the slice did was taken back.
            None => {}
        }
    }
}
