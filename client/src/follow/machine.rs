//! What is followed and what is held of it: requests to send, events to tell. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use impp_protocol::command::{Ack, Command, Done, Notify, Subscribe};
use impp_protocol::presence::{Document, Version};
use impp_protocol::state::{self, Contact, Contacts, Page, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Error, What};

use super::{EndCause, Event, Held, Unfit, Wanted};
use crate::connection::Incoming;
use crate::error::ClientError;

/// The wait before a request is repeated that met a passing trouble, if the server names none.
pub const RETRY_DEFAULT: Duration = Duration::from_secs(5);

/// What a follower knows. Its queues are emptied by the shell before it hands in the next thing,
/// so they are bounded by the number of those followed.
pub struct Machine {
    own: Address,
    people: BTreeMap<Address, Person>,
    contacts: bool,
    log: Option<Log>,
    /// The newest cursor acknowledged of which the server may not know.
    ack: Option<Bytes>,
    asked: HashMap<u64, Asked>,
    last_token: u64,
    requests: VecDeque<(Command, u64)>,
    retries: Vec<(Instant, Asked)>,
    events: VecDeque<Event>,
}

#[derive(Default)]
struct Person {
    /// None until [`Event::Subscribed`] has told it.
    told: Option<Option<SubscriptionState>>,
    held: Held,
    /// A snapshot was asked for; patches before it are of no use.
    syncing: bool,
}

struct Log {
    cursor: Option<Bytes>,
}

/// What a request was about.
#[derive(Clone, Debug)]
enum Asked {
    Presence(Address),
    Contacts,
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
            log: wanted.log.then_some(Log { cursor: wanted.cursor }),
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
        if self.log.is_some() {
            self.ask(Asked::Log);
        }
        if let Some(cursor) = self.ack.clone() {
            self.ask(Asked::Ack(cursor));
        }
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
                What::Contacts => match notify.snapshot {
                    Some(content) if self.contacts => self.handle_contacts(content, false),
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
        self.contacts || self.log.is_some() || !self.people.is_empty()
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
        if self.log.is_some() {
            requests.push(end(&self.own, What::Log));
        }
        requests
    }

    fn ask(&mut self, asked: Asked) {
        let command = match &asked {
            Asked::Presence(address) => {
                let Some(person) = self.people.get_mut(address) else { return };
                let version = person.held.version().filter(|_| !person.syncing);
                Subscribe { version, ..Subscribe::of(address.clone(), What::Presence) }.into()
            }
            Asked::Contacts => {
                Subscribe { expand: true, ..Subscribe::of(self.own.clone(), What::Contacts) }.into()
            }
            Asked::Log => {
                let cursor = self.log.as_ref().and_then(|log| log.cursor.clone());
                Subscribe { cursor, ..Subscribe::of(self.own.clone(), What::Log) }.into()
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
                return self.handle_contacts(content, true);
            }
            Asked::Log => {}
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
            Asked::Contacts | Asked::Log | Asked::Ack(_) => Err(error.into()),
        }
    }

    /// A subscription was taken; on a new connection it may stand otherwise than before.
    fn handle_subscribed(&mut self, address: Address, state: SubscriptionState) {
        let Some(person) = self.people.get_mut(&address) else { return };
        let before = person.told.replace(Some(state));
        if !keeps(state) {
            person.held.clear();
        }
        match before {
            None => {
                let state = Some(state);
                self.events.push_back(Event::Subscribed { presentity: address, state });
            }
            // What an active one shows comes in a notification of its own, but where all is as it
            // was before the other domain could not be reached.
            Some(before)
                if before != Some(state)
                    && (state != SubscriptionState::Active || before.is_some_and(keeps)) =>
            {
                let content = person.held.content();
                self.events.push_back(notified(address, state, None, content));
            }
            Some(_) => {}
        }
    }

