//! What messages to other domains have come to: into their senders' logs, in one step with the end of
//! their waiting; or on to where their recipients have moved.
//!
//! When a message ends, and how, is decided by `impp_federation::queue`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use impp_federation::queue::{Cause, Ending, Item, Place, Sending, follow};
use impp_protocol::command::{Message, Written};
use impp_protocol::state::{Fate, FateReport};
use impp_protocol::{Address, Code, Command, Error, Timestamp, What};
use impp_storage::{self as storage, Expect, Lane, Op, Store, StoreError, Unit};

use super::deliver::{Bearer, Delivery};
use super::outgoing::{Carriers, enter};
use super::queued::{self, delete, item, key, parse, record, stamp};
use super::waiting::Waiting;
use crate::core::accounts::Accounts;
use crate::core::answers::{Answer, Stored};
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::records::logs::{fate_of, trimmed};
use crate::core::records::{QueuedRecord, place};
use crate::core::routes::Routes;
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;
use crate::reach::{Brought, bring};

/// Fates that are stored at once.
const ENDINGS_AT_ONCE: usize = 64;
/// When a fate that could not be stored is tried again; it doubles from try to try,
const AGAIN: Duration = Duration::from_secs(1);
/// up to this.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub struct Fates {
    store: Arc<dyn Store>,
    clock: Clock,
    chance: Arc<dyn Chance>,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    routes: Arc<Routes>,
    sessions: Arc<Sessions>,
    delivery: Arc<Delivery>,
    /// Above, and made with this.
    carriers: Weak<dyn Carriers>,
}

/// A message on its way to another address.
struct Moved {
    to: Address,
    hops: u64,
    record: QueuedRecord,
    body: Bytes,
    version: u64,
    expires: Option<Timestamp>,
}

/// The same, brought where it leads now: taken here, or nothing but that it goes on from here.
struct Redirected<'a> {
    delivery: &'a Arc<Delivery>,
    message: Written,
    from: Address,
}

impl Brought for Redirected<'_> {
    type Outcome = Option<Result<(), Error>>;

    async fn here(self) -> Self::Outcome {
        Some(settled(self.delivery.deliver(self.message, self.from, Bearer::Queue).await).await)
    }

    async fn elsewhere(self) -> Self::Outcome {
        None
    }
}

/// How far the way from address to address here has led.
enum Astray {
    /// To its end.
    Ended(FateReport),
    /// To another domain.
    Beyond(Address, u64),
}

