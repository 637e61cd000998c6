//! Alice, whose rules are about bob.

mod due;
mod mandated;
mod overtaken;
mod paced;
mod patches;
mod recovering;
mod seen;
mod slices;
mod staged;
mod views;
mod wall;
mod woken;

use std::time::Duration;

use impp_acl::RuleSet;
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::{Document, FieldName, Patch};
use impp_protocol::{Address, DeviceId, SessionId, Timestamp};

use super::{Change, Effects, Layers, Lease, PaceLimit, Presentity};
use crate::bonds::Bond;
use crate::ids::{LinkId, ListenerId};
use crate::policy::Policy;
use crate::watching::Watching;

const SESSION: SessionId = SessionId([3; 16]);
const LINK: LinkId = LinkId([4; 16]);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
}

fn bob() -> Address {
    Address::parse("bob@b.example").unwrap()
}

/// A rule by which bob may see something, as `more` has it.
fn policy(more: &str) -> Policy {
    let text = format!("[[rule]]\nid = \"b\"\nwho = [\"bob@b.example\"]\n{more}\n");
    Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
}

fn alice(policy: Policy) -> Presentity {
    recovering_alice(policy, HashMap::default(), None).0
}

/// Alice as she is read from the store after a crash, with these watchers.
fn recovering_alice(
    policy: Policy,
    watchers: HashMap<Address, Watching>,
    recovering: Option<Timestamp>,
) -> (Presentity, Effects) {
    let alice = Address::parse("alice@a.example").unwrap();
    let pace = PaceLimit { burst: 1000, interval: Duration::from_secs(1) };
    Presentity::restored(alice, policy, Layers::default(), watchers, at(1), pace, recovering)
}

fn follow(bond: Bond, listener: impl Into<ListenerId>) -> Change {
    let (watcher, listener) = (bob(), Some(listener.into()));
    Change::Follow { watcher, bond, listener, pending_max: 10 }
}

fn says(device: DeviceId, note: &str, until: u64) -> Change {
    let mut document = Document::default();
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    let patch = Patch::between(&Document::default(), &document);
    Change::Publish { device, patch, replace: true, lease: Lease::Until(at(until)) }
}
