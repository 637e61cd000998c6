//! How publications and subscriptions end: by a lease, with a session, without a goodbye.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Publish};
use impp_protocol::presence::Document;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Code, What};
use impp_tests::peer::{Peer, fetch, publish};
use impp_tests::presence::{Watcher, at_once, document, layer, open, person};
use impp_tests::running::Running;
use impp_tests::server::Start;
use impp_tests::{Server, eventually};

const ANYONE: &str = r#"
    [[rule]]
    id = "anyone"
    who = ["anyone"]
    handling = "allow"
    fields = ["all"]

    [[delivery]]
    id = "anyone"
    who = ["anyone"]
    action = "accept"
"#;

/// Everything ends soon.
pub(crate) fn brief() -> Start {
    at_once()
        .set("times.grace_seconds", 1)
        .set("times.lease_min_seconds", 1)
        .set("times.lease_max_seconds", 5000)
}

/// Alice, who shows herself to anyone, and dave, who is in nobody's contact list.
pub(crate) async fn alice_and_dave(server: &Server) -> (Peer, Peer) {
    server.add("dave");
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.set_rules(ANYONE).await;
    (alice, Peer::sign_in(server, "dave").await)
}

/// A lease asked for is granted, the longest one for a longer wish; a shorter one than the least
/// is refused with the least; without one the subscription is the session's and has none.
#[tokio::test]
async fn d_6_6_a_lease_on_a_subscription_is_asked_and_granted() {
    let server = brief().set("times.lease_min_seconds", 60).start();
    let (_alice, mut dave) = alice_and_dave(&server).await;
    let granted = dave.follow_for("alice@localhost", 100).await.unwrap();
    assert_eq!(granted.lease, Some(Duration::from_secs(100)));
    let left = dave.subscriptions().await[0].expires_in.unwrap();
    assert!((60..=100).contains(&left.as_secs()), "{left:?} of 100 s are left");
    let longest = dave.follow_for("alice@localhost", 100_000).await.unwrap();
    assert_eq!(longest.lease, Some(Duration::from_secs(5000)));
    assert!(dave.subscriptions().await[0].expires_in.unwrap() > Duration::from_secs(4000));
    let short = dave.follow_for("alice@localhost", 59).await.unwrap_err();
    assert_eq!((short.code, short.minimum), (Code::TooShort, Some(Duration::from_secs(60))));
    // The refusal left what there was.
    assert!(dave.subscriptions().await[0].expires_in.unwrap() > Duration::from_secs(4000));
    let bound = dave.follow("alice@localhost").await;
    assert_eq!(bound.lease, None);
    assert_eq!(dave.subscriptions().await[0].expires_in, None);
}

/// A lease that is not renewed ends: the watcher is told, the owner sees why, nothing comes any
/// more. One that is renewed goes on.
#[tokio::test]
async fn d_6_6_a_lease_on_a_subscription_ends_it_unless_renewed() {
    let server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    server.add("erin");
    let mut erin = Watcher::sign_in(&server, "erin", "alice@localhost").await;
    erin.peer.leave().await;
    // Both for a second; dave renews, and only then is erin's asked for.
    let mut dave =
        Watcher { peer: dave, presentity: "alice@localhost".into(), held: <_>::default() };
    dave.peer.follow_for("alice@localhost", 1).await.unwrap();
    dave.next().await;
    dave.peer.follow_for("alice@localhost", 4000).await.unwrap();
    erin.peer = Peer::sign_in(&server, "erin").await;
    erin.peer.follow_for("alice@localhost", 1).await.unwrap();
    erin.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    assert_eq!(erin.held.event, Some(SubscriptionEvent::Timeout));
    let watchers = alice.watchers().await;
    let of = |name: &str| {
        let entry = watchers.iter().find(|entry| entry.watcher.as_str() == name).unwrap();
        (entry.state, entry.event)
    };
    assert_eq!(of("erin@localhost"), (SubscriptionState::Terminated, SubscriptionEvent::Timeout));
    assert_eq!(of("dave@localhost").0, SubscriptionState::Active);
    alice.show(&open("after the end")).await;
    dave.until_note("after the end").await;
    assert_eq!(erin.settle().await, 0);
    assert_eq!(erin.peer.subscriptions().await, vec![]);
}

