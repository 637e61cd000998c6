//! What a signed-in client may read and change of an owner's things: one file a thing. Each is handed a
//! permit, and asks neither who signed in nor whose the things are.
//!
//! What may be asked of a thing, how much work that is, and what a permit to it is over, says the table in
//! `acl/src/things.rs`. A thing that is new is a row there, a file here, and its arms below, which the
//! compiler asks for; if it can be followed, see `following.rs`.

mod acts;
mod came;
mod contacts;
mod delegations;
mod deleting;
mod devices;
mod explain;
mod fate;
mod followed_requests;
mod followed_watchers;
mod following;
pub(super) mod items;
mod layer;
pub(super) mod lists;
pub(super) mod log;
mod looking_back;
pub(super) mod presence;
mod read_marks;
mod requests;
mod rules;
mod seldom;
mod subscriptions;
mod trimming;
mod typing;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use impp_acl::{Acting, Ask, Permit, scope, thing};
use impp_protocol::command::{Fetch, Publish, Subscribe};
use impp_protocol::{Address, Code, DeviceId, Error, Service, What};

use crate::core::accounts::Account;
use crate::core::answers::Handled;
use crate::core::ground::Ground;
use crate::core::sessions::Mailbox;
use crate::session::Rooms;
use crate::session::delegated::Delegations;
use crate::session::devices::Devices;
use acts::ForOwner;
pub(super) use contacts::ContactList;
use delegations::Delegated;
use devices::OwnDevices;
use fate::Fates;
use followed_requests::FollowedRequests;
use followed_watchers::FollowedWatchers;
pub(super) use following::Following;
use layer::OwnLayer;
pub(super) use log::Logs;
use presence::Presence;
use read_marks::{FollowedReadMarks, OwnMarks};
use requests::Waiting;
pub use rules::Rules;
use subscriptions::Subscribed;
use trimming::Trimming;
use typing::FollowedTyping;
use watchers::Watched;

/// The client that asks, where what is asked depends on its device or session.
#[derive(Debug)]
pub struct Client {
    /// Where others leave word for its session.
    pub mailbox: Arc<Mailbox>,
    /// Whose it is, as it was at the sign-in.
    pub account: Arc<Account>,
    /// Whether it knows items of the log of every kind; it said so in its HELLO.
    pub every_item: bool,
}

impl Client {
    /// The device, for what is kept by it.
    ///
    /// # Errors
    /// wrong-state, if it has signed in without one.
    pub(in crate::session) fn device(&self) -> Result<DeviceId, Error> {
        let text = "that is kept by a device, and you have signed in without one";
        let has_device = self.mailbox.device != DeviceId::NIL;
        has_device.then_some(self.mailbox.device).ok_or_else(|| Error::new(Code::WrongState, text))
    }
}

/// See the module.
pub struct Things {
    pub(super) delegations: Delegations,
    presence: Presence,
    layer: OwnLayer,
    /// Rules of owners.
    pub rules: Rules,
    pub(super) contacts: ContactList,
    requests: Waiting,
    watched: Watched,
    subscribed: Subscribed,
    devices: OwnDevices,
    pub(super) logs: Logs,
    fates: Fates,
    read_marks: OwnMarks,
    delegated: Delegated,
    acts: ForOwner,
}

impl Things {
    /// Of what these rooms have.
    pub fn new(ground: &Ground, rooms: &Rooms, devices: Arc<Devices>) -> Things {
        let Ground { store, tails, clock, settings, accounts, .. } = ground.clone();
        let Rooms { principals, reach, live, delivery, outgoing, marks, secrets, budgets, .. } =
            rooms.clone();
        let trimming = Trimming::new(store.clone(), settings.clone(), clock.clone());
        let shared = principals.clone();
        let rules = Rules { principals: principals.clone(), accounts: accounts.clone() };
        let sessions = live.sessions.clone();
        let read_marks = OwnMarks {
            marks: marks.clone(),
            store: store.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
        };
        Things {
            delegations: Delegations { principals: principals.clone(), accounts: accounts.clone() },
            delegated: Delegated { principals: principals.clone(), accounts: accounts.clone() },
            presence: Presence {
                principals: principals.clone(),
                accounts: accounts.clone(),
                sessions: sessions.clone(),
                settings: settings.clone(),
                clock: clock.clone(),
            },
            requests: Waiting {
                rules: rules.clone(),
                delivery: delivery.clone(),
                clock: clock.clone(),
            },
            rules,
            contacts: ContactList {
                principals: principals.clone(),
                accounts: accounts.clone(),
                reach: reach.clone(),
                sessions: sessions.clone(),
                settings: settings.clone(),
            },
            subscribed: Subscribed {
                reach: reach.clone(),
                sessions: sessions.clone(),
                store: store.clone(),
            },
            layer: OwnLayer { principals: principals.clone() },
            acts: ForOwner { principals: principals.clone() },
            watched: Watched { principals, accounts, reach, clock: clock.clone() },
            devices: OwnDevices { devices },
            logs: Logs {
                store: store.clone(),
                tails,
                secrets,
                clock,
                principals: shared,
                delivery,
                marks,
                trimming: Arc::new(trimming),
                sessions,
            },
            fates: Fates { outgoing, store, budgets },
            read_marks,
        }
    }

