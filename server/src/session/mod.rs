//! A session: what a signed-in device asks, follows, and still has to be told.
//!
//! What it asks of things is in `things`, where presence is in `reach`. A session tells events and no
//! bytes: what form they have on a wire is left to whoever carries them.

mod claims;
mod costs;
mod delegated;
pub mod devices;
pub mod entry;
mod events;
mod follow;
pub mod guesses;
mod live;
mod messages;
mod repeats;
pub mod sign_in;
mod telling;
#[cfg(test)]
mod tests;
mod things;
mod unheard;
mod visitor;
mod waiting;
mod whom;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use impp_presence::{Change, Keeper};
use impp_protocol::command::{Done, Fetch, Subscribe};
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Code, Command, Error, What};
use tokio::time::Instant;

use crate::core::answers::{Answer, Unstored};
use crate::core::budgets::Budgets;
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::listeners::Listener;
use crate::core::metrics::Metrics;
use crate::core::principals::{ChangeError, Principal, Principals};
use crate::core::routes::Routes;
use crate::core::secrets::Secrets;
use crate::core::settings::Settings;
use crate::core::timers::{Due, Timers};
use crate::messages::{Delivery, Marks, Outgoing};
use crate::reach::{Reach, Release};
pub use devices::Devices;
pub use events::{Event, Front};
pub use live::Live;
pub use repeats::Kept;
use things::Following;
pub use things::{Client, Rules, Things};
use unheard::Unheard;
pub use visitor::{Visitor, Visits};
use whom::{Followed, Mark, Whom};

/// The rooms that sessions stand on, beside the ground.
#[derive(Clone)]
pub struct Rooms {
    /// Where messages go.
    pub routes: Arc<Routes>,
    /// The presentities of this server.
    pub principals: Arc<Principals>,
    /// All presentities.
    pub reach: Arc<Reach>,
    /// The sessions that live.
    pub live: Arc<Live>,
    /// Messages into inboxes here.
    pub delivery: Arc<Delivery>,
    /// Messages to other domains.
    pub outgoing: Arc<Outgoing>,
    /// How far conversations were read.
    pub marks: Arc<Marks>,
    /// Keys.
    pub secrets: Arc<Secrets>,
    /// What accounts may still ask for.
    pub budgets: Arc<Budgets>,
}

/// What sessions are served from.
pub struct Serving {
    /// What they may ask of things.
    pub things: Things,
    /// The devices that sign in.
    pub devices: Arc<Devices>,
    /// What sessions stand on.
    pub rooms: Rooms,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Clock,
    /// Ids and tickets.
    pub chance: Arc<dyn Chance>,
    /// When a session that is parked ends.
    pub timers: Arc<Timers>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who is here without a name.
    pub visits: Arc<Visits>,
}

impl Serving {
    /// From these rooms.
    pub fn new(ground: &Ground, rooms: Rooms) -> Serving {
        let devices = Devices::new(ground, &rooms);
        let devices = Arc::new(devices);
        let things = Things::new(ground, &rooms, devices.clone());
        let Ground { settings, clock, chance, timers, metrics, .. } = ground.clone();
        let visits = Arc::default();
        Serving { things, devices, rooms, settings, clock, chance, timers, metrics, visits }
    }
}

/// See the module.
pub struct Session {
    /// Whose it is.
    pub client: Client,
    serving: Arc<Serving>,
    whom: Whom,
    /// What has ended, as the client was told; maybe on a connection that was lost just then.
    ended: Unheard<Option<SubscriptionEvent>>,
    /// Whether the contact list is followed as it changes.
    expanded: bool,
    /// Whether it takes no patches of those in it.
    whole_list: bool,
    /// Other things that are followed, as their files keep them.
    things: BTreeMap<(Address, What), Box<dyn Following>>,
    /// Until when the client is to say what it holds of presence; it is told none before.
    awaits: Option<Instant>,
    /// What was answered, if the client's numbers belong to the session.
    answers: Option<Arc<Mutex<repeats::Answers>>>,
    /// Tells requests that wait for a thing that it may have changed.
    grown: waiting::Grown,
    /// Says to answers that wait for other domains that the connection ends.
    hurry: Arc<tokio::sync::Notify>,
}

