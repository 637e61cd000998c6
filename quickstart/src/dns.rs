//! The DNS by which the demonstration's two domains find each other: authoritative for their zones,
//! and for nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use impp_locate::{Service, owner_name};
use impp_protocol::Domain;
use impp_server::cli::Failure;
use tokio::net::{TcpListener, UdpSocket};

/// Seconds for which answers hold.
const TTL: u32 = 60;
/// The zone above the domains.
const ABOVE: &str = "localhost.";
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes of an answer over TCP.
const ANSWER_BYTES: usize = 4096;

/// Both sockets on one port.
pub(crate) async fn sockets(wanted: SocketAddr) -> Result<(UdpSocket, TcpListener), Failure> {
    let failed = |error: std::io::Error| Failure {
        hint: Some("is the demonstration running already?".to_owned()),
        ..Failure::new(3, format!("DNS on {wanted}: {error}"))
    };
    let udp = UdpSocket::bind(wanted).await.map_err(failed)?;
    let tcp = TcpListener::bind(udp.local_addr().map_err(failed)?).await.map_err(failed)?;
    Ok((udp, tcp))
}

/// Serves a zone for each of these domains, whose server listens there, for as long as what is
/// returned is held.
pub(crate) fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    domains: &[(&str, SocketAddr)],
) -> Result<Server<Catalog>, String> {
    let mut catalog = Catalog::new();
    for (name, listen) in domains {
        let zone = zone(name, *listen).map_err(|error| error.to_string())?;
        let origin = Name::from_ascii(format!("{name}.")).map_err(|error| error.to_string())?;
        catalog.upsert(LowerName::new(&origin), vec![zone]);
    }
    // Other names under localhost do not exist; without a zone above them they would be refused.
    let above = Name::from_ascii(ABOVE).map_err(|error| error.to_string())?;
    catalog.upsert(LowerName::new(&above), vec![Arc::new(empty(&above, &above))]);
    let mut server = Server::new(catalog);
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, ANSWER_BYTES);
    Ok(server)
}

/// A zone with nothing but its SOA.
fn empty(origin: &Name, host: &Name) -> InMemoryZoneHandler<TokioRuntimeProvider> {
    let mut zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(host.clone(), origin.clone(), 1, 3600, 600, 86_400, TTL);
    zone.upsert_mut(Record::from_rdata(origin.clone(), TTL, RData::SOA(soa)), 0);
    zone
}

/// What an administrator would write: two SRV records and the host that they name.
fn zone(
    name: &str,
    listen: SocketAddr,
) -> Result<Arc<dyn ZoneHandler>, Box<dyn std::error::Error>> {
    let origin = Name::from_ascii(format!("{name}."))?;
    let host = Name::from_ascii(format!("host.{name}."))?;
    let domain = Domain::parse(name)?;
    let mut zone = empty(&origin, &host);
    let address = RData::A(A(Ipv4Addr::LOCALHOST));
    zone.upsert_mut(Record::from_rdata(host.clone(), TTL, address), 0);
    for service in Service::ALL {
        let owner = Name::from_ascii(owner_name(service, &domain))?;
        let srv = RData::SRV(SRV::new(0, 0, listen.port(), host.clone()));
        zone.upsert_mut(Record::from_rdata(owner, TTL, srv), 0);
    }
    Ok(Arc::new(zone))
}
