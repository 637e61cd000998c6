//! Which peers the log has just complained of: one line for each in a minute.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use impp_protocol::Timestamp;
use impp_protocol::hashing::HashMap;

use super::admission::source_of;

/// How long a source is not complained of again.
const QUIET: Duration = Duration::from_secs(60);
/// Sources remembered at most; beyond that nobody new is complained of for the while.
const SOURCES_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Mutex<HashMap<IpAddr, Timestamp>>,
}

impl Complaints {
    /// Whether a line about this peer may be written now.
    pub fn may_complain(&self, peer: IpAddr, now: Timestamp) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= SOURCES_MAX {
            last.retain(|_, at| now.since(*at) < QUIET);
        }
        let source = source_of(peer);
        if last.get(&source).is_some_and(|at| now.since(*at) < QUIET) {
            return false;
        }
        let room = last.len() < SOURCES_MAX || last.contains_key(&source);
        if room {
            last.insert(source, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_one_line_a_minute_for_each_source_and_bounded_in_all() {
        let complaints = Complaints::default();
        let at = |secs: u64| Timestamp::from_millis(1_000_000 + secs * 1000);
        let peer = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
        assert!(complaints.may_complain(peer(1), at(0)));
        assert!(!complaints.may_complain(peer(1), at(59)));
        assert!(complaints.may_complain(peer(1), at(60)));
        let told = (2..5000).filter(|n| complaints.may_complain(peer(*n), at(61))).count();
        assert_eq!(told, SOURCES_MAX - 1);
        assert!(complaints.may_complain(peer(4999), at(200)));
    }
}
