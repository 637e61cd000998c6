//! What a signed-in client may read and change of an owner's things: one file a thing. Each is handed a
//! permit, and asks neither who signed in nor whose the things are.
//!
//! What may be asked of a thing, and what a permit to it is over, says the table in `acl/src/things.rs`.

mod contacts;
mod devices;
mod explain;
mod fate;
pub(super) mod lists;
pub(super) mod log;
pub(super) mod presence;
pub(super) mod requests;
mod rules;
mod trimming;
mod watchers;

use std::sync::Arc;

use impp_acl::{Acting, Ask, Permit, Service, scope, thing};
use impp_protocol::command::{Fetch, Publish};
use impp_protocol::{Address, Code, Error, What};

use crate::core::accounts::Account;
use crate::core::answers::Handled;
use crate::core::ground::Ground;
use crate::core::sessions::Mailbox;
use crate::session::Rooms;
use crate::session::delegated::Delegations;
use crate::session::devices::Devices;
pub(super) use contacts::ContactList;
use devices::OwnDevices;
use fate::Fates;
pub(super) use log::Logs;
use presence::Presence;
use requests::Waiting;
use rules::Rules;
use trimming::Trimming;
pub(super) use watchers::BothEnds;

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

/// See the module.
pub struct Things {
    delegations: Delegations,
    presence: Presence,
    rules: Rules,
    pub(super) contacts: ContactList,
    pub(super) requests: Waiting,
    pub(super) ends: BothEnds,
    devices: OwnDevices,
    pub(super) logs: Logs,
    fates: Fates,
}

impl Things {
    /// Of what these rooms have.
    pub fn new(ground: &Ground, rooms: &Rooms, devices: Arc<Devices>) -> Things {
        let Ground { store, tails, clock, settings, accounts, .. } = ground.clone();
        let Rooms { principals, reach, live, delivery, outgoing, secrets, budgets, .. } =
            rooms.clone();
        let trimming = Trimming::new(store.clone(), settings.clone(), clock.clone());
        let (shared, trimming) = (principals.clone(), Arc::new(trimming));
        let rules = Rules { principals: principals.clone(), accounts: accounts.clone() };
        let sessions = live.sessions.clone();
        let delegations =
            Delegations { principals: principals.clone(), accounts: accounts.clone() };
        Things {
            delegations,
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
                reach: reach.clone(),
                sessions: sessions.clone(),
                settings: settings.clone(),
            },
            ends: BothEnds {
                principals,
                accounts,
                reach,
                sessions,
                store: store.clone(),
                clock: clock.clone(),
            },
            devices: OwnDevices { devices },
            logs: Logs {
                store: store.clone(),
                tails,
                secrets,
                clock,
                principals: shared,
                delivery,
                trimming,
            },
            fates: Fates { outgoing, store, budgets },
        }
    }

    /// The permit of a client to ask this of a thing of this address: its own, or as a delegate.
    ///
    /// # Errors
    /// As [`permit`]; who has no right is told the same as everybody else.
    async fn permit(
        &self,
        client: &Client,
        owner: &Address,
        what: What,
        ask: Ask,
    ) -> Result<Permit, Error> {
        match self.delegations.permit(&client.account.address, owner, what, ask).await? {
            Some(permit) => Ok(permit),
            None => permit(client, owner, what, ask),
        }
    }

    /// Reads a thing once.
    pub(super) async fn fetch(&self, client: &Client, fetch: Fetch) -> Handled {
        let permit = match self.permit(client, &fetch.address, fetch.what, Ask::Fetch).await {
            // Of who watches somebody else everybody sees how they stand themselves.
            Err(error) if fetch.what == What::Watchers && error.code == Code::Refused => {
                permit(client, &client.account.address, What::Subscriptions, Ask::Fetch)?
            }
            permit => permit?,
        };
        match permit {
            Permit::Rules(acting) => self.rules.fetch(&acting).await,
            Permit::Contacts(acting) => self.contacts.fetch(&acting, fetch).await,
            Permit::Requests(acting) => self.requests.fetch(&acting, fetch).await,
            Permit::Watchers(acting) => self.ends.fetch_watchers(&acting, fetch).await,
            Permit::Subscriptions(acting) if fetch.what == What::Watchers => {
                self.ends.fetch_own_entry(&acting, fetch).await
            }
            Permit::Subscriptions(acting) => self.ends.fetch_subscriptions(&acting, fetch).await,
            Permit::Devices(acting) => self.devices.fetch(&acting, client).await,
            Permit::Layer(acting) => self.presence.layer(&acting, client).await,
            Permit::Explain(acting) => self.rules.explain(&acting, fetch).await,
            Permit::Log(acting) => self.logs.fetch(&acting, client.every_item, fetch).await,
            Permit::Fate(acting) => self.fates.fetch(&acting, fetch).await,
            // That of whomever, so the session has looked (`session/follow.rs`).
            Permit::Presence(_) | Permit::ReadMarks(_) => Err(takes_not(fetch.what, Ask::Fetch)),
        }
    }

    /// Changes a thing.
    pub(super) async fn publish(&self, client: &Client, publish: Publish) -> Handled {
        match self.permit(client, &publish.address, publish.what, Ask::Publish).await? {
            Permit::Presence(acting) => self.presence.publish(&acting, client, publish).await,
            Permit::Rules(acting) => self.rules.publish(&acting, publish).await,
            Permit::Contacts(acting) => self.contacts.publish(&acting, client, publish).await,
            Permit::Requests(acting) => self.requests.publish(&acting, publish).await,
            Permit::Watchers(acting) => self.ends.publish_watchers(&acting, publish).await,
            Permit::Subscriptions(acting) => {
                self.ends.publish_subscriptions(&acting, publish).await
            }
            Permit::Devices(acting) => self.devices.publish(&acting, publish).await,
            Permit::Layer(_)
            | Permit::Explain(_)
            | Permit::Log(_)
            | Permit::Fate(_)
            | Permit::ReadMarks(_) => Err(takes_not(publish.what, Ask::Publish)),
        }
    }
}

/// The permit of a client to ask this of a thing of this address.
///
/// # Errors
/// refused, if it is not its own; not-offered, if its account has not the service for it; unsupported, if
/// nobody may ask that of it.
fn permit(client: &Client, owner: &Address, what: What, ask: Ask) -> Result<Permit, Error> {
    let thing = thing(what);
    let permit = Permit::oneself(&client.account.address, owner, what).map_err(|not| {
        let text = format!("you are {}, and that is {}'s own", not.who, not.owner);
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

/// The permit to follow who watches this address.
///
/// # Errors
/// As for every permit.
pub(super) fn watchers_of(
    client: &Client,
    owner: &Address,
) -> Result<Acting<scope::Watchers>, Error> {
    match permit(client, owner, What::Watchers, Ask::Follow)? {
        Permit::Watchers(acting) => Ok(acting),
        _ => Err(takes_not(What::Watchers, Ask::Follow)),
    }
}

/// The permit to follow what waits for the decision of this address.
///
/// # Errors
/// As for every permit.
pub(super) fn requests_of(client: &Client, owner: &Address) -> Result<Acting<scope::Rules>, Error> {
    match permit(client, owner, What::Requests, Ask::Follow)? {
        Permit::Requests(acting) => Ok(acting),
        _ => Err(takes_not(What::Requests, Ask::Follow)),
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
    let (has, name) = match service {
        Service::Presence => (account.services.pres, "presence"),
        Service::Messages => (account.services.im, "messages"),
    };
    let text = format!("this account does not have the service of {name}");
    has.then_some(()).ok_or_else(|| Error::new(Code::NotOffered, text))
}
