//! A device of somebody's, written from docs/protocol.md alone: it signs in, keeps its layer, rules and
//! subscriptions as they are wanted, sends until it is answered, and reads its log.

mod asking;
mod hearing;
mod looking;
mod signing_in;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use impp_protocol::command::{Bye, ByeReason, Fetch, Ping};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::presence::{Document, Version};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::state::{Item, SubscriptionState};
use impp_protocol::{Address, Code, DeviceId, MessageId, Request, What};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::facts::Facts;
use super::house::beginning;
use super::line::End;
use super::net::Net;

/// A PING after so long a silence; half as long later the connection is lost.
const IDLE: Duration = Duration::from_secs(60);
/// How long a sign-in, or a write, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A layer bound to a session is published anew when the connection was away for so long.
const GRACE_SAFE: Duration = Duration::from_secs(25);

/// What somebody has their device do.
#[derive(Debug)]
pub(super) enum Order {
    /// Be there.
    Come,
    /// Say goodbye.
    Leave,
    /// Be gone without a word.
    Vanish,
    /// Take back what was shown.
    Hide,
    /// Show this; kept by a lease, or by the session.
    Show(String, bool),
    /// Put these rules in force, by their place among the facts.
    Rule(usize),
    /// Follow somebody, also after a refusal.
    Follow(Address),
    /// Follow somebody no more.
    Unfollow(Address),
    /// Send the message at this place among the facts.
    Send(usize),
    /// Look at somebody once.
    Peek(Address),
    /// Let in whoever waits.
    Allow,
    /// Delete one of the messages that it was told, if there is any.
    Delete,
    /// Acknowledge what was read.
    Acknowledge,
    /// Say what is left to do, and read everything once.
    Look(Vec<Address>, oneshot::Sender<Look>),
}

/// What a device finds when it reads everything once.
#[derive(Debug)]
pub(super) struct Look {
    /// What it wants and has not got; empty if all is done.
    pub undone: String,
    /// The log of its owner.
    pub log: Vec<Item>,
    /// What it sees of whom, as it was told.
    pub told: BTreeMap<Address, Seen>,
    /// What it is answered.
    pub fetched: BTreeMap<Address, Result<Option<Bytes>, Code>>,
    /// The items that it was told.
    pub items: Vec<Item>,
}

/// What a device was told of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How it stands; `None` while nothing is known.
    pub state: Option<SubscriptionState>,
    /// The document with its version.
    pub held: Option<(Version, Document)>,
    /// It was refused: nobody asks again without being told to.
    pub refused: bool,
}

/// A request that is out.
#[derive(Debug)]
enum Asked {
    Message(usize),
    /// What, and whether it is kept by a lease and was asked for the first time; and when.
    Layer(Option<(String, bool)>, u64),
    RulesVersion,
    /// Which, and whether they were asked for the first time.
    Rules(usize, bool),
    Follow(Address),
    Unfollow(Address),
    /// Whom, and when.
    Peek(Address, u64),
    Log,
    Acknowledge,
    /// The item of a cursor, and the message in it.
    Delete(Bytes, MessageId),
    Other,
}

/// See the module.
pub(super) struct Device {
    who: Address,
    /// Its name, which no other has.
    name: String,
    id: DeviceId,
    net: Net,
    dice: Rng,
    facts: Arc<Mutex<Facts>>,
    orders: mpsc::UnboundedReceiver<Order>,
    online: bool,
    layer: Option<(String, bool)>,
    layer_due: bool,
    rules_due: Option<usize>,
    rules_base: Option<u64>,
    follows: BTreeSet<Address>,
    leaves: BTreeSet<Address>,
    seen: BTreeMap<Address, Seen>,
    outbox: Vec<usize>,
    items: Vec<Item>,
    cursor: Option<Bytes>,
    ack_due: bool,
    deletes: Vec<(Bytes, MessageId)>,
    ticket: Option<Ticket>,
    lost: Option<Instant>,
    next_try: Instant,
    session: Option<Session>,
    /// How many connections there were.
    sessions: u64,
}

/// A connection that is signed in.
struct Session {
    end: End,
    input: BytesMut,
    number: u64,
    /// When it was connected.
    since: u64,
    /// Of which reading the settings were by which TLS was made.
    reading: u64,
    open: BTreeMap<u64, Asked>,
    heard: Instant,
    pinged: bool,
    log: bool,
    subscribed: BTreeSet<Address>,
    rest: Option<Instant>,
}

