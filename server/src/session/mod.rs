//! A session: what a signed-in device asks, follows, and still has to be told.
//!
//! The connection's bytes and deadlines are left to `net::connection`; decisions to the
//! principals' machines.

mod contacts;
mod devices;
pub mod entry;
mod fate;
mod follow;
mod lists;
mod log;
mod messages;
mod publish;
mod requests;
mod rules;
pub mod sign_in;
mod watchers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_presence::{Change, Held, Keeper, Told};
use impp_protocol::command::{Bye, Done, Fetch, Message, Notify, Subscribe};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, Command, Error, What};

use crate::accounts::Account;
use crate::answers::Answer;
use crate::config::seconds;
use crate::host::Host;
use crate::listeners::Listener;
use crate::notify::{disclose, put};
use crate::principals::ChangeError;
use crate::reach::{Pull, Release};
use crate::sessions::Mailbox;
use crate::timers::Due;

/// When what could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Where others leave word.
    pub mailbox: Arc<Mailbox>,
    /// Whose it is.
    pub account: Arc<Account>,
    followed: HashMap<Address, Followed>,
    /// Whether the contact list is followed as it changes, and whom it names.
    expanded: bool,
    by_contact: BTreeSet<Address>,
    log: Option<log::Following>,
    /// Whether the client is sent items of the log of every kind; it said so in its HELLO.
    pub every_item: bool,
    /// Says to answers that wait for other domains that the connection ends.
    hurry: tokio::sync::watch::Sender<()>,
}

/// A presentity that the client follows, and what it was told of it.
#[derive(Clone, Debug, Default)]
struct Followed {
    held: Held,
    state: Option<SubscriptionState>,
    /// The answer is still to come, from another domain: nothing is told before.
    waits: Option<follow::Waits>,
}

impl Followed {
    /// What was answered.
    fn answered(held: Held, state: SubscriptionState) -> Followed {
        Followed { held, state: Some(state), waits: None }
    }
}

impl Session {
    /// A new session.
    pub fn new(mailbox: Arc<Mailbox>, account: Arc<Account>) -> Session {
        let (followed, by_contact) = (HashMap::new(), BTreeSet::new());
        let hurry = tokio::sync::watch::Sender::new(());
        Session {
            mailbox,
            account,
            followed,
            expanded: false,
            by_contact,
            log: None,
            every_item: false,
            hurry,
        }
    }

    /// The connection ends: what waits for other domains is answered as far as it is known.
    pub fn hurry(&self) {
        self.hurry.send_replace(());
    }

    /// Goes on over a new connection. What was told on the old one may not have arrived, so
    /// everything followed is told again, as snapshots; the log is followed from where the client
    /// says.
    ///
    /// # Errors
    /// [`ChangeError`] if the return cannot be noted.
    pub async fn resume(&mut self, host: &Arc<Host>) -> Result<(), ChangeError> {
        self.log = None;
        self.mailbox.set_absent(false);
        for (presentity, followed) in &mut self.followed {
            *followed = Followed::default();
            self.mailbox.presentity_dirty(presentity);
        }
        self.mailbox.contacts_changed();
        crate::devices::note_use_soon(host, &self.mailbox);
        let id = self.mailbox.id;
        host.timers.set(Due::Session(id), None);
        let rebound = host.principals.change(&self.account.address, Change::Rebind(id, None));
        rebound.await.map(drop)
    }

    /// Whose it is.
    pub fn address(&self) -> &Address {
        &self.account.address
    }

    /// The client has said that it is there.
    pub fn is_there(&self, host: &Arc<Host>) {
        crate::devices::note_use_soon(host, &self.mailbox);
    }

    /// Does what the client asks.
    pub async fn handle(&mut self, host: &Arc<Host>, command: Command) -> Answer {
        if let Command::Subscribe(Subscribe { watcher: Some(_), .. })
        | Command::Fetch(Fetch { watcher: Some(_), .. }) = command
        {
            // Who asks is who signed in, whatever the frame says.
            let text = "watcher: only servers write this";
            return Answer::Now(Error::new(Code::Refused, text).into());
        }
        crate::devices::note_use_soon(host, &self.mailbox);
        let handled = match command {
            Command::Message(message) => return self.message(host, message).await,
            Command::Publish(publish) => self.publish(host, publish).await,
            Command::Subscribe(subscribe) => return self.subscribe(host, subscribe).await,
            Command::Fetch(fetch) => return self.fetch(host, fetch).await,
            Command::Ack(ack) => self.ack(host, ack).await,
            Command::Ping(_) => Ok(Done::empty()),
            other => {
                let text = format!("{} is not for clients to send now", other.kind());
                Err(Error::new(Code::WrongState, text))
            }
        };
        Answer::now(handled)
    }

    /// Appends what the client has to be told, as long as `out` has less than `room` bytes; what
    /// does not fit is looked at again when there is room.
    pub async fn tell(&mut self, host: &Arc<Host>, out: &mut BytesMut, room: usize) -> Option<Bye> {
        if let Some(bye) = self.mailbox.take_bye() {
            return Some(bye);
        }
        if out.len() >= room {
            return None;
        }
        let news = self.mailbox.take();
        let mut volatile = news.volatile.into_iter();
        for message in volatile.by_ref() {
            if let Ok(message) = Message::decode(message) {
                put(out, message.into());
            }
            if out.len() >= room {
                break;
            }
        }
        self.mailbox.volatile_again(volatile);
        if news.contacts && self.expanded {
            for (address, event) in self.expand_again(host).await {
                let notify = Notify::of(address, What::Presence, SubscriptionState::Terminated);
                put(out, Notify { event: Some(event), ..notify }.into());
            }
        }
        if news.log
            && let Some(log) = &mut self.log
        {
            log.grown = true;
        }
        for presentity in news.dirty {
            if out.len() >= room {
                self.mailbox.presentity_dirty(&presentity);
            } else if let Err(error) = self.tell_presence(host, &presentity, out).await {
                // The others are told all the same; this one is looked at again after a while.
                tracing::error!(%error, "a followed presentity could not be read");
                self.mailbox.presentity_dirty_later(presentity, AGAIN);
            }
        }
        if let Err(error) = self.tell_log(host, out, room).await {
            tracing::error!(%error, "a followed log could not be read");
            self.mailbox.log_grew_later(AGAIN);
        }
        None
    }

