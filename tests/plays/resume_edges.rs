//! Resuming at its edges: what was missed, who comes together, what is over. The rule is in
//! `resume`: faults C9, C11, E2.

use std::net::Ipv4Addr;

use impp_protocol::command::{ByeReason, Ping, Request};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::{Code, Command, DeviceId, What};
use impp_tests::Server;
use impp_tests::cable::Cable;
use impp_tests::dice::Dice;
use impp_tests::peer::{Held, Peer, message, publish, subscribe};
use impp_tests::wire::{Dial, Wire, hello};

use crate::corpus;

/// Resumes on a new connection.
async fn resume(server: &Server, held: &Held) -> Result<Peer, Code> {
    let resumed = Peer::resume(Wire::dial(server).await, held).await;
    resumed.map_err(|error| error.code)
}

/// What a resumed session followed, it follows, from where it was: one round trip, no password, and
/// what changed meanwhile comes once.
#[tokio::test]
async fn r3_2_3_a_resumed_session_gets_what_it_missed() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.done(subscribe("bob@localhost", What::Presence)).await;
    alice.done(subscribe("alice@localhost", What::Log)).await;
    alice.notify().await;
    alice.so_far().await;
    let held = alice.held();
    alice.cut();
    let note =
        |text: &str| publish("bob@localhost", What::Presence, Some(corpus::note(text).encode()));
    bob.done(note("not the last")).await;
    bob.done(note("the last")).await;
    bob.send("alice@localhost", "while you were away").await;
    let mut alice = resume(&server, &held).await.unwrap();
    // Where it is in the log, the client says.
    alice.done(subscribe("alice@localhost", What::Log)).await;
    let (mut presence, mut log) = (Vec::new(), Vec::new());
    while presence.is_empty() || log.is_empty() {
        let notify = alice.notify().await;
        let content = notify.snapshot.or(notify.patch).unwrap();
        if notify.what == What::Log { log.push(content) } else { presence.push(content) }
    }
    let again = alice.so_far().await;
    assert_eq!(again, vec![], "told twice");
    assert!(presence[0].windows(8).any(|bytes| bytes == b"the last"), "{presence:?}");
    assert!(log[0].windows(19).any(|bytes| bytes == b"while you were away"));
    // And it goes on: the next change comes too.
    bob.done(note("one more")).await;
    let notify = alice.notify().await;
    assert!(notify.patch.unwrap().windows(8).any(|bytes| bytes == b"one more"));
}

/// Of many who come at once with one ticket, one has the session in the end; from the others it was
/// taken again, if they had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c9_of_many_with_one_ticket_one_has_the_session_in_the_end() {
    let server = Server::quickstart();
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    alice.cut();
    let mut wires = Vec::new();
    for _ in 0..16 {
        wires.push(Wire::dial(&server).await);
    }
    let come = |wire| {
        let held = held.clone();
        tokio::spawn(async move { Peer::resume(wire, &held).await })
    };
    let tasks: Vec<_> = wires.into_iter().map(come).collect();
    let mut resumed = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(peer) => resumed.push(peer),
            Err(error) => assert_eq!(error.code, Code::Expired),
        }
    }
    let mut having = 0;
    for peer in resumed {
        let (number, mut wire) = peer.into_wire();
        wire.send(number, Ping::empty()).await;
        having += loop {
            match wire.frame().await.map(|frame| Request::decode(frame).unwrap().command) {
                Some(Command::Ok(_)) => break 1,
                Some(Command::Bye(bye)) => {
                    assert_eq!(bye.reason, ByeReason::Replaced);
                    break 0;
                }
                Some(_) => {}
                None => break 0,
            }
        };
    }
    assert_eq!(having, 1, "connections that have the session");
    assert_eq!(server.metrics().get("impp_sessions"), 1.0);
}

/// A resumption that is cut anywhere, with its answer lost or without, costs no session: the ticket that
/// the client holds is good again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_resumption_that_is_cut_anywhere_is_made_again() {
    let server = Server::quickstart();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let dial = Dial::new(cable.address(), &server.trust());
    let carried = || cable.bytes().0 + cable.bytes().1;
    let alice = Peer::sign_in(&server, "alice").await;
    let mut held = alice.held();
    alice.cut();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let (mut dice, mut whole) = (Dice::new(4), 0);
    for n in 0..CUTS {
        let before = carried();
        if whole > 0 {
            cable.cut_after(dice.roll(whole) as u64);
        }
        let resumed = match dial.connect().await {
            Ok(wire) => Peer::resume(wire, &held).await.map_err(|error| error.code),
            Err(_) => Err(Code::Unreachable),
        };
        cable.plug();
        match resumed {
            Ok(mut alice) => {
                held = alice.held();
                if whole == 0 {
                    whole = (carried() - before) as usize;
                    alice.done(subscribe("alice@localhost", What::Log)).await;
                    held = alice.held();
                }
                alice.cut();
            }
            Err(code) => assert_eq!(code, Code::Unreachable, "at cut {n}"),
        }
        bob.send("alice@localhost", &n.to_string()).await;
    }
    let mut alice = resume(&server, &held).await.unwrap();
    let texts = alice.inbox().await.into_iter().map(|message| message.body);
    let texts: Vec<_> = texts.map(|body| String::from_utf8(body.to_vec()).unwrap()).collect();
    assert_eq!(texts, (0..CUTS).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(server.metrics().get("impp_sessions"), 2.0, "alice's and bob's");
}

