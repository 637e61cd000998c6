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

use super::follow::{ended, held, stands};
use super::telling::told;
use super::{Event, Front, Serving, costs};
use crate::core::answers::{Answer, Handled, Unstored, refused};
use crate::core::budget::{Cost, Flow, Lacks, Terms};
use crate::core::budgets::BudgetsOf;
use crate::core::config::Limits;
use crate::core::listeners::Listener;
use crate::core::seats::{Seat, Seating, Seats};
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
    place: Seat<IpAddr>,
}

/// What they take from each address, or IPv6 /64: places, and requests and bytes of all that are from there.
#[derive(Debug, Default)]
pub struct Visits {
    places: Arc<Seats<IpAddr>>,
    budgets: BudgetsOf<IpAddr>,
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
        let one = usize::try_from(limits.anonymous_per_address_max).unwrap_or(usize::MAX);
        let there_are = Seating { one, all: usize::MAX };
        let place = serving.visits.places.take(source_of(from), there_are);
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
        Ok(Visitor { mailbox, serving, domain, followed, place })
    }

    /// Does what the client asks, if all who come from there have not asked for too much.
    pub async fn handle(&mut self, command: Command) -> Command {
        let handled = match self.afford(&command) {
            Ok(()) => self.done(command).await,
            Err(much) => Err(much),
        };
        if let Ok(Done { content: Some(content), .. }) = &handled {
            self.owes(content.len());
        }
        Answer::said(handled)
    }

    /// Takes a request from the budget of where it comes from: of the bytes that are told for it the first,
    /// as it is not known before how many they are.
    fn afford(&self, command: &Command) -> Result<(), Error> {
        let (now, cost) = (self.serving.clock.now(), Cost { work: 1, stored: 1 });
        let (of, terms) = (self.place.of(), terms(&self.serving.settings.load().limits));
        let budgets = &self.serving.visits.budgets;
        // Nor is a PING refused, which says that somebody is there still.
        if matches!(command, Command::Ping(_)) {
            let _ = budgets.take(now, of, terms, cost);
            return Ok(());
        }
        if costs::takes_back(command) {
            budgets.owe(now, of, terms, cost);
            return Ok(());
        }
        budgets.take(now, of, terms, cost).map_err(|lacks| {
            let (Lacks::Work(wait) | Lacks::Stored(wait)) = lacks;
            let text = "too much is asked without a name from your address; slow down";
            Error::new(Code::RateLimited, text).retry_after(wait)
        })
    }

    /// So many bytes were told: who comes next from there pays for them.
    fn owes(&self, bytes: usize) {
        let (now, cost) = (self.serving.clock.now(), Cost { work: 0, stored: bytes as u64 });
        let terms = terms(&self.serving.settings.load().limits);
        self.serving.visits.budgets.owe(now, self.place.of(), terms, cost);
    }

    async fn done(&mut self, command: Command) -> Handled {
        match command {
            Command::Ping(_) => Ok(Done { time: Some(self.serving.clock.wall()), ..Done::empty() }),
            Command::Fetch(fetch) if fetch.watcher.is_none() => self.fetch(fetch).await,
            Command::Subscribe(subscribe) if subscribe.watcher.is_none() => {
                self.subscribe(subscribe).await
            }
            other => Err(nameless(&other.kind().to_string())),
        }
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
        let (watcher, bond) = (acting.watcher().clone(), Bond::Session(self.mailbox.id));
        let listener = Some(self.mailbox.id.into());
        let follow = Follow { watcher, bond, listener, wait: false };
        let config = self.serving.settings.load_full();
        let Follows { state, version, .. } =
            self.serving.rooms.reach.follow(presentity, follow, &config).await?;
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
        self.owes(notify.snapshot.iter().chain(&notify.patch).map(|bytes| bytes.len()).sum());
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

/// What all from one address may ask for and be told.
fn terms(limits: &Limits) -> Terms {
    Terms {
        work: Flow {
            per_second: limits.anonymous_requests_per_second,
            burst: limits.anonymous_requests_burst,
        },
        stored: Flow {
            per_second: limits.anonymous_bytes_per_second,
            burst: limits.anonymous_bytes_burst,
        },
    }
}

/// What is said of all that needs a name.
fn nameless(what: &str) -> Error {
    let text = format!("{what}: without a name you may look at presence and follow it, no more");
    Error::new(Code::Refused, text)
}
