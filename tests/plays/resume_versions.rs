//! Resuming with word of what is held: whoever says it is told no more than what differs.

use impp_protocol::command::{Auth, HeldVersion, Hello, Notify, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Code, What};
use impp_tests::Server;
use impp_tests::peer::{Held, Peer, publish, subscribe};
use impp_tests::presence::at_once;
use impp_tests::wire::Wire;

use crate::corpus;

const OTHERS: [&str; 2] = ["bob@localhost", "carol@localhost"];

/// Alice, who follows bob and carol and was shown both, is away; and what she holds.
async fn away(server: &Server) -> (Held, Vec<HeldVersion>, [Peer; 2]) {
    let mut others = [Peer::sign_in(server, "bob").await, Peer::sign_in(server, "carol").await];
    for other in &mut others {
        show(other, "before").await;
    }
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut versions = Vec::new();
    for other in OTHERS {
        alice.done(subscribe(other, What::Presence)).await;
        let version = alice.notify().await.version.expect("a version");
        versions.push(HeldVersion { address: other.parse().unwrap(), version });
    }
    let held = alice.held();
    alice.cut();
    (held, versions, others)
}

async fn show(peer: &mut Peer, note: &str) {
    let address = peer.address.to_string();
    peer.done(publish(&address, What::Presence, Some(corpus::note(note).encode()))).await;
}

fn follows(_: &mut Hello, auth: &mut Auth) {
    auth.versions_follow = true;
}

fn holding(versions: Vec<HeldVersion>) -> Subscribe {
    Subscribe { versions, ..subscribe("alice@localhost", What::Contacts) }
}

async fn told(alice: &mut Peer) -> [Notify; 2] {
    let mut told = [alice.notify().await, alice.notify().await];
    told.sort_by_key(|notify| notify.address.to_string());
    assert_eq!([0, 1].map(|n| told[n].address.to_string()), OTHERS);
    told
}

/// Nothing is told before the client has said what it holds; then of who is as before the state alone,
/// and of who has changed the change.
#[tokio::test]
async fn e4_who_says_what_it_holds_is_told_what_differs() {
    let server = at_once().start();
    let (held, versions, mut others) = away(&server).await;
    show(&mut others[0], "after").await;
    let mut alice = Peer::resume_by(Wire::dial(&server).await, &held, follows).await.unwrap();
    assert_eq!(alice.so_far().await, vec![], "told before it was asked");
    let before = versions[0].version;
    let done = alice.done(holding(versions)).await;
    assert_eq!(done.state, Some(SubscriptionState::Active));
    let [bob, carol] = told(&mut alice).await;
    assert_eq!((bob.base, bob.snapshot), (Some(before), None), "a patch of what she holds");
    assert!(bob.patch.unwrap().windows(5).any(|bytes| bytes == b"after"));
    assert_eq!((carol.state, carol.version), (SubscriptionState::Active, None));
    assert_eq!((carol.patch, carol.snapshot), (None, None));
    assert_eq!(alice.so_far().await, vec![], "told twice");
}

/// What she does not say that she holds, and what she never was shown, is told whole.
#[tokio::test]
async fn a_version_that_was_never_shown_counts_for_nothing() {
    let server = at_once().start();
    let (held, mut versions, _others) = away(&server).await;
    versions.pop();
    versions[0].version = Version([7; 16]);
    let mut alice = Peer::resume_by(Wire::dial(&server).await, &held, follows).await.unwrap();
    alice.done(holding(versions)).await;
    for notify in told(&mut alice).await {
        assert!(notify.snapshot.is_some(), "{notify:?}");
    }
    // Without a word of what is held or to be followed nothing is asked.
    let nothing = alice.refused(subscribe("alice@localhost", What::Contacts)).await;
    assert_eq!(nothing, Code::Unsupported);
}

/// Who says that it will say, and does not, is told all after a while.
#[tokio::test]
async fn who_does_not_say_what_it_holds_is_told_all() {
    let server = at_once().start();
    let (held, _, _others) = away(&server).await;
    let mut alice = Peer::resume_by(Wire::dial(&server).await, &held, follows).await.unwrap();
    for notify in told(&mut alice).await {
        assert!(notify.snapshot.is_some(), "{notify:?}");
    }
}

/// Who takes no patches is told whole documents, of one and of all in the list; and is told nothing that it
/// has.
#[tokio::test]
async fn who_takes_no_patches_is_told_whole_documents() {
    let server = at_once().start();
    let (held, versions, [mut bob, _carol]) = away(&server).await;
    let mut alice = Peer::resume_by(Wire::dial(&server).await, &held, follows).await.unwrap();
    alice.done(holding(versions)).await;
    told(&mut alice).await;
    for (snapshots, note) in [(true, "one"), (true, "two"), (false, "three")] {
        let again = Subscribe { snapshots, ..subscribe(OTHERS[0], What::Presence) };
        alice.done(again).await;
        alice.notify().await;
        show(&mut bob, note).await;
        let notify = alice.notify().await;
        assert_eq!(notify.snapshot.is_some(), snapshots, "{note}: {notify:?}");
        assert_eq!(alice.so_far().await, vec![], "{note}");
    }
}
