//! What the operator asks of accounts, done: on the running server's, or on those of a store that
//! nobody serves.
//!
//! Which records an account has is in `records`, how they are changed in `accounts`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use impp_presence::Change;
use impp_protocol::command::ByeReason;
use impp_protocol::sasl::Password;
use impp_protocol::sasl::scram::Verifier;
use impp_protocol::{Address, Service, Timestamp};
use impp_storage::StoreError;
use serde::{Deserialize, Serialize};

use super::{Administration, Request, Response, devices, explain, refused, removal};
use crate::core::accounts::AccountError;
use crate::core::chance::{Chance, NoChance};
use crate::core::principals::ChangeError;
use crate::core::records::{AccountState, Services};

/// Random bytes of a password that the server makes.
const PASSWORD_RANDOM_BYTES: usize = 18;

/// Other networks have names with these, and they are legal in addresses; in URIs, shells and XML they
/// are trouble that nobody here needs.
const NOT_IN_NEW_NAMES: [char; 4] = ['%', '\\', '&', '\''];

/// An account as `user list` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its address.
    pub address: String,
    /// `enabled` or `disabled`.
    pub state: AccountState,
    /// Its services.
    pub services: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// How many sessions it has.
    pub sessions: usize,
    /// Its password is not kept as those of its domain are now; its next one will be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub odd_password: bool,
}

/// Why something is not done: words that are answered as they are, or an error of the accounts.
enum Undone {
    Refused(Response),
    Error(AccountError),
}

impl<E: Into<AccountError>> From<E> for Undone {
    fn from(error: E) -> Undone {
        Undone::Error(error.into())
    }
}

/// Does what is asked of the accounts.
pub async fn handle(server: &Administration, request: Request) -> Response {
    let error = match act(server, request).await {
        Ok(response) | Err(Undone::Refused(response)) => return response,
        Err(Undone::Error(error)) => error,
    };
    let exit = match &error {
        AccountError::Store(_)
        | AccountError::Damaged { .. }
        | AccountError::Unsure(_)
        | AccountError::Followed { .. } => 5,
        AccountError::ForeignDomain(_) => 2,
        _ => 1,
    };
    let hint = match &error {
        AccountError::ForeignDomain(_) => {
            let domains = server.accounts.domains().iter().map(|domain| domain.as_str());
            Some(format!("hosted: {}", domains.collect::<Vec<_>>().join(", ")))
        }
        AccountError::Damaged { account, .. } => Some(format!(
            "restore a backup; or take it away with all it has: imppd user remove {account}"
        )),
        _ => None,
    };
    refused(exit, error.to_string(), hint)
}

/// An address that a new account may have.
fn new_name(address: Address) -> Result<Address, Undone> {
    match address.local().chars().find(|char| NOT_IN_NEW_NAMES.contains(char)) {
        None => Ok(address),
        Some(char) => {
            let text = format!("{address}: no new account gets a name with {char}");
            let hint = Some("take another name".to_owned());
            Err(Undone::Refused(refused(2, text, hint)))
        }
    }
}

async fn act(server: &Administration, request: Request) -> Result<Response, Undone> {
    let (store, now) = (&*server.store, server.clock.now());
    let (mut made, mut warnings) = Default::default();
    match request {
        Request::Add { address, password, services } => {
            let address = new_name(address_of(&address)?)?;
            let (verifier, password) = verifier(server, &address, password)?;
            let wall = server.clock.wall();
            server.accounts.add(store, wall, &address, services, verifier, vec![]).await?;
            if let Err(error) = server.principals.born(&address).await {
                tracing::warn!(%error, "what an address seemed to hold goes at the next start");
            }
            made = password;
        }
        Request::Passwd { address, password } => {
            made = change_password(server, &address_of(&address)?, password, now).await?;
        }
        Request::Disable { address } => {
            warnings = disable(server, &address_of(&address)?, now).await?;
        }
        Request::Enable { address } => {
            let address = address_of(&address)?;
            let state = Some(AccountState::Enabled);
            server.accounts.change(store, now, &address, state, None, vec![]).await?;
        }
        Request::Remove { address } => {
            warnings = removal::remove(server, &address_of(&address)?, now).await?;
        }
        Request::Devices { address, remove } => {
            return Ok(of_devices(server, &address_of(&address)?, remove).await?);
        }
        Request::Explain { owner, watcher } => {
            let (owner, watcher) = (address_of(&owner)?, address_of(&watcher)?);
            server.accounts.known(&owner)?;
            return Ok(explain::answer(&server.rules, &owner, watcher).await?);
        }
        Request::List => return Ok(list(server)),
        Request::Reload => return Ok(refused(2, "only a running server reloads", None)),
    }
    Ok(Response::Done { password: made, warnings })
}

