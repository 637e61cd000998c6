//! Presence: publishing one's own, reading somebody's once.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::presence::{Document, Patch, Version};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, What};
use tokio::time::Instant;

use super::unreadable;
use crate::client::Client;
use crate::error::ClientError;
use crate::published::{self, Said};

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
    /// connection was lost for so long that it has ended, or the server was: but for what the owner
    /// has published since, from this device or another one. It is over after [`Client::timeout`],
    /// whatever the server does.
    ///
    /// # Errors
    /// [`ClientError`]; where nobody knows whether it was done, as after a timeout, this is what is
    /// published again, and nothing of before.
    pub async fn publish(
        &self,
        patch: &Patch,
        lease: Option<Duration>,
        replace: bool,
    ) -> Result<Option<Duration>, ClientError> {
        let by = Instant::now() + self.timeout();
        let mut published = self.published.hold(by, self.timeout()).await?;
        let before = published.clone();
        let base = match replace {
            true if lease.is_none() => {
                let others = match &before {
                    Some(said) => said.others.clone(),
                    None => self.shown(by).await?,
                };
                Some(Said::among(others))
            }
            true => None,
            false => before.clone(),
        };
        let asked = base.filter(|_| lease.is_none()).and_then(|base| base.changed(patch));
        // Before it is known, as whoever asks may stop waiting.
        *published = asked.clone();
        // Where the whole is known it is said, as what it would change may have ended meanwhile.
        let (content, replace) = match &asked {
            Some(said) => (Patch::between(&Document::default(), &said.last).encode(), true),
            None => (patch.encode(), replace),
        };
        let own = Publish::of(self.address().clone(), What::Presence, Some(content));
        let came = self.call_repeatable_by(Publish { lease, replace, ..own }, by).await;
        *published = Said::after(before, asked, &came);
        Ok(came?.lease)
    }

    /// What the owner's devices show together.
    async fn shown(&self, by: Instant) -> Result<Document, ClientError> {
        let fetch = Fetch::of(self.address().clone(), What::Presence);
        let content = self.call_repeatable_by(fetch, by).await?.content;
        content.map_or(Ok(Document::default()), |content| document(content, What::Presence))
    }

    /// Whether what this client has published bound to its session is still what its device shows, or
    /// will be again by itself; it is not if it was taken back or replaced from elsewhere.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn still_publishes(&self) -> Result<bool, ClientError> {
        let by = Instant::now() + self.timeout();
        loop {
            let Some(times) = self.published.is_said(by).await else {
                // It will be.
                return Ok(true);
            };
            // Not held meanwhile: it may have to be said again over the connection that this makes.
            let before = self.published.hold(by, self.timeout()).await?.clone();
            let fetch = Fetch::of(self.address().clone(), What::Layer);
            let layer = published::layer(self.call_repeatable_by(fetch, by).await)?;
            let Some(said) = &before else { return Ok(false) };
            if layer.is_some_and(|layer| said.is(&layer)) {
                return Ok(true);
            }
            // What was fetched may be older than what this client has said meanwhile.
            let now = self.published.hold(by, self.timeout()).await?.clone();
            if now == before && self.published.is_said(Instant::now()).await == Some(times) {
                return Ok(false);
            }
        }
    }

    /// Ends the layer that this device publishes. It is over after [`Client::timeout`].
    ///
    /// # Errors
    /// [`ClientError`]; after a timeout nobody knows whether it was done.
    pub async fn unpublish(&self) -> Result<(), ClientError> {
        let by = Instant::now() + self.timeout();
        let mut published = self.published.hold(by, self.timeout()).await?;
        *published = None;
        let own = Publish::of(self.address().clone(), What::Presence, None);
        self.call_repeatable_by(Publish { lease: Some(Duration::ZERO), ..own }, by).await.map(drop)
    }

    /// The layer that this device publishes.
    ///
    /// # Errors
    /// [`ClientError`]; not-found if it publishes none.
    pub async fn layer(&self) -> Result<Document, ClientError> {
        let done = self.call_repeatable(Fetch::of(self.address().clone(), What::Layer)).await?;
        document(done.content.unwrap_or_default(), What::Layer)
    }

    /// Publishes for somebody whose rules let one, as a layer beside those of the owner's devices, and for
    /// a lease; `replace` empties it first. Gives the lease granted.
    ///
    /// # Errors
    /// [`ClientError`]; refused, naming what may not be said.
    pub async fn publish_for(
        &self,
        owner: &Address,
        patch: &Patch,
        lease: Duration,
        replace: bool,
    ) -> Result<Option<Duration>, ClientError> {
        let publish = Publish::of(owner.clone(), What::Presence, Some(patch.encode()));
        let publish = Publish { lease: Some(lease), replace, ..publish };
        Ok(self.call_repeatable(publish).await?.lease)
    }

    /// Ends the layer that one has of somebody's, from this device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unpublish_for(&self, owner: &Address) -> Result<(), ClientError> {
        let publish = Publish::of(owner.clone(), What::Presence, None);
        self.call_repeatable(Publish { lease: Some(Duration::ZERO), ..publish }).await.map(drop)
    }

    /// The layer that one has of somebody's, from this device.
    ///
    /// # Errors
    /// [`ClientError`]; not-found if there is none.
    pub async fn layer_for(&self, owner: &Address) -> Result<Document, ClientError> {
        let done = self.call_repeatable(Fetch::of(owner.clone(), What::Layer)).await?;
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
