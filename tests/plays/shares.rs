//! One never starves the rest: what an account may ask for and store over all its connections, and
//! whose turn it is at the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use impp_protocol::command::Ping;
use impp_protocol::{Code, Error, What};
use impp_tests::peer::{fetch, message};
use impp_tests::server::Start;
use impp_tests::{Peer, Server, eventually};

use crate::settings::{Setting, large};

/// What an account's budget has no room for: when it may be asked again.
fn told_to_wait(error: &Error) -> Duration {
    assert_eq!(error.code, Code::RateLimited, "{error:?}");
    assert!(error.text.as_ref().unwrap().contains("your account"), "{error:?}");
    error.retry_after.unwrap()
}

/// An account has one budget, however many connections it has: over all of them it is told to slow
/// down, and when; nobody else is.
#[tokio::test]
async fn e13_h10_an_account_has_one_budget_whatever_its_connections() {
    const BURST: usize = 60;
    let start = Instant::now();
    let work = Server::with().set("limits.work_burst", BURST as i64);
    let server = work.set("limits.work_per_second", 1).start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let (mut done, mut longest) = (0, Duration::ZERO);
    for device in 1..=4 {
        let mut alice = Peer::sign_in_on(&server, "alice", device).await;
        for number in alice.flight((0..40).map(|_| Ping {}.into())).await {
            match alice.answer(number).await {
                Ok(_) => done += 1,
                Err(error) => longest = longest.max(told_to_wait(&error)),
            }
        }
    }
    let at_most = BURST + start.elapsed().as_secs() as usize + 1;
    assert!((BURST..=at_most).contains(&done), "{done} of four connections, {at_most} may be");
    assert!((1..=2).contains(&longest.as_secs()), "{longest:?}");
    bob.done(Ping {}).await;
}

/// What costs the server more costs the account more: all that is held is not read as often as a
/// PING is answered; nor is a whole log for a fate that is not in it.
#[tokio::test]
async fn h10_what_is_dear_costs_more() {
    const BURST: usize = 320;
    let asked = async |request: fn() -> impp_protocol::command::Fetch| {
        let work = Server::with().set("limits.work_burst", BURST as i64);
        let server = work.set("limits.work_per_second", 1).start();
        let (start, mut alice) = (Instant::now(), Peer::sign_in(&server, "alice").await);
        let (mut limited, mut done) = (false, 0);
        while !limited {
            match alice.request(request()).await {
                Err(error) if error.code == Code::RateLimited => limited = true,
                _ => done += 1,
            }
        }
        done - start.elapsed().as_secs() as usize
    };
    let requests = asked(|| fetch("alice@localhost", What::Requests)).await;
    assert!(requests <= BURST / 16 + 1, "{requests}");
    let fate = asked(|| {
        let id = Some(impp_tests::peer::id_at(0));
        impp_protocol::command::Fetch { id, ..fetch("alice@localhost", What::Fate) }
    });
    let fate = fate.await;
    assert!(fate <= BURST / 3 + 1, "{fate}");
}

/// Who has stored as much as may be at once stores no more for now, over any connection; whatever the
/// rules of the recipient do with it. Who stores little is served.
#[tokio::test]
async fn e13_an_account_stores_so_many_bytes_whatever_becomes_of_them() {
    const BYTES: usize = 50_000;
    let bytes = Server::with().set("limits.stored_bytes_burst", 10 * BYTES as i64);
    let server = bytes.set("limits.stored_bytes_per_second", 100).start();
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.set_rules("[[delivery]]\nid = \"d\"\nwho = [\"anyone\"]\naction = \"drop\"\n").await;
    let mut done = 0;
    for (device, to) in [(1, "bob@localhost"), (2, "carol@localhost")] {
        let mut alice = Peer::sign_in_on(&server, "alice", device).await;
        for _ in 0..6 {
            match alice.request(large(to, BYTES)).await {
                Ok(_) => done += 1,
                // So much has to come back.
                Err(error) => assert!(told_to_wait(&error).as_secs() <= 600),
            }
        }
        // Nothing of this is stored.
        alice.done(Ping {}).await;
    }
    assert_eq!(done, 9, "with its rows each is a little more than a tenth");
    carol.send("bob@localhost", "another account").await;
}

