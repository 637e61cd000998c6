//! Requests that wait for the disk: the connection goes on meanwhile, and what came behind them has its
//! turn.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Ack, Ping, Publish, Subscribe};
use impp_protocol::state::{self, Contact, ContactEdit, Decision, Grant, RequestEdit};
use impp_protocol::{Address, Command, What};
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::presence::{layer, open};
use impp_tests::trace::Trace;
use impp_tests::wire::Dial;
use impp_tests::{Server, eventually};

/// What dave sends waits for a decision.
const HELD: &str = "[[delivery]]\nid = \"dave\"\nwho = [\"dave@localhost\"]\naction = \"hold\"\n";

const LEASE: Option<Duration> = Some(Duration::from_secs(3600));

/// Alice notes a contact.
fn contact(address: &str) -> Command {
    let contact = Contact {
        address: Address::parse(address).unwrap(),
        name: None,
        groups: Vec::new(),
        follow: false,
        grant: Grant::Status.into(),
        subscription: None,
    };
    let edit = state::encode(&ContactEdit::set(contact));
    publish("alice@localhost", What::Contacts, Some(edit)).into()
}

/// What of alice's waits for the disk, each by a name.
async fn requests(alice: &mut Peer) -> Vec<(&'static str, Command)> {
    let own = "alice@localhost";
    let base = alice.done(fetch(own, What::Rules)).await.number;
    let rules = publish(own, What::Rules, Some(Bytes::from_static(b"# none")));
    let from = Address::parse("dave@localhost").unwrap();
    let allow = RequestEdit::of(from, Decision::Allow);
    let status = publish(own, What::Presence, Some(layer(&open("here"))));
    let cursor = alice.log().await.pop().unwrap().cursor;
    vec![
        ("publish", Publish { lease: LEASE, ..status }.into()),
        ("rules", Publish { base, ..rules }.into()),
        ("contacts", contact("carol@localhost")),
        ("requests", publish(own, What::Requests, Some(state::encode(&allow))).into()),
        ("follow", Subscribe { lease: LEASE, ..subscribe("bob@localhost", What::Presence) }.into()),
        ("message", message("bob@localhost", "hello").into()),
        ("ack", Ack { address: alice.address.clone(), cursor }.into()),
    ]
}

/// Behind each of them a PING is answered while the disk hangs; and when it does not any more, so are
/// they, and what was asked behind them saw what they did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_disk_is_told_that_the_server_is_there() {
    for number in 0..7 {
        let server = Server::quickstart();
        let mut alice = Peer::sign_in(&server, "alice").await;
        let mut bob = Peer::sign_in(&server, "bob").await;
        bob.send("alice@localhost", "something to acknowledge").await;
        server.add("dave");
        alice.set_rules(HELD).await;
        Peer::sign_in(&server, "dave").await.send("alice@localhost", "may I?").await;
        let (name, command) = requests(&mut alice).await.swap_remove(number);
        let Some(hangs) = Trace::hung_disk(&server) else { return };
        let asked = alice.ask(command).await;
        eventually(&format!("{name} to wait"), async || Trace::holds(&server)).await;
        let behind = alice.ask(fetch("alice@localhost", What::Contacts)).await;
        for _ in 0..3 {
            alice.done(Ping::empty()).await;
        }
        drop(hangs);
        alice.answer(asked).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let contacts = alice.answer(behind).await.unwrap().content.unwrap();
        if name == "contacts" {
            let found = contacts.windows(15).any(|part| part == b"carol@localhost");
            assert!(found, "what was asked behind the change does not see it");
        }
    }
}

/// Who asks and closes its side is answered all of it, in the order in which it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_request_is_done_although_the_client_has_gone() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let Some(hangs) = Trace::hung_disk(&server) else { return };
    alice.flight(["one", "two", "three"].map(|name| contact(&format!("{name}@localhost")))).await;
    eventually("the first to wait", async || Trace::holds(&server)).await;
    alice.cut();
    drop(hangs);
    let mut alice = Peer::sign_in_on(&server, "alice", 2).await;
    eventually("the last to be done", async || {
        let contacts = alice.done(fetch("alice@localhost", What::Contacts)).await.content?;
        contacts.windows(15).any(|part| part == b"three@localhost").then_some(())
    })
    .await;
}

/// A repeat waits for the first one, and the connection that has both lets the session go all the same when
/// it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_keeps_no_session_of_who_has_gone() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let Some(hangs) = Trace::hung_disk(&server) else { return };
    let said: Command = message("bob@localhost", "once").into();
    alice.flight([said.clone(), said]).await;
    eventually("the first to wait", async || Trace::holds(&server)).await;
    let held = alice.held();
    alice.cut();
    drop(hangs);
    eventually("the session to be let go", async || {
        let wire = Dial::to(&server).connect().await.ok()?;
        Peer::resume(wire, &held).await.ok()
    })
    .await;
}