    /// The contact list as it is now: who is new in it is followed, who is not any more is not.
    /// What a new connection has answered says how each subscription stands there.
    fn handle_contacts(&mut self, content: Bytes, answered: bool) -> Result<(), ClientError> {
        let contacts: Contacts = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("contact list: {error}")))?;
        let followed = |contact: Contact| contact.follow.then_some(contact);
        let followed: Vec<Contact> = contacts.entries.into_iter().filter_map(followed).collect();
        let names: BTreeSet<&Address> = followed.iter().map(|contact| &contact.address).collect();
        let gone: Vec<Address> =
            self.people.keys().filter(|address| !names.contains(address)).cloned().collect();
        for presentity in gone {
            self.people.remove(&presentity);
            self.events.push_back(Event::Ended { presentity, cause: EndCause::Event(None) });
        }
        for contact in followed {
            let person = self.people.entry(contact.address.clone()).or_default();
            let (presentity, state) = (contact.address, contact.subscription);
            match (person.told, state) {
                (None, _) => {
                    person.told = Some(state);
                    self.events.push_back(Event::Subscribed { presentity, state });
                }
                _ if !answered => {}
                (_, Some(state)) if state != SubscriptionState::Terminated => {
                    self.handle_subscribed(presentity, state);
                }
                // There is no subscription any more, and nothing of it is shown.
                (Some(Some(SubscriptionState::Terminated) | None), _) => person.held.clear(),
                (Some(Some(_)), _) => {
                    self.people.remove(&presentity);
                    let cause = EndCause::Event(None);
                    self.events.push_back(Event::Ended { presentity, cause });
                }
            }
        }
        Ok(())
    }

    fn handle_presence(&mut self, notify: Notify) -> Result<(), ClientError> {
        let address = notify.address.clone();
        if self.contacts {
            self.people.entry(address.clone()).or_default();
        }
        let Some(person) = self.people.get_mut(&address) else { return Ok(()) };
        let before = person.told.replace(Some(notify.state));
        if before.is_none() {
            let (presentity, state) = (address.clone(), Some(notify.state));
            self.events.push_back(Event::Subscribed { presentity, state });
        }
        match notify.state {
            state if keeps(state) => return self.handle_content(notify, before.flatten()),
            SubscriptionState::Terminated => {
                self.people.remove(&address);
                let cause = EndCause::Event(notify.event);
                self.events.push_back(Event::Ended { presentity: address, cause });
            }
            state => {
                person.held.clear();
                if before != Some(Some(state)) {
                    self.events.push_back(notified(address, state, notify.event, None));
                }
            }
        }
        Ok(())
    }

    fn handle_content(
        &mut self,
        notify: Notify,
        before: Option<SubscriptionState>,
    ) -> Result<(), ClientError> {
        let Some(person) = self.people.get_mut(&notify.address) else { return Ok(()) };
        if person.syncing && notify.snapshot.is_none() {
            return Ok(());
        }
        let change = match person.held.handle(&notify) {
            Ok(change) => change,
            Err(Unfit::Base) => {
                self.ask_snapshot(&notify.address);
                return Ok(());
            }
            Err(error) => {
                let text = format!("presence of {}: {error}", notify.address);
                return Err(ClientError::Protocol(text));
            }
        };
        person.syncing &= notify.snapshot.is_none();
        let turned = before.is_some_and(|before| before != notify.state);
        if change.is_some() || turned {
            let content = person.held.content();
            self.events.push_back(Event::Notify {
                presentity: notify.address,
                state: notify.state,
                reason: notify.event,
                change,
                content,
            });
        }
        Ok(())
    }

    fn ask_snapshot(&mut self, address: &Address) {
        if let Some(person) = self.people.get_mut(address) {
            person.syncing = true;
            self.ask(Asked::Presence(address.clone()));
        }
    }

    fn handle_page(&mut self, notify: Notify) -> Result<(), ClientError> {
        let (Some(log), Some(content)) = (&mut self.log, notify.snapshot) else { return Ok(()) };
        let page: Page = state::decode(content)
            .map_err(|error| ClientError::Protocol(format!("page of the log: {error}")))?;
        log.cursor = Some(page.cursor.clone());
        self.events.push_back(Event::Page(page));
        Ok(())
    }
}

/// Whether what was shown is still held in this state.
fn keeps(state: SubscriptionState) -> bool {
    matches!(state, SubscriptionState::Active | SubscriptionState::Stale)
}

fn notified(
    presentity: Address,
    state: SubscriptionState,
    reason: Option<SubscriptionEvent>,
    content: Option<(Version, Document)>,
) -> Event {
    Event::Notify { presentity, state, reason, change: None, content }
}

#[cfg(test)]
mod tests {
    use super::super::held::samples::{document, notify, patch, snapshot};
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn machine(wanted: Wanted) -> Machine {
        let mut machine = Machine::new(address("alice@a.example"), wanted);
        machine.handle_connected();
        machine
    }

    fn bob() -> Wanted {
        Wanted { presence: vec![address("bob@a.example")], ..Wanted::default() }
    }

    /// The requests that wait, with those tokens.
    fn requests(machine: &mut Machine) -> Vec<(Command, u64)> {
        std::iter::from_fn(|| machine.poll_request()).collect()
    }

    fn subscribe_of(requests: &[(Command, u64)]) -> (&Subscribe, u64) {
        match requests {
            [(Command::Subscribe(subscribe), token)] => (subscribe, *token),
            other => panic!("{other:?}"),
        }
    }

