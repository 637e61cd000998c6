//! Commands: what frames say. One file for each, with its fields and their meaning.
//!
//! Who may send which in which state is the table in [`Kind`]'s specification, applied by the
//! server; doing what they ask is left to it too.

mod answer;
mod auth;
mod change;
mod follow;
mod hello;
mod liveness;
mod message;

use bytes::{Bytes, BytesMut};

pub use answer::{Done, Outcome};
pub use auth::{Auth, Challenge, DEVICE_NAME_BYTES_MAX};
pub use change::Publish;
pub use follow::{Fetch, HeldVersion, Notify, Subscribe};
pub use hello::{
    EVERY_ITEM, FEATURES_OF_SERVER, Hello, INTO_GROUP, MARKS, PROTOCOL_VERSION, REPEATS,
    REPEATS_MAX, SERIES, SHORT_PAGES, SUPPOSE,
};
pub use liveness::{Bye, ByeReason, Ping};
pub use message::{
    Ack, BODY_BYTES_MAX, HEADERS_MAX, Header, LABEL_BYTES_MAX, MESSAGE_BYTES_MAX, Message, Written,
};

use crate::error::Error;
use crate::field::{Fault, FieldError, Reader, Writer};
use crate::frame::{self, Frame, FrameError};
use crate::schema::{FieldSpec, Map};

/// A frame whose fields are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The request's number, which its answer repeats; 0 where no answer is due or nobody asked.
    pub number: u64,
    /// What it says.
    pub command: Command,
}

/// Why a frame is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The kind is not in the table; the frame is skipped and the connection lives.
    #[error("unknown kind {0}")]
    UnknownKind(u8),
    /// A field is wrong.
    #[error("{kind}: {error}")]
    Malformed {
        /// The frame's kind.
        kind: Kind,
        /// The field and what is wrong with it.
        error: FieldError,
    },
}

impl CommandError {
    /// Whether no more is wrong than what a text or address says: all around it could be read.
    pub fn is_of_text(&self) -> bool {
        let CommandError::Malformed { error, .. } = self else { return false };
        matches!(error.fault, Fault::Text | Fault::Address(_))
    }

    /// Whether nothing is wrong but that it has the number of something that came later.
    pub fn is_foreign(&self) -> bool {
        let CommandError::Malformed { error, .. } = self else { return false };
        error.fault == Fault::Foreign
    }
}

/// One table makes the kinds, the enum, the decoder and the encoder.
macro_rules! commands {
    ($( $(#[doc = $doc:literal])+ $variant:ident($kind:ty) = $number:literal, $name:literal; )*) => {
        /// The kinds of frames.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $( $(#[doc = $doc])+ $variant, )* }

        /// What a frame says.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command { $( $(#[doc = $doc])+ $variant($kind), )* }

        impl Kind {
            /// Every kind, its number, name, meaning and fields.
            pub const ALL: &'static [(Kind, u8, &'static str, &'static str, &'static [FieldSpec])] = &[
                $( (Kind::$variant, $number, $name, concat!($($doc),+), <$kind as Map>::FIELDS), )*
            ];

            /// The number on the wire.
            pub fn number(self) -> u8 {
                match self { $( Kind::$variant => $number, )* }
            }

            /// The kind with that number.
            pub fn from_number(number: u8) -> Option<Kind> {
                match number { $( $number => Some(Kind::$variant), )* _ => None }
            }

            /// The name in the specification.
            pub fn as_str(self) -> &'static str {
                match self { $( Kind::$variant => $name, )* }
            }
        }

        impl Command {
            /// The kind of frame that carries it.
            pub fn kind(&self) -> Kind {
                match self { $( Command::$variant(_) => Kind::$variant, )* }
            }

            fn put(&self, writer: &mut Writer) {
                match self { $( Command::$variant(fields) => fields.put(writer), )* }
            }

            fn read(kind: Kind, fields: Bytes) -> Result<Command, FieldError> {
                let reader = Reader::new(fields);
                Ok(match kind { $( Kind::$variant => Command::$variant(Map::get(reader)?), )* })
            }
        }

        $( impl From<$kind> for Command {
            fn from(fields: $kind) -> Command { Command::$variant(fields) }
        } )*
    };
}

commands! {
    /// Version, features and limits; the first frame of each side.
    Hello(Hello) = 1, "HELLO";
    /// A step of signing in, or resuming a session.
    Auth(Auth) = 2, "AUTH";
    /// The server's step of signing in.
    Challenge(Challenge) = 3, "CHALLENGE";
    /// The answer to a request that was done.
    Ok(Done) = 4, "OK";
    /// The answer to a request that was not done.
    Error(Error) = 5, "ERROR";
    /// Change a state.
    Publish(Publish) = 6, "PUBLISH";
    /// Follow a state or a series for a lease; again to refresh, lease 0 to end.
    Subscribe(Subscribe) = 7, "SUBSCRIBE";
    /// Read a state or a series once.
    Fetch(Fetch) = 8, "FETCH";
    /// What changed in a thing that is followed, or why following ended.
    Notify(Notify) = 9, "NOTIFY";
    /// Append to an inbox.
    Message(Message) = 10, "MESSAGE";
    /// Custody of the log up to a cursor, for this device.
    Ack(Ack) = 11, "ACK";
    /// Are you there? Answered by OK.
    Ping(Ping) = 12, "PING";
    /// The orderly end of the connection.
    Bye(Bye) = 13, "BYE";
}

/// What a client that has signed in asks by a kind of frame, as far as it matters to who asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// For a change: what was done is not done again by a repeat.
    Change,
    /// To be told something, now or as it changes: a repeat is answered anew.
    Telling,
    /// For nothing that is looked up: it opens, ends or keeps the connection, or is an answer.
    Nothing,
}

impl Kind {
    /// What a client that has signed in asks by it. Whoever adds a kind says so here.
    pub fn asks(self) -> Asks {
        match self {
            Kind::Publish | Kind::Message | Kind::Ack => Asks::Change,
            Kind::Subscribe | Kind::Fetch => Asks::Telling,
            Kind::Hello | Kind::Auth | Kind::Challenge | Kind::Ping | Kind::Bye => Asks::Nothing,
            Kind::Ok | Kind::Error | Kind::Notify => Asks::Nothing,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Request {
    /// Reads a frame's fields.
    ///
    /// # Errors
    /// [`CommandError`] if the kind is unknown or a field is wrong.
    pub fn decode(frame: Frame) -> Result<Request, CommandError> {
        let kind = Kind::from_number(frame.kind).ok_or(CommandError::UnknownKind(frame.kind))?;
        let command = Command::read(kind, frame.fields)
            .map_err(|error| CommandError::Malformed { kind, error })?;
        Ok(Request { number: frame.request, command })
    }

    /// The frame that says it.
    pub fn encode(&self) -> Frame {
        let mut writer = Writer::default();
        self.command.put(&mut writer);
        let (kind, fields) = (self.command.kind().number(), writer.into_bytes());
        Frame { kind, request: self.number, fields }
    }

    /// Appends the frame's bytes to `out`: what it says is written right there.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], and nothing is written.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let kind = self.command.kind().number();
        out.reserve(Writer::BYTES_USUAL);
        frame::put(kind, self.number, out, |writer| self.command.put(writer))
    }
}
