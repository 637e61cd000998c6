//! Presence without messages and messages without presence (section 2.1), and what is not offered
//! (B11).

use impp_protocol::command::{Ack, Subscribe};
use impp_protocol::state::{self, SubscriptionEdit, WatcherEdit};
use impp_protocol::{Code, Command, What};
use impp_tests::Wire;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, first_auth, message, next_auth, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, document, layer, open};

use crate::rules::{ALL, rule, strangers};

/// Requests of presence's that every client may make.
fn presence_requests(own: &str) -> Vec<Command> {
    let other = "alice@localhost";
    let cancel = state::encode(&SubscriptionEdit { cancel: other.parse().unwrap() });
    let remove = state::encode(&WatcherEdit { remove: other.parse().unwrap() });
    vec![
        publish(own, What::Presence, Some(layer(&open("?")))).into(),
        subscribe(other, What::Presence).into(),
        fetch(other, What::Presence).into(),
        fetch(own, What::Layer).into(),
        fetch(own, What::Watchers).into(),
        fetch(own, What::Subscriptions).into(),
        Subscribe { expand: true, ..subscribe(own, What::Contacts) }.into(),
        publish(own, What::Watchers, Some(remove)).into(),
        publish(own, What::Subscriptions, Some(cancel)).into(),
    ]
}

/// Requests of messages' that every client may make.
fn message_requests(own: &str) -> Vec<Command> {
    let cursor = bytes::Bytes::from_static(b"any");
    vec![
        message("alice@localhost", "?").into(),
        fetch(own, What::Log).into(),
        subscribe(own, What::Log).into(),
        Ack { address: own.parse().unwrap(), cursor }.into(),
    ]
}

