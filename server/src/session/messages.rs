//! MESSAGE from a client: what it may say, and where it goes.
//!
//! Into an inbox here, and to another domain, is left to `messages`.

use impp_protocol::command::{Message, Written};
use impp_protocol::{Code, Error, Service};

use super::things::offered;
use super::{Rooms, Session};
use crate::core::answers::Answer;
use crate::messages::Bearer;

impl Session {
    /// Takes a message; the answer comes when the store has it.
    pub(super) async fn message(&mut self, message: Message) -> Answer {
        self.accept(message).await.into()
    }

    async fn accept(&self, mut message: Message) -> Result<Answer, Error> {
        offered(&self.client.account, Service::Messages)?;
        if message.is_stamped() {
            let text = "sender, hops, redirected_from, fields 48 to 63: only servers write these";
            return Err(Error::new(Code::Refused, text));
        }
        // Who writes it is who signed in, whatever the frame says; and from whom it is, the same or an
        // owner for whom they may send.
        let writer = self.address().clone();
        match message.from.take().filter(|from| *from != writer) {
            None => message.from = Some(writer.clone()),
            Some(owner) => {
                let sending = self.serving.things.delegations.sending(&writer, &owner);
                let acting = Box::pin(sending).await?;
                let owner = acting.as_ref().map_or(owner, |acting| acting.owner().clone());
                (message.from, message.sender) = (Some(owner), Some(writer.clone()));
                if acting.is_none() {
                    let error = Error::new(Code::Refused, format!("from: you are {writer}"));
                    let (message, delivery) = (Written::new(message), &self.serving.rooms.delivery);
                    // What was taken while they might is answered so.
                    return Box::pin(delivery.not_taken(&message, &writer, error)).await;
                }
            }
        }
        let message = Written::new(message);
        if let Some(over) = message.over_limit() {
            return Err(Error::new(Code::TooLarge, over));
        }
        let Rooms { routes, outgoing, delivery, .. } = &self.serving.rooms;
        if routes.is_remote(message.from.as_ref().unwrap_or(&writer), &message.to) {
            return Box::pin(outgoing.accept(message, writer)).await;
        }
        delivery.deliver(message, writer, Bearer::Session).await
    }
}
