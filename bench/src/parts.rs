//! Parts that keep nothing, and that every message or notification goes through: what each costs is a
//! number of instructions that goes with nothing else.
//!
//! Counting is left to `.ci/bench`, which runs `main.rs` under callgrind and compares with
//! `instructions.txt`.

use bytes::{Bytes, BytesMut};
use impp_acl::{Decision, DomainPolicy, Purpose, Question, RuleSet, Watcher, decide};
use impp_protocol::command::{Message, Written};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::presence::{Document, FieldName, PartId};
use impp_protocol::state::Grant;
use impp_protocol::{Address, Command, MessageId, Request, Timestamp};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A frame with a MESSAGE of 100 octets is read.
    ReadMessage,
    /// It is written.
    WriteMessage,
    /// What is to be known of a MESSAGE before it is kept is made ready: how large it is, what a repeat is
    /// told by, and what logs keep.
    KeepMessage,
    /// An address is read.
    ReadAddress,
    /// It is decided by rules of which one has a group of fifty whether somebody sees, and what.
    Decide,
    /// What somebody sees of a document of two parts is composed.
    View,
    /// It is encoded.
    EncodeView,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 7] = [
        Part::ReadMessage,
        Part::WriteMessage,
        Part::KeepMessage,
        Part::ReadAddress,
        Part::Decide,
        Part::View,
        Part::EncodeView,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Part::ReadMessage => "read-message",
            Part::WriteMessage => "write-message",
            Part::KeepMessage => "keep-message",
            Part::ReadAddress => "read-address",
            Part::Decide => "decide",
            Part::View => "view",
            Part::EncodeView => "encode-view",
        }
    }

    /// The part of a name.
    pub fn parse(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// What they are done to, made ready.
#[derive(Debug)]
pub struct Parts {
    message: Request,
    frame: Bytes,
    rules: RuleSet,
    owner: Address,
    watcher: Watcher,
    document: Document,
    decision: Decision,
}

impl Parts {
    /// `None` if what stands here is no rule, address or document.
    pub fn new() -> Option<Parts> {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let owner = Address::parse("alice@a.example").ok()?;
        let id = MessageId::new(now, [7; 10]);
        let message = Message::new(id, owner.clone(), Bytes::from_static(&[b'x'; 100]));
        let message = Request { number: 300, command: Command::Message(message) };
        let mut frame = BytesMut::new();
        message.put(&mut frame).ok()?;
        let rules = RuleSet::parse(&crate::rules("")?.0).ok()?;
        let watcher = Watcher::Principal(Address::parse(&crate::name(crate::FRIENDS / 2)).ok()?);
        let mut document = Document::default();
        for name in ["note", "mood", "activities", "place-type"] {
            document.person.insert(FieldName::parse(name)?, "quiet".into());
        }
        let fields = [("status", "open"), ("contact", "alice@a.example")];
        let named = fields.map(|(name, value)| Some((FieldName::parse(name)?, value.into())));
        let fields = named.into_iter().collect::<Option<_>>()?;
        document.tuples.insert(PartId::parse("laptop")?, fields);
        let decision = decide(&rules, &question(&owner, &watcher));
        let frame = frame.freeze();
        Some(Parts { message, frame, rules, owner, watcher, document, decision })
    }

    /// Does one of them: this is what is counted. How much came of it, so that it is done at all.
    #[inline(never)]
    pub fn counted(&self, part: Part) -> Option<usize> {
        Some(match part {
            Part::ReadMessage => {
                let frame = frame::take(&mut BytesMut::from(&self.frame[..]), FRAME_BYTES_MAX);
                match Request::decode(frame.ok()??).ok()?.command {
                    Command::Message(message) => message.body.len(),
                    _ => return None,
                }
            }
            Part::WriteMessage => {
                let mut out = BytesMut::new();
                self.message.put(&mut out).ok()?;
                out.len()
            }
            Part::KeepMessage => {
                let Command::Message(message) = &self.message.command else { return None };
                let message = Written::new(message.clone());
                let over = message.over_limit().map_or(0, |over| over.len());
                over + message.unstamped().len() + message.encoded().len()
            }
            Part::ReadAddress => Address::parse("someone.else@people.example").ok()?.as_str().len(),
            Part::Decide => {
                decide(&self.rules, &question(&self.owner, &self.watcher)).handling() as usize
            }
            Part::View => self.decision.view(&self.document)?.document().person.len(),
            Part::EncodeView => self.document.encode().len(),
        })
    }
}

fn question<'a>(owner: &'a Address, watcher: &'a Watcher) -> Question<'a> {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let (purpose, contact) = (Purpose::Subscribe, Grant::None);
    Question { owner, watcher, purpose, now, sphere: None, contact, domain: DomainPolicy::none() }
}
