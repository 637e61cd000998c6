//! A signed-in peer: requests with their answers by number, notifications in their order.
//!
//! It speaks frames, not the client library, so that a fault of both cannot hide.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{
    Ack, Auth, Bye, ByeReason, Done, Fetch, Hello, Message, Notify, Outcome, Ping, Publish,
    Subscribe,
};
use impp_protocol::sasl::Password;
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::sasl::scram::{Binding, Client, Nonce};
use impp_protocol::state::{self, ContactEdit, Item, ItemKind, Page, Requests};
use impp_protocol::{Address, Code, Command, DeviceId, Error, MessageId, Request, Timestamp, What};

use crate::server::{Profile, Server};
use crate::wait::within;
use crate::wire::{Dial, Ending, Wire, bytes_of, hello};

/// The answer to a request.
pub type Answer = Result<Done, Error>;

/// See the module.
#[derive(Debug)]
pub struct Peer {
    /// Whose session it is.
    pub address: Address,
    /// The OK that ended the sign-in.
    pub welcome: Done,
    device: DeviceId,
    wire: Wire,
    next: u64,
    unsolicited: VecDeque<Command>,
    answers: HashMap<u64, Answer>,
}

/// What a client keeps to resume a session.
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose session it is.
    pub address: Address,
    /// On which device.
    pub device: DeviceId,
    /// The ticket.
    pub ticket: Ticket,
    /// The number of its next request: numbers belong to the session.
    pub next: u64,
}

impl Held {
    /// The AUTH that resumes the session, with any proof.
    pub fn auth(&self, proof: Vec<u8>) -> Auth {
        Auth { device: Some(self.device), resume: Some(self.ticket.session()), ..next_auth(proof) }
    }
}

impl Peer {
    /// Signs in as an account that quickstart made, on the first of its devices.
    pub async fn sign_in(server: &Server, name: &str) -> Peer {
        Peer::sign_in_on(server, name, 1).await
    }

    /// Signs in if there is a place for the connection.
    pub async fn try_sign_in(server: &Server, name: &str) -> Option<Peer> {
        let wire = Dial::to(server).connect().await.ok()?;
        Peer::over(wire, &server.profile(name), 1).await.ok()
    }

    /// Signs in on one of the account's devices.
    pub async fn sign_in_on(server: &Server, name: &str, device: u8) -> Peer {
        let wire = Dial::to(server).connect().await.expect("a connection");
        Peer::over(wire, &server.profile(name), device).await.expect("a sign-in")
    }

    /// Signs in from another address of the machine.
    pub async fn sign_in_from(server: &Server, name: &str, source: Ipv4Addr) -> Peer {
        let wire = Dial::to(server).from(source).connect().await.expect("a connection");
        Peer::over(wire, &server.profile(name), 1).await.expect("a sign-in")
    }

