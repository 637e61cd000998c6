//! Subscriptions from both ends, and requests that wait for a decision.

use std::time::Duration;

use impp_protocol::command::Subscribe;
use impp_protocol::state::{
    Decision, RequestEdit, RequestEntry, Requests, Subscription, Subscriptions, WatcherEdit,
    WatcherEntry, Watchers,
};
use impp_protocol::{Address, What};

use super::subscribe;
use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// What this account follows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, ClientError> {
        self.fetch_own::<Subscriptions>(What::Subscriptions).await.map(|all| all.entries)
    }

    /// Ends the subscription to somebody's presence.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_subscription(&self, address: &Address) -> Result<(), ClientError> {
        let subscribe = subscribe(address.clone(), What::Presence);
        let end = Subscribe { lease: Some(Duration::ZERO), ..subscribe };
        self.call_repeatable(end).await.map(drop)
    }

    /// Who watches this account's presence.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watchers(&self) -> Result<Vec<WatcherEntry>, ClientError> {
        self.fetch_own::<Watchers>(What::Watchers).await.map(|all| all.entries)
    }

    /// Ends somebody's subscriptions to this account's presence.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_watcher(&self, address: &Address) -> Result<(), ClientError> {
        let edit = WatcherEdit { remove: address.clone() };
        self.edit_own(What::Watchers, &edit).await.map(drop)
    }

    /// Who waits for a decision, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn requests(&self) -> Result<Vec<RequestEntry>, ClientError> {
        self.fetch_own::<Requests>(What::Requests).await.map(|all| all.entries)
    }

    /// Decides about somebody; the decision becomes a rule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decide(&self, from: &Address, decision: Decision) -> Result<(), ClientError> {
        let edit = RequestEdit { from: from.clone(), decision };
        self.edit_own(What::Requests, &edit).await.map(drop)
    }
}
