//! Finding and reaching the server of a domain: static routes, SRV and address records, the order
//! in which they count, which addresses are refused, and a race of connections.
//!
//! What a connection is good for (TLS, HELLO), waiting and trying again later, and which domains
//! are hosted here are left to the caller.

mod addresses;
mod cache;
mod connect;
mod dns;
mod locator;
mod order;
mod outcome;
mod places;
mod plan;
mod search;
mod servers;
mod service;
mod srv;
mod step;
mod system;
mod target;

pub use addresses::{BadNetwork, Network, Policy, Refused};
pub use connect::{MayConnect, STAGGER};
pub use dns::{QUERY_SECONDS_MAX, RECORDS_MAX};
pub use impp_protocol::Service;
pub use locator::{Locator, Settings};
pub use order::{BadOrder, Order};
pub use outcome::{AttemptError, NotReached, NotReachedKind, Reached, Via};
pub use places::CONNECTS_MAX;
pub use plan::{Candidate, Plan};
pub use service::owner_name;
pub use srv::{Choice, SrvRecord, TARGETS_MAX, choose};
pub use step::{Answer, RecordKind, Step};
pub use target::{BadTarget, Host, Target};
