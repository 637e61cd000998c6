//! What a session tells, as frames on a client's connection.

use bytes::BytesMut;
use impp_protocol::command::Notify;
use impp_protocol::frame::Frame;
use impp_protocol::state::{self, SubscriptionState};
use impp_protocol::{Kind, What};

use crate::core::notify::put;
use crate::session::{Event, Front};

/// The output of a connection, as long as it has less than `room` bytes.
pub(super) struct Frames<'a> {
    pub out: &'a mut BytesMut,
    pub room: usize,
}

impl Front for Frames<'_> {
    fn has_room(&self) -> bool {
        self.out.len() < self.room
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::State(notify) => put(self.out, notify.into()),
            Event::Page(owner, page) => {
                let snapshot = Some(state::encode(&page));
                let notify = Notify::of(owner, What::Log, SubscriptionState::Active);
                put(self.out, Notify { snapshot, ..notify }.into());
            }
            Event::Message(fields) => {
                let frame = Frame { kind: Kind::Message.number(), request: 0, fields };
                if let Err(error) = frame.put(self.out) {
                    tracing::error!(%error, "a message that is not stored could not be written");
                }
            }
        }
    }
}
