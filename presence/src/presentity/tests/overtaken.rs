//! What overtakes a change that is on its way to the disk, or waits for the pace: an end, or time.

use std::time::Duration;

use impp_acl::RuleSet;
use impp_protocol::{DeviceId, SessionId};

use super::{LINK, SESSION, alice, at, bob, follow, policy, says};
use crate::bonds::{Bond, Keeper};
use crate::presentity::*;

const PHONE: DeviceId = DeviceId([1; 16]);
const LAPTOP: DeviceId = DeviceId([2; 16]);
const ALLOW: &str = "handling = \"allow\"\nfields = [\"all\"]";

fn staged(alice: &mut Presentity, now: Timestamp, change: Change) -> u64 {
    match alice.stage(now, change) {
        (Staging::Staged(id), _) => id,
        (shown, _) => panic!("{shown:?}"),
    }
}

fn says_nothing(alice: &Presentity) -> bool {
    alice.shown_document().person.is_empty()
}

#[test]
fn h4_what_waits_for_the_pace_is_not_lost_when_a_device_without_a_layer_goes() {
    for end in [Change::Part(LAPTOP), Change::Withdraw] {
        let mut alice = alice(policy(ALLOW));
        alice.newest.pace_limit = PaceLimit { burst: 1, interval: Duration::from_secs(60) };
        alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
        alice.make(at(2), says(PHONE, "here", 1000));
        let pull = |alice: &mut Presentity, held| alice.pull(at(4), &bob(), SESSION, held, None);
        let Pulled::Told(told) = pull(&mut alice, Held::Nothing) else { panic!() };
        let held = Held::Sent(told.content.unwrap().version());
        // It is taken back, which has to wait; then all ends, and there is no more to end.
        alice.make(at(3), Change::Unpublish(PHONE));
        assert!(alice.contents.next_owed().is_some());
        let (_, effects) = alice.make(at(4), end);
        let now = effects.wake.contains(&SESSION.into());
        assert!(now || alice.next_deadline().is_some(), "nobody ever hears of it");
        let Pulled::Told(told) = pull(&mut alice, held) else { panic!() };
        assert!(told.content.is_some());
    }
}

#[test]
fn g8_what_has_ended_does_not_come_back_with_what_was_staged_before() {
    let bound = |lease| match says(PHONE, "bound", 0) {
        Change::Publish { device, patch, replace, .. } => {
            Change::Publish { device, patch, replace, lease }
        }
        other => other,
    };
    let leased = says(PHONE, "leased", 1000);
    let session = bound(Lease::Bound(SESSION));
    for (publish, end) in [
        (&leased, Change::Part(PHONE)),
        (&leased, Change::Withdraw),
        (&leased, Change::Close(SubscriptionEvent::Noresource)),
        (&session, Change::Part(PHONE)),
        (&session, Change::EndSession(SESSION)),
    ] {
        let mut alice = alice(policy(ALLOW));
        alice.make(at(1), says(PHONE, "before", 1000));
        let id = staged(&mut alice, at(2), publish.clone());
        let (staging, _) = alice.stage(at(3), end.clone());
        assert!(matches!(staging, Staging::Shown(_)), "{end:?}");
        alice.committed(at(4), id, None);
        assert!(says_nothing(&alice), "{end:?}: {:?}", alice.layers());
    }
}

#[test]
fn g8_a_lost_connection_counts_for_what_was_staged_before() {
    let mut alice = alice(policy(ALLOW));
    alice.make(at(1), says(PHONE, "before", 1000));
    let Change::Publish { device, patch, replace, .. } = says(PHONE, "bound", 0) else { panic!() };
    let lease = Lease::Bound(SESSION);
    let id = staged(&mut alice, at(2), Change::Publish { device, patch, replace, lease });
    alice.stage(at(3), Change::Rebind(SESSION, Some(at(9))));
    alice.committed(at(4), id, None);
    alice.expire(at(9));
    assert!(says_nothing(&alice));
}

#[test]
fn a_lease_that_runs_out_on_its_way_to_the_disk_is_no_deadline_before_it_is_shown() {
    let mut alice = alice(policy(ALLOW));
    let layer = staged(&mut alice, at(2), says(PHONE, "short", 10));
    let watcher = staged(&mut alice, at(2), follow(Bond::Lease(PHONE, at(10)), SESSION));
    alice.expire(at(20));
    assert_eq!(alice.next_deadline().filter(|due| *due <= at(20)), None, "it is due for ever");
    for id in [layer, watcher] {
        alice.committed(at(21), id, None);
    }
    assert!(alice.next_deadline().is_some_and(|due| due <= at(21)));
    alice.expire(at(21));
    assert!(says_nothing(&alice) && alice.next_deadline().is_none());
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Terminated);
}

