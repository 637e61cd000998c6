//! Who may say something for somebody else: what, from when on, and until when.

use std::time::Duration;

use impp_protocol::command::Publish;
use impp_protocol::presence::Document;
use impp_protocol::{Code, Error, Timestamp, What};
use impp_tests::Wire;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, publish};
use impp_tests::presence::{Watcher, document, layer, open, person};

use crate::rules::{ALL, rule, strangers};

const ALICE: &str = "alice@localhost";

/// An entry of alice's rules that lets the calendar do this.
fn lets(rights: &str, more: &str) -> String {
    let seen = rule("bob", "allow", ALL);
    format!(
        "{seen}[[delegate]]\nid = \"c\"\nwho = [\"cal@localhost\"]\nrights = [{rights}]\n{more}\n"
    )
}

/// A whole layer of alice's, said by somebody else for an hour.
fn for_alice(document: &Document) -> Publish {
    let lease = Some(Duration::from_secs(3600));
    Publish { replace: true, lease, ..publish(ALICE, What::Presence, Some(layer(document))) }
}

fn busy() -> Document {
    document(&[("activities", "meeting")], &[])
}

fn is_busy(document: &Document) -> bool {
    person(document, "activities") == Some("meeting")
}

async fn refusal(peer: &mut Peer, publish: Publish) -> Error {
    peer.request(publish).await.expect_err("a refusal")
}

/// A calendar sets what it may, beside what the owner says, and nothing else; it is shown to whom the
/// owner shows it; it goes when the calendar takes it back, and when the owner takes the right back.
#[tokio::test]
async fn r2_3_4_a_delegate_says_what_it_may_until_that_is_taken_back() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:activities\", \"publish-tuple:desk\"", "")).await;
    alice.show(&open("here")).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    cal.done(for_alice(&busy())).await;
    bob.until(|held| is_busy(held.document())).await;
    assert_eq!(person(bob.held.document(), "note"), Some("here"));
    // What it may not say is named, and nothing of it is shown.
    for (said, named) in [
        (document(&[("activities", "meal"), ("note", "x")], &[]), "the field note"),
        (document(&[("activities", "meal")], &[("im", &[("status", "closed")])]), "the tuple im"),
    ] {
        let error = refusal(&mut cal, for_alice(&said)).await;
        assert_eq!(error.code, Code::Refused);
        assert!(error.text.as_ref().unwrap().starts_with(named), "{error:?}");
    }
    // It adds to what it has said, and that may not be made more than it may say either.
    let more = Publish { replace: false, ..for_alice(&document(&[("mood", "sad")], &[])) };
    assert_eq!(refusal(&mut cal, more).await.code, Code::Refused);
    // By the session it is not kept.
    let bound = Publish { lease: None, ..for_alice(&busy()) };
    assert_eq!(refusal(&mut cal, bound).await.code, Code::Malformed);
    assert!(is_busy(bob.held.document()) && bob.peer.fence().await.is_empty());
    let own = cal.done(fetch(ALICE, What::Layer)).await.content.expect("its layer");
    assert_eq!(Document::decode(own).unwrap(), busy());
    let desk = document(&[], &[("desk", &[("status", "open")])]);
    cal.done(for_alice(&desk)).await;
    bob.until(|held| held.document().tuples.len() == 2).await;
    let back = Publish { lease: Some(Duration::ZERO), ..publish(ALICE, What::Presence, None) };
    cal.done(back).await;
    bob.until(|held| held.document() == &open("here")).await;
    // The right is taken back, and what was said by it goes with it.
    cal.done(for_alice(&busy())).await;
    bob.until(|held| is_busy(held.document())).await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    bob.until(|held| held.document() == &open("here")).await;
    assert_eq!(refusal(&mut cal, for_alice(&busy())).await.code, Code::Refused);
    assert_eq!(cal.refused(fetch(ALICE, What::Layer)).await, Code::Refused);
}

