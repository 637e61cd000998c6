//! How often an address is connected to in vain: whoever writes a domain's records names it, and
//! many domains may name somebody who has nothing to do with any of them.
//!
//! Connecting, and what proves a server, are left to whoever dials.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use impp_protocol::hashing::HashMap;
use impp_protocol::{Domain, Timestamp};

/// For so long a connection counts that proved nobody.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses with their ports that are remembered. When they are more, those with the fewest and
/// oldest connections are forgotten: whom very many domains name is among the last.
pub const ADDRESSES_MAX: usize = 8192;

/// Servers that have proven themselves are remembered, so many pairs of a domain and an address; the
/// oldest proof is forgotten first.
pub const PROVEN_MAX: usize = 8192;
/// Connections to an address that proved to be the domain's which do not count, until it proves it
/// again: whoever names that address as well does not keep the domain from being reached.
pub const PROVEN_TRIES: u32 = 16;

/// So many are left when some are forgotten, so that it is not done for each new one.
const KEPT: usize = ADDRESSES_MAX / 8 * 7;

/// The connections of the last while that have not led to a proven server, by address and port. One
/// that is just being made counts, until it is said to be [`proven`](Unproven::proven).
#[derive(Debug, Default)]
pub struct Unproven {
    /// When they were made, the oldest first.
    connects: HashMap<SocketAddr, VecDeque<Timestamp>>,
    /// Who has proven to be whose server, when, and how many connections do not count because of it.
    proven: HashMap<(Domain, SocketAddr), (Timestamp, u32)>,
}

/// An address was connected to too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// So often.
    pub most: usize,
    /// For so long it is left alone.
    pub rest: Duration,
}

impl fmt::Display for TooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most, seconds) = (self.most, self.rest.as_millis().div_ceil(1000));
        write!(f, "{most} connections there within a minute have proven no server, and that is ")?;
        write!(f, "the most; it is left alone for {seconds} s")
    }
}

impl Unproven {
    /// An address is to be connected to as a domain's; `most` within [`WINDOW`] may prove nobody.
    ///
    /// # Errors
    /// It was connected to so often.
    pub fn connect(
        &mut self,
        now: Timestamp,
        domain: &Domain,
        address: SocketAddr,
        most: usize,
    ) -> Result<(), TooOften> {
        let address = canonical(address);
        if let Some((_, tries)) = self.proven.get_mut(&(domain.clone(), address))
            && *tries > 0
        {
            *tries -= 1;
            return Ok(());
        }
        if self.connects.len() >= ADDRESSES_MAX && !self.connects.contains_key(&address) {
            self.make_room(now);
        }
        let made = self.connects.entry(address).or_default();
        while made.front().is_some_and(|at| at.after(WINDOW) <= now) {
            made.pop_front();
        }
        if made.len() >= most
            && let Some(next) = made.get(made.len() - most.max(1))
        {
            return Err(TooOften { most, rest: next.after(WINDOW).since(now) });
        }
        made.push_back(now);
        Ok(())
    }

    /// The connection that was made to an address at a time has led to a server that proved to be its
    /// domain's: its place is there for another.
    pub fn proven(&mut self, domain: &Domain, address: SocketAddr, made_at: Timestamp) {
        let address = canonical(address);
        self.remember(domain, address, made_at);
        let Some(made) = self.connects.get_mut(&address) else { return };
        if let Some(place) = made.iter().position(|at| *at == made_at) {
            made.remove(place);
        }
        if made.is_empty() {
            self.connects.remove(&address);
        }
    }

    fn remember(&mut self, domain: &Domain, address: SocketAddr, now: Timestamp) {
        let pair = (domain.clone(), address);
        if self.proven.len() >= PROVEN_MAX && !self.proven.contains_key(&pair) {
            let oldest = self.proven.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(pair, _)| pair.clone()) {
                self.proven.remove(&oldest);
            }
        }
        self.proven.insert(pair, (now, PROVEN_TRIES));
    }

    fn make_room(&mut self, now: Timestamp) {
        self.connects.retain(|_, made| made.back().is_some_and(|at| at.after(WINDOW) > now));
        let over = self.connects.len().saturating_sub(KEPT);
        if over == 0 {
            return;
        }
        let by_use = |(address, made): (&SocketAddr, &VecDeque<Timestamp>)| {
            (made.len(), made.back().copied(), *address)
        };
        let mut least: Vec<_> = self.connects.iter().map(by_use).collect();
        least.select_nth_unstable(over - 1);
        for (_, _, address) in &least[..over] {
            self.connects.remove(address);
        }
    }
}

