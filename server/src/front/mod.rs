//! What speaks to the outside: `listen` accepts, `connection` serves clients in frames, `control` the
//! operator on a socket, `http` whoever looks at numbers.
//!
//! A connection of another domain's server is handed to `link`; what clients ask, to `session`.

pub mod connection;
pub mod control;
pub mod http;
pub mod listen;

use std::sync::Arc;

use crate::core::accounts::Accounts;
use crate::core::clock::Clock;
use crate::core::metrics::Metrics;
use crate::core::secrets::Secrets;
use crate::core::settings::Settings;
use crate::core::stopping::Stopping;
use crate::link::Peers;
use crate::session::Serving;
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