    /// The permit of a client to ask this of a thing of this address: its own, or as a delegate.
    ///
    /// # Errors
    /// As [`permit`]; who has no right is told the same as everybody else. Or that what a delegate does
    /// cannot be noted, if it does not take something back.
    async fn permit(
        &self,
        client: &Client,
        owner: &Address,
        what: What,
        ask: Ask,
        takes_back: bool,
    ) -> Result<Permit, Error> {
        let who = &client.account.address;
        if let Some((_, needs)) = self.delegations.permit(who, owner, what, ask).await? {
            self.delegations.note(who, owner, needs, takes_back).await?;
            // It may have ended while that was stored.
            if let Some((permit, _)) = self.delegations.permit(who, owner, what, ask).await? {
                return Ok(permit);
            }
        }
        permit(client, owner, what, ask)
    }

    /// Reads a thing once.
    pub(super) async fn fetch(&self, client: &Client, fetch: Fetch) -> Handled {
        let permit = match self.permit(client, &fetch.address, fetch.what, Ask::Fetch, false).await
        {
            // Of who watches somebody else everybody sees how they stand themselves.
            Err(error) if fetch.what == What::Watchers && error.code == Code::Refused => {
                permit(client, &client.account.address, What::Subscriptions, Ask::Fetch)?
            }
            permit => permit?,
        };
        let device = client.mailbox.device;
        match permit {
            Permit::Rules(acting) => self.rules.fetch(&acting).await,
            Permit::Contacts(acting) => self.contacts.fetch(&acting, fetch).await,
            Permit::Requests(acting) => self.requests.fetch(&acting, fetch).await,
            Permit::Watchers(acting) => self.watched.fetch(&acting, fetch).await,
            Permit::Subscriptions(acting) if fetch.what == What::Watchers => {
                self.watched.fetch_own_entry(&acting, fetch).await
            }
            Permit::Subscriptions(acting) => self.subscribed.fetch(&acting, fetch).await,
            Permit::Devices(acting) => self.devices.fetch(&acting, device).await,
            Permit::Layer(acting) => self.layer.fetch(&acting, device).await,
            Permit::Explain(acting) => self.rules.explain(&acting, fetch).await,
            Permit::Log(acting) => self.logs.fetch(&acting, client.every_item, fetch).await,
            Permit::Fate(acting) => self.fates.fetch(&acting, fetch).await,
            Permit::Acts(acting) => self.acts.fetch(&acting, fetch).await,
            Permit::Delegations(acting) => self.delegated.fetch(&acting, fetch).await,
            Permit::ReadMarks(acting) => self.read_marks.fetch(&acting, fetch).await,
            // That of whomever, so the session has looked (`session/follow.rs`).
            Permit::Presence(_) | Permit::Typing(_) => Err(takes_not(fetch.what, Ask::Fetch)),
        }
    }

    /// Changes a thing.
    pub(super) async fn publish(&self, client: &Client, publish: Publish) -> Handled {
        let (owner, is_of_presence) = (&publish.address, publish.what == What::Presence);
        let back = is_of_presence && publish.lease == Some(Duration::ZERO);
        match self.permit(client, owner, publish.what, Ask::Publish, back).await? {
            Permit::Presence(acting) => self.presence.publish(&acting, client, publish).await,
            Permit::Rules(acting) => self.rules.publish(&acting, publish).await,
            Permit::Contacts(acting) => self.contacts.publish(&acting, publish).await,
            Permit::Requests(acting) => self.requests.publish(&acting, publish).await,
            Permit::Watchers(acting) => self.watched.publish(&acting, publish).await,
            Permit::Subscriptions(acting) => self.subscribed.publish(&acting, publish).await,
            Permit::Devices(acting) => self.devices.publish(&acting, publish).await,
            Permit::Log(acting) => self.logs.publish(&acting, publish).await,
            Permit::ReadMarks(acting) => self.read_marks.publish(&acting, publish).await,
            Permit::Typing(acting) => self.read_marks.types(&acting, publish).await,
            Permit::Layer(_)
            | Permit::Explain(_)
            | Permit::Fate(_)
            | Permit::Acts(_)
            | Permit::Delegations(_) => Err(takes_not(publish.what, Ask::Publish)),
        }
    }

