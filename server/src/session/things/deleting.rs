//! An owner deletes an item of the log: it is gone for all devices, and they are told.
//!
//! What is left in its place is the store's (`Op::Erase`).

use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Message, Publish};
use impp_protocol::state::{self, Deletion, FateReport, ItemKind};
use impp_protocol::{Address, Code, Error, MessageId, What};
use impp_storage::{Item, Lane, Outcome, Payer, ReadLog, Rejection, StoreError, Unit};

use super::log::{Logs, bad_cursor};
use crate::core::answers::{Handled, Stored, storage_error};
use crate::core::principals::Principal;
use crate::core::records::logs;

impl Logs {
    /// Deletes the item that is named. One that is not there any more is deleted.
    pub(super) async fn publish(&self, acting: &Acting<scope::Inbox>, publish: Publish) -> Handled {
        let content = publish.content.unwrap_or_default();
        let wrong = |error| Error::new(Code::Malformed, format!("content: {error}"));
        let Deletion { cursor } = state::decode(content).map_err(wrong)?;
        let owner = acting.owner();
        let seq = self.position(acting, Some(cursor)).await?;
        let Some(item) = self.at(owner, seq).await? else { return Ok(Done::empty()) };
        let (is_deletable, id) = judge(&item);
        if !is_deletable {
            let text = "only messages, fates and word of devices can be deleted";
            return Err(Error::new(Code::Unsupported, text));
        }
        self.delete(owner.clone(), seq, id).await
    }

    /// The item at a place; none where nothing is any more.
    async fn at(&self, owner: &Address, seq: u64) -> Result<Option<Item>, Error> {
        let Some(after) = seq.checked_sub(1) else { return Err(bad_cursor()) };
        let query = ReadLog { owner: owner.clone(), after, items_max: 1, bytes_max: 0 };
        let page = self.store.read(query).await.stored()?;
        if page.damaged.iter().any(|damaged| damaged.seq == seq) {
            return Err(storage_error(&StoreError::Damaged { what: format!("item {seq}") }));
        }
        let gone = ItemKind::Gone.number();
        let item = page.items.into_iter().find(|item| item.seq == seq);
        Ok(item.filter(|item| u64::from(item.kind) != gone))
    }

    async fn delete(&self, owner: Address, seq: u64, id: Option<MessageId>) -> Handled {
        let ops = vec![
            logs::erased(&owner, seq),
            logs::deleted(&owner, seq, id),
            self.trimming.at_once(&owner),
        ];
        let unit = Unit::of(self.clock.wall(), ops).paid_by(Payer::Account(owner.clone()));
        let pending = self.store.submit(unit.in_lane(Lane::Account(owner.clone())));
        let (principals, delivery) = (self.principals.clone(), self.delivery.clone());
        let sessions = self.sessions.clone();
        // The others are told, and what there is room for again counts, also if the client is gone
        // by then.
        let deleted = tokio::spawn(async move {
            match pending.await.stored()? {
                Outcome::Committed { .. } => {}
                // Another device was first.
                Outcome::Rejected(Rejection::Absent { .. }) => return Ok(Done::empty()),
                other => {
                    let text = format!("the item is still there: {other:?}");
                    return Err(Error::new(Code::Internal, text));
                }
            }
            sessions.thing_changed(&owner, What::Log);
            let counted = |principal: &mut Principal, _| principal.inbox.deleted(seq);
            if principals.look(&owner, counted).await.stored()? {
                delivery.go_on(&owner).await;
            }
            Ok(Done::empty())
        });
        deleted.await.map_err(|error| Error::new(Code::Internal, error.to_string()))?
    }
}

/// Whether an item may be deleted, and the message that it is about.
fn judge(item: &Item) -> (bool, Option<MessageId>) {
    match ItemKind::from_number(u64::from(item.kind)) {
        Some(ItemKind::Received | ItemKind::Sent) => {
            let message = item.body.clone().map(Message::decode);
            (true, message.and_then(Result::ok).map(|message| message.id))
        }
        Some(ItemKind::Fate) => {
            (true, state::decode::<FateReport>(item.head.clone()).ok().map(|report| report.id))
        }
        Some(ItemKind::Device) => (true, None),
        Some(ItemKind::Damaged | ItemKind::Gone | ItemKind::Deleted) | None => (false, None),
    }
}
