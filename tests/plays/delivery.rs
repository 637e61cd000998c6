//! Who may write: delivery rules (2.3.5) - accept, hold, refuse, drop, rates - and blocks (5.4.10).

use impp_protocol::command::{Done, Message, Outcome, Ping};
use impp_protocol::state::{
    self, Decision, Fate, ItemKind, RequestEdit, RequestKind, SubscriptionState,
};
use impp_protocol::{Code, Command, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::presence::at_once;
use impp_tests::trace::Trace;
use impp_tests::{Server, eventually};

use crate::rules::{ALL, rule, strangers};

/// A rule about messages of one account of the domain.
fn delivery(who: &str, action: &str) -> String {
    format!("[[delivery]]\nid = \"{who}\"\nwho = [\"{who}@localhost\"]\naction = \"{action}\"\n")
}

/// What the sender keeps of a message: its own copy, and its fate.
async fn sent(peer: &mut Peer) -> Vec<(ItemKind, Option<Fate>)> {
    let log = peer.log().await;
    log.into_iter().map(|item| (item.kind, item.fate.map(|report| report.fate))).collect()
}

/// Accept: the message is in the inbox, and nobody has to decide.
#[tokio::test]
async fn r2_3_5_accept_puts_it_into_the_inbox() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "accept")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.send("alice@localhost", "accepted").await, Outcome::Delivered);
    assert_eq!(alice.inbox().await[0].body, "accepted");
    assert_eq!(alice.requests().await.entries, vec![]);
}

/// Hold: the message waits outside of the inbox for the owner's word, through kill -9 as well. An
/// allow releases all of that sender's in their order, and lets the next ones in.
#[tokio::test]
async fn r2_3_5_hold_waits_and_an_allow_releases() {
    let mut server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(delivery("bob", "hold") + &delivery("carol", "hold"))).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    alice.done(subscribe("alice@localhost", What::Log)).await;
    for n in 0..3 {
        bob.send("alice@localhost", &format!("held {n}")).await;
        carol.send("alice@localhost", "of carol").await;
    }
    assert_eq!(alice.fence().await, vec![]);
    assert_eq!(alice.log().await, vec![]);
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let listed = Impp::of(&server, "alice").run(&["requests", "list"]);
    assert_eq!((listed.code, listed.objects.len()), (0, 2), "{listed:?}");
    for (request, from) in listed.objects.iter().zip(["bob@localhost", "carol@localhost"]) {
        assert_eq!((&request["kind"], &request["from"]), (&"message".into(), &from.into()));
    }
    alice.done(subscribe("alice@localhost", What::Log)).await;
    let allowed = Impp::of(&server, "alice").run(&["requests", "allow", "bob@localhost"]);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["held 0", "held 1", "held 2"]);
    assert_eq!(alice.notify().await.what, What::Log);
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "at once").await;
    assert_eq!(alice.inbox().await[3].body, "at once");
    let waiting = alice.requests().await.entries;
    assert_eq!((waiting.len(), waiting[0].kind), (1, RequestKind::Message));
}

/// A denied message goes, and the next one of that sender is refused.
#[tokio::test]
async fn r2_3_5_a_denied_message_goes() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "hold")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "held").await;
    let denied = Impp::of(&server, "alice").run(&["requests", "deny", "bob@localhost"]);
    assert_eq!(denied.code, 0, "{denied:?}");
    assert_eq!(alice.requests().await.entries, vec![]);
    assert_eq!(alice.log().await, vec![]);
    assert_eq!(bob.refused(message("alice@localhost", "again")).await, Code::Refused);
    alice.set_rules(&delivery("bob", "accept")).await;
    bob.send("alice@localhost", "after all").await;
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["after all"], "what was denied does not come back");
}

