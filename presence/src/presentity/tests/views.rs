//! Very many watchers in few views: what a change costs goes with the views.

use std::collections::BTreeSet;
use std::fmt::Write;

use impp_acl::RuleSet;
use impp_protocol::presence::{FieldName, Patch};

use super::{alice, at};
use crate::bonds::Bond;
use crate::presentity::*;

const WATCHERS: usize = 10_000;
/// Those of each domain see something else.
const VIEWS: usize = 8;
const SESSION: SessionId = SessionId([5; 16]);

fn watcher(index: usize) -> Address {
    Address::parse(&format!("w{index}@d{}.example", index % VIEWS)).unwrap()
}

fn policy() -> Policy {
    let mut text = String::new();
    for view in 0..VIEWS {
        writeln!(
            text,
            "[[rule]]\nid = \"{view}\"\nwho = [\"domain:d{view}.example\"]\nhandling = \"allow\"\n\
             fields = [\"note\", \"seen.f{view}\"]"
        )
        .unwrap();
    }
    Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
}

fn says(note: &str) -> Change {
    let mut document = Document::default();
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    for view in 0..VIEWS {
        let name = FieldName::parse(&format!("seen.f{view}")).unwrap();
        document.person.insert(name, "seen by one domain ".repeat(5).into());
    }
    let patch = Patch::between(&Document::default(), &document);
    let device = DeviceId([1; 16]);
    Change::Publish { device, patch, replace: true, lease: Lease::Until(at(9000)) }
}

/// What each watcher is told, out of what it was sent before: the addresses of the bytes, which all of a
/// view share, and the versions.
fn told(alice: &mut Presentity, now: u64, held: &[Held]) -> (BTreeSet<*const u8>, Vec<Version>) {
    let mut bytes = BTreeSet::new();
    let told = held.iter().enumerate().map(|(index, held)| {
        let state = (*held != Held::Nothing).then_some(SubscriptionState::Active);
        let pulled = alice.pull(at(now), &watcher(index), SESSION, *held, state);
        let Pulled::Told(Told { content: Some(content), .. }) = pulled else {
            panic!("w{index}: {pulled:?}");
        };
        bytes.insert(content.bytes().as_ptr());
        content.version()
    });
    let versions = told.collect();
    (bytes, versions)
}

/// Of ten thousand watchers in eight views each is told, and it is filtered and encoded eight times; the
/// patches are eight too.
#[test]
fn a_change_for_ten_thousand_watchers_in_eight_views_is_encoded_eight_times() {
    let mut alice = alice(policy());
    for index in 0..WATCHERS {
        let (watcher, bond) = (watcher(index), Bond::Session(SESSION));
        let listener = Some(SESSION.into());
        alice.make(at(2), Change::Follow { watcher, bond, listener, pending_max: 0 });
    }
    alice.make(at(3), says("one"));
    let (bytes, held) = told(&mut alice, 4, &[Held::Nothing; WATCHERS]);
    assert_eq!(bytes.len(), VIEWS);
    alice.take_encodes();
    alice.make(at(5), says("two"));
    let held: Vec<Held> = held.into_iter().map(Held::Sent).collect();
    let (bytes, versions) = told(&mut alice, 6, &held);
    assert_eq!((bytes.len(), alice.take_encodes()), (VIEWS, VIEWS as u64));
    assert_eq!(versions.into_iter().collect::<BTreeSet<_>>().len(), VIEWS);
}