    fn events(machine: &mut Machine) -> Vec<String> {
        let short = |event| match event {
            Event::Subscribed { presentity, state } => {
                format!("subscribed {presentity} {}", state.map_or("-", |s| s.as_str()))
            }
            Event::Notify { state, change, content, reason, .. } => {
                let kind = change.map_or("-", |change| change.kind.as_str());
                let note = content.map(|(_, document)| document.person["note"].to_string());
                let reason = reason.map_or("-", |reason| reason.as_str());
                format!("{state} {kind} {} {reason}", note.unwrap_or_default())
            }
            Event::Ended { cause, .. } => format!("ended {}", cause.as_str()),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| machine.poll_event()).map(short).collect()
    }

    fn answer(machine: &mut Machine, token: u64, answer: Result<Done, Error>) {
        machine.handle(Instant::now(), Incoming::Answer { token, answer }).unwrap();
    }

    fn take(machine: &mut Machine, notify: Notify) {
        machine.handle(Instant::now(), Incoming::Notify(notify)).unwrap();
    }

    fn state(state: SubscriptionState) -> Result<Done, Error> {
        Ok(Done { state: Some(state), ..Done::empty() })
    }

    #[test]
    fn subscribed_comes_first_then_snapshot_then_patch() {
        let mut machine = machine(bob());
        let asked = requests(&mut machine);
        let (subscribe, token) = subscribe_of(&asked);
        assert_eq!((subscribe.lease, subscribe.version), (None, None));
        answer(&mut machine, token, state(SubscriptionState::Active));
        take(&mut machine, snapshot(&document("here")));
        take(&mut machine, patch(&document("here"), &document("gone")));
        assert_eq!(
            events(&mut machine),
            ["subscribed bob@a.example active", "active snapshot here -", "active patch gone -"]
        );
    }

    #[test]
    fn what_is_stale_is_still_held_and_what_is_unknown_is_not() {
        let mut machine = machine(bob());
        let (stale, unknown) = (SubscriptionState::Stale, SubscriptionState::Unknown);
        let told = |state| Notify::of(address("bob@a.example"), What::Presence, state);
        take(&mut machine, snapshot(&document("here")));
        take(&mut machine, told(stale));
        take(&mut machine, told(SubscriptionState::Active));
        take(&mut machine, patch(&document("here"), &document("gone")));
        take(&mut machine, told(stale));
        assert_eq!(
            events(&mut machine)[1..],
            [
                "active snapshot here -",
                "stale - here -",
                "active - here -",
                "active patch gone -",
                "stale - gone -"
            ]
        );
        // A new connection names what is held, and all is well again.
        requests(&mut machine);
        machine.handle_connected();
        let asked = requests(&mut machine);
        let (subscribe, token) = subscribe_of(&asked);
        assert_eq!(subscribe.version, Some(Version::of(&document("gone").encode())));
        answer(&mut machine, token, state(SubscriptionState::Active));
        take(&mut machine, told(unknown));
        assert_eq!(events(&mut machine), ["active - gone -", "unknown -  -"]);
        machine.handle_connected();
        let asked = requests(&mut machine);
        assert_eq!(subscribe_of(&asked).0.version, None);
    }

    #[test]
    fn a_new_connection_asks_from_what_is_held_and_tells_nothing_twice() {
        let mut machine = machine(bob());
        take(&mut machine, snapshot(&document("here")));
        events(&mut machine);
        machine.handle_connected();
        let asked = requests(&mut machine);
        let (subscribe, token) = subscribe_of(&asked);
        assert_eq!(subscribe.version, Some(Version::of(&document("here").encode())));
        answer(&mut machine, token, state(SubscriptionState::Active));
        take(&mut machine, snapshot(&document("here")));
        assert!(events(&mut machine).is_empty());
    }

    #[test]
    fn a_patch_that_does_not_fit_asks_for_a_snapshot_once() {
        let mut machine = machine(bob());
        take(&mut machine, snapshot(&document("here")));
        requests(&mut machine);
        events(&mut machine);
        take(&mut machine, patch(&document("x"), &document("y")));
        take(&mut machine, patch(&document("y"), &document("z")));
        let asked = requests(&mut machine);
        assert_eq!(subscribe_of(&asked).0.version, None);
        assert!(events(&mut machine).is_empty());
        take(&mut machine, snapshot(&document("z")));
        assert_eq!(events(&mut machine), ["active snapshot z -"]);
    }

