//! More views of one presentity than recent contents are kept of: which watchers get patches, and which
//! the whole.

use std::fmt::Write;

use impp_acl::RuleSet;
use impp_protocol::presence::{FieldName, Patch};

use super::{alice, at};
use crate::bonds::Bond;
use crate::presentity::contents::RECENT_VIEWS_MAX;
use crate::presentity::*;

/// Each sees two of the fields, and no other the same two.
const VIEWS: usize = RECENT_VIEWS_MAX + 6;
const FIELDS: usize = 13;
const SESSION: SessionId = SessionId([5; 16]);

fn watcher(index: usize) -> Address {
    Address::parse(&format!("w{index}@b.example")).unwrap()
}

fn policy() -> Policy {
    let mut text = String::new();
    let pairs = (0..FIELDS).flat_map(|one| (0..one).map(move |other| (one, other)));
    for (index, (one, other)) in pairs.take(VIEWS).enumerate() {
        writeln!(
            text,
            "[[rule]]\nid = \"r{index}\"\nwho = [\"w{index}@b.example\"]\nhandling = \"allow\"\n\
             fields = [\"note\", \"place-is\", \"seen.f{one}\", \"seen.f{other}\"]"
        )
        .unwrap();
    }
    Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
}

fn says(note: &str) -> Change {
    let mut document = Document::default();
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    // So much that a patch is shorter.
    document.person.insert(FieldName::parse("place-is").unwrap(), "far away ".repeat(30).into());
    for field in 0..FIELDS {
        let name = FieldName::parse(&format!("seen.f{field}")).unwrap();
        document.person.insert(name, format!("field {field}").into());
    }
    let patch = Patch::between(&Document::default(), &document);
    let device = DeviceId([1; 16]);
    Change::Publish { device, patch, replace: true, lease: Lease::Until(at(9000)) }
}

fn follow(index: usize) -> Change {
    let (watcher, bond) = (watcher(index), Bond::Session(SESSION));
    Change::Follow { watcher, bond, listener: Some(SESSION.into()), pending_max: VIEWS }
}

/// What a watcher is told that was sent `held`.
fn told(alice: &mut Presentity, seconds: u64, index: usize, held: Held) -> Disclosed {
    let state = (held != Held::Nothing).then_some(SubscriptionState::Active);
    match alice.pull(at(seconds), &watcher(index), SESSION, held, state) {
        Pulled::Told(told) => told.content.unwrap(),
        other => panic!("w{index}: {other:?}"),
    }
}

/// Those who get a patch of a change, out of what they were sent before; the others get the whole.
fn patched(alice: &mut Presentity, seconds: u64, held: &mut [Option<Version>]) -> Vec<usize> {
    alice.make(at(seconds), says(&format!("it is {seconds}")));
    let mut patched = Vec::new();
    for (index, held) in held.iter_mut().enumerate() {
        let Some(had) = *held else { continue };
        let told = told(alice, seconds, index, Held::Sent(had));
        match told.base() {
            Some(base) => {
                assert_eq!(base, had, "w{index} cannot apply that");
                patched.push(index);
            }
            None => assert!(Document::decode(told.bytes()).is_ok(), "w{index}"),
        }
        *held = Some(told.version());
    }
    patched
}

#[test]
fn d6_more_views_than_are_kept_leave_their_patches_to_those_that_were_first() {
    let mut alice = alice(policy());
    alice.make(at(1), says("it is 1"));
    let mut held = vec![None; VIEWS];
    for (index, held) in held.iter_mut().enumerate() {
        alice.make(at(1), follow(index));
        *held = Some(told(&mut alice, 1, index, Held::Nothing).version());
    }
    let first: Vec<usize> = (0..RECENT_VIEWS_MAX).collect();
    for seconds in 2..6 {
        assert_eq!(patched(&mut alice, seconds, &mut held), first);
    }
    // Who goes leaves a place: one of those who had none has it from the next change on.
    alice.make(at(6), Change::End(watcher(3), SubscriptionEvent::Deactivated));
    held[3] = None;
    patched(&mut alice, 7, &mut held);
    let next = patched(&mut alice, 8, &mut held);
    assert_eq!(next.len(), RECENT_VIEWS_MAX);
    assert!(first.iter().all(|index| *index == 3 || next.contains(index)), "{next:?}");
}
