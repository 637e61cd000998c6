//! Presentities of this server, as its own principals ask for them.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use impp_acl::Watcher;
use impp_federation::shares::Claim;
use impp_presence::{Answer, Asked, Change, Fetched, Presentity, Pulled, Told};
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Error, Timestamp};

use super::{End, Follow, Follows, Home, Looked, Pull, Release, Stands};
use crate::core::answers::{Stored, crowded, refused};
use crate::core::notify::fetched;
use crate::core::principals::{Principal, Principals};
use crate::core::routes::{Routes, is_hidden};
use crate::core::settings::Snapshot;

/// See the module.
pub(super) struct Here {
    routes: Arc<Routes>,
    principals: Arc<Principals>,
}

impl Here {
    pub(super) fn new(routes: Arc<Routes>, principals: Arc<Principals>) -> Here {
        Here { routes, principals }
    }

    /// Whether somebody may ask for a presentity. A domain that is hosted beside the asker's is another
    /// domain: of an address there nobody learns whether it exists.
    ///
    /// # Errors
    /// That there is nobody, where it may be told; moved; storage: that is not known.
    fn admits(
        &self,
        asker: &Address,
        presentity: &Address,
        settings: &Snapshot,
    ) -> Result<(), Error> {
        let admitted = match needs_presence(&self.routes, presentity, settings) {
            Err(error) if is_hidden(asker, presentity, &error, settings) => Ok(()),
            admitted => admitted,
        };
        if admitted.is_ok() && asker.domain_str() != presentity.domain_str() {
            self.principals.asked_from(presentity, &asker.domain());
        }
        admitted
    }

    /// The same, where there may be nothing to do: nothing is asked for, so it takes no place.
    ///
    /// # Errors
    /// storage.
    fn may_be(&self, asker: &Address, presentity: &Address) -> Result<bool, Error> {
        let settings = self.settings();
        match needs_presence(&self.routes, presentity, &settings) {
            Err(error) if is_hidden(asker, presentity, &error, &settings) => Ok(true),
            Err(error) if error.code == Code::Storage => Err(error),
            admitted => Ok(admitted.is_ok()),
        }
    }

    /// What all of one question is answered by.
    fn settings(&self) -> Arc<Snapshot> {
        self.principals.settings().load_full()
    }

    async fn look<R>(
        &self,
        presentity: &Address,
        act: impl FnOnce(&mut Presentity, Timestamp) -> R,
    ) -> Result<R, Error> {
        let look = |principal: &mut Principal, now| act(&mut principal.presentity, now);
        self.principals.look(presentity, look).await.stored()
    }
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here").finish_non_exhaustive()
    }
}

/// The address must be of an account here that has presence.
///
/// # Errors
/// unknown-domain, not-found, moved, not-offered or storage.
fn needs_presence(routes: &Routes, presentity: &Address, settings: &Snapshot) -> Result<(), Error> {
    match routes.account(presentity, settings)?.services.pres {
        true => Ok(()),
        false => Err(Error::new(Code::NotOffered, format!("{presentity} has no presence"))),
    }
}

/// Somebody follows a presentity here, whose place it has to be and who may ask for it was seen to: that is
/// `fits`, what it says is within. Sessions come by `Home`, links from `link/home`.
///
/// # Errors
/// refused, full; the store's.
pub async fn follow<E: Send>(
    principals: &Arc<Principals>,
    presentity: &Address,
    ask: Follow,
    pending_max: u64,
    fits: impl FnOnce(&mut Principal) -> Result<(), E> + Send,
) -> Result<Result<SubscriptionState, E>, Error> {
    let Follow { watcher, bond, listener, wait: _ } = ask;
    let (asker, pending_max) = (watcher.clone(), pending_max as usize);
    let follow = Change::Follow { watcher, bond, listener, pending_max };
    match principals.change_if(presentity, follow, fits).await.stored()? {
        Err(unfit) => Ok(Err(unfit)),
        Ok(Answer::Asked(Asked::Stands(state))) => Ok(Ok(state)),
        Ok(Answer::Asked(Asked::Crowded)) => Err(crowded()),
        Ok(_) => {
            principals.looked(presentity, &asker, true).await;
            Err(refused(presentity))
        }
    }
}