    /// Signs in on a connection that is there.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn over(wire: Wire, profile: &Profile, device: u8) -> Result<Peer, Error> {
        Peer::over_saying(hello(), wire, profile, device).await
    }

    /// The same, with another HELLO.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn over_saying(
        hello: Hello,
        mut wire: Wire,
        profile: &Profile,
        device: u8,
    ) -> Result<Peer, Error> {
        let binding = Binding::TlsExporter(wire.exporter());
        let welcome = authenticate_saying(hello, &mut wire, profile, device, binding).await?;
        Ok(Peer {
            address: profile.address.parse().expect("an address"),
            welcome,
            device: device_id(profile, device),
            wire,
            next: 3,
            unsolicited: VecDeque::new(),
            answers: HashMap::new(),
        })
    }

    /// Comes in without a name on a connection that is there. Its address is nobody's.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn nameless(mut wire: Wire) -> Result<Peer, Error> {
        let (mechanism, data) = (Some("ANONYMOUS".to_owned()), Some(Bytes::from_static(b"trace")));
        let auth = Auth { mechanism, data, ..Auth::empty() };
        let mut flight = bytes_of(0, hello());
        flight.extend(bytes_of(1, auth));
        wire.write(&flight).await;
        wire.try_next().await?;
        let welcome = match wire.try_next().await?.command {
            Command::Ok(done) => done,
            Command::Error(error) => return Err(error),
            other => panic!("expected the answer to AUTH, got {other:?}"),
        };
        Ok(Peer {
            address: Address::anonymous().clone(),
            welcome,
            device: DeviceId::NIL,
            wire,
            next: 3,
            unsolicited: VecDeque::new(),
            answers: HashMap::new(),
        })
    }

    /// Takes up a session again by the ticket of its sign-in, on a connection that is there.
    ///
    /// # Errors
    /// The server's refusal; unreachable, if the connection ends before its answer.
    pub async fn resume(wire: Wire, of: &Held) -> Result<Peer, Error> {
        Peer::resume_by(wire, of, |_, _| ()).await
    }

    /// The same with something more in the HELLO and the AUTH.
    ///
    /// # Errors
    /// As of [`Peer::resume`].
    pub async fn resume_by(
        mut wire: Wire,
        of: &Held,
        change: impl FnOnce(&mut Hello, &mut Auth),
    ) -> Result<Peer, Error> {
        let proof = of.ticket.client_proof(&wire.exporter());
        let (mut hello, mut auth) = (hello(), of.auth(proof.to_vec()));
        change(&mut hello, &mut auth);
        let mut flight = bytes_of(0, hello);
        flight.extend(bytes_of(1, auth));
        wire.write(&flight).await;
        let welcome = loop {
            match wire.try_next().await? {
                Request { number: 0, command: Command::Hello(_) } => {}
                Request { number: 1, command: Command::Ok(done) } => break done,
                Request { number: 1, command: Command::Error(error) } => return Err(error),
                other => panic!("expected the answer to AUTH, got {other:?}"),
            }
        };
        let proof = welcome.data.clone().expect("the server's proof");
        assert!(of.ticket.is_proven_by_server(&wire.exporter(), &proof));
        assert!(welcome.resumed, "{welcome:?}");
        Ok(Peer {
            address: of.address.clone(),
            device: of.device,
            welcome,
            wire,
            next: of.next,
            unsolicited: VecDeque::new(),
            answers: HashMap::new(),
        })
    }

    /// What resumes the session when its connection is lost.
    pub fn held(&self) -> Held {
        let ticket = self.welcome.resume.as_ref().expect("a ticket");
        Held {
            address: self.address.clone(),
            device: self.device,
            ticket: Ticket::decode(ticket).expect("a ticket"),
            next: self.next,
        }
    }

    /// Writes a request and does not wait for its answer.
    pub async fn ask(&mut self, command: impl Into<Command>) -> u64 {
        self.flight([command.into()]).await[0]
    }

    /// Writes requests in one flight.
    pub async fn flight(&mut self, commands: impl IntoIterator<Item = Command>) -> Vec<u64> {
        let (mut out, mut numbers) = (BytesMut::new(), Vec::new());
        for command in commands {
            out.extend(bytes_of(self.next, command));
            numbers.push(self.next);
            self.next += 1;
        }
        self.wire.write(&out).await;
        numbers
    }

    /// The answer to a request. What comes before it is kept.
    pub async fn answer(&mut self, number: u64) -> Answer {
        let answer = self.try_answer(number).await;
        answer.unwrap_or_else(|| panic!("the connection ended before the answer to {number}"))
    }

    /// The answer to a request, or none if the connection ends before.
    pub async fn try_answer(&mut self, number: u64) -> Option<Answer> {
        loop {
            if let Some(answer) = self.answers.remove(&number) {
                return Some(answer);
            }
            self.read().await?;
        }
    }

    /// Asks, and waits for the answer.
    pub async fn request(&mut self, command: impl Into<Command>) -> Answer {
        let number = self.ask(command).await;
        self.answer(number).await
    }

    /// Asks for what has to be done.
    pub async fn done(&mut self, command: impl Into<Command>) -> Done {
        let command = command.into();
        match self.request(command.clone()).await {
            Ok(done) => done,
            Err(error) => panic!("{command:?} was answered {error:?}"),
        }
    }

    /// Asks for what has to be refused: the ERROR's code.
    pub async fn refused(&mut self, command: impl Into<Command>) -> Code {
        let command = command.into();
        match self.request(command.clone()).await {
            Ok(done) => panic!("{command:?} was answered {done:?}"),
            Err(error) => error.code,
        }
    }

    /// The next frame that nobody asked for.
    pub async fn unsolicited(&mut self) -> Command {
        loop {
            if let Some(command) = self.unsolicited.pop_front() {
                return command;
            }
            assert!(self.read().await.is_some(), "the connection ended before a notification");
        }
    }

    /// A frame that nobody asked for and that has been read already.
    pub fn try_unsolicited(&mut self) -> Option<Command> {
        self.unsolicited.pop_front()
    }

    /// The next NOTIFY; what else nobody asked for is passed over.
    pub async fn notify(&mut self) -> Notify {
        loop {
            if let Command::Notify(notify) = self.unsolicited().await {
                return notify;
            }
        }
    }

    /// What has come unasked so far. A PING's answer marks how far that is: whatever the server
    /// had written before it is there.
    pub async fn so_far(&mut self) -> Vec<Command> {
        self.done(Ping::empty()).await;
        self.unsolicited.drain(..).collect()
    }

    /// Reads to the end of the connection, which the server has to close: how it ended.
    pub async fn ending(mut self) -> Ending {
        self.wire.ending().await
    }

    /// Says BYE, which ends the session too, and waits for the end of the connection.
    pub async fn leave(mut self) {
        let bye = Bye { reason: ByeReason::Done, text: None, retry_after: None, server: None };
        self.wire.send(0, bye).await;
        while self.wire.frame().await.is_some() {}
    }

    /// The connection itself, for what a peer should not do.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// The connection, and the number of its next request, for whoever goes on by frames. What
    /// has come unasked is lost.
    pub fn into_wire(self) -> (u64, Wire) {
        (self.next, self.wire)
    }

    /// Loses the connection without a word; the session stays.
    pub fn cut(self) {
        self.cut_with(true);
    }

    /// Loses the connection by a reset, or by an end of TCP without one of TLS.
    pub fn cut_with(self, reset: bool) {
        self.wire.cut(reset);
    }

    /// Sends a text that has to be taken, under a new id.
    pub async fn send(&mut self, to: &str, text: &str) -> Outcome {
        self.done(message(to, text)).await.outcome.expect("an outcome")
    }

    /// All items of the own log, from the oldest.
    pub async fn log(&mut self) -> Vec<Item> {
        let (mut items, mut cursor) = (Vec::new(), None);
        loop {
            let fetch = Fetch { cursor: cursor.take(), ..fetch(self.address.as_str(), What::Log) };
            let page: Page = state::decode(self.done(fetch).await.content.unwrap()).unwrap();
            items.extend(page.items);
            if !page.more {
                return items;
            }
            cursor = Some(page.cursor);
        }
    }

    /// The messages received, from the oldest in the log.
    pub async fn inbox(&mut self) -> Vec<Message> {
        let received = |item: Item| {
            (item.kind == ItemKind::Received)
                .then(|| Message::decode(item.message.unwrap()).unwrap())
        };
        self.log().await.into_iter().filter_map(received).collect()
    }

    /// Takes custody of the whole log as it is.
    pub async fn ack_all(&mut self) {
        if let Some(last) = self.log().await.pop() {
            let address = self.address.clone();
            self.done(Ack { address, cursor: last.cursor }).await;
        }
    }

    /// Replaces the own rules.
    pub async fn set_rules(&mut self, text: &str) {
        let fetch = fetch(self.address.as_str(), What::Rules);
        let base = self.done(fetch).await.number;
        let content = Some(Bytes::copy_from_slice(text.as_bytes()));
        let publish = publish(self.address.as_str(), What::Rules, content);
        self.done(Publish { base, ..publish }).await;
    }

    /// Changes the own contact list.
    pub async fn edit_contacts(&mut self, edit: &ContactEdit) {
        let content = Some(state::encode(edit));
        let address = self.address.clone();
        self.done(publish(address.as_str(), What::Contacts, content)).await;
    }

    /// What waits for the own decision.
    pub async fn requests(&mut self) -> Requests {
        let fetch = fetch(self.address.as_str(), What::Requests);
        state::decode(self.done(fetch).await.content.unwrap_or_default()).unwrap()
    }

    async fn read(&mut self) -> Option<()> {
        let frame = self.wire.frame().await?;
        let Request { number, command } = Request::decode(frame).expect("a server's frame");
        match command {
            Command::Ok(done) => drop(self.answers.insert(number, Ok(done))),
            Command::Error(error) => drop(self.answers.insert(number, Err(error))),
            Command::Ping(_) => self.wire.send(number, Done::empty()).await,
            other => {
                assert_eq!(number, 0, "unasked frames have number 0: {other:?}");
                self.unsolicited.push_back(other);
            }
        }
        Some(())
    }
}