/// A subscription's lease survives kill -9 of the server, and still ends at its time.
#[tokio::test]
async fn d_6_6_a_subscriptions_lease_survives_the_server() {
    let mut server = brief().start();
    let (mut alice, mut dave) = alice_and_dave(&server).await;
    server.add("erin");
    let mut erin = Peer::sign_in(&server, "erin").await;
    dave.follow_for("alice@localhost", 4000).await.unwrap();
    erin.follow_for("alice@localhost", 2).await.unwrap();
    server.kill9();
    server.restart();
    alice = Peer::sign_in_on(&server, alice.address.local(), 2).await;
    let state_of = |watchers: &[impp_protocol::state::WatcherEntry], name: &str| {
        let entry = watchers.iter().find(|entry| entry.watcher.local() == name);
        entry.map(|entry| entry.state)
    };
    eventually("erin's lease to end", async || {
        let state = state_of(&alice.watchers().await, "erin");
        (state != Some(SubscriptionState::Active)).then_some(())
    })
    .await;
    let watchers = alice.watchers().await;
    assert_eq!(state_of(&watchers, "dave"), Some(SubscriptionState::Active));
}

/// A publication's lease is asked, granted, at most the longest, refused below the least with the
/// least, and taken back by 0.
#[tokio::test]
async fn d_6_6_a_lease_on_a_publication_is_asked_and_granted() {
    let server = brief().set("times.lease_min_seconds", 60).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let granted = alice.show_for(&open("for 100 s"), 100).await.unwrap();
    assert_eq!(granted.lease, Some(Duration::from_secs(100)));
    let left = alice.done(fetch("alice@localhost", What::Layer)).await.lease.unwrap();
    assert!((60..=100).contains(&left.as_secs()), "{left:?} of 100 s are left");
    let longest = alice.show_for(&open("for long"), 100_000).await.unwrap();
    assert_eq!(longest.lease, Some(Duration::from_secs(5000)));
    let short = alice.show_for(&open("too short"), 59).await.unwrap_err();
    assert_eq!((short.code, short.minimum), (Code::TooShort, Some(Duration::from_secs(60))));
    dave.until_note("for long").await;
    assert_eq!(dave.settle().await, 0, "the refused document was shown");
    alice.hide().await;
    dave.until(|held| held.document() == &Document::offline()).await;
    assert_eq!(alice.refused(fetch("alice@localhost", What::Layer)).await, Code::NotFound);
}

/// A publication whose lease ends closes and is told, though its publisher is still there; one
/// that is refreshed, by a PUBLISH that changes nothing, stays.
#[tokio::test]
async fn d_6_6_a_lease_on_a_publication_ends_it() {
    let server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    phone.show_for(&document(&[], &[("phone", &[("status", "open")])]), 1).await.unwrap();
    let refresh = publish("alice@localhost", What::Presence, None);
    phone.done(Publish { lease: Some(Duration::from_secs(3000)), ..refresh }).await;
    alice.show_for(&document(&[], &[("desk", &[("status", "open")])]), 1).await.unwrap();
    dave.until(|held| held.document().tuples.len() == 2).await;
    // Alice's ends after the phone's would have.
    dave.until(|held| held.document().tuples.len() == 1).await;
    let phones = document(&[], &[("phone", &[("status", "open")])]);
    assert_eq!(dave.held.document(), &phones);
    phone.show_for(&phones, 1).await.unwrap();
    dave.until(|held| held.document() == &Document::offline()).await;
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
}

