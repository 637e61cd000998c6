//! The control socket: `imppd user` and `reload` reach the running server through it, one JSON
//! object a line each way. Whoever may open the socket may do all of this; it is 0600.
//!
//! The same requests are served on the store itself where no server runs.

mod devices;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use impp_presence::Change;
use impp_protocol::command::ByeReason;
use impp_protocol::sasl::Password;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Timestamp};
use impp_storage::{Expect, Op, RecordKey, Table};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

pub use devices::ListedDevice;

use crate::accounts::{AccountError, new_verifier};
use crate::host::{Home, Host};
use crate::keeping::scan;
use crate::records::{self, AccountState, Services};

/// Longest line either way in bytes, and the longest answer.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a running server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long accepting rests when the system has no more files.
const REST: Duration = Duration::from_millis(100);
/// Random bytes of a password that the server makes.
const PASSWORD_RANDOM_BYTES: usize = 18;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Make an account.
    Add {
        /// Its address.
        address: String,
        /// Its password; a random one is made if there is none.
        password: Option<String>,
        /// Its services.
        services: Services,
    },
    /// Give it another password.
    Passwd {
        /// Its address.
        address: String,
        /// The password; a random one is made if there is none.
        password: Option<String>,
    },
    /// Remove it with all it has.
    Remove {
        /// Its address.
        address: String,
    },
    /// Let nobody sign in to it.
    Disable {
        /// Its address.
        address: String,
    },
    /// Let its owner sign in again.
    Enable {
        /// Its address.
        address: String,
    },
    /// List the devices of an account, or take one away.
    Devices {
        /// Its address.
        address: String,
        /// The device to take away, in hexadecimal digits.
        remove: Option<String>,
    },
    /// List the accounts.
    List,
    /// Read the configuration again.
    Reload,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done; a password that was made.
    Done {
        /// The password, if one was made.
        password: Option<String>,
    },
    /// The configuration was read again; what of it does not work, or needs a restart.
    Reloaded {
        /// A line each.
        warnings: Vec<String>,
    },
    /// The accounts.
    Accounts(Vec<Listed>),
    /// The devices of an account.
    Devices(Vec<ListedDevice>),
    /// Not done.
    Refused {
        /// The exit code of the command.
        exit: u8,
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

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
}

/// Listens on the control socket. A socket that nobody listens on is replaced.
///
/// # Errors
/// The system's.
pub fn listen(
    host: Arc<Host>,
    path: &Path,
    reload: impl Fn() -> Response + Send + Sync + Clone + 'static,
) -> io::Result<()> {
    // The store's lock says that no other server runs here.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket could not accept");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let (host, reload) = (host.clone(), reload.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(&host, stream, reload).await {
                    tracing::debug!(%error, "control");
                }
            });
        }
    });
    Ok(())
}

async fn serve(
    host: &Arc<Host>,
    stream: UnixStream,
    reload: impl Fn() -> Response,
) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input.take(LINE_BYTES_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        let response = match serde_json::from_str(&line) {
            Ok(Request::Reload) => reload(),
            Ok(request) => handle(host, request).await,
            Err(error) => refused(2, format!("no request: {error}"), None),
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        output.write_all(&line).await?;
    }
    Ok(())
}

/// Asks the server that listens on `path`; `None` if none does.
///
/// # Errors
/// The system's, if it answers no line, or none in time.
pub async fn ask(path: &Path, request: &Request) -> io::Result<Option<Response>> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            return if absent.contains(&error.kind()) { Ok(None) } else { Err(error) };
        }
    };
    match tokio::time::timeout(ANSWER_MAX, exchange(stream, request)).await {
        Ok(response) => response.map(Some),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")),
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// Does what is asked of the accounts.
pub async fn handle(host: &Arc<Host>, request: Request) -> Response {
    match act(host, request).await {
        Ok(response) => response,
        Err(error) => {
            let exit = match &error {
                AccountError::Store(_) | AccountError::Damaged { .. } => 5,
                AccountError::ForeignDomain(_) => 2,
                _ => 1,
            };
            let hint = matches!(error, AccountError::ForeignDomain(_)).then(|| {
                let domains = host.accounts.domains();
                format!(
                    "hosted: {}",
                    domains.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(", ")
                )
            });
            refused(exit, error.to_string(), hint)
        }
    }
}

async fn act(host: &Arc<Host>, request: Request) -> Result<Response, AccountError> {
    let (store, now) = (&*host.store, host.clock.now());
    match request {
        Request::Add { address, password, services } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            let (verifier, password) = match verifier(password) {
                Ok(made) => made,
                Err(response) => return Ok(*response),
            };
            host.accounts.add(store, now, &address, services, verifier, vec![]).await?;
            Ok(Response::Done { password })
        }
        Request::Passwd { address, password } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            let (verifier, password) = match verifier(password) {
                Ok(made) => made,
                Err(response) => return Ok(*response),
            };
            // Its devices have to show that they know the new one.
            let changed = vec![crate::devices::password_changed_op(&address, now)];
            host.accounts.change(store, now, &address, None, Some(verifier), changed).await?;
            host.end_sessions(&address, ByeReason::Revoked, "the password was changed").await;
            Ok(Response::Done { password })
        }
        Request::Disable { address } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            let state = Some(AccountState::Disabled);
            host.accounts.change(store, now, &address, state, None, vec![]).await?;
            disabled(host, &address).await?;
            Ok(Response::Done { password: None })
        }
        Request::Enable { address } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            let state = Some(AccountState::Enabled);
            host.accounts.change(store, now, &address, state, None, vec![]).await?;
            Ok(Response::Done { password: None })
        }
        Request::Remove { address } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            remove(host, &address, now).await?;
            Ok(Response::Done { password: None })
        }
        Request::Devices { address, remove } => {
            let Ok(address) = Address::parse(&address) else { return Ok(no_address(&address)) };
            if host.accounts.get(&address).is_none() {
                return Err(AccountError::NotFound(address));
            }
            match remove {
                Some(device) => devices::remove(host, &address, &device).await,
                None => Ok(Response::Devices(devices::list(host, &address).await?)),
            }
        }
        Request::List => {
            let listed = host.accounts.list().into_iter().map(|account| {
                let services = account.services;
                let named = [("pres", services.pres), ("im", services.im)];
                let named = named.into_iter().filter(|(_, has)| *has);
                Listed {
                    address: account.address.to_string(),
                    state: account.state,
                    services: named.map(|(name, _)| name.to_owned()).collect(),
                    created: account.created.to_string(),
                    sessions: host.sessions.of(&account.address).len(),
                }
            });
            Ok(Response::Accounts(listed.collect()))
        }
        Request::Reload => Ok(refused(2, "only a running server reloads".to_owned(), None)),
    }
}