impl Session {
    /// A new session.
    pub fn new(client: Client, serving: Arc<Serving>) -> Session {
        let (whom, ended, things, awaits) = Default::default();
        let (answers, grown, hurry) = Default::default();
        Session {
            client,
            serving,
            whom,
            ended,
            expanded: false,
            whole_list: false,
            things,
            awaits,
            answers,
            grown,
            hurry,
        }
    }

    /// The connection ends: what waits for other domains is answered as far as it is known.
    pub fn hurry(&self) {
        self.hurry.notify_waiters();
    }

    /// Goes on over a new connection. What was told on the old one may not have arrived, so
    /// presence that is followed is told again, as snapshots, and other things as their files say; the log is
    /// followed anew from where the client says. Whether the layer that it published has ended by itself.
    ///
    /// # Errors
    /// [`ChangeError`] if the return cannot be noted.
    pub async fn resume(&mut self) -> Result<bool, ChangeError> {
        self.things.retain(|_, following| following.again());
        for (owner, what) in self.things.keys() {
            self.client.mailbox.thing_changed(owner, *what);
        }
        self.client.mailbox.set_absent(false);
        // So is the end of what has ended: whoever looks, and does not listen any more, is told so.
        self.whom.begin_anew();
        for (presentity, ended) in self.ended.take() {
            self.whom.follow(&presentity, Followed { ended, ..Followed::default() });
        }
        self.look_at_all();
        self.serving.devices.note_use_soon(&self.client.mailbox);
        let id = self.client.mailbox.id;
        self.serving.timers.set(Due::Session(id), None);
        self.change(Change::Rebind(id, None)).await?;
        if !self.client.mailbox.publishes() {
            return Ok(false);
        }
        // From now on what is bound to the session stays: what is not there now has ended before.
        let device = self.client.mailbox.device;
        let principals = &self.serving.rooms.principals;
        let has = |principal: &mut Principal, _| principal.presentity.layers().of(device).is_some();
        Ok(!principals.look(self.address(), has).await?)
    }

    /// Whose it is.
    pub fn address(&self) -> &Address {
        &self.client.account.address
    }

    /// The client has answered a PING: it is there, and has what was sent before.
    pub fn is_there(&mut self) {
        self.ended.heard();
        self.things.values_mut().for_each(|following| following.heard());
        self.serving.devices.note_use_soon(&self.client.mailbox);
    }

    /// Does what the client asks.
    pub async fn handle(&mut self, command: Command) -> Answer {
        if let Command::Subscribe(Subscribe { watcher: Some(_), .. })
        | Command::Fetch(Fetch { watcher: Some(_), .. }) = command
        {
            // Who asks is who signed in, whatever the frame says.
            let text = "watcher: only servers write this";
            return Answer::Now(Error::new(Code::Refused, text).into());
        }
        self.serving.devices.note_use_soon(&self.client.mailbox);
        if let Err(error) = self.afford(&command) {
            return Answer::Now(error.into());
        }
        // Each message has room for all that is not boxed.
        let handled = match command {
            Command::Message(message) => return self.message(message).await,
            Command::Publish(publish) => {
                Box::pin(self.serving.things.publish(&self.client, publish)).await
            }
            Command::Subscribe(subscribe) => return Box::pin(self.subscribe(subscribe)).await,
            Command::Fetch(fetch) => return Box::pin(self.fetch(fetch)).await,
            Command::Ack(ack) => return self.ack(&ack),
            // Its clock may have been set since its HELLO.
            Command::Ping(_) => Ok(Done { time: Some(self.serving.clock.wall()), ..Done::empty() }),
            other => {
                let text = format!("{} is not for clients to send now", other.kind());
                Err(Error::new(Code::WrongState, text))
            }
        };
        Answer::now(handled)
    }

