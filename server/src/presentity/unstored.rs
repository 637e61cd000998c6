//! What could not be stored takes away exactly its own change: nothing that others published or keep,
//! and nothing that stood before.

use impp_protocol::presence::{Document, FieldName, PartId, Patch};

use super::due::{SESSION, at, bob, world};
use super::*;

const PHONE: DeviceId = [1; 16];
const LAPTOP: DeviceId = [2; 16];

fn note(tuple: &str, text: &str) -> Patch {
    let mut document = Document::default();
    let fields = [(FieldName::parse("note").unwrap(), text.into())];
    document.tuples.insert(PartId::parse(tuple).unwrap(), fields.into());
    Patch::between(&Document::default(), &document)
}

/// The notes of the tuples that are shown.
fn shown(alice: &Presentity) -> Vec<String> {
    let name = FieldName::parse("note").unwrap();
    alice.document.tuples.values().filter_map(|t| t.get(&name)).map(|n| n.to_string()).collect()
}

#[test]
fn g8_a_publication_that_is_not_stored_takes_no_other_with_it() {
    let (mut alice, policy) = world(Bond::Session(SESSION));
    let publish = |alice: &mut Presentity, device, patch: &Patch| {
        let before = alice.layers().saved(device);
        let lease = Lease::Until(at(1000));
        alice.publish(at(2), device, patch, true, lease, &policy).unwrap();
        (before, alice.layers().saved(device))
    };
    publish(&mut alice, PHONE, &note("phone", "old"));
    let (before, after) = publish(&mut alice, PHONE, &note("phone", "not stored"));
    // Acknowledged, while the other waits for the store.
    publish(&mut alice, LAPTOP, &note("laptop", "stored"));
    alice.put_back(at(3), before.clone(), &after, &policy);
    let mut notes = shown(&alice);
    notes.sort();
    assert_eq!(notes, ["old", "stored"]);
    // What the same device has published since is not what could not be stored.
    publish(&mut alice, PHONE, &note("phone", "newest"));
    alice.put_back(at(4), before, &after, &policy);
    assert!(shown(&alice).contains(&"newest".to_owned()));
}

#[test]
fn g8_a_refresh_that_is_not_stored_ends_no_subscription() {
    let (stood, renewed) = (Bond::Lease(PHONE, at(100)), Bond::Lease(PHONE, at(200)));
    let (mut alice, policy) = world(stood);
    let subscribe = |alice: &mut Presentity, bond, listener| {
        let before = alice.watcher(&bob()).cloned();
        alice.subscribe(at(2), &bob(), bond, listener, 10, &policy);
        before
    };
    let before = subscribe(&mut alice, renewed, Some(SESSION));
    alice.unsubscribe_unstored(at(3), &bob(), renewed, Some(SESSION), before.as_ref());
    let watching = alice.watcher(&bob()).unwrap();
    assert_eq!(watching.state, SubscriptionState::Active);
    assert_eq!((&watching.bonds[..], &watching.listeners[..]), (&[stood][..], &[SESSION][..]));
    // What is new goes, and nothing else.
    let (other, session) = (Bond::Lease(LAPTOP, at(300)), SessionId([9; 16]));
    let before = subscribe(&mut alice, other, Some(session));
    alice.unsubscribe_unstored(at(3), &bob(), other, Some(session), before.as_ref());
    let watching = alice.watcher(&bob()).unwrap();
    assert_eq!((&watching.bonds[..], &watching.listeners[..]), (&[stood][..], &[SESSION][..]));
}
