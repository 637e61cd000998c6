//! One answer of the DNS server for plays: from the question's bytes to the answer's.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Fault, TTL_SECONDS, Zone};

/// What fits into an answer over UDP.
const UDP_BYTES_MAX: usize = 1232;

/// The answer; nothing where the server is silent.
pub(super) fn answer(question: &[u8], zone: &mut Zone, udp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    let query = asked.queries.first()?.clone();
    let key = (query.name().to_lowercase(), query.query_type());
    *zone.asked.entry(key.clone()).or_default() += 1;
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.add_query(query.clone());
    match zone.faults.get(&key) {
        None => fill(&mut message, zone, &key),
        Some(Fault::Silence) => return None,
        Some(Fault::ServFail) => message.metadata.response_code = ResponseCode::ServFail,
        Some(Fault::NxDomain) => nothing(&mut message, zone, &query, ResponseCode::NXDomain),
        Some(Fault::Empty) => {}
        Some(Fault::CnameLoop) => {
            let other = Name::from_ascii("loop").ok()?.append_domain(&key.0).ok()?;
            for (from, to) in [(&key.0, &other), (&other, &key.0)] {
                let data = RData::CNAME(CNAME(to.clone()));
                message.add_answer(record(zone, from, data));
            }
        }
        Some(Fault::Truncated) => message.metadata.truncation = true,
        Some(Fault::WrongId) => {
            fill(&mut message, zone, &key);
            message.metadata.id = message.metadata.id.wrapping_add(1);
        }
        Some(Fault::Counts) => {
            let mut bytes = message.to_vec().ok()?;
            bytes[6..12].fill(0xff);
            return Some(bytes);
        }
    }
    let bytes = message.to_vec().ok()?;
    if !udp || bytes.len() <= UDP_BYTES_MAX {
        return Some(bytes);
    }
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().ok()
}

fn fill(message: &mut Message, zone: &Zone, (name, kind): &(Name, RecordType)) {
    let mut at = name.clone();
    for (from, to) in zone.chain(name) {
        message.add_answer(record(zone, &from, RData::CNAME(CNAME(to.clone()))));
        at = to;
    }
    let found = zone.records.get(&(at.clone(), *kind));
    for data in found.into_iter().flatten() {
        message.add_answer(record(zone, &at, data.clone()));
    }
    if found.is_none() {
        let code = if zone.knows(&at) { ResponseCode::NoError } else { ResponseCode::NXDomain };
        nothing(message, zone, &Query::query(at, *kind), code);
    }
}

fn nothing(message: &mut Message, zone: &Zone, query: &Query, code: ResponseCode) {
    message.metadata.response_code = code;
    let origin = query.name().trim_to(2);
    let ttl = zone.ttl.unwrap_or(TTL_SECONDS);
    let soa = SOA::new(origin.clone(), origin.clone(), 1, 3600, 600, 86_400, ttl);
    message.add_authority(record(zone, &origin, RData::SOA(soa)));
}

fn record(zone: &Zone, name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), zone.ttl.unwrap_or(TTL_SECONDS), data)
}
