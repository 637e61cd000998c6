//! What two domains have together: which link, what is to be asked over it, how many followers, how
//! many bytes.

use std::collections::BTreeSet;

use impp_presence::LinkId;
use impp_presence::followed::MirrorKey;
use impp_protocol::{Address, Domain};

use super::Mirrors;

/// Our domain and another.
pub(super) type Pair = (Domain, Domain);

/// What two domains have together.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub link: Option<LinkId>,
    pub presentities: BTreeSet<Address>,
    /// Those with something to ask.
    pub asks: BTreeSet<Address>,
    pub total: Counted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub followers: usize,
    /// Presentities that somebody here wants to follow.
    pub wanted: usize,
    pub bytes: usize,
}

impl Counted {
    /// One mirror counted before as the one, and does as the other.
    pub(super) fn change(&mut self, before: Counted, after: Counted) {
        let change = |all: &mut usize, before: usize, after| {
            *all = all.saturating_sub(before) + after;
        };
        change(&mut self.followers, before.followers, after.followers);
        change(&mut self.wanted, before.wanted, after.wanted);
        change(&mut self.bytes, before.bytes, after.bytes);
    }
}

impl Peer {
    pub(super) fn is_idle(&self) -> bool {
        self.link.is_none() && self.presentities.is_empty()
    }
}

pub(super) fn pair(key: &MirrorKey) -> Pair {
    (key.local.clone(), key.presentity.domain())
}

impl Mirrors {
    /// Whether the mirror was forgotten and made anew in between: it may have something to ask.
    pub(super) fn account(
        &self,
        key: &MirrorKey,
        before: Counted,
        after: Counted,
        asks: bool,
    ) -> bool {
        if before == after && !asks && after.followers > 0 {
            return false;
        }
        let gone = !self.mirrors.contains_key(key);
        let mut peer = self.peers.entry(pair(key)).or_default();
        peer.total.change(before, after);
        if asks {
            peer.asks.insert(key.presentity.clone());
        }
        if gone {
            peer.presentities.remove(&key.presentity);
            peer.asks.remove(&key.presentity);
        } else {
            peer.presentities.insert(key.presentity.clone());
        }
        drop(peer);
        let anew = gone && self.mirrors.contains_key(key);
        if anew {
            let mut peer = self.peers.entry(pair(key)).or_default();
            peer.presentities.insert(key.presentity.clone());
            peer.asks.insert(key.presentity.clone());
        }
        self.peers.remove_if(&pair(key), |_, peer| peer.is_idle());
        anew
    }
}
