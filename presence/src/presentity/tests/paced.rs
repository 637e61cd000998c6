//! The pace at which a view is shown changing, which is its own; and what a watcher may say that it
//! holds of it.

use std::time::Duration;

use impp_acl::RuleSet;
use impp_protocol::presence::{FieldName, Patch};

use super::{SESSION, alice, at, bob, follow, policy};
use crate::bonds::{Bond, Keeper};
use crate::presentity::*;

const PHONE: DeviceId = DeviceId([1; 16]);

fn says(field: &str, value: &str) -> Change {
    let mut document = Document::default();
    document.person.insert(FieldName::parse(field).unwrap(), value.into());
    // So much that a patch is shorter.
    document.person.insert(FieldName::parse("place-is").unwrap(), "far away ".repeat(30).into());
    let patch = Patch::between(&Document::default(), &document);
    Change::Publish { device: PHONE, patch, replace: true, lease: Lease::Until(at(9000)) }
}

/// Alice, of whom bob may see these fields changing once in a minute.
fn paced(fields: &str) -> Presentity {
    let mut alice =
        alice(policy(&format!("handling = \"allow\"\nfields = [{fields}, \"status\"]\n")));
    alice.newest.pace_limit = PaceLimit { burst: 1, interval: Duration::from_secs(60) };
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    // As the answer says.
    alice.version_for(at(1), &bob());
    alice
}

fn wakes(alice: &mut Presentity, seconds: u64, change: Change) -> bool {
    let woken = alice.make(at(seconds), change).1.wake.contains(&SESSION.into());
    // As one who is told looks.
    alice.version_for(at(seconds), &bob());
    woken
}

#[test]
fn d6_h4_what_a_view_does_not_show_does_not_delay_what_it_does() {
    let mut alice = paced("\"note\"");
    for n in 0..20 {
        assert!(!wakes(&mut alice, 2, says("mood", &n.to_string())));
    }
    assert_eq!(alice.contents.next_owed(), None);
    assert!(wakes(&mut alice, 2, says("note", "seen")));
    assert!(!wakes(&mut alice, 3, says("note", "seen later")));
    let due = alice.contents.next_owed().unwrap();
    assert!(alice.expire(due).wake.contains(&SESSION.into()));
    // What is as it was when its time comes was never another.
    assert!(!wakes(&mut alice, 63, says("note", "for a moment")));
    assert!(!wakes(&mut alice, 64, says("note", "seen later")));
    let due = alice.contents.next_owed().unwrap();
    assert!(alice.expire(due).wake.is_empty() && alice.contents.next_owed().is_none());
    assert!(wakes(&mut alice, 123, says("note", "at once")));
}

#[test]
fn d6_h4_a_sphere_that_comes_and_goes_does_not_pass_the_pace_by() {
    let mut alice = paced("\"all\"");
    let spheres = ["work", "home"].into_iter().cycle().take(60);
    let woken = spheres.filter(|sphere| wakes(&mut alice, 2, says("sphere", sphere))).count();
    assert_eq!(woken, 1);
}

/// Alice, of whom bob sees the note, and all while she is at work; by a pace of a minute for all that
/// a sphere grants, and none else.
fn sphere_ruled() -> Presentity {
    let always = "handling = \"allow\"\nfields = [\"note\", \"place-is\"]\n";
    let work = "[[rule]]\nid = \"w\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\n\
                fields = [\"all\"]\nsphere = [\"work\"]\n";
    let mut alice = alice(policy(&(always.to_owned() + work)));
    alice.newest.pace_limit = PaceLimit { burst: 2, interval: Duration::from_secs(60) };
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    alice.version_for(at(1), &bob());
    alice
}

fn sees_all(alice: &Presentity) -> bool {
    alice.watcher(&bob()).unwrap().decision.grants() == &impp_acl::Grants::everything()
}

#[test]
fn d6_h4_what_a_sphere_grants_comes_at_a_pace_and_goes_at_once() {
    let mut alice = sphere_ruled();
    let mut seen = Vec::new();
    for n in 0..60 {
        let sphere = ["work", "home"][n % 2];
        let woken = wakes(&mut alice, 2, says("sphere", sphere));
        seen.push((woken, sees_all(&alice)));
        assert!(!sees_all(&alice) || sphere == "work", "what is taken away is gone");
    }
    // Two at once, each taken away again; then nothing, however often she comes and goes.
    let twice = [(true, true), (true, false), (true, true), (true, false)];
    assert_eq!(seen[..4], twice);
    assert_eq!(seen[4..], [(false, false); 56]);
}

#[test]
fn d6_h4_the_sphere_that_is_last_is_shown_when_the_pace_allows() {
    let mut alice = sphere_ruled();
    for sphere in ["work", "home", "work", "home", "work"] {
        alice.make(at(2), says("sphere", sphere));
    }
    assert!(!sees_all(&alice));
    let due = alice.next_deadline().unwrap();
    assert_eq!(due, at(62), "a minute behind what was granted last");
    alice.expire(at(61));
    assert!(!sees_all(&alice));
    assert!(alice.expire(due).wake.contains(&SESSION.into()));
    assert!(sees_all(&alice));
    // And not where it is another by then.
    alice.make(due, says("sphere", "home"));
    alice.make(due, says("sphere", "work"));
    alice.make(due, says("sphere", "home"));
    while let Some(next) = alice.next_deadline().filter(|next| *next < at(9000)) {
        alice.expire(next);
        assert!(!sees_all(&alice));
    }
}

