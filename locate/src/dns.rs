//! Asking DNS: one name and type at a time, CNAMEs followed, answers held while they are valid.
//!
//! Which names are asked for, and what the answers mean for a search, is left to `locator`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use impp_protocol::Domain;
use tokio::time::Instant;

use crate::cache::{Cache, Datum, Reply};
use crate::servers::Servers;
use crate::srv::SrvRecord;
use crate::step::{Answer, RecordKind, Step, TOLD_MAX, milliseconds};
use crate::system::{Known, System};

/// One question may take so long, however often it is sent again.
pub const QUERY_SECONDS_MAX: u64 = 3;
/// Records of one answer that are looked at.
pub const RECORDS_MAX: usize = 1000;
/// CNAMEs from a name to its records.
const CNAMES_MAX: usize = 8;
/// Asks the servers configured, or the system's.
pub(crate) struct Dns {
    whose: Whose,
    cache: Mutex<Cache>,
    /// Who is asked, in words.
    whom: String,
}

/// Whose servers are asked.
enum Whose {
    /// Those that were named, or why they cannot be asked. What they say is all there is.
    Named(Result<Servers, String>),
    /// The system's, which knows some names without them.
    System(System),
}

/// Whose they are at this moment.
#[derive(Clone)]
enum Asking<'a> {
    Named(&'a Result<Servers, String>),
    System(Arc<Known>),
}

/// What came of a question.
pub(crate) struct Asked {
    pub(crate) reply: Reply,
    pub(crate) step: Step,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("whom", &self.whom).finish_non_exhaustive()
    }
}

impl Dns {
    /// Asks these servers; the system's if there are none.
    pub(crate) fn new(servers: &[SocketAddr]) -> Dns {
        let (cache, limit) = (Mutex::default(), Duration::from_secs(QUERY_SECONDS_MAX));
        if servers.is_empty() {
            let whom = "the system's DNS servers".to_owned();
            return Dns { whose: Whose::System(System::new(limit)), cache, whom };
        }
        let whom = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Dns { whose: Whose::Named(Servers::new(servers, limit)), cache, whom }
    }

    /// Asks for records of a name that ends with a dot.
    pub(crate) async fn ask(&self, name: &str, kind: RecordKind, limit: Duration) -> Asked {
        let started = Instant::now();
        let held = self.held(name, kind, started);
        let cached = held.is_some();
        let reply = match held {
            Some(reply) => reply,
            None => {
                let limit = limit.min(Duration::from_secs(QUERY_SECONDS_MAX));
                let reply = tokio::time::timeout(limit, self.resolve(name, kind)).await;
                let late = || self.silent(limit);
                let reply = reply.unwrap_or_else(|_| late());
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.put(name, kind, &reply, Instant::now().into_std());
                reply
            }
        };
        let name = name.to_owned();
        let milliseconds = milliseconds(started.elapsed());
        let step = Step::Asked { name, kind, answer: answer(&reply), cached, milliseconds };
        Asked { reply, step }
    }

    fn held(&self, name: &str, kind: RecordKind, now: Instant) -> Option<Reply> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(name, kind, now.into_std())
    }

    /// Asks for these records anew next time: they led nowhere.
    pub(crate) fn forget(&self, steps: &[Step]) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for step in steps {
            if let Step::Asked { name, kind, .. } = step {
                cache.forget(name, *kind);
            }
        }
    }

    /// Asks anew next time where the answer was that there is nothing: for the names of a domain and
    /// below it, or for all.
    pub(crate) fn forget_absent(&self, domain: Option<&Domain>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.forget_absent(domain.map(Domain::as_str));
    }

    /// Has what the system says read again.
    pub(crate) fn read_again(&self) {
        if let Whose::System(system) = &self.whose {
            system.forget();
        }
        self.forget_absent(None);
    }

    async fn resolve(&self, text: &str, kind: RecordKind) -> Reply {
        let Ok(mut name) = Name::from_ascii(text) else {
            // A name that is too long, or has such a label, is nobody's.
            return Reply::NoName(None);
        };
        let asking = match &self.whose {
            Whose::Named(servers) => Asking::Named(servers),
            Whose::System(system) => Asking::System(system.now()),
        };
        if let Asking::System(known) = &asking
            && let Some(reply) = system_knows(&known.hosts, &name, kind)
        {
            return reply;
        }
        let mut ttl = u32::MAX;
        let mut cnames = 0;
        while cnames <= CNAMES_MAX {
            let response = match self.send(&asking, &name, kind).await {
                Ok(response) => response,
                Err(reply) => return capped(reply, ttl),
            };
            let asked = name.clone();
            while let Some((next, holds)) = cname(&response.answers, &name) {
                (name, ttl) = (next, ttl.min(holds));
                cnames += 1;
                if cnames > CNAMES_MAX {
                    break;
                }
            }
            let (data, holds) = records(&response.answers, &name, kind);
            if !data.is_empty() {
                return Reply::Records(data, ttl.min(holds));
            }
            if name == asked || response.negative_ttl().is_some() {
                return capped(nothing(response.response_code, response.negative_ttl()), ttl);
            }
        }
        Reply::Failed(format!("more than {CNAMES_MAX} CNAMEs, the last one to {name}"))
    }

    async fn send(
        &self,
        asking: &Asking<'_>,
        name: &Name,
        kind: RecordKind,
    ) -> Result<DnsResponse, Reply> {
        let servers = match asking {
            Asking::Named(servers) => servers.as_ref(),
            Asking::System(known) => known.servers.as_ref(),
        };
        let servers = servers.map_err(|error| Reply::Failed(error.clone()))?;
        let answer = servers.ask(&Query::query(name.clone(), record_type(kind))).await;
        answer.map_err(|error| match error {
            NetError::Timeout => self.silent(Duration::from_secs(QUERY_SECONDS_MAX)),
            error => failure(error),
        })
    }

    fn silent(&self, limit: Duration) -> Reply {
        let (limit, whom) = (limit.as_millis(), &self.whom);
        Reply::Failed(format!("no answer within {limit} ms from {whom}"))
    }
}

