//! All mirrors, and what each pair of domains has together: which link, how many followers, how many
//! bytes. The shell of `impp_presence::followed`: it stores, wakes, sets timers and says what there is
//! to ask.
//!
//! Frames are left to the links, which are asked for by [`Beyond`]. No entry is held across an await; while
//! a mirror is held, its peer may be looked at, never the other way round.

mod links;
mod load;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

use impp_federation::shares::Claim;
use impp_presence::followed::{Effects, Mirror, MirrorKey, Terms};
use impp_presence::{Keeper, LinkId, ListenerId, Pulled, Told};
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Domain, Error, Timestamp};
use impp_storage::{Lane, Op, StoreError};
use tokio::sync::oneshot;

use super::elsewhere::from_home;
use super::{Beyond, Follow, Follows, Pull};
use crate::core::DashMap;
use crate::core::answers::{Unstored, storage_error};
use crate::core::config::{Config, Federation, seconds};
use crate::core::ground::Ground;
use crate::core::keeping::{Bill, Commits};
use crate::core::principals::pace_limit;
use crate::core::records::{WatcherRecord, place};
use crate::core::standing::Standing;
use crate::core::timers::Due;
use shared::{Counted, Pair, Peer, pair};

/// See the module.
pub struct Mirrors {
    ground: Ground,
    /// The links; there are none before the server runs.
    beyond: OnceLock<Weak<dyn Beyond>>,
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
    link: Option<LinkId>,
    waiting: Vec<(Address, oneshot::Sender<Result<(), Error>>)>,
    /// What its peer has on its account.
    counted: Counted,
}

impl Mirrors {
    /// From now on the links are asked for what there is to ask.
    pub fn reach_beyond(&self, beyond: Weak<dyn Beyond>) {
        let _ = self.beyond.set(beyond);
    }

    /// The links.
    ///
    /// # Errors
    /// unreachable, where there are none.
    pub fn beyond(&self) -> Result<Arc<dyn Beyond>, Error> {
        let beyond = self.beyond.get().and_then(Weak::upgrade);
        beyond.ok_or_else(|| Error::new(Code::Unreachable, "there are no links"))
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

    /// Somebody follows; what is durable is so when this returns, and before nobody sees anything of it.
    /// With `wait` the home's first answer is waited for by the receiver returned.
    ///
    /// # Errors
    /// full, or the store's.
    pub async fn follow(
        self: &Arc<Self>,
        key: &MirrorKey,
        ask: Follow,
        links: &Federation,
    ) -> Result<Follows, Error> {
        let Follow { watcher, bond, listener, wait } = ask;
        let claim = self.beyond()?.claim(&watcher, &key.presentity.domain())?;
        let link = self.enter(key, &watcher, links)?;
        let staged = self.apply_slot(key, Some(link), |slot, now| {
            slot.claims.insert(watcher.clone(), claim);
            slot.mirror.stage(now, &watcher, bond, listener)
        });
        // The link may have changed in between.
        let newest = self.peers.get(&pair(key)).and_then(|peer| peer.link);
        if newest != link {
            self.sync_link(key);
        }
        let Some((id, stored)) = staged else { return Err(just_ending()) };
        let Some(stored) = stored else { return self.show(key, &watcher, id, wait) };
        let (mirrors, key) = (self.clone(), key.clone());
        // To its end also if who asks is gone by then.
        let shown = tokio::spawn(async move {
            let Err(error) = stored.done().await else {
                return mirrors.show(&key, &watcher, id, wait);
            };
            let gone = mirrors.apply(&key, |mirror, _| ((), mirror.unstage(&watcher, id)));
            let gone = self::stored(gone.and_then(|((), stored)| stored));
            gone.await.map_err(|error| storage_error(&error))?;
            Err(storage_error(&error))
        });
        shown.await.map_err(|error| Error::new(Code::Internal, error.to_string()))?
    }

    /// What was staged is stored: the watcher follows.
    fn show(
        &self,
        key: &MirrorKey,
        watcher: &Address,
        id: u64,
        wait: bool,
    ) -> Result<Follows, Error> {
        let shown = self.apply_slot(key, None, |slot, now| {
            let (state, effects) = slot.mirror.committed(now, watcher, id);
            let answered = if wait { slot.wait_for(watcher) } else { None };
            let version = slot.mirror.version_for(watcher);
            (Follows { whom: key.presentity.clone(), state, version, answered }, effects)
        });
        let (follows, stored) = shown.ok_or_else(just_ending)?;
        // Only what was let go of meanwhile is otherwise than it was staged.
        self.store_later(stored);
        Ok(follows)
    }

    /// Lets go of what kept a subscription.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unfollow(
        &self,
        key: &MirrorKey,
        watcher: &Address,
        listener: Option<ListenerId>,
        keepers: &[Keeper],
    ) -> Result<(), StoreError> {
        let applied =
            self.apply(key, |mirror, now| ((), mirror.unfollow(now, watcher, keepers, listener)));
        stored(applied.and_then(|((), stored)| stored)).await
    }