#[test]
fn who_was_held_up_by_another_watcher_that_leaves_looks_again() {
    let text = "[[rule]]\nid = \"b\"\nwho = [\"domain:b.example\"]\nhandling = \"allow\"\n\
                fields = [\"all\"]\n";
    let mut alice = alice(Policy::new(RuleSet::parse(text).unwrap(), text, 0));
    let carol = Address::parse("carol@b.example").unwrap();
    for watcher in [bob(), carol.clone()] {
        let (bond, listener) = (Bond::Server(at(1000)), Some(LINK.into()));
        alice.make(at(1), Change::Follow { watcher, bond, listener, pending_max: 10 });
    }
    let mut groups = Groups::default();
    for watcher in [bob(), carol] {
        alice.join_groups(at(1), LINK, &mut groups, &watcher, None);
    }
    alice.pull_groups(at(1), LINK, &mut groups, 1 << 20);
    let (keepers, listener) = (vec![Keeper::Server], Some(LINK.into()));
    let leaves = staged(&mut alice, at(2), Change::Release { watcher: bob(), keepers, listener });
    // The link hears that alice says something, and says nothing, as bob may be in the group.
    let Change::Publish { device, patch, replace, .. } = says(PHONE, "here", 0) else { panic!() };
    let lease = Lease::Bound(SessionId([9; 16]));
    let (_, effects) = alice.stage(at(2), Change::Publish { device, patch, replace, lease });
    assert!(effects.wake.contains(&LINK.into()));
    let pulled = alice.pull_groups(at(2), LINK, &mut groups, 1 << 20);
    assert!(matches!(pulled, PulledGroups::Told(told) if told.is_empty()));
    let effects = alice.committed(at(3), leaves, None);
    assert!(effects.wake.contains(&LINK.into()), "carol is told by it");
}

#[test]
fn who_is_not_held_back_any_more_looks_again() {
    let rules = |home: &str| {
        let text = format!(
            "[[rule]]\nid = \"h\"\nwho = [\"bob@b.example\"]\nsphere = [\"home\"]\n{home}\n\
             [[rule]]\nid = \"b\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\n\
             fields = [\"note\"]\n"
        );
        Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
    };
    let mut alice = alice(rules("handling = \"allow\"\nfields = [\"note\"]"));
    let bound = |device, note, sphere: Option<&str>| {
        let mut document = Document::default();
        let name = |text: &str| impp_protocol::presence::FieldName::parse(text).unwrap();
        document.person.insert(name("note"), note);
        document.person.extend(sphere.map(|sphere| (name("sphere"), sphere.into())));
        let patch = impp_protocol::presence::Patch::between(&Document::default(), &document);
        let lease = Lease::Bound(SessionId([9; 16]));
        Change::Publish { device, patch, replace: true, lease }
    };
    alice.make(at(1), bound(PHONE, "one".into(), Some("home")));
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    let pull =
        |alice: &mut Presentity, held, state| alice.pull(at(5), &bob(), SESSION, held, state);
    let Pulled::Told(told) = pull(&mut alice, Held::Nothing, None) else { panic!() };
    let (held, state) = (Held::Sent(told.content.unwrap().version()), Some(told.state));
    // At home bob is to see something else; until that is stored he is held back.
    let Policy { rules, text, .. } = rules("handling = \"allow\"\nfields = [\"all\"]");
    let put = staged(&mut alice, at(2), Change::PutRules { rules, text, base: 0 });
    let (_, effects) = alice.stage(at(3), bound(PHONE, "two".into(), Some("home")));
    assert!(effects.wake.contains(&SESSION.into()));
    assert!(matches!(pull(&mut alice, held, state), Pulled::Nothing));
    // She is not at home any more: these rules take nothing from him now.
    let (_, gone) = alice.stage(at(4), bound(PHONE, "two".into(), Some("work")));
    assert!(!alice.is_held_back(at(5), &bob()));
    let stored = alice.committed(at(5), put, Some(1));
    assert!(
        gone.wake.contains(&SESSION.into()) || stored.wake.contains(&SESSION.into()),
        "he stays on \"one\""
    );
    assert!(matches!(pull(&mut alice, held, state), Pulled::Told(_)));
    let sees = Watcher::Principal(bob());
    assert!(matches!(alice.fetch(at(5), &sees, None), Fetched::Shown(..)));
    assert_eq!(alice.watcher(&bob()).unwrap().event, SubscriptionEvent::Subscribe);
}

/// Whoever waits elsewhere was never told that there is an owner, and is told nothing else by the end of it;
/// who was let in, or could know, is told that alice is gone.
#[test]
fn d6_who_waits_elsewhere_is_given_up_by_a_removal() {
    let carol: Address = "carol@a.example".parse().unwrap();
    for (handling, told) in [
        ("handling = \"confirm\"", SubscriptionEvent::Giveup),
        (ALLOW, SubscriptionEvent::Noresource),
    ] {
        let text = format!(
            "[[rule]]\nid = \"b\"\nwho = [\"bob@b.example\", \"carol@a.example\"]\n{handling}\n"
        );
        let mut alice = alice(Policy::new(RuleSet::parse(&text).unwrap(), text, 0));
        alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
        let (bond, listener) = (Bond::Session(SESSION), Some(SESSION.into()));
        let watcher = carol.clone();
        alice.make(at(1), Change::Follow { watcher, bond, listener, pending_max: 10 });
        alice.make(at(2), Change::Close(SubscriptionEvent::Noresource));
        for (who, event) in [(bob(), told), (carol.clone(), SubscriptionEvent::Noresource)] {
            let held = Some(SubscriptionState::Pending);
            let Pulled::Told(told) = alice.pull(at(3), &who, SESSION, Held::Nothing, held) else {
                panic!("{who} is told nothing")
            };
            assert_eq!(told.state, SubscriptionState::Terminated);
            assert_eq!(told.event, Some(event), "{who}");
        }
    }
}
