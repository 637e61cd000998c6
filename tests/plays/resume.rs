//! A session outlives its connection: it is resumed without the password, by its ticket, on the
//! same device, until a newer one is used.

use bytes::BytesMut;
use impp_protocol::command::{Auth, Bye, ByeReason, Command, Done, Ping};
use impp_protocol::presence::{Document, Version};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::{Code, DeviceId, Error, SessionId, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, first_auth, subscribe};
use impp_tests::presence::{Watcher, open};
use impp_tests::server::Server;
use impp_tests::wire::{Wire, bytes_of, hello};

use crate::presence_leases::{alice_and_dave, brief};

/// The AUTH that resumes, over a new connection: HELLO and it in one flight.
async fn try_resume(server: &Server, change: impl Fn(&mut Auth), ticket: &Ticket) -> Resumed {
    let mut wire = Wire::dial(server).await;
    let exporter = wire.exporter();
    let mut auth = first_auth(&server.profile("alice"), 1, "", vec![]);
    auth.mechanism = None;
    auth.device_name = None;
    auth.resume = Some(ticket.session());
    auth.data = Some(ticket.client_proof(&exporter).to_vec().into());
    change(&mut auth);
    let mut flight: BytesMut = bytes_of(0, hello());
    flight.extend(bytes_of(1, auth));
    wire.write(&flight).await;
    wire.hello().await;
    match wire.next().await.command {
        Command::Ok(done) => {
            let proof = done.data.clone().expect("the server's proof");
            assert!(ticket.is_proven_by_server(&exporter, &proof));
            Ok((wire, done))
        }
        Command::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

type Resumed = Result<(Wire, Done), Error>;

fn ticket_of(done: &Done) -> Ticket {
    Ticket::decode(done.resume.as_deref().expect("a ticket")).expect("48 octets")
}

async fn following(server: &Server) -> (Peer, Ticket) {
    let mut alice = Peer::sign_in_on(server, "alice", 1).await;
    alice.done(subscribe("bob@localhost", What::Presence)).await;
    alice.notify().await;
    let ticket = ticket_of(&alice.welcome);
    (alice, ticket)
}

/// What was followed comes again over the new connection, with nothing asked, and no password.
#[tokio::test]
async fn d_5_4_7_2_a_new_connection_goes_on_with_the_session() {
    let server = Server::quickstart();
    let (alice, ticket) = following(&server).await;
    alice.cut();
    let bob = Impp::of(&server, "bob").run(&["status", "set", "open", "--note", "back"]);
    assert_eq!(bob.code, 0, "{bob:?}");
    let (mut wire, done) = try_resume(&server, |_| (), &ticket).await.expect("resumed");
    assert!(done.resumed);
    let Command::Notify(notify) = wire.next().await.command else { panic!("expected NOTIFY") };
    assert_eq!(notify.address.as_str(), "bob@localhost");
    let snapshot = notify.snapshot.expect("a snapshot");
    assert_eq!(notify.version, Some(Version::of(&snapshot)));
    assert!(snapshot.windows(4).any(|bytes| bytes == b"back"));
    let sign_ins = server.metrics();
    assert_eq!(sign_ins.get("impp_sign_ins_total{mechanism=\"resume\",result=\"ok\"}"), 1.0);
}

/// A session whose connection still stands is taken from it; that one is told.
#[tokio::test]
async fn d_5_5_3_a_session_moves_from_a_connection_that_still_stands() {
    let server = Server::quickstart();
    let (alice, ticket) = following(&server).await;
    let (mut wire, done) = try_resume(&server, |_| (), &ticket).await.expect("resumed");
    assert!(done.resumed);
    let ending = alice.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Replaced));
    wire.send(2, Ping::empty()).await;
    loop {
        match wire.next().await.command {
            Command::Ok(_) => break,
            Command::Notify(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A BYE with a number is a breach: it ends the connection, and the session can be resumed as after
/// any other.
#[tokio::test]
async fn a_session_stays_after_a_goodbye_that_is_none() {
    let server = Server::quickstart();
    let (mut alice, ticket) = following(&server).await;
    let bye = Bye { reason: ByeReason::Done, text: None, retry_after: None, server: None };
    alice.wire().send(9, bye).await;
    let ending = alice.ending().await;
    assert_eq!(ending.code(), Code::Malformed);
    try_resume(&server, |_| (), &ticket).await.expect("resumed");
}

/// A ticket is good until one that came for it is used: an answer may be lost. The others that came for
/// it die with it.
#[tokio::test]
async fn c9_e4_a_ticket_dies_when_its_successor_is_used() {
    let server = Server::quickstart();
    let (alice, ticket) = following(&server).await;
    alice.cut();
    let mut successors = Vec::new();
    for _ in 0..2 {
        // As far as the client knows, the answer was lost.
        let (wire, done) = try_resume(&server, |_| (), &ticket).await.expect("resumed");
        wire.cut(false);
        successors.push(ticket_of(&done));
    }
    let (wire, done) = try_resume(&server, |_| (), &successors[1]).await.expect("resumed");
    wire.cut(false);
    for dead in [&ticket, &successors[0]] {
        let error = try_resume(&server, |_| (), dead).await.expect_err("dead");
        assert_eq!(error.code, Code::Expired);
    }
    try_resume(&server, |_| (), &ticket_of(&done)).await.expect("the newest one");
}

/// Whoever has the id but not the secret, or another device, gets the answer of a session that is
/// gone; and the session stays.
#[tokio::test]
async fn c11_nobody_resumes_anothers_session() {
    let server = Server::quickstart();
    let (alice, ticket) = following(&server).await;
    alice.cut();
    let gone = try_resume(&server, |_| (), &Ticket::new(SessionId([7; 16]), [7; 32]))
        .await
        .expect_err("gone");
    assert_eq!(gone.code, Code::Expired);
    let guessed = Ticket::new(ticket.session(), [0; 32]);
    let attempts: [(&str, Resumed); 4] = [
        ("secret", try_resume(&server, |_| (), &guessed).await),
        (
            "device",
            try_resume(&server, |auth| auth.device = Some(DeviceId([9; 16])), &ticket).await,
        ),
        ("short", try_resume(&server, |auth| cut_data(auth, 31), &ticket).await),
        ("none", try_resume(&server, |auth| cut_data(auth, 0), &ticket).await),
    ];
    for (what, attempt) in attempts {
        assert_eq!(attempt.expect_err(what), gone, "{what}");
    }
    try_resume(&server, |_| (), &ticket).await.expect("still there");
}

fn cut_data(auth: &mut Auth, length: usize) {
    auth.data = auth.data.as_ref().map(|data| data.slice(..length));
}

/// A proof of one connection is worth nothing on another.
#[tokio::test]
async fn c6_a_resumption_is_bound_to_its_connection() {
    let server = Server::quickstart();
    let (alice, ticket) = following(&server).await;
    alice.cut();
    let other = Wire::dial(&server).await;
    let proof = ticket.client_proof(&other.exporter());
    let replay = |auth: &mut Auth| auth.data = Some(proof.to_vec().into());
    assert_eq!(try_resume(&server, replay, &ticket).await.expect_err("bound").code, Code::Expired);
}

/// After the account was disabled, or its password changed, no ticket is good.
#[tokio::test]
async fn c10_revocation_ends_tickets() {
    for act in ["passwd", "disable", "remove"] {
        let server = Server::quickstart();
        let (alice, ticket) = following(&server).await;
        alice.cut();
        server.user_ok(&[act, "alice@localhost"]);
        let error = try_resume(&server, |_| (), &ticket).await.expect_err(act);
        assert_eq!(error.code, Code::Expired, "{act}");
    }
}

/// A layer that ended while its session had no connection is said to have ended, with each resumption
/// until the client has published again; one that is still there, or was taken back, is not.
#[tokio::test]
async fn e4_a_resumption_says_that_the_layer_has_ended() {
    let server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    alice.show(&open("here")).await;
    dave.until_note("here").await;
    let resume = async |alice: Peer, gone: Option<&mut Watcher>| {
        let held = alice.held();
        alice.cut();
        if let Some(watcher) = gone {
            watcher.until(|held| held.document() == &Document::offline()).await;
        }
        Peer::resume(Wire::dial(&server).await, &held).await.expect("resumed")
    };
    let mut alice = resume(alice, Some(&mut dave)).await;
    assert!(alice.welcome.layer_ended, "{:?}", alice.welcome);
    let gone = alice.refused(fetch("alice@localhost", What::Layer)).await;
    assert_eq!(gone, Code::NotFound);
    // Whoever has heard of it and not published yet is told again.
    let mut alice = resume(alice, None).await;
    assert!(alice.welcome.layer_ended, "{:?}", alice.welcome);
    alice.show(&open("again")).await;
    dave.until_note("again").await;
    // What a lease keeps goes on without a connection.
    alice.show_for(&open("leased"), 3000).await.expect("a lease");
    let mut alice = resume(alice, None).await;
    assert!(!alice.welcome.layer_ended, "{:?}", alice.welcome);
    alice.hide().await;
    let alice = resume(alice, Some(&mut dave)).await;
    assert!(!alice.welcome.layer_ended, "{:?}", alice.welcome);
}

/// Who comes back within the grace finds the layer, and is told of no end.
#[tokio::test]
async fn a_resumption_within_the_grace_finds_the_layer() {
    let server = brief().set("times.grace_seconds", 3000).start();
    let (mut alice, _) = alice_and_dave(&server).await;
    alice.show(&open("here")).await;
    let held = alice.held();
    alice.cut();
    let mut alice = Peer::resume(Wire::dial(&server).await, &held).await.expect("resumed");
    assert!(!alice.welcome.layer_ended, "{:?}", alice.welcome);
    alice.done(fetch("alice@localhost", What::Layer)).await;
}