/// The devices of an account, or one of them taken away.
async fn of_devices(
    server: &Administration,
    address: &Address,
    remove: Option<String>,
) -> Result<Response, AccountError> {
    server.accounts.known(address)?;
    match remove {
        Some(device) => devices::remove(server, address, &device).await,
        None => Ok(Response::Devices(devices::list(server, address).await?)),
    }
}

fn list(server: &Administration) -> Response {
    let (config, sessions) = (server.settings.load(), &server.live.sessions);
    let listed = server.accounts.list().into_iter().map(|account| Listed {
        odd_password: {
            let iterations = config.scram_iterations(account.address.domain_str());
            !server.secrets.keeps_so(&account.address, &account.verifier, iterations)
        },
        address: account.address.to_string(),
        state: account.state,
        services: account.services.words(),
        created: account.created.to_string(),
        sessions: sessions.of(&account.address).len(),
    });
    Response::Accounts(listed.collect())
}

/// Gives an account another password, and returns the one that was made.
async fn change_password(
    server: &Administration,
    address: &Address,
    given: Option<String>,
    now: Timestamp,
) -> Result<Option<String>, Undone> {
    let (verifier, made) = verifier(server, address, given)?;
    // Its devices have to show that they know the new one.
    let changed = vec![crate::session::devices::password_changed_op(address, now)];
    server.accounts.change(&*server.store, now, address, None, Some(verifier), changed).await?;
    server.live.end_all(address, ByeReason::Revoked, "the password was changed").await;
    Ok(made)
}

/// Disables an account: nothing goes on in its name. What it shows ends, its sessions end, and what
/// it has waiting for other domains comes to its fate; that is stored by the queues.
async fn disable(
    server: &Administration,
    address: &Address,
    now: Timestamp,
) -> Result<Vec<String>, AccountError> {
    let state = Some(AccountState::Disabled);
    server.accounts.change(&*server.store, now, address, state, None, vec![]).await?;
    let withdrawn = server.principals.change(address, Change::Withdraw);
    // The rest is done also if this cannot be stored; it is told all the same.
    let withdrawn = withdrawn.await;
    server.live.end_all(address, ByeReason::Revoked, "the account was disabled").await;
    server.outgoing.end_sender(address);
    server.principals.part_delegate(address, None).await?;
    match withdrawn {
        // What cannot be read is shown to nobody, before and after.
        Err(ChangeError::Store(error @ StoreError::Damaged { .. })) => {
            Ok(vec![format!("what it shows was closed already: {error}")])
        }
        withdrawn => Ok(withdrawn.map(|_| Vec::new())?),
    }
}

/// The services of these names.
///
/// # Errors
/// A name that is none.
pub fn services_of(names: &[String]) -> Result<Services, String> {
    match names.iter().find(|name| Service::from_word(name).is_none()) {
        Some(other) => Err(format!("unknown service \"{other}\"")),
        None => Ok(Services::named(names)),
    }
}

fn address_of(text: &str) -> Result<Address, Undone> {
    let no_address = |error| refused(2, format!("\"{text}\" is no address: {error}"), None);
    Address::parse(text).map_err(|error| Undone::Refused(no_address(error)))
}

/// A verifier of the password given for a name, or of one that is made and returned.
fn verifier(
    server: &Administration,
    address: &Address,
    given: Option<String>,
) -> Result<(Verifier, Option<String>), Undone> {
    let chance = &*server.chance;
    let no_random = |error: NoChance| Undone::Refused(refused(5, error.to_string(), None));
    let made = match &given {
        Some(_) => None,
        None => Some(random_password(chance).map_err(no_random)?),
    };
    let text = given.as_ref().or(made.as_ref()).map_or("", |text| text);
    let password = Password::prepare(text)
        .map_err(|error| Undone::Refused(refused(2, error.to_string(), None)))?;
    let iterations = server.settings.load().scram_iterations(address.domain_str());
    Ok((server.secrets.verifier(address, &password, iterations), made))
}

/// A password with 144 random bits.
fn random_password(chance: &dyn Chance) -> Result<String, NoChance> {
    let random: [u8; PASSWORD_RANDOM_BYTES] = chance.bytes()?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
