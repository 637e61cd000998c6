//! Ours: the real `imppd` in a folder of its own, by the tests' harness; or two of them, each with a
//! domain, and who writes and shows something to the people of the other.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use impp_protocol::command::{Ack, Done, Message, Notify};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::state::{self, ItemKind, Page};
use impp_protocol::{Code, Command, Request, What};
use impp_tests::peer::{Held, message, publish, subscribe};
use impp_tests::presence::{document, layer, open};
use impp_tests::server::{Profile, Start};
use impp_tests::wire::{Dial, Wire, bytes_of};
use impp_tests::{Domains, Peer, Server};

use super::spawned::source;
use crate::protocol::{Came, Client, Later, Protocol, Speech, Wish};

/// Rules by which everybody who has signed in, anywhere, sees everything and writes.
const SHOWN_TO_ALL: &str = "\
    [[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\nfields = [\"all\"]\n\
    [[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"accept\"\n";

/// What the scenarios ask more of a server than it gives one account or address by default.
const SETTINGS: [(&str, i64); 9] = [
    ("limits.unsigned_per_address_max", 2048),
    ("limits.unsigned_per_network_max", 2048),
    ("limits.handshakes_per_second", 1_000_000),
    ("limits.requests_per_second", 1_000_000),
    ("limits.requests_burst", 1_000_000),
    ("limits.work_per_second", 1_000_000_000),
    ("limits.stored_bytes_per_second", 1 << 40),
    ("times.pace_burst", 1_000_000),
    ("inbox.items_max", 1_000_000),
];

/// So many people of their own have all views but the one that everybody has.
const VIEW_MEMBERS: usize = 12;

/// Where people are.
enum Servers {
    One(Box<Server>),
    /// a.example and b.example.
    Two(Domains),
}

/// See the module.
pub(crate) struct Impp {
    servers: Servers,
    people: Vec<Profile>,
    addresses: Rc<[String]>,
    wish: Wish,
    /// With what each resumes its session.
    held: RefCell<HashMap<usize, Held>>,
    /// What keeps tickets of TLS.
    dial: Dial,
}

impl Impp {
    pub(crate) async fn start(wish: &Wish) -> Impp {
        let server = set(Server::with().accounts(["owner"]), wish).start();
        Impp::with_people(Servers::One(Box::new(server)), wish)
    }

    /// The same with two domains, one of which has all who are followed, or one of each pair.
    pub(crate) async fn start_linked(wish: &Wish) -> Impp {
        let domains = Domains::with(&["a.example", "b.example"], |_, start| {
            set(start.accounts(["owner"]), wish)
        });
        Impp::with_people(Servers::Two(domains.await), wish)
    }

    fn with_people(servers: Servers, wish: &Wish) -> Impp {
        let homes = (0..wish.people).map(|who| servers.home(who, wish));
        let people: Vec<Profile> = homes
            .enumerate()
            .flat_map(|(who, server)| server.add_many([format!("p{who}")]))
            .collect();
        let addresses = people.iter().map(|profile| profile.address.clone()).collect();
        let (dial, held) = (Dial::to(servers.all()[0]), RefCell::default());
        Impp { servers, people, addresses, wish: wish.clone(), held, dial }
    }

    fn home(&self, who: usize) -> &Server {
        self.servers.home(who, &self.wish)
    }

    async fn peer(&self, who: usize) -> io::Result<Peer> {
        // A dial of its own knows no ticket of TLS.
        let wire = Dial::to(self.home(who)).from(source(who)).connect().await?;
        Peer::over(wire, &self.people[who], 1).await.map_err(io::Error::other)
    }

    /// Those of who is followed: with several views, some people more see a field of their own.
    fn rules(&self) -> String {
        let mut text = String::from("[groups]\n");
        let mut rules = String::new();
        for (view, members) in
            self.addresses.chunks(VIEW_MEMBERS).take(self.wish.views).skip(1).enumerate()
        {
            writeln!(text, "v{view} = {members:?}").unwrap();
            writeln!(
                rules,
                "[[rule]]\nid = \"v{view}\"\nwho = [\"group:v{view}\"]\nhandling = \"allow\"\n\
                 fields = [\"x.f{view}\"]"
            )
            .unwrap();
        }
        text + &rules + SHOWN_TO_ALL
    }

    fn client(&self, who: usize, peer: Peer) -> Client {
        self.held.borrow_mut().insert(who, peer.held());
        let (next, wire) = peer.into_wire();
        let (addresses, asked) = (self.addresses.clone(), VecDeque::new());
        let speech = Frames { who, addresses, next, asked, stored: self.wish.stored, turn: 0 };
        Client { stream: wire.into_stream(), speech: Box::new(speech) }
    }
}

impl Servers {
    fn all(&self) -> Vec<&Server> {
        match self {
            Servers::One(server) => vec![server],
            Servers::Two(domains) => vec![&domains["a.example"], &domains["b.example"]],
        }
    }

    fn home(&self, who: usize, wish: &Wish) -> &Server {
        match self {
            Servers::One(server) => server,
            Servers::Two(domains) => {
                let is_first =
                    if wish.watched > 0 { who < wish.watched } else { who.is_multiple_of(2) };
                &domains[if is_first { "a.example" } else { "b.example" }]
            }
        }
    }
}

/// On the first processor, with what is wished.
fn set(start: Start, wish: &Wish) -> Start {
    let under = ["taskset", "-c", "0"].map(Into::into).to_vec();
    let settings = SETTINGS.iter().filter(|_| !wish.defaults);
    settings.fold(start.under(under), |start, (name, value)| start.set(name, *value))
}

