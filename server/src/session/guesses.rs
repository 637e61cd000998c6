//! How often somebody may guess passwords. Whoever fails to sign in makes the next try wait: the name,
//! whether or not it exists, the address it came from and the network around that, each for itself.
//!
//! A device that has proven the password before does not wait for what others have done: it has a
//! count of its own. It is known before its proof by its id, sixteen random octets that are sent in TLS
//! only: nobody guesses them, and they are told to nobody but the account's own devices. So they are a
//! token that costs the client nothing new, and removing the device takes it away. An address would be
//! none: those who guess sit behind the same one at times, and the owner changes it.
//!
//! Pure: the time comes in. Whether a device is known is left to whoever asks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, DeviceId, Timestamp};
use parking_lot::Mutex;

use crate::wire::admission::{network_of, source_of};

/// A failure counts for so long, and each further one for so much longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Failures more than these, that are free, count no further: the wait has been the longest by then.
const COUNTED_MAX: u32 = 12;
/// What is remembered of names, as much of addresses, of networks and of devices. When it is full,
/// what is forgotten soonest makes room.
const GUESSED_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub struct Guesses {
    tables: Mutex<[Table; 4]>,
}

/// A try, by all that it counts for.
#[derive(Clone, Debug)]
pub struct Guess(Vec<Who>);

/// What failures are counted of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Name(Address),
    Source(IpAddr),
    Network(IpAddr),
    Device(Address, DeviceId),
}

#[derive(Debug, Default)]
struct Table {
    failed: HashMap<Who, Failed>,
    /// The same, by when they are forgotten.
    ends: BTreeSet<(Timestamp, Who)>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    /// When nothing of it counts any more.
    forgotten: Timestamp,
    /// The last one: the wait begins there.
    at: Timestamp,
    /// How long the wait would be if nothing bounded it.
    wait: Duration,
}

impl Guess {
    /// Of whoever says that it is `name`.
    pub fn new(name: &Address, from: IpAddr) -> Guess {
        let network = match network_of(from) {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) >> 8 << 8)),
            v6 => v6,
        };
        Guess(vec![Who::Name(name.clone()), Who::Source(source_of(from)), Who::Network(network)])
    }

    /// Of a device that has proven the password of `name` before.
    pub fn known(name: &Address, device: DeviceId) -> Guess {
        Guess(vec![Who::Device(name.clone(), device)])
    }

    /// Whether it is one of these.
    pub fn is_of_device(&self) -> bool {
        matches!(*self.0, [Who::Device(..)])
    }
}

impl Who {
    fn table(&self) -> usize {
        match self {
            Who::Name(_) => 0,
            Who::Source(_) => 1,
            Who::Network(_) => 2,
            Who::Device(..) => 3,
        }
    }

    /// Failures that cost no waiting: people mistype, and many of them share an address.
    fn free(&self) -> u32 {
        match self {
            Who::Name(_) | Who::Device(..) => 3,
            Who::Source(_) => 10,
            Who::Network(_) => 50,
        }
    }
}

impl Guesses {
    /// How long such a try has to wait, `longest` at most; `None` if it may be made now.
    pub fn wait(&self, now: Timestamp, guess: &Guess, longest: Duration) -> Option<Duration> {
        wait(&self.tables.lock(), now, guess, longest)
    }

    /// Takes a try, which counts as one that fails until it is [given back](Guesses::succeeded): so
    /// many at once get no further than one after the other. `longest` bounds the wait behind it.
    ///
    /// # Errors
    /// How long it has to wait, and nothing is counted.
    pub fn take(&self, now: Timestamp, guess: &Guess, longest: Duration) -> Result<(), Duration> {
        let mut tables = self.tables.lock();
        if let Some(wait) = wait(&tables, now, guess, longest) {
            return Err(wait);
        }
        if longest.is_zero() {
            return Ok(());
        }
        for who in &guess.0 {
            tables[who.table()].fail(now, who);
        }
        Ok(())
    }