/// Who writes little does not wait behind all that somebody else has waiting for the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_little_waits_for_nobody_who_writes_much() {
    /// Of one account, together more than its share of the queue.
    const CONNECTIONS: u8 = 16;
    const FLIGHT: usize = 16;
    const TRIES: usize = 5;
    let start = Server::with().no_rates().set("inbox.items_max", 1_000_000);
    let server = start.set("inbox.bytes_max", 1_i64 << 40).start();
    let over = Arc::new(AtomicBool::new(false));
    let mut floods = Vec::new();
    for device in 1..=CONNECTIONS {
        let (mut alice, over) = (Peer::sign_in_on(&server, "alice", device).await, over.clone());
        floods.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let much = (0..FLIGHT).map(|_| large("bob@localhost", 60_000).into());
                for number in alice.flight(much).await {
                    if let Err(error) = alice.answer(number).await {
                        assert_eq!(error.code, Code::Busy, "more than its share waits already");
                    }
                }
            }
        }));
    }
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut stored = Vec::new();
    for n in 0..TRIES {
        // As many again have come to their end: the queue is as full as it gets.
        let before = server.metrics().get("impp_messages_total");
        let enough = before + f64::from(CONNECTIONS) * FLIGHT as f64;
        eventually("the flood to flow", async || {
            (server.metrics().get("impp_messages_total") >= enough).then_some(())
        })
        .await;
        stored.push(server.metrics().get("impp_messages_total") as usize);
        carol.send("bob@localhost", &format!("{n} little")).await;
    }
    over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.await.unwrap();
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    let of_carol = |m: &impp_protocol::command::Message| m.from.as_ref() == Some(&carol.address);
    let places = inbox.iter().enumerate().filter(|(_, m)| of_carol(m)).map(|(at, _)| at);
    let waited: Vec<usize> = places.zip(stored).map(|(at, n)| at.saturating_sub(n)).collect();
    assert_eq!(waited.len(), TRIES);
    // What is in the group that is just written, and in its own; not all that waits. The machine may
    // be slow in between, but not each time.
    assert!(waited.iter().min().unwrap() < &60, "{waited:?} of another account came before");
}

fn budget(start: Start, work: (i64, i64), bytes: (i64, i64)) -> Server {
    start
        .set("limits.work_per_second", work.0)
        .set("limits.work_burst", work.1)
        .set("limits.stored_bytes_per_second", bytes.0)
        .set("limits.stored_bytes_burst", bytes.1)
        .start()
}

const ENOUGH: (i64, i64) = (1_000_000, 1_000_000);

pub(crate) async fn work_soon_after(setting: Setting) {
    too_much_work(&budget(Server::with(), (setting.value, 10), ENOUGH)).await;
}

pub(crate) async fn work_at_once(setting: Setting) {
    too_much_work(&budget(Server::with(), (1, setting.value), ENOUGH)).await;
}

async fn too_much_work(server: &Server) {
    let start = Instant::now();
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut done = 0;
    for _ in 0..30 {
        match alice.request(Ping {}).await {
            Ok(_) => done += 1,
            Err(error) => drop(told_to_wait(&error)),
        }
    }
    let at_most = 10 + start.elapsed().as_secs() + 1;
    assert!((10..=at_most).contains(&done), "{done} done, {at_most} may be");
}

pub(crate) async fn bytes_soon_after(setting: Setting) {
    too_many_bytes(&budget(Server::with(), ENOUGH, (setting.value, 5000))).await;
}

pub(crate) async fn bytes_at_once(setting: Setting) {
    too_many_bytes(&budget(Server::with(), ENOUGH, (1, setting.value))).await;
}

async fn too_many_bytes(server: &Server) {
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.done(large("bob@localhost", 2500)).await;
    let error = alice.request(large("bob@localhost", 2500)).await.unwrap_err();
    assert!(told_to_wait(&error) > Duration::from_secs(60));
    // What is less may have room.
    alice.done(message("bob@localhost", "")).await;
}
