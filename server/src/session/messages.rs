//! MESSAGE from a client: what it may say, and where it goes.
//!
//! Into an inbox here, and to another domain, is left to `messages`.

use std::time::Duration;

use impp_acl::Service;
use impp_protocol::command::Message;
use impp_protocol::{Code, Error, MessageId, Timestamp};

use super::things::offered;
use super::{Rooms, Session};
use crate::core::answers::Answer;
use crate::messages::{Bearer, out_of_window, time_of};

/// A message's id may be so much older than the server's time,
const ID_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// or so much ahead of it.
const ID_AHEAD_MAX: Duration = Duration::from_secs(600);

impl Session {
    /// Takes a message; the answer comes when the store has it.
    pub(super) async fn message(&mut self, message: Message) -> Answer {
        match self.accept(message).await {
            Ok(answer) => answer,
            Err(error) => Answer::Now(error.into()),
        }
    }

    async fn accept(&self, mut message: Message) -> Result<Answer, Error> {
        offered(&self.client.account, Service::Messages)?;
        let (from, now) = (self.address().clone(), self.serving.clock.now());
        // The sender is who signed in, whatever the frame says.
        if message.from.as_ref().is_some_and(|claimed| *claimed != from) {
            return Err(Error::new(Code::Refused, format!("from: you are {from}")));
        }
        if message.is_stamped() {
            let text = "sender, hops, redirected_from, fields 48 to 63: only servers write these";
            return Err(Error::new(Code::Refused, text));
        }
        if let Some(over) = message.over_limit() {
            return Err(Error::new(Code::TooLarge, over));
        }
        in_window(message.id, now)?;
        message.from = Some(from.clone());
        let Rooms { routes, outgoing, delivery, .. } = &self.serving.rooms;
        if routes.is_remote(&from, &message.to) {
            return outgoing.accept(message, from).await;
        }
        delivery.deliver(message, from, Bearer::Session).await
    }
}

/// An id is a UUIDv7 whose time is near the server's, so that a repeat is always recognised.
fn in_window(id: MessageId, now: Timestamp) -> Result<(), Error> {
    let made = time_of(id)?;
    if made.after(ID_AGE_MAX) < now {
        return Err(out_of_window("is too old"));
    }
    if made > now.after(ID_AHEAD_MAX) {
        return Err(out_of_window("lies in the future"));
    }
    Ok(())
}
