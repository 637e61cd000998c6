//! A life of a server for the record: messages one by one and many at once, presence, contacts,
//! rules and acknowledgements, an account that goes; and between them orderly ends and kills.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use impp_protocol::command::{Ack, Message, Outcome};
use impp_protocol::state::{Contact, ContactEdit, Grant, ItemKind};
use impp_protocol::{Command, MessageId};

use super::calls::Call;
use super::{Recorder, now};
use crate::peer::message;
use crate::presence::open;
use crate::server::{Profile, Server};
use crate::{Peer, eventually};

/// Who has an account. Alice and carol write to bob.
pub const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];
/// Messages of a sender that are under way at once.
const FLIGHT: usize = 12;
/// Messages that somebody sends to themselves and who is then removed. Each makes three items, more
/// together than the store sweeps away at once.
const SWEPT: usize = 120;
/// A body of some pages: the write-ahead log gets long enough to be begun anew.
const LARGE_BYTES: usize = 40 * 1024;

/// Something that was asked of the server.
#[derive(Debug)]
pub struct Fact {
    /// What it makes so.
    pub what: Asked,
    /// When it was asked, in microseconds since 1970.
    pub asked: u64,
    /// By when it was answered.
    pub answered: u64,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An account.
    Account(&'static str),
    /// That bob gets a message of this sender.
    Send {
        /// The sender's name.
        from: &'static str,
        /// Its id.
        id: MessageId,
        /// Its text.
        text: String,
    },
    /// Alice's rules, by their number.
    Rules(usize),
    /// What alice calls bob: the number.
    Contact(usize),
    /// Alice's leased layer of presence, by its number.
    Layer(usize),
    /// That these messages are bob's no more.
    Trim(Vec<MessageId>),
}

/// A recorded life.
#[derive(Debug)]
pub struct Life {
    /// The server's folder.
    pub folder: PathBuf,
    /// Where in it the store was.
    pub store: PathBuf,
    /// What was done to its files, in order.
    pub calls: Vec<Call>,
    /// What was asked meanwhile.
    pub facts: Vec<Fact>,
    /// How to sign in, by the name.
    pub profiles: BTreeMap<&'static str, Profile>,
}

/// The moment of a cut: what is there was done before the one, what was answered before the other
/// has to be there. In microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// When the last call was entered that may have been done.
    pub last: u64,
    /// When the first call was entered that was not.
    pub next: u64,
}

impl Fact {
    /// The sender and id, if it is a message.
    pub fn message(&self) -> Option<(&'static str, MessageId)> {
        match &self.what {
            Asked::Send { from, id, .. } => Some((from, *id)),
            _ => None,
        }
    }

    /// Whether it lets a message of bob's go.
    pub fn takes_away(&self, id: &MessageId) -> bool {
        matches!(&self.what, Asked::Trim(ids) if ids.contains(id))
    }
}

/// In few words: bodies are long.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Asked::Send { from, text, .. } => write!(f, "a message of {from}, {text:.20}"),
            Asked::Trim(ids) => write!(f, "the end of {} messages", ids.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What alice's rules say, by their number.
pub fn rules(n: usize) -> String {
    let who = "who = [\"authenticated\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    format!("# {n}\n[[rule]]\nid = \"all\"\n{who}")
}

/// What alice's presence says, by its number.
pub fn note(n: usize) -> String {
    format!("layer {n}")
}

impl Life {
    /// Records one. None if that cannot be done here.
    pub async fn record() -> Option<Life> {
        let recorder = Recorder::new()?;
        let asked = now();
        // The settings take an orderly stop after the very first start.
        let mut server = Server::with()
            .accounts(ACCOUNTS)
            .under(recorder.command())
            .set("inbox.retention_days", 0)
            .no_rates()
            .start();
        let answered = now() + 1;
        let account = |name| Fact { what: Asked::Account(name), asked, answered };
        let mut live = Living { facts: ACCOUNTS.map(account).into(), numbers: 0 };
        let store = server.data().join("store");
        live.by_turns(&server, 12).await;
        live.at_once(&server, 4, "small").await;
        live.rest(&server).await;
        server.kill9();
        server.restart();
        live.trim(&server).await;
        swept(&server).await;
        live.by_turns(&server, 6).await;
        live.at_once(&server, 7, &"large ".repeat(LARGE_BYTES / 6)).await;
        live.by_turns(&server, 3).await;
        live.trim(&server).await;
        live.by_turns(&server, 6).await;
        live.rest(&server).await;
        server.kill9();
        server.restart();
        live.by_turns(&server, 6).await;
        server.stop();
        let calls = recorder.calls(&store).await;
        let profiles = ACCOUNTS.map(|name| (name, server.profile(name))).into();
        let folder = server.data().to_owned();
        Some(Life { folder, store, calls, facts: live.facts, profiles })
    }

    /// Where a file of the store is below the server's folder.
    pub fn place<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.folder).unwrap()
    }

    /// The moment of a cut after a call.
    pub fn moment(&self, at: usize) -> Moment {
        let next = self.calls.get(at + 1).map_or(u64::MAX, |call| call.at);
        Moment { last: self.calls[at].at, next }
    }
}