/// An account was disabled: nothing goes on in its name. What it shows ends, its sessions end, and
/// what it has waiting for other domains comes to its fate; that is stored by the queues.
async fn disabled(host: &Arc<Host>, address: &Address) -> Result<(), AccountError> {
    let withdrawn = host.principals.change(address, Change::Withdraw);
    // The rest is done also if this cannot be stored; it is told all the same.
    let withdrawn = withdrawn.await;
    host.end_sessions(address, ByeReason::Revoked, "the account was disabled").await;
    host.peers.end_sender(address);
    Ok(withdrawn.map(drop)?)
}

/// Removes an account: its name stays taken, everything it had goes, its watchers are told.
async fn remove(host: &Arc<Host>, address: &Address, now: Timestamp) -> Result<(), AccountError> {
    let state = Some(AccountState::Removed);
    let purge = vec![Op::Purge { owner: address.clone() }];
    host.accounts.change(&*host.store, now, address, state, None, purge).await?;
    host.end_sessions(address, ByeReason::Revoked, "the account was removed").await;
    // What it followed.
    for (key, _) in scan(&*host.store, address, records::FOLLOWED).await? {
        let presentity = records::last_part(&key).map(Address::parse_canonical);
        let Some(Ok(presentity)) = presentity else { continue };
        if let Ok(Home::Elsewhere(key)) = host.home_of(address, &presentity) {
            let event = SubscriptionEvent::Timeout;
            host.mirrors.end_following(host, &key, address, event).await?;
        } else if host.accounts.get(&presentity).is_some() {
            let end = Change::End(address.clone(), SubscriptionEvent::Timeout);
            host.principals.change(&presentity, end).await?;
        }
    }
    // What it has waiting for other domains.
    host.peers.forget_sender(address);
    // Who followed it.
    host.principals.change(address, Change::Close).await?;
    let own = records::key(records::RULES, address, &[]);
    let mut ops = vec![Op::Put { key: own, expect: Expect::Any, value: None }];
    for table in records::OF_ACCOUNT {
        for (key, _) in scan(&*host.store, address, *table).await? {
            ops.push(delete(address, *table, key));
        }
    }
    for chunk in ops.chunks(impp_storage::UNIT_OPS_MAX) {
        host.store(chunk.to_vec()).await?;
    }
    host.principals.forget(address);
    Ok(())
}

fn delete(owner: &Address, table: Table, key: Vec<u8>) -> Op {
    let key = RecordKey { domain: owner.domain(), table, key };
    Op::Put { key, expect: Expect::Any, value: None }
}

/// A verifier of the password given, or of one that is made and returned.
#[allow(clippy::type_complexity)]
fn verifier(
    given: Option<String>,
) -> Result<(impp_protocol::sasl::scram::Verifier, Option<String>), Box<Response>> {
    let no_random = |error: getrandom::Error| Box::new(refused(5, error.to_string(), None));
    let made = match &given {
        Some(_) => None,
        None => Some(random_password().map_err(no_random)?),
    };
    let text = given.as_ref().or(made.as_ref()).map_or("", |text| text);
    let password =
        Password::prepare(text).map_err(|error| Box::new(refused(2, error.to_string(), None)))?;
    let verifier = new_verifier(&password, given.is_some()).map_err(no_random)?;
    Ok((verifier, made))
}

/// A password with 144 random bits.
///
/// # Errors
/// The system's if it gives no random bytes.
pub fn random_password() -> Result<String, getrandom::Error> {
    let mut random = [0; PASSWORD_RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// A refusal.
pub fn refused(exit: u8, message: String, hint: Option<String>) -> Response {
    Response::Refused { exit, message, hint }
}

fn no_address(text: &str) -> Response {
    let why = Address::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
    refused(2, format!("\"{text}\" is no address: {why}"), None)
}
