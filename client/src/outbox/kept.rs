//! What a file of the outbox holds: a message or an edit, and how far it has come.
//!
//! Reading and writing the files is the outbox's.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Message, Publish, Request};
use impp_protocol::field::{FieldError, Reader, Writer};
use impp_protocol::state::{self, ContactEdit};
use impp_protocol::{Address, Error, MessageId, Timestamp, What};

use super::{Shown, Token};

/// So long after it was made servers take an id, and tell a repeat.
pub(super) const ID_LIVES: Duration = Duration::from_secs(24 * 3600);
/// What stands for the id of a message that was not tried.
const NO_ID: MessageId = MessageId([0; 16]);

/// What is kept of a message or an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is known by.
    pub token: Token,
    /// Who wrote it: nobody else sends it.
    pub writer: Address,
    /// As it will be sent, or was.
    pub written: Written,
    /// How far it has come.
    pub state: State,
}

/// What waits in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A message.
    Message(Message),
    /// An edit of the contact list.
    Edit(Edit),
}

/// An edit of the contact list that waits. It grants nobody anything: what its writer knows may be old by
/// the time that it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is changed, and whose entry.
    pub change: ContactEdit,
    /// The number of the list that it was made on, by which it is held against what others did since; a
    /// removal needs none.
    pub base: Option<u64>,
    /// When it was tried first, by the server's time.
    pub tried: Option<Timestamp>,
}

/// How far a message or edit of the outbox has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not tried; a message has no id.
    New,
    /// It was tried, a message under its id; a server may have it.
    Tried,
    /// It was answered that nobody will take it.
    Failed(Error),
    /// It was answered that the entry had been removed since the edit was made: nothing was changed.
    Dropped,
}

impl From<Message> for Written {
    fn from(message: Message) -> Written {
        Written::Message(message)
    }
}

impl From<Edit> for Written {
    fn from(edit: Edit) -> Written {
        Written::Edit(edit)
    }
}

impl Written {
    /// The same, as if it had not been tried.
    pub(super) fn untried(self) -> Written {
        match self {
            Written::Message(message) => Message { id: NO_ID, ..message }.into(),
            Written::Edit(edit) => Edit { tried: None, ..edit }.into(),
        }
    }

    /// The same, by somebody who has been shown the list so; a message is none the newer.
    pub(super) fn made_on(self, shown: Option<&Shown>) -> Written {
        match (self, shown) {
            (Written::Edit(edit), Some(shown)) => {
                let base = edit.address().map(|address| shown.base(address));
                Edit { base: base.or(edit.base), ..edit }.into()
            }
            (same, _) => same,
        }
    }
}

impl Edit {
    /// Of a list of that number; it was not tried.
    pub fn new(change: ContactEdit, base: Option<u64>) -> Edit {
        Edit { change, base, tried: None }
    }

    /// Whose entry it changes.
    pub fn address(&self) -> Option<&Address> {
        let ContactEdit { set, remove, change } = &self.change;
        let set = set.as_ref().map(|set| &set.address);
        set.or(remove.as_ref()).or(change.as_ref().map(|change| &change.address))
    }

    /// In words why it fits no frame, if it is too long.
    pub fn over_limit(&self, writer: &Address) -> Option<String> {
        let content = Some(state::encode(&self.change));
        let asked = Publish::of(writer.clone(), What::Contacts, content);
        // The longest numbers: those that it will go under are not known yet.
        let command = Publish { base: Some(u64::MAX), ..asked }.into();
        let request = Request { number: u64::MAX, command };
        request.put(&mut BytesMut::new()).err().map(|error| error.to_string())
    }

    /// The same, known to its writer to be made on no older list than of that number, if it is of that entry.
    pub(super) fn behind(&self, address: &Address, number: u64) -> Option<Edit> {
        let is_older = self.base.is_some_and(|base| base < number);
        let is_of_it = self.address() == Some(address);
        (is_older && is_of_it).then(|| Edit { base: Some(number), ..self.clone() })
    }
}

/// The numbers of the fields of a file.
const MESSAGE: u64 = 1;
const TRIED: u64 = 2;
const FAILED: u64 = 3;
const TOKEN: u64 = 4;
const WRITER: u64 = 5;
const EDIT: u64 = 6;
const BASE: u64 = 7;
const TRIED_AT: u64 = 8;
const DROPPED: u64 = 9;

