//! One never starves the rest: what an account may ask for and store over all its connections, and
//! whose turn it is at the disk.

use std::time::{Duration, Instant};

use impp_protocol::command::Ping;
use impp_protocol::state::{self, DeviceEdit, Devices, SubscriptionEdit};
use impp_protocol::{By, Code, Error, What};
use impp_tests::peer::{fetch, message, publish};
use impp_tests::presence::at_once;
use impp_tests::server::Start;
use impp_tests::{Peer, Server};

use crate::links_mended::one;
use crate::settings::{OPEN_PRESENCE, Setting, large};

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
        for number in alice.flight((0..40).map(|_| Ping::empty().into())).await {
            match alice.answer(number).await {
                Ok(_) => done += 1,
                Err(error) => longest = longest.max(told_to_wait(&error)),
            }
        }
    }
    let at_most = BURST + start.elapsed().as_secs() as usize + 1;
    assert!((BURST..=at_most).contains(&done), "{done} of four connections, {at_most} may be");
    assert!((1..=2).contains(&longest.as_secs()), "{longest:?}");
    bob.done(Ping::empty()).await;
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
        alice.done(Ping::empty()).await;
    }
    assert_eq!(done, 10, "each is a little more than a tenth, and the last one owes the rest");
    carol.send("bob@localhost", "another account").await;
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
        match alice.request(Ping::empty()).await {
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
    // The second has room for a beginning, and owes the rest.
    for _ in 0..2 {
        alice.done(large("bob@localhost", 2500)).await;
    }
    for message in [large("bob@localhost", 2500), message("bob@localhost", "")] {
        let error = alice.request(message).await.unwrap_err();
        assert!(told_to_wait(&error) > Duration::from_secs(60));
    }
    alice.done(Ping::empty()).await;
}

/// What a sender was answered, one after the other.
async fn answers(sender: &mut Peer, to: &str, many: usize) -> Vec<Option<Code>> {
    let mut answers = Vec::new();
    for n in 0..many {
        let answer = sender.request(message(to, &n.to_string())).await;
        answers.push(answer.err().map(|error| {
            assert_eq!(error.by, By::Recipient, "{error:?}");
            error.code
        }));
    }
    answers
}

/// No sender fills an inbox: each has a share, and the others find room. What was acknowledged makes
/// room again; and a sender whose messages the rules drop is told the same as one whose messages
/// are kept.
#[tokio::test]
async fn e8_a_sender_has_a_share_of_an_inbox_and_the_rest_is_for_others() {
    let server = Server::with().set("inbox.items_max", 40).start();
    ["dave", "erin"].iter().for_each(|name| server.add(name));
    let mut bob = Peer::sign_in(&server, "bob").await;
    let drop = "[[delivery]]\nid = \"d\"\nwho = [\"dave@localhost\"]\naction = \"drop\"\n\
                [[delivery]]\nid = \"a\"\nwho = [\"authenticated\"]\n\
                except = [\"dave@localhost\"]\naction = \"accept\"\n";
    bob.set_rules(drop).await;
    let mut told = Vec::new();
    for name in ["alice", "carol", "dave"] {
        let mut sender = Peer::sign_in(&server, name).await;
        told.push(answers(&mut sender, "bob@localhost", 12).await);
        // Another inbox is another matter.
        sender.send("alice@localhost", "hi").await;
    }
    let share: Vec<_> = (0..12).map(|n| (n >= 10).then_some(Code::Full)).collect();
    assert_eq!(told, vec![share.clone(); 3]);
    let mut erin = Peer::sign_in(&server, "erin").await;
    erin.send("bob@localhost", "there is room for me").await;
    assert_eq!(bob.inbox().await.len(), 21);
    bob.ack_all().await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(answers(&mut alice, "bob@localhost", 12).await, share);
}