impl Protocol for Impp {
    fn processes(&self) -> Vec<u32> {
        self.servers.all().into_iter().map(Server::pid).collect()
    }

    fn syncs(&self) -> Option<f64> {
        let syncs = |server: &Server| server.metrics().get("impp_store_syncs_total");
        Some(self.servers.all().into_iter().map(syncs).sum())
    }

    fn carried(&self) -> Option<u64> {
        let Servers::Two(domains) = &self.servers else { return None };
        let bytes = ["a.example", "b.example"].map(|domain| domains.cable(domain).bytes());
        Some(bytes.into_iter().map(|(towards, back)| towards + back).sum())
    }

    fn settings(&self) -> Vec<String> {
        let settings = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}"));
        if self.wish.defaults { Vec::new() } else { settings.collect() }
    }

    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>> {
        Box::pin(async move {
            let mut peer = self.peer(who).await?;
            if who < self.wish.watched || matches!(self.servers, Servers::Two(_)) {
                peer.set_rules(&self.rules()).await;
            }
            if self.wish.present {
                peer.show(&open("here")).await;
            }
            if self.wish.stored {
                peer.done(subscribe(&self.people[who].address, What::Log)).await;
            }
            Ok(self.client(who, peer))
        })
    }

    fn resume(&self, who: usize, by_ticket: bool) -> Option<Later<'_, io::Result<Client>>> {
        let held = self.held.borrow().get(&who).cloned()?;
        Some(Box::pin(async move {
            let dial = if by_ticket { self.dial.clone() } else { Dial::to(self.home(who)) };
            let wire: Wire = dial.from(source(who)).connect().await?;
            let peer = Peer::resume(wire, &held).await.map_err(io::Error::other)?;
            Ok(self.client(who, peer))
        }))
    }

    fn crash(&mut self) {
        if let Servers::One(server) = &mut self.servers {
            server.kill9();
            server.restart();
        }
    }

    fn waiting(&self, who: usize) -> Later<'_, io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            let messages = self.peer(who).await?.inbox().await;
            Ok(messages.into_iter().map(|message| message.body).collect())
        })
    }
}

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Message,
    Other,
}

/// What one client says and hears.
struct Frames {
    who: usize,
    addresses: Rc<[String]>,
    /// The number of the next request.
    next: u64,
    /// Requests without an answer.
    asked: VecDeque<(u64, Asked)>,
    stored: bool,
    /// How often a status was shown.
    turn: u64,
}

impl Frames {
    fn ask(&mut self, asked: Asked, command: impl Into<Command>, out: &mut BytesMut) {
        out.extend_from_slice(&bytes_of(self.next, command));
        self.asked.push_back((self.next, asked));
        self.next += 1;
    }

    /// What the answer to a request means, if it is good.
    fn answered(&mut self, number: u64) -> Came {
        // Answers come nearly in the order of requests.
        let at = self.asked.iter().position(|(asked, _)| *asked == number);
        match at.and_then(|at| self.asked.remove(at)) {
            Some((_, Asked::Message)) => Came::Taken,
            _ => Came::Else,
        }
    }

    /// A part of the own log: what has come by it is acknowledged at once.
    fn page(&mut self, snapshot: Bytes, out: &mut BytesMut, came: &mut Vec<Came>) {
        let page: Page = state::decode(snapshot).unwrap();
        let before = came.len();
        let received = page.items.into_iter().filter(|item| item.kind == ItemKind::Received);
        came.extend(received.filter_map(|item| item.message).map(Came::Message));
        if came.len() > before {
            let address = self.addresses[self.who].parse().unwrap();
            self.ask(Asked::Other, Ack { address, cursor: page.cursor }, out);
        }
    }
}

impl Speech for Frames {
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut) {
        let text = std::str::from_utf8(body).unwrap();
        let message = Message { volatile: !self.stored, ..message(&self.addresses[to], text) };
        self.ask(Asked::Message, message, out);
    }

    fn publish(&mut self, text: &str, out: &mut BytesMut) {
        self.turn += 1;
        let status = if self.turn.is_multiple_of(2) { "open" } else { "closed" };
        let document = document(&[("note", text)], &[("im", &[("status", status)])]);
        let own = &self.addresses[self.who];
        let publish = publish(own, What::Presence, Some(layer(&document)));
        self.ask(Asked::Other, publish, out);
    }

    fn follow(&mut self, whom: usize, out: &mut BytesMut) {
        let subscribe = subscribe(&self.addresses[whom], What::Presence);
        self.ask(Asked::Other, subscribe, out);
    }

    fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut, came: &mut Vec<Came>) {
        while let Some(frame) = frame::take(input, FRAME_BYTES_MAX).unwrap() {
            let Request { number, command } = Request::decode(frame).unwrap();
            match command {
                Command::Ok(_) => came.push(self.answered(number)),
                Command::Error(error) => {
                    self.answered(number);
                    let is_rate = error.code == Code::RateLimited;
                    came.push(if is_rate { Came::Throttled } else { Came::Refused });
                }
                Command::Message(message) => came.push(Came::Message(message.body)),
                Command::Notify(Notify { what: What::Log, snapshot: Some(page), .. }) => {
                    self.page(page, out, came);
                }
                Command::Notify(Notify { what: What::Presence, snapshot, patch, .. }) => {
                    came.extend(snapshot.or(patch).map(Came::Status));
                }
                Command::Ping(_) => out.extend_from_slice(&bytes_of(number, Done::empty())),
                _ => {}
            }
        }
    }
}