/// Places at which a resumption is cut.
const CUTS: usize = 100;

/// Proofs that are forged, cut or stretched resume nothing, and break nothing.
#[tokio::test]
async fn c9_a_forged_proof_resumes_nothing() {
    let server = Server::quickstart();
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    alice.cut();
    for length in [0, 1, 31, 32, 33, 64, 2000] {
        let (mut wire, _) = Wire::greeted(&server).await;
        let mut proof = held.ticket.client_proof(&wire.exporter()).to_vec();
        proof.resize(length, 0);
        if length == 32 {
            proof[31] ^= 1;
        }
        wire.send(1, held.auth(proof)).await;
        match wire.next().await.command {
            Command::Error(error) => assert_eq!(error.code, Code::Expired, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
    resume(&server, &held).await.unwrap().done(Ping::empty()).await;
}

/// A session is its account's and its device's: with another's, with no ticket, with a proof made
/// for another connection, before HELLO, nobody gets it, and who has it keeps it.
#[tokio::test]
async fn c11_a_session_cannot_be_stolen() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let bob = Peer::sign_in(&server, "bob").await;
    let (of_alice, of_bob) = (alice.held(), bob.held());
    // Alice's session with a secret that bob knows, from his device and from hers.
    let known = of_bob.ticket.encode()[16..].try_into().unwrap();
    let ticket = Ticket::new(of_alice.ticket.session(), known);
    let stolen = Held { ticket: ticket.clone(), ..of_bob.clone() };
    assert_eq!(resume(&server, &stolen).await.unwrap_err(), Code::Expired);
    let stolen = Held { ticket, ..of_alice.clone() };
    assert_eq!(resume(&server, &stolen).await.unwrap_err(), Code::Expired);
    // The right ticket on another device.
    let moved = Held { device: DeviceId([9; 16]), ..of_alice.clone() };
    assert_eq!(resume(&server, &moved).await.unwrap_err(), Code::Expired);
    // A proof that was overheard.
    let (other, mut wire) = (Wire::dial(&server).await, Wire::dial(&server).await);
    wire.send(0, hello()).await;
    wire.hello().await;
    let proof = of_alice.ticket.client_proof(&other.exporter());
    wire.send(1, of_alice.auth(proof.to_vec())).await;
    match wire.next().await.command {
        Command::Error(error) => assert_eq!(error.code, Code::Expired),
        other => panic!("{other:?}"),
    }
    // Before HELLO.
    let mut wire = Wire::dial(&server).await;
    let proof = of_alice.ticket.client_proof(&wire.exporter());
    wire.send(1, of_alice.auth(proof.to_vec())).await;
    assert_eq!(wire.ending().await.code(), Code::WrongState);
    alice.done(Ping::empty()).await;
}

/// A session does not outlive its window, nor a BYE of its client, nor the server's process.
#[tokio::test]
async fn c9_a_session_that_is_over_cannot_be_resumed() {
    let mut server = Server::with().set("times.resume_window_seconds", 1).start();
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    alice.leave().await;
    assert_eq!(resume(&server, &held).await.unwrap_err(), Code::Expired);
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    alice.cut();
    impp_tests::eventually("the window to end", async || {
        (server.metrics().get("impp_sessions") == 0.0).then_some(())
    })
    .await;
    assert_eq!(resume(&server, &held).await.unwrap_err(), Code::Expired);
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    server.kill9();
    server.restart();
    assert_eq!(resume(&server, &held).await.unwrap_err(), Code::Expired);
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

/// A message whose answer was lost with the connection is asked for again on the resumed session,
/// and is there once.
#[tokio::test]
async fn e2_a_repeat_after_resuming_is_delivered_once() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..20 {
        let message = message("bob@localhost", &n.to_string());
        alice.ask(message.clone()).await;
        let held = alice.held();
        alice.cut_with(n % 2 == 0);
        alice = resume(&server, &held).await.unwrap();
        alice.done(message).await;
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    let numbers: Vec<_> = inbox.iter().map(|m| String::from_utf8(m.body.to_vec())).collect();
    assert_eq!(numbers, (0..20).map(|n: i32| Ok(n.to_string())).collect::<Vec<_>>());
}
