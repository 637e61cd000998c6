//! What a signed-in client may read and change of an owner's things: one file a thing. Each is handed a
//! permit, and asks neither who signed in nor whose the things are.
//!
//! What a thing is, and what a permit to it has to be over, says the table of `impp_acl::thing`.

mod contacts;
mod devices;
mod explain;
mod fate;
pub(super) mod lists;
pub(super) mod log;
pub(super) mod presence;
mod requests;
mod rules;
mod watchers;

use std::sync::Arc;

use impp_acl::{Acting, Service, thing};
use impp_protocol::command::{Fetch, Publish};
use impp_protocol::{Address, Code, Error, What};

use crate::core::accounts::Account;
use crate::core::answers::Handled;
use crate::core::ground::Ground;
use crate::core::sessions::Mailbox;
use crate::session::Rooms;
use crate::session::devices::Devices;
pub(super) use contacts::ContactList;
use devices::OwnDevices;
use fate::Fates;
pub(super) use log::Logs;
use presence::Presence;
use requests::Waiting;
use rules::Rules;
use watchers::BothEnds;

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
    presence: Presence,
    rules: Rules,
    pub(super) contacts: ContactList,
    requests: Waiting,
    ends: BothEnds,
    devices: OwnDevices,
    pub(super) logs: Logs,
    fates: Fates,
}

impl Things {
    /// Of what these rooms have.
    pub fn new(ground: &Ground, rooms: &Rooms, devices: Arc<Devices>) -> Things {
        let Ground { store, clock, settings, accounts, .. } = ground.clone();
        let Rooms { principals, reach, live, delivery, outgoing, secrets, budgets, .. } =
            rooms.clone();
        let shared = principals.clone();
        let (sessions, rules) = (live.sessions.clone(), Rules { principals: principals.clone() });
        Things {
            presence: Presence {
                principals: principals.clone(),
                accounts,
                sessions: sessions.clone(),
                settings: settings.clone(),
                clock: clock.clone(),
            },
            requests: Waiting {
                rules: rules.clone(),
                store: store.clone(),
                delivery,
                sessions: sessions.clone(),
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
                reach,
                sessions,
                store: store.clone(),
                clock: clock.clone(),
            },
            devices: OwnDevices { devices },
            logs: Logs { store: store.clone(), settings, secrets, clock, principals: shared },
            fates: Fates { outgoing, store, budgets },
        }
    }

    /// Reads a thing once.
    pub(super) async fn fetch(&self, client: &Client, fetch: Fetch) -> Handled {
        let acting = &permit(client, &fetch.address, fetch.what)?;
        match fetch.what {
            What::Rules => self.rules.fetch(acting).await,
            What::Contacts => self.contacts.fetch(acting, fetch).await,
            What::Requests => self.requests.fetch(acting, fetch).await,
            What::Watchers => self.ends.fetch_watchers(acting, fetch).await,
            What::Subscriptions => self.ends.fetch_subscriptions(acting, fetch).await,
            What::Devices => self.devices.fetch(acting, client).await,
            What::Layer => self.presence.layer(acting, client).await,
            What::Explain => self.rules.explain(acting, fetch).await,
            What::Log => self.logs.fetch(acting, client.every_item, fetch).await,
            What::Fate => self.fates.fetch(acting, fetch).await,
            other => Err(Error::new(Code::Unsupported, format!("{other} cannot be fetched"))),
        }
    }

    /// Changes a thing.
    pub(super) async fn publish(&self, client: &Client, publish: Publish) -> Handled {
        let acting = &permit(client, &publish.address, publish.what)?;
        match publish.what {
            What::Presence => self.presence.publish(acting, client, publish).await,
            What::Rules => self.rules.publish(acting, publish).await,
            What::Contacts => self.contacts.publish(acting, client, publish).await,
            What::Requests => self.requests.publish(acting, publish).await,
            What::Watchers => self.ends.publish_watchers(acting, publish).await,
            What::Subscriptions => self.ends.publish_subscriptions(acting, publish).await,
            What::Devices => self.devices.publish(acting, publish).await,
            other => Err(Error::new(Code::Unsupported, format!("{other} cannot be published"))),
        }
    }
}

/// The permit of a client to a thing of this address.
///
/// # Errors
/// refused, if it is not its own; not-offered, if its account has not the service for it.
pub(super) fn permit(client: &Client, owner: &Address, what: What) -> Result<Acting, Error> {
    let thing = thing(what);
    let acting = Acting::oneself(&client.account.address, owner, thing.scope).map_err(|not| {
        let text = format!("you are {}, and that is {}'s own", not.who, not.owner);
        Error::new(Code::Refused, text)
    })?;
    thing.service.map_or(Ok(()), |service| offered(&client.account, service))?;
    Ok(acting)
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
