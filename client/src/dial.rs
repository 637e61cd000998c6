//! The way to a server: where the profile says, or where DNS does, and TLS to it.
//!
//! Looking it up and trying one target after the other is `impp_locate`'s, TLS is left to `tls`.

use std::net::SocketAddr;
use std::time::Duration;

use impp_locate::{AttemptError, Locator, Policy, Service, Settings};
use impp_protocol::Domain;
use impp_protocol::sasl::scram::Exporter;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::error::ClientError;
use crate::profile::{Profile, ProfileError};
use crate::tls::Tls;

/// How long it may take to look up whether a server has the other service too: what is not known
/// by then costs a connection more.
const OTHER_MAX: Duration = Duration::from_secs(2);

/// Where a server is and how it is believed. Kept between connections, so that TLS can resume.
pub(crate) struct Endpoint {
    domain: Domain,
    place: Place,
    tls: Tls,
}

enum Place {
    /// This host and port.
    Given(String),
    /// Where DNS says, asked of these servers or the system's.
    Dns(Vec<SocketAddr>),
}

/// A new TLS connection.
pub(crate) struct Dialled {
    pub(crate) stream: TlsStream<TcpStream>,
    /// What a sign-in is bound to it by.
    pub(crate) exporter: Exporter,
    /// The services that the server is known to have.
    pub(crate) services: Vec<Service>,
}

impl Endpoint {
    /// What a profile says about it; reads the files that it names.
    pub(crate) fn from_profile(profile: &Profile) -> Result<Endpoint, ProfileError> {
        let place = match profile.server() {
            Some(server) => Place::Given(server),
            None => Place::Dns(profile.dns.clone()),
        };
        Ok(Endpoint { domain: profile.address.domain(), place, tls: Tls::from_profile(profile)? })
    }

    /// Connects to a server of `service`. What DNS says is asked anew each time: the server may
    /// have moved, or this device into another network.
    pub(crate) async fn dial(
        &self,
        service: Service,
        deadline: Instant,
    ) -> Result<Dialled, ClientError> {
        match &self.place {
            Place::Given(server) => self.dial_given(server).await,
            Place::Dns(dns) => self.dial_located(dns, service, deadline).await,
        }
    }

    async fn dial_given(&self, server: &str) -> Result<Dialled, ClientError> {
        let unreached = |error: std::io::Error| ClientError::Unreachable {
            server: server.to_owned(),
            kind: error.kind(),
            text: error.to_string(),
        };
        let tcp = TcpStream::connect(server).await.map_err(unreached)?;
        // Requests are written whole: waiting for more to fill a packet would only delay them.
        tcp.set_nodelay(true).map_err(unreached)?;
        let (stream, exporter) = self.tls.handshake(server, tcp).await?;
        Ok(Dialled { stream, exporter, services: Service::ALL.to_vec() })
    }

    async fn dial_located(
        &self,
        dns: &[SocketAddr],
        service: Service,
        deadline: Instant,
    ) -> Result<Dialled, ClientError> {
        // Clients go where their user's domain says, into networks of their own too.
        let policy = Policy::anywhere();
        let settings = Settings { dns: dns.to_vec(), policy, ..Settings::default() };
        let locator = Locator::new(settings);
        let attempt = |tcp: TcpStream, address: SocketAddr| async move {
            let shaken = self.tls.handshake(&address.to_string(), tcp).await;
            shaken.map_err(|error| match error {
                ClientError::Tls { text, untrusted: true, .. } => AttemptError::Untrusted(text),
                error => AttemptError::Failed(error.to_string()),
            })
        };
        let other = match service {
            Service::Presence => Service::Messages,
            Service::Messages => Service::Presence,
        };
        let reach = locator.reach(&self.domain, service, deadline, attempt);
        let lookup = locator.lookup(&self.domain, other, deadline.min(Instant::now() + OTHER_MAX));
        let (reached, others) = tokio::join!(reach, lookup);
        let reached = reached.map_err(|error| ClientError::NotLocated(Box::new(error)))?;
        let (stream, exporter) = reached.value;
        let mut services = vec![service];
        if others.candidates.iter().any(|found| found.addresses.contains(&reached.address)) {
            services.push(other);
        }
        Ok(Dialled { stream, exporter, services })
    }
}
