//! What is followed and what is held of it: requests to send, events to tell. No I/O, no clock.
//!
//! What becomes of whose presence is followed is in `people`.

mod marks;
mod people;
mod requests;
mod watchers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use impp_protocol::command::{Ack, Command, Done, Notify, Subscribe};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, Error, What};

use super::log::Log;
use super::{EndCause, Event, Wanted};
use crate::connection::Incoming;
use crate::error::ClientError;
use marks::Marked;
use people::Person;
pub use requests::RequestNews;
use requests::Waiting;
pub use watchers::WatcherNews;
use watchers::Watching;

/// The wait before a request is repeated that met a passing trouble, if the server names none.
pub(super) const RETRY_DEFAULT: Duration = Duration::from_secs(5);

/// What a follower knows. Its queues are emptied by the shell before it hands in the next thing,
/// so they are bounded by the number of those followed.
pub struct Machine {
    own: Address,
    people: BTreeMap<Address, Person>,
    contacts: bool,
    watchers: Option<Watching>,
    requests_wanted: Option<Waiting>,
    marks: Option<Marked>,
    typing: bool,
    log: Option<Log>,
    /// The newest cursor acknowledged of which the server may not know.
    ack: Option<Bytes>,
    asked: HashMap<u64, Asked>,
    last_token: u64,
    requests: VecDeque<(Command, u64)>,
    retries: Vec<(Instant, Asked)>,
    events: VecDeque<Event>,
}

/// What a request was about.
#[derive(Clone, Debug)]
enum Asked {
    Presence(Address),
    Contacts,
    /// Another state of the caller's own.
    Own(What),
    Log,
    Ack(Bytes),
}

