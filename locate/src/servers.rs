//! DNS servers: a question goes to one, and soon to the next one where no answer comes.
//!
//! Which servers there are, and what an answer means, is left to `system` and `dns`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::Instant;

/// After this the next server is asked as well: one that is dead costs a question no more.
const HEDGE: Duration = Duration::from_millis(400);
/// So long one that was too late is not asked first again. Then it is: servers are named in the order
/// in which they know best.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// A question that failed is sent again so often, if there is time left.
const RETRIES: usize = 1;
/// The port of DNS.
const PORT: u16 = 53;

/// The part of hickory-resolver that sends questions, for one server. Its upper part, the `Resolver`,
/// is not used: it answers names under `localhost` itself even where a server is configured that has
/// them, and bounds its cache by answers, not by bytes. Nor is a pool of several servers: it takes
/// the first failure for the answer, and two dead ones use up the time of the question.
type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// See the module.
pub(crate) struct Servers {
    pools: Vec<Pool>,
    /// The one that is asked first instead of the first, and until when: it has answered where those
    /// before it had not.
    instead: Mutex<Option<(usize, Instant)>>,
}

impl Servers {
    /// These, of which one question may take `limit`.
    ///
    /// # Errors
    /// There is none, in words.
    pub(crate) fn new(addresses: &[SocketAddr], limit: Duration) -> Result<Servers, String> {
        if addresses.is_empty() {
            return Err("no DNS server is configured".to_owned());
        }
        let pool = |address: &SocketAddr| {
            let mut named = NameServerConfig::udp_and_tcp(address.ip());
            named.connections.iter_mut().for_each(|connection| connection.port = address.port());
            let mut options = ResolverOpts::default();
            options.timeout = limit;
            let tls = TlsConfig::new().map_err(|error| error.to_string())?;
            let context = Arc::new(PoolContext::new(options, tls));
            let provider = TokioRuntimeProvider::default();
            let pool = NameServerPool::from_config([named], context, provider);
            Ok(RetryDnsHandle::new(pool, RETRIES))
        };
        let pools = addresses.iter().map(pool).collect::<Result<_, String>>()?;
        Ok(Servers { pools, instead: Mutex::default() })
    }

    /// Asks them: the first answer counts. One that says that it could not find out (SERVFAIL,
    /// REFUSED) has not answered, and is told if none does.
    ///
    /// # Errors
    /// The last failure; that there is nothing is one too, [`DnsError::NoRecordsFound`].
    pub(crate) async fn ask(&self, query: &Query) -> Result<DnsResponse, NetError> {
        let first = self.first();
        let mut order = (0..self.pools.len()).map(|n| (first + n) % self.pools.len());
        let mut asked = FuturesUnordered::new();
        let mut failed = NetError::NoConnections;
        loop {
            if let Some((at, pool)) = order.next().and_then(|at| Some((at, self.pools.get(at)?))) {
                asked.push(async move { (at, one(pool, query).await) });
            }
            let more = order.len() > 0;
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = tokio::time::sleep(HEDGE), if more => continue,
            };
            match answer {
                Some((_, Err(error))) if !is_absence(&error) => failed = error,
                Some((at, answer)) => {
                    if at != first {
                        self.prefer(at);
                    }
                    return answer;
                }
                None => return Err(failed),
            }
        }
    }

    fn first(&self) -> usize {
        let instead = *self.instead.lock().unwrap_or_else(PoisonError::into_inner);
        instead.filter(|(_, until)| *until > Instant::now()).map_or(0, |(at, _)| at)
    }

    fn prefer(&self, at: usize) {
        let instead = (at > 0).then(|| (at, Instant::now() + LEFT_ALONE));
        *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = instead;
    }
}

async fn one(pool: &Pool, query: &Query) -> Result<DnsResponse, NetError> {
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    match pool.lookup(query.clone(), options).next().await {
        Some(Ok(response)) => DnsError::from_response(response).map_err(NetError::from),
        Some(Err(error)) => Err(error),
        None => Err(NetError::NoConnections),
    }
}

/// Whether it is the answer that there is nothing.
fn is_absence(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(_)))
}

/// A server at DNS's own port.
pub(crate) fn at_its_port(address: std::net::IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}
