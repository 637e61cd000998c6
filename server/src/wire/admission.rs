//! Who may connect: bounds on connections that have not signed in, in total and by address.
//!
//! Accepting and closing is left to `listen`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use impp_protocol::hashing::HashMap;

/// Counts connections that have not signed in.
#[derive(Debug, Default)]
pub struct Admission {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    total: u64,
    by_source: HashMap<IpAddr, u64>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// Too many connections have not signed in.
    #[error("too many have not signed in")]
    Total,
    /// Too many of them come from this address.
    #[error("too many from this address have not signed in")]
    Source,
    /// The descriptors that are left are kept for others.
    #[error("too many files are open")]
    Descriptors,
}

/// A place among the connections that have not signed in; given back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl Admission {
    /// Takes a place for a connection from `address`.
    ///
    /// # Errors
    /// [`Crowded`] if a bound is reached.
    pub fn enter(
        self: &Arc<Admission>,
        address: IpAddr,
        total_max: u64,
        per_source_max: u64,
    ) -> Result<Place, Crowded> {
        let source = source_of(address);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.total >= total_max {
            return Err(Crowded::Total);
        }
        let count = waiting.by_source.entry(source).or_default();
        if *count >= per_source_max {
            return Err(Crowded::Source);
        }
        *count += 1;
        waiting.total += 1;
        Ok(Place { admission: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.admission.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.total -= 1;
        if let Some(count) = waiting.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                waiting.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, however written, or an IPv6 /64.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b9_places_are_bounded_by_source_and_in_total_and_given_back() {
        let admission = Arc::new(Admission::default());
        let enter = |text: &str| admission.enter(text.parse().unwrap(), 3, 2);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Crowded::Source);
        let _third = enter("2001:db8:0:1::3").unwrap();
        assert_eq!(enter("127.0.0.1").unwrap_err(), Crowded::Total);
        drop(first);
        assert!(enter("::ffff:127.0.0.1").is_ok());
        assert_eq!(source_of("::ffff:127.0.0.1".parse().unwrap()).to_string(), "127.0.0.1");
    }
}
