//! Somebody who has proven no name (SASL ANONYMOUS): they may look at presence of the domain that they
//! called, and follow it as long as their connection lives. Nothing else is theirs: no address, log,
//! device or lease, and no session that could be resumed. What they see, the owners' rules say.
//!
//! What goes over the wire is left to `front`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use impp_acl::{Acting, Ask, scope};
use impp_presence::{Bond, Held, Keeper};
use impp_protocol::command::{Bye, ByeReason, Done, Fetch, Subscribe};
use impp_protocol::hashing::HashMap;
use impp_protocol::sasl::resume::{Binding, Ticket};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, Command, DeviceId, Domain, Error, SessionId, What};
use parking_lot::Mutex;

use super::follow::{ended, held, stands};
use super::telling::told;
use super::{Event, Front, Serving};
use crate::core::answers::{Answer, Handled, Unstored, refused};
use crate::core::listeners::Listener;
use crate::core::sessions::Mailbox;
use crate::core::tickets::Issued;
use crate::reach::{Follow, Follows, Looked, Pull, Release};
use crate::wire::admission::source_of;

/// Presentities that one of them follows at most.
const VISITED_MAX: usize = 64;

/// See the module.
pub struct Visitor {
    /// Where others leave word for it.
    pub mailbox: Arc<Mailbox>,
    serving: Arc<Serving>,
    domain: Domain,
    /// What the client was told of those whom it follows.
    followed: HashMap<Address, (Held, Option<SubscriptionState>)>,
    _place: Visit,
}

/// How many of them there are from each address, or IPv6 /64.
#[derive(Debug, Default)]
pub struct Visits(Mutex<HashMap<IpAddr, u64>>);

/// A place among them, given back when dropped.
#[derive(Debug)]
struct Visit {
    visits: Arc<Visits>,
    source: IpAddr,
}

impl Visits {
    fn enter(self: &Arc<Visits>, from: IpAddr, max: u64) -> Option<Visit> {
        let source = source_of(from);
        let mut visits = self.0.lock();
        let count = visits.get(&source).copied().unwrap_or_default();
        (count < max).then(|| {
            visits.insert(source, count + 1);
            Visit { visits: self.clone(), source }
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.visits.0.lock();
        if let Some(count) = visits.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                visits.remove(&self.source);
            }
        }
    }
}

impl Visitor {
    /// Lets one in, who has called this domain.
    ///
    /// # Errors
    /// rate-limited, if too many have come from there; busy, if there are too many.
    pub fn enter(
        serving: &Arc<Serving>,
        domain: Domain,
        from: IpAddr,
        ids: ([u8; 16], [u8; 32]),
    ) -> Result<Visitor, Error> {
        let settings = serving.settings.load();
        let limits = &settings.limits;
        let place = serving.visits.enter(from, limits.anonymous_per_address_max);
        let Some(place) = place else {
            let text = "too many without a name come from this address";
            return Err(Error::new(Code::RateLimited, text));
        };
        let (id, key) = ids;
        let id = SessionId(id);
        // Nobody is told it.
        let ticket = Issued { ticket: Ticket::new(id, key), binding: Binding::Exporter };
        let own = Address::anonymous().clone();
        let mailbox = Arc::new(Mailbox::new(id, own, DeviceId::NIL, ticket));
        let max = usize::try_from(limits.anonymous_max).unwrap_or(usize::MAX);
        if !serving.rooms.live.sessions.enter(&mailbox, max) {
            return Err(Error::new(Code::Busy, "too many without a name are here"));
        }
        serving.metrics.sessions.inc();
        let (serving, followed) = (serving.clone(), HashMap::default());
        Ok(Visitor { mailbox, serving, domain, followed, _place: place })
    }

    /// Does what the client asks.
    pub async fn handle(&mut self, command: Command) -> Command {
        let handled = match command {
            Command::Ping(_) => Ok(Done { time: Some(self.serving.clock.wall()), ..Done::empty() }),
            Command::Fetch(fetch) if fetch.watcher.is_none() => self.fetch(fetch).await,
            Command::Subscribe(subscribe) if subscribe.watcher.is_none() => {
                self.subscribe(subscribe).await
            }
            other => Err(nameless(&other.kind().to_string())),
        };
        Answer::said(handled)
    }

    async fn fetch(&mut self, fetch: Fetch) -> Handled {
        let acting = self.acting(&fetch.address, fetch.what, Ask::Fetch)?;
        let reach = &self.serving.rooms.reach;
        match reach.look(acting.owner(), Address::anonymous(), fetch.version).await {
            Looked::Now(handled) => handled,
            // Only what is here is asked for.
            Looked::Later(_) => Err(refused(acting.owner())),
        }
    }

