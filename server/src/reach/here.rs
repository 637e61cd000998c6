//! Presentities of this server, as its own principals ask for them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use impp_acl::Watcher;
use impp_federation::shares::Claim;
use impp_presence::{Answer, Asked, Change, Pulled, Told};
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Code, Error};

use super::{Follow, Follows, Home, Looked, Pull, Release, Stands};
use crate::core::answers::{Stored, crowded, refused};
use crate::core::notify::fetched;
use crate::core::principals::Principals;
use crate::core::routes::Routes;

/// See the module.
#[derive(Debug)]
pub(super) struct Here {
    routes: Arc<Routes>,
    principals: Arc<Principals>,
}

impl Here {
    pub(super) fn new(routes: Arc<Routes>, principals: Arc<Principals>) -> Here {
        Here { routes, principals }
    }

    /// Whether there is somebody whose presence can be asked for.
    ///
    /// # Errors
    /// storage: that is not known.
    fn is_there(&self, presentity: &Address) -> Result<bool, Error> {
        match needs_presence(&self.routes, presentity) {
            Err(error) if error.code == Code::Storage => Err(error),
            found => Ok(found.is_ok()),
        }
    }
}

/// The address must be of an account here that has presence.
///
/// # Errors
/// unknown-domain, not-found, moved, not-offered or storage.
pub fn needs_presence(routes: &Routes, presentity: &Address) -> Result<(), Error> {
    match routes.account(presentity)?.services.pres {
        true => Ok(()),
        false => Err(Error::new(Code::NotOffered, format!("{presentity} has no presence"))),
    }
}

impl Home for Here {
    fn admit(&self, _: &Address, presentity: &Address) -> Result<Option<Claim>, Error> {
        needs_presence(&self.routes, presentity).map(|()| None)
    }

    fn follow<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Follow,
    ) -> BoxFuture<'a, Result<Follows, Error>> {
        async move {
            needs_presence(&self.routes, presentity)?;
            let Follow { watcher, bond, listener, wait: _ } = ask;
            let pending_max = self.principals.settings().load().limits.pending_max as usize;
            let follow = Change::Follow { watcher: watcher.clone(), bond, listener, pending_max };
            let state = match self.principals.change(presentity, follow).await.stored()? {
                Answer::Asked(Asked::Stands(state)) => state,
                Answer::Asked(Asked::Crowded) => return Err(crowded()),
                _ => return Err(refused(presentity)),
            };
            let version = self
                .principals
                .look(presentity, |principal, now| principal.presentity.version_for(now, &watcher));
            Ok(Follows { state, version: version.await.stored()?, answered: None })
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Release,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if !self.is_there(presentity)? {
                return Ok(());
            }
            let Release { watcher, keepers, listener } = ask;
            let release = Change::Release { watcher, keepers, listener };
            self.principals.change(presentity, release).await.stored().map(drop)
        }
        .boxed()
    }

    fn end<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
        event: SubscriptionEvent,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            if !self.is_there(presentity)? {
                return Ok(false);
            }
            let end = Change::End(watcher.clone(), event);
            let ended = self.principals.change(presentity, end).await.stored()?;
            Ok(ended == Answer::Ended(true))
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Pull<'a>,
    ) -> BoxFuture<'a, Result<Option<Told>, Error>> {
        async move {
            match self.routes.account(presentity) {
                Err(error) if error.code == Code::Storage => return Err(error),
                Err(_) => return Ok(Some(Told::ended(SubscriptionEvent::Noresource))),
                Ok(_) => {}
            }
            let Pull { watcher, session, held, state } = ask;
            // After what time has made due was done.
            loop {
                let pulled = self.principals.look(presentity, |principal, now| {
                    principal.presentity.pull(now, watcher, session, held, state)
                });
                match pulled.await.stored()? {
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
            if !self.is_there(presentity)? {
                return Ok(None);
            }
            let stands = self.principals.look(presentity, |principal, now| {
                let version = principal.presentity.version_for(now, watcher);
                let watching = principal.presentity.watcher(watcher)?;
                let (state, event) = (watching.state, watching.event);
                let ends_in = watching.bonds.ends_in(now);
                Some(Stands { state, event, ends_in, version, is_known: true })
            });
            stands.await.stored()
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
                needs_presence(&self.routes, presentity)?;
                let watcher = Watcher::Principal(watcher.clone());
                let found = self.principals.look(presentity, |principal, now| {
                    principal.presentity.fetch(now, &watcher, held)
                });
                fetched(presentity, found.await.stored()?)
            };
            Looked::Now(looked.await)
        }
        .boxed()
    }
}
