//! The log as it is followed: how far it was read, and whether it is still the same one.

use bytes::Bytes;
use impp_protocol::state::{self, Page};

use crate::ClientError;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    cursor: Option<Bytes>,
    /// The cursor is one that came with a page: the server knew it.
    heard: bool,
}

impl Log {
    /// From behind a cursor of the caller's, without one from the oldest item held.
    pub(super) fn behind(cursor: Option<Bytes>) -> Log {
        Log { cursor, heard: false }
    }

    /// Behind which it goes on.
    pub(super) fn cursor(&self) -> Option<Bytes> {
        self.cursor.clone()
    }

    /// The next part of it.
    pub(super) fn take(&mut self, content: Bytes) -> Result<Page, ClientError> {
        let page: Page = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("page of the log: {error}")))?;
        *self = Log { cursor: Some(page.cursor.clone()), heard: true };
        Ok(page)
    }

    /// The server does not know the cursor. If it is one of its own, its store was put back from a copy,
    /// and the log begins anew: whether that is so.
    pub(super) fn is_another(&mut self) -> bool {
        std::mem::take(self).heard
    }
}