/// Signs in by SCRAM with any channel binding: HELLO and AUTH in one flight, then the proof.
///
/// # Errors
/// The server's refusal.
pub async fn authenticate(
    wire: &mut Wire,
    profile: &Profile,
    device: u8,
    binding: Binding,
) -> Result<Done, Error> {
    authenticate_saying(hello(), wire, profile, device, binding).await
}

async fn authenticate_saying(
    hello: Hello,
    wire: &mut Wire,
    profile: &Profile,
    device: u8,
    binding: Binding,
) -> Result<Done, Error> {
    let (client, first) = scram(profile, binding);
    let mechanism = binding.mechanism().name();
    let mut flight = bytes_of(0, hello);
    flight.extend(bytes_of(1, first_auth(profile, device, mechanism, first)));
    wire.write(&flight).await;
    wire.try_next().await?;
    let challenge = match wire.try_next().await?.command {
        Command::Challenge(challenge) => challenge.data,
        Command::Error(error) => return Err(error),
        other => panic!("expected CHALLENGE, got {other:?}"),
    };
    let (answered, proof) = client.handle_challenge(&challenge, None).expect("a challenge");
    wire.send(2, next_auth(proof)).await;
    match wire.try_next().await? {
        Request { number: 2, command: Command::Ok(done) } => {
            let data = done.data.clone().expect("the server's proof");
            answered.handle_success(&data).expect("a server that knows the account");
            Ok(done)
        }
        Request { number: 2, command: Command::Error(error) } => Err(error),
        other => panic!("expected the answer to AUTH, got {other:?}"),
    }
}

