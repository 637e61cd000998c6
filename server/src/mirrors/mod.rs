//! All mirrors, and what each pair of domains has together: which link, how many followers, how many
//! bytes. The shell of `impp_presence::followed`: it stores, wakes, sets timers and says what there is
//! to ask.
//!
//! Frames are left to the link, which is asked for by `Host::link_wanted`. No entry is held across an
//! await; while a mirror is held, its peer may be looked at, never the other way round.

mod shared;

use std::collections::{BTreeMap, BTreeSet};

use dashmap::DashMap;
use impp_federation::shares::{Claim, Shares};
use impp_presence::followed::{Effects, Follower, Mirror, MirrorKey, Terms};
use impp_presence::{Bond, Held, Keeper, Pulled, Told};
use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Domain, Error, Timestamp};
use impp_storage::{Expect, Op, SCAN_ITEMS_MAX, Scan, StoreError};
use tokio::sync::oneshot;

use crate::answers::storage_error;
use crate::config::{Config, seconds};
use crate::host::Host;
use crate::ids::SessionId;
use crate::keeping::Commits;
use crate::principals::Around;
use crate::records::{self, FOLLOWED, WatcherRecord};
use crate::timers::Due;
use shared::{Counted, Pair, Peer, pair};

/// See the module.
#[derive(Debug, Default)]
pub struct Mirrors {
    mirrors: DashMap<MirrorKey, Slot>,
    peers: DashMap<Pair, Peer>,
}

/// A mirror, and who waits for its first answer.
#[derive(Debug)]
struct Slot {
    mirror: Mirror,
    /// By which those who are kept here have a place for the domain.
    claims: BTreeMap<Address, Claim>,
    /// The link that it has heard of.
    link: Option<SessionId>,
    waiting: Vec<(Address, oneshot::Sender<Result<(), Error>>)>,
    /// What its peer has on its account.
    counted: Counted,
}

/// How one who has just begun to follow stands.
#[derive(Debug)]
pub struct Following {
    /// How.
    pub state: SubscriptionState,
    /// The version that is shown, if any.
    pub version: Option<Version>,
    /// Tells when the home has answered, if that is waited for.
    pub answered: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl Mirrors {
    /// Reads who follows presentities of other domains beyond sessions.
    ///
    /// # Errors
    /// [`StoreError`], also where a record is damaged; it names the record.
    pub async fn load(around: &Around, shares: &Shares) -> Result<Mirrors, StoreError> {
        let (config, now) = (around.settings.load_full(), around.clock.now());
        let (mirrors, terms) = (Mirrors::default(), terms(&config));
        if !config.federation.enabled {
            return Ok(mirrors);
        }
        let domains = around.accounts.domains();
        for domain in domains {
            let mut after = None;
            loop {
                let (table, prefix) = (FOLLOWED, Vec::new());
                let range =
                    Scan { domain: domain.clone(), table, prefix, after, max: SCAN_ITEMS_MAX };
                let page = around.store.scan(range).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, record) in page {
                    mirrors.restore(domain, domains, &key, &record.value, now, terms)?;
                }
            }
        }
        for mut slot in mirrors.mirrors.iter_mut() {
            let remote = slot.key().presentity.domain();
            let watchers: Vec<Address> = slot.mirror.followers().map(|(w, _)| w.clone()).collect();
            for watcher in watchers {
                let claim = shares.claim_held(&watcher, &remote);
                slot.claims.insert(watcher, claim);
            }
            let deadline = slot.mirror.next_deadline(now, terms);
            around.timers.set(Due::Mirror(slot.key().clone()), deadline);
        }
        Ok(mirrors)
    }

    /// The domains with which somebody here wants to have to do, ours first.
    pub fn pairs(&self) -> Vec<(Domain, Domain)> {
        self.peers.iter().map(|peer| peer.key().clone()).collect()
    }