    /// The try was none that failed. What failed before goes on counting: else whoever has one
    /// password could guess others without an end.
    pub fn succeeded(&self, now: Timestamp, guess: &Guess) {
        let mut tables = self.tables.lock();
        for who in &guess.0 {
            tables[who.table()].give_back(now, who);
        }
    }
}

fn wait(tables: &[Table; 4], now: Timestamp, guess: &Guess, longest: Duration) -> Option<Duration> {
    let until = |who: &Who| {
        let failed = tables[who.table()].failed.get(who)?;
        // As it is bounded now, whatever it was then.
        Some(failed.at.after(failed.wait.min(longest)))
    };
    let until = guess.0.iter().filter_map(until).max()?;
    (until > now).then(|| until.since(now))
}

impl Table {
    fn fail(&mut self, now: Timestamp, who: &Who) {
        let before = self.take(who).map_or(now, |failed| failed.forgotten.max(now));
        let most = now.after(FORGOTTEN_AFTER * (who.free() + COUNTED_MAX));
        let forgotten = before.after(FORGOTTEN_AFTER).min(most);
        let wait = delay(count(now, forgotten), who.free());
        self.put(now, who, Failed { forgotten, at: now, wait });
    }

    fn give_back(&mut self, now: Timestamp, who: &Who) {
        if let Some(Failed { forgotten, .. }) = self.take(who) {
            let forgotten = forgotten.before(FORGOTTEN_AFTER);
            if forgotten > now {
                self.put(now, who, Failed { forgotten, at: now, wait: Duration::ZERO });
            }
        }
    }

    fn take(&mut self, who: &Who) -> Option<Failed> {
        let failed = self.failed.remove(who)?;
        self.ends.remove(&(failed.forgotten, who.clone()));
        Some(failed)
    }

    fn put(&mut self, now: Timestamp, who: &Who, failed: Failed) {
        while let Some((end, _)) = self.ends.first()
            && (*end <= now || self.failed.len() >= GUESSED_MAX)
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.failed.remove(&first);
        }
        self.ends.insert((failed.forgotten, who.clone()));
        self.failed.insert(who.clone(), failed);
    }
}

/// Failures that still count.
fn count(now: Timestamp, forgotten: Timestamp) -> u32 {
    let left = forgotten.since(now).as_millis();
    u32::try_from(left.div_ceil(FORGOTTEN_AFTER.as_millis())).unwrap_or(u32::MAX)
}