    async fn subscribe(&mut self, subscribe: Subscribe) -> Handled {
        let acting = self.acting(&subscribe.address, subscribe.what, Ask::Follow)?;
        match subscribe.lease {
            None => {}
            Some(Duration::ZERO) => return self.unfollow(&acting).await,
            Some(_) => {
                let text =
                    "without a name you follow as long as you are connected, and by no lease";
                return Err(Error::new(Code::Refused, text));
            }
        }
        let presentity = acting.owner();
        if self.followed.len() >= VISITED_MAX && !self.followed.contains_key(presentity) {
            let text = format!("you follow {VISITED_MAX} presentities, and that is the most");
            return Err(Error::new(Code::Full, text));
        }
        let (watcher, bond) = (Address::anonymous().clone(), Bond::Session(self.mailbox.id));
        let listener = Some(self.mailbox.id.into());
        let follow = Follow { watcher, bond, listener, wait: false };
        let Follows { state, version, .. } =
            self.serving.rooms.reach.follow(presentity, follow).await?;
        let holds = held(state, version, subscribe.version);
        self.followed.insert(presentity.clone(), (holds, Some(state)));
        self.mailbox.presentity_dirty(presentity);
        Ok(stands(state, None, version))
    }

    async fn unfollow(&mut self, acting: &Acting<scope::Sight>) -> Handled {
        self.followed.remove(acting.owner());
        self.release(acting.owner()).await?;
        Ok(ended())
    }

    async fn release(&self, presentity: &Address) -> Result<(), Error> {
        let (id, watcher) = (self.mailbox.id, Address::anonymous().clone());
        let (keepers, listener) = (vec![Keeper::Session(id)], Some(id.into()));
        self.serving.rooms.reach.release(presentity, Release { watcher, keepers, listener }).await
    }

    /// The permit for this, of somebody of the domain that was called, as long as it lets in who has no
    /// name.
    fn acting(&self, owner: &Address, what: What, ask: Ask) -> Result<Acting<scope::Sight>, Error> {
        let acting = Acting::anonymous(owner, what, ask).ok_or_else(|| nameless(&what.to_string()));
        let acting = acting?;
        match owner.domain_str() == self.domain.as_str() && self.is_let_in() {
            true => Ok(acting),
            false => Err(refused(owner)),
        }
    }

    fn is_let_in(&self) -> bool {
        self.serving.settings.load().lets_in_nameless(&self.domain)
    }

    /// Tells the client what there is, as long as there is room.
    pub async fn tell(&mut self, front: &mut dyn Front) -> Option<Bye> {
        if let Some(bye) = self.mailbox.take_bye() {
            return Some(bye);
        }
        if !front.has_room() {
            return None;
        }
        let news = self.mailbox.take();
        if !news.dirty.is_empty() && !self.is_let_in() {
            let text = format!("{} lets in nobody without a name any more", self.domain);
            return Some(Bye::new(ByeReason::Revoked, &text));
        }
        for presentity in news.dirty {
            if !front.has_room() {
                self.mailbox.presentity_dirty(&presentity);
            } else if let Err(error) = self.tell_presence(&presentity, front).await {
                tracing::error!(%error, "a followed presentity could not be read");
                self.mailbox.presentity_dirty_later(presentity);
            }
        }
        None
    }

    async fn tell_presence(
        &mut self,
        presentity: &Address,
        front: &mut dyn Front,
    ) -> Result<(), Error> {
        let Some((held, state)) = self.followed.get(presentity).copied() else { return Ok(()) };
        let (watcher, session) = (Address::anonymous(), self.mailbox.id);
        let pull = Pull { watcher, session, held, state };
        let Some(news) = self.serving.rooms.reach.pull(presentity, pull).await? else {
            return Ok(());
        };
        self.serving.metrics.notifications.inc();
        let state = news.state;
        let (notify, held) = told(presentity, news, held);
        front.tell(Event::State(notify));
        match state {
            SubscriptionState::Terminated => drop(self.followed.remove(presentity)),
            _ => drop(self.followed.insert(presentity.clone(), (held, Some(state)))),
        }
        Ok(())
    }

    /// It has gone, and with it what it followed.
    pub async fn end(mut self) {
        self.serving.rooms.live.sessions.leave(&self.mailbox);
        self.serving.metrics.sessions.dec();
        for (presentity, _) in std::mem::take(&mut self.followed) {
            if let Err(error) = self.release(&presentity).await {
                error.unstored("the end of a subscription");
            }
        }
    }
}

/// What is said of all that needs a name.
fn nameless(what: &str) -> Error {
    let text = format!("{what}: without a name you may look at presence and follow it, no more");
    Error::new(Code::Refused, text)
}
