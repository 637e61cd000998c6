//! Typed calls: what can be asked of a server once. One file for each thing.
//!
//! Following is left to `follow`; every call here is one request and one answer.

mod contacts;
mod delegations;
mod devices;
mod log;
mod marks;
mod message;
mod presence;
mod rules;
mod subscriptions;

use bytes::Bytes;
use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::schema::Map;
use impp_protocol::{Address, What, state};

pub use contacts::contact_change;
pub(crate) use message::new_id;
pub use message::{Outgoing, Sent, local_time};
pub use presence::Fetched;
pub use rules::{ExplainKind, Supposed};

use crate::client::Client;
use crate::error::ClientError;

/// Most parts that a list is read in: a server that never comes to its end is not followed there.
pub(crate) const LIST_PARTS_MAX: usize = 1024;

/// A list that may be longer than one answer, so that it is read in parts.
trait List: Map {
    type Entry;

    fn entries(self) -> Vec<Self::Entry>;
}

impl Client {
    /// Reads one of the caller's own lists, all its parts.
    async fn fetch_list<T: List>(&self, what: What) -> Result<Vec<T::Entry>, ClientError> {
        self.fetch_list_of::<T>(self.address(), what).await
    }

    /// The same of somebody.
    async fn fetch_list_of<T: List>(
        &self,
        owner: &Address,
        what: What,
    ) -> Result<Vec<T::Entry>, ClientError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        for _ in 0..LIST_PARTS_MAX {
            let fetch = Fetch { cursor, ..Fetch::of(owner.clone(), what) };
            let done = self.call_repeatable(fetch).await?;
            cursor = done.next.clone();
            all.extend(content::<T>(done, what)?.entries());
            if cursor.is_none() {
                return Ok(all);
            }
        }
        Err(ClientError::Protocol(format!("{what}: a list without an end")))
    }

    /// Reads one of the caller's own states.
    async fn fetch_own<T: Map>(&self, what: What) -> Result<T, ClientError> {
        let done = self.call_repeatable(Fetch::of(self.address().clone(), what)).await?;
        content(done, what)
    }

    /// Changes one of the caller's own states that merges, so that doing it twice is harmless.
    async fn edit_own<T: Map>(&self, what: What, edit: &T) -> Result<Done, ClientError> {
        let content = Some(state::encode(edit));
        let publish = Publish::of(self.address().clone(), what, content);
        self.call_repeatable(publish).await
    }
}

/// The content of an answer. A map without fields has no bytes, so an absent one is empty.
fn content<T: Map>(done: Done, what: What) -> Result<T, ClientError> {
    state::decode(done.content.unwrap_or_default()).map_err(|error| unreadable(what, &error))
}

fn unreadable(what: What, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Protocol(format!("content of {what}: {error}"))
}

fn text(content: Option<Bytes>, what: What) -> Result<String, ClientError> {
    String::from_utf8(content.unwrap_or_default().into()).map_err(|error| unreadable(what, &error))
}
