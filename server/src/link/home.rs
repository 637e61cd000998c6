//! What another domain's server asks of our presentities for its watchers, and what it is told.
//!
//! Frames and their order are left to the link's task; who sees what, to the presentities.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_acl::{RulesError, Watcher};
use impp_presence::{
    Answer, Asked, Bond, Change, GroupTold, Groups, Joined, Keeper, Presentity, PulledGroups,
    Write, ghosts,
};
use impp_protocol::command::{Done, Fetch, Notify, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, By, Code, Command, Error, Timestamp, What};
use impp_storage::{Expect, Op, StoreError};

use super::mailbox::LinkMailbox;
use crate::answers::{Stored, crowded, refused, storage_error};
use crate::config::seconds;
use crate::host::Host;
use crate::listeners::Listener;
use crate::notify::{disclose, fetched, put};
use crate::principals::{ChangeError, Principal};
use crate::records::{self, WATCHER};

/// When what could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// Room that one look at a presentity gets, however little there is: each looks at all watchers.
const PULL_BYTES_MIN: usize = 16 * 1024;

/// The groups of all presentities that are followed over one link; owned by its task.
pub type AllGroups = HashMap<Address, Groups>;

/// A SUBSCRIBE that was done, or not; [`answer`] makes the answer at the moment it is written.
#[derive(Debug)]
pub struct Taken {
    presentity: Address,
    watcher: Address,
    claimed: Option<Version>,
    result: Result<Standing, Error>,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It follows, for so long.
    Follows(Duration),
    /// It does not any more.
    Ended,
}

/// Who is asked for: a presentity of ours, or nobody, who must not be told from one.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Presentity,
    Nobody,
}

/// Whether the other side may ask this: `watcher` is of its own domain, and `address` of ours. If
/// not, it has broken the rules of the link.
///
/// # Errors
/// refused.
pub fn check(
    link: &LinkMailbox,
    watcher: Option<&Address>,
    address: &Address,
) -> Result<(), Error> {
    let own =
        |domain: &impp_protocol::Domain, address: &Address| domain.as_str() == address.domain_str();
    let text = match watcher {
        None => "watcher: missing; it says for whom this is".to_owned(),
        Some(watcher) if !own(&link.remote, watcher) => {
            format!("{watcher} is not of {}, the domain that you have proven", link.remote)
        }
        Some(_) if !own(&link.local, address) => {
            format!("{address} is not of {}, the domain that you have called", link.local)
        }
        Some(_) => return Ok(()),
    };
    Err(Error::new(Code::Refused, text).by(By::Home))
}

/// Does what SUBSCRIBE asks for a watcher of the other domain. What is durable is so when this
/// returns; the link's task then lets [`answer`] make the answer.
pub async fn subscribe(host: &Arc<Host>, link: &LinkMailbox, subscribe: Subscribe) -> Taken {
    let result = match &subscribe.watcher {
        Some(watcher) => follow(host, link, &subscribe, watcher).await,
        None => check(link, None, &subscribe.address).map(|()| Standing::Ended),
    };
    let (presentity, claimed) = (subscribe.address, subscribe.version);
    let watcher = subscribe.watcher.unwrap_or_else(|| presentity.clone());
    Taken { presentity, watcher, claimed, result: result.map_err(|error| error.by_home()) }
}

/// The answer to a SUBSCRIBE, as the watcher stands now. It has to be written next: the groups are
/// as if it were.
pub async fn answer(
    host: &Arc<Host>,
    link: &LinkMailbox,
    groups: &mut AllGroups,
    taken: Taken,
) -> Command {
    let Taken { presentity, watcher, claimed, result } = taken;
    let joined = match result {
        Ok(Standing::Follows(lease)) => {
            let of = groups.entry(presentity.clone()).or_default();
            let before = of.len();
            let joined = join(host, link, of, &presentity, &watcher, claimed).await;
            link.count_watchers(before, of.len());
            joined.map(|done| Done { lease: done.lease.or(Some(lease)), ..done })
        }
        Ok(Standing::Ended) => Ok(ended()),
        Err(error) => Err(error),
    };
    let stands = matches!(&joined, Ok(done) if done.state != Some(SubscriptionState::Terminated));
    if let Some(of) = groups.get_mut(&presentity)
        && !stands
        && of.leave(&watcher)
    {
        link.count_watchers(1, 0);
    }
    if groups.get(&presentity).is_some_and(Groups::is_empty) {
        groups.remove(&presentity);
    }
    match joined {
        Ok(done) => done.into(),
        Err(error) => error.into(),
    }
}

