//! What a session tells, as frames on a client's connection.

use bytes::BytesMut;
use impp_protocol::command::Notify;
use impp_protocol::frame::Frame;
use impp_protocol::state::{self, ShortPage, SubscriptionState};
use impp_protocol::{Kind, What};

use crate::core::notify::put;
use crate::session::{Event, Front};

/// The output of a connection, as long as it has less than `room` bytes.
pub(super) struct Frames<'a> {
    pub out: &'a mut BytesMut,
    pub room: usize,
    /// The client takes pages of the log without what it knows.
    pub short_pages: bool,
}

impl Front for Frames<'_> {
    fn has_room(&self) -> bool {
        self.out.len() < self.room
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::State(notify) => put(self.out, notify.into()),
            Event::Page { owner, page, knows_oldest } => {
                let snapshot = Some(match self.short_pages {
                    true => state::encode(&ShortPage::of(page, &owner, knows_oldest)),
                    false => state::encode(&page),
                });
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use impp_protocol::frame::{self, FRAME_BYTES_MAX};
    use impp_protocol::state::{Item, ItemKind, Page};
    use impp_protocol::{Address, Command, Request, Timestamp};

    use super::*;

    /// Only who has said so is told pages without what it knows.
    #[test]
    fn pages_are_short_for_who_takes_them() {
        let owner: Address = "bob@a.example".parse().unwrap();
        let (cursor, oldest) = (Bytes::from_static(b"behind it"), Bytes::from_static(b"begin"));
        let item = Item::of(ItemKind::Damaged, cursor.clone(), Timestamp::from_millis(0));
        let page = Page { items: vec![item], cursor, more: false, oldest: oldest.clone() };
        for short_pages in [false, true] {
            let mut out = BytesMut::new();
            let mut frames = Frames { out: &mut out, room: 1000, short_pages };
            let (owner, told) = (owner.clone(), page.clone());
            frames.tell(Event::Page { owner: owner.clone(), page: told, knows_oldest: true });
            let frame = frame::take(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
            let Command::Notify(notify) = Request::decode(frame).unwrap().command else { panic!() };
            let told: ShortPage = state::decode(notify.snapshot.unwrap()).unwrap();
            assert_eq!((told.cursor.is_none(), told.oldest.is_none()), (short_pages, short_pages));
            assert_eq!(told.whole(&owner, Some(oldest.clone())).as_ref(), Some(&page));
        }
    }
}
