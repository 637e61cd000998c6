//! One presentity that another domain asks for, or one who does not exist and must look the same.
//!
//! What is made of it for the other side is in `home`.

use std::time::Duration;

use impp_presence::{Answer, Asked, Bond, Change, Keeper, Presentity};
use impp_protocol::command::Subscribe;
use impp_protocol::{Address, By, Code, Error, Timestamp, What};
use impp_storage::StoreError;

use super::super::mailbox::LinkMailbox;
use super::{Home, Standing, check};
use crate::core::answers::{Stored, crowded, refused};
use crate::core::config::seconds;
use crate::core::keeping::{Bill, Commits, asker, forgotten, lane_of};
use crate::core::listeners::Listener;
use crate::core::principals::{ChangeError, Principal};

/// Who is asked for: a presentity of ours, or nobody, who must not be told from one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    Presentity,
    Nobody,
}

impl Home {
    /// Does what SUBSCRIBE asks: the watcher follows, or does not any more.
    pub(super) async fn follow(
        &self,
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
        let lease = self.granted(subscribe.lease);
        let whom = self.whom(presentity)?;
        if let Whom::Presentity = whom {
            link.ghosts().forget(presentity);
        }
        match lease.is_zero() {
            true => self.release(link, whom, presentity, watcher).await,
            false => self.stand(link, whom, presentity, watcher, lease).await,
        }
    }

    /// How long a watcher follows that asks for so long.
    fn granted(&self, asked: Option<Duration>) -> Duration {
        let config = self.settings.load();
        let longest = seconds(config.times.lease_max_seconds);
        asked.unwrap_or(seconds(config.federation.lease_seconds)).min(longest)
    }

    async fn release(
        &self,
        link: &LinkMailbox,
        whom: Whom,
        presentity: &Address,
        watcher: &Address,
    ) -> Result<Standing, Error> {
        let (watcher, keepers) = (watcher.clone(), vec![Keeper::Server]);
        let release = Change::Release { watcher, keepers, listener: Some(link.id.into()) };
        self.change(link, whom, presentity, release, |_| true).await.stored()?;
        Ok(Standing::Ended)
    }

    async fn stand(
        &self,
        link: &LinkMailbox,
        whom: Whom,
        presentity: &Address,
        watcher: &Address,
        lease: Duration,
    ) -> Result<Standing, Error> {
        let config = self.settings.load_full();
        let most = config.federation.subscriptions_max as usize;
        let pending_max = config.limits.pending_max as usize;
        let bond = Bond::Server(self.clock.now().after(lease));
        if let Whom::Presentity = whom {
            link.takes(presentity);
        }
        let has_room = |principal: &mut Principal| {
            principal.presentity.is_kept_by_server(watcher)
                || self.standing.count(&link.local, &link.remote) < most
        };
        let (watcher, listener) = (watcher.clone(), Some(link.id.into()));
        let follow = Change::Follow { watcher, bond, listener, pending_max };
        let asked = self.change(link, whom, presentity, follow, has_room).await;
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
    /// moved; storage; and not-found or not-offered, where that is told.
    pub(super) fn whom(&self, address: &Address) -> Result<Whom, Error> {
        let account = self.accounts.get(address);
        if account.as_ref().is_some_and(|account| account.services.pres) {
            return Ok(Whom::Presentity);
        }
        if account.is_none() {
            self.accounts.not_closed(address).map_err(|error| error.by(By::Home))?;
        }
        if account.is_none()
            && let Some(moved) = self.routes.redirected(address)
        {
            let mut error =
                Error::new(Code::Moved, format!("{address} is {moved} now")).by(By::Home);
            error.address = Some(moved);
            return Err(error);
        }
        match (self.settings.load().federation.tell_unknown, account) {
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

    /// Changes a presentity if it is as it has to be, or one who does not exist and must look the same.
    async fn change(
        &self,
        link: &LinkMailbox,
        whom: Whom,
        address: &Address,
        change: Change,
        fits: impl FnOnce(&mut Principal) -> bool,
    ) -> Result<Option<Answer>, ChangeError> {
        if let Whom::Presentity = whom {
            let fits = |principal: &mut Principal| fits(principal).then_some(()).ok_or(());
            return Ok(self.principals.change_if(address, change, fits).await?.ok());
        }
        let share = asker(&change).map(|asker| lane_of(asker, false));
        let asked = link.ghosts().ask(address, self.clock.now(), change);
        let (answer, effects) =
            asked.map_err(|error| StoreError::Damaged { what: error.to_string() })?;
        let ops = forgotten(address, &effects.writes);
        if !ops.is_empty() {
            let bill = Bill { share, ..Bill::default() };
            let now = self.clock.now();
            Commits::submit(&*self.store, now, ops, &bill, Some(address)).done().await?;
        }
        if effects.wake.contains(&link.id.into()) {
            link.presentity_dirty(address);
        }
        Ok(Some(answer))
    }

    /// Looks at a presentity, or at one who does not exist and was asked for over this link.
    pub(super) async fn look<R>(
        &self,
        link: &LinkMailbox,
        address: &Address,
        act: impl FnOnce(&mut Presentity, Timestamp) -> R,
    ) -> Result<R, StoreError> {
        if let Some(ghost) = link.ghosts().find(address) {
            return Ok(act(ghost, self.clock.now()));
        }
        self.principals.look(address, |principal, now| act(&mut principal.presentity, now)).await
    }

    pub(super) async fn expire(
        &self,
        link: &LinkMailbox,
        presentity: &Address,
    ) -> Result<(), StoreError> {
        if let Some(ghost) = link.ghosts().find(presentity) {
            ghost.expire(self.clock.now());
            return Ok(());
        }
        self.principals.expire(presentity).await
    }
}
