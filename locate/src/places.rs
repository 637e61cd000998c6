//! Which addresses one search connects to: each once, so many in all, and each server its part of
//! them: pure.
//!
//! In which order servers come is left to `srv`, the order of one server's addresses to `connect`.

use std::collections::HashSet;
use std::net::SocketAddr;

/// Addresses with their ports that one search connects to at most: whoever writes a domain's
/// records decides whom we connect to, and it may be somebody else.
pub const CONNECTS_MAX: usize = 16;

/// The places of one search, and who has them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: HashSet<SocketAddr>,
}

/// What became of the addresses of one server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// They have places.
    pub(crate) taken: Vec<SocketAddr>,
    /// They wait for places that others do not need.
    pub(crate) waiting: Vec<SocketAddr>,
    /// They had places already.
    pub(crate) known: Vec<SocketAddr>,
}

impl Places {
    /// Gives places to the addresses of the first of `parts` servers that have none yet: its part of
    /// those that are left. Whoever comes last so finds as many as the first, and what one does not
    /// need is there for the next.
    pub(crate) fn share(&mut self, addresses: &[SocketAddr], parts: usize) -> Share {
        self.take(addresses, self.left().div_ceil(parts.max(1)))
    }

    /// Gives places that nobody has needed; `later` ways that come after keep theirs.
    pub(crate) fn share_rest(&mut self, addresses: &[SocketAddr], later: usize) -> Share {
        self.take(addresses, self.left() / (later + 1))
    }

    fn left(&self) -> usize {
        CONNECTS_MAX.saturating_sub(self.taken.len())
    }

    fn take(&mut self, addresses: &[SocketAddr], mut room: usize) -> Share {
        let mut share = Share::default();
        for address in addresses {
            // One host, however it is written.
            let place = SocketAddr::new(address.ip().to_canonical(), address.port());
            if self.taken.contains(&place) {
                share.known.push(*address);
            } else if room == 0 {
                share.waiting.push(*address);
            } else {
                room -= 1;
                self.taken.insert(place);
                share.taken.push(*address);
            }
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of the nth server.
    fn of(server: u8, many: usize) -> Vec<SocketAddr> {
        (0..many).map(|n| SocketAddr::from(([10, 0, server, n as u8], 2778))).collect()
    }

    /// How many of each server's addresses have places, in two rounds as in a search.
    fn shares(servers: &[usize]) -> Vec<usize> {
        let mut places = Places::default();
        let first =
            |(n, many): (usize, &usize)| places.share(&of(n as u8, *many), servers.len() - n);
        let first: Vec<Share> = servers.iter().enumerate().map(first).collect();
        let mut taken: Vec<usize> = first.iter().map(|share| share.taken.len()).collect();
        for (n, share) in first.iter().enumerate() {
            taken[n] += places.share_rest(&share.waiting, 0).taken.len();
        }
        assert!(places.taken.len() <= CONNECTS_MAX);
        taken
    }

    #[test]
    fn f5_a_server_with_very_many_addresses_crowds_out_no_other() {
        assert_eq!(shares(&[300, 1]), [15, 1]);
        assert_eq!(shares(&[300, 300, 300]), [6, 5, 5]);
        assert_eq!(shares(&[300, 1, 1, 1, 1, 1, 1, 1]), [9, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(shares(&[6; 8]), [2; 8]);
        assert_eq!(shares(&[1; 30])[..], [[1; 16].as_slice(), &[0; 14]].concat());
    }

    #[test]
    fn f5_each_has_its_fair_part_and_none_is_left_while_somebody_waits() {
        for a in 0..12 {
            for b in 0..12 {
                for c in 0..12 {
                    let asked = [a, b, c];
                    let taken = shares(&asked);
                    assert_eq!(taken.iter().sum::<usize>(), (a + b + c).min(CONNECTS_MAX));
                    let fair = CONNECTS_MAX / 3;
                    let has = taken.iter().zip(asked).all(|(has, asked)| *has >= asked.min(fair));
                    assert!(has, "{asked:?}: {taken:?}");
                }
            }
        }
    }

    #[test]
    fn f6_what_is_tried_later_keeps_a_place() {
        let mut places = Places::default();
        let first: Vec<Share> = (0..8).map(|n| places.share(&of(n, 6), 9 - n as usize)).collect();
        for share in first {
            places.share_rest(&share.waiting, 1);
        }
        assert_eq!(places.share(&of(8, 6), 1).taken.len(), 1);
    }

    #[test]
    fn an_address_is_taken_once_whoever_leads_there_and_however_it_is_written() {
        let mut places = Places::default();
        let (four, six) = ("10.0.0.1:7".parse().unwrap(), "[::ffff:10.0.0.1]:7".parse().unwrap());
        assert_eq!(places.share(&[four], 2).taken, [four]);
        let share = places.share(&[six, four], 1);
        assert_eq!((share.taken.len(), share.known), (0, vec![six, four]));
        let other = "10.0.0.1:8".parse().unwrap();
        assert_eq!(places.share(&[other], 1).taken, [other]);
    }
}