/// What has been asked so far.
struct Living {
    facts: Vec<Fact>,
    numbers: usize,
}

impl Living {
    fn tell(&mut self, what: Asked, asked: u64) {
        self.facts.push(Fact { what, asked, answered: now() + 1 });
    }

    /// So many rounds of everything, each answered before the next is asked.
    async fn by_turns(&mut self, server: &Server, rounds: usize) {
        let mut alice = Peer::sign_in(server, "alice").await;
        for _ in 0..rounds {
            self.numbers += 1;
            let n = self.numbers;
            let next = message("bob@localhost", &format!("by turns {n}"));
            let asked = now();
            alice.done(next.clone()).await;
            self.tell(sent("alice", &next), asked);
            let asked = now();
            alice.set_rules(&rules(n)).await;
            self.tell(Asked::Rules(n), asked);
            let asked = now();
            alice.edit_contacts(&called(n)).await;
            self.tell(Asked::Contact(n), asked);
            let asked = now();
            alice.show_for(&open(&note(n)), 3000).await.expect("a leased layer");
            self.tell(Asked::Layer(n), asked);
        }
    }

    /// So many flights of two senders side by side.
    async fn at_once(&mut self, server: &Server, flights: usize, text: &str) {
        let mut alice = Peer::sign_in(server, "alice").await;
        let mut carol = Peer::sign_in(server, "carol").await;
        for _ in 0..flights {
            let (a, c) =
                tokio::join!(flight(&mut alice, "alice", text), flight(&mut carol, "carol", text));
            self.facts.extend(a);
            self.facts.extend(c);
        }
    }

    /// Waits until nothing is written any more: what follows a transaction comes before the answer
    /// to the next, which is a repeat and writes nothing.
    async fn rest(&mut self, server: &Server) {
        let mut carol = Peer::sign_in(server, "carol").await;
        let last = message("bob@localhost", "the last for now");
        let asked = now();
        carol.done(last.clone()).await;
        self.tell(sent("carol", &last), asked);
        let again = carol.done(last).await.outcome;
        assert_eq!(again, Some(Outcome::Duplicate));
    }

    /// Bob takes custody of all that he has, which is not kept any longer then.
    async fn trim(&mut self, server: &Server) {
        let mut bob = Peer::sign_in(server, "bob").await;
        let ids: Vec<_> = bob.inbox().await.iter().map(|message| message.id).collect();
        let cursor = bob.log().await.pop().expect("items").cursor;
        let asked = now();
        // Again while some are as young as the acknowledgement itself.
        eventually("the end of what was acknowledged", async || {
            let address = bob.address.clone();
            bob.done(Ack { address, cursor: cursor.clone() }).await;
            let left = bob.log().await;
            left.iter().all(|item| item.kind != ItemKind::Received).then_some(())
        })
        .await;
        self.tell(Asked::Trim(ids), asked);
    }
}

/// Dave comes and goes: what was his is swept away in slices, between what others do.
async fn swept(server: &Server) {
    server.add("dave");
    let mut dave = Peer::sign_in(server, "dave").await;
    let messages = (0..SWEPT).map(|n| message("dave@localhost", &n.to_string()));
    let numbers = dave.flight(messages.map(Command::from)).await;
    for number in numbers {
        dave.answer(number).await.expect("a message that is taken");
    }
    server.user_ok(&["remove", "dave@localhost"]);
}

/// Sends a flight of messages, and waits until all of them are answered.
async fn flight(peer: &mut Peer, name: &'static str, text: &str) -> Vec<Fact> {
    let texts = (0..FLIGHT).map(|n| message("bob@localhost", &format!("{n} {text}")));
    let messages: Vec<Message> = texts.collect();
    let asked = now();
    let numbers = peer.flight(messages.iter().cloned().map(Command::from)).await;
    let mut facts = Vec::new();
    for (number, message) in numbers.into_iter().zip(&messages) {
        peer.answer(number).await.expect("a message that is taken");
        facts.push(Fact { what: sent(name, message), asked, answered: now() + 1 });
    }
    facts
}

fn sent(from: &'static str, message: &Message) -> Asked {
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    Asked::Send { from, id: message.id, text }
}

fn called(n: usize) -> ContactEdit {
    let contact = Contact {
        address: "bob@localhost".parse().unwrap(),
        name: Some(n.to_string()),
        groups: Vec::new(),
        follow: true,
        grant: Grant::All.into(),
        subscription: None,
    };
    ContactEdit::set(contact)
}
