//! Connecting to one target with several addresses: Happy Eyeballs (RFC 8305).
//!
//! Which targets there are, and what a connection is then used for, is left to `locator`.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::addresses::Policy;
use crate::step::{Step, milliseconds};

/// The next address is tried if the one before has not connected after this.
pub const STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one family and target that are looked at.
const FAMILY_MAX: usize = 32;

type Connecting = Pin<Box<dyn Future<Output = Tried> + Send>>;

struct Tried {
    address: SocketAddr,
    stream: Result<TcpStream, String>,
    started: Instant,
}

/// Says of an address whether it may be connected to now, and if not, why.
pub type MayConnect<'a> = &'a (dyn Fn(SocketAddr) -> Result<(), String> + Sync);

/// A race of connections to the addresses of one target.
pub(crate) struct Race<'a> {
    target: &'a str,
    may_connect: MayConnect<'a>,
    /// What the addresses must pass; nothing for those that the operator wrote.
    policy: Option<&'a Policy>,
    waiting: VecDeque<SocketAddr>,
    running: FuturesUnordered<Connecting>,
    start_next: Instant,
}

/// Addresses in the order in which they are tried: the families take turns, IPv6 first. Each has
/// its own bound, so that many of one leave none of the other out.
pub(crate) fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (mut six, mut four): (Vec<IpAddr>, Vec<IpAddr>) = Default::default();
    for address in addresses {
        let family = if address.is_ipv6() { &mut six } else { &mut four };
        if family.len() < FAMILY_MAX && !family.contains(address) {
            family.push(*address);
        }
    }
    let mut order = Vec::with_capacity(six.len() + four.len());
    for turn in 0..six.len().max(four.len()) {
        order.extend([six.get(turn), four.get(turn)].into_iter().flatten());
    }
    order
}

/// Connects, if the policy lets it: the last word before a packet leaves.
async fn connect_checked(address: SocketAddr, policy: Option<Policy>) -> Result<TcpStream, String> {
    if let Some(policy) = policy {
        policy.judge(address).map_err(|refused| refused.to_string())?;
    }
    let stream = TcpStream::connect(address).await.map_err(|error| told(&error))?;
    stream.set_nodelay(true).map_err(|error| told(&error))?;
    Ok(stream)
}

/// An error without the number that the system has for it.
fn told(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split_once(" (os error").map_or(&*text, |(plain, _)| plain);
    plain.to_lowercase()
}

impl<'a> Race<'a> {
    pub(crate) fn new(
        target: &'a str,
        policy: Option<&'a Policy>,
        may_connect: MayConnect<'a>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Race<'a> {
        Race {
            target,
            may_connect,
            policy,
            waiting: addresses.into_iter().collect(),
            running: FuturesUnordered::new(),
            start_next: Instant::now(),
        }
    }

    /// How many addresses may still connect.
    pub(crate) fn left(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// The next connection that comes about; nothing when there is none left, or at `until`.
    pub(crate) async fn next(
        &mut self,
        until: Instant,
        steps: &mut Vec<Step>,
    ) -> Option<(TcpStream, SocketAddr)> {
        loop {
            if self.running.is_empty() || Instant::now() >= self.start_next {
                self.start(steps);
            }
            if self.running.is_empty() {
                return None;
            }
            let wake = if self.waiting.is_empty() { until } else { until.min(self.start_next) };
            let tried = tokio::select! {
                tried = self.running.next() => tried,
                () = sleep_until(wake) => None,
            };
            match tried {
                Some(tried) => {
                    if let Some(connected) = self.tell(tried, steps) {
                        return Some(connected);
                    }
                    // A refusal is no reason to wait with the next one.
                    self.start_next = Instant::now();
                }
                None if Instant::now() >= until => {
                    self.give_up(steps);
                    return None;
                }
                None => {}
            }
        }
    }

    /// Starts with the next address that may be connected to.
    fn start(&mut self, steps: &mut Vec<Step>) {
        let address = loop {
            let Some(address) = self.waiting.pop_front() else { return };
            let Err(why) = (self.may_connect)(address) else { break address };
            let what = format!("{address} of {}", self.target);
            steps.push(Step::Skipped { what, why });
        };
        let policy = self.policy.cloned();
        let started = Instant::now();
        self.start_next = started + STAGGER;
        self.running.push(Box::pin(async move {
            Tried { address, stream: connect_checked(address, policy).await, started }
        }));
    }

    fn tell(&self, tried: Tried, steps: &mut Vec<Step>) -> Option<(TcpStream, SocketAddr)> {
        let Tried { address, stream, started } = tried;
        steps.push(Step::Connected {
            target: self.target.to_owned(),
            address,
            error: stream.as_ref().err().cloned(),
            milliseconds: milliseconds(started.elapsed()),
        });
        stream.ok().map(|stream| (stream, address))
    }

    fn give_up(&mut self, steps: &mut Vec<Step>) {
        self.running.clear();
        let what = self.target.to_owned();
        let why = "no connection in the time for this target".to_owned();
        steps.push(Step::Skipped { what, why });
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn families_take_turns_and_duplicates_go() {
        let list = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let order = interleave(&list(&["1.0.0.1", "1.0.0.2", "1.0.0.1", "1.0.0.3", "::2", "::3"]));
        assert_eq!(order, list(&["::2", "1.0.0.1", "::3", "1.0.0.2", "1.0.0.3"]));
    }

    #[test]
    fn f5_many_addresses_of_one_family_leave_none_of_the_other_out() {
        let six = (0..300).map(|n| IpAddr::from([0x2001, 0, 0, 0, 0, 0, 0, n]));
        let four = [IpAddr::from([1, 0, 0, 1])];
        let order = interleave(&six.chain(four).collect::<Vec<_>>());
        assert_eq!((order[1], order.len()), (four[0], FAMILY_MAX + 1));
    }

    fn anywhere(_: SocketAddr) -> Result<(), String> {
        Ok(())
    }

    #[tokio::test]
    async fn what_may_not_be_connected_to_is_passed_over_and_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (live, closed) = (listener.local_addr().unwrap(), dead().await);
        let may = |address| if address == live { Ok(()) } else { Err("not now".to_owned()) };
        let mut steps = Vec::new();
        let mut race = Race::new("b.example:1", None, &may, [closed, live]);
        assert_eq!(race.next(soon(), &mut steps).await.unwrap().1, live);
        assert_eq!(steps[0].to_string(), format!("skipped {closed} of b.example:1: not now"));
        let may = |_| Err("not now".to_owned());
        let mut race = Race::new("b.example:1", None, &may, [closed, live]);
        assert!(race.next(soon(), &mut steps).await.is_none());
    }

    async fn dead() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn the_next_address_is_tried_at_once_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let mut steps = Vec::new();
        let mut race =
            Race::new("b.example:1", None, &anywhere, [dead().await, dead().await, live, live]);
        let (_stream, address) = race.next(soon(), &mut steps).await.unwrap();
        assert_eq!((address, steps.len()), (live, 3));
        assert!(race.next(soon(), &mut steps).await.is_some(), "the rest is still there");
        assert!(race.next(soon(), &mut steps).await.is_none());
    }

    #[tokio::test]
    async fn f7_an_address_is_judged_again_when_it_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let policy = Policy::default();
        let mut steps = Vec::new();
        let mut race = Race::new("b.example:1", Some(&policy), &anywhere, [live]);
        assert!(race.next(soon(), &mut steps).await.is_none());
        assert!(steps[0].to_string().contains("a loopback address is refused"), "{steps:?}");
    }
}
