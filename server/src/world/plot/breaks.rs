//! What goes wrong in a world, and is mended again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::World;
use crate::world::device::Order;
use crate::world::disk::Mood;
use crate::world::line::Fate;

impl World {
    /// A device loses its connection, leaves, or comes.
    pub(super) fn comes_or_goes(&mut self, device: usize) {
        match self.dice.u8(0..14) {
            0..6 => {
                let name = self.devices[device].name.clone();
                let how = *self.dice.choice(&[Fate::Cut, Fate::Silent, Fate::HalfClosed]).unwrap();
                self.net.note(&format!("{name}: {how:?}"));
                self.net.cut(&name, how);
            }
            6..11 if self.devices[device].online => {
                self.devices[device].online = false;
                self.order(device, Order::Leave);
            }
            _ => self.come(device),
        }
    }

    /// Links, a server or its disk fail.
    pub(super) async fn breaks(&mut self, house: usize) {
        match self.dice.u8(0..17) {
            0..4 => {
                let how = if self.dice.bool() { Fate::Silent } else { Fate::Cut };
                self.net.note(&format!("links: {how:?}"));
                self.net.cut_links(how);
            }
            4..6 => {
                self.net.note("servers do not reach each other");
                self.net.part(true);
                self.apart = Some(self.soon(120));
            }
            6..8 => {
                let killed = self.dice.bool();
                self.down(house, killed).await;
            }
            8..10 => self.unwell(house),
            10..13 => self.reads(house),
            _ => self.hang(house).await,
        }
    }

    /// A server reads its settings again.
    fn reads(&mut self, house: usize) {
        let Some((reading, in_force)) = self.houses[house].reads() else { return };
        let (now, domain) = (self.net.millis(), &self.houses[house].domain);
        self.net.note(&format!("{domain} reads its settings: {reading}"));
        if in_force {
            self.facts.lock().answered_by(domain, (now, now), &[reading]);
        }
    }

    /// At some time in the next seconds.
    pub(super) fn soon(&mut self, seconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.dice.u64(0..seconds * 1000))
    }

    pub(super) async fn down(&mut self, house: usize, killed: bool) {
        match killed {
            true => self.houses[house].crash(),
            false => self.houses[house].stop().await,
        }
        self.mended[house] = Some(self.soon(40));
    }

    /// A disk hangs while people say things, change their rules, look and are cut off, most of it about
    /// one of them; and then it says no, or nobody knows what it did, or all is well.
    pub(super) async fn hang(&mut self, house: usize) {
        self.net.note(&format!("the disk of {} hangs", self.houses[house].domain));
        self.houses[house].disk.is(Mood::Hangs);
        let most = house * 2 + self.dice.usize(0..2);
        for _ in 0..self.dice.usize(2..7) {
            let other = house * 2 + self.dice.usize(0..2);
            let person = if self.dice.u8(..) < 192 { most } else { other };
            self.while_it_hangs(person).await;
            let pause = self.dice.u64(0..600);
            sleep(Duration::from_millis(pause)).await;
        }
        let moods = [Mood::Full, Mood::Fails, Mood::Well, Mood::Well];
        let mood = self.dice.choice(moods).unwrap();
        self.net.note(&format!("and then: {mood:?}"));
        self.houses[house].disk.is(mood);
        self.mended[house] = Some(self.soon(10));
    }

    /// Somebody shows something, is cut off, changes their rules, or is looked at.
    async fn while_it_hangs(&mut self, person: usize) {
        match self.dice.u8(0..4) {
            0 => {
                let (device, leased) = (self.one_of(person), self.dice.bool());
                self.show(device, leased);
            }
            1 => {
                let device = self.one_of(person);
                let (name, how) = (self.devices[device].name.clone(), Fate::Cut);
                self.net.note(&format!("{name}: {how:?}"));
                self.net.cut(&name, how);
            }
            2 => {
                self.rule(person, true);
                // What is shown after it, elsewhere too, is not for those whom it turns away.
                sleep(Duration::from_millis(self.dice.u64(0..300))).await;
                let device = self.one_of(person);
                self.show(device, false);
            }
            _ => self.looks_or_asks_again(person),
        }
    }

    /// A device of somebody's.
    fn one_of(&mut self, person: usize) -> usize {
        let who = &self.people[person];
        let theirs = (0..self.devices.len()).filter(|device| self.devices[*device].who == *who);
        let theirs: Vec<usize> = theirs.collect();
        self.dice.choice(theirs).unwrap()
    }

    /// Somebody looks at a person, or asks anew to follow them, which is answered by what they show.
    fn looks_or_asks_again(&mut self, person: usize) {
        let who = self.people[person].clone();
        let device = self.dice.usize(0..self.devices.len());
        if self.devices[device].who == who || self.dice.bool() {
            self.order(device, Order::Peek(who));
        } else {
            self.order(device, Order::Follow(who));
        }
    }

    pub(super) fn unwell(&mut self, house: usize) {
        let mood = self.dice.choice([Mood::Hangs, Mood::Full, Mood::Fails]).unwrap();
        self.net.note(&format!("the disk of {}: {mood:?}", self.houses[house].domain));
        self.houses[house].disk.is(mood);
        self.mended[house] = Some(self.soon(20));
    }

    /// What has been broken long enough, or anything, is whole again.
    pub(super) async fn mend(&mut self, all: bool) {
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
}