/// Refuse: the sender is told so, by the recipient's word; nothing is stored on either side.
#[tokio::test]
async fn r2_3_5_refuse_is_told_to_the_sender() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(delivery("bob", "refuse") + &delivery("carol", "accept"))).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let error = bob.request(message("alice@localhost", "?")).await.unwrap_err();
    assert_eq!((error.code, error.by), (Code::Refused, impp_protocol::By::Recipient));
    assert_eq!(sent(&mut bob).await, vec![]);
    assert_eq!(alice.log().await, vec![]);
    assert_eq!(alice.requests().await.entries, vec![]);
    let ran = Impp::of(&server, "bob").run(&["send", "alice@localhost", "?"]);
    assert!(ran.code == 1 && ran.stderr.contains("\"by\":\"recipient\""), "{ran:?}");
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.send("alice@localhost", "others may").await;
    // Nor does one that is not to be stored pass.
    let volatile = Message { volatile: true, ..message("alice@localhost", "typing") };
    assert_eq!(bob.refused(volatile).await, Code::Refused);
}

/// Accepted, held and dropped are alike to the sender, in the answer and in the log, for stored
/// messages and for others; the owner gets the accepted one alone.
#[tokio::test]
async fn d9_r2_3_5_drop_is_silent_and_the_sender_cannot_tell() {
    let server = strangers(&["anna", "drop", "hold"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = delivery("anna", "accept") + &delivery("hold", "hold") + &delivery("drop", "drop");
    alice.set_rules(&rules).await;
    let mut seen = Vec::new();
    for name in ["anna", "hold", "drop"] {
        let mut peer = Peer::sign_in(&server, name).await;
        let first = message("alice@localhost", name);
        let Done { outcome, time, .. } = peer.done(first.clone()).await;
        assert!(time.is_some());
        // A repeat of it, and the same id with another body.
        let repeat = peer.done(first.clone()).await;
        let body = bytes::Bytes::from_static(b"another");
        let other = Message { body, ..first.clone() };
        let conflict = peer.refused(other).await;
        let volatile = Message { volatile: true, ..message("alice@localhost", name) };
        let passed = peer.done(volatile).await.outcome;
        let mut done = repeat;
        done.time = None;
        seen.push((outcome, done, conflict, passed, sent(&mut peer).await));
    }
    assert_eq!(seen[0], seen[1], "accepted left, held right");
    assert_eq!(seen[0], seen[2], "accepted left, dropped right");
    assert_eq!(seen[0].4, [(ItemKind::Sent, None), (ItemKind::Fate, Some(Fate::Delivered))]);
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["anna"]);
    let waiting: Vec<_> = alice.requests().await.entries.into_iter().map(|e| e.from).collect();
    assert_eq!(waiting, ["hold@localhost".parse().unwrap()]);
}

/// Rules may name a domain, everybody but some, the contacts; without a rule nobody may write but
/// the owner.
#[tokio::test]
async fn r2_3_5_senders_are_named_in_many_ways() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let contact = state::Contact {
        address: bob.address.clone(),
        name: None,
        groups: vec![],
        follow: false,
        grant: state::Grant::Status.into(),
        subscription: None,
    };
    alice.edit_contacts(&state::ContactEdit::set(contact)).await;
    let cases = [
        ("", [false, false]),
        ("who = [\"domain:localhost\"]", [true, true]),
        ("who = [\"domain:host\"]", [false, false]),
        ("who = [\"anyone\"]\nexcept = [\"carol@localhost\"]", [true, false]),
        ("who = [\"authenticated\"]", [true, true]),
        ("who = [\"anonymous\"]", [false, false]),
        ("who = [\"contacts\"]", [true, false]),
        (
            "who = [\"anyone\"]\nvalid = [\"2020-01-01T00:00:00Z/2021-01-01T00:00:00Z\"]",
            [false, false],
        ),
    ];
    for (who, expected) in cases {
        let rule = format!("[[delivery]]\nid = \"x\"\n{who}\naction = \"accept\"\n");
        alice.set_rules(if who.is_empty() { "" } else { &rule }).await;
        for (peer, accepted) in [&mut bob, &mut carol].into_iter().zip(expected) {
            let answer = peer.request(message("alice@localhost", who)).await;
            assert_eq!(answer.is_ok(), accepted, "{} and {who:?}: {answer:?}", peer.address);
        }
        alice.send("alice@localhost", "to myself").await;
    }
}