/// Who has no right is told what anybody is told of anybody: not that there is the account, nor that it
/// has delegates, nor that they have other rights.
#[tokio::test]
async fn r2_3_4_a_stranger_is_refused_alike_whatever_there_is() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"watchers\"", "")).await;
    for name in ["eve", "cal"] {
        let mut peer = Peer::sign_in(&server, name).await;
        let own = peer.address.clone();
        for owner in [ALICE, "bob@localhost", "nobody@localhost", "x@b.example"] {
            let publish = Publish { address: owner.parse().unwrap(), ..for_alice(&busy()) };
            let error = refusal(&mut peer, publish).await;
            let text = format!(
                "you are {own}, and that is {owner}'s own; for whom you may act, your delegations say"
            );
            assert_eq!((error.code, error.text.as_deref()), (Code::Refused, Some(&*text)));
            for what in [What::Layer, What::Rules, What::Devices, What::Contacts, What::Log] {
                let error = peer.request(fetch(owner, what)).await.expect_err("a refusal");
                assert_eq!((error.code, error.text.as_deref()), (Code::Refused, Some(&*text)));
            }
        }
    }
}

/// A right ends when the rules say so, with what was said by it, however long the lease; a watcher is
/// told at once.
#[tokio::test]
async fn d_4_what_a_delegate_says_ends_when_its_right_does() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("here")).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = Timestamp::from_millis(now.as_millis() as u64 + 4000);
    alice.set_rules(&lets("\"publish:activities\"", &format!("until = \"{until}\""))).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    cal.done(for_alice(&busy())).await;
    bob.until(|held| is_busy(held.document())).await;
    bob.until(|held| held.document() == &open("here")).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_millis() as u64 >= until.as_millis(), "too soon");
    assert_eq!(refusal(&mut cal, for_alice(&busy())).await.code, Code::Refused);
}

/// What a delegate has published is on the disk when that is said, and goes on after a crash, as what
/// it may not go beyond does.
#[tokio::test]
async fn r2_3_4_what_a_delegate_says_outlives_a_crash_and_not_its_right() {
    let mut server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:activities\"", "")).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    cal.done(for_alice(&busy())).await;
    server.kill9();
    server.restart();
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    bob.until(|held| is_busy(held.document())).await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:mood\"", "")).await;
    bob.until(|held| !is_busy(held.document())).await;
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert!(!is_busy(&bob.look(ALICE).await));
}

/// Delegates have a part of the room there is, and leave the owner the rest.
#[tokio::test]
async fn r2_3_4_delegates_leave_their_owner_room() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let names: Vec<String> = (0..5).map(|n| format!("org.example.f{n}")).collect();
    let rights: Vec<String> = names.iter().map(|name| format!("\"publish:{name}\"")).collect();
    let text = lets(&rights.join(", "), "");
    let who = "who = [\"cal@localhost\"";
    alice.set_rules(&text.replace(who, &format!("{who}, \"bob@localhost\""))).await;
    let value = "x".repeat(2500);
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    let mut cal = Peer::sign_in(&server, "cal").await;
    cal.done(for_alice(&document(&pairs[..3], &[]))).await;
    assert_eq!(refusal(&mut cal, for_alice(&document(&pairs, &[]))).await.code, Code::TooLarge);
    // And to each other: there is some for one more, and who came first keeps what it has.
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(for_alice(&document(&pairs[..1], &[]))).await;
    assert_eq!(
        refusal(&mut bob, for_alice(&document(&pairs[..2], &[]))).await.code,
        Code::TooLarge
    );
    cal.done(for_alice(&document(&pairs[..3], &[]))).await;
    alice.show(&open("here")).await;
}

/// What a delegate says ends with its account and with its device, whether the owner was asked for since
/// the start or not; and does not come back with them.
#[tokio::test]
async fn r2_3_4_what_a_delegate_says_ends_with_its_account_and_its_device() {
    let mut server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:activities\"", "")).await;
    for (round, loaded) in
        [("disable", true), ("device", true), ("disable", false), ("device", false)]
    {
        let mut cal = Peer::sign_in(&server, "cal").await;
        cal.done(for_alice(&busy())).await;
        drop(cal);
        if !loaded {
            server.stop();
            server.restart();
        }
        let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
        if loaded {
            bob.until(|held| is_busy(held.document())).await;
        }
        match round {
            "disable" => {
                server.user_ok(&["disable", "cal@localhost"]);
                server.user_ok(&["enable", "cal@localhost"]);
            }
            _ => {
                let listed = server.user_ok(&["devices", "cal@localhost"]);
                let device: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
                let id = device["device"].as_str().unwrap();
                server.user_ok(&["devices", "cal@localhost", "--remove", id]);
            }
        }
        bob.until(|held| !is_busy(held.document())).await;
        let mut cal = Peer::sign_in(&server, "cal").await;
        assert_eq!(cal.refused(fetch(ALICE, What::Layer)).await, Code::NotFound, "{round}");
    }
    let mut cal = Peer::sign_in(&server, "cal").await;
    cal.done(for_alice(&busy())).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    bob.until(|held| is_busy(held.document())).await;
    server.user_ok(&["remove", "cal@localhost"]);
    bob.until(|held| !is_busy(held.document())).await;
}

