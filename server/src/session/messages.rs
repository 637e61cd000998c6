//! MESSAGE from a client: what it may say, and where it goes.
//!
//! Into an inbox here, and to another domain, is left to `messages`.

use impp_protocol::command::{Message, Written};
use impp_protocol::{Address, Code, Error, Service};

use super::things::offered;
use super::{Rooms, Session};
use crate::core::answers::Answer;
use crate::messages::Bearer;
use crate::reach::{Brought, bring};

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
        let rooms = &self.serving.rooms;
        let brought = {
            let from = message.from.clone().unwrap_or_else(|| writer.clone());
            let to = message.to.clone();
            bring(&rooms.routes, &from, &to, Sent { rooms, message, writer })
        };
        brought.await
    }
}

/// A message that a session has written.
struct Sent<'a> {
    rooms: &'a Rooms,
    message: Written,
    writer: Address,
}

impl Brought for Sent<'_> {
    type Outcome = Result<Answer, Error>;

    fn here(self) -> impl Future<Output = Self::Outcome> + Send {
        self.rooms.delivery.deliver(self.message, self.writer, Bearer::Session)
    }

    fn elsewhere(self) -> impl Future<Output = Self::Outcome> + Send {
        Box::pin(self.rooms.outgoing.accept(self.message, self.writer))
    }
}