/// A SCRAM client for an account, and its first message.
pub fn scram(profile: &Profile, binding: Binding) -> (Client, Vec<u8>) {
    let mut random = [0; 18];
    getrandom::fill(&mut random).unwrap();
    let password = Password::prepare(&profile.password).expect("a password");
    Client::start(&profile.address, password, Nonce::from_random(random), binding).unwrap()
}

/// The first AUTH of a sign-in on one of the account's devices.
pub fn first_auth(profile: &Profile, device: u8, mechanism: &str, data: Vec<u8>) -> Auth {
    Auth {
        mechanism: Some(mechanism.to_owned()),
        data: Some(data.into()),
        device: (device != NO_DEVICE).then(|| device_id(profile, device)),
        device_name: (device != NO_DEVICE).then(|| format!("device {device}")),
        ..Auth::empty()
    }
}

/// Stands for none of an account's devices: the sign-in names none.
pub const NO_DEVICE: u8 = 0;

/// Any 128 bits do, as long as they are the same each time and no other account's.
fn device_id(profile: &Profile, device: u8) -> DeviceId {
    let mut id = [device; 16];
    id.iter_mut().zip(profile.address.bytes()).for_each(|(byte, letter)| *byte ^= letter);
    DeviceId(id)
}

/// An AUTH after the first.
pub fn next_auth(data: Vec<u8>) -> Auth {
    Auth { data: Some(data.into()), ..Auth::empty() }
}

/// A text message under a new id.
pub fn message(to: &str, text: &str) -> Message {
    let body = Bytes::copy_from_slice(text.as_bytes());
    Message::new(id_at(0), to.parse().expect("an address"), body)
}

/// A new id made so many seconds after the time now, or before it.
pub fn id_at(seconds: i64) -> MessageId {
    let id = MessageId(*uuid::Uuid::now_v7().as_bytes());
    let now = id.time().expect("a UUIDv7").as_millis();
    let made = Timestamp::from_millis(now.saturating_add_signed(seconds * 1000));
    MessageId::new(made, *id.0.last_chunk().expect("ten octets"))
}

/// A FETCH with nothing else said.
pub fn fetch(address: &str, what: What) -> Fetch {
    Fetch::of(address.parse().expect("an address"), what)
}

/// A SUBSCRIBE bound to the session.
pub fn subscribe(address: &str, what: What) -> Subscribe {
    Subscribe::of(address.parse().expect("an address"), what)
}

/// A PUBLISH bound to the session.
pub fn publish(address: &str, what: What, content: Option<Bytes>) -> Publish {
    Publish::of(address.parse().expect("an address"), what, content)
}

/// Waits until the server has ended all of these, and says how.
pub async fn endings(peers: Vec<Peer>) -> Vec<Ending> {
    let mut endings = Vec::new();
    for peer in peers {
        endings.push(within("the end of a session", peer.ending()).await);
    }
    endings
}
