//! The HELLO of a server as it is by default, for those who show one. Which domain, which features, and
//! when, they say.

use std::time::Duration;

use impp_protocol::command::Hello;

/// See the module.
pub(crate) fn of_server() -> Hello {
    Hello {
        agent: Some("imppd/0.1.0".to_owned()),
        mechanisms: vec!["SCRAM-SHA-256-PLUS".to_owned(), "SCRAM-SHA-256".to_owned()],
        frame_max: Some(65_536),
        body_max: Some(61_440),
        idle: Some(Duration::from_secs(60)),
        requests_max: Some(64),
        requests_per_second: Some(200),
        requests_burst: Some(1000),
        work_per_second: Some(400),
        work_burst: Some(4000),
        stored_per_second: Some(256 * 1024),
        stored_burst: Some(32 * 1024 * 1024),
        lease_min: Some(Duration::from_secs(60)),
        lease_max: Some(Duration::from_secs(86_400)),
        leases_max: Some(4000),
        ..Hello::empty()
    }
}
