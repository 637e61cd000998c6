//! Read marks, where they are followed: what is held of them, and what is new.

use std::collections::BTreeMap;

use impp_protocol::Address;
use impp_protocol::command::Notify;
use impp_protocol::state::{self, ReadMark, ReadMarks};

use super::{Event, Machine};
use crate::error::ClientError;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Marked(BTreeMap<Address, ReadMark>);

impl Marked {
    /// Takes what came of them: what is otherwise than before. On a new connection all come again.
    fn take(&mut self, marks: ReadMarks) -> Vec<ReadMark> {
        let mut news = marks.entries;
        news.retain(|mark| {
            self.0.insert(mark.address.clone(), mark.clone()).as_ref() != Some(mark)
        });
        news
    }
}

impl Machine {
    pub(super) fn handle_marks(&mut self, notify: Notify) -> Result<(), ClientError> {
        let Some(marked) = &mut self.marks else { return Ok(()) };
        let marks = state::decode(notify.snapshot.or(notify.patch).unwrap_or_default())
            .map_err(|error| ClientError::Protocol(format!("read marks: {error}")))?;
        self.events.extend(marked.take(marks).into_iter().map(Box::new).map(Event::ReadMark));
        Ok(())
    }
}

impl Machine {
    pub(super) fn handle_typing(&mut self, notify: Notify) -> Result<(), ClientError> {
        let Some(content) = notify.snapshot.filter(|_| self.typing) else { return Ok(()) };
        let typing = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("typing: {error}")))?;
        self.events.push_back(Event::Typing(typing));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_comes_again_is_not_told_again() {
        let mark = |cursor: &'static [u8]| {
            let address = Address::parse("bob@a.example").unwrap();
            let (id, time, received, read) = Default::default();
            let (unread, more) = (None, false);
            let cursor = Some(cursor.into());
            ReadMark { address, cursor, id, time, received, read, unread, more }
        };
        let all = |mark: &ReadMark| ReadMarks { entries: vec![mark.clone()] };
        let (mut marked, first, second) = (Marked::default(), mark(b"1"), mark(b"2"));
        assert_eq!(marked.take(all(&first)), std::slice::from_ref(&first));
        assert_eq!(marked.take(all(&first)), []);
        assert_eq!(marked.take(all(&second)), [second]);
    }
}
