//! Who may act for whom; and asking for what is another's, as their delegate.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Publish};
use impp_protocol::state::{Act, Acts, Delegation, Delegations, Page, WatcherEntry, Watchers};
use impp_protocol::{Address, What};

use super::{List, content, rules};
use crate::client::Client;
use crate::error::ClientError;

impl List for Delegations {
    type Entry = Delegation;

    fn entries(self) -> Vec<Delegation> {
        self.entries
    }
}

impl List for Acts {
    type Entry = Act;

    fn entries(self) -> Vec<Act> {
        self.entries
    }
}

impl Client {
    /// Who may act for this account, and for whom it may, with what is said by that now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delegations(&self) -> Result<Vec<Delegation>, ClientError> {
        self.fetch_list::<Delegations>(What::Delegations).await
    }

    /// What delegates did for this account, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acts(&self) -> Result<Vec<Act>, ClientError> {
        self.fetch_list::<Acts>(What::Acts).await
    }

    /// Who watches the presence of somebody whose rules let one see that.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watchers_for(&self, owner: &Address) -> Result<Vec<WatcherEntry>, ClientError> {
        self.fetch_list_of::<Watchers>(owner, What::Watchers).await
    }

    /// The rules of somebody whose rules let one edit them, and their version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rules_for(&self, owner: &Address) -> Result<(String, u64), ClientError> {
        rules::read(self.call_repeatable(Fetch::of(owner.clone(), What::Rules)).await?)
    }

    /// Replaces them, as [`Client::set_rules`] does.
    ///
    /// # Errors
    /// [`ClientError`]; refused, naming what may not be said.
    pub async fn set_rules_for(
        &self,
        owner: &Address,
        rules: &str,
        base: u64,
    ) -> Result<u64, ClientError> {
        let content = Some(Bytes::copy_from_slice(rules.as_bytes()));
        let publish = Publish::of(owner.clone(), What::Rules, content);
        // Not repeated: done twice, the second answer would be a conflict with the first.
        let done = self.call(Publish { base: Some(base), ..publish }).await?;
        Ok(done.number.unwrap_or(base))
    }

    /// A part of the log of somebody whose rules let one read the inbox, as [`Client::read_log`] has it:
    /// messages that came, and nothing else.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_log_for(
        &self,
        owner: &Address,
        cursor: Option<Bytes>,
        max: Option<u64>,
    ) -> Result<Page, ClientError> {
        let fetch = Fetch { cursor, max, ..Fetch::of(owner.clone(), What::Log) };
        content(self.call_repeatable(fetch).await?, What::Log)
    }
}
