//! What happens in a world: people write, show themselves, change their rules; connections break,
//! servers are killed, disks fill up; and in the end all is mended and looked at.

mod breaks;
mod ending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use impp_protocol::Address;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Lie;
use super::device::{Device, Order, message_id};
use super::facts::{Facts, Sent};
use super::house::House;
use super::net::Net;
use super::ruling::{Grant, Ruling, SPHERES};
use super::verdict;
pub(super) use ending::Found;

/// What happens before it ends.
const STEPS: usize = 70;
/// What a world leaves.
pub(super) struct Told {
    /// Everything that went over its network, and what else was written down.
    pub trace: Vec<String>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

/// See the module.
pub(super) struct World {
    net: Net,
    dice: Rng,
    pub facts: Arc<Mutex<Facts>>,
    houses: Vec<House>,
    /// When a house that is down comes up, and one whose disk is unwell gets well.
    mended: [Option<Instant>; 2],
    pub people: Vec<Address>,
    pub devices: Vec<Held>,
    /// Until then servers do not reach each other.
    apart: Option<Instant>,
    said: usize,
}

/// A device, as the plot has it.
pub(super) struct Held {
    pub who: Address,
    pub name: String,
    orders: mpsc::UnboundedSender<Order>,
    pub online: bool,
}

/// Plays a world to its end.
pub(super) async fn run(seed: u64, lie: Option<Lie>) -> Told {
    let mut world = World::new(seed, lie);
    for house in &mut world.houses {
        house.start().await.expect("a server starts on an empty disk");
    }
    world.begin();
    for _ in 0..STEPS {
        let pause = match world.dice.u8(0..10) {
            0..5 => world.dice.u64(0..500),
            5..9 => world.dice.u64(0..5_000),
            _ => world.dice.u64(0..60_000),
        };
        sleep(Duration::from_millis(pause)).await;
        world.mend(false).await;
        world.step().await;
    }
    let found = world.end().await;
    verdict::judge(&world, &found);
    let violations = std::mem::take(&mut world.facts.lock().violations);
    let trace = world.net.trace();
    // The network holds the servers, and they the network: nothing of a world stays behind it.
    world.houses.iter_mut().for_each(House::crash);
    Told { trace, violations }
}

impl World {
    fn new(seed: u64, lie: Option<Lie>) -> World {
        let mut dice = Rng::with_seed(seed);
        let net = Net::new(dice.u64(..));
        let facts = Arc::new(Mutex::new(Facts::default()));
        let named = |name: &str| Address::parse(name).unwrap();
        let people =
            ["alice@a.example", "adam@a.example", "bob@b.example", "bea@b.example"].map(named);
        let houses = ["a.example", "b.example"].into_iter().enumerate();
        let houses = houses
            .map(|(index, name)| {
                House::new(name, &people[index * 2..][..2], &net, dice.fork(), lie)
            })
            .collect();
        let mut devices = Vec::new();
        for (who, count) in people.iter().zip([2, 1, 2, 1]) {
            for number in 0..count {
                let (device, orders) = Device::new(who, number, &net, dice.fork(), &facts);
                tokio::spawn(device.live());
                let name = format!("{}{number}", who.local());
                devices.push(Held { who: who.clone(), name, orders, online: false });
            }
        }
        let (mended, people) = ([None; 2], people.to_vec());
        World { net, dice, facts, houses, mended, people, devices, apart: None, said: 0 }
    }

    /// Everybody comes, shows something, and follows the others.
    fn begin(&mut self) {
        for index in 0..self.people.len() {
            self.rule(index, true);
        }
        for index in 0..self.devices.len() {
            self.come(index);
            for who in self.people.clone() {
                if who != self.devices[index].who && self.dice.u8(..) < 200 {
                    self.order(index, Order::Follow(who));
                }
            }
        }
    }

    fn order(&mut self, device: usize, order: Order) {
        let Held { name, orders, .. } = &self.devices[device];
        if !matches!(order, Order::Look(..)) {
            self.net.note(&format!("{name}: {order:?}"));
        }
        let _ = orders.send(order);
    }

    fn come(&mut self, device: usize) {
        self.devices[device].online = true;
        self.order(device, Order::Come);
        self.show(device, false);
    }

    /// Shows something that nobody has shown before; what.
    fn show(&mut self, device: usize, leased: bool) -> String {
        self.said += 1;
        let sphere = self.dice.choice(SPHERES).unwrap();
        let value = format!("{} {} {sphere}", self.devices[device].name, self.said);
        self.order(device, Order::Show(value.clone(), leased));
        value
    }

    /// Somebody thinks of new rules, on the first of their devices.
    fn rule(&mut self, person: usize, may_hold: bool) {
        let who = self.people[person].clone();
        let others = self.people.iter().filter(|other| **other != who).cloned();
        let grants = others.map(|other| {
            // Most are let in, or there would be little to see.
            let grant =
                if self.dice.bool() { Grant::All } else { self.dice.choice(Grant::EVERY).unwrap() };
            (other, grant)
        });
        let grants: BTreeMap<Address, Grant> = grants.collect();
        // In the end nobody is let in by a sphere: whom it turns away once does not come back by it.
        let let_in = |grant: &Grant| may_hold || !matches!(grant, Grant::Confirm | Grant::Block);
        let at_work = grants.iter().filter(|(_, grant)| let_in(grant) && self.dice.u8(..) < 64);
        let at_work = at_work.map(|(who, _)| who.clone()).collect();
        let others = self.people.iter().filter(|other| **other != who).cloned();
        let holds = others.filter(|_| may_hold && self.dice.u8(..) < 50).collect();
        let ruling = Ruling { grants, at_work, holds, ..Ruling::default() };
        let index = {
            let mut facts = self.facts.lock();
            let rulings = facts.rulings.entry(who.clone()).or_default();
            rulings.push(ruling);
            rulings.len() - 1
        };
        let device = self.devices.iter().position(|device| device.who == who).unwrap();
        self.order(device, Order::Rule(index));
    }

    fn send(&mut self, device: usize) {
        let from = self.devices[device].who.clone();
        let to = self.dice.choice(self.people.clone()).unwrap();
        let id = message_id(&self.net, &mut self.dice);
        let device_name = self.devices[device].name.clone();
        let sent = Sent { id, from, device: device_name, to, answer: None, again: false };
        let index = {
            let mut facts = self.facts.lock();
            facts.messages.push(sent);
            facts.messages.len() - 1
        };
        self.order(device, Order::Send(index));
    }

    async fn step(&mut self) {
        let device = self.dice.usize(0..self.devices.len());
        let person = self.dice.usize(0..self.people.len());
        let silently = self.dice.bool();
        match self.dice.u8(0..100) {
            0..28 => {
                for _ in 0..self.dice.usize(1..4) {
                    self.send(device);
                }
            }
            28..44 => {
                let leased = self.dice.u8(..) < 64;
                self.show(device, leased);
            }
            44..54 => {
                let who = self.people[person].clone();
                if who != self.devices[device].who {
                    let follow = if silently { Order::Follow(who) } else { Order::Unfollow(who) };
                    self.order(device, follow);
                }
            }
            54..62 => self.rule(person, true),
            62..64 => self.order(device, Order::Allow),
            64 => self.order(device, Order::Acknowledge),
            65 => self.order(device, Order::Delete),
            66..72 => {
                let who = self.people[person].clone();
                self.order(device, Order::Peek(who));
            }
            72..86 => self.comes_or_goes(device),
            _ => self.breaks(person / 2).await,
        }
    }
}
