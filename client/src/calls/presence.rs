//! Presence: publishing one's own, reading somebody's once.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::presence::{Document, Patch, Version};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, What};

use super::unreadable;
use crate::client::Client;
use crate::error::ClientError;

/// What a fetch of presence brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whether the document is shown, or the owner is still to decide.
    pub state: SubscriptionState,
    /// The document and its version, if it is shown.
    pub content: Option<(Version, Document)>,
}

impl Client {
    /// Changes the layer of presence that this device publishes; `replace` empties it first.
    /// Gives the lease granted. Without one it is bound to the session; where that begins with
    /// `replace`, so that the client knows the whole of it, it is published again by itself after a
    /// connection was lost for so long that it has ended, or the server was.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(
        &self,
        patch: &Patch,
        lease: Option<Duration>,
        replace: bool,
    ) -> Result<Option<Duration>, ClientError> {
        let mut published = self.published.hold().await;
        let base = if replace { Some(Document::default()) } else { published.clone() };
        let content = Some(patch.encode());
        let own = Publish::of(self.address().clone(), What::Presence, None);
        let done = self.call_repeatable(Publish { content, lease, replace, ..own }).await?;
        let base = base.filter(|_| done.lease.is_none());
        *published = base.and_then(|base| patch.applied(base).ok());
        Ok(done.lease)
    }

    /// Ends the layer that this device publishes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unpublish(&self) -> Result<(), ClientError> {
        let mut published = self.published.hold().await;
        *published = None;
        let own = Publish::of(self.address().clone(), What::Presence, None);
        self.call_repeatable(Publish { lease: Some(Duration::ZERO), ..own }).await.map(drop)
    }

    /// The layer that this device publishes.
    ///
    /// # Errors
    /// [`ClientError`]; not-found if it publishes none.
    pub async fn layer(&self) -> Result<Document, ClientError> {
        let done = self.call_repeatable(Fetch::of(self.address().clone(), What::Layer)).await?;
        document(done.content.unwrap_or_default(), What::Layer)
    }

    /// Somebody's presence as one may see it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn presence(&self, address: &Address) -> Result<Fetched, ClientError> {
        let done = self.call_repeatable(Fetch::of(address.clone(), What::Presence)).await?;
        seen(done)
    }
}

/// A document as somebody may see it.
pub(super) fn seen(done: Done) -> Result<Fetched, ClientError> {
    let state = done.state.unwrap_or(SubscriptionState::Active);
    let content = match (state, done.content) {
        (SubscriptionState::Active, content) => {
            let content = content.unwrap_or_default();
            let version = done.version.unwrap_or_else(|| Version::of(&content));
            Some((version, document(content, What::Presence)?))
        }
        _ => None,
    };
    Ok(Fetched { state, content })
}

fn document(content: Bytes, what: What) -> Result<Document, ClientError> {
    Document::decode(content).map_err(|error| unreadable(what, &error))
}
