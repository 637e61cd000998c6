//! Accounts: who can sign in here, with which services. All are in memory; each change is on disk
//! before it is answered.
//!
//! Ending the sessions of a changed account is left to the host.

mod closed;

use std::sync::Arc;

use impp_protocol::sasl::scram::{Iterations, Key, SALT_BYTES, Verifier};
use impp_protocol::{Address, Domain, Error, Timestamp};
use impp_storage::{Expect, Op, Outcome, Payer, Rejection, Salvaged, Store, StoreError, Unit};

use self::closed::Closed;
use super::alike::Alike;
use crate::core::DashMap;
use crate::core::answers::storage_error;
use crate::core::keeping;
use crate::core::records::place;
use crate::core::records::{self, ACCOUNT, AccountRecord, AccountState, Services, VerifierRecord};

/// An account in memory.
#[derive(Debug)]
pub struct Account {
    /// Its address.
    pub address: Address,
    /// Its services.
    pub services: Services,
    /// Whether it can be used.
    pub state: AccountState,
    /// When it was made.
    pub created: Timestamp,
    /// What checks its password.
    pub verifier: Verifier,
    version: u64,
}

/// What kept an account from being changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is one already.
    #[error("{0} exists")]
    Exists(Address),
    /// There was one; its name is not given again.
    #[error("{0} was removed, and its name is not given again")]
    Removed(Address),
    /// There is none.
    #[error("{0} does not exist")]
    NotFound(Address),
    /// Its name is taken for that of another account, which is there or was.
    #[error("{0} is taken for {1}, which exists or existed: it is typed alike, or looks alike")]
    Alike(Address, Address),
    /// Its domain is none of this server's.
    #[error("domain {0} is not hosted here")]
    ForeignDomain(Domain),
    /// Somebody else changed it meanwhile.
    #[error("{0} was changed at the same time; try again")]
    Conflict(Address),
    /// A record of the store cannot be read.
    #[error("account {account}: {reason}")]
    Damaged {
        /// The account as its key names it.
        account: String,
        /// What is wrong.
        reason: String,
    },
    /// It may be the one of which not even the name can be read.
    #[error("{0} may be an account whose record in the store is damaged")]
    Unsure(Address),
    /// What it follows could not be ended.
    #[error("that it follows {presentity} could not be ended: {reason}")]
    Followed {
        /// Whom it follows.
        presentity: Address,
        /// Why not.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
#[derive(Debug)]
pub struct Accounts {
    domains: Vec<Domain>,
    accounts: DashMap<Address, Arc<Account>>,
    alike: Alike,
    closed: Closed,
}

impl Accounts {
    /// Reads all accounts of the hosted domains. One that cannot be read is closed: it is there, and
    /// nobody knows whether it may be used.
    ///
    /// # Errors
    /// The store's, but not that some are damaged.
    pub async fn load(store: &dyn Store, domains: Vec<Domain>) -> Result<Accounts, StoreError> {
        let (accounts, alike, closed) = Default::default();
        let mut all = Accounts { domains: Vec::new(), accounts, alike, closed };
        for domain in &domains {
            let Salvaged { records, damaged, unsure } =
                keeping::all(store, domain, ACCOUNT).await?;
            for (key, record) in records {
                match read(domain, &key, &record.value, record.version) {
                    Ok(account) => {
                        all.alike.learn(&account.address);
                        all.accounts.insert(account.address.clone(), Arc::new(account));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the store is damaged: the account is closed");
                        all.close(domain, &key);
                    }
                }
            }
            for key in damaged {
                let account = format!("{}@{domain}", String::from_utf8_lossy(&key));
                tracing::error!(account, "the store is damaged: the account is closed");
                all.close(domain, &key);
            }
            if unsure {
                all.closed.close_somebody(domain);
                tracing::error!(
                    %domain,
                    "the store is damaged: there is an account of which not even the name can be \
                     read; whether names that are not known exist is not told"
                );
            }
        }
        Ok(Accounts { domains, ..all })
    }

    fn close(&mut self, domain: &Domain, key: &[u8]) {
        if let Some(address) = self.closed.close(domain, key) {
            self.alike.learn(&address);
        }
    }

    /// Whether an address is, or may be, that of an account that cannot be read. Whoever finds none
    /// asks this before it says that there is none.
    pub fn is_closed(&self, address: &Address) -> bool {
        self.closed.has(address)
            || self.closed.has_somebody(&address.domain()) && !self.accounts.contains_key(address)
    }

    /// How many accounts are known to be closed, and domains of which more may be.
    pub fn count_closed(&self) -> usize {
        self.closed.count()
    }

    /// What is said where an account is not found: that it is closed, if it is or may be.
    ///
    /// # Errors
    /// storage.
    pub fn not_closed(&self, address: &Address) -> Result<(), Error> {
        match self.is_closed(address) {
            true => Err(storage_error(&StoreError::Damaged { what: address.to_string() })),
            false => Ok(()),
        }
    }

    /// The domains hosted.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Whether an address is in one of the domains hosted.
    pub fn is_local(&self, address: &Address) -> bool {
        self.domains.iter().any(|domain| domain.as_str() == address.domain_str())
    }

    /// An account that exists, enabled or not.
    pub fn get(&self, address: &Address) -> Option<Arc<Account>> {
        let account = self.accounts.get(address)?.value().clone();
        (account.state != AccountState::Removed).then_some(account)
    }

    /// Whether an address is that of an account that was removed.
    pub fn was_removed(&self, address: &Address) -> bool {
        self.accounts.get(address).is_some_and(|now| now.state == AccountState::Removed)
    }

    /// Whether an address is that of an account that can be used.
    pub fn is_enabled(&self, address: &Address) -> bool {
        self.accounts.get(address).is_some_and(|now| now.state == AccountState::Enabled)
    }

    /// Whether the account is still as it was when it was looked up, and enabled.
    pub fn is_current(&self, account: &Account) -> bool {
        self.accounts
            .get(&account.address)
            .is_some_and(|now| now.state == AccountState::Enabled && now.version == account.version)
    }

    /// All accounts that exist, by address.
    pub fn list(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<Arc<Account>> = self.accounts.iter().map(|e| e.value().clone()).collect();
        all.retain(|account| account.state != AccountState::Removed);
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }

    /// Makes an account, with further records of its own in the same step.
    ///
    /// # Errors
    /// [`AccountError`]; nothing changed then.
    pub async fn add(
        &self,
        store: &dyn Store,
        now: Timestamp,
        address: &Address,
        services: Services,
        verifier: Verifier,
        more: Vec<Op>,
    ) -> Result<(), AccountError> {
        if !self.is_local(address) {
            return Err(AccountError::ForeignDomain(address.domain()));
        }
        match self.accounts.get(address).map(|account| account.state) {
            Some(AccountState::Removed) => return Err(AccountError::Removed(address.clone())),
            Some(_) => return Err(AccountError::Exists(address.clone())),
            None => self.missing(address)?,
        }
        let claimed = self.alike.claim(address);
        claimed.map_err(|other| AccountError::Alike(address.clone(), other))?;
        let state = AccountState::Enabled;
        let account = Account {
            address: address.clone(),
            services,
            state,
            created: now,
            verifier,
            version: 0,
        };
        let written = self.write(store, now, account, Expect::Absent, more).await;
        if written.is_err() && !self.accounts.contains_key(address) {
            self.alike.release(address);
        }
        written
    }

    /// Changes an account that exists.
    ///
    /// # Errors
    /// [`AccountError`]; nothing changed then.
    pub async fn change(
        &self,
        store: &dyn Store,
        now: Timestamp,
        address: &Address,
        state: Option<AccountState>,
        verifier: Option<Verifier>,
        more: Vec<Op>,
    ) -> Result<(), AccountError> {
        let old = self.known(address)?;
        let account = Account {
            address: old.address.clone(),
            services: old.services,
            state: state.unwrap_or(old.state),
            created: old.created,
            verifier: verifier.unwrap_or_else(|| old.verifier.clone()),
            version: 0,
        };
        self.write(store, now, account, Expect::Version(old.version), more).await
    }

    /// Takes an account away, also one that cannot be read. All that is kept of it is that its name was
    /// given.
    ///
    /// # Errors
    /// [`AccountError`]; nothing changed then.
    pub async fn remove(
        &self,
        store: &dyn Store,
        now: Timestamp,
        address: &Address,
        more: Vec<Op>,
    ) -> Result<(), AccountError> {
        let known = self.get(address);
        // Not where only some name of the domain is not known: this one may never have been given.
        if known.is_none() && !self.closed.has(address) {
            self.known(address)?;
        }
        let account = Account {
            address: address.clone(),
            services: known.as_ref().map_or(Services { pres: false, im: false }, |a| a.services),
            state: AccountState::Removed,
            created: known.map_or(now, |account| account.created),
            verifier: nobodys(),
            version: 0,
        };
        // Whatever stands there: it may be damaged since it was read.
        self.write(store, now, account, Expect::Any, more).await?;
        self.closed.forget(address);
        Ok(())
    }

    /// An account that exists, for who changes it.
    ///
    /// # Errors
    /// [`AccountError::NotFound`], or that it cannot be read.
    pub fn known(&self, address: &Address) -> Result<Arc<Account>, AccountError> {
        match self.get(address) {
            Some(account) => Ok(account),
            None => {
                self.missing(address)?;
                Err(AccountError::NotFound(address.clone()))
            }
        }
    }

    fn missing(&self, address: &Address) -> Result<(), AccountError> {
        if self.closed.has(address) {
            let reason = "its record in the store is damaged".to_owned();
            return Err(AccountError::Damaged { account: address.to_string(), reason });
        }
        match self.is_closed(address) {
            true => Err(AccountError::Unsure(address.clone())),
            false => Ok(()),
        }
    }

    async fn write(
        &self,
        store: &dyn Store,
        now: Timestamp,
        mut account: Account,
        expect: Expect,
        more: Vec<Op>,
    ) -> Result<(), AccountError> {
        let record = AccountRecord {
            services: account.services,
            state: account.state,
            created: account.created.as_millis(),
            verifier: VerifierRecord::new(&account.verifier),
        };
        let put = place::account(&account.address).put_if(expect, &record);
        let ops = std::iter::once(put).chain(more).collect();
        // A new account grows the store. Else it is the operator who takes something back.
        let payer = if expect == Expect::Absent { Payer::Nobody } else { Payer::Operator };
        match store.submit(Unit::of(now, ops).paid_by(payer)).await? {
            Outcome::Committed { versions, .. } => {
                account.version = versions.first().copied().unwrap_or_default();
                self.accounts.insert(account.address.clone(), Arc::new(account));
                Ok(())
            }
            Outcome::Rejected(Rejection::Conflict { .. }) if expect == Expect::Absent => {
                Err(AccountError::Exists(account.address))
            }
            _ => Err(AccountError::Conflict(account.address)),
        }
    }
}

/// What is kept where nobody signs in again: the keys of no password.
fn nobodys() -> Verifier {
    let [stored_key, server_key] = [(); 2].map(|()| Key::from_bytes([0; 32]));
    let iterations = Iterations::RANDOM_PASSWORD;
    Verifier { salt: [0; SALT_BYTES], iterations, stored_key, server_key }
}

fn read(domain: &Domain, key: &[u8], value: &[u8], version: u64) -> Result<Account, AccountError> {
    let name = String::from_utf8_lossy(key);
    let damaged =
        |reason: String| AccountError::Damaged { account: format!("{name}@{domain}"), reason };
    let address = Address::new(&name, domain).map_err(|error| damaged(error.to_string()))?;
    if address.local() != name {
        return Err(damaged("its name is not in canonical form".to_owned()));
    }
    let record: AccountRecord = records::from_bytes(value).map_err(damaged)?;
    let verifier = record.verifier.verifier().map_err(damaged)?;
    Ok(Account {
        address,
        services: record.services,
        state: record.state,
        created: Timestamp::from_millis(record.created),
        verifier,
        version,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use impp_protocol::sasl::Password;
    use impp_protocol::sasl::scram::Iterations;

    use super::*;

    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let password = Password::prepare("nobody signs in with this").unwrap();
        Verifier::from_password(&password, [7; 16], Iterations::RANDOM_PASSWORD)
    });

    /// That of a password nobody uses.
    pub(crate) fn verifier() -> Verifier {
        VERIFIER.clone()
    }
}
