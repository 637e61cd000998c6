//! Held messages whose sender is decided about: all of them go where the decision says, in their order,
//! though the server is killed or the inbox is full in between. Deciding itself is in `delivery`.

use impp_protocol::command::Message;
use impp_protocol::state::{self, Decision, RequestEdit};
use impp_protocol::{Code, What};
use impp_tests::eventually;
use impp_tests::peer::{Peer, publish};
use impp_tests::presence::at_once;
use impp_tests::server::Server;
use impp_tests::trace::Trace;

const HOLD: &str = "[[delivery]]\nid = \"b\"\nwho = [\"bob@localhost\"]\naction = \"hold\"\n";

/// Alice, who is sent so many messages by bob and holds them.
async fn holding(server: &Server, messages: usize) -> (Peer, Peer) {
    server.add("bob");
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.set_rules(HOLD).await;
    let mut bob = Peer::sign_in(server, "bob").await;
    for n in 0..messages {
        bob.send("alice@localhost", &n.to_string()).await;
    }
    (alice, bob)
}

async fn decide(alice: &mut Peer, decision: Decision) -> u64 {
    let edit = RequestEdit::of("bob@localhost".parse().unwrap(), decision);
    alice.ask(publish("alice@localhost", What::Requests, Some(state::encode(&edit)))).await
}

async fn inbox(alice: &mut Peer) -> Vec<String> {
    let text = |message: Message| String::from_utf8(message.body.to_vec()).unwrap();
    alice.inbox().await.into_iter().map(text).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Waits until nothing waits for a decision.
async fn nothing_waits(alice: &mut Peer) {
    eventually("the rest to be moved", async || {
        alice.requests().await.entries.is_empty().then_some(())
    })
    .await;
}

/// Killed when it has stored the rule, or a part of the messages after it: at the next start the rest goes
/// where the rule says, and what comes meanwhile does not pass it.
#[tokio::test]
async fn g2_e14_a_kill_between_a_decision_and_its_messages_leaves_none_behind() {
    const MESSAGES: usize = 9;
    for decision in [Decision::Allow, Decision::Polite] {
        for sync in [2, 3, 6] {
            let mut server = at_once().no_rates().accounts(["alice"]).start();
            let (mut alice, _) = holding(&server, MESSAGES).await;
            let inject = format!("inject=fdatasync,fsync:signal=SIGKILL:when={sync}");
            let options = ["-e", "trace=fdatasync,fsync", "-e", &inject];
            let Some(trace) = Trace::attach(&server, &options) else { return };
            let asked = decide(&mut alice, decision).await;
            assert!(alice.try_answer(asked).await.is_none(), "it lives, killed at sync {sync}");
            server.ended();
            drop(trace);
            server.restart();
            let mut bob = Peer::sign_in(&server, "bob").await;
            bob.send("alice@localhost", &MESSAGES.to_string()).await;
            let mut alice = Peer::sign_in(&server, "alice").await;
            nothing_waits(&mut alice).await;
            let wanted = match decision {
                Decision::Allow => numbers(0..MESSAGES + 1),
                _ => vec![],
            };
            assert_eq!(inbox(&mut alice).await, wanted, "{decision:?}, killed at sync {sync}");
        }
    }
}

/// A full inbox stops the move; what comes then from that sender waits behind what is held, also after a
/// crash, and goes on into the inbox as that has room.
#[tokio::test]
async fn g2_e14_what_does_not_fit_the_inbox_comes_first_when_it_does() {
    let mut server = at_once().no_rates().accounts(["alice"]).set("inbox.items_max", 4).start();
    let (mut alice, mut bob) = holding(&server, 6).await;
    let asked = decide(&mut alice, Decision::Allow).await;
    assert_eq!(alice.answer(asked).await.unwrap_err().code, Code::Full);
    bob.send("alice@localhost", "6").await;
    assert_eq!(inbox(&mut alice).await, numbers(0..4));
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "7").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(inbox(&mut alice).await, numbers(0..4));
    alice.ack_all().await;
    nothing_waits(&mut alice).await;
    alice.ack_all().await;
    bob.send("alice@localhost", "8").await;
    assert_eq!(inbox(&mut alice).await, numbers(0..9));
}

/// What the owner's rules hold again by then stays held.
#[tokio::test]
async fn e14_what_is_decided_otherwise_meanwhile_stays_held() {
    let server = at_once().no_rates().accounts(["alice"]).set("inbox.items_max", 4).start();
    let (mut alice, _bob) = holding(&server, 6).await;
    let asked = decide(&mut alice, Decision::Allow).await;
    assert_eq!(alice.answer(asked).await.unwrap_err().code, Code::Full);
    alice.set_rules(HOLD).await;
    alice.ack_all().await;
    let asked = decide(&mut alice, Decision::Polite).await;
    alice.answer(asked).await.unwrap();
    assert_eq!(inbox(&mut alice).await, numbers(0..4));
    assert_eq!(alice.requests().await.entries, vec![]);
}
