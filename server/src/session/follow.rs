//! SUBSCRIBE and FETCH: following presence, of one or of a whole list, and reading it once. All other
//! things are followed and read by their own files.
//!
//! Where the presence is, here or in another domain, is left to `reach`. What another domain has to be
//! asked for is answered later, and nobody else waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use impp_acl::Ask;
use impp_presence::{Bond, Held, Keeper};
use impp_protocol::command::{Done, Fetch, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Contact, Contacts, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Error, Service, What};
use tokio::sync::oneshot;

use super::claims::claims;
use super::things::presence::granted;
use super::things::{contacts_of, lists, offered, permit, takes};
use super::whom::Waits;
use super::{Followed, Mark, Session};
use crate::core::answers::{Answer, Handled, Unstored};
use crate::core::config::Limits;
use crate::core::listeners::Listener;
use crate::core::steps::Steps;
use crate::reach::{Follow, Follows, Looked, Release};

/// Another domain's answer is waited for so long; then SUBSCRIBE is answered that the state is unknown,
/// and the rest comes by NOTIFY; FETCH that the home is unreachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Session {
    /// Follows a thing, refreshes that, or ends it.
    pub(super) async fn subscribe(&mut self, subscribe: Subscribe) -> Answer {
        if let Err(error) = takes(subscribe.what, Ask::Follow) {
            return Answer::now(Err(error));
        }
        let handled = match subscribe.what {
            What::Presence if subscribe.lease == Some(Duration::ZERO) => {
                self.unfollow(&subscribe.address).await
            }
            What::Presence => match self.follow(subscribe).await {
                Ok(answer) => return answer,
                Err(error) => Err(error),
            },
            What::Contacts if subscribe.expand => self.expand(subscribe).await,
            What::Contacts => self.hold(subscribe),
            _ => self.follow_thing(subscribe).await,
        };
        Answer::now(handled)
    }

    /// Follows a thing from where the client says, or ends that.
    async fn follow_thing(&mut self, subscribe: Subscribe) -> Handled {
        let (owner, what) = (subscribe.address.clone(), subscribe.what);
        let permit = permit(&self.client, &owner, what, Ask::Follow)?;
        if let Some(before) = self.things.remove(&(owner.clone(), what)) {
            before.leave(&self.serving.things, &self.client).await;
        }
        if subscribe.lease == Some(Duration::ZERO) {
            return Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() });
        }
        let following = self.serving.things.follow(&self.client, permit, subscribe).await?;
        self.client.mailbox.thing_changed(&owner, what);
        let cursor = following.begins();
        // They are its own, so they are no more than there are kinds of them.
        self.things.insert((owner, what), following);
        Ok(Done { state: Some(SubscriptionState::Active), cursor, ..Done::empty() })
    }

    /// Reads a thing once.
    pub(super) async fn fetch(&mut self, fetch: Fetch) -> Answer {
        match fetch.what {
            What::Presence => self.look(fetch).await,
            What::Log if fetch.wait => self.wait_for_log(fetch).await.into(),
            _ => Answer::now(self.serving.things.fetch(&self.client, fetch).await),
        }
    }

    async fn follow(&mut self, subscribe: Subscribe) -> Result<Answer, Error> {
        offered(&self.client.account, Service::Presence)?;
        let (presentity, claimed) = (subscribe.address, subscribe.version);
        // For the room here and there.
        let config = self.serving.settings.load_full();
        self.needs_room(&presentity, &config.limits)?;
        let snapshots = subscribe.snapshots;
        let lease = subscribe.lease;
        let lease = lease.map(|asked| granted(asked, &config.times)).transpose()?;
        let bond = match lease {
            Some(lease) => {
                self.needs_lease(&presentity, &config.limits)?;
                Bond::Lease(self.client.device()?, self.serving.clock.now().after(lease))
            }
            None => Bond::Session(self.client.mailbox.id),
        };
        let (watcher, listener) = (self.address().clone(), Some(self.client.mailbox.id.into()));
        let follow = Follow { watcher, bond, listener, wait: true };
        let Follows { whom: presentity, state, version, answered } =
            self.serving.rooms.reach.follow(&presentity, follow, &config).await?;
        self.whom.mark(&presentity, Mark::Whole, snapshots);
        let Some(answered) = answered else {
            let held = held(state, version, claimed);
            self.now_follows(&presentity, Followed::answered(held, state));
            self.whom.mark(&presentity, Mark::Own, true);
            return Ok(Answer::now(Ok(stands(state, lease, version))));
        };
        Ok(self.follow_later(presentity, claimed, lease, answered))
    }

    /// The answer that waits for another domain.
    fn follow_later(
        &mut self,
        presentity: Address,
        claimed: Option<Version>,
        lease: Option<Duration>,
        answered: oneshot::Receiver<Result<(), Error>>,
    ) -> Answer {
        let waits = Waits::default();
        self.now_follows(&presentity, Followed::default());
        self.whom.wait(&presentity, waits.clone());
        self.whom.mark(&presentity, Mark::Own, true);
        let (reach, mailbox) = (self.serving.rooms.reach.clone(), self.client.mailbox.clone());
        let (watcher, hurry) = (self.address().clone(), self.hurry.clone().notified_owned());
        Answer::later(async move {
            let answered = tokio::select! {
                // In one order, so that a world is the same each time.
                biased;
                answered = tokio::time::timeout(ANSWER_MAX, answered) => answered.ok(),
                () = hurry => None,
            };
            let (command, told) = match answered {
                Some(Ok(Err(error))) => (error.into(), None),
                _ => {
                    let found = reach.stands(&presentity, &watcher).await.ok().flatten();
                    let state = found.map_or(SubscriptionState::Terminated, |found| found.state);
                    let version = found.and_then(|found| found.version);
                    let ended = state == SubscriptionState::Terminated;
                    let told = (!ended).then(|| (held(state, version, claimed), state));
                    (stands(state, lease, version).into(), told)
                }
            };
            if told.is_none() {
                let (keepers, listener) = (Vec::new(), Some(mailbox.id.into()));
                let left = reach.release(&presentity, Release { watcher, keepers, listener });
                if let Err(error) = left.await {
                    error.unstored("the end of a subscription");
                }
            }
            // From now on there may be NOTIFY; the answer is written before.
            let _ = waits.set(told);
            mailbox.presentity_dirty(&presentity);
            command
        })
    }

    /// Looks once at presence.
    async fn look(&self, fetch: Fetch) -> Answer {
        if let Err(error) = offered(&self.client.account, Service::Presence) {
            return Answer::now(Err(error));
        }
        match self.serving.rooms.reach.look(&fetch.address, self.address(), fetch.version).await {
            Looked::Now(handled) => Answer::now(handled),
            Looked::Later(asked) => {
                let hurry = self.hurry.clone().notified_owned();
                let remote = fetch.address.domain();
                Answer::later(async move {
                    let answer = tokio::select! {
                        biased;
                        answer = tokio::time::timeout(ANSWER_MAX, asked) => answer.ok(),
                        () = hurry => None,
                    };
                    let late = || {
                        let text = format!("{remote} has not answered yet");
                        Err(Error::new(Code::Unreachable, text))
                    };
                    Answer::said(answer.unwrap_or_else(late))
                })
            }
        }
    }

    /// A session follows so many at most.
    fn needs_room(&self, presentity: &Address, limits: &Limits) -> Result<(), Error> {
        let limit = limits.subscriptions_max as usize;
        if self.whom.len() < limit || self.whom.of(presentity).is_some() {
            return Ok(());
        }
        let text = format!("you follow {limit} presentities, and that is the most");
        Err(Error::new(Code::Full, text))
    }

    /// An account follows so many by leases at most, on all its devices: they outlive its sessions.
    fn needs_lease(&self, presentity: &Address, limits: &Limits) -> Result<(), Error> {
        let most = limits.leases_max;
        let standing = self.serving.rooms.principals.standing();
        if standing.may_lease(self.address(), presentity, most as usize) {
            return Ok(());
        }
        let text = format!("you follow {most} presentities by leases, and that is the most");
        Err(Error::new(Code::Full, text))
    }

    async fn unfollow(&mut self, presentity: &Address) -> Handled {
        self.unfollowed(presentity);
        let id = self.client.mailbox.id;
        // What this session or its device keeps goes; what others keep, stays.
        let of_device = self.client.device().ok().map(Keeper::Device);
        let keepers = [Keeper::Session(id)].into_iter().chain(of_device).collect();
        let (watcher, listener) = (self.address().clone(), Some(id.into()));
        let release = Release { watcher, keepers, listener };
        self.serving.rooms.reach.release(presentity, release).await?;
        Ok(ended())
    }

    /// The session follows a presentity no more because of the contact list; whether that was all. What
    /// the client has asked for by itself stays, and so does a lease of its device.
    async fn unlist(&mut self, presentity: &Address) -> Result<bool, Error> {
        if self.whom.is(presentity, Mark::Own) {
            return Ok(false);
        }
        self.unfollowed(presentity);
        let id = self.client.mailbox.id;
        let (watcher, keepers) = (self.address().clone(), vec![Keeper::Session(id)]);
        let release = Release { watcher, keepers, listener: Some(id.into()) };
        self.serving.rooms.reach.release(presentity, release).await?;
        Ok(true)
    }

    /// All these are followed no more because of the contact list. Where that fails, those that are left
    /// count as followed because of it: who asks again has them let go, or followed again.
    async fn unlist_all(&mut self, mut gone: Vec<Address>) -> Result<(), Error> {
        while let Some(presentity) = gone.pop() {
            if let Err(error) = self.unlist(&presentity).await {
                for left in gone.iter().chain([&presentity]) {
                    self.whom.mark(left, Mark::Listed, true);
                }
                self.whom.mark(&presentity, Mark::Lost, true);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Follows the presence of all contacts, as long as the session lives.
    async fn expand(&mut self, subscribe: Subscribe) -> Handled {
        let acting = contacts_of(&self.client, &subscribe.address)?;
        offered(&self.client.account, Service::Presence)?;
        if subscribe.lease == Some(Duration::ZERO) {
            self.expanded = false;
            let all = self.whom.take_marked(Mark::Listed);
            self.unlist_all(all.into_iter().collect()).await?;
            return Ok(ended());
        }
        (self.expanded, self.whole_list) = (true, subscribe.snapshots);
        let mut claims = claims(subscribe.versions);
        let number = Some(self.serving.things.contacts.number(&acting).await?);
        let contacts = self.serving.things.contacts.entries(&acting).await?;
        let left = self.whom.take_marked(Mark::Listed);
        let (mut entries, mut steps) = (Vec::new(), Steps::default());
        for mut contact in contacts.into_iter().filter(|contact| contact.follow) {
            steps.taken().await;
            // Whoever asks anew holds what it says that it holds.
            let followed = Followed::claimed(claims.remove(&contact.address));
            self.whom.follow(&contact.address, followed);
            contact.subscription = self.follow_contact(&contact.address).await;
            self.whom.mark(&contact.address, Mark::Lost, contact.subscription.is_none());
            self.whom.mark(&contact.address, Mark::Listed, true);
            entries.push(contact);
        }
        let gone = left.into_iter().filter(|who| !self.whom.is(who, Mark::Listed)).collect();
        self.unlist_all(gone).await?;
        let key = |contact: &Contact| lists::by_address(&contact.address);
        let (entries, next) = lists::part(entries, None, key);
        self.claim(claims);
        let answer = lists::answer(state::encode(&Contacts { entries }), next);
        Ok(Done { number, ..answer })
    }

    /// Follows one contact; `None` if it refuses or does not exist.
    pub(super) async fn follow_contact(
        &mut self,
        presentity: &Address,
    ) -> Option<SubscriptionState> {
        // Who waits for other domains does so where nobody else has to wait.
        let (watcher, bond) = (self.address().clone(), Bond::Session(self.client.mailbox.id));
        let follow =
            Follow { watcher, bond, listener: Some(self.client.mailbox.id.into()), wait: false };
        let config = self.serving.settings.load_full();
        let Ok(follows) = self.serving.rooms.reach.follow(presentity, follow, &config).await else {
            self.unfollowed(presentity);
            return None;
        };
        let state = follows.state;
        let held = self.whom.of(presentity).map_or(Held::Nothing, |followed| followed.held);
        let shows = matches!(state, SubscriptionState::Active | SubscriptionState::Stale);
        let held = if shows { held } else { Held::Nothing };
        self.now_follows(presentity, Followed::answered(held, state));
        Some(state)
    }

    /// The contact list has changed: new contacts are followed, also those whose following had ended and
    /// that were set anew, so that the list follows them again; removed ones not any more.
    /// Those whose following ended by it are returned, and why.
    pub(super) async fn expand_again(&mut self) -> Vec<(Address, SubscriptionEvent)> {
        let own = &self.client.account.address;
        let Ok(acting) = contacts_of(&self.client, own) else { return vec![] };
        let contacts = self.serving.things.contacts.entries(&acting).await;
        let Ok(contacts) = contacts else { return vec![] };
        let (mut ended, mut wanted, mut new) = (Vec::new(), BTreeSet::new(), Vec::new());
        for contact in contacts.into_iter().filter(|contact| contact.follow) {
            let stands = contact.subscription.is_some_and(|s| s != SubscriptionState::Terminated);
            let again = stands && self.whom.is(&contact.address, Mark::Lost);
            if again || !self.whom.is(&contact.address, Mark::Listed) {
                new.push(contact.address.clone());
            }
            wanted.insert(contact.address);
        }
        for presentity in &new {
            let lost = self.follow_contact(presentity).await.is_none();
            self.whom.mark(presentity, Mark::Lost, lost);
            if lost {
                ended.push((presentity.clone(), SubscriptionEvent::Rejected));
            }
        }
        let mut kept = wanted.clone();
        for presentity in self.whom.marked(Mark::Listed).difference(&wanted) {
            // Its end was told already.
            let has_ended = self.whom.is(presentity, Mark::Lost);
            match self.unlist(presentity).await {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    // It is let go with the next change of the list, or with the session.
                    tracing::warn!(%error, "a removed contact is still followed");
                    kept.insert(presentity.clone());
                }
            }
            if !has_ended {
                ended.push((presentity.clone(), SubscriptionEvent::Timeout));
            }
        }
        self.whom.list(&wanted, &kept);
        ended
    }
}

/// What a client holds that was told a state and a version; nothing unless it may be shown
/// something.
pub(super) fn held(
    state: SubscriptionState,
    version: Option<Version>,
    claimed: Option<Version>,
) -> Held {
    match (state, claimed) {
        (SubscriptionState::Active | SubscriptionState::Stale, Some(held)) => {
            // The answer says that this is what it would be sent.
            if version == Some(held) { Held::Sent(held) } else { Held::Claimed(held) }
        }
        _ => Held::Nothing,
    }
}

pub(super) fn stands(
    state: SubscriptionState,
    lease: Option<Duration>,
    version: Option<Version>,
) -> Done {
    let lease = match state {
        SubscriptionState::Terminated => Some(Duration::ZERO),
        _ => lease,
    };
    Done { state: Some(state), lease, version, ..Done::empty() }
}

pub(super) fn ended() -> Done {
    Done {
        state: Some(SubscriptionState::Terminated),
        lease: Some(Duration::ZERO),
        ..Done::empty()
    }
}
