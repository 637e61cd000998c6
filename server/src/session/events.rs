//! What a session tells its client, before it has any form on a wire.

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::command::Notify;
use impp_protocol::state::Page;

/// Something to tell.
#[derive(Clone, Debug)]
pub enum Event {
    /// Of a presentity, or another state, that is followed.
    State(Notify),
    /// More of the log that is followed, and whose it is.
    Page(Address, Page),
    /// A message that is not stored: its fields, encoded once for all whom it is for.
    Message(Bytes),
}

/// Whoever carries events to a client.
pub trait Front: Send {
    /// Whether there is room for more. What does not fit is looked at again when there is.
    fn has_room(&self) -> bool;

    /// Carries one; each call is one copy of what is shared.
    fn tell(&mut self, event: Event);
}