impl Machine {
    /// A machine that follows nothing until it is connected.
    pub fn new(own: Address, wanted: Wanted) -> Machine {
        let person = |address| (address, Person::default());
        Machine {
            own,
            people: wanted.presence.into_iter().map(person).collect(),
            contacts: wanted.contacts,
            watchers: wanted.watchers.then(Watching::default),
            requests_wanted: wanted.requests.then(Waiting::default),
            typing: wanted.typing,
            marks: wanted.read_marks.then(Marked::default),
            log: wanted.log.then(|| match wanted.at_end {
                true => Log::from_end(),
                false => Log::behind(wanted.cursor),
            }),
            ack: None,
            asked: HashMap::new(),
            last_token: 0,
            requests: VecDeque::new(),
            retries: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// There is a connection: everything is asked for again, from what is held.
    pub fn handle_connected(&mut self) {
        self.asked.clear();
        self.requests.clear();
        self.retries.clear();
        if self.contacts {
            self.ask(Asked::Contacts);
        } else {
            let people: Vec<Address> = self.people.keys().cloned().collect();
            people.into_iter().for_each(|address| self.ask(Asked::Presence(address)));
        }
        self.own_states().into_iter().for_each(|what| self.ask(Asked::Own(what)));
        if self.log.is_some() {
            self.ask(Asked::Log);
        }
        if let Some(cursor) = self.ack.clone() {
            self.ask(Asked::Ack(cursor));
        }
    }

    /// Whether the first thing that is asked says what is held of presence.
    pub fn says_versions(&self) -> bool {
        self.contacts
    }

    /// Something came over the connection.
    ///
    /// # Errors
    /// [`ClientError`] that ends the following: the server broke the protocol, or refused for good.
    pub fn handle(&mut self, now: Instant, incoming: Incoming) -> Result<(), ClientError> {
        match incoming {
            Incoming::Notify(notify) => match notify.what {
                What::Presence => self.handle_presence(notify),
                What::Log => self.handle_page(notify),
                What::Watchers => self.handle_watchers(notify),
                What::Requests => self.handle_requests(notify),
                What::ReadMarks => self.handle_marks(notify),
                What::Typing => self.handle_typing(notify),
                What::Contacts => match notify.snapshot {
                    Some(content) if self.contacts => self.handle_contacts(content, false, true),
                    _ => Ok(()),
                },
                _ => Ok(()),
            },
            Incoming::Message(message) => {
                self.events.push_back(Event::Message(Box::new(message)));
                Ok(())
            }
            Incoming::Answer { token, answer } => match (self.asked.remove(&token), answer) {
                (None, _) => Ok(()),
                (Some(asked), Ok(done)) => self.handle_done(asked, done),
                (Some(asked), Err(error)) => self.handle_refusal(now, asked, error),
            },
        }
    }

    /// It is the time that [`Machine::poll_timeout`] named.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |(at, _): &mut (Instant, Asked)| *at <= now;
        let due: Vec<Asked> = self.retries.extract_if(.., due).map(|(_, asked)| asked).collect();
        due.into_iter().for_each(|asked| self.ask(asked));
    }

    /// This device has everything up to a cursor.
    pub fn ack(&mut self, cursor: Bytes) {
        self.ack = Some(cursor.clone());
        self.ask(Asked::Ack(cursor));
    }

    /// Whether the server may not know of the newest cursor acknowledged.
    pub fn is_acking(&self) -> bool {
        self.ack.is_some()
    }

    /// Whether anything is followed.
    pub fn is_following(&self) -> bool {
        let own = !self.own_states().is_empty() || self.log.is_some();
        own || self.contacts || !self.people.is_empty()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is a request to send.
    pub fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The next request to send, and its token.
    pub fn poll_request(&mut self) -> Option<(Command, u64)> {
        self.requests.pop_front()
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retries.iter().map(|(at, _)| *at).min()
    }

    /// The requests that end what is followed.
    pub fn end(self) -> Vec<(Command, u64)> {
        let end = |address: &Address, what| {
            let lease = Some(Duration::ZERO);
            let expand = what == What::Contacts;
            (Subscribe { lease, expand, ..Subscribe::of(address.clone(), what) }.into(), 0)
        };
        let mut requests = Vec::new();
        if self.contacts {
            requests.push(end(&self.own, What::Contacts));
        } else {
            requests.extend(self.people.keys().map(|address| end(address, What::Presence)));
        }
        requests.extend(self.own_states().into_iter().map(|what| end(&self.own, what)));
        if self.log.is_some() {
            requests.push(end(&self.own, What::Log));
        }
        requests
    }

    /// Which other states of the caller's are followed.
    fn own_states(&self) -> Vec<What> {
        let watchers = self.watchers.as_ref().map(|_| What::Watchers);
        let requests = self.requests_wanted.as_ref().map(|_| What::Requests);
        let marks = self.marks.as_ref().map(|_| What::ReadMarks);
        let typing = self.typing.then_some(What::Typing);
        [watchers, requests, marks, typing].into_iter().flatten().collect()
    }

    fn ask(&mut self, asked: Asked) {
        let command = match &asked {
            Asked::Presence(address) => {
                let Some(person) = self.people.get_mut(address) else { return };
                let version = person.held.version().filter(|_| !person.syncing);
                Subscribe { version, ..Subscribe::of(address.clone(), What::Presence) }.into()
            }
            Asked::Contacts => {
                let versions = self.versions();
                let subscribe = Subscribe::of(self.own.clone(), What::Contacts);
                Subscribe { expand: true, versions, ..subscribe }.into()
            }
            Asked::Own(what) => Subscribe::of(self.own.clone(), *what).into(),
            Asked::Log => {
                let cursor = self.log.as_ref().and_then(Log::cursor);
                let at_end = self.log.as_ref().is_some_and(Log::is_at_end);
                Subscribe { cursor, at_end, ..Subscribe::of(self.own.clone(), What::Log) }.into()
            }
            Asked::Ack(cursor) => Ack { address: self.own.clone(), cursor: cursor.clone() }.into(),
        };
        self.last_token += 1;
        self.requests.push_back((command, self.last_token));
        self.asked.insert(self.last_token, asked);
    }

    fn handle_done(&mut self, asked: Asked, done: Done) -> Result<(), ClientError> {
        match asked {
            Asked::Presence(address) => {
                let state = done.state.unwrap_or(SubscriptionState::Active);
                self.handle_subscribed(address, state);
            }
            Asked::Contacts => {
                let content = done.content.unwrap_or_default();
                return self.handle_contacts(content, true, done.next.is_none());
            }
            Asked::Own(_) => {}
            Asked::Log => {
                if let (Some(log), Some(cursor)) = (&mut self.log, done.cursor)
                    && log.is_at_end()
                {
                    self.events.push_back(Event::Begins(cursor.clone()));
                    log.begins(cursor);
                }
            }
            Asked::Ack(cursor) => {
                self.ack.take_if(|newest| *newest == cursor);
                self.events.push_back(Event::Acked(cursor));
            }
        }
        Ok(())
    }

    fn handle_refusal(
        &mut self,
        now: Instant,
        asked: Asked,
        error: Error,
    ) -> Result<(), ClientError> {
        let passing = ClientError::Answered(error.clone()).is_transient();
        match asked {
            _ if passing => {
                let wait = error.retry_after.unwrap_or(RETRY_DEFAULT);
                if let Asked::Presence(presentity) = &asked {
                    let presentity = presentity.clone();
                    self.events.push_back(Event::PutOff { presentity, error, wait });
                }
                self.retries.push((now + wait, asked));
                Ok(())
            }
            Asked::Presence(address) if error.code == Code::BadVersion => {
                self.ask_snapshot(&address);
                Ok(())
            }
            Asked::Presence(address) => {
                self.people.remove(&address);
                let cause = EndCause::Error(error);
                self.events.push_back(Event::Ended { presentity: address, cause });
                Ok(())
            }
            Asked::Log if error.code == Code::BadCursor && self.starts_anew() => Ok(()),
            // Of a log that has just begun anew.
            Asked::Ack(cursor)
                if error.code == Code::BadCursor && self.ack.as_ref() != Some(&cursor) =>
            {
                Ok(())
            }
            Asked::Contacts | Asked::Own(_) | Asked::Log | Asked::Ack(_) => Err(error.into()),
        }
    }

    /// Whether the log is another one than was read; then all that is in it is read.
    fn starts_anew(&mut self) -> bool {
        let anew = self.log.as_mut().is_some_and(Log::is_another);
        if anew {
            self.ack = None;
            self.events.push_back(Event::Anew);
            self.ask(Asked::Log);
        }
        anew
    }

    fn handle_page(&mut self, notify: Notify) -> Result<(), ClientError> {
        let (Some(log), Some(content)) = (&mut self.log, notify.snapshot) else { return Ok(()) };
        self.events.push_back(Event::Page(log.take(content, &notify.address)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