/// Reads presence once for a watcher of the other domain.
///
/// # Errors
/// What the other side is answered.
pub async fn fetch(host: &Arc<Host>, link: &LinkMailbox, fetch: Fetch) -> Result<Done, Error> {
    let address = fetch.address.clone();
    check(link, fetch.watcher.as_ref(), &address)?;
    if fetch.what != What::Presence {
        let text = format!("{} is not for other domains", fetch.what);
        return Err(Error::new(Code::Unsupported, text).by(By::Home));
    }
    let asker = Watcher::Principal(fetch.watcher.unwrap_or_else(|| address.clone()));
    let seen = match whom(host, &address)? {
        Whom::Nobody => {
            let broken = |error: RulesError| Error::new(Code::Internal, error.to_string());
            let now = host.clock.now();
            ghosts::ghost(&address, now).map_err(broken)?.fetch(now, &asker, fetch.version)
        }
        Whom::Presentity => host
            .principals
            .look(&address, |principal, now| principal.presentity.fetch(now, &asker, fetch.version))
            .await
            .map_err(|error| storage_error(&error).by_home())?,
    };
    fetched(&address, seen).map_err(|error| error.by_home())
}

/// Appends NOTIFY frames about what may have changed, as long as `out` has less than `room` bytes;
/// what does not fit is looked at again when there is room.
pub async fn tell(
    host: &Arc<Host>,
    link: &Arc<LinkMailbox>,
    groups: &mut AllGroups,
    out: &mut BytesMut,
    room: usize,
) {
    for presentity in link.ghosts().expire(host.clock.now(), link.id) {
        link.presentity_dirty(&presentity);
    }
    for presentity in link.ghosts().take_dropped() {
        let dropped = groups.remove(&presentity);
        link.count_watchers(dropped.map_or(0, |of| of.len()), 0);
    }
    if out.len() >= room {
        return;
    }
    for presentity in link.take() {
        if out.len() >= room {
            link.presentity_dirty(&presentity);
        } else if let Err(error) = tell_of(host, link, groups, &presentity, out, room).await {
            tracing::error!(%error, "a presentity followed from elsewhere could not be read");
            link.presentity_dirty_later(presentity, AGAIN);
        }
    }
}

/// The link is lost: nobody hears over it any more. Leases stay. What is still taken must not go on.
pub async fn link_lost(host: &Arc<Host>, link: &LinkMailbox, groups: AllGroups) {
    let mut presentities = link.unanswered();
    presentities.extend(groups.into_keys().filter(|address| !link.ghosts().contains(address)));
    for presentity in presentities {
        let lost = host.principals.look(&presentity, |principal, _| {
            principal.presentity.link_lost(link.id);
        });
        if let Err(error) = lost.await {
            tracing::warn!(%error, "the loss of a link could not be noted");
        }
    }
}

