//! Links to servers of other domains.
//!
//! Proving who is at the other end of TLS is left to `net/tls.rs` and `impp_federation::prove`.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::host::Host;
use crate::net::admission::Place;
use crate::net::pipe::Pipe;

/// Serves a link that another server has opened: TLS is done, the protocol chosen, and the other
/// side has presented a certificate of a CA that is trusted; what it proves is still to be asked.
///
/// Nothing is served yet: it is closed.
pub async fn accept(_host: Arc<Host>, pipe: Pipe, _peer: IpAddr, _place: Place, deadline: Instant) {
    pipe.finish(deadline).await;
}
