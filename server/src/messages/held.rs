//! Messages that wait for their recipient's decision: a record each, counted with the recipient.

use bytes::Bytes;
use impp_protocol::Address;
use impp_protocol::command::Message;
use impp_storage::{Expect, Op};

use super::Delivery;
use crate::core::records::place;

/// The record of a message that is held.
pub(super) fn hold(message: &Message, from: &Address, body: &Bytes) -> Op {
    place::held(&message.to, from, message.id).put_bytes(Expect::Any, body.clone())
}

impl Delivery {
    /// A message that was counted as held is not any more.
    pub async fn one_less_held(&self, owner: &Address, from: &Address) {
        let counted = self.principals.look(owner, |principal, _| principal.held.one_less(from));
        if let Err(error) = counted.await {
            tracing::error!(%error, "held messages could not be counted");
        }
    }
}