/// Who is dropped finds an inbox as full as it is for everybody else, and takes nobody's place.
#[tokio::test]
async fn e8_a_full_inbox_is_full_for_who_is_dropped_too() {
    let server = Server::with().set("inbox.items_max", 3).start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let drop = "[[delivery]]\nid = \"d\"\nwho = [\"carol@localhost\"]\naction = \"drop\"\n\
                [[delivery]]\nid = \"a\"\nwho = [\"authenticated\"]\n\
                except = [\"carol@localhost\"]\naction = \"accept\"\n";
    bob.set_rules(drop).await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.send("bob@localhost", "dropped").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let full = [None, None, None, Some(Code::Full)];
    assert_eq!(answers(&mut alice, "bob@localhost", 4).await, full);
    assert_eq!(answers(&mut carol, "bob@localhost", 1).await, [Some(Code::Full)]);
    assert_eq!(bob.inbox().await.len(), 3);
}

/// No stranger and no domain has all the places of those who wait for a decision; and it is the same
/// for an address that does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn e8_f14_a_stranger_and_a_domain_have_their_share_of_what_is_held() {
    let (domains, evil) = one(|start| start.set("limits.pending_max", 40)).await;
    let server = &domains["a.example"];
    let mut link = evil.call(server).await;
    let mut told = Vec::new();
    for who in ["alice@a.example", "nobody@a.example"] {
        let mut of = Vec::new();
        for sender in ["mallory", "malvina", "malcolm"] {
            let mut taken = 0;
            for n in 0..12 {
                match link.request(evil.message(sender, who, &n.to_string())).await {
                    Ok(_) => taken += 1,
                    Err(error) => assert_eq!((error.code, error.by), (Code::Full, By::Recipient)),
                }
            }
            of.push(taken);
        }
        told.push(of);
    }
    assert_eq!(told, [[10, 10, 0], [10, 10, 0]]);
    // There is room for who lives here.
    let mut alice = Peer::sign_in(server, "alice").await;
    let hold = "[[delivery]]\nid = \"h\"\nwho = [\"authenticated\"]\naction = \"hold\"\n";
    alice.set_rules(hold).await;
    let mut bob = Peer::sign_in(server, "bob").await;
    bob.send("alice@a.example", "may I?").await;
    assert_eq!(alice.requests().await.entries.len(), 3);
}

/// What an account follows by leases is bounded over all its sessions and devices, also when they are
/// gone; what it follows already it may refresh.
pub(crate) async fn one_lease_more(setting: Setting) {
    let server = setting.on(Server::with()).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.follow_for("bob@localhost", 3600).await.unwrap();
    alice.leave().await;
    let mut alice = Peer::sign_in_on(&server, "alice", 2).await;
    let error = alice.follow_for("carol@localhost", 3600).await.unwrap_err();
    assert_eq!((error.code, error.by), (Code::Full, By::Server));
    alice.follow_for("bob@localhost", 3600).await.unwrap();
    // Without a lease it ends with the session.
    alice.follow("carol@localhost").await;
    alice.leave().await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let cancel = SubscriptionEdit { cancel: "bob@localhost".parse().unwrap() };
    let cancel = Some(state::encode(&cancel));
    alice.done(publish("alice@localhost", What::Subscriptions, cancel)).await;
    alice.follow_for("carol@localhost", 3600).await.unwrap();
}

/// The leases of a device go with it, and are no burden to whom it followed.
#[tokio::test]
async fn h10_a_device_that_is_removed_takes_its_leases_with_it() {
    let server = at_once().accounts(["alice"]).start();
    for name in ["bob", "carol"] {
        server.add(name);
        Peer::sign_in(&server, name).await.set_rules(OPEN_PRESENCE).await;
    }
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    for presentity in ["bob@localhost", "carol@localhost"] {
        phone.follow_for(presentity, 3600).await.unwrap();
    }
    phone.leave().await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.subscriptions().await.len(), 2);
    // On another device too, and that one stays.
    alice.follow_for("carol@localhost", 3600).await.unwrap();
    let devices = alice.done(fetch("alice@localhost", What::Devices)).await.content.unwrap();
    let devices: Devices = state::decode(devices).unwrap();
    let phone = devices.entries.into_iter().find(|device| !device.current).unwrap().id;
    let remove = Some(state::encode(&DeviceEdit { remove: phone }));
    alice.done(publish("alice@localhost", What::Devices, remove)).await;
    let left: Vec<_> = alice.subscriptions().await.into_iter().map(|s| s.presentity).collect();
    assert_eq!(left, ["carol@localhost".parse().unwrap()]);
}