impl Device {
    /// A device, and where it gets its orders.
    pub(super) fn new(
        who: &Address,
        number: usize,
        net: &Net,
        mut dice: Rng,
        facts: &Arc<Mutex<Facts>>,
    ) -> (Device, mpsc::UnboundedSender<Order>) {
        let (sender, orders) = mpsc::unbounded_channel();
        let mut id = [0; 16];
        dice.fill(&mut id);
        let device = Device {
            who: who.clone(),
            name: format!("{}{number}", who.local()),
            id: DeviceId(id),
            net: net.clone(),
            dice,
            facts: facts.clone(),
            orders,
            online: false,
            layer: None,
            layer_due: false,
            rules_due: None,
            rules_base: None,
            follows: BTreeSet::new(),
            leaves: BTreeSet::new(),
            seen: BTreeMap::new(),
            outbox: Vec::new(),
            items: Vec::new(),
            cursor: None,
            ack_due: false,
            deletes: Vec::new(),
            ticket: None,
            lost: None,
            next_try: Instant::now(),
            session: None,
            sessions: 0,
        };
        (device, sender)
    }

    /// Lives for ever.
    pub(super) async fn live(mut self) {
        loop {
            if self.online && self.session.is_none() && self.next_try <= Instant::now() {
                self.connect().await;
            }
            self.ask_for_what_is_wanted().await;
            let until = self.until();
            let Device { orders, session, .. } = &mut self;
            let heard = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => { self.obey(order).await; continue }
                    None => return,
                },
                heard = read(session) => heard,
                () = sleep_until(until) => { self.look_at_the_time().await; continue }
            };
            match heard {
                Some(request) => self.hear(request).await,
                None => self.lose("it was closed"),
            }
        }
    }

    fn until(&self) -> Instant {
        match &self.session {
            None if self.online => self.next_try,
            None => Instant::now() + Duration::from_secs(3600),
            Some(session) => {
                let silent = session.heard + if session.pinged { IDLE * 3 / 2 } else { IDLE };
                session.rest.map_or(silent, |rest| rest.min(silent))
            }
        }
    }

    async fn look_at_the_time(&mut self) {
        let now = Instant::now();
        let Some(session) = &mut self.session else { return };
        if session.rest.is_some_and(|rest| rest <= now) {
            session.rest = None;
        }
        if session.heard + IDLE * 3 / 2 <= now {
            self.lose("nothing was heard");
        } else if session.heard + IDLE <= now && !session.pinged {
            session.pinged = true;
            self.request(Ping::empty(), Asked::Other).await;
        }
    }

    fn lose(&mut self, why: &str) {
        if self.session.take().is_some() {
            self.net.note(&format!("{} has lost its connection: {why}", self.name));
            self.lost.get_or_insert(Instant::now());
            self.next_try = Instant::now() + Duration::from_millis(self.dice.u64(100..5000));
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Come => self.online = true,
            Order::Leave => {
                self.online = false;
                self.say(0, Bye::new(ByeReason::Done, "")).await;
                self.session = None;
                (self.ticket, self.lost) = (None, None);
                // A layer that the session kept is gone with it.
                self.layer.take_if(|(_, leased)| !*leased);
            }
            Order::Vanish => (self.online, self.session) = (false, None),
            Order::Hide => (self.layer, self.layer_due) = (None, true),
            Order::Show(value, leased) => {
                (self.layer, self.layer_due) = (Some((value, leased)), true);
            }
            Order::Rule(index) => self.rules_due = Some(index),
            Order::Follow(who) => {
                self.leaves.remove(&who);
                if let Some(seen) = self.seen.get_mut(&who) {
                    seen.refused = false;
                }
                if let Some(session) = &mut self.session {
                    session.subscribed.remove(&who);
                }
                self.follows.insert(who);
            }
            Order::Unfollow(who) => {
                if self.follows.remove(&who) {
                    self.seen.remove(&who);
                    self.leaves.insert(who);
                }
            }
            Order::Send(index) => self.outbox.push(index),
            Order::Acknowledge => self.ack_due = true,
            Order::Delete => self.choose_to_delete(),
            Order::Allow => self.allow().await,
            Order::Peek(who) => {
                let asked = Asked::Peek(who.clone(), self.net.millis());
                self.request(Fetch::of(who, What::Presence), asked).await;
            }
            Order::Look(whom, answer) => {
                let look = self.look(whom).await;
                let _ = answer.send(look);
            }
        }
    }
}

/// The next frame; `None` if the connection is lost. Waits for ever if there is none.
async fn read(session: &mut Option<Session>) -> Option<Request> {
    let Some(session) = session else { return std::future::pending().await };
    loop {
        if let Some(frame) = frame::take(&mut session.input, FRAME_BYTES_MAX).ok()? {
            return Request::decode(frame).ok();
        }
        if session.end.read_buf(&mut session.input).await.ok()? == 0 {
            return None;
        }
    }
}

/// The id of a message: a UUIDv7 of the world's time.
pub(super) fn message_id(net: &Net, dice: &mut Rng) -> MessageId {
    let mut chance = [0; 10];
    dice.fill(&mut chance);
    MessageId::new(beginning().after(Duration::from_millis(net.millis())), chance)
}
