//! A request whose answer is lost with its connection is asked again on the resumed session, under its
//! number, and is done once.

use std::net::Ipv4Addr;

use impp_protocol::command::{Ping, Publish, REPEATS};
use impp_protocol::{Code, What};
use impp_tests::cable::Cable;
use impp_tests::impp::Impp;
use impp_tests::peer::{Held, Peer, fetch, message, publish};
use impp_tests::trace::Trace;
use impp_tests::wire::Wire;
use impp_tests::{Server, eventually};

use crate::outbox::through;

const ALICE: &str = "alice@localhost";

/// Goes on with a session by whose numbers repeats are known.
async fn go_on(server: &Server, held: &Held) -> Peer {
    let wire = Wire::dial(server).await;
    let resumed = Peer::resume_by(wire, held, |hello, _| hello.features = vec![REPEATS.to_owned()]);
    resumed.await.unwrap()
}

async fn alice(server: &Server) -> Peer {
    let alice = Peer::sign_in(server, "alice").await;
    let held = alice.held();
    alice.cut();
    go_on(server, &held).await
}

/// Rules that replace those of one number and no others.
fn rules(n: usize, base: u64) -> Publish {
    let text =
        format!("[[rule]]\nid = \"r{n}\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n");
    Publish { base: Some(base), ..publish(ALICE, What::Rules, Some(text.into())) }
}

/// Done twice, a change that names what it was made on would be a conflict with itself.
#[tokio::test]
async fn e2_e4_a_change_whose_answer_is_lost_is_done_once() {
    let server = Server::with().no_rates().start();
    let mut alice = alice(&server).await;
    let mut base = alice.done(fetch(ALICE, What::Rules)).await.number.unwrap();
    for n in 0..20 {
        let change = rules(n, base);
        let number = alice.ask(change.clone()).await;
        let held = Held { next: number, ..alice.held() };
        alice.cut_with(n % 2 == 0);
        alice = go_on(&server, &held).await;
        let after = alice.done(change).await.number.unwrap();
        assert!(after > base);
        base = after;
    }
}

/// A number is one request's; what the client has is not kept; what only reads is done again.
#[tokio::test]
async fn e2_a_number_is_of_one_request_and_its_answer_kept_until_it_has_come() {
    let server = Server::quickstart();
    let mut alice = alice(&server).await;
    let base = alice.done(fetch(ALICE, What::Rules)).await.number.unwrap();
    let number = alice.ask(rules(1, base)).await;
    let first = alice.answer(number).await.unwrap();
    alice.wire().send(number, rules(1, base)).await;
    assert_eq!(alice.answer(number).await.unwrap(), first);
    alice.wire().send(number, rules(2, base)).await;
    assert_eq!(alice.answer(number).await.unwrap_err().code, Code::Conflict);
    alice.done(Ping { answered: Some(number) }).await;
    alice.wire().send(number, rules(1, base)).await;
    let forgotten = alice.answer(number).await.unwrap_err();
    // It is the number that is meant, and not a message's id.
    assert!(forgotten.code == Code::OutOfWindow && forgotten.forgotten, "{forgotten:?}");
    alice.wire().send(number, fetch(ALICE, What::Rules)).await;
    let read = alice.answer(number).await.unwrap();
    assert_eq!(read.number, first.number);
}

/// What is asked again while it is under way is done once, and both are answered alike; a PING that is
/// answered meanwhile, and says that the client has all answers, changes nothing of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_what_is_asked_again_while_it_is_under_way_is_answered_with_it() {
    let server = Server::quickstart();
    let mut alice = alice(&server).await;
    let Some(hangs) = Trace::hung_disk(&server) else { return };
    let said = message("bob@localhost", "once");
    let number = alice.ask(said.clone()).await;
    eventually("it to wait", async || Trace::holds(&server)).await;
    alice.done(Ping { answered: Some(number) }).await;
    alice.wire().send(number, said).await;
    alice.done(Ping::empty()).await;
    drop(hangs);
    let first = alice.answer(number).await.unwrap();
    assert_eq!(alice.answer(number).await.unwrap(), first);
}

/// `impp` asks again on the session that goes on: an edit whose connection is cut anywhere behind the
/// sign-in is done, once, and never in conflict with itself.
#[tokio::test(flavor = "multi_thread")]
async fn e2_e4_an_edit_by_impp_is_done_once_wherever_it_is_cut() {
    let server = Server::quickstart();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let alice = Impp::with_profile(&through(&server, "alice", &cable));
    let file = server.data().join("edit.toml");
    let text = |n: u64| {
        format!("[[rule]]\nid = \"r{n}\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n")
    };
    let edit = |n: u64| {
        std::fs::write(&file, text(n)).unwrap();
        alice.run(&["rules", "set", file.to_str().unwrap()])
    };
    // The first time makes the device and takes longer.
    assert_eq!(edit(0).code, 0);
    let carried = || cable.bytes().0 + cable.bytes().1;
    let before = carried();
    assert_eq!(edit(0).code, 0);
    let whole = carried() - before;
    for part in 1..=CUTS {
        cable.cut_after(whole * part / CUTS);
        let ran = edit(part);
        cable.plug();
        let shown = alice.run(&["rules", "show"]).one();
        match ran.code {
            0 => assert_eq!(shown["rule"][0]["id"], format!("r{part}"), "{shown}"),
            // It was not reached at all, or nobody knows.
            code => assert_eq!(code, 3, "{part}: {ran:?}"),
        }
    }
    let resumed = server.metrics().get("impp_sign_ins_total{mechanism=\"resume\",result=\"ok\"}");
    assert!(resumed >= 1.0, "no cut was behind the sign-in");
}

/// Places at which the connection is cut.
const CUTS: u64 = 24;
