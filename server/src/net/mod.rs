//! Clients at the door: accepting, TLS, and their connections.
//!
//! A connection of another domain's server is handed to `link`; what clients ask, to `session`.

pub mod connection;
pub mod listen;

use std::sync::Arc;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::link::Peers;
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::session::Serving;
use crate::settings::Settings;
use crate::stopping::Stopping;
use crate::wire::admission::Admission;
use crate::wire::complaints::Complaints;

/// What those who connect are let in by.
pub struct Entrance {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who can sign in.
    pub accounts: Arc<Accounts>,
    /// Keys.
    pub secrets: Arc<Secrets>,
    /// Whether nobody is let in any more.
    pub stopping: Arc<Stopping>,
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// Whom the log has complained of.
    pub complaints: Complaints,
    /// What those are served from who have signed in.
    pub serving: Arc<Serving>,
    /// Where the servers of other domains go.
    pub peers: Arc<Peers>,
}
