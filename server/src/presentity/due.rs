//! D11 by time: a decision that has run out is looked at when bytes leave, not when a timer has come
//! to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use impp_acl::RuleSet;
use impp_protocol::presence::{Document, FieldName, Patch};
use impp_protocol::{Address, Timestamp};

use super::*;
use crate::policy::Policy;

pub(super) const SESSION: SessionId = SessionId([3; 16]);

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
}

pub(super) fn bob() -> Address {
    Address::parse("bob@b.example").unwrap()
}

/// Alice, whom bob may see for ten seconds, and who follows over a session or a link.
pub(super) fn world(bond: Bond) -> (Presentity, Policy) {
    let (from, until) = (at(0), at(10));
    let text = format!(
        "[[rule]]\nid = \"b\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\n\
         fields = [\"all\"]\nvalid = [\"{from}/{until}\"]\n"
    );
    let rules = RuleSet::parse(&text).unwrap();
    let policy = Policy { rules, text, number: 0, contacts: BTreeMap::new() };
    let alice = Address::parse("alice@a.example").unwrap();
    let pace = PaceLimit { burst: 1000, interval: Duration::from_secs(1) };
    let mut alice = Presentity::new(alice, Layers::default(), HashMap::new(), at(1), pace, None);
    let (asked, _) = alice.subscribe(at(1), &bob(), bond, Some(SESSION), 10, &policy);
    assert!(matches!(asked, Asked::Stands(SubscriptionState::Active)));
    (alice, policy)
}

fn say(alice: &mut Presentity, policy: &Policy, seconds: u64, note: &str) {
    let mut document = Document::default();
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    let patch = Patch::between(&Document::default(), &document);
    alice.publish(at(seconds), [1; 16], &patch, true, Lease::Until(at(1000)), policy).unwrap();
}

#[test]
fn d11_a_decision_that_has_run_out_shows_nothing_to_a_session() {
    let (mut alice, policy) = world(Bond::Session(SESSION));
    say(&mut alice, &policy, 2, "while allowed");
    let pull = |alice: &mut Presentity, seconds| {
        alice.pull(at(seconds), &bob(), SESSION, Held::Nothing, Some(SubscriptionState::Active))
    };
    assert!(matches!(pull(&mut alice, 9), Pulled::Told(_)));
    say(&mut alice, &policy, 9, "said in time, looked at late");
    assert!(matches!(pull(&mut alice, 10), Pulled::Due));
    alice.expire(at(10), &policy);
    let Pulled::Told(told) = pull(&mut alice, 10) else { panic!("nothing of the end is told") };
    assert!(told.content.is_none() && told.state != SubscriptionState::Active, "{told:?}");
}

#[test]
fn d11_a_decision_that_has_run_out_shows_nothing_over_a_link() {
    let (mut alice, policy) = world(Bond::Lease(THEIR_SERVER, at(5000)));
    say(&mut alice, &policy, 2, "while allowed");
    let mut groups = Groups::default();
    let joined = alice.join_groups(at(3), SESSION, &mut groups, &bob(), None);
    assert!(matches!(joined, Joined::Stands { state: SubscriptionState::Active, .. }));
    let pull = |alice: &mut Presentity, groups: &mut Groups, seconds| {
        alice.pull_groups(at(seconds), SESSION, groups, 1 << 20)
    };
    assert!(matches!(pull(&mut alice, &mut groups, 9), PulledGroups::Told(_)));
    say(&mut alice, &policy, 9, "said in time, looked at late");
    assert!(matches!(pull(&mut alice, &mut groups, 10), PulledGroups::Due));
    let late = alice.join_groups(at(10), SESSION, &mut groups, &bob(), None);
    assert!(matches!(late, Joined::Due));
}