/// One host, however its address is written.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 10;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + seconds * 1000)
    }

    fn domain() -> Domain {
        Domain::parse("proven.example").unwrap()
    }

    /// One that has never proven anything.
    fn any() -> Domain {
        Domain::parse("any.example").unwrap()
    }

    fn host(n: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 2778))
    }

    #[test]
    fn f5_ten_in_a_minute_then_rest_until_the_first_is_a_minute_old() {
        let mut unproven = Unproven::default();
        for second in 0..10 {
            assert_eq!(unproven.connect(at(second), &any(), host(1), MOST), Ok(()));
        }
        let rest = |seconds| Err(TooOften { most: MOST, rest: Duration::from_secs(seconds) });
        assert_eq!(unproven.connect(at(10), &any(), host(1), MOST), rest(50));
        assert_eq!(unproven.connect(at(10), &any(), host(2), MOST), Ok(()));
        assert_eq!(unproven.connect(at(59), &any(), host(1), MOST), rest(1));
        assert_eq!(unproven.connect(at(60), &any(), host(1), MOST), Ok(()));
        assert_eq!(unproven.connect(at(60), &any(), host(1), MOST), rest(1));
        // The ports of a host are others', and its spellings are not.
        let port = SocketAddr::new(host(1).ip(), 1);
        assert_eq!(unproven.connect(at(60), &any(), port, MOST), Ok(()));
        let spelled = "[::ffff:10.0.0.1]:2778".parse().unwrap();
        assert_eq!(unproven.connect(at(60), &any(), spelled, MOST), rest(1));
        // A smaller number holds at once.
        assert_eq!(
            unproven.connect(at(60), &any(), host(1), 1),
            rest(60).map_err(|_| TooOften { most: 1, rest: Duration::from_secs(60) })
        );
    }

    #[test]
    fn f5_what_is_proven_gives_its_place_back() {
        let mut unproven = Unproven::default();
        for _ in 0..1000 {
            unproven.connect(at(0), &any(), host(1), MOST).unwrap();
            unproven.proven(&domain(), host(1), at(0));
        }
        assert!(unproven.connects.is_empty());
        unproven.proven(&domain(), host(1), at(0));
        for _ in 0..MOST {
            unproven.connect(at(1), &any(), host(1), MOST).unwrap();
        }
        assert!(unproven.connect(at(1), &any(), host(1), MOST).is_err());
        // One that does not count any more gives nothing.
        unproven.proven(&domain(), host(1), at(0));
        assert!(unproven.connect(at(1), &any(), host(1), MOST).is_err());
        unproven.proven(&domain(), host(1), at(1));
        assert_eq!(unproven.connect(at(1), &any(), host(1), MOST), Ok(()));
    }

    /// Whoever names another's server as its own keeps nobody from reaching that.
    #[test]
    fn f5_who_has_proven_itself_is_not_left_alone_for_what_others_say() {
        let mut unproven = Unproven::default();
        let spelled = "[::ffff:10.0.0.1]:2778".parse().unwrap();
        unproven.connect(at(0), &domain(), host(1), MOST).unwrap();
        unproven.proven(&domain(), spelled, at(0));
        for _ in 0..MOST {
            unproven.connect(at(1), &any(), host(1), MOST).unwrap();
        }
        assert!(unproven.connect(at(1), &any(), host(1), MOST).is_err());
        for _ in 0..PROVEN_TRIES {
            assert_eq!(unproven.connect(at(1), &domain(), host(1), MOST), Ok(()));
        }
        // Not for ever: an address that has changed hands is another's.
        assert!(unproven.connect(at(1), &domain(), host(1), MOST).is_err());
        assert!(unproven.connect(at(1), &domain(), host(2), MOST).is_ok());
        // The proofs that are remembered are bounded.
        for n in 0..20_000 {
            unproven.proven(&domain(), host(n), at(u64::from(n)));
        }
        assert_eq!(unproven.proven.len(), PROVEN_MAX);
    }

    #[test]
    fn f5_the_table_is_bounded_and_whom_many_name_is_not_forgotten() {
        let mut unproven = Unproven::default();
        for _ in 0..MOST {
            unproven.connect(at(0), &any(), host(0), MOST).unwrap();
        }
        for n in 1..100_000 {
            assert_eq!(unproven.connect(at(u64::from(n) / 10_000), &any(), host(n), MOST), Ok(()));
            assert!(unproven.connects.len() <= ADDRESSES_MAX);
        }
        assert!(unproven.connect(at(10), &any(), host(0), MOST).is_err());
        // What is too old makes room before anything else does.
        for n in 0..ADDRESSES_MAX as u32 {
            unproven.connect(at(100), &any(), host(200_000 + n), MOST).unwrap();
        }
        assert_eq!(unproven.connects.len(), ADDRESSES_MAX);
    }

    /// Whatever is tried and proven in whatever order: of the connections to one address that began
    /// within one minute, no more than the limit prove nobody.
    #[test]
    fn f5_no_minute_has_more_that_prove_nobody() {
        let mut random: u64 = 7;
        let mut dice = |max: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % max
        };
        for _ in 0..50 {
            let (mut unproven, mut now) = (Unproven::default(), 0);
            let (mut open, mut vain): (Vec<u64>, Vec<u64>) = Default::default();
            for _ in 0..400 {
                now += dice(5);
                match dice(4) {
                    0 if !open.is_empty() => {
                        let made = open.swap_remove(dice(open.len() as u64) as usize);
                        unproven.proven(&domain(), host(1), at(made));
                    }
                    1 if !open.is_empty() => {
                        vain.push(open.swap_remove(dice(open.len() as u64) as usize));
                    }
                    _ => open.extend(
                        unproven.connect(at(now), &any(), host(1), MOST).is_ok().then_some(now),
                    ),
                }
            }
            vain.sort_unstable();
            let crowded = vain.windows(MOST + 1).find(|some| some[MOST] - some[0] < 60);
            assert_eq!(crowded, None);
        }
    }
}
