//! Following things: presence and the log as one stream of events that survives lost connections.
//!
//! What is held and what to ask for is decided in `machine`, without I/O; connecting is `Client`'s.

mod held;
mod log;
mod machine;
mod stream;

use bytes::Bytes;
use impp_locate::Service;
use impp_protocol::command::Message;
use impp_protocol::presence::{Document, Version};
use impp_protocol::state::{Page, ReadMark, SubscriptionEvent, SubscriptionState, Typing};
use impp_protocol::{Address, Error};

pub use held::{Change, ChangeKind, Held, Unfit};
pub use machine::{Machine, RequestNews, WatcherNews};
pub use stream::Follower;

use crate::error::ClientError;

/// What to follow. Where presence and messages are on different servers, the log is followed apart
/// from presence: both at once are asked of the server of presence.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The presence of these.
    pub presence: Vec<Address>,
    /// The presence of everybody in the contact list whom its owner follows.
    pub contacts: bool,
    /// What waits for the caller's decision.
    pub requests: bool,
    /// Who watches the caller.
    pub watchers: bool,
    /// How far the caller's conversations were read, on whichever device.
    pub read_marks: bool,
    /// Who writes to the caller just now.
    pub typing: bool,
    /// The log.
    pub log: bool,
    /// The log from behind this cursor; without one from the oldest item held.
    pub cursor: Option<Bytes>,
    /// The log from its end: only what comes from now on. No cursor counts then.
    pub at_end: bool,
}

impl Wanted {
    /// The service that it is asked of.
    pub(crate) fn service(&self) -> Service {
        let log_alone = (self.log || self.read_marks || self.typing)
            && !self.contacts
            && !self.watchers
            && !self.requests
            && self.presence.is_empty();
        if log_alone { Service::Messages } else { Service::Presence }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A presentity is followed from now on; comes before all else about it.
    Subscribed {
        /// Who.
        presentity: Address,
        /// How the subscription stands, if that is known.
        state: Option<SubscriptionState>,
    },
    /// A presentity, or how the subscription to it stands, changed.
    Notify {
        /// Who.
        presentity: Address,
        /// How the subscription stands.
        state: SubscriptionState,
        /// Why, where that changed.
        reason: Option<SubscriptionEvent>,
        /// What changed in the document, if that did.
        change: Option<Change>,
        /// The version and the document held after it.
        content: Option<(Version, Document)>,
    },
    /// A presentity is no longer followed.
    Ended {
        /// Who.
        presentity: Address,
        /// Why.
        cause: EndCause,
    },
    /// Something waits for the caller's decision, or does no more.
    Request(RequestNews),
    /// Who watches the caller, otherwise than before.
    Watcher(WatcherNews),
    /// A conversation was read further, on whichever device.
    ReadMark(Box<ReadMark>),
    /// Somebody writes just now, for so long as it says.
    Typing(Typing),
    /// The log is followed from its end on, which is behind this cursor; once, and before anything else of
    /// it.
    Begins(Bytes),
    /// The next part of the log.
    Page(Page),
    /// The log is not the one that was read so far: the server's store was put back from a copy. It
    /// is read from its oldest item on; what comes again is told by its id. Cursors of before are of
    /// no use, and what was acknowledged is not, unless the copy knows of it.
    Anew,
    /// A message that is not in the log (`volatile`).
    Message(Box<Message>),
    /// The server knows that this device has all up to the cursor.
    Acked(Bytes),
    /// The connection was lost, or not made again; there will be another try.
    Lost {
        /// How.
        error: ClientError,
        /// When there will be another try.
        wait: std::time::Duration,
    },
    /// The server does not take a subscription for now; it is asked again.
    PutOff {
        /// Of whom.
        presentity: Address,
        /// Why.
        error: Error,
        /// After so long.
        wait: std::time::Duration,
    },
    /// There is a connection again.
    Back,
}

impl Event {
    /// How a subscription stands, where nothing of the document has changed.
    fn notified(
        presentity: Address,
        state: SubscriptionState,
        reason: Option<SubscriptionEvent>,
        content: Option<(Version, Document)>,
    ) -> Event {
        Event::Notify { presentity, state, reason, change: None, content }
    }
}

/// Why a presentity is no longer followed.
#[derive(Clone, Debug)]
pub enum EndCause {
    /// The server said so by itself.
    Event(Option<SubscriptionEvent>),
    /// The server did not take the subscription.
    Error(Error),
}

impl EndCause {
    /// The name that people and scripts read.
    pub fn as_str(&self) -> &'static str {
        match self {
            EndCause::Event(Some(event)) => event.as_str(),
            EndCause::Event(None) => "terminated",
            EndCause::Error(error) => error.code.as_str(),
        }
    }
}