async fn follow(
    host: &Arc<Host>,
    link: &LinkMailbox,
    subscribe: &Subscribe,
    watcher: &Address,
) -> Result<Standing, Error> {
    let presentity = &subscribe.address;
    check(link, Some(watcher), presentity)?;
    if subscribe.what != What::Presence || subscribe.expand {
        let text = format!("{} cannot be followed from other domains", subscribe.what);
        return Err(Error::new(Code::Unsupported, text));
    }
    let config = host.settings.load();
    let longest = seconds(config.times.lease_max_seconds);
    let lease = subscribe.lease.unwrap_or(seconds(config.federation.lease_seconds)).min(longest);
    let whom = whom(host, presentity)?;
    if let Whom::Presentity = whom {
        link.ghosts().forget(presentity);
    }
    let bond = Bond::Server(host.clock.now().after(lease));
    let (watcher, listener) = (watcher.clone(), Some(link.id));
    if lease.is_zero() {
        let keepers = vec![Keeper::Server];
        let release = Change::Release { watcher, keepers, listener };
        change(host, link, whom, presentity, release, |_| true).await.stored()?;
        return Ok(Standing::Ended);
    }
    let most = config.federation.subscriptions_max as usize;
    let pending_max = config.limits.pending_max as usize;
    if let Whom::Presentity = whom {
        link.takes(presentity);
    }
    let has_room = |principal: &mut Principal| {
        principal.presentity.is_kept_by_server(&watcher)
            || host.standing.count(&link.local, &link.remote) < most
    };
    let follow = Change::Follow { watcher: watcher.clone(), bond, listener, pending_max };
    let asked = change(host, link, whom, presentity, follow, has_room).await;
    if !matches!(asked, Ok(Some(Answer::Asked(Asked::Stands(_))))) {
        link.taken(presentity);
    }
    match asked.stored()? {
        None => {
            let text = format!("{most} watchers of one domain, and that is the most");
            Err(Error::new(Code::Full, text))
        }
        Some(Answer::Asked(Asked::Stands(_))) => Ok(Standing::Follows(lease)),
        Some(Answer::Asked(Asked::Crowded)) => Err(crowded()),
        Some(_) => Err(refused(presentity)),
    }
}

/// Who is asked for.
///
/// # Errors
/// moved; and not-found or not-offered, where that is told.
fn whom(host: &Host, address: &Address) -> Result<Whom, Error> {
    let account = host.accounts.get(address);
    if account.as_ref().is_some_and(|account| account.services.pres) {
        return Ok(Whom::Presentity);
    }
    let config = host.settings.load();
    let hosted = config.domain.iter().find(|hosted| hosted.name.as_str() == address.domain_str());
    if account.is_none()
        && let Some(elsewhere) = hosted.and_then(|hosted| hosted.redirect.as_ref())
        && let Ok(moved) = Address::new(address.local(), elsewhere)
    {
        let mut error = Error::new(Code::Moved, format!("{address} is {moved} now")).by(By::Home);
        error.address = Some(moved);
        return Err(error);
    }
    match (config.federation.tell_unknown, account) {
        (false, _) => Ok(Whom::Nobody),
        (true, None) => {
            let text = format!("{address} does not exist");
            Err(Error::new(Code::NotFound, text).by(By::Home))
        }
        (true, Some(_)) => {
            let text = format!("{address} has no presence");
            Err(Error::new(Code::NotOffered, text).by(By::Home))
        }
    }
}

/// Changes a presentity if it is as it has to be, or one who does not exist and must look the same: then
/// the store is asked to forget what it never had, so that the answer comes as late.
async fn change(
    host: &Arc<Host>,
    link: &LinkMailbox,
    whom: Whom,
    address: &Address,
    change: Change,
    fits: impl FnOnce(&mut Principal) -> bool,
) -> Result<Option<Answer>, ChangeError> {
    if let Whom::Presentity = whom {
        let fits = |principal: &mut Principal| fits(principal).then_some(()).ok_or(());
        return Ok(host.principals.change_if(address, change, fits).await?.ok());
    }
    let asked = link.ghosts().ask(address, host.clock.now(), change);
    let (answer, effects) =
        asked.map_err(|error| StoreError::Damaged { what: error.to_string() })?;
    let forget = |write: &Write| match write {
        Write::Watcher(watcher, _) => {
            let key = records::key(WATCHER, address, &[watcher.as_str()]);
            Some(Op::Put { key, expect: Expect::Any, value: None })
        }
        Write::Layer(..) | Write::Contact(..) | Write::Rules(..) => None,
    };
    let ops: Vec<Op> = effects.writes.iter().filter_map(forget).collect();
    if !ops.is_empty() {
        host.store(ops).await?;
    }
    if effects.wake.contains(&link.id) {
        link.presentity_dirty(address);
    }
    Ok(Some(answer))
}

/// Looks at a presentity, or at one who does not exist and was asked for over this link.
async fn look<R>(
    host: &Arc<Host>,
    link: &LinkMailbox,
    address: &Address,
    act: impl FnOnce(&mut Presentity, Timestamp) -> R,
) -> Result<R, StoreError> {
    if let Some(ghost) = link.ghosts().find(address) {
        return Ok(act(ghost, host.clock.now()));
    }
    host.principals.look(address, |principal, now| act(&mut principal.presentity, now)).await
}

