//! G12: spans in rules go by the clock on the wall, leases by the time that has passed.

use impp_acl::Watcher;
use impp_protocol::state::SubscriptionState;

use super::*;
use crate::presentity::{Fetched, Staging};

const PHONE: DeviceId = DeviceId([7; 16]);

/// Bob sees all until second 100 of the wall, and may ask after that.
fn until_100() -> Policy {
    let text = format!(
        "[[rule]]\nid = \"b\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\nfields = [\"all\"]\n\
         valid = [\"{}/{}\"]\n\n[[rule]]\nid = \"ask\"\nwho = [\"bob@b.example\"]\n\
         handling = \"confirm\"\n",
        at(0).before(Duration::from_secs(1000)),
        at(100)
    );
    Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
}

fn stands(alice: &Presentity) -> SubscriptionState {
    alice.watcher(&bob()).unwrap().state
}

#[test]
fn g12_a_span_goes_by_the_wall_and_a_lease_does_not() {
    let mut alice = alice(until_100());
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    alice.make(at(1), says(PHONE, "here", 1000));
    assert_eq!((stands(&alice), alice.next_deadline()), (SubscriptionState::Active, Some(at(100))));
    // The wall clock falls back: the rule holds for longer.
    alice.wall_moved(at(2), -50_000);
    assert_eq!(alice.next_deadline(), Some(at(150)));
    alice.expire(at(149));
    assert_eq!(stands(&alice), SubscriptionState::Active);
    // It is set ahead of the span, and of the lease: the rule has ended, the lease has not.
    let effects = alice.wall_moved(at(149), 10_000_000);
    assert!(effects.wake.contains(&SESSION.into()));
    assert_eq!(stands(&alice), SubscriptionState::Pending);
    let fetched = alice.fetch(at(149), &Watcher::Principal(bob()), None);
    assert!(matches!(fetched, Fetched::Pending));
    assert_eq!(alice.next_deadline(), Some(at(1000)));
    let effects = alice.wall_moved(at(149), -100_000);
    assert!(effects.wake.contains(&SESSION.into()));
    assert_eq!(stands(&alice), SubscriptionState::Active);
}

/// What comes back when a staged change is not stored is judged by the clock as it is.
#[test]
fn g12_a_failed_change_brings_no_old_clock_back() {
    let mut alice = alice(until_100());
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    let Policy { rules, text, .. } = policy("handling = \"allow\"\nfields = [\"all\"]");
    let put = Change::PutRules { rules, text, base: 0 };
    let (Staging::Staged(id), _) = alice.stage(at(2), put) else { panic!("nothing to store") };
    alice.wall_moved(at(3), 10_000_000);
    alice.failed(at(4), id, false);
    assert_eq!(stands(&alice), SubscriptionState::Pending);
    let fetched = alice.fetch(at(4), &Watcher::Principal(bob()), None);
    assert!(matches!(fetched, Fetched::Pending));
}
