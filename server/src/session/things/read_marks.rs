//! How far an owner has read each conversation: told by one device to the others.
//!
//! Merging and storing it is left to `messages/marks.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{self, ReadMark, ReadMarkEdit, ReadMarks};
use impp_protocol::{Address, Code, Error, What};
use impp_storage::Store;

use super::following::{Following, Telling, told};
use super::seldom::Seldom;
use super::{Client, Things, lists};
use crate::core::answers::{Handled, Stored};
use crate::core::clock::Clock;
use crate::core::secrets::Secrets;
use crate::messages::{Conversation, Marks, Unread};
use crate::session::Front;
use crate::session::unheard::Unheard;

/// See the module.
pub(super) struct OwnMarks {
    pub marks: Arc<Marks>,
    pub store: Arc<dyn Store>,
    pub secrets: Arc<Secrets>,
    pub clock: Clock,
}

impl OwnMarks {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Inbox>, fetch: Fetch) -> Handled {
        let owner = acting.owner();
        if let Some(about) = &fetch.about {
            return self.fetch_about(owner, about).await;
        }
        let all = self.marks.all(owner).await.stored()?;
        let entries = all.into_iter().map(|conversation| self.told(owner, conversation)).collect();
        let (entries, next) = lists::part(entries, fetch.cursor.as_ref(), by_address);
        Ok(lists::answer(state::encode(&ReadMarks { entries }), next))
    }

    /// How far one conversation was read, whether or not anything was, and how much was not.
    async fn fetch_about(&self, owner: &Address, about: &Address) -> Handled {
        let conversation = self.marks.with(owner, about).await.stored()?;
        let after = conversation.read.map_or(0, |read| read.seq);
        let Unread { messages, more } = self.marks.unread(owner, about, after).await.stored()?;
        let told = self.told(owner, conversation);
        let entries = vec![ReadMark { unread: Some(messages), more, ..told }];
        Ok(lists::answer(state::encode(&ReadMarks { entries }), None))
    }

    pub(super) async fn publish(&self, acting: &Acting<scope::Inbox>, publish: Publish) -> Handled {
        let edit: ReadMarkEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let (owner, with) = (acting.owner(), &edit.address);
        let seq = self.secrets.open_cursor(owner, self.store.incarnation(), &edit.cursor);
        let seen = match seq {
            Some(seq) => self.marks.seen(owner, with, seq).await.stored()?,
            None => None,
        };
        let seen = seen.ok_or_else(|| {
            let text = format!("the cursor is behind no message from {with} in this log");
            Error::new(Code::BadCursor, text)
        })?;
        self.marks.read(owner, with, seen).await.stored()?;
        Ok(Done::empty())
    }

    fn told(&self, owner: &Address, conversation: Conversation) -> ReadMark {
        let Conversation { with: address, read, they_received, they_read, .. } = conversation;
        let seal = |seq| self.secrets.seal_cursor(owner, self.store.incarnation(), seq);
        ReadMark {
            address,
            cursor: read.map(|read| seal(read.seq)),
            id: read.map(|read| read.id),
            time: read.map(|read| read.time),
            received: they_received,
            read: they_read,
            unread: None,
            more: false,
        }
    }
}

/// Read marks as a session follows them.
pub(super) struct FollowedReadMarks {
    acting: Acting<scope::Inbox>,
    /// What was told: of each conversation the version.
    told: BTreeMap<Address, u64>,
    /// All is to be told: nothing was yet, or it may not have arrived.
    anew: bool,
    /// What was told to be forgotten.
    forgotten: Unheard<()>,
    seldom: Seldom,
}

impl FollowedReadMarks {
    /// Of which nothing was told yet.
    pub(super) fn new(acting: Acting<scope::Inbox>) -> FollowedReadMarks {
        let (told, forgotten) = Default::default();
        let seldom = Seldom::of(What::ReadMarks);
        FollowedReadMarks { acting, told, anew: true, forgotten, seldom }
    }
}

impl Following for FollowedReadMarks {
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a> {
        Box::pin(async move {
            let (own, owner) = (&things.read_marks, self.acting.owner());
            if !front.has_room() {
                return Ok(false);
            }
            if !self.anew && !self.seldom.may(&own.clock, client) {
                return Ok(true);
            }
            let mut all = own.marks.all(owner).await.stored()?;
            // To look costs as much as to tell.
            self.seldom.told(own.clock.now());
            let is_first = std::mem::take(&mut self.anew);
            let now: BTreeMap<Address, u64> =
                all.iter().map(|one| (one.with.clone(), one.version)).collect();
            let mut before = std::mem::replace(&mut self.told, now.clone());
            all.retain(|one| is_first || before.get(&one.with) != Some(&one.version));
            // What was forgotten for want of room is told as what it is now: nothing was read of it.
            before.retain(|with, _| !now.contains_key(with));
            for with in before.into_keys() {
                self.forgotten.told(with.clone(), (), now.len());
                all.push(Conversation::unread(with));
            }
            if all.is_empty() && !is_first {
                return Ok(true);
            }
            let entries = all.into_iter().map(|one| own.told(owner, one)).collect();
            for (index, entries) in lists::in_parts(entries).into_iter().enumerate() {
                let content = state::encode(&ReadMarks { entries });
                front.tell(told(owner, What::ReadMarks, is_first && index == 0, content));
            }
            Ok(true)
        })
    }

    fn again(&mut self) -> bool {
        self.anew = true;
        // As if it had not been told yet: no mark has this version.
        self.told.extend(self.forgotten.take().map(|(with, ())| (with, 0)));
        true
    }

    fn heard(&mut self) {
        self.forgotten.heard();
    }
}

fn by_address(mark: &ReadMark) -> Bytes {
    lists::by_address(&mark.address)
}

#[cfg(test)]
mod tests;
