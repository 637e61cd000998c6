//! The rows of `settings` about other domains.

use std::time::{Duration, Instant};

use impp_protocol::command::{ByeReason, Fetch, Notify, Ping, Subscribe};
use impp_protocol::state::{Fate, SubscriptionState};
use impp_protocol::{Code, Command, Request, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::peer::{fetch, message, subscribe};
use impp_tests::presence::{Watcher, open};
use impp_tests::server::Server;
use impp_tests::wire::bytes_of;
use impp_tests::{BadPeer, Domains, Peer, eventually};

use crate::settings::{OPEN_PRESENCE, Setting, large, soon};

const ALICE: &str = "alice@a.example";

/// The domain a.example with a setting and others, and evil.example, whose server is the play.
async fn with(setting: Setting, others: &[(&str, i64)]) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, mut start| {
        for (name, value) in others.iter().filter(|(name, _)| *name != setting.name) {
            start = start.set(name, *value);
        }
        setting.on(start)
    })
    .await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

/// A domain whose server is down.
fn down(domains: &Domains, domain: &str) -> String {
    let host = format!("host.{domain}");
    domains.dns.srv(domain, "im", 0, 0, 1, &host);
    domains.dns.address_of(&host, "127.0.3.1".parse().unwrap());
    format!("x@{domain}")
}

/// What is there without waiting.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::ZERO, future).await.ok()
}

fn here(domains: &Domains) -> &Server {
    &domains["a.example"]
}

/// Of a time that is longer than usual a try is given more than it would usually get.
pub(crate) async fn who_does_not_answer_a_dial(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let start = Instant::now();
    let id = alice.queue("x@evil.example", "hello").await;
    let _silent = evil.accept_tcp().await;
    // A part of the time is kept for other ways to the domain.
    alice.held_up(id, "").await;
    let took = start.elapsed();
    assert!(took > setting.seconds() * 2 / 5, "{took:?}");
}

pub(crate) async fn the_first_wait(setting: Setting) {
    const FAR: Duration = Duration::from_secs(10);
    let (domains, _evil) = with(setting, &[("federation.retry_max_seconds", 300)]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    // Each waits somewhere between nothing and the longest; all together not so short.
    let mut waits = Vec::new();
    for n in 0..8 {
        let to = down(&domains, &format!("down{n}.example"));
        let id = alice.queue(&to, "hello").await;
        let told = alice.held_up(id, "").await;
        waits.push(told.next_try.unwrap().since(told.since));
    }
    assert!(waits.iter().any(|wait| *wait > FAR), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(120)), "{waits:?}");
}

