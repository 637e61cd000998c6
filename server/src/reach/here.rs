//! Presentities of this server, as its own principals ask for them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use impp_acl::{RulesError, Watcher};
use impp_federation::shares::Claim;
use impp_presence::ghosts::{Ghosts, ghost};
use impp_presence::{Answer, Asked, Change, Presentity, Pulled, Told};
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Code, Error, Timestamp};
use impp_storage::Store;
use parking_lot::Mutex;

use super::{Follow, Follows, Home, Looked, Pull, Release, Stands};
use crate::core::answers::{Stored, crowded, refused};
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::keeping::{Bill, Commits, asker, forgotten, lane_of};
use crate::core::listeners::Listeners;
use crate::core::notify::fetched;
use crate::core::principals::{Principal, Principals};
use crate::core::routes::Routes;

/// See the module.
pub(super) struct Here {
    store: Arc<dyn Store>,
    clock: Clock,
    routes: Arc<Routes>,
    principals: Arc<Principals>,
    listeners: Arc<Listeners>,
    /// Addresses that do not exist, of which users of another domain hosted here are not to know that:
    /// they are answered as users of a domain elsewhere are, by `link/home`. All of them share the room.
    ghosts: Mutex<Ghosts>,
}

/// Who is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Presentity,
    Nobody,
}

impl Here {
    pub(super) fn new(ground: &Ground, routes: Arc<Routes>, principals: Arc<Principals>) -> Here {
        let Ground { store, clock, listeners, .. } = ground.clone();
        Here { store, clock, routes, principals, listeners, ghosts: Mutex::default() }
    }

    /// Who is asked for by somebody.
    ///
    /// # Errors
    /// That there is nobody, where it may be told; moved; storage: that is not known.
    fn whom(&self, asker: &Address, presentity: &Address) -> Result<Whom, Error> {
        match needs_presence(&self.routes, presentity) {
            Ok(()) => Ok(Whom::Presentity),
            Err(error) if self.routes.is_hidden(asker, presentity, &error) => Ok(Whom::Nobody),
            Err(error) => Err(error),
        }
    }

    /// The same, where there may be nothing to do: nobody is asked who was not asked to be followed.
    ///
    /// # Errors
    /// storage.
    fn asked_before(&self, asker: &Address, presentity: &Address) -> Result<Option<Whom>, Error> {
        match self.whom(asker, presentity) {
            Err(error) if error.code == Code::Storage => Err(error),
            Err(_) => Ok(None),
            Ok(Whom::Nobody) => Ok(self.ghosts.lock().contains(presentity).then_some(Whom::Nobody)),
            Ok(Whom::Presentity) => Ok(Some(Whom::Presentity)),
        }
    }

    async fn change(
        &self,
        whom: Whom,
        presentity: &Address,
        change: Change,
    ) -> Result<Answer, Error> {
        if whom == Whom::Presentity {
            self.ghosts.lock().forget(presentity);
            return self.principals.change(presentity, change).await.stored();
        }
        let now = self.clock.now();
        let share = asker(&change).map(|asker| lane_of(asker, true));
        let asked = {
            let mut ghosts = self.ghosts.lock();
            let asked = ghosts.ask(presentity, now, change);
            // Whoever asks for them here sees by himself what has become of them.
            drop(ghosts.take_dropped());
            asked
        };
        let (answer, effects) = asked.map_err(|error| broken(&error))?;
        let ops = forgotten(presentity, &effects.writes);
        if !ops.is_empty() {
            // As long as it takes with one who exists.
            let bill = Bill { share, ..Bill::default() };
            Commits::submit(&*self.store, now, ops, &bill, Some(presentity))
                .done()
                .await
                .stored()?;
        }
        self.listeners.wake(presentity, &effects.wake);
        Ok(answer)
    }

