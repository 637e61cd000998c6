//! Subscriptions from both ends, and requests that wait for a decision.

use impp_protocol::command::Fetch;
use impp_protocol::state::{
    Decision, RequestEdit, RequestEntry, Requests, Subscription, SubscriptionEdit, Subscriptions,
    WatcherEdit, WatcherEntry, Watchers,
};
use impp_protocol::{Address, What};

use super::{LIST_PARTS_MAX, List, content};
use crate::client::Client;
use crate::error::ClientError;

impl List for Subscriptions {
    type Entry = Subscription;

    fn entries(self) -> Vec<Subscription> {
        self.entries
    }
}

impl List for Watchers {
    type Entry = WatcherEntry;

    fn entries(self) -> Vec<WatcherEntry> {
        self.entries
    }
}

impl List for Requests {
    type Entry = RequestEntry;

    fn entries(self) -> Vec<RequestEntry> {
        self.entries
    }
}

impl Client {
    /// What this account follows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, ClientError> {
        self.fetch_list::<Subscriptions>(What::Subscriptions).await
    }

    /// Ends all subscriptions to somebody's presence, whichever session or device keeps them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_subscription(&self, address: &Address) -> Result<(), ClientError> {
        let edit = SubscriptionEdit { cancel: address.clone() };
        self.edit_own(What::Subscriptions, &edit).await.map(drop)
    }

    /// Who watches this account's presence.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watchers(&self) -> Result<Vec<WatcherEntry>, ClientError> {
        self.fetch_list::<Watchers>(What::Watchers).await
    }

    /// How this account stands as a watcher of somebody, if it does; and to a delegate who may see that,
    /// how many others watch.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watchers_of(&self, address: &Address) -> Result<Watchers, ClientError> {
        let fetch = Fetch::of(address.clone(), What::Watchers);
        content(self.call_repeatable(fetch).await?, What::Watchers)
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
        self.fetch_list::<Requests>(What::Requests).await
    }

    /// What somebody asks for, and the messages of theirs that are held, in the order in which they came.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn requests_of(&self, from: &Address) -> Result<Requests, ClientError> {
        let (mut messages, mut cursor) = (Vec::new(), None);
        for _ in 0..LIST_PARTS_MAX {
            let own = self.address().clone();
            let about = Some(from.clone());
            let fetch = Fetch { about, cursor, ..Fetch::of(own, What::Requests) };
            let done = self.call_repeatable(fetch).await?;
            cursor = done.next.clone();
            let mut part: Requests = content(done, What::Requests)?;
            messages.append(&mut part.messages);
            if cursor.is_none() {
                return Ok(Requests { messages, ..part });
            }
        }
        Err(ClientError::Protocol("requests: a list without an end".to_owned()))
    }

    /// Decides about somebody; the decision becomes a rule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decide(&self, from: &Address, decision: Decision) -> Result<(), ClientError> {
        let edit = RequestEdit::of(from.clone(), decision);
        self.edit_own(What::Requests, &edit).await.map(drop)
    }

    /// Lets somebody in as a member of this group of the rules.
    ///
    /// # Errors
    /// [`ClientError`]; not found, if the rules have no such group.
    pub async fn allow_into(&self, from: &Address, group: &str) -> Result<(), ClientError> {
        let edit = RequestEdit::of(from.clone(), Decision::Allow);
        let edit = RequestEdit { group: Some(group.to_owned()), ..edit };
        self.edit_own(What::Requests, &edit).await.map(drop)
    }
}
