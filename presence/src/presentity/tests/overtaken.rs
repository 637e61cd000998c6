//! What overtakes a change that is on its way to the disk, or waits for the pace: an end, or time.

use std::time::Duration;

use super::{SESSION, alice, at, bob, follow, policy, says};
use crate::bonds::Bond;
use crate::ids::DeviceId;
use crate::presentity::*;

const PHONE: DeviceId = [1; 16];
const LAPTOP: DeviceId = [2; 16];
const ALLOW: &str = "handling = \"allow\"\nfields = [\"all\"]";

#[test]
fn h4_what_waits_for_the_pace_is_not_lost_when_a_device_without_a_layer_goes() {
    for end in [Change::Part(LAPTOP), Change::Withdraw] {
        let mut alice = alice(policy(ALLOW));
        alice.pace_limit = PaceLimit { burst: 1, interval: Duration::from_secs(60) };
        alice.pace = pace::Pace::rested(at(1), alice.pace_limit);
        alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
        alice.make(at(2), says(PHONE, "here", 1000));
        let pull = |alice: &mut Presentity, held| alice.pull(at(4), &bob(), SESSION, held, None);
        let Pulled::Told(told) = pull(&mut alice, Held::Nothing) else { panic!() };
        let held = Held::Sent(told.content.unwrap().version());
        // It is taken back, which has to wait; then all ends, and there is no more to end.
        alice.make(at(3), Change::Unpublish(PHONE));
        assert!(alice.deferred.is_some());
        let (_, effects) = alice.make(at(4), end);
        let now = effects.wake.contains(&SESSION);
        assert!(now || alice.next_deadline().is_some(), "nobody ever hears of it");
        let Pulled::Told(told) = pull(&mut alice, held) else { panic!() };
        assert!(told.content.is_some());
    }
}