async fn not_offered(peer: &mut Peer, requests: Vec<Command>) {
    let (mut wrong, own) = (Vec::new(), peer.address.clone());
    for request in requests {
        match peer.request(request.clone()).await {
            Err(error) if error.code == Code::NotOffered => {}
            other => wrong.push(format!("{request:?} of {own} was answered {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "not answered not-offered:\n{}", wrong.join("\n"));
}

/// With presence alone all of presence works, and all of messages is not offered.
#[tokio::test]
async fn d_3_r2_1_1_presence_runs_without_messages() {
    let server = strangers(&["bob"]);
    server.add_with("pat", "pres");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("pat", "allow", ALL)).await;
    let mut pat = Watcher::sign_in(&server, "pat", "alice@localhost").await;
    alice.show(&open("seen by pat")).await;
    pat.until_note("seen by pat").await;
    pat.peer.set_rules(&rule("bob", "allow", ALL)).await;
    pat.peer.show(&open("here is pat")).await;
    let bob = Watcher::sign_in(&server, "bob", "pat@localhost").await;
    assert_eq!(bob.held.document(), &open("here is pat"));
    not_offered(&mut pat.peer, message_requests("pat@localhost")).await;
    // Nor has pat an inbox for others.
    let mut bob = bob.peer;
    assert_eq!(bob.refused(message("pat@localhost", "?")).await, Code::NotOffered);
    let ran = Impp::of(&server, "pat").run(&["send", "bob@localhost", "?"]);
    assert!(ran.code == 1 && ran.stderr.contains("not-offered"), "{ran:?}");
    let ran = Impp::of(&server, "pat").run(&["inbox"]);
    assert!(ran.code == 1 && ran.stderr.contains("not-offered"), "{ran:?}");
}

/// With messages alone all of messages works, and all of presence is not offered.
#[tokio::test]
async fn d_3_r2_1_1_messages_run_without_presence() {
    let server = strangers(&["bob"]);
    server.add_with("ian", "im");
    let mut ian = Peer::sign_in(&server, "ian").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("ian@localhost", "to ian").await;
    ian.send("bob@localhost", "to bob").await;
    assert_eq!(bob.inbox().await[0].body, "to bob");
    assert_eq!(ian.inbox().await[0].body, "to ian");
    ian.done(subscribe("ian@localhost", What::Log)).await;
    assert_eq!(ian.notify().await.what, What::Log);
    ian.ack_all().await;
    not_offered(&mut ian, presence_requests("ian@localhost")).await;
    assert_eq!(bob.refused(fetch("ian@localhost", What::Presence)).await, Code::NotOffered);
    assert_eq!(bob.refused(subscribe("ian@localhost", What::Presence)).await, Code::NotOffered);
    let ran = Impp::of(&server, "ian").run(&["status", "set", "open"]);
    assert!(ran.code == 1 && ran.stderr.contains("not-offered"), "{ran:?}");
}

/// An inbox and a presentity need not have one name: somebody is watched under one, and reached
/// under the other that the tuple's contact names.
#[tokio::test]
async fn r2_1_2_presence_under_one_name_and_messages_under_another() {
    let server = strangers(&["bob"]);
    server.add_with("seen", "pres");
    server.add_with("written", "im");
    let mut seen = Peer::sign_in(&server, "seen").await;
    seen.set_rules(&rule("bob", "allow", ALL)).await;
    let contact =
        document(&[], &[("im", &[("status", "open"), ("contact", "im:written@localhost")])]);
    seen.show(&contact).await;
    let mut bob = Watcher::sign_in(&server, "bob", "seen@localhost").await;
    let tuple = bob.held.document().tuples.values().next().unwrap();
    let contact = tuple.get("contact").unwrap().strip_prefix("im:").unwrap().to_owned();
    bob.peer.send(&contact, "I saw that you are open").await;
    let mut written = Peer::sign_in(&server, "written").await;
    assert_eq!(written.inbox().await[0].body, "I saw that you are open");
}

/// One name may reach both: the same address is followed and written to, in any of its spellings.
#[tokio::test]
async fn r2_1_3_one_name_reaches_both() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("both")).await;
    let bob = Impp::of(&server, "bob");
    for name in ["alice@localhost", "Alice@LocalHost", "alice@localhost."] {
        let seen = bob.run(&["fetch", name]).one();
        assert_eq!(seen["presentity"], "alice@localhost");
        assert_eq!(seen["document"]["person"]["note"], "both");
        let sent = bob.run(&["send", name, "both"]).one();
        assert_eq!(
            (&sent["to"], &sent["outcome"]),
            (&"alice@localhost".into(), &"delivered".into())
        );
    }
    assert_eq!(alice.inbox().await.len(), 3);
}

/// What the configuration does not turn on is refused before any of it runs: mechanisms of
/// sign-in, and what is only reserved.
#[tokio::test]
async fn b11_what_is_not_turned_on_is_not_offered() {
    let server = at_once().start();
    let profile = server.profile("alice");
    let (mut wire, hello) = Wire::greeted(&server).await;
    assert_eq!(hello.mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    for mechanism in ["EXTERNAL", "ANONYMOUS"] {
        let data = b"alice@localhost".to_vec();
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.send(1, first_auth(&profile, 1, mechanism, data)).await;
        let Command::Error(error) = wire.next().await.command else { panic!("no ERROR") };
        assert_eq!(error.code, Code::NotOffered, "{mechanism}");
    }
    wire.send(1, first_auth(&profile, 1, "PLAIN", b"\0alice\0secret".to_vec())).await;
    let Command::Error(error) = wire.next().await.command else { panic!("no ERROR") };
    assert_eq!(error.code, Code::NotOffered);
    // An answer to a challenge that there was not.
    wire.send(2, next_auth(b"c=biws".to_vec())).await;
    assert!(matches!(wire.next().await.command, Command::Error(_)));
    let mut alice = Peer::sign_in(&server, "alice").await;
    let own = "alice@localhost";
    let reserved: Vec<Command> =
        vec![subscribe(own, What::Rules).into(), publish(own, What::Explain, None).into()];
    for request in reserved {
        assert_eq!(alice.refused(request.clone()).await, Code::Unsupported, "{request:?}");
    }
    for request in [fetch("bob@localhost", What::Log), fetch("bob@localhost", What::Rules)] {
        assert_eq!(alice.refused(request).await, Code::Refused);
    }
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}