impl Fates {
    /// Of messages in the queues that these carry.
    pub fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        sessions: Arc<Sessions>,
        delivery: Arc<Delivery>,
        carriers: Weak<dyn Carriers>,
    ) -> Fates {
        let Ground { store, clock, chance, settings, accounts, .. } = ground.clone();
        Fates { store, clock, chance, settings, accounts, routes, sessions, delivery, carriers }
    }

    /// The message that goes over the link. `None` if nothing goes out in its sender's name any more:
    /// the account is gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(&self, sending: &Sending) -> Result<Option<Message>, StoreError> {
        match self.accounts.get(&sending.from) {
            Some(_) => queued::load(&*self.store, sending).await,
            None => Ok(None),
        }
    }

    /// Stores the ends that messages have come to, in tasks of its own.
    pub fn store_endings(self: &Arc<Self>, waiting: &Arc<Waiting>) {
        loop {
            let endings: Vec<Ending> = waiting.with(|queue| {
                std::iter::from_fn(|| queue.next_ending()).take(ENDINGS_AT_ONCE).collect()
            });
            if endings.is_empty() {
                return;
            }
            let (fates, waiting) = (self.clone(), waiting.clone());
            tokio::spawn(async move { fates.store(&waiting, endings).await });
        }
    }

    async fn store(&self, waiting: &Arc<Waiting>, endings: Vec<Ending>) {
        let (moved, ended): (Vec<_>, Vec<_>) =
            endings.into_iter().partition(|ending| matches!(ending.place, Place::Moved(_)));
        let mut of: BTreeMap<&Address, Vec<&Ending>> = BTreeMap::new();
        ended.iter().for_each(|ending| of.entry(&ending.from).or_default().push(ending));
        // Whoever has so much waiting that this has to wait too holds up no other.
        let all = of.into_iter().map(|(from, ended)| self.store_ended(waiting, from, ended));
        futures_util::future::join_all(all).await;
        for ending in moved {
            if let Err(error) = self.move_on(waiting, &ending).await {
                let (now, chance) = (self.clock.now(), self.chance.spread());
                waiting.settle(|queue| queue.waits_on(now, ending.ticket, &error, chance));
            }
        }
    }

    /// The ends of one sender's.
    async fn store_ended(&self, waiting: &Waiting, from: &Address, ended: Vec<&Ending>) {
        let mut ops = Vec::new();
        for ending in &ended {
            let Place::Ended(fate, cause) = &ending.place else { continue };
            ops.extend(self.last_ops(ending, &report(ending, *fate, cause.clone())));
        }
        if !ops.is_empty() && self.keep_storing(from, ops).await {
            waiting.change(|queue| ended.iter().for_each(|ending| queue.remove(ending.ticket)));
            self.sessions.thing_changed(from, What::Log);
        }
    }

    /// In the lane of the sender, which has it in its queue and its log.
    async fn put(&self, from: &Address, ops: Vec<Op>) -> Result<storage::Outcome, StoreError> {
        let unit = Unit::of(self.clock.wall(), ops).in_lane(Lane::Account(from.clone()));
        self.store.submit(unit).await
    }

    /// Stores until it is done; whether it is: not if the server stops before, or its store has failed.
    async fn keep_storing(&self, from: &Address, ops: Vec<Op>) -> bool {
        let mut wait = AGAIN;
        loop {
            match self.put(from, ops.clone()).await {
                Ok(_) => return true,
                Err(StoreError::Stopped) => return false,
                // Nothing is written any more before the next start, which ends it as this would.
                Err(StoreError::Failed { .. }) => return false,
                Err(error) if wait == AGAIN => {
                    tracing::error!(
                        %error,
                        "fates of messages could not be stored; they are tried again"
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// What ends a message on the disk: it waits no more, and its sender's log has its fate. The log
    /// of an account that is gone stays empty.
    fn last_ops(&self, ending: &Ending, report: &FateReport) -> Vec<Op> {
        let mut ops = vec![delete(&ending.from, ending.ticket)];
        if self.accounts.get(&ending.from).is_some() {
            ops.push(fate_of(&ending.from, report));
            ops.push(trimmed(&ending.from, &self.settings.load().inbox, None));
        }
        ops
    }

    /// The recipient has another home: the message is sent there, one hop less (design: nested domains
    /// by redirect).
    ///
    /// # Errors
    /// Why it has to wait where it is.
    async fn move_on(&self, waiting: &Arc<Waiting>, ending: &Ending) -> Result<(), Error> {
        let Place::Moved(to) = &ending.place else { return Ok(()) };
        let kept = self.store.get(key(&ending.from, ending.ticket)).await.stored()?;
        let Some(kept) = kept else {
            waiting.with(|queue| queue.remove(ending.ticket));
            return Ok(());
        };
        let (record, body) = parse(&kept.value).stored()?;
        let message =
            Message::decode(body.clone()).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        let expires = message.expires.map(|at| self.clock.named(at));
        match self.follow(ending, to, message).await? {
            Astray::Ended(report) => self.end_here(waiting, ending, report).await,
            Astray::Beyond(to, hops) => {
                let moved = Moved { to, hops, record, body, version: kept.version, expires };
                self.send_on(waiting, ending, moved).await
            }
        }
    }

    /// From address to address here, as far as the hops go.
    ///
    /// # Errors
    /// Why it has to wait.
    async fn follow(
        &self,
        ending: &Ending,
        to: &Address,
        message: Message,
    ) -> Result<Astray, Error> {
        let (mut to, mut hops) = (to.clone(), ending.hops.saturating_sub(1));
        let failed = loop {
            if hops == 0 {
                let text = format!("{} was sent from address to address", ending.recipient);
                break Cause::here(Code::Loop, text);
            }
            let redirected_from = stamp(&ending.recipient, &to);
            let message = Message { to: to.clone(), redirected_from, ..message.clone() };
            let (message, from) = (Written::new(message), ending.from.clone());
            let redirected = Redirected { delivery: &self.delivery, message, from };
            let brought = bring(&self.routes, &ending.from, &to, redirected).await;
            let Some(taken) = brought else { return Ok(Astray::Beyond(to, hops)) };
            match taken {
                Ok(()) => return Ok(Astray::Ended(report(ending, Fate::Delivered, None))),
                Err(Error { code: Code::Moved, address: Some(next), by, .. }) => {
                    match follow(&ending.recipient, &to, &next, by) {
                        Ok(()) => (to, hops) = (next, hops - 1),
                        Err(astray) => break astray,
                    }
                }
                Err(error) if error.code.is_permanent() => break Cause::said(&error),
                Err(error) => return Err(error),
            }
        };
        Ok(Astray::Ended(report(ending, Fate::Failed, Some(failed))))
    }

    async fn end_here(
        &self,
        waiting: &Waiting,
        ending: &Ending,
        report: FateReport,
    ) -> Result<(), Error> {
        self.put(&ending.from, self.last_ops(ending, &report)).await.stored()?;
        waiting.settle(|queue| queue.remove(ending.ticket));
        self.sessions.thing_changed(&ending.from, What::Log);
        Ok(())
    }

    /// From one queue into another.
    async fn send_on(
        &self,
        waiting: &Arc<Waiting>,
        ending: &Ending,
        moved: Moved,
    ) -> Result<(), Error> {
        let Some(carriers) = self.carriers.upgrade() else {
            return Err(Error::new(Code::Stopping, "the server is stopping"));
        };
        let Moved { to, hops, record: kept, body, version, expires } = moved;
        let (local, remote, since) = (ending.from.domain(), to.domain(), kept.since());
        // Its sender pays there too.
        let claim = Some(carriers.claim_held(&ending.from, &remote)?);
        let (recipient, bytes) = (ending.recipient.clone(), body.len() as u64);
        let links = self.settings.load_full();
        let (ticket, id) = (ending.ticket, ending.id);
        let item = item(&links.federation, ticket, id, &ending.from, &to, since);
        let item = Item { recipient, hops, bytes, expires, claim, ..item };
        let find = || carriers.waiting_held(&local, &remote);
        // There must be a place for it before it leaves the one it has.
        let (next, ()) = enter(find, |_| ())?;
        let record = record(&ending.recipient, &to, hops, since, &body);
        let put = place::queued(&ending.from, ticket).put_if(Expect::Version(version), &record);
        let outcome = self.put(&ending.from, vec![put]).await.stored()?;
        waiting.with(|queue| queue.remove(ticket));
        if matches!(outcome, storage::Outcome::Committed { .. }) {
            // The entry may have ended since, and then there is one more again.
            if let Err(error) = enter(find, |queue| queue.restore(item.clone())) {
                tracing::error!(%remote, %error, "a redirected message waits until a restart");
            }
        }
        waiting.changed.notify_one();
        next.changed.notify_one();
        Ok(())
    }
}

impl std::fmt::Debug for Fates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fates").finish_non_exhaustive()
    }
}

fn report(ending: &Ending, fate: Fate, cause: Option<Cause>) -> FateReport {
    let (id, to) = (ending.id, ending.recipient.clone());
    match cause {
        Some(Cause { code, by, text, address }) => {
            FateReport { id, to, fate, code: Some(code), by: Some(by), text, address }
        }
        None => FateReport { id, to, fate, code: None, by: None, text: None, address: None },
    }
}

/// Waits for the answer to a delivery.
async fn settled(answer: Result<Answer, Error>) -> Result<(), Error> {
    let command = match answer? {
        Answer::Now(command) => command,
        Answer::Later(later) => later.await,
    };
    match command {
        Command::Error(error) => Err(error),
        _ => Ok(()),
    }
}
