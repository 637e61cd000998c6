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

const CAROL: SessionId = SessionId([7; 16]);

/// Alice, who shows bob and carol all, and whom carol follows all the while or does not.
fn open_alice(carol_follows: bool) -> Presentity {
    let text =
        "[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    let mut alice = alice(Policy::new(RuleSet::parse(text).unwrap(), text, 0));
    alice.make(at(1), says("note", "first"));
    if carol_follows {
        let (watcher, listener) = ("carol@b.example".parse().unwrap(), Some(CAROL.into()));
        let bond = Bond::Session(CAROL);
        alice.make(at(2), Change::Follow { watcher, bond, listener, pending_max: 9 });
    }
    alice
}

/// As carol, if she follows, looks after each change.
fn change(alice: &mut Presentity, seconds: u64, note: &str) {
    alice.make(at(seconds), says("note", note));
    alice.version_for(at(seconds), &"carol@b.example".parse().unwrap());
}

/// What bob is told who comes at that time, and says that he holds this.
fn returns(alice: &mut Presentity, seconds: u64, held: Version) -> Disclosed {
    alice.make(at(seconds), follow(Bond::Session(SESSION), SESSION));
    match alice.pull(at(seconds), &bob(), SESSION, Held::Claimed(held), None) {
        Pulled::Told(told) => told.content.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn leaves(alice: &mut Presentity, seconds: u64) {
    let (keepers, listener) = (vec![Keeper::Session(SESSION)], Some(SESSION.into()));
    alice.make(at(seconds), Change::Release { watcher: bob(), keepers, listener });
}

/// What a watcher is told who says what it holds does not tell it whether another one has its view.
#[test]
fn r5_1_2_d6_what_a_claim_is_answered_hangs_on_nobody_else() {
    let worlds = [false, true].map(|carol_follows| {
        let mut told = Vec::new();
        // Looked at once, changed, followed.
        let mut alice = open_alice(carol_follows);
        let watcher = Watcher::Principal(bob());
        let Fetched::Shown(seen, _) = alice.fetch(at(3), &watcher, None) else { panic!() };
        change(&mut alice, 4, "second");
        told.push(returns(&mut alice, 5, seen));
        // Followed, left, changed as often as one likes, followed again.
        for changes in 1..7 {
            let mut alice = open_alice(carol_follows);
            alice.make(at(3), follow(Bond::Session(SESSION), SESSION));
            let seen = alice.version_for(at(3), &bob()).unwrap();
            leaves(&mut alice, 4);
            for n in 0..changes {
                change(&mut alice, 5 + n, &format!("change {n}"));
            }
            let answer = returns(&mut alice, 20, seen);
            assert_eq!(answer.base(), Some(seen), "what is missing, after {changes}");
            told.push(answer);
        }
        // And one who follows and has lost what he was told.
        let mut alice = open_alice(carol_follows);
        alice.make(at(3), follow(Bond::Session(SESSION), SESSION));
        let seen = alice.version_for(at(3), &bob()).unwrap();
        for n in 0..6 {
            change(&mut alice, 5 + n, &format!("change {n}"));
            told.push(returns(&mut alice, 5 + n, seen));
        }
        told
    });
    for (index, (alone, with)) in worlds[0].iter().zip(&worlds[1]).enumerate() {
        assert_eq!(alone, with, "answer {index}: alone left, with carol right");
    }
}

/// All who have no name are one watcher: what one of them is told who says what it holds does not tell it
/// whether there is another.
#[test]
fn r5_1_2_what_is_claimed_without_a_name_tells_of_no_other() {
    let text =
        "[[rule]]\nid = \"a\"\nwho = [\"anonymous\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    let told = [false, true].map(|other_follows| {
        let mut alice = alice(Policy::new(RuleSet::parse(text).unwrap(), text, 0));
        alice.make(at(1), says("note", "first"));
        let nameless = |session: SessionId| {
            let (watcher, bond) = (Address::anonymous().clone(), Bond::Session(session));
            Change::Follow { watcher, bond, listener: Some(session.into()), pending_max: 9 }
        };
        if other_follows {
            alice.make(at(2), nameless(CAROL));
            alice.version_for(at(2), Address::anonymous());
        }
        let Fetched::Shown(seen, _) = alice.fetch(at(3), &Watcher::Anonymous, None) else {
            panic!()
        };
        alice.make(at(4), says("note", "second"));
        alice.make(at(5), nameless(SESSION));
        let held = Held::Claimed(seen);
        match alice.pull(at(5), Address::anonymous(), SESSION, held, None) {
            Pulled::Told(told) => told.content.unwrap(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(told[0], told[1], "alone left, with another right");
}
