//! What a hard look at links has found, and what keeps it from coming back.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Message, Outcome, Subscribe};
use impp_protocol::state::{Fate, SubscriptionState};
use impp_protocol::{By, Code, Timestamp, What};
use impp_tests::badpeer::{BadPeer, moved};
use impp_tests::peer::{fetch, message};
use impp_tests::server::Start;
use impp_tests::{Domains, Peer, eventually};

pub(crate) async fn one(settings: impl Fn(Start) -> Start) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| settings(start)).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

fn now() -> Timestamp {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(wall.as_millis() as u64)
}

/// A server that stops dials nobody anew, whatever waits and whoever follows.
#[tokio::test(flavor = "multi_thread")]
async fn i4_a_server_that_stops_dials_nobody_anew() {
    let mut domains = Domains::two().await;
    for _ in 0..3 {
        let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
        alice.follow_for("bob@b.example", 3600).await.unwrap();
        let id = alice.queue("bob@b.example", "before the stop").await;
        assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
        let before = domains.cable("b.example").connections();
        domains["a.example"].stop();
        assert_eq!(domains.cable("b.example").connections(), before);
        domains["a.example"].restart();
    }
}

/// Messages of an account that is gone leave with it and hold nobody else up, also those that are
/// only on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn c10_messages_of_a_removed_account_go_with_it() {
    let (mut domains, evil) = one(|start| start.set("federation.dial_seconds", 1)).await;
    let mut bob = Peer::sign_in(&domains["a.example"], "bob").await;
    for n in 0..10 {
        bob.queue("mallory@evil.example", &format!("bob {n}")).await;
    }
    drop(bob);
    let server = &mut domains["a.example"];
    server.kill9();
    server.restart();
    server.user_ok(&["remove", "bob@a.example"]);
    assert_eq!(server.metrics().get("impp_queued_messages"), 0.0);
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.queue("mallory@evil.example", "alice").await;
    let mut link = eventually("a link", async || evil.try_accept().await).await;
    let (number, got) = link.message().await;
    assert_eq!(&got.body[..], b"alice");
    link.take(number).await;
}

/// One user does not take the places of all other domains.
#[tokio::test(flavor = "multi_thread")]
async fn f12_one_user_does_not_take_all_places_for_domains() {
    let (domains, evil) = one(|start| start.set("federation.domains_max", 16)).await;
    let server = &domains["a.example"];
    let mut bob = Peer::sign_in(server, "bob").await;
    domains.dns.address_of("dead.example", "127.0.0.1".parse().unwrap());
    for n in 0..3 {
        domains.dns.srv(&format!("d{n}.example"), "im", 0, 0, 1, "dead.example");
    }
    for n in 0..2 {
        bob.queue(&format!("x@d{n}.example"), "x").await;
    }
    assert_eq!(bob.refused(message("x@d2.example", "x")).await, Code::Full);
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.queue("x@d2.example", "x").await;
    evil.call(server).await;
}

/// That messages are held tells nobody elsewhere who lives here, however many are sent.
#[tokio::test(flavor = "multi_thread")]
async fn f14_however_many_messages_are_held_nobody_learns_who_lives_here() {
    let (domains, evil) = one(|start| start.set("limits.pending_max", 3)).await;
    let mut link = evil.call(&domains["a.example"]).await;
    let mut answers = Vec::new();
    for who in ["alice@a.example", "nobody@a.example"] {
        let mut of = Vec::new();
        for n in 0..5 {
            let message = evil.message("mallory", who, &n.to_string());
            for message in [message.clone(), message] {
                let answer = link.request(message).await;
                of.push(answer.map(|done| done.outcome).map_err(|error| (error.code, error.by)));
            }
        }
        answers.push(of);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].contains(&Err((Code::Full, By::Recipient))));
}

/// What was accepted is known again also when its time has passed.
#[tokio::test(flavor = "multi_thread")]
async fn e2_a_repeat_after_its_time_is_a_duplicate() {
    let (domains, evil) = one(|start| start).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let expires = now().after(Duration::from_secs(2));
    let once = Message { expires: Some(expires), ..message("x@evil.example", "hi") };
    assert_eq!(alice.done(once.clone()).await.outcome, Some(Outcome::Queued));
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    eventually("the end of its time", async || (now() > expires).then_some(())).await;
    assert_eq!(alice.done(once).await.outcome, Some(Outcome::Duplicate));
}

