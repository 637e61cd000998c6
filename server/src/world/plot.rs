//! What happens in a world: people write, show themselves, change their rules; connections break,
//! servers are killed, disks fill up; and in the end all is mended and looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use impp_protocol::presence::Document;
use impp_protocol::{Address, Domain};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::device::{Device, Look, Order, message_id};
use super::disk::{Lie, Mood};
use super::facts::{Facts, Grant, Ruling, Sent, layer};
use super::house::House;
use super::line::Fate;
use super::net::Net;
use super::verdict;

/// What happens before it ends.
const STEPS: usize = 70;
/// How long all may take to come to rest when nothing is broken any more: links are sought after at
/// most so long.
const SETTLING: Duration = Duration::from_secs(1200);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(120);

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

/// What was found in the end.
pub(super) struct Found {
    /// By the device's name.
    pub looks: BTreeMap<String, Look>,
    /// Of each presentity, its layers in the orders that are possible, the last published at the end.
    pub layers: BTreeMap<Address, Vec<Vec<Document>>>,
}

/// What somebody shows in the end, on one device.
struct Shown {
    who: Address,
    leased: bool,
    document: Document,
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
    Told { trace: world.net.trace(), violations }
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
        let value = format!("{} {}", self.devices[device].name, self.said);
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
        let grants = grants.collect();
        let others = self.people.iter().filter(|other| **other != who).cloned();
        let holds = others.filter(|_| may_hold && self.dice.u8(..) < 50).collect();
        let ruling = Ruling { grants, holds, ..Ruling::default() };
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
            64..66 => self.order(device, Order::Acknowledge),
            66..72 => {
                let who = self.people[person].clone();
                self.order(device, Order::Peek(who));
            }
            72..78 => {
                let name = self.devices[device].name.clone();
                let how = *self.dice.choice(&[Fate::Cut, Fate::Silent, Fate::HalfClosed]).unwrap();
                self.net.note(&format!("{name}: {how:?}"));
                self.net.cut(&name, how);
            }
            78..83 if self.devices[device].online => {
                self.devices[device].online = false;
                self.order(device, Order::Leave);
            }
            78..86 => self.come(device),
            86..90 => {
                let how = if silently { Fate::Silent } else { Fate::Cut };
                self.net.note(&format!("links: {how:?}"));
                self.net.cut_links(how);
            }
            90..92 => {
                self.net.note("servers do not reach each other");
                self.net.part(true);
                self.apart = Some(self.soon(120));
            }
            92..94 => self.down(person / 2, silently).await,
            94..96 => self.unwell(person / 2),
            _ => self.hang(person / 2).await,
        }
    }

    /// At some time in the next seconds.
    fn soon(&mut self, seconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.dice.u64(0..seconds * 1000))
    }

    async fn down(&mut self, house: usize, killed: bool) {
        match killed {
            true => self.houses[house].crash(),
            false => self.houses[house].stop().await,
        }
        self.mended[house] = Some(self.soon(40));
    }

    /// A disk hangs while people say things, change their rules and look; and then it says no, or
    /// nobody knows what it did, or all is well.
    async fn hang(&mut self, house: usize) {
        self.net.note(&format!("the disk of {} hangs", self.houses[house].domain));
        self.houses[house].disk.is(Mood::Hangs);
        let (domain, people) = (self.houses[house].domain.clone(), &self.people[house * 2..][..2]);
        let people = people.to_vec();
        let here = |held: &Held| held.who.domain() == domain;
        let devices: Vec<usize> =
            (0..self.devices.len()).filter(|device| here(&self.devices[*device])).collect();
        for _ in 0..self.dice.usize(2..6) {
            let device = self.dice.choice(devices.iter().copied()).unwrap();
            match self.dice.u8(0..3) {
                0 => {
                    let leased = self.dice.bool();
                    self.show(device, leased);
                }
                1 => {
                    let person = house * 2 + self.dice.usize(0..2);
                    self.rule(person, true);
                }
                _ => {
                    let who = self.dice.choice(people.clone()).unwrap();
                    self.order(device, Order::Peek(who));
                }
            }
            let pause = self.dice.u64(0..600);
            sleep(Duration::from_millis(pause)).await;
        }
        let mood = self.dice.choice([Mood::Full, Mood::Fails, Mood::Well]).unwrap();
        self.net.note(&format!("and then: {mood:?}"));
        self.houses[house].disk.is(mood);
        self.mended[house] = Some(self.soon(10));
    }

    fn unwell(&mut self, house: usize) {
        let mood = self.dice.choice([Mood::Hangs, Mood::Full, Mood::Fails]).unwrap();
        self.net.note(&format!("the disk of {}: {mood:?}", self.houses[house].domain));
        self.houses[house].disk.is(mood);
        self.mended[house] = Some(self.soon(20));
    }

    /// What has been broken long enough, or anything, is whole again.
    async fn mend(&mut self, all: bool) {
        let now = Instant::now();
        if self.apart.take_if(|until| all || *until <= now).is_some() {
            self.net.note("servers reach each other");
            self.net.part(false);
        }
        for (house, mended) in self.houses.iter_mut().zip(&mut self.mended) {
            if mended.take_if(|until| all || *until <= now).is_none() && !all {
                continue;
            }
            house.disk.is(Mood::Well);
            // A store that has failed works again after a restart.
            if house.has_failed() {
                house.crash();
            }
            if !house.runs()
                && let Err(error) = house.start().await
            {
                let what = format!("{} does not start: {error}", house.domain);
                self.facts.lock().wrong(what);
            }
        }
    }

    /// All is mended, everybody comes and says once more what holds; then it is looked at.
    async fn end(&mut self) -> Found {
        self.net.note("the end begins");
        self.mend(true).await;
        for device in 0..self.devices.len() {
            self.order(device, Order::Come);
            self.devices[device].online = true;
        }
        for person in 0..self.people.len() {
            self.rule(person, false);
        }
        sleep(SETTLING).await;
        // All that waits is let in, and then nothing waits any more.
        self.mend(true).await;
        for device in 0..self.devices.len() {
            self.order(device, Order::Allow);
        }
        sleep(SETTLING).await;
        for person in 0..self.people.len() {
            self.rule(person, false);
        }
        sleep(SETTLING).await;
        let shown = self.show_all().await;
        for device in 0..self.devices.len() {
            for who in self.people.clone() {
                if who != self.devices[device].who {
                    self.order(device, Order::Follow(who));
                }
            }
        }
        sleep(SETTLING).await;
        let restarted = self.restart().await;
        sleep(SETTLING).await;
        let layers =
            self.people.iter().map(|who| (who.clone(), self.orders(&shown, who, &restarted)));
        let layers = layers.collect();
        Found { looks: self.look().await, layers }
    }

    /// Each device shows something once more, one after the other, so that their order is known; some
    /// take it back, or leave, or vanish.
    async fn show_all(&mut self) -> Vec<Shown> {
        let mut shown = Vec::new();
        for device in 0..self.devices.len() {
            let leased = self.dice.bool();
            let value = self.show(device, leased);
            sleep(Duration::from_secs(60)).await;
            // Of each person one device looks in the end.
            let looks = device == 0 || self.devices[device - 1].who != self.devices[device].who;
            let name = self.devices[device].name.clone();
            let stays = match self.dice.u8(0..6) {
                0 => {
                    self.order(device, Order::Hide);
                    false
                }
                1 | 2 if !looks => {
                    self.devices[device].online = false;
                    self.order(device, Order::Leave);
                    leased
                }
                3 | 4 if !looks => {
                    self.devices[device].online = false;
                    let how = if self.dice.bool() { Fate::Silent } else { Fate::Cut };
                    self.net.cut(&name, how);
                    self.order(device, Order::Vanish);
                    leased
                }
                _ => true,
            };
            if stays {
                let document = layer(&name, &value);
                shown.push(Shown { who: self.devices[device].who.clone(), leased, document });
            }
        }
        shown
    }

    /// One server, or none, is killed or stopped and starts again; whose.
    async fn restart(&mut self) -> Option<Domain> {
        let (house, killed) = (self.dice.usize(0..4), self.dice.bool());
        let domain = self.houses.get(house)?.domain.clone();
        self.down(house, killed).await;
        sleep(Duration::from_secs(self.dice.u64(1..60))).await;
        self.mend(true).await;
        Some(domain)
    }

    /// The orders in which somebody's layers may lie: devices whose server was started anew have said
    /// again, in any order, what their sessions had kept.
    fn orders(&self, shown: &[Shown], who: &Address, anew: &Option<Domain>) -> Vec<Vec<Document>> {
        let of = shown.iter().filter(|shown| shown.who == *who);
        let anew = *anew == Some(who.domain());
        let (last, before): (Vec<_>, Vec<_>) = of.partition(|shown| anew && !shown.leased);
        let before: Vec<Document> = before.iter().map(|shown| shown.document.clone()).collect();
        if last.is_empty() {
            return vec![before];
        }
        (0..last.len())
            .map(|at| {
                let turned = last[at..].iter().chain(&last[..at]).rev();
                before.iter().cloned().chain(turned.map(|shown| shown.document.clone())).collect()
            })
            .collect()
    }

    /// What each device finds.
    async fn look(&mut self) -> BTreeMap<String, Look> {
        self.net.note("it is looked at");
        let mut looks = BTreeMap::new();
        for device in 0..self.devices.len() {
            if !self.devices[device].online {
                continue;
            }
            let (sender, look) = oneshot::channel();
            let who = &self.devices[device].who;
            let others = self.people.iter().filter(|other| *other != who).cloned().collect();
            self.order(device, Order::Look(others, sender));
            if let Ok(Ok(look)) = timeout(LOOK_MAX, look).await {
                looks.insert(self.devices[device].name.clone(), look);
            }
        }
        looks
    }
}
