//! A page of a log as it is told to who follows it, without what they know already.

use bytes::Bytes;

use super::{Item, Page};
use crate::address::Address;
use crate::command::Message;
use crate::schema::fields;

fields! {
    /// A page of a log that is followed, for a client with the feature
    /// [`SHORT_PAGES`](crate::command::SHORT_PAGES).
    pub struct ShortPage {
        /// The items, in the order of the log. A MESSAGE whose `to` is the log's owner has none.
        1 items: Vec<Item>,
        /// As of a page; absent where it is that of the last item.
        2 cursor: Option<Bytes>,
        /// As of a page.
        3 more: bool,
        /// As of a page; absent where it is that of the page before in this subscription.
        4 oldest: Option<Bytes>,
    }
}

impl ShortPage {
    /// A page of that owner's log, told to somebody who knows where the log begins or who does not.
    pub fn of(page: Page, owner: &Address, knows_oldest: bool) -> ShortPage {
        let Page { mut items, cursor, more, oldest } = page;
        for item in &mut items {
            item.message = item.message.take().map(|message| Message::without_to(message, owner));
        }
        let is_last = items.last().is_some_and(|item| item.cursor == cursor);
        let (cursor, oldest) = ((!is_last).then_some(cursor), (!knows_oldest).then_some(oldest));
        ShortPage { items, cursor, more, oldest }
    }

    /// The page that it stands for, in the log of that owner, where `oldest` was told before; none if
    /// something is missing that was never told.
    pub fn whole(self, owner: &Address, oldest: Option<Bytes>) -> Option<Page> {
        let ShortPage { mut items, cursor, more, oldest: newer } = self;
        for item in &mut items {
            item.message = item.message.take().map(|message| Message::with_to(message, owner));
        }
        let cursor = cursor.or_else(|| items.last().map(|item| item.cursor.clone()))?;
        Some(Page { items, cursor, more, oldest: newer.or(oldest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;
    use crate::state::{self, ItemKind};
    use crate::time::Timestamp;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn item(kind: ItemKind, cursor: &'static [u8], to: &str) -> Item {
        let message = Message::new(MessageId([7; 16]), address(to), Bytes::from_static(b"hi"));
        let time = Timestamp::from_millis(1_700_000_000_000);
        let cursor = Bytes::from_static(cursor);
        Item { message: Some(message.encode()), ..Item::of(kind, cursor, time) }
    }

    /// What is left out is what the reader knows, and comes back the same.
    #[test]
    fn a_short_page_stands_for_the_whole_one() {
        let owner = address("alice@a.example");
        let items = vec![
            item(ItemKind::Received, b"1", "alice@a.example"),
            item(ItemKind::Sent, b"2", "bob@a.example"),
        ];
        for (cursor, told) in [(&b"2"[..], false), (b"2", true), (b"3", true)] {
            let (cursor, oldest) = (Bytes::from_static(cursor), Bytes::from_static(b"0"));
            let page = Page { items: items.clone(), cursor, more: false, oldest: oldest.clone() };
            let short = ShortPage::of(page.clone(), &owner, told);
            let read: ShortPage = state::decode(state::encode(&short)).unwrap();
            assert_eq!(read.clone().whole(&owner, told.then_some(oldest)), Some(page));
            assert_eq!(read.whole(&owner, None).is_none(), told);
        }
    }

    /// A server that does not know of it says all, which is read alike.
    #[test]
    fn a_whole_page_is_read_as_a_short_one() {
        let owner = address("alice@a.example");
        let items = vec![item(ItemKind::Received, b"1", "alice@a.example")];
        let cursor = Bytes::from_static(b"1");
        let page = Page { items, oldest: cursor.clone(), cursor, more: true };
        let read: ShortPage = state::decode(state::encode(&page)).unwrap();
        assert_eq!(read.whole(&owner, None), Some(page));
    }

    /// Octets that are no message stay as they are.
    #[test]
    fn what_is_no_message_is_left_alone() {
        let owner = address("alice@a.example");
        for octets in [&b""[..], b"\x03", b"\x03\x10short", &[0xff; 40]] {
            let octets = Bytes::copy_from_slice(octets);
            assert_eq!(Message::without_to(octets.clone(), &owner), octets);
            assert_eq!(Message::with_to(octets.clone(), &owner), octets);
        }
    }
}