impl Kept {
    /// Whether nobody knows, at a server's time, whether it was taken, nor can be asked.
    pub fn is_unknown(&self, now: Timestamp) -> bool {
        let tried = match &self.written {
            Written::Message(message) => message.id.time(),
            Written::Edit(edit) => edit.tried,
        };
        let is_over = |tried: Timestamp| tried.after(ID_LIVES) <= now;
        self.state == State::Tried && tried.is_none_or(is_over)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        let (message, edit) = match &self.written {
            Written::Message(message) => (Some(message.encode()), None),
            Written::Edit(edit) => (None, Some(edit)),
        };
        writer.field(MESSAGE, &message);
        writer.field(TRIED, &(self.state == State::Tried));
        if let State::Failed(error) = &self.state {
            writer.field(FAILED, error);
        }
        writer.field(TOKEN, &self.token);
        writer.field(WRITER, &self.writer);
        writer.field(EDIT, &edit.map(|edit| edit.change.clone()));
        writer.field(BASE, &edit.and_then(|edit| edit.base));
        writer.field(TRIED_AT, &edit.and_then(|edit| edit.tried));
        writer.field(DROPPED, &(self.state == State::Dropped));
        writer.into_bytes()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Kept, FieldError> {
        let mut reader = Reader::new(bytes);
        let message: Option<Bytes> = reader.field(MESSAGE, "message")?;
        let tried: bool = reader.field(TRIED, "tried")?;
        let failed: Option<Error> = reader.field(FAILED, "failed")?;
        let token = reader.field(TOKEN, "token")?;
        let writer = reader.field(WRITER, "writer")?;
        let written = match message {
            Some(message) => Message::decode(message)?.into(),
            None => Edit {
                change: reader.field(EDIT, "edit")?,
                base: reader.field(BASE, "base")?,
                tried: reader.field(TRIED_AT, "tried at")?,
            }
            .into(),
        };
        let dropped: bool = reader.field(DROPPED, "dropped")?;
        reader.end()?;
        let state = match failed {
            Some(error) => State::Failed(error),
            None if dropped => State::Dropped,
            None if tried => State::Tried,
            None => State::New,
        };
        Ok(Kept { token, writer, written, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::Code;
    use impp_protocol::state::ContactChange;

    const BOB: &str = "bob@a.example";

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn kept(written: impl Into<Written>, state: State) -> Kept {
        let written = written.into();
        Kept { token: [1; 16], writer: address("alice@a.example"), written, state }
    }

    fn edit(base: u64) -> Edit {
        let change = ContactChange { add: true, ..ContactChange::of(address(BOB)) };
        Edit::new(ContactEdit::change(change), Some(base))
    }

    /// What is kept is read as it was written, in each of its states.
    #[test]
    fn what_is_kept_is_read_again() {
        let tried = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let id = MessageId::new(tried, [1; 10]);
        let message = Message::new(id, address(BOB), Bytes::from_static(b"text"));
        let removal = Edit::new(ContactEdit::remove(address(BOB)), None);
        let failed = State::Failed(Error::new(Code::Full, "no room"));
        for state in [State::New, State::Tried, State::Dropped, failed] {
            let edit = Edit { tried: Some(tried), ..edit(7) };
            for written in [message.clone().into(), removal.clone().into(), Written::from(edit)] {
                let kept = kept(written, state.clone());
                assert_eq!(Kept::decode(kept.encode()).unwrap(), kept);
            }
        }
    }

    /// What was tried is sent again as the same for a day, and after that by nobody but its writer.
    #[test]
    fn what_was_tried_a_day_ago_is_unknown() {
        let made = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let message = Message::new(MessageId::new(made, [1; 10]), address(BOB), Bytes::new());
        let edit = Edit { tried: Some(made), ..edit(7) };
        for written in [Written::from(message), edit.into()] {
            let tried = kept(written, State::Tried);
            let before = made.after(ID_LIVES - Duration::from_secs(1));
            assert!(!tried.is_unknown(made) && !tried.is_unknown(before));
            assert!(tried.is_unknown(made.after(ID_LIVES)));
            for state in [State::New, State::Dropped] {
                assert!(!Kept { state, ..tried.clone() }.is_unknown(made.after(ID_LIVES * 30)));
            }
        }
    }

    /// An edit behind another of the same entry is made on what that came to, and no other is.
    #[test]
    fn an_edit_is_made_on_those_before_it() {
        assert_eq!(edit(7).behind(&address(BOB), 9), Some(edit(9)));
        assert_eq!(edit(7).behind(&address("carol@a.example"), 9), None);
        assert_eq!(edit(9).behind(&address(BOB), 8), None);
        let removal = Edit::new(ContactEdit::remove(address(BOB)), None);
        assert_eq!(removal.behind(&address(BOB), 9), None);
    }
}
