//! One presentity that another domain asks for. One who does not exist must look the same, and is asked
//! in the same way: see `core/principals/ghosts.rs`.
//!
//! What is made of it for the other side is in `home`.

use std::time::Duration;

use impp_acl::{Acting, scope};
use impp_presence::{Bond, Keeper, Presentity};
use impp_protocol::command::Subscribe;
use impp_protocol::{Address, By, Code, Error, Timestamp, What};
use impp_storage::StoreError;

use super::super::mailbox::LinkMailbox;
use super::{Home, Standing, permit};
use crate::core::config::seconds;
use crate::core::principals::Principal;
use crate::core::routes::redirected;
use crate::reach::{Follow, Release, here};

impl Home {
    /// Does what SUBSCRIBE asks: the watcher follows, or does not any more.
    pub(super) async fn follow(
        &self,
        link: &LinkMailbox,
        acting: &Acting<scope::Sight>,
        lease: Option<Duration>,
    ) -> Result<Standing, Error> {
        let lease = self.granted(lease);
        self.admits(link, acting.owner())?;
        match lease.is_zero() {
            true => self.release(link, acting).await,
            false => self.stand(link, acting, lease).await,
        }
    }

    /// Whether what the other side asks can be asked, where it ends what there is none of. Nobody has a
    /// place by that.
    ///
    /// # Errors
    /// As for one that ends what there is.
    pub(super) fn had_nothing(
        &self,
        link: &LinkMailbox,
        subscribe: &Subscribe,
    ) -> Result<(), Error> {
        self.may_tell(may_be_asked(link, subscribe)?.owner())
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
        acting: &Acting<scope::Sight>,
    ) -> Result<Standing, Error> {
        let presentity = acting.owner();
        let (watcher, keepers) = (acting.watcher().clone(), vec![Keeper::Server]);
        let release = Release { watcher, keepers, listener: Some(link.id.into()) };
        here::release(&self.principals, presentity, release).await?;
        Ok(Standing::Ended)
    }

    async fn stand(
        &self,
        link: &LinkMailbox,
        acting: &Acting<scope::Sight>,
        lease: Duration,
    ) -> Result<Standing, Error> {
        let (presentity, watcher) = (acting.owner(), acting.watcher());
        let config = self.settings.load_full();
        let most = config.federation.subscriptions_max as usize;
        let bond = Bond::Server(self.clock.now().after(lease));
        link.takes(presentity);
        let has_room = |principal: &mut Principal| {
            let stays = principal.presentity.is_kept_by_server(watcher)
                || self.standing.count(&link.local, &link.remote) < most;
            stays.then_some(()).ok_or(())
        };
        let (asker, listener) = (watcher.clone(), Some(link.id.into()));
        let follow = Follow { watcher: asker, bond, listener, wait: false };
        let pending_max = config.limits.pending_max;
        let asked = here::follow(&self.principals, presentity, follow, pending_max, has_room).await;
        if !matches!(asked, Ok(Ok(_))) {
            link.taken(presentity);
        }
        match asked? {
            Ok(_) => Ok(Standing::Follows(lease)),
            Err(()) => {
                let text = format!("{most} watchers of one domain, and that is the most");
                Err(Error::new(Code::Full, text))
            }
        }
    }

    /// Whether the other side may ask for an address, existing or not; one that does not has a place then.
    ///
    /// # Errors
    /// moved; storage; and not-found or not-offered, where that is told.
    pub(super) fn admits(&self, link: &LinkMailbox, address: &Address) -> Result<(), Error> {
        self.may_tell(address)?;
        self.principals.asked_from(address, &link.remote);
        Ok(())
    }

    /// What may be told of an address instead of an answer. All of it is looked up whoever is there, so that
    /// it takes as long.
    fn may_tell(&self, address: &Address) -> Result<(), Error> {
        let account = self.accounts.get(address);
        let closed = self.accounts.not_closed(address);
        let config = self.settings.load();
        let moved = redirected(address, &config);
        let tells = config.federation.tell_unknown;
        let (code, text) = match account {
            Some(account) if account.services.pres => return Ok(()),
            Some(_) => (Code::NotOffered, format!("{address} has no presence")),
            None => {
                closed.map_err(|error| error.by(By::Home))?;
                if let Some(moved) = moved {
                    let text = format!("{address} is {moved} now");
                    let error = Error::new(Code::Moved, text).by(By::Home);
                    return Err(Error { address: Some(moved), ..error });
                }
                (Code::NotFound, format!("{address} does not exist"))
            }
        };
        if tells { Err(Error::new(code, text).by(By::Home)) } else { Ok(()) }
    }

    /// Looks at a presentity.
    pub(super) async fn look<R>(
        &self,
        address: &Address,
        act: impl FnOnce(&mut Presentity, Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.principals.look(address, |principal, now| act(&mut principal.presentity, now)).await
    }
}

/// The permit for a SUBSCRIBE of the other side, if its watcher may ask so at all.
pub(super) fn may_be_asked(
    link: &LinkMailbox,
    subscribe: &Subscribe,
) -> Result<Acting<scope::Sight>, Error> {
    let acting = permit(link, subscribe.watcher.as_ref(), &subscribe.address)?;
    if subscribe.what != What::Presence || subscribe.expand {
        let text = format!("{} cannot be followed from other domains", subscribe.what);
        return Err(Error::new(Code::Unsupported, text));
    }
    Ok(acting)
}
