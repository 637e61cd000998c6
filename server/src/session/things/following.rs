//! What a session keeps of a thing that its client follows: each kind of thing says in its own file what
//! that is, and what is told of it.
//!
//! Who may follow it says the permit; when there may be news, the mailbox; how a telling goes on that
//! found no room, or nothing to read, the session (`telling.rs`). Presence is followed in a way of its
//! own (`follow.rs`): it is another's, and kept beyond the connection.
//!
//! A thing that can be followed has such a file: what is kept of it and told (`log.rs`, say), at the pace of
//! its row (`seldom.rs`). Who changes it says so to the sessions that may follow it
//! (`Sessions::thing_changed`); what hangs on who watches is told by the presentity (`Follows` in
//! `presence/src/presentity/seen.rs`, `presentity_dirty` in `core/sessions.rs`). The client follows it in
//! `client/src/follow/machine.rs`.

use std::pin::Pin;

use bytes::Bytes;
use impp_protocol::command::Notify;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Error, What};

use super::{Client, Things};
use crate::session::{Event, Front};

/// Whether all was told that there is. An error is looked at again after a while.
pub(in crate::session) type Telling<'a> =
    Pin<Box<dyn Future<Output = Result<bool, Error>> + Send + 'a>>;

/// What was kept of it elsewhere is let go of.
pub(in crate::session) type Leaving<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A state as its owner's session is told it: all of it, or what goes on with or changes what was told.
pub(super) fn told(owner: &Address, what: What, is_first: bool, content: Bytes) -> Event {
    let mut notify = Notify::of(owner.clone(), what, SubscriptionState::Active);
    match is_first {
        true => notify.snapshot = Some(content),
        false => notify.patch = Some(content),
    }
    Event::State(notify)
}

/// A thing as it is followed: what its client was told last.
pub(in crate::session) trait Following: Send + Sync {
    /// The place from which it is told, where the client does not know that.
    fn begins(&self) -> Option<Bytes> {
        None
    }

    /// Tells what has come, as long as there is room; the first time, what there is.
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a>;

    /// The client goes on over a new connection, and what was told last may not have arrived: all is to
    /// be told anew. No, if it ended with the connection.
    fn again(&mut self) -> bool {
        false
    }

    /// The client has answered a PING, and has what was sent before.
    fn heard(&mut self) {}

    /// It is followed no more.
    fn leave<'a>(&'a self, _things: &'a Things, _client: &'a Client) -> Leaving<'a> {
        Box::pin(async {})
    }
}