    /// Ends all subscriptions of a follower; whether there were any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_following(
        &self,
        key: &MirrorKey,
        watcher: &Address,
        event: SubscriptionEvent,
    ) -> Result<bool, StoreError> {
        let applied =
            self.apply(key, |mirror, now| match mirror.end_following(now, watcher, event) {
                Some(effects) => (true, effects),
                None => (false, Effects::default()),
            });
        let Some((ended, commit)) = applied else { return Ok(false) };
        stored(commit).await.map(|()| ended)
    }

    /// What a session has to tell its client.
    pub fn pull(&self, key: &MirrorKey, ask: Pull<'_>) -> Option<Told> {
        let Pull { watcher, session, held, state } = ask;
        let pulled = self.look(key, |mirror| mirror.pull(watcher, session, held, state));
        match pulled {
            Some(Pulled::Nothing | Pulled::Due) => None,
            Some(Pulled::Told(told)) => {
                if told.state == SubscriptionState::Terminated {
                    // Word of the end was all that was kept of it, maybe.
                    let _ = self.apply(key, |_, _| ((), Effects::default()));
                }
                Some(told)
            }
            None => Some(Told::ended(SubscriptionEvent::Deactivated)),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.ground.clock.now()
    }

    /// Looks at a mirror; nothing changes.
    pub fn look<R>(&self, key: &MirrorKey, act: impl FnOnce(&mut Mirror) -> R) -> Option<R> {
        self.mirrors.get_mut(key).map(|mut slot| act(&mut slot.mirror))
    }

    /// Does what is due of one mirror.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(&self, key: &MirrorKey) -> Result<(), StoreError> {
        let terms = terms(&self.ground.settings.load());
        let applied = self.apply(key, |mirror, now| ((), mirror.expire(now, terms)));
        stored(applied.and_then(|((), stored)| stored)).await
    }

    /// Enters a mirror for one more follower; the link that there is.
    fn enter(
        &self,
        key: &MirrorKey,
        watcher: &Address,
        links: &Federation,
    ) -> Result<Option<LinkId>, Error> {
        let known = self.look(key, |mirror| mirror.follower(watcher).is_some());
        let most = links.subscriptions_max as usize;
        let mut peer = self.peers.entry(pair(key)).or_default();
        if known != Some(true) && peer.total.followers >= most {
            let text = format!("{most} are followed in that domain, and that is the most");
            return Err(Error::new(Code::Full, text));
        }
        peer.presentities.insert(key.presentity.clone());
        Ok(peer.link)
    }

    fn apply<R>(
        &self,
        key: &MirrorKey,
        act: impl FnOnce(&mut Mirror, Timestamp) -> (R, Effects),
    ) -> Option<(R, Option<Commits>)> {
        self.apply_slot(key, None, |slot, now| act(&mut slot.mirror, now))
    }

    /// Changes a mirror; what follows is queued for the store, timers are set, and whoever has to
    /// look is woken. `None` if there is no such mirror and it is not to be made, with this link.
    fn apply_slot<R>(
        &self,
        key: &MirrorKey,
        make: Option<Option<LinkId>>,
        act: impl FnOnce(&mut Slot, Timestamp) -> (R, Effects),
    ) -> Option<(R, Option<Commits>)> {
        let (terms, now) = (terms(&self.ground.settings.load()), self.ground.clock.now());
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
        let ops = slot.records(key, &effects.records, &self.ground.standing);
        let commit = (!ops.is_empty()).then(|| self.submit(now, key, ops));
        for watcher in &effects.let_go {
            slot.claims.remove(watcher);
        }
        let deadline = slot.mirror.next_deadline(now, terms);
        self.ground.timers.set(Due::Mirror(key.clone()), deadline);
        slot.tell_waiting(&effects);
        let (before, after) = (slot.counted, slot.count());
        let empty = slot.mirror.is_empty();
        drop(slot);
        if empty {
            self.mirrors.remove_if(key, |_, slot| slot.mirror.is_empty());
        }
        let anew = self.account(key, before, after, effects.asks);
        self.ground.metrics.unsolicited.inc_by(effects.unsolicited);
        self.ground.metrics.repairs.inc_by(effects.repairs);
        self.ground.listeners.wake(&key.presentity, &effects.wake);
        if (effects.asks || anew)
            && let Ok(beyond) = self.beyond()
        {
            beyond.wanted(&key.local, &key.presentity.domain());
        }
        Some((answer, commit))
    }

    /// Queues what followers have to be stored, each in its own lane: its record is written here alone. A
    /// follower asks for itself. What is about several at once the home has said, and that takes its
    /// domain's share of the queue: it keeps nobody else out. What has no room there is true all the same,
    /// and after a restart the home says it again.
    fn submit(&self, now: Timestamp, key: &MirrorKey, ops: Vec<(&Address, Op)>) -> Commits {
        // Whoever lets go has a shorter record than before: nobody has to pay for it.
        let share = (ops.len() > 1).then(|| Lane::Domain(key.presentity.domain()));
        let (store, bill) = (&*self.ground.store, Bill { share, ..Bill::default() });
        let of = |(watcher, op)| Commits::submit(store, now, vec![op], &bill, Some(watcher));
        Commits::all(ops.into_iter().map(of))
    }

    /// What the home has said is true here at once; that it is on the disk need not be waited for.
    fn store_later(&self, commit: Option<Commits>) {
        let Some(commit) = commit else { return };
        tokio::spawn(async move {
            if let Err(error) = commit.done().await {
                error.unstored("how a subscription stands");
            }
        });
    }
}