pub(crate) async fn the_longest_wait(setting: Setting) {
    let (domains, evil) = with(setting, &[("federation.retry_min_milliseconds", 20_000)]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    alice.queue("x@evil.example", "hello").await;
    drop(evil.accept_tcp().await);
    for _ in 0..5 {
        soon("another try", async { drop(evil.accept_tcp().await) }).await;
    }
}

pub(crate) async fn who_proves_nothing(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let id = alice.queue("x@evil.example", "hello").await;
    for _ in 0..setting.value {
        drop(evil.accept_tcp().await);
    }
    let left_alone = "2 connections there within a minute have proven no server";
    here(&domains).until_logged(left_alone, 1).await;
    alice.held_up(id, "no server of evil.example").await;
    // Each further try is over without a connection.
    const NO_LINKS: &str = "impp_links_refused_total{reason=\"unreachable\"}";
    let tried = here(&domains).metrics().get(NO_LINKS);
    eventually("further tries", async || {
        (here(&domains).metrics().get(NO_LINKS) >= tried + 2.0).then_some(())
    })
    .await;
    let one_more = at_once(evil.accept_tcp()).await;
    assert!(one_more.is_none(), "one more connection");
}

pub(crate) async fn what_is_tried_too_long(setting: Setting) {
    let (domains, _evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let id = alice.queue(&down(&domains, "down.example"), "hello").await;
    let report = alice.fate(id).await;
    assert_eq!(report.fate, Fate::Failed, "{report:?}");
}

pub(crate) async fn one_queued_more(setting: Setting) {
    let (domains, _evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let mut bob = Peer::sign_in(here(&domains), "bob").await;
    let to = down(&domains, "down.example");
    alice.queue(&to, "fits").await;
    assert_eq!(alice.refused(message(&to, "one more")).await, Code::Full);
    assert_eq!(bob.refused(message(&to, "one more")).await, Code::Full);
}

pub(crate) async fn one_queued_byte_more(setting: Setting) {
    let (domains, _evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let to = down(&domains, "down.example");
    alice.done(large(&to, 500)).await;
    assert_eq!(alice.refused(large(&to, 500)).await, Code::Full);
}

pub(crate) async fn what_waits_for_the_store(setting: Setting) {
    const MESSAGES: usize = 40;
    let (domains, evil) = with(setting, &[]).await;
    let server = here(&domains);
    Peer::sign_in(server, "alice").await.set_rules(OPEN_INBOX).await;
    let mut link = evil.call(server).await;
    assert_eq!(link.hello.requests_max, Some(setting.value.unsigned_abs()));
    let before = server.metrics().get("impp_store_syncs_total");
    let frames = (1..=MESSAGES as u64)
        .map(|number| bytes_of(number, evil.message("x", ALICE, "one by one")));
    link.write(frames).await;
    for number in 1..=MESSAGES as u64 {
        link.answer(number).await.unwrap();
    }
    let syncs = server.metrics().get("impp_store_syncs_total") - before;
    assert!(syncs >= MESSAGES as f64, "{syncs} syncs: more than one waited");
}

pub(crate) async fn no_answer(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    alice.queue("x@evil.example", "hello").await;
    let mut link = evil.accept().await;
    link.message().await;
    soon("the end of the link", link.ending()).await;
}

pub(crate) async fn frames(setting: Setting) {
    const FRAMES: u64 = 300;
    let others = [("federation.frames_per_second", 50), ("federation.frames_burst", 10)];
    let (domains, evil) = with(setting, &others).await;
    let mut link = evil.call(here(&domains)).await;
    let start = Instant::now();
    link.write((1..=FRAMES).map(|number| bytes_of(number, Ping::empty()))).await;
    for number in 1..=FRAMES {
        link.answer(number).await.unwrap();
    }
    let took = start.elapsed();
    assert!(took > Duration::from_secs((FRAMES - 10) / 50 - 1), "{took:?}");
}

/// What another domain has stored is counted over all its links, and does not come back with a new one.
pub(crate) async fn bytes_stored(setting: Setting) {
    let others =
        [("federation.stored_bytes_per_second", 1), ("federation.stored_bytes_burst", 5000)];
    let (domains, evil) = with(setting, &others).await;
    let server = here(&domains);
    Peer::sign_in(server, "alice").await.set_rules(OPEN_INBOX).await;
    let body = "x".repeat(2500);
    let mut taken = 0;
    for _ in 0..2 {
        let mut link = evil.call(server).await;
        for _ in 0..2 {
            match link.request(evil.message("x", ALICE, &body)).await {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert_eq!(error.code, Code::RateLimited);
                    assert!(error.retry_after.unwrap() > Duration::from_secs(60));
                }
            }
        }
        link.leave(ByeReason::Idle, None).await;
    }
    // The second had room for a beginning.
    assert_eq!(taken, 2);
}

/// Presence of another domain is read as fast as may be, also what nobody has asked for; nothing is
/// broken off by it.
pub(crate) async fn bytes_shown(setting: Setting) {
    const NOTIFICATIONS: usize = 5;
    let others = [
        ("federation.presence_bytes_per_second", 20_000),
        ("federation.presence_bytes_burst", 20_000),
    ];
    let (domains, evil) = with(setting, &others).await;
    let mut link = evil.call(here(&domains)).await;
    let start = Instant::now();
    let shown = || {
        let someone = "someone@evil.example".parse().unwrap();
        let notify = Notify::of(someone, What::Presence, SubscriptionState::Active);
        Notify { snapshot: Some(vec![0; 20_000].into()), ..notify }
    };
    link.write((0..NOTIFICATIONS).map(|_| bytes_of(0, shown()))).await;
    link.write([bytes_of(1, Ping::empty())]).await;
    link.answer(1).await.unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(NOTIFICATIONS as u64 - 2), "{took:?}");
}

/// Whom the other side has not asked for lately, whether they exist or not.
pub(crate) async fn new_addresses(setting: Setting) {
    let others =
        [("federation.new_addresses_per_second", 1), ("federation.new_addresses_burst", 4)];
    let (domains, evil) = with(setting, &others).await;
    let mut link = evil.call(here(&domains)).await;
    let (start, mut much) = (Instant::now(), 0);
    for index in 0..40 {
        let fetch = fetch(&format!("n{index}@a.example"), What::Presence);
        let fetch = Fetch { watcher: Some(evil.account("x")), ..fetch };
        let refused = link.request(fetch).await.err();
        much += u64::from(refused.is_some_and(|error| error.code == Code::RateLimited));
    }
    let at_most = 4 + start.elapsed().as_secs() + 1;
    assert!(40 - much <= at_most, "{} asked for, {at_most} may be", 40 - much);
}

pub(crate) async fn messages(setting: Setting) {
    let others = [("federation.messages_per_second", 1), ("federation.messages_burst", 3)];
    let (domains, evil) = with(setting, &others).await;
    let server = here(&domains);
    Peer::sign_in(server, "alice").await.set_rules(OPEN_INBOX).await;
    let mut link = evil.call(server).await;
    let (start, mut taken) = (Instant::now(), 0);
    // For longer than a second: what comes back in it is counted too.
    while start.elapsed() < Duration::from_millis(1500) {
        match link.request(evil.message("x", ALICE, "hello")).await {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.code, Code::RateLimited),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let at_most = 3 + start.elapsed().as_secs() + 1;
    assert!(taken <= at_most, "{taken} messages taken, {at_most} may be");
}

pub(crate) async fn one_followed_more(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let server = here(&domains);
    let mut alice = Peer::sign_in(server, "alice").await;
    // Here of theirs.
    alice.ask(subscribe("x@evil.example", What::Presence)).await;
    assert_eq!(alice.refused(subscribe("y@evil.example", What::Presence)).await, Code::Full);
    // And there of ours.
    let mut link = evil.call(server).await;
    let follow = |name: &str| Subscribe {
        watcher: Some(evil.account(name)),
        lease: Some(Duration::from_secs(600)),
        ..subscribe(ALICE, What::Presence)
    };
    link.request(follow("first")).await.unwrap();
    assert_eq!(link.refused(follow("second")).await, Code::Full);
    link.request(follow("first")).await.unwrap();
}

pub(crate) async fn presence_too_large(setting: Setting) {
    let domains = Domains::with(&["a.example", "b.example"], |name, start| match name {
        "a.example" => setting.on(start),
        _ => start,
    })
    .await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(OPEN_PRESENCE).await;
    bob.show(&open("fits")).await;
    let mut alice = Watcher::sign_in(here(&domains), "alice", "bob@b.example").await;
    alice.until_note("fits").await;
    bob.show(&open(&"does not fit ".repeat(50))).await;
    alice.until(|held| held.state == Some(SubscriptionState::Unknown)).await;
}

pub(crate) async fn one_domain_more(setting: Setting) {
    let (domains, _evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    let mut bob = Peer::sign_in(here(&domains), "bob").await;
    let first = down(&domains, "down1.example");
    alice.queue(&first, "hello").await;
    let second = down(&domains, "down2.example");
    assert_eq!(bob.refused(message(&second, "hello")).await, Code::Busy);
    bob.queue(&first, "hello").await;
}

pub(crate) async fn the_lease_asked_for(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let mut alice = Peer::sign_in(here(&domains), "alice").await;
    alice.ask(subscribe("x@evil.example", What::Presence)).await;
    let mut link = evil.accept().await;
    let asked = link.try_asked().await.expect("a request");
    let Request { command: Command::Subscribe(asked), .. } = asked else { panic!("{asked:?}") };
    assert_eq!(asked.lease, Some(setting.seconds()));
}

pub(crate) async fn a_lost_link(setting: Setting) {
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        setting.on(start.set("federation.idle_seconds", 1))
    })
    .await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(OPEN_PRESENCE).await;
    bob.show(&open("0")).await;
    let mut alice = Watcher::sign_in(here(&domains), "alice", "bob@b.example").await;
    alice.until_note("0").await;
    domains.cable("b.example").pull();
    alice.until(|held| held.state == Some(SubscriptionState::Stale)).await;
}

pub(crate) async fn silence(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let link = evil.call(here(&domains)).await;
    let ending = soon("the end of the link", link.ending()).await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
    assert_eq!(ending.others.len(), 1, "one PING: {:?}", ending.others);
}

pub(crate) async fn nothing_to_say(setting: Setting) {
    let (domains, evil) = with(setting, &[]).await;
    let mut link = evil.call(here(&domains)).await;
    assert_eq!(soon("the end of the link", link.bye()).await.reason, ByeReason::Idle);
}
