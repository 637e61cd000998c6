//! A DNS server for plays: authoritative for whatever is set, on loopback, over UDP and TCP, with
//! a count of the questions asked, and with faults on demand.
//!
//! It knows every name of which it was told a record, and those above it; all others are NXDOMAIN.

mod answer;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, RecordType};

/// What the server does wrong, on questions for one name and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers SERVFAIL.
    ServFail,
    /// Answers nothing.
    Silence,
    /// Answers NXDOMAIN, with SOA.
    NxDomain,
    /// Answers without records and without SOA.
    Empty,
    /// Answers with a CNAME that leads to one that leads back.
    CnameLoop,
    /// Answers that each answer is cut off, over TCP too.
    Truncated,
    /// Answers with an id that was not asked.
    WrongId,
    /// Says that each section has 65,535 records, and ends.
    Counts,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    threads: Vec<JoinHandle<()>>,
}

/// What is served, and what was asked.
#[derive(Debug, Default)]
struct Zone {
    records: HashMap<(Name, RecordType), Vec<RData>>,
    faults: HashMap<(Name, RecordType), Fault>,
    asked: HashMap<(Name, RecordType), usize>,
    ttl: Option<u32>,
    stopped: bool,
}

/// Seconds for which answers hold, also that something does not exist.
pub const TTL_SECONDS: u32 = 600;

impl Dns {
    /// A server without records, on 127.0.0.1.
    pub fn start() -> Dns {
        Dns::start_on(Ipv4Addr::LOCALHOST)
    }

    /// A server without records, on an address of the machine.
    pub fn start_on(ip: Ipv4Addr) -> Dns {
        Dns::serving(sockets(ip))
    }

    /// A server without records at DNS's own port, for programs that cannot be told another; none if
    /// that cannot be had here.
    pub fn start_at_its_port(ip: Ipv4Addr) -> Option<Dns> {
        let udp = UdpSocket::bind((ip, 53)).ok()?;
        Some(Dns::serving((udp, TcpListener::bind((ip, 53)).ok()?)))
    }

    fn serving((udp, tcp): (UdpSocket, TcpListener)) -> Dns {
        udp.set_read_timeout(Some(LOOK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let threads = vec![
            spawn({
                let zone = zone.clone();
                move || serve_udp(&udp, &zone)
            }),
            spawn({
                let zone = zone.clone();
                move || serve_tcp(&tcp, &zone)
            }),
        ];
        Dns { address, zone, threads }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds an SRV record: `service` is `pres` or `im`.
    pub fn srv(
        &self,
        domain: &str,
        service: &str,
        priority: u16,
        weight: u16,
        port: u16,
        target: &str,
    ) {
        let data = RData::SRV(SRV::new(priority, weight, port, name(target)));
        self.add(&owner(domain, service), RecordType::SRV, data);
    }

    /// Says that a domain does not offer a service.
    pub fn not_offered(&self, domain: &str, service: &str) {
        self.srv(domain, service, 0, 0, 0, ".");
    }

    /// Adds an A record.
    pub fn a(&self, host: &str, address: Ipv4Addr) {
        self.add(host, RecordType::A, RData::A(A(address)));
    }

    /// Adds an A or AAAA record.
    pub fn address_of(&self, host: &str, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.a(host, address),
            IpAddr::V6(address) => self.add(host, RecordType::AAAA, RData::AAAA(AAAA(address))),
        }
    }

    /// Adds a CNAME record.
    pub fn cname(&self, host: &str, target: &str) {
        self.add(host, RecordType::CNAME, RData::CNAME(CNAME(name(target))));
    }

    /// Takes away all records of a name.
    pub fn remove(&self, owner: &str) {
        let owner = name(owner);
        self.zone().records.retain(|(known, _), _| *known != owner);
    }

    /// Does this on questions for a name and type from now on.
    pub fn fault(&self, owner: &str, kind: RecordType, fault: Fault) {
        self.zone().faults.insert((name(owner), kind), fault);
    }

    /// Does nothing wrong from now on.
    pub fn mend(&self) {
        self.zone().faults.clear();
    }

    /// All answers hold for so long from now on.
    pub fn ttl(&self, seconds: u32) {
        self.zone().ttl = Some(seconds);
    }

    /// How often a name and type was asked for.
    pub fn asked(&self, owner: &str, kind: RecordType) -> usize {
        self.zone().asked.get(&(name(owner), kind)).copied().unwrap_or(0)
    }

    /// How many questions were asked since the last call.
    pub fn asked_since(&self) -> usize {
        std::mem::take(&mut self.zone().asked).into_values().sum()
    }

    fn add(&self, owner: &str, kind: RecordType, data: RData) {
        self.zone().records.entry((name(owner), kind)).or_default().push(data);
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.zone.lock().unwrap().stopped = true;
        for thread in self.threads.drain(..) {
            // A thread that failed has said so; the play fails by what it does not get.
            let _ = thread.join();
        }
    }
}

/// The name of a service's SRV records.
pub fn owner(domain: &str, service: &str) -> String {
    format!("_{service}._impp.{domain}")
}

impl Zone {
    /// Whether a name, or one below it, has records.
    fn knows(&self, name: &Name) -> bool {
        self.records.keys().any(|(known, _)| name.zone_of(known))
    }

    /// The names that a CNAME leads to, one behind the other.
    fn chain(&self, from: &Name) -> Vec<(Name, Name)> {
        let (mut chain, mut seen) = (Vec::new(), HashSet::new());
        let mut at = from.clone();
        while let Some([RData::CNAME(next), ..]) =
            self.records.get(&(at.clone(), RecordType::CNAME)).map(Vec::as_slice)
        {
            if !seen.insert(at.clone()) {
                break;
            }
            chain.push((at, next.0.clone()));
            at = next.0.clone();
        }
        chain
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap().to_lowercase();
    name.set_fqdn(true);
    name
}

/// Both on one port.
fn sockets(ip: Ipv4Addr) -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut buffer = [0; 4096];
    while !zone.lock().unwrap().stopped {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer::answer(&buffer[..length], &mut zone.lock().unwrap(), true) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Arc<Mutex<Zone>>) {
    while !zone.lock().unwrap().stopped {
        match listener.accept() {
            Ok((stream, _)) => {
                let zone = zone.clone();
                spawn(move || serve_stream(stream, &zone));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn serve_stream(mut stream: TcpStream, zone: &Mutex<Zone>) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        let answer = answer::answer(&question, &mut zone.lock().unwrap(), false);
        if let Some(answer) = answer {
            let length = u16::try_from(answer.len()).ok()?;
            stream.write_all(&length.to_be_bytes()).ok()?;
            stream.write_all(&answer).ok()?;
        }
    }
}