/// A rule may say how many messages a sender may send in a while: the next one is told to wait,
/// others have their own number, and an allow without a rate lifts it.
#[tokio::test]
async fn r2_3_5_a_rate_bounds_each_sender() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let limited = "[[delivery]]\nid = \"slow\"\nwho = [\"anyone\"]\naction = \"accept\"\n\
                   rate = \"3/hour\"\n";
    alice.set_rules(limited).await;
    for name in ["bob", "carol"] {
        let mut peer = Peer::sign_in(&server, name).await;
        for _ in 0..3 {
            peer.send("alice@localhost", name).await;
        }
        let error = peer.request(message("alice@localhost", "too many")).await.unwrap_err();
        assert_eq!((error.code, error.by), (Code::RateLimited, impp_protocol::By::Recipient));
        let wait = error.retry_after.expect("when to try again").as_secs();
        assert!((3000..=3600).contains(&wait), "{wait} s");
    }
    assert_eq!(alice.inbox().await.len(), 6);
    alice.set_rules(&(limited.to_owned() + &delivery("bob", "accept"))).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.send("alice@localhost", "without a rate").await;
    assert_eq!(alice.inbox().await.len(), 7);
}

/// Held messages have a limit: who comes later is told that there is no room, and nothing that
/// waits is lost.
#[tokio::test]
async fn r2_3_5_held_messages_are_bounded() {
    let server = at_once().accounts(["alice"]).set("limits.pending_max", 3).start();
    server.add("bob");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "hold")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for n in 0..3 {
        bob.send("alice@localhost", &n.to_string()).await;
    }
    let error = bob.request(message("alice@localhost", "3")).await.unwrap_err();
    assert_eq!((error.code, error.by), (Code::Full, impp_protocol::By::Recipient));
    let allow = RequestEdit::of(bob.address.clone(), Decision::Allow);
    alice.done(publish("alice@localhost", What::Requests, Some(state::encode(&allow)))).await;
    bob.send("alice@localhost", "3").await;
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["0", "1", "2", "3"]);
}

/// Held messages come into the inbox in the order in which they were sent, whatever their ids.
#[tokio::test]
async fn e14_held_messages_come_in_their_order() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "hold")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let texts = ["first", "second", "third", "fourth"];
    let mut messages = texts.map(|text| message("alice@localhost", text));
    // The first has the highest id.
    let mut ids = messages.each_ref().map(|message| message.id);
    ids.sort_by(|a, b| b.cmp(a));
    for (message, id) in messages.iter_mut().zip(ids) {
        message.id = id;
        bob.done(message.clone()).await;
    }
    let allow = RequestEdit::of(bob.address.clone(), Decision::Allow);
    alice.done(publish("alice@localhost", What::Requests, Some(state::encode(&allow)))).await;
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, texts);
}

/// What comes while held messages are moved into the inbox does not pass them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_nothing_passes_held_messages_that_are_moved() {
    const MESSAGES: usize = 300;
    let server = at_once().accounts(["alice"]).set("limits.pending_max", 2000).start();
    server.add("bob");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "hold")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let allow = RequestEdit::of(bob.address.clone(), Decision::Allow);
    let (half, halfway) = tokio::sync::oneshot::channel();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES / 2 {
            bob.send("alice@localhost", &n.to_string()).await;
        }
        half.send(()).unwrap();
        for n in MESSAGES / 2..MESSAGES {
            bob.send("alice@localhost", &n.to_string()).await;
        }
    });
    halfway.await.unwrap();
    alice.done(publish("alice@localhost", What::Requests, Some(state::encode(&allow)))).await;
    sending.await.unwrap();
    let wanted: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    let bodies = eventually("all of them", async || {
        let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
        (bodies.len() == MESSAGES).then_some(bodies)
    });
    assert_eq!(bodies.await, wanted);
    assert_eq!(alice.requests().await.entries, vec![]);
}

