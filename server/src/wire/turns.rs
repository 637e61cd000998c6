//! Turns for what is dear before anybody is known: the handshakes of TLS. So many a second are begun,
//! whoever they are of; when more are wanted, each network gets its turn.
//!
//! How many may wait, and for how long, is left to `admission` and `listen`. The store's turns
//! (`storage/src/sqlite/turns.rs`) have the order of lanes in common with these, and no more: those hold
//! what waits, and keep the place of what has no lane; these hold nothing but who waits, and tell time.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::hashing::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::network_of;
use super::rate::Rate;

/// How often turns are handed out while somebody waits.
const TICK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// How many a second: as it was said last.
    per_second: u64,
    /// What is left of this second, and of how many.
    rate: Option<(u64, Rate)>,
    /// Networks with somebody waiting, in the order of their turns: as many as in `of`, which are as
    /// many at most as there are places.
    order: VecDeque<IpAddr>,
    of: HashMap<IpAddr, VecDeque<oneshot::Sender<()>>>,
}

impl Turns {
    /// Waits for a turn, of which there are so many a second.
    pub async fn turn(self: &Arc<Turns>, peer: IpAddr, per_second: u64) {
        let called = {
            let mut waiting = self.waiting.lock();
            waiting.per_second = per_second;
            let is_first = waiting.order.is_empty();
            if is_first && waiting.take() {
                return;
            }
            if is_first {
                tokio::spawn(self.clone().hand_out());
            }
            waiting.queue(network_of(peer))
        };
        // Who hands out turns does so until nobody waits.
        let _ = called.await;
    }

    /// Hands out turns until nobody waits for one.
    async fn hand_out(self: Arc<Turns>) {
        loop {
            tokio::time::sleep(TICK).await;
            let mut waiting = self.waiting.lock();
            while !waiting.order.is_empty() {
                if !waiting.take() {
                    break;
                }
                waiting.call();
            }
            if waiting.order.is_empty() {
                return;
            }
        }
    }
}

impl Waiting {
    fn take(&mut self) -> bool {
        let (now, per_second) = (Instant::now(), self.per_second);
        let same = self.rate.take().filter(|(of, _)| *of == per_second);
        let (_, rate) =
            self.rate.insert(same.unwrap_or((per_second, Rate::new(now, per_second, per_second))));
        rate.take(now).is_ok()
    }

    fn queue(&mut self, network: IpAddr) -> oneshot::Receiver<()> {
        let (call, called) = oneshot::channel();
        let waiting = self.of.entry(network).or_default();
        if waiting.is_empty() {
            self.order.push_back(network);
        }
        waiting.push_back(call);
        called
    }

    /// Gives the turn to the one who has waited longest of the network whose turn it is. Who has
    /// left meanwhile is passed over.
    fn call(&mut self) {
        while let Some(network) = self.order.pop_front() {
            let Some(waiting) = self.of.get_mut(&network) else { continue };
            let called =
                std::iter::from_fn(|| waiting.pop_front()).any(|call| call.send(()).is_ok());
            match waiting.is_empty() {
                true => drop(self.of.remove(&network)),
                false => self.order.push_back(network),
            }
            if called {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b4_each_network_gets_its_turn() {
        let turns = Arc::new(Turns::default());
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let from = |address: &str, name: usize| {
            let (turns, told, address) = (turns.clone(), told.clone(), address.parse().unwrap());
            tokio::spawn(async move {
                turns.turn(address, 10).await;
                let _ = told.send((name, Instant::now()));
            })
        };
        let start = Instant::now();
        let crowd: Vec<_> = (0..100).map(|n| from("10.0.0.1", n)).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        // Of these, who has left takes nobody's turn.
        crowd[10].abort();
        from("10.0.0.2", 1000);
        let order: Vec<_> = {
            let mut order = Vec::new();
            for _ in 0..100 {
                order.push(heard.recv().await.unwrap());
            }
            order
        };
        let at = order.iter().position(|(name, _)| *name == 1000).unwrap();
        assert_eq!(at, 11, "after ten at once and one more");
        assert!(order.iter().all(|(name, _)| *name != 10));
        // Ten at once, and the others ten a second.
        let took = order[99].1 - start;
        assert!((8900..9200).contains(&took.as_millis()), "{took:?}");
        assert!(turns.waiting.lock().of.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn b4_a_rate_that_is_changed_holds_for_who_waits() {
        let (turns, start) = (Arc::new(Turns::default()), Instant::now());
        let from = |address: &str, per_second| {
            let (turns, address) = (turns.clone(), address.parse().unwrap());
            tokio::spawn(async move { turns.turn(address, per_second).await })
        };
        let crowd: Vec<_> = (0..100).map(|_| from("10.0.0.1", 1)).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        from("10.0.0.2", 1000).await.unwrap();
        for one in crowd {
            one.await.unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
