//! Presence on its way to a watcher: in a NOTIFY, or in the answer to who looks once.

use bytes::BytesMut;
use impp_acl::Disclosed;
use impp_presence::Fetched;
use impp_protocol::command::{Done, Notify};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Command, Request};

use crate::core::answers::{Handled, refused};

/// The one place where presence enters a NOTIFY.
pub fn disclose(notify: &mut Notify, content: &Disclosed) {
    notify.version = Some(content.version());
    notify.base = content.base();
    match content.base() {
        Some(_) => notify.patch = Some(content.bytes()),
        None => notify.snapshot = Some(content.bytes()),
    }
}

/// Appends an unsolicited frame.
pub fn put(out: &mut BytesMut, command: Command) {
    let kind = command.kind();
    if let Err(error) = (Request { number: 0, command }).put(out) {
        tracing::error!(%kind, %error, "a frame of the server's own could not be written");
    }
}

/// The answer to one who looks once.
pub fn fetched(presentity: &Address, fetched: Fetched) -> Handled {
    let stands = |state| Done { state: Some(state), ..Done::empty() };
    match fetched {
        Fetched::Shown(version, content) => Ok(Done {
            version: Some(version),
            content: content.map(|content| content.bytes()),
            ..stands(SubscriptionState::Active)
        }),
        Fetched::Pending => Ok(stands(SubscriptionState::Pending)),
        Fetched::Refused => Err(refused(presentity)),
    }
}