    /// Begins to follow a thing. That of oneself: another's permit may end before the following does.
    pub(super) async fn follow(
        &self,
        client: &Client,
        permit: Permit,
        subscribe: Subscribe,
    ) -> Result<Box<dyn Following>, Error> {
        match permit {
            Permit::Log(acting) => Ok(Box::new(self.logs.follow(&acting, subscribe).await?)),
            Permit::Watchers(acting) => Ok(Box::new(FollowedWatchers::new(acting))),
            Permit::Requests(acting) => {
                self.requests.follow(&acting, client.mailbox.id).await?;
                Ok(Box::new(FollowedRequests::new(acting)))
            }
            Permit::ReadMarks(acting) => Ok(Box::new(FollowedReadMarks::new(acting))),
            Permit::Typing(acting) => Ok(Box::new(FollowedTyping::new(acting, client))),
            // Presence is followed by the session, of one or of a whole list (`session/follow.rs`).
            Permit::Presence(_)
            | Permit::Layer(_)
            | Permit::Subscriptions(_)
            | Permit::Contacts(_)
            | Permit::Rules(_)
            | Permit::Explain(_)
            | Permit::Devices(_)
            | Permit::Fate(_)
            | Permit::Acts(_)
            | Permit::Delegations(_) => Err(takes_not(subscribe.what, Ask::Follow)),
        }
    }
}

/// The permit of a client to ask this of a thing of its own, at this address.
///
/// # Errors
/// refused, if it is not its own; not-offered, if its account has not the service for it; unsupported, if
/// nobody may ask that of it.
pub(super) fn permit(
    client: &Client,
    owner: &Address,
    what: What,
    ask: Ask,
) -> Result<Permit, Error> {
    let thing = thing(what);
    let permit = Permit::oneself(&client.account.address, owner, what).map_err(|not| {
        let text = format!(
            "you are {}, and that is {}'s own; for whom you may act, your delegations say",
            not.who, not.owner
        );
        Error::new(Code::Refused, text)
    })?;
    thing.service.map_or(Ok(()), |service| offered(&client.account, service))?;
    takes(what, ask)?;
    Ok(permit)
}

/// The permit to follow, or to take custody of, the log of this address.
///
/// # Errors
/// As for every permit.
pub(super) fn log_of(client: &Client, owner: &Address) -> Result<Acting<scope::Inbox>, Error> {
    match permit(client, owner, What::Log, Ask::Follow)? {
        Permit::Log(acting) => Ok(acting),
        _ => Err(takes_not(What::Log, Ask::Follow)),
    }
}

/// The permit to follow the contact list of this address.
///
/// # Errors
/// As for every permit.
pub(super) fn contacts_of(
    client: &Client,
    owner: &Address,
) -> Result<Acting<scope::Contacts>, Error> {
    match permit(client, owner, What::Contacts, Ask::Follow)? {
        Permit::Contacts(acting) => Ok(acting),
        _ => Err(takes_not(What::Contacts, Ask::Follow)),
    }
}

/// This may be asked of a thing.
///
/// # Errors
/// unsupported.
pub(super) fn takes(what: What, ask: Ask) -> Result<(), Error> {
    thing(what).takes(ask).then_some(()).ok_or_else(|| takes_not(what, ask))
}

/// That cannot be asked of it.
pub(super) fn takes_not(what: What, ask: Ask) -> Error {
    let done = match ask {
        Ask::Fetch => "fetched",
        Ask::Publish => "published",
        Ask::Follow => "followed",
    };
    let but = match (what, ask) {
        (What::Contacts, Ask::Follow) => " without `expand`",
        _ => "",
    };
    Error::new(Code::Unsupported, format!("{what} cannot be {done}{but}"))
}

/// The account must have a service.
///
/// # Errors
/// not-offered.
pub(super) fn offered(account: &Account, service: Service) -> Result<(), Error> {
    let name = match service {
        Service::Presence => "presence",
        Service::Messages => "messages",
    };
    let text = format!("this account does not have the service of {name}");
    account.services.has(service).then_some(()).ok_or_else(|| Error::new(Code::NotOffered, text))
}
