//! Links: connections to the servers of other domains, over which both sides ask.
//!
//! | module | duty |
//! |---|---|
//! | `peers`, `peer` | the other domains there is something for; what waits for each; when to dial |
//! | `claims` | which account pays for a place in their table, and for how many |
//! | `dial`, `opening` | reaching another server, and the HELLOs that open a link from either end |
//! | `connection` | an open link: frames in and out, deadlines, requests and answers |
//! | `incoming` | what the other side asks |
//! | `home` | what the other side's watchers are told of presentities here |
//! | `outgoing` | messages from here: into the queue, onto the link, to their fates |
//! | `mailbox` | where the rest of the server leaves word for a link |
//! | `words` | what the other side says in words, made fit for logs |
//!
//! The order of messages and their fates is decided by `impp_federation::queue`, proof by
//! `impp_trust`, where a domain is by `impp_locate`.

mod claims;
mod connection;
mod dial;
pub mod home;
mod incoming;
pub mod mailbox;
mod opening;
pub mod outgoing;
mod peer;
mod peers;
mod words;

use std::net::IpAddr;
use std::sync::Arc;

use impp_protocol::Code;
use tokio::time::Instant;

pub(crate) use dial::handshake;
pub use mailbox::LinkMailbox;
pub use opening::{Opened, Services};
pub use peer::{Link, Peer};
pub use peers::Peers;

use crate::host::Host;
use crate::wire::admission::Place;
use crate::wire::pipe::Pipe;

/// Serves a connection on which another domain's server has called, to its end.
pub async fn accept(host: Arc<Host>, mut pipe: Pipe, peer: IpAddr, place: Place, by: Instant) {
    match opening::answer(&host, &mut pipe, by).await {
        Ok((local, remote, opened)) => {
            drop(place);
            match Peers::attach(&host, &local, &remote, opened, false).await {
                Ok((peer, link)) => connection::serve(host, peer, link, pipe).await,
                Err(error) => opening::refuse(pipe, error).await,
            }
        }
        Err(error) => {
            host.metrics.refuse_link(error.code);
            // Who says nothing has only looked.
            if error.code == Code::Unreachable {
                tracing::debug!(%peer, %error, "a server called and left");
            } else if host.complaints.may_complain(peer, host.clock.now()) {
                tracing::warn!(%peer, %error, "a server called, and no link was opened");
            }
            opening::refuse(pipe, error).await;
        }
    }
}