    #[test]
    fn pending_then_approved_then_rejected() {
        let mut machine = machine(bob());
        let token = subscribe_of(&requests(&mut machine)).1;
        answer(&mut machine, token, state(SubscriptionState::Pending));
        let event = Some(SubscriptionEvent::Approved);
        take(&mut machine, Notify { event, ..snapshot(&document("here")) });
        let event = Some(SubscriptionEvent::Rejected);
        take(&mut machine, Notify { event, ..notify(SubscriptionState::Terminated) });
        assert_eq!(
            events(&mut machine),
            ["subscribed bob@a.example pending", "active snapshot here approved", "ended rejected"]
        );
        assert!(!machine.is_following());
    }

    #[test]
    fn a_passing_trouble_is_waited_out_a_refusal_ends() {
        let mut machine = machine(bob());
        let token = subscribe_of(&requests(&mut machine)).1;
        let after = Duration::from_secs(2);
        answer(&mut machine, token, Err(Error::new(Code::RateLimited, "slow").retry_after(after)));
        assert!(!machine.has_request());
        let due = machine.poll_timeout().unwrap();
        machine.handle_timeout(due);
        assert_eq!(machine.poll_timeout(), None);
        let token = subscribe_of(&requests(&mut machine)).1;
        answer(&mut machine, token, Err(Error::new(Code::Refused, "no")));
        assert_eq!(events(&mut machine), ["ended refused"]);
    }

    #[test]
    fn contacts_are_expanded_and_compared_on_a_new_connection() {
        let contact = |name: &str, follow| Contact {
            address: address(name),
            name: None,
            groups: Vec::new(),
            follow,
            grant: state::Grant::Status,
            subscription: follow.then_some(SubscriptionState::Active),
        };
        let contacts = |entries: Vec<Contact>| {
            let content = Some(state::encode(&Contacts { entries }));
            Ok(Done { content, ..Done::empty() })
        };
        let mut machine = machine(Wanted { contacts: true, ..Wanted::default() });
        let asked = requests(&mut machine);
        let (subscribe, token) = subscribe_of(&asked);
        assert!(subscribe.expand && subscribe.what == What::Contacts);
        let both = vec![contact("bob@a.example", true), contact("dan@a.example", false)];
        answer(&mut machine, token, contacts(both));
        take(&mut machine, snapshot(&document("here")));
        assert_eq!(
            events(&mut machine),
            ["subscribed bob@a.example active", "active snapshot here -"]
        );
        machine.handle_connected();
        let token = subscribe_of(&requests(&mut machine)).1;
        answer(&mut machine, token, contacts(vec![contact("eve@a.example", true)]));
        assert_eq!(events(&mut machine), ["ended terminated", "subscribed eve@a.example active"]);
    }

    #[test]
    fn a_contact_who_is_unknown_on_a_new_connection_is_not_shown_as_before() {
        for now in [Some(SubscriptionState::Unknown), Some(SubscriptionState::Pending), None] {
            let contacts = |subscription| {
                let entry = Contact {
                    address: address("bob@a.example"),
                    name: None,
                    groups: vec![],
                    follow: true,
                    grant: state::Grant::None,
                    subscription,
                };
                let content = Some(state::encode(&Contacts { entries: vec![entry] }));
                Ok(Done { content, ..Done::empty() })
            };
            let mut machine = machine(Wanted { contacts: true, ..Wanted::default() });
            let token = subscribe_of(&requests(&mut machine)).1;
            answer(&mut machine, token, contacts(Some(SubscriptionState::Active)));
            take(&mut machine, snapshot(&document("here")));
            events(&mut machine);
            machine.handle_connected();
            let token = subscribe_of(&requests(&mut machine)).1;
            answer(&mut machine, token, contacts(now));
            assert_ne!(events(&mut machine), [""; 0], "bob is shown as here, and is {now:?}");
        }
    }

    #[test]
    fn the_log_goes_on_behind_the_last_page_and_acks_are_repeated() {
        let mut machine = machine(Wanted { log: true, ..Wanted::default() });
        let (log, oldest) = (Bytes::from_static(b"c1"), Bytes::new());
        let page = Page { items: Vec::new(), cursor: log.clone(), more: false, oldest };
        let snapshot = Some(state::encode(&page));
        take(
            &mut machine,
            Notify { what: What::Log, snapshot, ..notify(SubscriptionState::Active) },
        );
        assert!(matches!(machine.poll_event(), Some(Event::Page(_))));
        machine.ack(log.clone());
        machine.handle_connected();
        let asked = requests(&mut machine);
        let [(Command::Subscribe(subscribe), _), (Command::Ack(ack), token)] = &asked[..] else {
            panic!("{asked:?}");
        };
        assert_eq!((subscribe.cursor.as_ref(), &ack.cursor), (Some(&log), &log));
        answer(&mut machine, *token, Ok(Done::empty()));
        assert!(!machine.is_acking());
        assert!(matches!(machine.poll_event(), Some(Event::Acked(_))));
    }
}