    /// Takes what a request costs from its account's budget, whichever of its connections asks.
    fn afford(&self, command: &Command) -> Result<(), Error> {
        let Rooms { live, budgets, .. } = &self.serving.rooms;
        let sessions = || live.sessions.of(self.address()).len() as u64;
        let cost = costs::of(command, self.address(), sessions);
        match costs::takes_back(command) {
            true => budgets.owe(self.address(), cost),
            false => budgets.take(self.address(), cost)?,
        }
        Ok(())
    }

    /// The connection is lost: the session can be resumed for a while, and what is bound to it
    /// stays for its grace. One without a device ends.
    pub async fn park(self, grace: Duration) {
        if self.client.device().is_err() {
            // Nobody can come back to it.
            return Box::pin(self.end()).await;
        }
        let now = self.serving.clock.now();
        let window = seconds(self.serving.settings.load().times.resume_window_seconds);
        let id = self.client.mailbox.id;
        self.client.mailbox.set_absent(true);
        let rebind = Change::Rebind(id, Some(now.after(grace)));
        if let Err(error) = self.change(rebind).await {
            tracing::warn!(%error, "a lost connection could not be noted");
        }
        let mailbox = self.client.mailbox.clone();
        let serving = self.serving.clone();
        serving.timers.set(Due::Session(id), Some(now.after(window)));
        serving.rooms.live.park(self);
        mailbox.let_go();
        // Whoever ended it meanwhile did not find it.
        if mailbox.is_revoked()
            && let Some(session) = serving.rooms.live.take(id)
        {
            Box::pin(session.end()).await;
        }
        serving.devices.note_use(&mailbox).await;
    }

    /// The session ends, with all that is bound to it.
    pub async fn end(mut self) {
        self.forget();
        for following in std::mem::take(&mut self.things).into_values() {
            following.leave(&self.serving.things, &self.client).await;
        }
        self.serving.devices.note_use(&self.client.mailbox).await;
        let id = self.client.mailbox.id;
        let keepers = vec![Keeper::Session(id)];
        for presentity in self.whom.followed() {
            let (watcher, listener) = (self.client.account.address.clone(), Some(id.into()));
            let release = Release { watcher, keepers: keepers.clone(), listener };
            let left = self.serving.rooms.reach.release(presentity, release).await;
            if let Err(error) = left {
                error.unstored("the end of a subscription");
            }
        }
        if let Err(error) = self.change(Change::EndSession(id)).await {
            error.unstored("the end of a session");
        }
    }

    /// Changes the presentity whose owner has signed in.
    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        self.serving.rooms.principals.change(self.address(), change).await.map(drop)
    }

    fn now_follows(&mut self, presentity: &Address, followed: Followed) {
        self.ended.remove(presentity);
        self.whom.follow(presentity, followed);
        self.client.mailbox.now_follows(presentity);
        self.client.mailbox.presentity_dirty(presentity);
    }

    /// The end of it is told. As many are remembered as can be followed.
    fn told_end(&mut self, presentity: &Address, event: Option<SubscriptionEvent>) {
        self.unfollowed(presentity);
        if self.whom.is(presentity, Mark::Listed) {
            self.whom.mark(presentity, Mark::Lost, true);
        }
        let most = self.serving.settings.load().limits.subscriptions_max as usize;
        self.ended.told(presentity.clone(), event, most);
    }

    fn unfollowed(&mut self, presentity: &Address) {
        self.whom.let_go(presentity);
        self.client.mailbox.unfollowed(presentity);
    }

    /// Takes the session out of the tables.
    pub fn forget(&self) {
        self.serving.rooms.live.sessions.leave(&self.client.mailbox);
        self.serving.timers.set(Due::Session(self.client.mailbox.id), None);
        self.serving.metrics.sessions.dec();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("client", &self.client).finish_non_exhaustive()
    }
}