    async fn tell_presence(
        &mut self,
        host: &Arc<Host>,
        presentity: &Address,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let Some(mut followed) = self.followed.get(presentity).cloned() else { return Ok(()) };
        match followed.waits.as_ref().map(|waits| waits.get()) {
            None => {}
            Some(None) => return Ok(()),
            Some(Some(None)) => {
                self.unfollowed(presentity);
                return Ok(());
            }
            Some(Some(Some((held, state)))) => {
                followed = Followed::answered(*held, *state);
                self.followed.insert(presentity.clone(), followed.clone());
            }
        }
        let (watcher, session) = (&self.account.address, self.mailbox.id);
        let Followed { held, state, .. } = followed;
        let pull = Pull { watcher, session, held, state };
        let Some(told) = host.reach.pull(presentity, pull).await? else { return Ok(()) };
        host.metrics.notifications.inc();
        let Told { state, event, content } = told;
        let mut notify = Notify::of(presentity.clone(), What::Presence, state);
        notify.event = event;
        let held = match (&content, state) {
            (Some(content), _) => Held::Sent(content.version()),
            (None, SubscriptionState::Active | SubscriptionState::Stale) => followed.held,
            (None, _) => Held::Nothing,
        };
        if let Some(content) = content {
            disclose(&mut notify, &content);
        }
        put(out, notify.into());
        if state == SubscriptionState::Terminated {
            self.unfollowed(presentity);
        } else {
            self.followed.insert(presentity.clone(), Followed::answered(held, state));
        }
        Ok(())
    }

    /// The connection is lost: the session can be resumed for a while, and what is bound to it
    /// stays for its grace.
    pub async fn park(self, host: &Arc<Host>, grace: Duration) {
        let now = host.clock.now();
        let window = seconds(host.settings.load().times.resume_window_seconds);
        let (id, address) = (self.mailbox.id, self.account.address.clone());
        self.mailbox.set_absent(true);
        let rebound = host.principals.change(&address, Change::Rebind(id, Some(now.after(grace))));
        if let Err(error) = rebound.await {
            tracing::warn!(%error, "a lost connection could not be noted");
        }
        let mailbox = self.mailbox.clone();
        host.timers.set(Due::Session(id), Some(now.after(window)));
        host.parked.insert(id, self);
        mailbox.let_go();
        // Whoever ended it meanwhile did not find it.
        if mailbox.is_revoked()
            && let Some((_, session)) = host.parked.remove(&id)
        {
            Box::pin(session.end(host)).await;
        }
        crate::devices::note_use(host, &mailbox).await;
    }

    /// The session ends, with all that is bound to it.
    pub async fn end(self, host: &Arc<Host>) {
        self.forget(host);
        crate::devices::note_use(host, &self.mailbox).await;
        let id = self.mailbox.id;
        let keepers = vec![Keeper::Session(id)];
        for presentity in self.followed.keys() {
            let (watcher, listener) = (self.account.address.clone(), Some(id));
            let release = Release { watcher, keepers: keepers.clone(), listener };
            let left = host.reach.release(presentity, release).await;
            if let Err(error) = left {
                tracing::warn!(%error, "the end of a subscription could not be stored");
            }
        }
        let ended = host.principals.change(&self.account.address, Change::EndSession(id));
        if let Err(error) = ended.await {
            tracing::warn!(%error, "the end of a session could not be stored");
        }
    }

    fn now_follows(&mut self, presentity: &Address, followed: Followed) {
        self.followed.insert(presentity.clone(), followed);
        self.mailbox.now_follows(presentity);
        self.mailbox.presentity_dirty(presentity);
    }

    fn unfollowed(&mut self, presentity: &Address) {
        self.followed.remove(presentity);
        self.mailbox.unfollowed(presentity);
    }

    /// Takes the session out of the tables.
    pub fn forget(&self, host: &Host) {
        host.sessions.leave(&self.mailbox);
        host.timers.set(Due::Session(self.mailbox.id), None);
        host.metrics.sessions.dec();
    }

    /// The service of presence is asked for.
    fn needs_presence(&self) -> Result<(), Error> {
        offered(self.account.services.pres, "presence")
    }

    /// The service of messages is asked for.
    fn needs_messages(&self) -> Result<(), Error> {
        offered(self.account.services.im, "messages")
    }

    /// The thing named must be the caller's own.
    fn needs_own(&self, address: &Address) -> Result<(), Error> {
        if *address == self.account.address {
            return Ok(());
        }
        let text = format!("you are {}, and that is {address}'s own", self.account.address);
        Err(Error::new(Code::Refused, text))
    }
}

fn offered(offered: bool, service: &str) -> Result<(), Error> {
    let text = format!("this account does not have the service of {service}");
    if offered { Ok(()) } else { Err(Error::new(Code::NotOffered, text)) }
}