/// What the system says of names by itself (RFC 6761, the file of hosts); such names are not for the
/// DNS servers of the world.
fn system_knows(hosts: &Hosts, name: &Name, kind: RecordKind) -> Option<Reply> {
    let last = name.iter().next_back().unwrap_or_default().to_ascii_lowercase();
    let reply = match (&*last, kind) {
        (b"localhost", RecordKind::A) => Reply::Records(vec![loopback([127, 0, 0, 1])], 0),
        (b"localhost", RecordKind::Aaaa) => {
            Reply::Records(vec![loopback([0, 0, 0, 0, 0, 0, 0, 1u16])], 0)
        }
        (b"localhost" | b"invalid" | b"onion", _) => Reply::NoName(Some(0)),
        _ => {
            let query = Query::query(name.clone(), record_type(kind));
            let found = hosts.lookup_static_host(&query)?;
            Reply::Records(records(found.answers(), name, kind).0, 0)
        }
    };
    match reply {
        Reply::Records(data, _) if data.is_empty() => None,
        reply => Some(reply),
    }
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::Srv => RecordType::SRV,
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
    }
}

fn loopback(address: impl Into<IpAddr>) -> Datum {
    Datum::Address(address.into())
}

/// Where a name's CNAME leads, if it has one.
fn cname(answers: &[Record], name: &Name) -> Option<(Name, u32)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

/// A name's records of a type, and how long they hold.
fn records(answers: &[Record], name: &Name, kind: RecordKind) -> (Vec<Datum>, u32) {
    let mut ttl = u32::MAX;
    let mut data = Vec::new();
    for record in answers.iter().filter(|record| record.name == *name).take(RECORDS_MAX) {
        let datum = match (&record.data, kind) {
            (RData::SRV(srv), RecordKind::Srv) => Datum::Srv(SrvRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: host_text(&srv.target),
            }),
            (RData::A(address), RecordKind::A) => Datum::Address(IpAddr::V4(address.0)),
            (RData::AAAA(address), RecordKind::Aaaa) => Datum::Address(IpAddr::V6(address.0)),
            _ => continue,
        };
        ttl = ttl.min(record.ttl);
        data.push(datum);
    }
    (data, ttl)
}

/// A name as text, without the dot at its end: empty for the root.
fn host_text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

fn nothing(code: ResponseCode, ttl: Option<u32>) -> Reply {
    match code {
        ResponseCode::NXDomain => Reply::NoName(ttl),
        _ => Reply::NoRecord(ttl),
    }
}

/// What comes behind a CNAME holds no longer than the CNAME.
fn capped(reply: Reply, ttl: u32) -> Reply {
    match reply {
        Reply::NoName(holds) => Reply::NoName(holds.map(|holds| holds.min(ttl))),
        Reply::NoRecord(holds) => Reply::NoRecord(holds.map(|holds| holds.min(ttl))),
        reply => reply,
    }
}

fn failure(error: NetError) -> Reply {
    Reply::Failed(match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code, negative_ttl, ..
        })) => return nothing(response_code, negative_ttl),
        NetError::Dns(DnsError::ResponseCode(code)) => match code {
            ResponseCode::ServFail => "SERVFAIL".to_owned(),
            ResponseCode::Refused => "REFUSED".to_owned(),
            ResponseCode::FormErr => "FORMERR".to_owned(),
            ResponseCode::NotImp => "NOTIMP".to_owned(),
            code => code.to_string(),
        },
        NetError::Truncated => "the answer is cut off, over TCP too".to_owned(),
        NetError::NoConnections => "no DNS server could be asked".to_owned(),
        error => error.to_string(),
    })
}

fn answer(reply: &Reply) -> Answer {
    match reply {
        Reply::Records(data, ttl) => Answer::Records {
            records: data.iter().take(TOLD_MAX).map(told).collect(),
            more: data.len().saturating_sub(TOLD_MAX),
            ttl: *ttl,
        },
        Reply::NoName(ttl) => Answer::NoName { ttl: *ttl },
        Reply::NoRecord(ttl) => Answer::NoRecord { ttl: *ttl },
        Reply::Failed(error) => Answer::Failed { error: error.clone() },
    }
}

fn told(datum: &Datum) -> String {
    match datum {
        Datum::Srv(record) => record.to_string(),
        Datum::Address(address) => address.to_string(),
    }
}
