//! What another domain's server asks of our presentities for its watchers, and what it is told.
//!
//! Frames and their order are left to the link's task; who sees what, to the presentities.

mod asked;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_acl::{Acting, Watcher, scope};
use impp_presence::{Fetched, GroupTold, Groups, Joined, Presentity, PulledGroups};
use impp_protocol::command::{Done, Fetch, Notify, Subscribe};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, By, Code, Command, Error, What};
use impp_storage::{Store, StoreError};

use super::mailbox::LinkMailbox;
use crate::core::accounts::Accounts;
use crate::core::answers::{Answer, storage_error};
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::listeners::Listener;
use crate::core::metrics::Metrics;
use crate::core::notify::{disclose, fetched, put};
use crate::core::principals::Principals;
use crate::core::records::place;
use crate::core::routes::Routes;
use crate::core::settings::Settings;
use crate::core::standing;
use asked::may_be_asked;

/// Room that one look at a presentity gets, however little there is: each looks at all watchers.
const PULL_BYTES_MIN: usize = 16 * 1024;

/// The groups of all presentities that are followed over one link; owned by its task.
pub type AllGroups = HashMap<Address, Groups>;

/// A SUBSCRIBE that was done, or not; [`Home::answer`] makes the answer at the moment it is written.
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

/// The permit for what the other side asks: `watcher` is of its own domain, and `address` of ours. If
/// not, it has broken the rules of the link.
///
/// # Errors
/// refused.
fn permit(
    link: &LinkMailbox,
    watcher: Option<&Address>,
    address: &Address,
) -> Result<Acting<scope::Sight>, Error> {
    let refused = |text: String| Error::new(Code::Refused, text).by(By::Home);
    let missing = || refused("watcher: missing; it says for whom this is".to_owned());
    let watcher = watcher.ok_or_else(missing)?;
    let acting = Acting::elsewhere(&link.remote, watcher, address).ok_or_else(|| {
        refused(format!("{watcher} is not of {}, the domain that you have proven", link.remote))
    })?;
    if address.domain_str() != link.local.as_str() {
        let text = format!("{address} is not of {}, the domain that you have called", link.local);
        return Err(refused(text));
    }
    Ok(acting)
}

/// See the module.
pub struct Home {
    clock: Clock,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    routes: Arc<Routes>,
    principals: Arc<Principals>,
    standing: Arc<standing::Standing>,
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
}

impl Home {
    /// Of these principals.
    pub fn new(ground: &Ground, routes: Arc<Routes>, principals: Arc<Principals>) -> Home {
        let Ground { clock, settings, accounts, standing, metrics, store, .. } = ground.clone();
        Home { clock, settings, accounts, routes, principals, standing, metrics, store }
    }

    /// The presentity is in memory when this returns, if it can be read and asked for.
    pub(super) async fn ready(&self, link: &LinkMailbox, presentity: &Address) {
        if presentity.domain_str() == link.local.as_str() && self.admits(link, presentity).is_ok() {
            self.principals.ready(presentity).await;
        }
    }

    /// Whether a watcher of the other domain has something stored here, such as a lease or a request that
    /// waits: whoever comes back to that asks for nothing new, existing or not.
    pub(super) async fn knows(&self, link: &LinkMailbox, subscribe: &Subscribe) -> bool {
        let (presentity, watcher) = (&subscribe.address, subscribe.watcher.as_ref());
        let Some(watcher) = watcher.filter(|_| presentity.domain_str() == link.local.as_str())
        else {
            return false;
        };
        if self.standing.has(presentity, watcher) {
            return true;
        }
        // One row. Where it cannot be read, it may be there.
        !matches!(self.store.get(place::watcher(presentity, watcher).key()).await, Ok(None))
    }

    /// What comes of a SUBSCRIBE that ends what there is none of.
    pub(super) fn had_none(&self, link: &LinkMailbox, subscribe: Subscribe) -> Taken {
        let result = self.had_nothing(link, &subscribe).map(|()| Standing::Ended);
        taken(subscribe, result)
    }

    /// Does what SUBSCRIBE asks for a watcher of the other domain. What is durable is so when this
    /// returns; the link's task then lets [`Home::answer`] make the answer.
    pub async fn subscribe(&self, link: &LinkMailbox, subscribe: Subscribe) -> Taken {
        let result = match may_be_asked(link, &subscribe) {
            Ok(acting) => self.follow(link, &acting, subscribe.lease).await,
            Err(error) => Err(error),
        };
        taken(subscribe, result)
    }

    /// The answer to a SUBSCRIBE, as the watcher stands now. It has to be written next: the groups are
    /// as if it were.
    pub async fn answer(
        &self,
        link: &LinkMailbox,
        groups: &mut AllGroups,
        taken: Taken,
    ) -> Command {
        let Taken { presentity, watcher, claimed, result } = taken;
        let joined = match result {
            Ok(Standing::Follows(lease)) => {
                let of = groups.entry(presentity.clone()).or_default();
                let before = of.len();
                let joined = self.join(link, of, &presentity, &watcher, claimed).await;
                link.count_watchers(before, of.len());
                joined.map(|done| Done { lease: done.lease.or(Some(lease)), ..done })
            }
            Ok(Standing::Ended) => Ok(ended()),
            Err(error) => Err(error),
        };
        let stands =
            matches!(&joined, Ok(done) if done.state != Some(SubscriptionState::Terminated));
        if let Some(of) = groups.get_mut(&presentity)
            && !stands
            && of.leave(&watcher)
        {
            link.count_watchers(1, 0);
        }
        if groups.get(&presentity).is_some_and(Groups::is_empty) {
            groups.remove(&presentity);
        }
        Answer::said(joined)
    }