/// A message that is judged while its sender is decided about, and is on its way to the disk, does not
/// stay behind as a new request: it is dealt with as decided, and so is the next one.
#[tokio::test]
async fn r2_3_5_what_is_judged_while_rules_change_is_decided_about_too() {
    let server = Server::quickstart();
    server.add("dave");
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = "[[rule]]\nid = \"ask\"\nwho = [\"dave@localhost\"]\nhandling = \"confirm\"\n\
                 fetch = \"polite-block\"\n\
                 [[delivery]]\nid = \"hold\"\nwho = [\"dave@localhost\"]\naction = \"hold\"\n";
    alice.set_rules(rules).await;
    let mut dave = Peer::sign_in(&server, "dave").await;
    let mut other = Peer::sign_in_on(&server, "dave", 2).await;
    dave.follow("alice@localhost").await;
    let Some(disk) = Trace::hung_disk(&server) else { return };
    let sent = dave.ask(message("alice@localhost", "on its way")).await;
    // Whoever is answered this has been heard before.
    dave.done(Ping::empty()).await;
    let deny = RequestEdit::of("dave@localhost".parse().unwrap(), Decision::Deny);
    let deny = publish("alice@localhost", What::Requests, Some(state::encode(&deny)));
    let decided = alice.ask(deny).await;
    // What is being taken away counts at once.
    eventually("the decision to be made", async || {
        let look = other.request(fetch("alice@localhost", What::Presence)).await;
        look.is_err().then_some(())
    })
    .await;
    drop(disk);
    dave.answer(sent).await.unwrap();
    alice.answer(decided).await.unwrap();
    assert_eq!(alice.requests().await.entries, []);
    assert_eq!(alice.inbox().await, []);
    assert_eq!(dave.refused(message("alice@localhost", "later")).await, Code::Refused);
}

/// Who is blocked cannot send any more; and what they sent before and waits is not delivered.
#[tokio::test]
async fn r5_4_10_after_a_block_nothing_of_theirs_comes() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(delivery("bob", "accept") + &delivery("carol", "hold"))).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    bob.send("alice@localhost", "before").await;
    carol.send("alice@localhost", "waiting").await;
    alice.set_rules(&(delivery("bob", "refuse") + &delivery("carol", "hold"))).await;
    for _ in 0..3 {
        assert_eq!(bob.refused(message("alice@localhost", "after")).await, Code::Refused);
    }
    let deny = RequestEdit::of(carol.address.clone(), Decision::Deny);
    let deny = publish("alice@localhost", What::Requests, Some(state::encode(&deny)));
    alice.done(deny).await;
    assert_eq!(carol.refused(message("alice@localhost", "after")).await, Code::Refused);
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["before"]);
    // A block of messages is none of presence, nor the other way round.
    let mut rules = delivery("bob", "accept") + &rule("bob", "block", "");
    alice.set_rules(&rules).await;
    bob.send("alice@localhost", "may write, may not see").await;
    assert_eq!(bob.refused(fetch("alice@localhost", What::Presence)).await, Code::Refused);
    rules = delivery("bob", "refuse") + &rule("bob", "allow", ALL);
    alice.set_rules(&rules).await;
    assert_eq!(bob.refused(message("alice@localhost", "?")).await, Code::Refused);
    assert_eq!(bob.follow("alice@localhost").await.state, Some(SubscriptionState::Active));
}

/// One who was blocked in mid-flight: of many messages on one connection, those behind the rule
/// are refused and none of them is in the inbox.
#[tokio::test]
async fn r5_4_10_a_block_binds_messages_in_flight() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&delivery("bob", "accept")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let flight: Vec<Command> =
        (0..200).map(|n| message("alice@localhost", &n.to_string()).into()).collect();
    let numbers = bob.flight(flight).await;
    bob.answer(numbers[20]).await.unwrap();
    alice.set_rules(&delivery("bob", "refuse")).await;
    let after = bob.refused(message("alice@localhost", "after the block")).await;
    assert_eq!(after, Code::Refused);
    let mut accepted = Vec::new();
    for (n, number) in numbers.into_iter().enumerate() {
        if n == 20 || bob.answer(number).await.is_ok() {
            accepted.push(n.to_string());
        }
    }
    let bodies: Vec<_> = alice.inbox().await.into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, accepted, "what was answered OK is what is there");
}