/// A leased publication survives its publisher and kill -9 of the server, and then ends at its
/// time.
#[tokio::test]
async fn d_6_6_a_publications_lease_survives_the_server() {
    let mut server = brief().start();
    let (mut alice, mut dave) = alice_and_dave(&server).await;
    alice.show_for(&open("for two seconds"), 2).await.unwrap();
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    let longer = document(&[], &[("phone", &[("status", "open")])]);
    phone.show_for(&longer, 3000).await.unwrap();
    assert_eq!(dave.look("alice@localhost").await.tuples.len(), 2);
    server.kill9();
    server.restart();
    let mut dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    dave.until(|held| held.document() == &longer).await;
}

/// What its publisher has replaced, or ended with a goodbye, does not come back after kill -9 of
/// the server, though it had a lease once.
#[tokio::test]
async fn d_6_6_what_was_replaced_does_not_come_back() {
    let mut server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    dave.leave().await;
    for goodbye in [false, true] {
        alice.show_for(&open("in the old position"), 3000).await.unwrap();
        alice.show(&open("bound to the session")).await;
        let mut dave = Peer::sign_in(&server, "dave").await;
        assert_eq!(dave.look("alice@localhost").await, open("bound to the session"));
        if goodbye {
            alice.leave().await;
            eventually("alice to be gone", async || {
                (dave.look("alice@localhost").await == Document::offline()).then_some(())
            })
            .await;
        }
        server.kill9();
        server.restart();
        let mut dave = Peer::sign_in(&server, "dave").await;
        let shown = dave.look("alice@localhost").await;
        assert_ne!(shown, open("in the old position"), "with a goodbye: {goodbye}");
        alice = Peer::sign_in(&server, "alice").await;
    }
}

/// A leased publication that is refused, since it and another device's exceed the limits together,
/// leaves nothing: not now and not after kill -9 of the server.
#[tokio::test]
async fn d_6_6_a_refused_publication_leaves_nothing() {
    let mut server = brief().start();
    let (mut alice, mut dave) = alice_and_dave(&server).await;
    let many = |prefix: &str| {
        let mut whole = Document::default();
        for n in 0..10 {
            let id = format!("{prefix}{n}");
            whole.tuples.extend(document(&[], &[(&id, &[("status", "open")])]).tuples);
        }
        whole
    };
    alice.show_for(&many("desk"), 3000).await.unwrap();
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    let refused = phone.show_for(&many("phone"), 3000).await.unwrap_err();
    assert_eq!(refused.code, Code::TooLarge);
    assert_eq!(dave.look("alice@localhost").await, many("desk"));
    server.kill9();
    server.restart();
    let mut dave = Peer::sign_in(&server, "dave").await;
    assert_eq!(dave.look("alice@localhost").await, many("desk"));
}

/// Who falls silent without a word - no packet comes, no end of the connection either - is found
/// out by both ends' keep-alive, and shown as gone.
#[tokio::test]
async fn r3_2_4_silence_is_found_out() {
    let server = brief().set("times.idle_seconds", 1).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    alice.show(&open("here")).await;
    dave.until_note("here").await;
    // Nobody reads alice's connection from now on, or answers there.
    dave.until(|held| held.document() == &Document::offline()).await;
    let ending = alice.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Timeout));
}

/// A client whose server falls silent finds out, says so, and is back when the server is.
#[test]
fn r3_2_4_the_client_finds_out_that_the_server_is_silent() {
    use rustix::process::{Pid, Signal, kill_process};
    let server = brief().set("times.idle_seconds", 1).start();
    let pid = Pid::from_raw(server.pid() as i32).unwrap();
    let alice = impp_tests::impp::Impp::of(&server, "alice");
    alice.run(&["status", "set", "open", "--note", "before"]).one();
    let mut watch = Running::start(&server, "bob", &["watch", "alice@localhost"]);
    watch.until(|event| event["document"]["person"]["note"] == "before");
    kill_process(pid, Signal::STOP).unwrap();
    watch.until_it_says("trying again");
    kill_process(pid, Signal::CONT).unwrap();
    alice.run(&["status", "set", "open", "--note", "after"]).one();
    watch.until(|event| event["document"]["person"]["note"] == "after");
}