    /// Whether anybody of our domain follows somebody of the other.
    pub fn wanted(&self, local: &Domain, remote: &Domain) -> bool {
        let peer = self.peers.get(&(local.clone(), remote.clone()));
        peer.is_some_and(|peer| peer.total.wanted > 0)
    }

    /// A link is open. What was asked and said over another one counts no more.
    pub fn link_up(&self, host: &Host, local: &Domain, remote: &Domain, link: SessionId) {
        self.relink(host, local, remote, Some(link));
    }

    /// The link is gone, if it is this one.
    pub fn link_down(&self, host: &Host, local: &Domain, remote: &Domain, link: SessionId) {
        let current = self.peers.get(&(local.clone(), remote.clone())).and_then(|peer| peer.link);
        if current == Some(link) {
            self.relink(host, local, remote, None);
        }
    }

    /// The next requests for the other domain, at most `max`. Each is answered by
    /// [`Mirrors::answered`], or the link goes.
    pub fn next_requests(
        &self,
        host: &Host,
        local: &Domain,
        remote: &Domain,
        link: SessionId,
        max: usize,
    ) -> Vec<(MirrorKey, Address, Subscribe)> {
        let (terms, now) = (terms(&host.settings.load()), host.clock.now());
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
        host: &Host,
        link: SessionId,
        key: &MirrorKey,
        watcher: &Address,
        result: Result<Done, Error>,
    ) {
        let terms = terms(&host.settings.load());
        self.hear(host, link, key, |mirror, now| mirror.answered(now, watcher, result, terms));
    }

    /// The home says something unasked over this link.
    pub fn notified(&self, host: &Host, link: SessionId, local: &Domain, notify: &Notify) {
        let (local, presentity) = (local.clone(), notify.address.clone());
        let key = MirrorKey { local, presentity };
        let most = host.settings.load().federation.presence_bytes_max as usize;
        let bytes = self.peers.get(&pair(&key)).map_or(0, |peer| peer.total.bytes);
        let room = most.saturating_sub(bytes);
        self.hear(host, link, &key, |mirror, now| mirror.notified(now, notify, room));
    }

    /// The other domain does not exist, or serves no presence: who waits for its first answer gets
    /// this one. That it cannot be reached just now is nothing to say here.
    pub fn unreachable(&self, host: &Host, local: &Domain, remote: &Domain, error: &Error) {
        for presentity in self.presentities(local, remote) {
            let key = MirrorKey { local: local.clone(), presentity };
            let told = self.apply(host, &key, |mirror, now| ((), mirror.unreachable(now, error)));
            self.store_later(told.and_then(|((), stored)| stored));
        }
    }

    /// Somebody follows; what is durable is so when this returns. With `wait` the home's first
    /// answer is waited for by the receiver returned.
    ///
    /// # Errors
    /// full, or the store's.
    pub async fn follow(
        &self,
        host: &Host,
        key: &MirrorKey,
        watcher: &Address,
        bond: Bond,
        listener: Option<SessionId>,
        wait: bool,
    ) -> Result<Following, Error> {
        let claim = host.peers.claim(host, watcher, &key.presentity.domain())?;
        let link = self.enter(host, key, watcher)?;
        let (mut answered, mut before) = (None, None);
        let applied = self.apply_slot(host, key, Some(link), |slot, now| {
            before = slot.mirror.follower(watcher).cloned();
            let (state, effects) = slot.mirror.follow(now, watcher, bond, listener);
            slot.claims.insert(watcher.clone(), claim);
            answered = if wait { slot.wait_for(watcher) } else { None };
            let version = slot.mirror.version_for(watcher);
            ((state, version), effects)
        });
        // The link may have changed in between.
        let newest = self.peers.get(&pair(key)).and_then(|peer| peer.link);
        if newest != link {
            self.sync_link(host, key);
        }
        let Some(((state, version), stored)) = applied else {
            return Err(Error::new(Code::Busy, "the subscription is just ending; try again"));
        };
        if let Some(stored) = stored
            && let Err(error) = stored.done().await
        {
            // What could not be stored keeps nothing, and ends nothing that stood before.
            let undone = self.apply(host, key, |mirror, now| {
                let before = before.as_ref();
                ((), mirror.unfollow_unstored(now, watcher, bond, listener, before))
            });
            let undone = self::stored(undone.and_then(|((), stored)| stored));
            undone.await.map_err(|error| storage_error(&error))?;
            return Err(storage_error(&error));
        }
        Ok(Following { state, version, answered })
    }