impl std::fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirrors").field("len", &self.mirrors.len()).finish_non_exhaustive()
    }
}

fn just_ending() -> Error {
    Error::new(Code::Busy, "the subscription is just ending; try again")
}

async fn stored(commit: Option<Commits>) -> Result<(), StoreError> {
    match commit {
        Some(commit) => commit.done().await,
        None => Ok(()),
    }
}

impl Slot {
    fn new(key: &MirrorKey, link: Option<LinkId>, now: Timestamp) -> Slot {
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
                    let _ =
                        self.waiting.swap_remove(index).1.send(result.clone().map_err(from_home));
                }
            }
        }
    }

    fn note_leases(&self, standing: &Standing, key: &MirrorKey, changed: &BTreeSet<Address>) {
        for watcher in changed {
            standing.note_leased(watcher, &key.presentity, self.mirror.is_leased(watcher));
        }
    }

    /// What is stored of those who have changed, whose leases count from now on as they are.
    fn records<'a>(
        &self,
        key: &MirrorKey,
        changed: &'a BTreeSet<Address>,
        standing: &Standing,
    ) -> Vec<(&'a Address, Op)> {
        self.note_leases(standing, key, changed);
        let put = |watcher: &'a Address| {
            let kept = self.mirror.kept(watcher);
            let record = kept.as_ref().map(WatcherRecord::of);
            (watcher, place::followed_elsewhere(watcher, &key.presentity).set(record.as_ref()))
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
        pace: pace_limit(&config.times),
    }
}
