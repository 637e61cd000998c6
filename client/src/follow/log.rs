//! The log as it is followed: how far it was read, and whether it is still the same one.

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::state::{self, Page, ShortPage};

use crate::ClientError;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    cursor: Option<Bytes>,
    /// Where it begins, as it was told last; what is asked for anew is told it anew.
    oldest: Option<Bytes>,
    /// It starts where it ends now; what comes from then on is told.
    at_end: bool,
    /// The cursor is one that came with a page: the server knew it.
    heard: bool,
}

impl Log {
    /// From behind a cursor of the caller's, without one from the oldest item held.
    pub(super) fn behind(cursor: Option<Bytes>) -> Log {
        Log { cursor, ..Log::default() }
    }

    /// From its end.
    pub(super) fn from_end() -> Log {
        Log { at_end: true, ..Log::default() }
    }

    /// Whether the server has still to say where it begins.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The server has said where it begins.
    pub(super) fn begins(&mut self, cursor: Bytes) {
        if self.at_end {
            *self = Log { cursor: Some(cursor), heard: true, ..Log::default() };
        }
    }

    /// Behind which it goes on.
    pub(super) fn cursor(&self) -> Option<Bytes> {
        self.cursor.clone()
    }

    /// The next part of it; whose it is, is known.
    pub(super) fn take(&mut self, content: Bytes, owner: &Address) -> Result<Page, ClientError> {
        let wrong = |text: String| ClientError::Protocol(format!("page of the log: {text}"));
        let page: ShortPage = state::decode(content).map_err(|error| wrong(error.to_string()))?;
        let missing = || wrong("what it leaves out was never told".to_owned());
        let page = page.whole(owner, self.oldest.take()).ok_or_else(missing)?;
        let (cursor, oldest) = (Some(page.cursor.clone()), Some(page.oldest.clone()));
        *self = Log { cursor, oldest, heard: true, at_end: false };
        Ok(page)
    }

    /// The server does not know the cursor. If it is one of its own, its store was put back from a copy,
    /// and the log begins anew: whether that is so.
    pub(super) fn is_another(&mut self) -> bool {
        std::mem::take(self).heard
    }
}
