//! Sessions without a device: a script that keeps nothing reads the log from where it says, and leaves
//! nothing behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use impp_protocol::command::{Ack, Subscribe};
use impp_protocol::state::{self, ContactChange, ContactEdit, Devices, Page, SubscriptionState};
use impp_protocol::{Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{NO_DEVICE, Peer, fetch, message, publish, subscribe};
use impp_tests::presence::{layer, open};
use impp_tests::wait::eventually;
use impp_tests::{Server, Wire};

use crate::python::{self, Python};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

async fn devices(peer: &mut Peer) -> usize {
    let content = peer.done(fetch(ALICE, What::Devices)).await.content.unwrap_or_default();
    state::decode::<Devices>(content).unwrap().entries.len()
}

/// It asks for all that no device keeps, and what a device keeps is refused; nothing of it is entered, and it
/// ends with its connection.
#[tokio::test]
async fn a_session_without_a_device_keeps_nothing() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    for text in ["one", "two"] {
        bob.done(message(ALICE, text)).await;
    }
    let mut script = Peer::sign_in_on(&server, "alice", NO_DEVICE).await;
    assert_eq!((&script.welcome.resume, script.welcome.window), (&None, None));
    assert_eq!(script.welcome.address.as_ref().map(|own| own.as_str()), Some(ALICE));
    let content = script.done(fetch(ALICE, What::Log)).await.content.unwrap_or_default();
    let page: Page = state::decode(content).unwrap();
    let cursor = page.cursor.clone();
    assert_eq!(page.items.len(), 2);
    let ack = Ack { address: ALICE.parse().unwrap(), cursor: cursor.clone() };
    assert_eq!(script.refused(ack).await, Code::WrongState);
    let shows = publish(ALICE, What::Presence, Some(layer(&open("here"))));
    for lease in [None, Some(Duration::from_secs(600)), Some(Duration::ZERO)] {
        let shows = impp_protocol::command::Publish { lease, ..shows.clone() };
        assert_eq!(script.refused(shows).await, Code::WrongState);
    }
    let lease = Some(Duration::from_secs(600));
    let leased = Subscribe { lease, ..subscribe(BOB, What::Presence) };
    assert_eq!(script.refused(leased).await, Code::WrongState);
    let followed = script.done(subscribe(BOB, What::Presence)).await;
    assert_eq!(followed.state, Some(SubscriptionState::Active));
    let ended = Subscribe { lease: Some(Duration::ZERO), ..subscribe(BOB, What::Presence) };
    assert_eq!(script.done(ended).await.state, Some(SubscriptionState::Terminated));
    let name = Some("Bobby".to_owned());
    let change = ContactChange { name, ..ContactChange::of(BOB.parse().unwrap()) };
    let edit = state::encode(&ContactEdit::change(change));
    script.done(publish(ALICE, What::Contacts, Some(edit))).await;
    script.done(message(BOB, "from a script")).await;
    // What came behind a place is read from there, on another session as well.
    bob.done(message(ALICE, "three")).await;
    assert_eq!(devices(&mut script).await, 0);
    let sessions = || server.metrics().get("impp_sessions");
    assert_eq!(sessions(), 2.0);
    drop(script);
    eventually("its end", async || (sessions() == 1.0).then_some(())).await;
    let mut again = Peer::sign_in_on(&server, "alice", NO_DEVICE).await;
    let behind = impp_protocol::command::Fetch { cursor: Some(cursor), ..fetch(ALICE, What::Log) };
    let content = again.done(behind).await.content.unwrap_or_default();
    let page: Page = state::decode(content).unwrap();
    // What it has sent itself, and what came.
    assert!(page.items.len() >= 2, "{page:?}");
}

/// It counts among the sessions of its account as any, and makes room as soon as its connection ends.
#[tokio::test]
async fn it_counts_as_any_session() {
    let server = Server::with().set("limits.sessions_max", 2).start();
    let mut scripts = Vec::new();
    for _ in 0..2 {
        scripts.push(Peer::sign_in_on(&server, "alice", NO_DEVICE).await);
    }
    let more = async |device| {
        let profile = server.profile("alice");
        Peer::over(Wire::dial(&server).await, &profile, device).await.map_err(|error| error.code)
    };
    for device in [NO_DEVICE, 1] {
        assert_eq!(more(device).await.err(), Some(Code::Full));
    }
    scripts.pop();
    eventually("room for another", async || more(1).await.ok()).await;
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

/// Both clients read from the place that is named, and leave nothing beside the profile nor in it.
#[test]
fn scripts_need_no_state() {
    let server = Server::quickstart();
    let bob = Impp::of(&server, "bob");
    let path = server.profile_path("alice");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("device"), "{text}");
    let before = files(path.parent().unwrap());
    let alice = Impp::with_profile(&path);
    let mut since = Vec::new();
    for text in ["one", "two"] {
        assert_eq!(bob.run(&["send", ALICE, text]).code, 0);
        let place = since.iter().map(String::as_str);
        let ran = alice.run(&["--no-device", "inbox"].into_iter().chain(place).collect::<Vec<_>>());
        assert_eq!((ran.code, ran.objects.len()), (0, 2), "{ran:?}");
        assert_eq!(ran.objects[0]["body"], text);
        let cursor = ran.objects[1]["cursor"].as_str().unwrap();
        since = vec!["--since".to_owned(), cursor.to_owned()];
    }
    let acks = alice.run(&["--no-device", "inbox", "--ack"]);
    assert_eq!(acks.code, 1, "{acks:?}");
    assert!(acks.stderr.contains("\"wrong-state\""), "{acks:?}");
    if python::is_there() {
        let script = Python { profile: path.clone() };
        let (code, read) = script.run(&["--no-device", "inbox", "--all"]);
        assert_eq!((code, read.len()), (0, 3), "{read:?}");
        let first = read[0]["cursor"].as_str().unwrap();
        let (code, read) = script.run(&["--no-device", "inbox", "--since", first]);
        assert_eq!((code, read.len(), &read[0]["body"]), (0, 2, &"two".into()), "{read:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // Bob's own device is in his profile.
    assert_eq!(files(path.parent().unwrap()), before);
    assert_eq!(alice.run(&["--no-device", "devices"]).objects.len(), 0);
}
