//! The log of the account, read once, and custody of what is in it.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Ack, Fetch};
use impp_protocol::state::{Deletion, Item, Page};
use impp_protocol::{Address, What};
use tokio::time::Instant;

use super::content;
use crate::client::Client;
use crate::error::ClientError;

/// A server lets nobody wait longer.
const WAIT_MAX: Duration = Duration::from_secs(300);

impl Client {
    /// The part of the log behind a cursor, without one from the oldest item held; at most `max`
    /// items, or as many as the server gives at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_log(
        &self,
        cursor: Option<Bytes>,
        max: Option<u64>,
    ) -> Result<Page, ClientError> {
        self.read_log_for(self.address(), cursor, max).await
    }

    /// The same, but if there is nothing it waits for something, so long at most (five minutes, whatever
    /// is said).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait_log(
        &self,
        cursor: Option<Bytes>,
        max: Option<u64>,
        wait: Duration,
    ) -> Result<Page, ClientError> {
        let (wait, timeout) = (true, wait.min(WAIT_MAX));
        let deadline = Instant::now() + timeout + self.timeout();
        let of = Fetch::of(self.address().clone(), What::Log);
        let fetch = Fetch { cursor, max, wait, timeout: Some(timeout), ..of };
        content(self.call_repeatable_by(fetch, deadline).await?, What::Log)
    }

    /// The same as [`read_log`](Client::read_log) without the bodies and headers of messages: items
    /// say how long they are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_metadata(
        &self,
        cursor: Option<Bytes>,
        max: Option<u64>,
    ) -> Result<Page, ClientError> {
        let of = Fetch::of(self.address().clone(), What::Log);
        self.page(Fetch { cursor, max, metadata: true, ..of }).await
    }

    /// A piece of the log in front of a cursor, without one of its end, the newest item first; with
    /// somebody, or all of it. A page may be empty with more in front of it: its cursor leads on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(
        &self,
        with: Option<&Address>,
        before: Option<Bytes>,
        max: Option<u64>,
    ) -> Result<Page, ClientError> {
        let (with, backwards) = (with.cloned(), true);
        let of = Fetch::of(self.address().clone(), What::Log);
        self.page(Fetch { cursor: before, max, backwards, with, ..of }).await
    }

    /// The same without the bodies and headers of messages.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history_metadata(
        &self,
        with: Option<&Address>,
        before: Option<Bytes>,
        max: Option<u64>,
    ) -> Result<Page, ClientError> {
        let (with, backwards, metadata) = (with.cloned(), true, true);
        let of = Fetch::of(self.address().clone(), What::Log);
        self.page(Fetch { cursor: before, max, backwards, with, metadata, ..of }).await
    }

    /// The item of the log that has this cursor.
    ///
    /// # Errors
    /// [`ClientError`]; not-found, where none is any more.
    pub async fn log_item(&self, cursor: Bytes) -> Result<Option<Item>, ClientError> {
        let of = Fetch::of(self.address().clone(), What::Log);
        let page = self.page(Fetch { item: Some(cursor), ..of }).await?;
        Ok(page.items.into_iter().next())
    }

    /// The cursor of the end of the log: what is behind it comes from now on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_end(&self) -> Result<Bytes, ClientError> {
        let of = Fetch::of(self.address().clone(), What::Log);
        Ok(self.page(Fetch { at_end: true, ..of }).await?.cursor)
    }

    async fn page(&self, fetch: Fetch) -> Result<Page, ClientError> {
        content(self.call_repeatable(fetch).await?, What::Log)
    }

    /// Deletes the item that has this cursor, for all devices of the account. One that is not there any
    /// more is deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_item(&self, cursor: Bytes) -> Result<(), ClientError> {
        self.edit_own(What::Log, &Deletion { cursor }).await.map(drop)
    }

    /// Tells the server that this device has everything up to a cursor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ack(&self, cursor: Bytes) -> Result<(), ClientError> {
        let ack = Ack { address: self.address().clone(), cursor };
        self.call_repeatable(ack).await.map(drop)
    }
}