    /// Lets go of what kept a subscription.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unfollow(
        &self,
        host: &Host,
        key: &MirrorKey,
        watcher: &Address,
        listener: Option<SessionId>,
        keepers: &[Keeper],
    ) -> Result<(), StoreError> {
        let applied = self
            .apply(host, key, |mirror, now| ((), mirror.unfollow(now, watcher, keepers, listener)));
        stored(applied.and_then(|((), stored)| stored)).await
    }

    /// Ends all subscriptions of a follower; whether there were any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_following(
        &self,
        host: &Host,
        key: &MirrorKey,
        watcher: &Address,
        event: SubscriptionEvent,
    ) -> Result<bool, StoreError> {
        let applied =
            self.apply(host, key, |mirror, now| match mirror.end_following(now, watcher, event) {
                Some(effects) => (true, effects),
                None => (false, Effects::default()),
            });
        let Some((ended, commit)) = applied else { return Ok(false) };
        stored(commit).await.map(|()| ended)
    }

    /// What a session has to tell its client.
    pub fn pull(
        &self,
        host: &Host,
        key: &MirrorKey,
        watcher: &Address,
        session: SessionId,
        held: Held,
        state: Option<SubscriptionState>,
    ) -> Pulled {
        let pulled = self.look(key, |mirror| mirror.pull(watcher, session, held, state));
        let pulled =
            pulled.unwrap_or_else(|| Pulled::Told(Told::ended(SubscriptionEvent::Deactivated)));
        if let Pulled::Told(Told { state: SubscriptionState::Terminated, .. }) = pulled {
            // Word of the end was all that was kept of it, maybe.
            let _ = self.apply(host, key, |_, _| ((), Effects::default()));
        }
        pulled
    }

    /// Looks at a mirror; nothing changes.
    pub fn look<R>(&self, key: &MirrorKey, act: impl FnOnce(&mut Mirror) -> R) -> Option<R> {
        self.mirrors.get_mut(key).map(|mut slot| act(&mut slot.mirror))
    }

    /// Does what is due of one mirror.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(&self, host: &Host, key: &MirrorKey) -> Result<(), StoreError> {
        let terms = terms(&host.settings.load());
        let applied = self.apply(host, key, |mirror, now| ((), mirror.expire(now, terms)));
        stored(applied.and_then(|((), stored)| stored)).await
    }

    fn restore(
        &self,
        domain: &Domain,
        hosted: &[Domain],
        key: &[u8],
        value: &[u8],
        now: Timestamp,
        terms: Terms,
    ) -> Result<(), StoreError> {
        let damaged = || {
            let key = String::from_utf8_lossy(key).replace('\0', " ");
            StoreError::Damaged { what: format!("record {} of {domain} ({key})", FOLLOWED.0) }
        };
        let text = std::str::from_utf8(key).map_err(|_| damaged())?;
        let (local, presentity) = text.split_once('\0').ok_or_else(damaged)?;
        let presentity = Address::parse_canonical(presentity).map_err(|_| damaged())?;
        if hosted.contains(&presentity.domain()) {
            return Ok(());
        }
        // Whoever was followed when this server still hosted the domain has no record.
        let Ok(record) = records::from_bytes::<WatcherRecord>(value) else { return Ok(()) };
        let watcher = Address::new(local, domain).map_err(|_| damaged())?;
        let key = MirrorKey { local: domain.clone(), presentity };
        let mut peer = self.peers.entry(pair(&key)).or_default();
        peer.presentities.insert(key.presentity.clone());
        drop(peer);
        let mut slot =
            self.mirrors.entry(key.clone()).or_insert_with(|| Slot::new(&key, None, now));
        slot.mirror.restore(now, watcher, record.kept().ok_or_else(damaged)?, terms);
        let (before, after) = (slot.counted, slot.count());
        drop(slot);
        self.peers.entry(pair(&key)).or_default().total.change(before, after);
        Ok(())
    }

    fn presentities(&self, local: &Domain, remote: &Domain) -> Vec<Address> {
        let peer = self.peers.get(&(local.clone(), remote.clone()));
        peer.map(|peer| peer.presentities.iter().cloned().collect()).unwrap_or_default()
    }

    fn relink(&self, host: &Host, local: &Domain, remote: &Domain, link: Option<SessionId>) {
        self.peers.entry((local.clone(), remote.clone())).or_default().link = link;
        for presentity in self.presentities(local, remote) {
            let key = MirrorKey { local: local.clone(), presentity };
            self.sync_link(host, &key);
        }
        let pair = (local.clone(), remote.clone());
        self.peers.remove_if(&pair, |_, peer| peer.is_idle());
    }

    /// Tells a mirror of its link, if it has not heard of it.
    fn sync_link(&self, host: &Host, key: &MirrorKey) {
        let terms = terms(&host.settings.load());
        let applied = self.apply_slot(host, key, None, |slot, now| {
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

    /// Enters a mirror for one more follower; the link that there is.
    fn enter(
        &self,
        host: &Host,
        key: &MirrorKey,
        watcher: &Address,
    ) -> Result<Option<SessionId>, Error> {
        let known = self.look(key, |mirror| mirror.follower(watcher).is_some());
        let most = host.settings.load().federation.subscriptions_max as usize;
        let mut peer = self.peers.entry(pair(key)).or_default();
        if known != Some(true) && peer.total.followers >= most {
            let text = format!("{most} are followed in that domain, and that is the most");
            return Err(Error::new(Code::Full, text));
        }
        peer.presentities.insert(key.presentity.clone());
        Ok(peer.link)
    }

    /// Something was heard over a link; it counts only if it is the mirror's link.
    fn hear(
        &self,
        host: &Host,
        link: SessionId,
        key: &MirrorKey,
        act: impl FnOnce(&mut Mirror, Timestamp) -> Effects,
    ) {
        let applied = self.apply_slot(host, key, None, |slot, now| match slot.link == Some(link) {
            true => ((), act(&mut slot.mirror, now)),
            false => ((), Effects { unsolicited: 1, ..Effects::default() }),
        });
        match applied {
            Some(((), stored)) => self.store_later(stored),
            None => drop(host.metrics.unsolicited.inc()),
        }
    }

    fn apply<R>(
        &self,
        host: &Host,
        key: &MirrorKey,
        act: impl FnOnce(&mut Mirror, Timestamp) -> (R, Effects),
    ) -> Option<(R, Option<Commits>)> {
        self.apply_slot(host, key, None, |slot, now| act(&mut slot.mirror, now))
    }

    /// Changes a mirror; what follows is queued for the store, timers are set, and whoever has to
    /// look is woken. `None` if there is no such mirror and it is not to be made, with this link.
    fn apply_slot<R>(
        &self,
        host: &Host,
        key: &MirrorKey,
        make: Option<Option<SessionId>>,
        act: impl FnOnce(&mut Slot, Timestamp) -> (R, Effects),
    ) -> Option<(R, Option<Commits>)> {
        let (terms, now) = (terms(&host.settings.load()), host.clock.now());
        let mut slot = match make {
            Some(link) => {
                let new = || Slot::new(key, link, now);
                self.mirrors.entry(key.clone()).or_insert_with(new)
            }
            None => self.mirrors.get_mut(key)?,
        };
        let (answer, effects) = act(&mut slot, now);
        // Queued under the lock, so that the store sees changes in their order; the same for the
        // timer.
        let ops = slot.records(key, &effects.records);
        let commit = (!ops.is_empty()).then(|| Commits::submit(&*host.store, now, ops));
        for watcher in &effects.let_go {
            slot.claims.remove(watcher);
        }
        let deadline = slot.mirror.next_deadline(now, terms);
        host.timers.set(Due::Mirror(key.clone()), deadline);
        slot.tell_waiting(&effects);
        let (before, after) = (slot.counted, slot.count());
        let empty = slot.mirror.is_empty();
        drop(slot);
        if empty {
            self.mirrors.remove_if(key, |_, slot| slot.mirror.is_empty());
        }
        let anew = self.account(key, before, after, effects.asks);
        host.metrics.unsolicited.inc_by(effects.unsolicited);
        host.metrics.repairs.inc_by(effects.repairs);
        host.listeners.wake(&key.presentity, &effects.wake);
        if effects.asks || anew {
            host.link_wanted(&key.local, &key.presentity.domain());
        }
        Some((answer, commit))
    }

    /// What the home has said is true here at once; that it is on the disk need not be waited for.
    fn store_later(&self, commit: Option<Commits>) {
        let Some(commit) = commit else { return };
        tokio::spawn(async move {
            if let Err(error) = commit.done().await {
                tracing::warn!(%error, "how a subscription stands could not be stored");
            }
        });
    }
}

async fn stored(commit: Option<Commits>) -> Result<(), StoreError> {
    match commit {
        Some(commit) => commit.done().await,
        None => Ok(()),
    }
}

impl Slot {
    fn new(key: &MirrorKey, link: Option<SessionId>, now: Timestamp) -> Slot {
        let mirror = Mirror::new(key.presentity.clone(), link.map(|_| now));
        let (claims, waiting, counted) = Default::default();
        Slot { mirror, claims, link, waiting, counted }
    }

    fn count(&mut self) -> Counted {
        let (followers, bytes) = (self.mirror.len(), self.mirror.bytes());
        let wanted = usize::from(self.mirror.is_wanted());
        self.counted = Counted { followers, wanted, bytes };
        self.counted
    }

    /// Tells when the home has answered for a watcher who waits for that.
    fn wait_for(&mut self, watcher: &Address) -> Option<oneshot::Receiver<Result<(), Error>>> {
        self.mirror.follower(watcher).filter(|follower| follower.waits())?;
        let (tell, told) = oneshot::channel();
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        self.waiting.push((watcher.clone(), tell));
        Some(told)
    }

    fn tell_waiting(&mut self, effects: &Effects) {
        for (watcher, result) in &effects.answered {
            for index in (0..self.waiting.len()).rev() {
                if self.waiting[index].0 == *watcher {
                    // Whoever has stopped waiting does not hear it.
                    let _ = self.waiting.swap_remove(index).1.send(result.clone());
                }
            }
        }
    }

    fn records(&self, key: &MirrorKey, changed: &BTreeSet<Address>) -> Vec<Op> {
        let put = |watcher: &Address| {
            let kept = self.mirror.follower(watcher).and_then(Follower::kept);
            Op::Put {
                key: records::key(FOLLOWED, watcher, &[key.presentity.as_str()]),
                expect: Expect::Any,
                value: kept.map(|kept| records::to_bytes(&WatcherRecord::of(&kept))),
            }
        };
        changed.iter().map(put).collect()
    }
}

fn terms(config: &Config) -> Terms {
    let links = &config.federation;
    Terms {
        lease: seconds(links.lease_seconds),
        stale: seconds(links.stale_seconds),
        answer: seconds(links.answer_seconds),
    }
}
