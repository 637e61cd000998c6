//! What speaks to the outside: `listen` accepts, `connection` serves clients in frames, `control` the
//! operator on a socket, `web` whoever speaks HTTP on the same port, `http` whoever looks at numbers.
//!
//! A connection of another domain's server is handed to `link`; what clients ask, to `session`.

pub mod connection;
pub mod control;
pub mod http;
pub mod listen;
mod web;

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use connection::Connection;

use crate::core::accounts::Accounts;
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::metrics::Metrics;
use crate::core::secrets::Secrets;
use crate::core::settings::Settings;
use crate::core::stopping::Stopping;
use crate::link::Peers;
use crate::session::Serving;
use crate::session::guesses::Guesses;
use crate::wire::admission::{Admission, Crowded, Place};
use crate::wire::channel::Channel;
use crate::wire::complaints::Complaints;
use crate::wire::pipe::Pipe;
use crate::wire::turns::Turns;

/// What those who connect are let in by.
pub struct Entrance {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Clock,
    /// Nonces.
    pub chance: Arc<dyn Chance>,
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
    /// Who has failed to sign in.
    pub guesses: Guesses,
    /// Whose handshake is next.
    pub turns: Arc<Turns>,
    /// Whom the log has complained of.
    pub complaints: Complaints,
    /// What those are served from who have signed in.
    pub serving: Arc<Serving>,
    /// Where the servers of other domains go.
    pub peers: Arc<Peers>,
}

impl Entrance {
    /// Serves the connection of a client to its end, in a task that has room for no more than that: what
    /// led to it would stay with it otherwise.
    pub(crate) fn let_in(
        self: &Arc<Self>,
        pipe: Pipe,
        peer: IpAddr,
        place: Place,
        sign_in_by: Instant,
    ) {
        let connection = Connection::new(self.clone(), pipe, peer, place, sign_in_by);
        let metrics = self.metrics.clone();
        metrics.connections.inc();
        self.stopping.serving.spawn(connection.run().map(move |()| metrics.connections.dec()));
    }

    /// The same of somebody who speaks HTTP, as long as those may stay who have not signed in.
    pub(crate) fn let_in_by_web(
        self: &Arc<Self>,
        channel: Box<dyn Channel>,
        peer: IpAddr,
        place: Place,
        until: Instant,
    ) {
        let entrance = self.clone();
        self.metrics.connections.inc();
        self.stopping.serving.spawn(async move {
            let visit =
                web::serve(channel, entrance.clock.clone(), until, &entrance.stopping.begun);
            if place.lost().run_until_cancelled(visit).await.is_none() {
                entrance.made_way(peer);
            }
            entrance.metrics.connections.dec();
        });
    }

    /// Counts a connection that was refused, and says so in the log.
    fn crowded(&self, peer: IpAddr, crowded: Crowded) {
        self.metrics.crowded.inc();
        if self.complaints.may_complain(peer, self.clock.now()) {
            tracing::warn!(%peer, reason = %crowded, "connection refused");
        }
    }

    /// The same of one that had a place, and lost it to one of those who have fewer.
    fn made_way(&self, peer: IpAddr) {
        self.crowded(peer, Crowded::Total);
    }
}
