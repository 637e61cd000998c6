//! What a calendar says of alice: as far as her rules let it, and as long.

use std::sync::Arc;

use impp_protocol::presence::FieldName;

use super::*;
use crate::presentity::{Answer, Saying, Staging, delegated};

const CAL: DeviceId = DeviceId([7; 16]);

fn cal() -> Address {
    Address::parse("cal@a.example").unwrap()
}

/// Rules by which the calendar may publish these fields until then, in seconds.
fn lets(fields: &[&str], until: u64) -> Policy {
    let rights: Vec<String> = fields.iter().map(|field| format!("\"publish:{field}\"")).collect();
    let (rights, until) = (rights.join(", "), at(until));
    let entry = "[[delegate]]\nid = \"c\"\nwho = [\"cal@a.example\"]\n";
    let rest = format!("rights = [{rights}]\nuntil = \"{until}\"\n");
    policy(&format!("handling = \"allow\"\nfields = [\"all\"]\n{entry}{rest}"))
}

fn put(policy: &Policy, base: u64) -> Change {
    let (rules, text) = (policy.rules.clone(), Arc::clone(&policy.text));
    Change::PutRules { rules, text, base }
}

fn says_for(fields: &[&str], lease: u64) -> Change {
    let mut document = Document::default();
    let fields = fields.iter().map(|name| (FieldName::parse(name).unwrap(), "busy".into()));
    document.person.extend(fields);
    let patch = Patch::between(&Document::default(), &document);
    let (delegate, until) = (cal(), at(lease));
    Change::ByDelegate(delegate, Saying::Says { device: CAL, patch, replace: true, until })
}

fn has(alice: &Presentity) -> bool {
    alice.layers().of(delegated(&cal(), CAL)).is_some()
}

#[test]
fn r2_3_4_what_a_delegate_says_ends_with_its_right_however_long_the_lease() {
    let mut alice = alice(lets(&["activities"], 100));
    let said = alice.make(at(2), says_for(&["activities"], 1000)).0;
    assert_eq!((said, has(&alice)), (Answer::Done, true));
    assert_eq!(alice.next_deadline(), Some(at(100)));
    alice.expire(at(99));
    assert!(has(&alice));
    let effects = alice.expire(at(100));
    assert!(!has(&alice) && !effects.writes.is_empty());
    assert_eq!(alice.make(at(101), says_for(&["activities"], 1000)).0, Answer::Beyond);
    assert_eq!(alice.next_deadline(), None);
}

#[test]
fn r2_3_4_rules_that_let_it_say_less_end_what_it_says() {
    for (less, stays) in [(&["activities", "mood"][..], true), (&["mood"], false), (&[], false)] {
        let mut alice = alice(lets(&["activities"], 100));
        alice.make(at(2), says_for(&["activities"], 1000));
        alice.make(at(3), put(&lets(less, 200), 0));
        assert_eq!(has(&alice), stays, "{less:?}");
    }
}

#[test]
fn r2_3_4_what_it_may_not_say_changes_nothing_nor_does_what_comes_behind_a_revocation() {
    let mut alice = alice(lets(&["activities"], 100));
    assert_eq!(alice.make(at(2), says_for(&["activities", "note"], 9)).0, Answer::Beyond);
    assert!(!has(&alice));
    let Staging::Staged(revoked) = alice.stage(at(3), put(&lets(&[], 100), 0)).0 else { panic!() };
    // It counts from now on, whether it is stored yet or not.
    let Staging::Staged(said) = alice.stage(at(4), says_for(&["activities"], 1000)).0 else {
        panic!()
    };
    let mut answers = alice.committed(at(5), revoked, Some(1)).answers;
    // Behind rules it has its turn when it is decided by them.
    answers.extend(alice.expire(at(5)).answers);
    assert!(answers.contains(&(said, Answer::Beyond)) && !has(&alice), "{answers:?}");
}

#[test]
fn r2_3_4_a_revocation_that_is_not_stored_has_taken_nothing() {
    let mut alice = alice(lets(&["activities"], 100));
    alice.make(at(2), says_for(&["activities"], 1000));
    let Staging::Staged(revoked) = alice.stage(at(3), put(&lets(&[], 100), 0)).0 else { panic!() };
    alice.failed(at(4), revoked, false);
    assert!(has(&alice));
    assert_eq!(alice.make(at(5), says_for(&["activities"], 1000)).0, Answer::Done);
}

#[test]
fn r2_3_4_no_device_of_a_delegates_is_one_of_the_owners() {
    let mut alice = alice(lets(&["activities"], 100));
    alice.make(at(2), says(CAL, "mine", 1000));
    alice.make(at(3), says_for(&["activities"], 1000));
    let whole = alice.layers().compose();
    assert_eq!(
        (&**whole.person.get("note").unwrap(), &**whole.person.get("activities").unwrap()),
        ("mine", "busy")
    );
    alice.make(at(4), Change::Part(CAL));
    assert!(has(&alice));
}

#[test]
fn r2_3_4_a_right_that_is_over_is_known_before_the_timer_has_come() {
    let mut alice = alice(lets(&["activities"], 100));
    alice.make(at(2), says_for(&["activities"], 1000));
    assert!(!alice.is_over(at(99)) && alice.is_over(at(100)));
    alice.expire(at(100));
    assert!(!alice.is_over(at(100)));
}

#[test]
fn r2_3_4_a_device_that_is_gone_takes_with_it_what_is_on_its_way() {
    for (from, stays) in [(None, false), (Some(CAL), false), (Some(DeviceId([8; 16])), true)] {
        let mut alice = alice(lets(&["activities"], 100));
        alice.make(at(2), says_for(&["activities"], 1000));
        let Staging::Staged(said) = alice.stage(at(3), says_for(&["activities"], 50)).0 else {
            panic!()
        };
        alice.make(at(4), Change::ByDelegate(cal(), Saying::Parts(from)));
        assert_eq!(has(&alice), stays, "{from:?}");
        alice.committed(at(5), said, None);
        assert_eq!((has(&alice), alice.speakers().is_empty()), (stays, !stays), "{from:?}");
    }
}

#[test]
fn r2_3_4_a_delegate_takes_back_all_it_has_said_and_nothing_of_others() {
    let mut alice = alice(lets(&["activities"], 100));
    alice.make(at(2), says(CAL, "mine", 1000));
    alice.make(at(3), says_for(&["activities"], 1000));
    alice.make(at(4), Change::ByDelegate(cal(), Saying::TakesBack));
    assert!(!has(&alice) && alice.layers().of(CAL).is_some());
}
