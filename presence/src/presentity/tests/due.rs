//! D11 by time: a decision that has run out is looked at when bytes leave, not when a timer has come
//! to it.

use impp_protocol::DeviceId;
use impp_protocol::state::SubscriptionState;

use super::{LINK, SESSION, alice, at, bob, follow, policy, says};
use crate::bonds::Bond;
use crate::presentity::*;

/// Alice, whom bob may see for ten seconds, and who follows over a session or a link.
fn world(bond: Bond, listener: impl Into<ListenerId>) -> Presentity {
    let allowed =
        format!("handling = \"allow\"\nfields = [\"all\"]\nvalid = [\"{}/{}\"]", at(0), at(10));
    let mut alice = alice(policy(&allowed));
    let (answer, _) = alice.make(at(1), follow(bond, listener));
    assert_eq!(answer, Answer::Asked(Asked::Stands(SubscriptionState::Active)));
    alice
}

fn say(alice: &mut Presentity, seconds: u64, note: &str) {
    assert_eq!(alice.make(at(seconds), says(DeviceId([1; 16]), note, 1000)).0, Answer::Done);
}

#[test]
fn d11_a_decision_that_has_run_out_shows_nothing_to_a_session() {
    let mut alice = world(Bond::Session(SESSION), SESSION);
    say(&mut alice, 2, "while allowed");
    let pull = |alice: &mut Presentity, seconds| {
        alice.pull(at(seconds), &bob(), SESSION, Held::Nothing, Some(SubscriptionState::Active))
    };
    assert!(matches!(pull(&mut alice, 9), Pulled::Told(_)));
    say(&mut alice, 9, "said in time, looked at late");
    assert!(matches!(pull(&mut alice, 10), Pulled::Due));
    alice.expire(at(10));
    let Pulled::Told(told) = pull(&mut alice, 10) else { panic!("nothing of the end is told") };
    assert!(told.content.is_none() && told.state != SubscriptionState::Active, "{told:?}");
}

#[test]
fn d11_a_decision_that_has_run_out_shows_nothing_over_a_link() {
    let mut alice = world(Bond::Server(at(5000)), LINK);
    say(&mut alice, 2, "while allowed");
    let mut groups = Groups::default();
    let joined = alice.join_groups(at(3), LINK, &mut groups, &bob(), None);
    assert!(matches!(joined, Joined::Stands { state: SubscriptionState::Active, .. }));
    let pull = |alice: &mut Presentity, groups: &mut Groups, seconds| {
        alice.pull_groups(at(seconds), LINK, groups, 1 << 20)
    };
    assert!(matches!(pull(&mut alice, &mut groups, 9), PulledGroups::Told(_)));
    say(&mut alice, 9, "said in time, looked at late");
    assert!(matches!(pull(&mut alice, &mut groups, 10), PulledGroups::Due));
    let late = alice.join_groups(at(10), LINK, &mut groups, &bob(), None);
    assert!(matches!(late, Joined::Due));
}