async fn join(
    host: &Arc<Host>,
    link: &LinkMailbox,
    groups: &mut Groups,
    presentity: &Address,
    watcher: &Address,
    claimed: Option<Version>,
) -> Result<Done, Error> {
    loop {
        let joined = look(host, link, presentity, |presentity, now| {
            presentity.join_groups(now, link.id, groups, watcher, claimed)
        });
        match joined.await.map_err(|error| storage_error(&error).by_home())? {
            Joined::Due => {
                let done = expire(host, link, presentity).await;
                done.map_err(|error| storage_error(&error).by_home())?;
            }
            Joined::Elsewhere => {
                link.taken(presentity);
                let text = "another request for this watcher came between; ask again";
                return Err(Error::new(Code::Busy, text).by(By::Home));
            }
            Joined::Stands { state, group, owed } => {
                link.taken(presentity);
                if state == SubscriptionState::Terminated {
                    return Ok(ended());
                }
                if owed {
                    link.presentity_dirty(presentity);
                }
                let (group, version) = group.unzip();
                return Ok(Done { state: Some(state), group, version, ..Done::empty() });
            }
        }
    }
}

async fn tell_of(
    host: &Arc<Host>,
    link: &LinkMailbox,
    groups: &mut AllGroups,
    presentity: &Address,
    out: &mut BytesMut,
    room: usize,
) -> Result<(), StoreError> {
    let Some(of) = groups.get_mut(presentity) else { return Ok(()) };
    let before = of.len();
    let told = if !link.ghosts().contains(presentity) && host.routes.account(presentity).is_err() {
        close(of)
    } else {
        let left = room.saturating_sub(out.len()).max(PULL_BYTES_MIN);
        pull(host, link, of, presentity, left).await?
    };
    link.count_watchers(before, of.len());
    if of.is_empty() {
        groups.remove(presentity);
    }
    for told in told {
        host.metrics.notifications.inc();
        put(out, notify(presentity, told).into());
    }
    Ok(())
}

async fn pull(
    host: &Arc<Host>,
    link: &LinkMailbox,
    groups: &mut Groups,
    presentity: &Address,
    room: usize,
) -> Result<Vec<GroupTold>, StoreError> {
    loop {
        let pulled = look(host, link, presentity, |presentity, now| {
            presentity.pull_groups(now, link.id, groups, room)
        });
        match pulled.await? {
            PulledGroups::Due => expire(host, link, presentity).await?,
            PulledGroups::Told(told) => return Ok(told),
            PulledGroups::More(told) => {
                link.presentity_dirty(presentity);
                return Ok(told);
            }
        }
    }
}

async fn expire(
    host: &Arc<Host>,
    link: &LinkMailbox,
    presentity: &Address,
) -> Result<(), StoreError> {
    if let Some(ghost) = link.ghosts().find(presentity) {
        ghost.expire(host.clock.now());
        return Ok(());
    }
    host.principals.expire(presentity).await
}

fn notify(presentity: &Address, told: GroupTold) -> Notify {
    let mut notify = Notify::of(presentity.clone(), What::Presence, told.state);
    (notify.group, notify.watchers, notify.event) = (told.group, told.watchers, told.event);
    if let Some(content) = &told.content {
        disclose(&mut notify, content);
    }
    (notify.version, notify.set) = (told.version, told.set);
    notify
}

fn ended() -> Done {
    let state = Some(SubscriptionState::Terminated);
    Done { state, lease: Some(Duration::ZERO), ..Done::empty() }
}

/// The presentity is gone: all are told so.
fn close(groups: &mut Groups) -> Vec<GroupTold> {
    let told = GroupTold {
        group: None,
        watchers: groups.take(),
        state: SubscriptionState::Terminated,
        event: Some(SubscriptionEvent::Noresource),
        content: None,
        version: None,
        set: None,
    };
    told.split()
}

/// What this server says as the home of a presentity.
trait ByHome {
    fn by_home(self) -> Error;
}

impl ByHome for Error {
    fn by_home(self) -> Error {
        if self.by == By::Server { self.by(By::Home) } else { self }
    }
}

#[cfg(test)]
mod tests;
