//! SUBSCRIBE and FETCH: following presence, reading it once, and dispatch to other things.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use impp_acl::Watcher;
use impp_presence::{Answer, Asked, Bond, Change, Held, Keeper};
use impp_protocol::command::{Done, Fetch, Subscribe};
use impp_protocol::state::{self, Contact, Contacts, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Code, Error, What};

use super::publish::granted;
use super::{Followed, Session, lists};
use crate::answers::{Handled, Stored, crowded, refused};
use crate::host::Host;
use crate::notify::fetched;
use crate::routes::Home;

impl Session {
    /// Follows a thing, refreshes that, or ends it.
    pub(super) async fn subscribe(&mut self, host: &Arc<Host>, subscribe: Subscribe) -> Handled {
        match subscribe.what {
            What::Presence if subscribe.lease == Some(Duration::ZERO) => {
                self.unfollow(host, &subscribe.address).await
            }
            What::Presence => self.follow(host, subscribe).await,
            What::Contacts if subscribe.expand => self.expand(host, subscribe).await,
            What::Log => self.subscribe_log(host, subscribe).await,
            other => Err(Error::new(Code::Unsupported, format!("{other} cannot be followed"))),
        }
    }

    /// Reads a thing once.
    pub(super) async fn fetch(&mut self, host: &Arc<Host>, fetch: Fetch) -> Handled {
        if fetch.what == What::Presence {
            return self.fetch_presence(host, fetch).await;
        }
        self.needs_own(&fetch.address)?;
        match fetch.what {
            What::Rules => self.fetch_rules(host).await,
            What::Contacts => self.fetch_contacts(host, fetch).await,
            What::Requests => self.fetch_requests(host, fetch).await,
            What::Watchers => self.fetch_watchers(host, fetch).await,
            What::Subscriptions => self.fetch_subscriptions(host, fetch).await,
            What::Devices => self.fetch_devices(host).await,
            What::Layer => self.fetch_layer(host).await,
            What::Explain => self.fetch_explain(host, fetch).await,
            What::Log => self.fetch_log(host, fetch).await,
            What::Fate => self.fetch_fate(host, fetch).await,
            other => Err(Error::new(Code::Unsupported, format!("{other} cannot be fetched"))),
        }
    }

    async fn follow(&mut self, host: &Arc<Host>, subscribe: Subscribe) -> Handled {
        self.needs_presence()?;
        let presentity = subscribe.address;
        self.needs_room(host, &presentity)?;
        needs_presentity(host, self.address(), &presentity)?;
        let lease =
            subscribe.lease.map(|asked| granted(asked, &host.settings.load().times)).transpose()?;
        let bond = match lease {
            Some(lease) => Bond::Lease(self.mailbox.device, host.clock.now().after(lease)),
            None => Bond::Session(self.mailbox.id),
        };
        let state = self.ask(host, &presentity, bond, true).await?;
        let version = host
            .principals
            .look(&presentity, |principal, now| {
                principal.presentity.version_for(now, &self.account.address)
            })
            .await
            .stored()?;
        let held = match subscribe.version {
            None => Held::Nothing,
            // The answer says that this is what it would be sent.
            Some(held) if version == Some(held) => Held::Sent(held),
            Some(held) => Held::Claimed(held),
        };
        self.now_follows(&presentity, Followed::answered(held, state));
        Ok(Done { state: Some(state), lease, version, ..Done::empty() })
    }

    /// A session follows so many at most.
    pub(super) fn needs_room(&self, host: &Host, presentity: &Address) -> Result<(), Error> {
        let limit = host.settings.load().limits.subscriptions_max as usize;
        if self.followed.len() < limit || self.followed.contains_key(presentity) {
            return Ok(());
        }
        let text = format!("you follow {limit} presentities, and that is the most");
        Err(Error::new(Code::Full, text))
    }

    /// Asks a presentity to be followed.
    pub(super) async fn ask(
        &self,
        host: &Arc<Host>,
        presentity: &Address,
        bond: Bond,
        listen: bool,
    ) -> Result<SubscriptionState, Error> {
        let watcher = &self.account.address;
        let listener = listen.then_some(self.mailbox.id);
        if let Home::Elsewhere(key) = host.routes.home_of(watcher, presentity)? {
            // Who waits for other domains does so where nobody else has to wait.
            let following = host.mirrors.follow(host, &key, watcher, bond, listener, false);
            return Ok(following.await?.state);
        }
        let pending_max = host.settings.load().limits.pending_max as usize;
        let watcher = watcher.clone();
        let follow = Change::Follow { watcher, bond, listener, pending_max };
        match host.principals.change(presentity, follow).await.stored()? {
            Answer::Asked(Asked::Stands(state)) => Ok(state),
            Answer::Asked(Asked::Crowded) => Err(crowded()),
            _ => Err(refused(presentity)),
        }
    }