    async fn look<R>(
        &self,
        whom: Whom,
        presentity: &Address,
        act: impl FnOnce(&mut Presentity, Timestamp) -> R,
    ) -> Result<R, Error> {
        if whom == Whom::Presentity {
            let look = |principal: &mut Principal, now| act(&mut principal.presentity, now);
            return self.principals.look(presentity, look).await.stored();
        }
        let (now, mut ghosts) = (self.clock.now(), self.ghosts.lock());
        match ghosts.find(presentity) {
            Some(ghost) => Ok(act(ghost, now)),
            None => Ok(act(&mut ghost(presentity, now).map_err(|error| broken(&error))?, now)),
        }
    }

    async fn expire(&self, whom: Whom, presentity: &Address) -> Result<(), Error> {
        if whom == Whom::Presentity {
            return self.principals.expire(presentity).await.stored();
        }
        if let Some(ghost) = self.ghosts.lock().find(presentity) {
            ghost.expire(self.clock.now());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here").finish_non_exhaustive()
    }
}

fn broken(error: &RulesError) -> Error {
    Error::new(Code::Internal, error.to_string())
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
    fn admit(&self, watcher: &Address, presentity: &Address) -> Result<Option<Claim>, Error> {
        self.whom(watcher, presentity).map(|_| None)
    }

    fn follow<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Follow,
    ) -> BoxFuture<'a, Result<Follows, Error>> {
        async move {
            let Follow { watcher, bond, listener, wait: _ } = ask;
            let whom = self.whom(&watcher, presentity)?;
            let pending_max = self.principals.settings().load().limits.pending_max as usize;
            let follow = Change::Follow { watcher: watcher.clone(), bond, listener, pending_max };
            let state = match self.change(whom, presentity, follow).await? {
                Answer::Asked(Asked::Stands(state)) => state,
                Answer::Asked(Asked::Crowded) => return Err(crowded()),
                _ => return Err(refused(presentity)),
            };
            let version = self
                .look(whom, presentity, |presentity, now| presentity.version_for(now, &watcher));
            Ok(Follows { state, version: version.await?, answered: None })
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Release,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let Release { watcher, keepers, listener } = ask;
            let Some(whom) = self.asked_before(&watcher, presentity)? else { return Ok(()) };
            let release = Change::Release { watcher, keepers, listener };
            self.change(whom, presentity, release).await.map(drop)
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
            let Some(whom) = self.asked_before(watcher, presentity)? else { return Ok(false) };
            let end = Change::End(watcher.clone(), event);
            let ended = self.change(whom, presentity, end).await?;
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
            let whom = match self.routes.account(presentity) {
                Ok(_) => Whom::Presentity,
                Err(error) if error.code == Code::Storage => return Err(error),
                Err(error) if self.routes.is_hidden(ask.watcher, presentity, &error) => {
                    Whom::Nobody
                }
                Err(_) => return Ok(Some(Told::ended(SubscriptionEvent::Noresource))),
            };
            let Pull { watcher, session, held, state } = ask;
            // After what time has made due was done.
            loop {
                let pulled = self.look(whom, presentity, |presentity, now| {
                    presentity.pull(now, watcher, session, held, state)
                });
                match pulled.await? {
                    Pulled::Nothing => return Ok(None),
                    Pulled::Told(told) => return Ok(Some(told)),
                    Pulled::Due => self.expire(whom, presentity).await?,
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
            let Some(whom) = self.asked_before(watcher, presentity)? else { return Ok(None) };
            let stands = self.look(whom, presentity, |presentity, now| {
                let version = presentity.version_for(now, watcher);
                let watching = presentity.watcher(watcher)?;
                let (state, event) = (watching.state, watching.event);
                let ends_in = watching.bonds.ends_in(now);
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
                let whom = self.whom(watcher, presentity)?;
                let watcher = Watcher::Principal(watcher.clone());
                let found = self.look(whom, presentity, |presentity, now| {
                    presentity.fetch(now, &watcher, held)
                });
                fetched(presentity, found.await?)
            };
            Looked::Now(looked.await)
        }
        .boxed()
    }
}
