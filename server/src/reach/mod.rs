//! One door to a presentity or an inbox, wherever it is: what is asked or brought are values, and the one
//! who asks does not see whether it is answered from here or from another domain.
//!
//! Links are left to `link`; what there is to ask of them is said by [`Beyond`]. They ask for what is here
//! by the functions of [`here`].

mod beyond;
mod elsewhere;
pub mod here;
mod inboxes;
mod mirrors;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use impp_federation::shares::Claim;
use impp_presence::{Bond, Held, Keeper, ListenerId, Told};
use impp_protocol::command::Done;
use impp_protocol::presence::Version;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Error, SessionId};
use tokio::sync::oneshot;

use crate::core::principals::Principals;
use crate::core::routes::{Routes, Where};
use crate::core::settings::Snapshot;
pub use beyond::Beyond;
use elsewhere::Elsewhere;
use here::Here;
pub use inboxes::{Brought, bring};
pub use mirrors::Mirrors;

/// Somebody follows.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Who.
    pub watcher: Address,
    /// What keeps it.
    pub bond: Bond,
    /// Who is to be told.
    pub listener: Option<ListenerId>,
    /// Whether the first answer of another domain is waited for, by [`Follows::answered`].
    pub wait: bool,
}

/// How one who has just begun to follow stands.
#[derive(Debug)]
pub struct Follows {
    /// Whom, by the text that is held of them anyway: who keeps it needs none of its own.
    pub whom: Address,
    /// How.
    pub state: SubscriptionState,
    /// The version that is shown, if any.
    pub version: Option<Version>,
    /// Tells when another domain has answered, if that is waited for.
    pub answered: Option<oneshot::Receiver<Result<(), Error>>>,
}

/// Somebody lets go of what keeps a subscription.
#[derive(Clone, Debug)]
pub struct Release {
    /// Who.
    pub watcher: Address,
    /// What.
    pub keepers: Vec<Keeper>,
    /// Who is not to be told any more.
    pub listener: Option<ListenerId>,
}

/// All subscriptions of somebody end.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose.
    pub watcher: Address,
    /// Why.
    pub event: SubscriptionEvent,
    /// Whether they end with the account: the operator pays then, they end whatever the watcher may ask
    /// for, and what only this side has of them goes with the account.
    pub with_account: bool,
}

/// A session asks what there is to tell of what it follows.
#[derive(Clone, Copy, Debug)]
pub struct Pull<'a> {
    /// Whose session.
    pub watcher: &'a Address,
    /// Which.
    pub session: SessionId,
    /// What its client holds.
    pub held: Held,
    /// What it was told.
    pub state: Option<SubscriptionState>,
}

/// How one who follows stands.
#[derive(Clone, Copy, Debug)]
pub struct Stands {
    /// How.
    pub state: SubscriptionState,
    /// What brought it there.
    pub event: SubscriptionEvent,
    /// In how long it ends by itself.
    pub ends_in: Option<std::time::Duration>,
    /// What is shown.
    pub version: Option<Version>,
    /// Whether it is kept, or somebody has still to hear of its end; else only another domain has.
    pub is_known: bool,
}

impl Stands {
    /// Whether it is told to who follows. An end is seen before it is stored.
    pub fn goes_on(&self) -> bool {
        self.is_known && self.state != SubscriptionState::Terminated
    }
}

/// The answer to one who looks once.
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
pub enum Looked {
    /// This.
    Now(Result<Done, Error>),
    /// It comes later: another domain is asked.
    Later(BoxFuture<'static, Result<Done, Error>>),
}

/// Where presentities are, as one who is asked for them there answers.
trait Home: Send + Sync {
    /// Whether somebody may ask to follow; another domain takes a place, which is held until it is
    /// asked.
    ///
    /// # Errors
    /// not-found, not-offered; full.
    fn admit(&self, watcher: &Address, presentity: &Address) -> Result<Option<Claim>, Error>;

    /// Somebody follows; what is durable is so when this is done.
    fn follow<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Follow,
        settings: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Follows, Error>>;

    /// Somebody lets go.
    fn release<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Release,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// All subscriptions of a watcher end; whether there were any.
    fn end<'a>(&'a self, presentity: &'a Address, ask: End) -> BoxFuture<'a, Result<bool, Error>>;