#[test]
fn d6_spheres_that_a_watcher_is_not_ruled_by_delay_nothing_of_theirs() {
    let mut alice = sphere_ruled();
    for n in 0..60 {
        alice.make(at(2), says("sphere", ["gym", "home"][n % 2]));
    }
    assert!(wakes(&mut alice, 2, says("sphere", "work")) && sees_all(&alice));
}

/// A view that goes and comes back with the sphere has not rested meanwhile.
#[test]
fn h4_a_view_keeps_its_pace_while_nobody_has_it() {
    let mut alice = sphere_ruled();
    wakes(&mut alice, 2, says("sphere", "work"));
    let both = |n: u32| {
        let Change::Publish { device, lease, .. } = says("mood", "") else { panic!() };
        let mut document = Document::default();
        for (name, value) in [("sphere", "work".to_owned()), ("mood", n.to_string())] {
            document.person.insert(FieldName::parse(name).unwrap(), value.into());
        }
        let patch = Patch::between(&Document::default(), &document);
        Change::Publish { device, patch, replace: true, lease }
    };
    let mut told = 0;
    for n in 0..10 {
        told += u32::from(wakes(&mut alice, 2, both(n)));
    }
    assert!(told <= 2, "{told}");
    wakes(&mut alice, 2, says("sphere", "home"));
    wakes(&mut alice, 2, both(10));
    assert!(sees_all(&alice), "one is left of a burst of two");
    for n in 11..20 {
        assert!(!wakes(&mut alice, 2, both(n)), "{n}");
    }
}

#[test]
fn d6_who_comes_is_shown_what_is_so_now() {
    let mut alice = paced("\"note\"");
    alice.make(at(2), says("note", "one"));
    alice.make(at(3), says("note", "two"));
    assert!(alice.contents.next_owed().is_some(), "bob is told later");
    let again = alice.make(at(4), Change::End(bob(), SubscriptionEvent::Deactivated));
    assert_eq!(again.0, Answer::Ended(true));
    alice.make(at(5), follow(Bond::Session(SESSION), SESSION));
    let watcher = Watcher::Principal(bob());
    let Fetched::Shown(now, _) = alice.fetch(at(5), &watcher, None) else { panic!() };
    assert_eq!(alice.version_for(at(5), &bob()), Some(now));
}

#[test]
fn d6_what_was_shown_before_a_grant_is_not_confirmed() {
    let rule = |who: &str| {
        let text = format!(
            "[[rule]]\nid = \"a\"\nwho = [{who}]\nhandling = \"allow\"\nfields = [\"note\", \"place-is\"]\n"
        );
        Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
    };
    let carol: Address = "carol@b.example".parse().unwrap();
    let mut alice = alice(rule("\"carol@b.example\""));
    let (bond, listener) = (Bond::Session(SESSION), Some(SESSION.into()));
    let ask = |watcher| Change::Follow { watcher, bond, listener, pending_max: 9 };
    alice.make(at(1), ask(carol.clone()));
    let mut versions = Vec::new();
    for (seconds, note) in [(2, "before"), (3, "then")] {
        alice.make(at(seconds), says("note", note));
        versions.push(alice.version_for(at(seconds), &carol).unwrap());
    }
    let Policy { rules, text, .. } = rule("\"carol@b.example\", \"bob@b.example\"");
    alice.make(at(4), Change::PutRules { rules, text, base: 0 });
    alice.make(at(5), ask(bob()));
    alice.make(at(6), says("note", "now"));
    let told = |alice: &mut Presentity, who: &Address, held| match alice.pull(
        at(7),
        who,
        SESSION,
        held,
        Some(SubscriptionState::Active),
    ) {
        Pulled::Told(told) => told.content.unwrap().base(),
        other => panic!("{other:?}"),
    };
    // What bob can only have guessed is answered as anything else; what was so since, by what is new.
    assert_eq!(told(&mut alice, &bob(), Held::Claimed(versions[0])), None);
    assert_eq!(told(&mut alice, &bob(), Held::Claimed(versions[1])), Some(versions[1]));
}

/// Who comes and goes does not have the others of a view told sooner than is their pace.
#[test]
fn h4_who_comes_to_a_view_has_nobody_else_told_sooner() {
    const CAROL: SessionId = SessionId([7; 16]);
    let text =
        "[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    let mut alice = alice(Policy::new(RuleSet::parse(text).unwrap(), text, 0));
    alice.newest.pace_limit = PaceLimit { burst: 1, interval: Duration::from_secs(60) };
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    assert!(wakes(&mut alice, 2, says("note", "one")));
    let (carol, listener): (Address, _) = ("carol@b.example".parse().unwrap(), Some(CAROL.into()));
    for n in 0..20 {
        assert!(!wakes(&mut alice, 3, says("note", &n.to_string())));
        let bond = Bond::Session(CAROL);
        let come = Change::Follow { watcher: carol.clone(), bond, listener, pending_max: 9 };
        assert!(!wakes(&mut alice, 3, come), "bob is told in his time");
        let newest = alice.version_for(at(3), &carol);
        assert_eq!(newest, alice.version_for(at(3), &bob()), "carol sees what is so now");
        let keepers = vec![Keeper::Session(CAROL)];
        alice.make(at(3), Change::Release { watcher: carol.clone(), keepers, listener });
    }
    let due = alice.contents.next_owed().unwrap();
    assert!(alice.expire(due).wake.contains(&SESSION.into()));
    assert_eq!(alice.contents.next_owed(), None);
}
