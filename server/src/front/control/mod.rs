//! What the operator asks of a server: accounts, their devices, what rules make of somebody, and
//! that it reads its configuration again. `imppd user`, `explain` and `reload` ask the running
//! server through its control socket, which speaks HTTP, so that any HTTP client can ask too; where
//! no server runs, `imppd user` does the same on the store itself.
//!
//! Who may open the socket, and how it is bounded, is in `socket`; which path asks what, in `paths`;
//! asking, in `asking`. What is done is in `accounts`, `removal`, `devices` and `explain`.

mod accounts;
mod asking;
mod devices;
mod explain;
mod paths;
mod removal;
mod socket;

use std::sync::Arc;

use impp_storage::Store;
use serde::{Deserialize, Serialize};

pub use accounts::{Listed, handle, services_of};
pub use asking::ask;
pub use devices::ListedDevice;
pub use explain::Explained;
pub use paths::Answering;
pub use removal::finish_all as finish_removals;
pub use socket::listen;

use crate::core::accounts::Accounts;
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::metrics::Metrics;
use crate::core::principals::Principals;
use crate::core::records::Services;
use crate::core::secrets::Secrets;
use crate::core::settings::Settings;
use crate::messages::Outgoing;
use crate::reach::Reach;
use crate::session::{Devices, Live, Rules};

/// Most bytes of what is asked, and of what is answered: the list of an account's devices is short,
/// that of all accounts is not.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// This program as it names itself to the other side: what is not understood may be of another one.
const AGENT: &str = concat!("imppd/", env!("CARGO_PKG_VERSION"));

/// What the operator's requests are about.
pub struct Administration {
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// Where they and all they have are kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Passwords.
    pub chance: Arc<dyn Chance>,
    /// How many of them are closed.
    pub metrics: Arc<Metrics>,
    /// Salts,
    pub secrets: Arc<Secrets>,
    /// and how often passwords are hashed.
    pub settings: Arc<Settings>,
    /// What they show.
    pub principals: Arc<Principals>,
    /// Whom they follow.
    pub reach: Arc<Reach>,
    /// Their sessions.
    pub live: Arc<Live>,
    /// Their devices.
    pub devices: Arc<Devices>,
    /// Who may see what of them.
    pub rules: Rules,
    /// What they have waiting for other domains.
    pub outgoing: Arc<Outgoing>,
}

/// What can be asked.
#[derive(Debug, PartialEq, Eq)]
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
    /// Say what somebody's rules make of somebody else.
    Explain {
        /// Whose rules.
        owner: String,
        /// Whom they are asked about.
        watcher: String,
    },
    /// List the accounts.
    List,
    /// Read the configuration again.
    Reload,
}

/// What is answered: a JSON object with one of these names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Done {
        /// The password, if one was made.
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// What could not be done with it, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
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
    /// What becomes of somebody who follows, looks once, and writes.
    Explained(Vec<Explained>),
    /// Not done.
    Refused {
        /// The exit code of the command.
        exit: u8,
        /// Why.
        message: String,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

impl Response {
    /// Done, with nothing more to say.
    pub const DONE: Response = Response::Done { password: None, warnings: Vec::new() };
}

/// A refusal.
pub fn refused(exit: u8, message: impl Into<String>, hint: Option<String>) -> Response {
    Response::Refused { exit, message: message.into(), hint }
}
