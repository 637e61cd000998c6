//! Where addresses lead: to an account here, or to another domain.
//!
//! How another domain is reached is left to the links.

use std::sync::Arc;

use impp_federation::{Hosted, Locate, Route};
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Code, Domain, Error};

use crate::core::accounts::{Account, Accounts};
use crate::core::settings::{Settings, Snapshot};

/// See the module.
pub struct Routes {
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    table: Box<dyn Locate>,
}

/// Where a presentity or an inbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On this server.
    Here,
    /// On the server of another domain.
    Elsewhere,
}

impl Routes {
    /// The hosted domains are those of the accounts; others lead elsewhere, if the settings say so.
    pub fn new(settings: Arc<Settings>, accounts: Arc<Accounts>) -> Routes {
        let others = settings.load().federation.enabled;
        let table = Box::new(Hosted::new(accounts.domains().to_vec(), others));
        Routes { settings, accounts, table }
    }

    /// The account that an address names, by the settings of who asks.
    ///
    /// # Errors
    /// unknown-domain, not-found or moved; storage, if it cannot be read.
    pub fn account(&self, address: &Address, settings: &Snapshot) -> Result<Arc<Account>, Error> {
        match self.table.locate(&address.domain()) {
            Route::Local => {
                self.accounts.get(address).ok_or_else(|| self.no_account(address, settings))
            }
            Route::Remote | Route::Unknown => Err(no_route(address)),
        }
    }

    fn no_account(&self, address: &Address, settings: &Snapshot) -> Error {
        if let Err(closed) = self.accounts.not_closed(address) {
            return closed;
        }
        match redirected(address, settings) {
            Some(moved) => {
                let text = format!("{address} is {moved}");
                Error { address: Some(moved), ..Error::new(Code::Moved, text) }
            }
            None => Error::new(Code::NotFound, format!("{address} does not exist")),
        }
    }

    /// Where a presentity or an inbox is, as a principal of this server asks for it. That is `reach`'s to ask.
    ///
    /// # Errors
    /// unknown-domain.
    pub fn locate(&self, asker: &Address, presentity: &Address) -> Result<Where, Error> {
        match self.table.locate(&presentity.domain()) {
            Route::Local => Ok(Where::Here),
            // A domain that cannot be found from elsewhere can prove itself to nobody.
            Route::Remote if asker.domain().is_global() => Ok(Where::Elsewhere),
            Route::Remote | Route::Unknown => Err(no_route(presentity)),
        }
    }

    /// Whether an address is of a domain that is hosted here.
    pub fn is_local(&self, address: &Address) -> bool {
        self.accounts.is_local(address)
    }

    /// What is told of a subscription that nobody knows any more, where there is no account.
    pub fn ended(&self, presentity: &Address) -> SubscriptionEvent {
        match self.accounts.was_removed(presentity) {
            true => SubscriptionEvent::Noresource,
            // It had to make room.
            false => SubscriptionEvent::Giveup,
        }
    }

    /// Whether a domain can have links: not one of a single label, such as localhost.
    pub fn federates(&self, domain: &Domain) -> bool {
        self.settings.load().federation.enabled && domain.is_global()
    }
}

/// Where the operator has sent who asks for an address here without an account.
pub fn redirected(address: &Address, settings: &Snapshot) -> Option<Address> {
    let domain = address.domain();
    let hosted = settings.domain.iter().find(|hosted| hosted.name == domain)?;
    hosted.moved(address)
}

/// Whether somebody may not be told this of an address: that it does not exist, or lacks a service,
/// is for its own domain to know. Another that is hosted here is another all the same.
pub fn is_hidden(asker: &Address, address: &Address, error: &Error, settings: &Snapshot) -> bool {
    // Who has proven no name learns of no address, nor where it has moved.
    if asker.is_anonymous() {
        return matches!(error.code, Code::NotFound | Code::NotOffered | Code::Moved);
    }
    asker.domain_str() != address.domain_str()
        && matches!(error.code, Code::NotFound | Code::NotOffered)
        && !settings.federation.tell_unknown
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

fn no_route(address: &Address) -> Error {
    Error::new(Code::UnknownDomain, format!("no route to domain {}", address.domain()))
}