    async fn unfollow(&mut self, host: &Arc<Host>, presentity: &Address) -> Handled {
        self.unfollowed(presentity);
        let (id, device) = (self.mailbox.id, self.mailbox.device);
        // What this session or its device keeps goes; what others keep, stays.
        let keepers = vec![Keeper::Session(id), Keeper::Device(device)];
        let (watcher, listener) = (self.address().clone(), Some(id));
        match host.routes.home_of(&watcher, presentity) {
            Ok(Home::Here) if host.routes.account(presentity).is_ok() => {
                let release = Change::Release { watcher, keepers, listener };
                host.principals.change(presentity, release).await.stored()?;
            }
            Ok(Home::Elsewhere(key)) => {
                let left = host.mirrors.unfollow(host, &key, &watcher, listener, &keepers);
                left.await.stored()?;
            }
            Ok(Home::Here) | Err(_) => {}
        }
        Ok(ended())
    }

    /// Follows the presence of all contacts, as long as the session lives.
    async fn expand(&mut self, host: &Arc<Host>, subscribe: Subscribe) -> Handled {
        self.needs_own(&subscribe.address)?;
        self.needs_presence()?;
        if subscribe.lease == Some(Duration::ZERO) {
            self.expanded = false;
            for presentity in std::mem::take(&mut self.by_contact) {
                self.unfollow(host, &presentity).await?;
            }
            return Ok(ended());
        }
        self.expanded = true;
        let left = std::mem::take(&mut self.by_contact);
        let contacts = self.contact_entries(host).await?;
        let mut entries = Vec::new();
        for mut contact in contacts.into_iter().filter(|contact| contact.follow) {
            // Whoever asks anew holds nothing, and gets all.
            self.followed.remove(&contact.address);
            contact.subscription = self.follow_contact(host, &contact.address).await;
            self.by_contact.insert(contact.address.clone());
            entries.push(contact);
        }
        for presentity in left.difference(&self.by_contact.clone()) {
            self.unfollow(host, presentity).await?;
        }
        let key = |contact: &Contact| lists::by_address(&contact.address);
        let (entries, next) = lists::part(entries, None, key);
        Ok(lists::answer(state::encode(&Contacts { entries }), next))
    }

    /// Follows one contact; `None` if it refuses or does not exist.
    pub(super) async fn follow_contact(
        &mut self,
        host: &Arc<Host>,
        presentity: &Address,
    ) -> Option<SubscriptionState> {
        needs_presentity(host, self.address(), presentity).ok()?;
        let bond = Bond::Session(self.mailbox.id);
        let state = self.ask(host, presentity, bond, true).await.ok()?;
        let held = self.followed.get(presentity).map_or(Held::Nothing, |followed| followed.held);
        let held = if state == SubscriptionState::Unknown { Held::Nothing } else { held };
        self.now_follows(presentity, Followed::answered(held, state));
        Some(state)
    }

    /// The contact list has changed: new contacts are followed, removed ones not any more.
    /// Those whose following ended by it are returned, and why.
    pub(super) async fn expand_again(
        &mut self,
        host: &Arc<Host>,
    ) -> Vec<(Address, SubscriptionEvent)> {
        let Ok(contacts) = self.contact_entries(host).await else { return vec![] };
        let mut ended = Vec::new();
        let wanted: BTreeSet<Address> =
            contacts.into_iter().filter(|c| c.follow).map(|c| c.address).collect();
        for presentity in wanted.difference(&self.by_contact.clone()) {
            if self.follow_contact(host, presentity).await.is_none() {
                ended.push((presentity.clone(), SubscriptionEvent::Rejected));
            }
        }
        for presentity in self.by_contact.clone().difference(&wanted) {
            if let Err(error) = self.unfollow(host, presentity).await {
                tracing::warn!(%error, "a removed contact is still followed");
            }
            ended.push((presentity.clone(), SubscriptionEvent::Timeout));
        }
        self.by_contact = wanted;
        ended
    }

    async fn fetch_presence(&mut self, host: &Arc<Host>, fetch: Fetch) -> Handled {
        self.needs_presence()?;
        needs_presentity(host, self.address(), &fetch.address)?;
        let watcher = Watcher::Principal(self.account.address.clone());
        let found = host
            .principals
            .look(&fetch.address, |principal, now| {
                principal.presentity.fetch(now, &watcher, fetch.version)
            })
            .await
            .stored()?;
        fetched(&fetch.address, found)
    }
}

/// The address must be one whose presence is here, or of another domain that may be asked.
///
/// # Errors
/// unknown-domain, not-found or not-offered.
pub(super) fn needs_presentity(
    host: &Host,
    asker: &Address,
    address: &Address,
) -> Result<(), Error> {
    if let Home::Elsewhere(_) = host.routes.home_of(asker, address)? {
        return Ok(());
    }
    if host.routes.account(address)?.services.pres {
        return Ok(());
    }
    Err(Error::new(Code::NotOffered, format!("{address} has no presence")))
}

pub(super) fn ended() -> Done {
    Done {
        state: Some(SubscriptionState::Terminated),
        lease: Some(Duration::ZERO),
        ..Done::empty()
    }
}