/// A domain that asks to be left alone is left alone, and who asks after it is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn i4_a_domain_that_rests_is_told_as_unreachable_at_once() {
    let (domains, evil) = one(|start| start).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("x@evil.example", "one").await;
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
    link.leave(ByeReason::Stopping, Some(Duration::from_secs(10_000_000))).await;
    drop(link);
    eventually("the end of the link", async || {
        (domains["a.example"].metrics().get("impp_links") == 0.0).then_some(())
    })
    .await;
    let second = alice.queue("x@evil.example", "two").await;
    let told = alice.whereabouts(second).await;
    assert_eq!(told.code, Some(Code::Unreachable));
    // It is believed for an hour, not for months.
    let next = told.next_try.expect("a next try");
    assert!(next < now().after(Duration::from_secs(3700)), "{next}");
    assert_eq!(alice.refused(fetch("x@evil.example", What::Presence)).await, Code::Unreachable);
}

/// Without links to other domains nobody is looked for, and what waits comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn b11_a_server_without_links_looks_for_nobody() {
    let (mut domains, _evil) = one(|start| start.set("federation.queue_seconds", 4)).await;
    domains.dns.srv("down.example", "im", 0, 0, 1, "host.down.example");
    domains.dns.address_of("host.down.example", "127.0.3.1".parse().unwrap());
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("x@down.example", "one").await;
    drop(alice);
    let server = &mut domains["a.example"];
    server.kill9();
    server.set("federation.enabled", false);
    domains.dns.asked_since();
    domains["a.example"].restart();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    assert_eq!(alice.fate(id).await.fate, Fate::Failed);
    assert_eq!(domains.dns.asked_since(), 0);
}

/// A redirect finds its place however many domains there are, and to an inbox here it ends as any
/// message does.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_3_2_a_redirected_message_comes_to_an_end() {
    let domains = Domains::with(&["a.example"], |_, start| {
        start
            .set("federation.domains_max", 1)
            .set("inbox.items_max", 1)
            .set("federation.queue_seconds", 5)
    })
    .await;
    let people = BadPeer::among(&domains, "people.a.example").await;
    let server = &domains["a.example"];
    Peer::open_inbox(server, "bob").await;
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.send("bob@a.example", "fills it").await;
    let id = alice.queue("x@people.a.example", "one").await;
    let mut link = people.accept().await;
    let (number, _) = link.message().await;
    link.refuse(number, moved("x@no.people.a.example")).await;
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::UnknownDomain)));
    // To an inbox here that is full; it is offered again and again until its time is over.
    let id = alice.queue("bob@people.a.example", "two").await;
    let answers = async {
        loop {
            let (number, _) = link.message().await;
            link.refuse(number, moved("bob@a.example")).await;
        }
    };
    let fate = tokio::select! {
        fate = alice.fate(id) => fate,
        () = answers => unreachable!(),
    };
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Full)), "{fate:?}");
    assert_eq!(fate.by, Some(By::Recipient));
}

/// That our own dial failed says nothing of the link on which the other side has called.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_failed_dial_says_nothing_of_a_link_that_is_open() {
    let (domains, _evil) = one(|start| start.set("federation.dial_seconds", 1)).await;
    let good = BadPeer::hidden(&domains, "good.example").await;
    domains.trust_also(&good.authority.pem);
    let host = "host.good.example";
    for service in ["pres", "im"] {
        domains.dns.srv("good.example", service, 0, 0, good.address.port(), host);
    }
    domains.dns.address_of(host, good.address.ip());
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.queue("x@good.example", "one").await;
    // It accepts TCP and says nothing; meanwhile it calls.
    let _silent = good.accept_tcp().await;
    let mut link = good.call(server).await;
    let (number, _) = link.message().await;
    link.take(number).await;
    eventually("the end of the dial", async || {
        let refused = "impp_links_refused_total{reason=\"unreachable\"}";
        (server.metrics().get(refused) > 0.0).then_some(())
    })
    .await;
    let second = alice.queue("x@good.example", "two").await;
    link.message().await;
    let told = alice.whereabouts(second).await;
    assert!(told.code.is_none() && told.next_try.is_none(), "{told:?}");
}

/// Rules may concern more watchers than the store takes in one unit.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_15_rules_that_concern_very_many_watchers_can_be_changed() {
    let (domains, evil) = one(|start| start).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let rules = |handling: &str| {
        format!("[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"{handling}\"\n")
    };
    alice.set_rules(&rules("allow")).await;
    let mut link = evil.call(&domains["a.example"]).await;
    for n in 0..300 {
        let follow = Subscribe {
            watcher: Some(evil.account(&format!("w{n}"))),
            lease: Some(Duration::from_secs(3600)),
            ..Subscribe::of(alice.address.clone(), What::Presence)
        };
        link.request(follow).await.unwrap();
    }
    alice.set_rules(&rules("block")).await;
    let watchers = alice.watchers().await;
    let ended = watchers.iter().filter(|w| w.state == SubscriptionState::Terminated).count();
    assert!(ended >= 256, "{ended} of {}", watchers.len());
}