    /// Reads presence once for a watcher of the other domain.
    ///
    /// # Errors
    /// What the other side is answered.
    pub async fn fetch(&self, link: &LinkMailbox, fetch: Fetch) -> Result<Done, Error> {
        let acting = permit(link, fetch.watcher.as_ref(), &fetch.address)?;
        if fetch.what != What::Presence {
            let text = format!("{} is not for other domains", fetch.what);
            return Err(Error::new(Code::Unsupported, text).by(By::Home));
        }
        let (address, watcher) = (acting.owner(), acting.watcher());
        let asker = Watcher::of(watcher);
        self.admits(link, address)?;
        let seen =
            self.look(address, |presentity, now| presentity.fetch(now, &asker, fetch.version));
        let seen = seen.await.map_err(|error| storage_error(&error).by_home())?;
        if matches!(seen, Fetched::Pending) {
            self.principals.waits_at(address, &link.remote);
        }
        self.principals.looked(address, watcher, matches!(seen, Fetched::Refused)).await;
        fetched(address, seen).map_err(|error| error.by_home())
    }

    /// Appends NOTIFY frames about what may have changed, as long as `out` has less than `room` bytes;
    /// what does not fit is looked at again when there is room.
    pub async fn tell(
        &self,
        link: &Arc<LinkMailbox>,
        groups: &mut AllGroups,
        out: &mut BytesMut,
        room: usize,
    ) {
        if out.len() >= room {
            return;
        }
        for presentity in link.take() {
            if out.len() >= room {
                link.presentity_dirty(&presentity);
            } else if let Err(error) = self.tell_of(link, groups, &presentity, out, room).await {
                tracing::error!(%error, "a presentity followed from elsewhere could not be read");
                link.presentity_dirty_later(presentity);
            }
        }
    }

    /// The link is lost: nobody hears over it any more. Leases stay. What is still taken must not go on.
    pub async fn link_lost(&self, link: &LinkMailbox, groups: AllGroups) {
        let mut presentities = link.unanswered();
        presentities.extend(groups.into_keys());
        for presentity in presentities {
            let lost = self.principals.look(&presentity, |principal, _| {
                principal.presentity.link_lost(link.id);
            });
            if let Err(error) = lost.await {
                tracing::warn!(%error, "the loss of a link could not be noted");
            }
        }
    }

    async fn join(
        &self,
        link: &LinkMailbox,
        groups: &mut Groups,
        presentity: &Address,
        watcher: &Address,
        claimed: Option<Version>,
    ) -> Result<Done, Error> {
        loop {
            let joined = self.look(presentity, |presentity, now| {
                presentity.join_groups(now, link.id, groups, watcher, claimed)
            });
            match joined.await.map_err(|error| storage_error(&error).by_home())? {
                Joined::Due => {
                    let done = self.principals.expire(presentity).await;
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
        &self,
        link: &LinkMailbox,
        groups: &mut AllGroups,
        presentity: &Address,
        out: &mut BytesMut,
        room: usize,
    ) -> Result<(), StoreError> {
        let Some(of) = groups.get_mut(presentity) else { return Ok(()) };
        let before = of.len();
        let left = room.saturating_sub(out.len()).max(PULL_BYTES_MIN);
        let told = self.pull(link, of, presentity, left).await?;
        link.count_watchers(before, of.len());
        if of.is_empty() {
            groups.remove(presentity);
        }
        for told in told {
            self.metrics.notifications.inc();
            put(out, notify(presentity, told).into());
        }
        Ok(())
    }

    async fn pull(
        &self,
        link: &LinkMailbox,
        groups: &mut Groups,
        presentity: &Address,
        room: usize,
    ) -> Result<Vec<GroupTold>, StoreError> {
        let mut told = Vec::new();
        loop {
            // In one look, since all of them may go at any time between two.
            let pulled = self.look(presentity, |known, now| {
                if self.accounts.get(presentity).is_none() {
                    told.extend(self.close(groups, presentity, known));
                }
                known.pull_groups(now, link.id, groups, room)
            });
            match pulled.await? {
                PulledGroups::Due => self.principals.expire(presentity).await?,
                PulledGroups::Told(more) => {
                    told.extend(more);
                    return Ok(told);
                }
                PulledGroups::More(more) => {
                    link.presentity_dirty(presentity);
                    told.extend(more);
                    return Ok(told);
                }
            }
        }
    }

    /// Where there is no account: those of whom nobody knows any more, it was removed or given up, are
    /// told so.
    fn close(
        &self,
        groups: &mut Groups,
        presentity: &Address,
        known: &Presentity,
    ) -> Vec<GroupTold> {
        let is_gone = |watcher: &&Address| known.watcher(watcher).is_none();
        let watchers: Vec<Address> = groups.watchers().filter(is_gone).cloned().collect();
        for watcher in &watchers {
            groups.leave(watcher);
        }
        let told = GroupTold {
            group: None,
            watchers,
            state: SubscriptionState::Terminated,
            event: Some(self.routes.ended(presentity)),
            content: None,
            version: None,
            set: None,
        };
        told.split()
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
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

fn taken(subscribe: Subscribe, result: Result<Standing, Error>) -> Taken {
    let (presentity, claimed) = (subscribe.address, subscribe.version);
    let watcher = subscribe.watcher.unwrap_or_else(|| presentity.clone());
    Taken { presentity, watcher, claimed, result: result.map_err(|error| error.by_home()) }
}

fn ended() -> Done {
    let state = Some(SubscriptionState::Terminated);
    Done { state, lease: Some(Duration::ZERO), ..Done::empty() }
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