/// Somebody lets go of one here.
///
/// # Errors
/// The store's.
pub async fn release(
    principals: &Arc<Principals>,
    presentity: &Address,
    ask: Release,
) -> Result<(), Error> {
    let Release { watcher, keepers, listener } = ask;
    let release = Change::Release { watcher, keepers, listener };
    principals.change(presentity, release).await.stored().map(drop)
}

impl Home for Here {
    fn admit(&self, watcher: &Address, presentity: &Address) -> Result<Option<Claim>, Error> {
        self.admits(watcher, presentity, &self.settings()).map(|()| None)
    }

    fn follow<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Follow,
        settings: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Follows, Error>> {
        async move {
            self.admits(&ask.watcher, presentity, settings)?;
            let pending_max = settings.limits.pending_max;
            let (watcher, fits) =
                (ask.watcher.clone(), |_: &mut Principal| Ok::<_, Infallible>(()));
            let state = match follow(&self.principals, presentity, ask, pending_max, fits).await? {
                Ok(state) => state,
                Err(never) => match never {},
            };
            let version =
                self.look(presentity, |presentity, now| presentity.version_for(now, &watcher));
            let account = self.routes.account(presentity, settings);
            let whom = account.map_or_else(|_| presentity.clone(), |own| own.address.clone());
            Ok(Follows { whom, state, version: version.await?, answered: None })
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Release,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if !self.may_be(&ask.watcher, presentity)? {
                return Ok(());
            }
            release(&self.principals, presentity, ask).await
        }
        .boxed()
    }

    fn end<'a>(&'a self, presentity: &'a Address, ask: End) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let End { watcher, event, with_account } = ask;
            if !with_account && !self.may_be(&watcher, presentity)? {
                return Ok(false);
            }
            let end = Change::End(watcher, event);
            let ended = match with_account {
                // Of the reserve its owner may have used all that it may.
                true => self.principals.change_for_operator(presentity, end).await,
                false => self.principals.change(presentity, end).await,
            };
            Ok(ended.stored()? == Answer::Ended(true))
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Pull<'a>,
    ) -> BoxFuture<'a, Result<Option<Told>, Error>> {
        async move {
            let settings = self.settings();
            let is_there = match self.routes.account(presentity, &settings) {
                Ok(_) => true,
                Err(error) if error.code == Code::Storage => return Err(error),
                Err(error) if is_hidden(ask.watcher, presentity, &error, &settings) => false,
                Err(_) => return Ok(Some(Told::ended(SubscriptionEvent::Noresource))),
            };
            let Pull { watcher, session, held, state } = ask;
            // After what time has made due was done.
            loop {
                let pulled = self.look(presentity, |found, now| {
                    if !is_there && found.watcher(watcher).is_none() {
                        return Pulled::Told(Told::ended(self.routes.ended(presentity)));
                    }
                    found.pull(now, watcher, session, held, state)
                });
                match pulled.await? {
                    Pulled::Nothing => return Ok(None),
                    Pulled::Told(told) => return Ok(Some(told)),
                    Pulled::Due => self.principals.expire(presentity).await.stored()?,
                }
            }
        }
        .boxed()
    }

    fn stands<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
    ) -> BoxFuture<'a, Result<Option<Stands>, Error>> {
        async move {
            if !self.may_be(watcher, presentity)? {
                return Ok(None);
            }
            let stands = self.look(presentity, |presentity, now| {
                let version = presentity.version_for(now, watcher);
                let watching = presentity.watcher(watcher)?;
                let (state, event) = (watching.state, watching.event);
                let ends_in = watching.bonds().ends_in(now);
                Some(Stands { state, event, ends_in, version, is_known: true })
            });
            stands.await
        }
        .boxed()
    }

    fn look<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
        held: Option<Version>,
    ) -> BoxFuture<'a, Looked> {
        async move {
            let looked = async {
                self.admits(watcher, presentity, &self.settings())?;
                let asker = Watcher::of(watcher);
                let found =
                    self.look(presentity, |presentity, now| presentity.fetch(now, &asker, held));
                let found = found.await?;
                let waits = matches!(found, Fetched::Pending);
                if waits && watcher.domain_str() != presentity.domain_str() {
                    self.principals.waits_at(presentity, &watcher.domain());
                }
                let refused = matches!(found, Fetched::Refused);
                self.principals.looked(presentity, watcher, refused).await;
                fetched(presentity, found)
            };
            Looked::Now(looked.await)
        }
        .boxed()
    }
}