/// What is bound to a session closes when its connection is lost without a goodbye, by a reset or
/// by an end of TCP; what is leased stays, and messages wait.
#[tokio::test]
async fn r3_2_5_no_goodbye_is_needed() {
    let server = brief().start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    let leased = document(&[], &[("phone", &[("status", "open")])]);
    phone.show_for(&leased, 3000).await.unwrap();
    phone.cut();
    for reset in [true, false] {
        alice.show(&open("bound to the session")).await;
        dave.until_note("bound to the session").await;
        alice.cut_with(reset);
        dave.until(|held| person(held.document(), "note").is_none()).await;
        assert_eq!(dave.held.document(), &leased);
        dave.peer.send("alice@localhost", "while you were away").await;
        alice = Peer::sign_in(&server, "alice").await;
    }
    assert_eq!(alice.inbox().await.len(), 2);
}

/// A client process that is killed leaves a subscription that ends with its session.
#[tokio::test]
async fn r3_2_5_a_killed_clients_subscription_ends() {
    let server = brief().set("times.resume_window_seconds", 1).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    dave.leave().await;
    let mut watch = Running::start(&server, "dave", &["watch", "alice@localhost"]);
    watch.until(|event| event["event"] == "notify");
    let state = async |alice: &mut Peer| {
        let watchers = alice.watchers().await;
        watchers.iter().find(|w| w.watcher.local() == "dave").map(|w| w.state)
    };
    assert_eq!(state(&mut alice).await, Some(SubscriptionState::Active));
    watch.kill9();
    eventually("dave's subscription to end", async || {
        (state(&mut alice).await != Some(SubscriptionState::Active)).then_some(())
    })
    .await;
    assert_eq!(server.metrics().get("impp_sessions"), 1.0);
}

/// A BYE ends at once what is bound to the session: no grace is waited for.
#[tokio::test]
async fn a_goodbye_closes_at_once() {
    let server = brief().set("times.grace_seconds", 3000).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    alice.show(&open("bound to the session")).await;
    dave.until_note("bound to the session").await;
    alice.leave().await;
    dave.until(|held| held.document() == &Document::offline()).await;
}

/// An owner who has come back after a start of the server and closes then is shown closed, to who
/// follows and to who looks alike: the window of recovery is for those who have not returned.
#[tokio::test]
async fn closing_soon_after_a_start_is_told() {
    let server = brief().set("times.recovery_seconds", 3000).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    alice.show(&open("back again")).await;
    dave.until_note("back again").await;
    alice.hide().await;
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
    dave.settle().await;
    assert_eq!(dave.held.document(), &Document::offline(), "what a FETCH shows, a NOTIFY hides");
}

/// A watcher who saw somebody open before the server was killed is told nothing until they are
/// back: a restart makes nobody flap. Nor are they shown open for ever: the window ends.
#[tokio::test]
async fn a_restart_makes_nobody_flap() {
    let mut server = brief().set("times.recovery_seconds", 3).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    for returns in [true, false] {
        alice.show(&open("here")).await;
        dave.until_note("here").await;
        server.kill9();
        server.restart();
        dave.peer = Peer::sign_in(&server, "dave").await;
        let version = Some(dave.held.version());
        let again = impp_tests::peer::subscribe("alice@localhost", What::Presence);
        dave.peer.done(impp_protocol::command::Subscribe { version, ..again }).await;
        assert_eq!(dave.settle().await, 0, "told something else before alice could be back");
        alice = Peer::sign_in(&server, "alice").await;
        if returns {
            let content = Some(layer(&open("here")));
            alice.done(publish("alice@localhost", What::Presence, content)).await;
            assert_eq!(dave.settle().await, 0, "nothing has changed");
        } else {
            dave.until(|held| held.document() == &Document::offline()).await;
        }
    }
}
