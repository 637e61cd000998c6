//! How far the conversations of the account were read, told to its other devices.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message};
use impp_protocol::state::{Item, ItemKind, ReadMark, ReadMarkEdit, ReadMarks, TypingEdit};
use impp_protocol::{Address, MessageId, What};

use super::{List, content};
use crate::client::Client;
use crate::error::ClientError;

impl List for ReadMarks {
    type Entry = ReadMark;

    fn entries(self) -> Vec<ReadMark> {
        self.entries
    }
}

impl Client {
    /// How far each conversation was read, by whom it is with.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_marks(&self) -> Result<Vec<ReadMark>, ClientError> {
        self.fetch_list::<ReadMarks>(What::ReadMarks).await
    }

    /// How far one conversation was read, and how much of it was not: a server of before that was
    /// counted answers without `unread`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_mark(&self, with: &Address) -> Result<Option<ReadMark>, ClientError> {
        let of = Fetch::of(self.address().clone(), What::ReadMarks);
        let fetch = Fetch { about: Some(with.clone()), ..of };
        let marks: ReadMarks = content(self.call_repeatable(fetch).await?, What::ReadMarks)?;
        Ok(marks.entries.into_iter().find(|mark| mark.address == *with))
    }

    /// A conversation was read up to a message: that behind which the cursor is. If another device has
    /// read further, that stays.
    ///
    /// # Errors
    /// [`ClientError`]; bad-cursor, if there is no message from them.
    pub async fn mark_read(&self, with: &Address, cursor: Bytes) -> Result<(), ClientError> {
        let edit = ReadMarkEdit { address: with.clone(), cursor };
        self.edit_own(What::ReadMarks, &edit).await.map(drop)
    }

    /// One writes to somebody just now: they are told for some seconds, if one's rules let them be. It may be
    /// said again every other second.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn typing_to(&self, to: &Address) -> Result<(), ClientError> {
        self.edit_own(What::Typing, &TypingEdit { to: to.clone() }).await.map(drop)
    }

    /// The same up to the message of this id, or without one up to the newest: it is looked for behind
    /// what was read so far. Its id; nothing if there is none there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mark_read_up_to(
        &self,
        with: &Address,
        id: Option<MessageId>,
    ) -> Result<Option<MessageId>, ClientError> {
        let marks = self.read_marks().await?;
        let mark = marks.into_iter().find(|mark| mark.address == *with);
        let (mut cursor, mut found) = (mark.and_then(|mark| mark.cursor), None);
        loop {
            let page = self.read_log(cursor.clone(), None).await?;
            for item in page.items {
                if let Some(of) = id_from(&item, with).filter(|of| id.is_none_or(|id| id == *of)) {
                    found = Some((of, item.cursor));
                }
            }
            let goes_on = page.more && cursor.as_ref() != Some(&page.cursor);
            if !goes_on || (id.is_some() && found.is_some()) {
                break;
            }
            cursor = Some(page.cursor);
        }
        let Some((id, cursor)) = found else { return Ok(None) };
        self.mark_read(with, cursor).await?;
        Ok(Some(id))
    }
}

/// The id of a message that came from somebody.
fn id_from(item: &Item, with: &Address) -> Option<MessageId> {
    if item.kind != ItemKind::Received {
        return None;
    }
    let message = Message::decode(item.message.clone()?).ok()?;
    (message.from.as_ref() == Some(with)).then_some(message.id)
}
