//! What the links are asked, and what comes over them.

use impp_presence::LinkId;
use impp_presence::followed::{Effects, Mirror, MirrorKey};
use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::{Address, Domain, Error, Timestamp};

use super::shared::pair;
use super::{Mirrors, terms};

impl Mirrors {
    /// A link is open. What was asked and said over another one counts no more.
    pub fn link_up(&self, local: &Domain, remote: &Domain, link: LinkId) {
        self.relink(local, remote, Some(link));
    }

    /// The link is gone, if it is this one.
    pub fn link_down(&self, local: &Domain, remote: &Domain, link: LinkId) {
        let current = self.peers.get(&(local.clone(), remote.clone())).and_then(|peer| peer.link);
        if current == Some(link) {
            self.relink(local, remote, None);
        }
    }

    /// The next requests for the other domain, at most `max`. Each is answered by
    /// [`Mirrors::answered`], or the link goes.
    pub fn next_requests(
        &self,
        local: &Domain,
        remote: &Domain,
        link: LinkId,
        max: usize,
    ) -> Vec<(MirrorKey, Address, Subscribe)> {
        let (terms, now) = (terms(&self.ground.settings.load()), self.ground.clock.now());
        let mut requests = Vec::new();
        while requests.len() < max {
            let pair = (local.clone(), remote.clone());
            let next = self.peers.get_mut(&pair).and_then(|mut peer| match peer.link {
                // What another link has to ask is left to that.
                Some(kept) if kept == link => peer.asks.pop_first(),
                _ => None,
            });
            let Some(presentity) = next else { break };
            let key = MirrorKey { local: local.clone(), presentity };
            let Some(mut slot) = self.mirrors.get_mut(&key) else { continue };
            let asked = slot.mirror.requests(now, max - requests.len(), terms);
            let more = slot.mirror.asks(now, terms);
            drop(slot);
            if more && let Some(mut peer) = self.peers.get_mut(&pair) {
                peer.asks.insert(key.presentity.clone());
            }
            let stuck = asked.is_empty() && more;
            requests.extend(asked.into_iter().map(|(watcher, ask)| (key.clone(), watcher, ask)));
            if stuck {
                break;
            }
        }
        requests
    }

    /// The home has answered what it was asked over this link.
    pub fn answered(
        &self,
        link: LinkId,
        key: &MirrorKey,
        watcher: &Address,
        result: Result<Done, Error>,
    ) {
        let terms = terms(&self.ground.settings.load());
        self.hear(link, key, |mirror, now| mirror.answered(now, watcher, result, terms));
    }

    /// The home says something unasked over this link.
    pub fn notified(&self, link: LinkId, local: &Domain, notify: &Notify) {
        let (local, presentity) = (local.clone(), notify.address.clone());
        let key = MirrorKey { local, presentity };
        let settings = self.ground.settings.load();
        let (most, terms) = (settings.federation.presence_bytes_max as usize, terms(&settings));
        let bytes = self.peers.get(&pair(&key)).map_or(0, |peer| peer.total.bytes);
        let room = most.saturating_sub(bytes);
        self.hear(link, &key, |mirror, now| mirror.notified(now, notify, terms, room));
    }

    /// The other domain does not exist, or serves no presence: who waits for its first answer gets
    /// this one. That it cannot be reached just now is nothing to say here.
    pub fn unreachable(&self, local: &Domain, remote: &Domain, error: &Error) {
        for presentity in self.presentities(local, remote) {
            let key = MirrorKey { local: local.clone(), presentity };
            let told = self.apply(&key, |mirror, now| ((), mirror.unreachable(now, error)));
            self.store_later(told.and_then(|((), stored)| stored));
        }
    }

    fn presentities(&self, local: &Domain, remote: &Domain) -> Vec<Address> {
        let peer = self.peers.get(&(local.clone(), remote.clone()));
        peer.map(|peer| peer.presentities.iter().cloned().collect()).unwrap_or_default()
    }

    fn relink(&self, local: &Domain, remote: &Domain, link: Option<LinkId>) {
        self.peers.entry((local.clone(), remote.clone())).or_default().link = link;
        for presentity in self.presentities(local, remote) {
            let key = MirrorKey { local: local.clone(), presentity };
            self.sync_link(&key);
        }
        let pair = (local.clone(), remote.clone());
        self.peers.remove_if(&pair, |_, peer| peer.is_idle());
    }

    /// Tells a mirror of its link, if it has not heard of it.
    pub(super) fn sync_link(&self, key: &MirrorKey) {
        let terms = terms(&self.ground.settings.load());
        let applied = self.apply_slot(key, None, |slot, now| {
            // Looked at only now, so that no older link comes after a newer one.
            let link = self.peers.get(&pair(key)).and_then(|peer| peer.link);
            let effects = match (slot.link == link, link) {
                (true, _) => Effects::default(),
                (false, Some(_)) => slot.mirror.link_up(now, terms),
                (false, None) => {
                    slot.mirror.link_down(now, terms);
                    Effects::default()
                }
            };
            slot.link = link;
            ((), effects)
        });
        self.store_later(applied.and_then(|((), stored)| stored));
    }

    /// Something was heard over a link; it counts only if it is the mirror's link.
    fn hear(
        &self,
        link: LinkId,
        key: &MirrorKey,
        act: impl FnOnce(&mut Mirror, Timestamp) -> Effects,
    ) {
        let applied = self.apply_slot(key, None, |slot, now| match slot.link == Some(link) {
            true => ((), act(&mut slot.mirror, now)),
            false => ((), Effects { unsolicited: 1, ..Effects::default() }),
        });
        match applied {
            Some(((), stored)) => self.store_later(stored),
            None => drop(self.ground.metrics.unsolicited.inc()),
        }
    }
}
