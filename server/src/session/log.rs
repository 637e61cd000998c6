//! The caller's log: reading it from a cursor, following it, taking custody.
//!
//! Storing it is left to the store, sealing cursors to `secrets`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Ack, Done, Fetch, Notify, Subscribe};
use impp_protocol::state::{
    self, DeviceReport, FateReport, Item, ItemKind, Page, SubscriptionState,
};
use impp_protocol::{Code, Error, What};
use impp_storage::{Op, ReadLog, StoreError};

use super::Session;
use crate::answers::{Handled, Stored};
use crate::config::seconds;
use crate::host::Host;
use crate::notify::put;

/// Items in one page, at most.
const PAGE_ITEMS_MAX: u64 = 256;
/// Bytes of items in one page, at most, unless the first alone is larger.
const PAGE_BYTES_MAX: usize = 48 * 1024;

/// A log that the client follows.
#[derive(Debug)]
pub(super) struct Following {
    /// The position behind which the next page starts.
    after: u64,
    /// Whether there may be something behind it.
    pub(super) grown: bool,
}

impl Session {
    /// Follows the log from a cursor.
    pub(super) async fn subscribe_log(
        &mut self,
        host: &Arc<Host>,
        subscribe: Subscribe,
    ) -> Handled {
        self.needs_own(&subscribe.address)?;
        self.needs_messages()?;
        if subscribe.lease == Some(std::time::Duration::ZERO) {
            self.log = None;
            return Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() });
        }
        let after = self.position(host, subscribe.cursor).await?;
        self.log = Some(Following { after, grown: true });
        self.mailbox.log_grew();
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }

    /// Reads one page.
    pub(super) async fn fetch_log(&mut self, host: &Arc<Host>, fetch: Fetch) -> Handled {
        self.needs_messages()?;
        if fetch.wait {
            return Err(Error::new(Code::Unsupported, "waiting is not served yet"));
        }
        let after = self.position(host, fetch.cursor).await?;
        let max = fetch.max.unwrap_or(PAGE_ITEMS_MAX).clamp(1, PAGE_ITEMS_MAX);
        let (page, _) = self.page(host, after, max).await.stored()?;
        Ok(Done { content: Some(state::encode(&page)), ..Done::empty() })
    }

    /// Takes custody for this device.
    pub(super) async fn ack(&mut self, host: &Arc<Host>, ack: Ack) -> Handled {
        self.needs_own(&ack.address)?;
        self.needs_messages()?;
        let upto = self.position(host, Some(ack.cursor)).await?;
        let owner = self.account.address.clone();
        let retention = seconds(host.settings.load().inbox.retention_days * 86_400);
        let before = host.clock.now().before(retention);
        let custody = Op::Custody { owner: owner.clone(), upto };
        host.store(vec![custody, Op::Trim { owner, before }]).await.stored()?;
        Ok(Done::empty())
    }

    /// Appends pages of the followed log as long as there is room.
    pub(super) async fn tell_log(
        &mut self,
        host: &Arc<Host>,
        out: &mut BytesMut,
        room: usize,
    ) -> Result<(), StoreError> {
        while let Some(following) = &self.log
            && following.grown
        {
            if out.len() >= room {
                // Looked at again when the output has drained.
                self.mailbox.log_grew();
                return Ok(());
            }
            let after = following.after;
            let (page, next) = self.page(host, after, PAGE_ITEMS_MAX).await?;
            let more = page.more;
            if !page.items.is_empty() {
                let owner = self.account.address.clone();
                let snapshot = Some(state::encode(&page));
                let notify = Notify::of(owner, What::Log, SubscriptionState::Active);
                put(out, Notify { snapshot, ..notify }.into());
            }
            if let Some(following) = &mut self.log {
                *following = Following { after: next, grown: more };
            }
        }
        Ok(())
    }

    async fn page(
        &self,
        host: &Arc<Host>,
        after: u64,
        max: u64,
    ) -> Result<(Page, u64), StoreError> {
        let query = ReadLog {
            owner: self.account.address.clone(),
            after,
            items_max: max as usize,
            bytes_max: PAGE_BYTES_MAX,
        };
        let read = host.store.read(query).await?;
        let next = read.items.last().map_or(after, |item| item.seq);
        let items = read.items.into_iter().filter_map(|item| {
            let kind = ItemKind::from_number(u64::from(item.kind))?;
            if kind == ItemKind::Device && !self.every_item {
                return None;
            }
            let head = item.head;
            let fate = (kind == ItemKind::Fate).then(|| state::decode::<FateReport>(head.clone()));
            let device = (kind == ItemKind::Device).then(|| state::decode::<DeviceReport>(head));
            Some(Item {
                kind,
                cursor: self.cursor(host, item.seq),
                time: item.time,
                message: item.body,
                fate: fate.and_then(Result::ok),
                device: device.and_then(Result::ok),
            })
        });
        let page = Page {
            items: items.collect(),
            cursor: self.cursor(host, next),
            more: read.more,
            oldest: self.cursor(host, read.oldest.saturating_sub(1)),
        };
        Ok((page, next))
    }

    fn cursor(&self, host: &Host, seq: u64) -> Bytes {
        host.secrets.seal_cursor(&self.account.address, host.store.incarnation(), seq)
    }

    /// The place that a cursor stands for; it must be in the log as it is, and not behind its end,
    /// as one may be whose store was put back to an older state.
    async fn position(&self, host: &Host, cursor: Option<Bytes>) -> Result<u64, Error> {
        let Some(cursor) = cursor else { return Ok(0) };
        let owner = &self.account.address;
        let opened = host.secrets.open_cursor(owner, host.store.incarnation(), &cursor);
        let last = host.store.log_state(owner.clone()).await.stored()?.last;
        opened
            .filter(|position| *position <= last)
            .ok_or_else(|| Error::new(Code::BadCursor, "the cursor is none of this log"))
    }
}