/// The wait behind so many failures: none for the free ones, then a second, and twice as long each
/// time.
fn delay(failures: u32, free: u32) -> Duration {
    match failures.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
    }

    fn of(name: &str, from: &str) -> Guess {
        let address = format!("{name}@a.example").parse().unwrap();
        Guess::new(&address, from.parse().unwrap())
    }

    /// Tries as soon as it may until `end`: how often, and the longest wait.
    fn patient(
        guesses: &Guesses,
        start: u64,
        end: u64,
        guess: impl Fn(u64) -> Guess,
    ) -> (u64, u64) {
        let (mut now, mut tries, mut longest) = (start, 0, 0);
        while now < end {
            match guesses.take(at(now), &guess(tries), LONGEST) {
                Ok(()) => tries += 1,
                Err(wait) => {
                    longest = longest.max(wait.as_secs());
                    now += wait.as_secs();
                }
            }
        }
        (tries, longest)
    }

    #[test]
    fn c7_a_name_is_guessed_more_and_more_slowly_from_wherever() {
        let guesses = Guesses::default();
        let from = |n: u64| of("alice", &format!("10.{}.{}.1", n / 250, n % 250));
        let (tries, longest) = patient(&guesses, 0, 3600, from);
        // Three for nothing, six until the wait is 60 s, and one a minute.
        assert!((60..=70).contains(&tries), "{tries}");
        assert_eq!(longest, 60);
        // Others are not concerned.
        assert_eq!(guesses.wait(at(3600), &of("bob", "10.99.0.1"), LONGEST), None);
        // What was done is forgotten, if not at once.
        assert!(guesses.take(at(3660), &from(9999), LONGEST).is_ok());
        assert!(guesses.wait(at(3661), &from(9998), LONGEST).is_some());
        assert_eq!(guesses.wait(at(3660 + 3 * 3600), &from(9998), LONGEST), None);
    }

    #[test]
    fn c7_an_address_and_its_network_guess_more_and_more_slowly_whomever() {
        let guesses = Guesses::default();
        let (tries, longest) = patient(&guesses, 0, 3600, |n| of(&format!("u{n}"), "10.0.0.1"));
        assert!((60..=80).contains(&tries), "{tries}");
        assert_eq!(longest, 60);
        let guesses = Guesses::default();
        let near = |n: u64| of(&format!("u{n}"), &format!("10.0.0.{}", n % 250));
        assert!(patient(&guesses, 0, 3600, near).0 <= 120);
        let guesses = Guesses::default();
        let six = |n: u64| of(&format!("u{n}"), &format!("2001:db8:1:{n:x}::1"));
        assert!(patient(&guesses, 0, 3600, six).0 <= 120);
        assert_eq!(guesses.wait(at(3600), &of("alice", "2001:db8:2::1"), LONGEST), None);
    }

    #[test]
    fn c7_a_known_device_waits_for_its_own_failures_alone() {
        let guesses = Guesses::default();
        while guesses.take(at(0), &of("alice", "10.0.0.1"), LONGEST).is_ok() {}
        let alice = "alice@a.example".parse().unwrap();
        let own = Guess::known(&alice, DeviceId([1; 16]));
        for _ in 0..100 {
            assert_eq!(guesses.take(at(0), &own, LONGEST), Ok(()));
            guesses.succeeded(at(0), &own);
        }
        assert_eq!((0..9).filter(|_| guesses.take(at(0), &own, LONGEST).is_ok()).count(), 4);
        assert_eq!(guesses.wait(at(0), &Guess::known(&alice, DeviceId([2; 16])), LONGEST), None);
    }

    #[test]
    fn c7_who_succeeds_has_forgotten_nothing_but_this_try() {
        let guesses = Guesses::default();
        let alice = of("alice", "10.0.0.1");
        for _ in 0..3 {
            guesses.take(at(0), &alice, LONGEST).unwrap();
        }
        guesses.take(at(0), &alice, LONGEST).unwrap();
        guesses.succeeded(at(0), &alice);
        guesses.take(at(0), &alice, LONGEST).unwrap();
        assert_eq!(guesses.take(at(0), &alice, LONGEST), Err(Duration::from_secs(1)));
    }

    #[test]
    fn c7_what_is_remembered_is_bounded_and_the_worst_is_remembered_longest() {
        let guesses = Guesses::default();
        while guesses.take(at(0), &of("alice", "10.0.0.1"), LONGEST).is_ok() {}
        for n in 0..50_000_u32 {
            let from = Ipv4Addr::from(0x0b00_0000 + n * 256).to_string();
            let _ = guesses.take(at(0), &of(&format!("u{n}"), &from), LONGEST);
        }
        let tables = guesses.tables.lock();
        assert!(tables.iter().all(|table| table.failed.len() <= GUESSED_MAX));
        assert!(tables.iter().all(|table| table.failed.len() == table.ends.len()));
        drop(tables);
        assert!(guesses.wait(at(0), &of("alice", "10.9.9.9"), LONGEST).is_some());
    }

    #[test]
    fn c7_a_bound_that_is_lowered_shortens_waits_that_have_begun() {
        let guesses = Guesses::default();
        let (alice, hour) = (of("alice", "10.0.0.1"), Duration::from_secs(512));
        let mut now = 0;
        while guesses.wait(at(now), &alice, hour).is_none_or(|wait| wait.as_secs() < 400) {
            match guesses.take(at(now), &alice, hour) {
                Ok(()) => {}
                Err(wait) => now += wait.as_secs(),
            }
        }
        assert_eq!(guesses.wait(at(now), &alice, LONGEST), Some(LONGEST));
        assert_eq!(guesses.wait(at(now), &alice, Duration::ZERO), None);
    }
}
