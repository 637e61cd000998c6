//! HELLO: what each side speaks.

use std::time::Duration;

use crate::address::Domain;
use crate::schema::fields;
use crate::time::Timestamp;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u64 = 1;

/// The feature of a client that passes over items of a log whose kind it does not know: it is sent
/// all there are. A client without it is sent those of the first three kinds.
pub const EVERY_ITEM: &str = "every-item";

/// The feature of a client that takes pages of a log that it follows without what it knows:
/// [`ShortPage`](crate::state::ShortPage).
pub const SHORT_PAGES: &str = "short-pages";

/// The feature of a client whose requests' numbers belong to its session and rise, over all connections
/// of it; and of a server that answers a repeat of one by what it has answered before.
pub const REPEATS: &str = "repeats";

/// The last so many answers of a session at least are kept for repeats: who has no more requests out at once
/// is never told that one is forgotten.
pub const REPEATS_MAX: usize = 32;

/// The feature of a server that knows what a FETCH of explain may suppose, and shows a document as
/// somebody sees it: those fields are sent to no other one.
pub const SUPPOSE: &str = "suppose";

/// The feature of a server that knows decisions which make somebody a member of a group: that field is
/// sent to no other one.
pub const INTO_GROUP: &str = "into-group";
/// The feature of a server that reads a log from its end, backwards, without bodies, or one item of it:
/// those fields of SUBSCRIBE and FETCH are sent to no other one.
pub const SERIES: &str = "series";
/// The feature of a server that takes marks over a link: what its users' messages have come to with their
/// recipients, where these let that be told. No other one is sent any.
pub const MARKS: &str = "marks";

/// The features that a server names to clients.
pub const FEATURES_OF_SERVER: [&str; 4] = [SUPPOSE, INTO_GROUP, SERIES, REPEATS];

fields! {
    /// HELLO: the first frame of each side, with request number 0.
    pub struct Hello {
        /// The protocol version: 1.
        1 version: u64,
        /// Names of optional features; unknown ones are ignored. Links: the services that the
        /// sender serves for its domain, `pres` and `im`.
        2 features: Vec<String>,
        /// The software, for people; never to be acted on.
        3 agent: Option<String>,
        /// Server: its time, milliseconds since 1970, from which message ids are made.
        4 time: Option<Timestamp>,
        /// Server: the one domain that was called (SNI). Links: the one domain that the sender speaks for.
        5 domains: Vec<Domain>,
        /// Server: SASL mechanisms offered on this connection, best first.
        6 mechanisms: Vec<String>,
        /// Server: longest body of a frame that it takes after sign-in, in bytes.
        7 frame_max: Option<u64>,
        /// Server: longest body of a message, in bytes.
        8 body_max: Option<u64>,
        /// Server: a PING is due after so many seconds of silence.
        9 idle: Option<Duration>,
        /// Server: most unanswered requests on a connection.
        10 requests_max: Option<u64>,
        /// Links: the id of the server's store.
        11 instance: Option<[u8; 16]>,
        /// Links: the id of this run of the server.
        12 boot: Option<[u8; 16]>,
        /// Server: frames a second that one connection may send, on average.
        13 requests_per_second: Option<u64>,
        /// Server: frames that it may send at once after a rest.
        14 requests_burst: Option<u64>,
        /// Server: work a second that one account may ask for, on average, over all its connections.
        15 work_per_second: Option<u64>,
        /// Server: work that it may ask for at once after a rest.
        16 work_burst: Option<u64>,
        /// Server: octets a second that one account may have stored, on average.
        17 stored_per_second: Option<u64>,
        /// Server: octets that it may have stored at once after a rest.
        18 stored_burst: Option<u64>,
        /// Server: the shortest lease that is granted.
        19 lease_min: Option<Duration>,
        /// Server: the longest lease that is granted.
        20 lease_max: Option<Duration>,
        /// Server: presentities that one account may follow by leases, on all its devices.
        21 leases_max: Option<u64>,
    }
}

impl Hello {
    /// A HELLO that says the version and nothing else.
    pub fn empty() -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            features: Vec::new(),
            agent: None,
            time: None,
            domains: Vec::new(),
            mechanisms: Vec::new(),
            frame_max: None,
            body_max: None,
            idle: None,
            requests_max: None,
            instance: None,
            boot: None,
            requests_per_second: None,
            requests_burst: None,
            work_per_second: None,
            work_burst: None,
            stored_per_second: None,
            stored_burst: None,
            lease_min: None,
            lease_max: None,
            leases_max: None,
        }
    }
}
