//! Messages that are not stored: they come to whoever is connected, or to nobody.

use impp_protocol::Command;
use impp_protocol::command::{Message, Outcome};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::peer::message;
use impp_tests::wire::Dial;
use impp_tests::{BadPeer, Domains, Peer, Server, Wire, eventually};

/// A message that is not stored.
fn volatile(to: &str, text: &str) -> Message {
    Message { volatile: true, ..message(to, text) }
}

/// The texts of messages among what has come unasked.
fn texts(commands: Vec<Command>) -> Vec<String> {
    let text = |command| match command {
        Command::Message(message) => Some(String::from_utf8(message.body.to_vec()).unwrap()),
        _ => None,
    };
    commands.into_iter().filter_map(text).collect()
}

/// It comes at once to every device that is connected, and into no log.
#[tokio::test]
async fn it_comes_to_all_devices_that_are_connected() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bobs =
        [Peer::sign_in_on(&server, "bob", 1).await, Peer::sign_in_on(&server, "bob", 2).await];
    let sent = alice.done(volatile("bob@localhost", "typing")).await.outcome;
    assert_eq!(sent, Some(Outcome::Sent));
    for bob in &mut bobs {
        let Command::Message(message) = bob.unsolicited().await else { panic!("no MESSAGE") };
        assert_eq!(&message.body[..], b"typing");
        assert_eq!(message.from, Some(alice.address.clone()));
        assert_eq!(bob.log().await, []);
    }
    assert_eq!(alice.log().await, []);
}

/// What the recipient's rules drop or hold does not come, now or later.
#[tokio::test]
async fn what_is_dropped_or_held_does_not_come() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for action in ["drop", "hold"] {
        bob.set_rules(&OPEN_INBOX.replace("accept", action)).await;
        let sent = alice.done(volatile("bob@localhost", action)).await.outcome;
        assert_eq!(sent, Some(Outcome::Sent), "alike to the sender");
        assert_eq!(texts(bob.fence().await), [""; 0]);
        assert_eq!(bob.requests().await.entries, []);
    }
    bob.set_rules(OPEN_INBOX).await;
    alice.done(volatile("bob@localhost", "accepted")).await;
    assert_eq!(texts(bob.fence().await), ["accepted"]);
}

/// Whoever has no connection gets none of it, also not when the session goes on.
#[tokio::test]
async fn what_was_sent_to_a_session_without_connection_is_gone() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let bob = Peer::sign_in(&server, "bob").await;
    let held = bob.held();
    bob.cut();
    eventually("the end of the connection", async || {
        (server.metrics().get("impp_connections") == 1.0).then_some(())
    })
    .await;
    alice.done(volatile("bob@localhost", "nobody is there")).await;
    let mut bob = Peer::resume(Wire::dial(&server).await, &held).await.unwrap();
    assert_eq!(texts(bob.fence().await), [""; 0]);
    alice.done(volatile("bob@localhost", "there")).await;
    assert_eq!(texts(bob.fence().await), ["there"]);
}

/// Of what comes faster than it is read, some is dropped, and what is kept is bounded.
#[tokio::test]
async fn what_waits_for_one_who_does_not_read_is_bounded() {
    const SENT: usize = 400;
    let server = Server::with()
        .no_rates()
        .set("limits.requests_burst", 1_000_000)
        .set("limits.push_buffer_bytes", 4096)
        .set("limits.stall_seconds", 3600)
        .start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let wire = Dial::to(&server).receive_buffer(4096).connect().await.unwrap();
    let mut bob = Peer::over(wire, &server.profile("bob"), 1).await.unwrap();
    let filler = "x".repeat(8000);
    for _ in 0..SENT {
        alice.done(volatile("bob@localhost", &filler)).await;
    }
    // 3 MB were sent; the system keeps some hundred KB, the server 128 KiB.
    let come = texts(bob.fence().await).len();
    assert!((10..SENT / 2).contains(&come), "{come} of {SENT} came");
}

/// It goes to another domain over the link, and comes from there.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_another_domain_and_comes_from_there() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let server = &domains["a.example"];
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::open_inbox(server, "alice").await;
    let sent = alice.done(volatile("x@evil.example", "typing")).await.outcome;
    assert_eq!(sent, Some(Outcome::Sent));
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!((&message.body[..], message.volatile), (&b"typing"[..], true));
    link.take(number).await;
    let reply = Message { volatile: true, ..evil.message("x", "alice@a.example", "too") };
    assert_eq!(link.deliver(reply).await, Outcome::Sent);
    let Command::Message(message) = alice.unsolicited().await else { panic!("no MESSAGE") };
    assert_eq!(&message.body[..], b"too");
    assert_eq!(alice.log().await, []);
}