    /// What there is to tell.
    fn pull<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Pull<'a>,
    ) -> BoxFuture<'a, Result<Option<Told>, Error>>;

    /// How somebody stands, if they follow.
    fn stands<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
    ) -> BoxFuture<'a, Result<Option<Stands>, Error>>;

    /// Somebody who holds this looks once.
    fn look<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
        held: Option<Version>,
    ) -> BoxFuture<'a, Looked>;
}

/// See the module.
#[derive(Debug)]
pub struct Reach {
    routes: Arc<Routes>,
    here: Here,
    elsewhere: Elsewhere,
}

impl Reach {
    /// What is here is asked of the principals, what is elsewhere of the mirrors.
    pub fn new(routes: Arc<Routes>, principals: Arc<Principals>, mirrors: Arc<Mirrors>) -> Reach {
        let here = Here::new(Arc::clone(&routes), principals);
        Reach { routes, here, elsewhere: Elsewhere::new(mirrors) }
    }

    /// Where a presentity is, as somebody of this server asks for it: the one place that knows.
    fn home(&self, asker: &Address, presentity: &Address) -> Result<&dyn Home, Error> {
        match self.routes.locate(asker, presentity)? {
            Where::Here => Ok(&self.here),
            Where::Elsewhere => Ok(&self.elsewhere),
        }
    }

    /// Whether somebody may ask to follow; what is returned is held until they have.
    ///
    /// # Errors
    /// unknown-domain, not-found, not-offered, full.
    pub fn admit(&self, watcher: &Address, presentity: &Address) -> Result<Option<Claim>, Error> {
        self.home(watcher, presentity)?.admit(watcher, presentity)
    }

    /// Somebody follows, by the settings by which it was looked at before; what is durable is so when
    /// this is done.
    ///
    /// # Errors
    /// Why they may not.
    pub async fn follow(
        &self,
        presentity: &Address,
        ask: Follow,
        settings: &Snapshot,
    ) -> Result<Follows, Error> {
        self.home(&ask.watcher, presentity)?.follow(presentity, ask, settings).await
    }

    /// Somebody lets go. There is nothing to let go of where nobody is.
    ///
    /// # Errors
    /// The store's.
    pub async fn release(&self, presentity: &Address, ask: Release) -> Result<(), Error> {
        match self.home(&ask.watcher, presentity) {
            Ok(home) => home.release(presentity, ask).await,
            Err(_) => Ok(()),
        }
    }

    /// All subscriptions of a watcher end; whether there were any.
    ///
    /// # Errors
    /// The store's.
    pub async fn end(&self, presentity: &Address, ask: End) -> Result<bool, Error> {
        match self.home(&ask.watcher, presentity) {
            Ok(home) => home.end(presentity, ask).await,
            Err(_) => Ok(false),
        }
    }

    /// What there is to tell of a presentity that is followed. One that is no more has ended.
    ///
    /// # Errors
    /// The store's.
    pub async fn pull(&self, presentity: &Address, ask: Pull<'_>) -> Result<Option<Told>, Error> {
        match self.home(ask.watcher, presentity) {
            Ok(home) => home.pull(presentity, ask).await,
            Err(_) => Ok(Some(Told::ended(SubscriptionEvent::Noresource))),
        }
    }

    /// How somebody stands, if they follow.
    ///
    /// # Errors
    /// The store's.
    pub async fn stands(
        &self,
        presentity: &Address,
        watcher: &Address,
    ) -> Result<Option<Stands>, Error> {
        match self.home(watcher, presentity) {
            Ok(home) => home.stands(presentity, watcher).await,
            Err(_) => Ok(None),
        }
    }

    /// The same for a list: one who is closed by damage closes nobody else's.
    ///
    /// # Errors
    /// Others than that.
    pub async fn stands_in_list(
        &self,
        presentity: &Address,
        watcher: &Address,
    ) -> Result<Option<Stands>, Error> {
        match self.stands(presentity, watcher).await {
            Err(error) if error.code == Code::Storage => Ok(None),
            stands => stands,
        }
    }

    /// Somebody who holds this looks once.
    pub async fn look(
        &self,
        presentity: &Address,
        watcher: &Address,
        held: Option<Version>,
    ) -> Looked {
        match self.home(watcher, presentity) {
            Ok(home) => home.look(presentity, watcher, held).await,
            Err(error) => Looked::Now(Err(error)),
        }
    }
}
