//! What a client has published bound to its session: the whole of it, so that it can be said once more
//! where it has ended unasked: while the connection was lost, or with the server.

use std::sync::Arc;

use impp_protocol::command::Publish;
use impp_protocol::presence::{Document, Patch};
use impp_protocol::{Address, What};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::backoff::{self, Backoff};
use crate::connection::Connection;
use crate::error::ClientError;

/// See the module. Whoever publishes holds it meanwhile: nothing that is older is said after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<Mutex<Option<Document>>>);

impl Published {
    /// What is published; nothing where a lease keeps it, or where the whole of it is not known.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, Option<Document>> {
        self.0.lock().await
    }

    /// Publishes it again on a new connection where it has ended, beside whatever else is asked there:
    /// what comes unasked may have to be taken before the answer comes.
    pub(crate) fn again(&self, own: &Address, connection: &Connection) {
        let signed_in = connection.signed_in();
        if signed_in.resumed && !signed_in.layer_ended {
            return;
        }
        // A device that resumes may have said something newer over another session: that stays.
        let base = signed_in.resumed.then_some(0);
        let (published, own, connection) = (self.clone(), own.clone(), connection.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            while let Err(error) = published.say(&own, &connection, base).await {
                if connection.ended().is_some() || !error.is_transient() {
                    return;
                }
                sleep(backoff.next(error.retry_after(), backoff::random())).await;
            }
        });
    }

    async fn say(
        &self,
        own: &Address,
        connection: &Connection,
        base: Option<u64>,
    ) -> Result<(), ClientError> {
        let published = self.hold().await;
        let Some(document) = &*published else { return Ok(()) };
        let content = Some(Patch::between(&Document::default(), document).encode());
        let own = Publish::of(own.clone(), What::Presence, content);
        connection.call(Publish { replace: true, base, ..own }).await.map(drop)
    }
}