/// What a delegate has said from one device it takes back from another.
#[tokio::test]
async fn r2_3_4_another_device_of_the_delegates_takes_back_what_it_has_said() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:activities\"", "")).await;
    let mut devices = Vec::new();
    for device in [1, 2] {
        let wire = Wire::dial(&server).await;
        devices.push(Peer::over(wire, &server.profile("cal"), device).await.unwrap());
    }
    devices[0].done(for_alice(&busy())).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    bob.until(|held| is_busy(held.document())).await;
    let back = Publish { lease: Some(Duration::ZERO), ..publish(ALICE, What::Presence, None) };
    devices[1].done(back).await;
    bob.until(|held| !is_busy(held.document())).await;
    assert_eq!(devices[0].refused(fetch(ALICE, What::Layer)).await, Code::NotFound);
}

/// Who acts for somebody is of this server: a text that says otherwise is refused, and says whom.
#[tokio::test]
async fn r2_3_4_nobody_of_another_server_is_a_delegate() {
    let server = strangers(&["cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let text = lets("\"rules\"", "").replace("cal@localhost", "cal@b.example");
    let publish = Publish {
        base: Some(0),
        ..publish(ALICE, What::Rules, Some(bytes::Bytes::from(text.into_bytes())))
    };
    let error = alice.request(publish).await.expect_err("a refusal");
    assert_eq!(error.code, Code::Malformed);
    assert!(error.text.unwrap().contains("cal@b.example is not of this server"));
}

/// The command says for somebody else what their rules let one say, and with what words it may not.
#[test]
fn r2_3_4_the_command_says_it_for_somebody_else() {
    let server = strangers(&["bob", "cal"]);
    let rules = server.data().join("rules.toml");
    std::fs::write(&rules, lets("\"publish:activities\", \"publish-tuple:desk\"", "")).unwrap();
    let [alice, bob, cal] = ["alice", "bob", "cal"].map(|name| Impp::of(&server, name));
    alice.run(&["rules", "set", rules.to_str().unwrap()]).one();
    let set = ["--for", ALICE, "status", "set"];
    let said = cal.run(&[&set[..], &["--activity", "meeting", "--lease", "600"]].concat()).one();
    assert_eq!((&said["presentity"], &said["lease"]), (&ALICE.into(), &600.into()));
    let seen = bob.run(&["fetch", ALICE]).one();
    assert_eq!(seen["document"]["person"]["activities"], "meeting");
    let beyond = cal.run(&[&set[..], &["--note", "x"]].concat());
    assert_eq!(beyond.code, 1, "{beyond:?}");
    assert!(beyond.stderr.contains("the field note"), "{beyond:?}");
    cal.run(&[&set[..], &["open", "--tuple", "desk"]].concat()).one();
    let shown = cal.run(&["--for", ALICE, "status", "show"]).one();
    assert_eq!(shown["tuples"][0]["id"], "desk");
    cal.run(&["--for", ALICE, "status", "clear"]).one();
    assert_eq!(cal.run(&["--for", ALICE, "status", "show"]).code, 1);
    // A command line that cannot be meant is told from an answer.
    for wrong in [&["--for", ALICE, "contacts", "list"][..], &set, &["status", "set"]] {
        assert_eq!(cal.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(bob.run(&["--for", ALICE, "status", "set", "--activity", "meal"]).code, 1);
    // For oneself there is no layer without a status.
    assert_eq!(alice.run(&["status", "set", "--activity", "meal"]).code, 2);
}
