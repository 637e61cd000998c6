//! How a world ends: all is mended, everybody says once more what holds, and it is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use impp_protocol::presence::Document;
use impp_protocol::{Address, Domain};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::World;
use crate::world::device::{Look, Order};
use crate::world::line::Fate;
use crate::world::ruling::layer;

/// How long all may take to come to rest when nothing is broken any more: links are sought after at
/// most so long.
const SETTLING: Duration = Duration::from_secs(1200);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(120);

/// What was found in the end.
pub(in crate::world) struct Found {
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

impl World {
    /// All is mended, everybody comes and says once more what holds; then it is looked at.
    pub(super) async fn end(&mut self) -> Found {
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
