//! On a full disk: what takes back is done, what only grows is refused, and who filled the disk takes
//! neither from the others nor from the operator. Fault G8.
//!
//! That senders are told in time is in `messages_crash`, that nothing unstored is seen in `unstored`.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Publish, Subscribe};
use impp_protocol::state::{
    self, Contact, ContactEdit, Contacts, Decision, Device, DeviceEdit, Devices, Grant,
    RequestKind, SubscriptionState,
};
use impp_protocol::{Code, Error, What};
use impp_tests::disk::SmallDisk;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, open};
use impp_tests::server::Start;
use impp_tests::{Domains, Server, Wire, eventually};

use crate::removal::full_life;
use crate::rules::{ALL, decide, rule};

const DISK_BYTES: u64 = 48 * 1024 * 1024;
/// How long a home keeps a watcher of another domain that is not renewed.
const LEASE: Duration = Duration::from_secs(8);
/// More than an account may take back by, in several steps.
const STEPS_MAX: usize = 1000;

/// A server whose store is on a disk of its own; none where none can be mounted.
pub(crate) fn on_small_disk(start: Start) -> Option<(SmallDisk, Server)> {
    let disk = SmallDisk::mount(DISK_BYTES)?;
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let server = start.no_rates().store(&store).start();
    Some((disk, server))
}

/// Fills the disk until the server has noticed, and then what it has given up of its reserve: so
/// that what is done from now on is done with further parts of that.
pub(crate) async fn fill(disk: &SmallDisk, by: &mut Peer) {
    disk.fill();
    let (own, long) = (by.address.clone(), "x".repeat(60 * 1024));
    for _ in 0..4000 {
        if let Err(error) = by.request(message(own.as_str(), &long)).await {
            assert_eq!(error.code, Code::Storage, "{error:?}");
            disk.fill();
            return;
        }
    }
    panic!("the disk does not get full");
}

/// Takes for the filler all that the server gives up of its reserve for anybody but the operator.
pub(crate) async fn exhaust(disk: &SmallDisk, by: &mut Peer) {
    for step in 0..STEPS_MAX {
        if try_rules(by, &format!("#{step}{}", "x".repeat(8000))).await.is_err() {
            return;
        }
        disk.fill();
    }
    panic!("it does not come to an end");
}

async fn end(watcher: &mut Peer, presentity: &str) -> Result<Done, Error> {
    let lease = Some(Duration::ZERO);
    watcher.request(Subscribe { lease, ..subscribe(presentity, What::Presence) }).await
}

async fn try_rules(peer: &mut Peer, text: &str) -> Result<Done, Error> {
    let own = peer.address.clone();
    let base = peer.done(fetch(own.as_str(), What::Rules)).await.number;
    let content = Some(Bytes::copy_from_slice(text.as_bytes()));
    peer.request(Publish { base, ..publish(own.as_str(), What::Rules, content) }).await
}

async fn contacts(peer: &mut Peer) -> Vec<Contact> {
    let fetch = fetch(peer.address.clone().as_str(), What::Contacts);
    state::decode::<Contacts>(peer.done(fetch).await.content.unwrap()).unwrap().entries
}

async fn devices(peer: &mut Peer) -> Vec<Device> {
    let fetch = fetch(peer.address.clone().as_str(), What::Devices);
    state::decode::<Devices>(peer.done(fetch).await.content.unwrap()).unwrap().entries
}

/// A disk is full to the last byte, and whoever fills it takes what the server gives up as well. Each
/// way to take back works, refreshes do, and what is new is refused; all of that is so after a kill
/// -9 and a start on the disk as it is.
#[tokio::test]
async fn g8_on_a_full_disk_each_way_to_take_back_works() {
    let start = at_once().accounts(["alice", "bob", "mallory"]);
    let Some((disk, mut server)) = on_small_disk(start) else { return };
    ["carol", "dave", "erin"].iter().for_each(|name| server.add(name));
    let mut alice = Peer::sign_in(&server, "alice").await;
    Peer::sign_in_on(&server, "alice", 2).await.leave().await;
    let mut mallory = Peer::sign_in(&server, "mallory").await;
    let hold = "[[delivery]]\nid = \"hold\"\nwho = [\"anyone\"]\naction = \"hold\"\n";
    let confirm = rule("carol", "confirm", "") + &rule("dave", "allow", ALL);
    alice.set_rules(&(confirm + &rule("erin", "allow", ALL) + hold)).await;
    alice.show_for(&open("here"), 3600).await.unwrap();
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut dave = Peer::sign_in(&server, "dave").await;
    let mut erin = Peer::sign_in(&server, "erin").await;
    for watcher in [&mut carol, &mut dave, &mut erin] {
        watcher.follow_for("alice@localhost", 3600).await.unwrap();
    }
    carol.send("alice@localhost", "held").await;
    fill(&disk, &mut mallory).await;

    // What is new is refused; what was there is renewed.
    let error = carol.follow_for("bob@localhost", 3600).await.unwrap_err();
    assert_eq!(error.code, Code::Storage);
    assert!(error.text.unwrap().contains("nothing was stored"));
    dave.follow_for("alice@localhost", 3600).await.expect("a refresh");
    // Denials, of who asks and of what waits.
    decide(&mut alice, &"carol@localhost".parse().unwrap(), Decision::Deny).await;
    disk.fill();
    assert_eq!(alice.requests().await.entries, vec![]);
    // Ends of subscriptions, by either side; and barring.
    end(&mut dave, "alice@localhost").await.expect("the end of a subscription");
    let barred = rule("erin", "block", "") + &rule("dave", "allow", ALL) + &"#".repeat(5000) + "\n";
    try_rules(&mut alice, &(barred + hold)).await.expect("rules");
    assert_eq!(alice.watchers().await.iter().filter(|w| is_live(w.state)).count(), 0);
    disk.fill();
    // Removals: a device, a layer, what a contact is granted, a contact.
    let other = devices(&mut alice).await.into_iter().find(|device| !device.current);
    let remove = other.unwrap().id;
    let edit = Some(state::encode(&DeviceEdit { remove }));
    alice.done(publish("alice@localhost", What::Devices, edit)).await;
    alice.hide().await;
    let mut entry = contacts(&mut alice).await.swap_remove(0);
    let address = entry.address.clone();
    (entry.grant, entry.follow, entry.subscription) = (Grant::None.into(), false, None);
    alice.edit_contacts(&ContactEdit::set(entry)).await;
    alice.edit_contacts(&ContactEdit::remove(address)).await;
    disk.fill();
    // The operator.
    server.user_ok(&["disable", "bob@localhost"]);
    server.user_ok(&["passwd", "dave@localhost"]);
    server.user_ok(&["remove", "erin@localhost"]);
    assert_eq!(server.user(&["add", "frank@localhost"]).status.code(), Some(5));

    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(contacts(&mut alice).await.len(), 1);
    assert_eq!(devices(&mut alice).await.len(), 1);
    assert!(alice.watchers().await.iter().all(|watcher| !is_live(watcher.state)));
    assert!(alice.requests().await.entries.iter().all(|e| e.kind != RequestKind::Message));
    let mut carol = Peer::sign_in(&server, "carol").await;
    assert_eq!(carol.refused(fetch("alice@localhost", What::Presence)).await, Code::Refused);
    for gone in ["bob", "dave"] {
        let signed_in = Peer::over(Wire::dial(&server).await, &server.profile(gone), 1).await;
        assert_eq!(signed_in.unwrap_err().code, Code::AuthFailed, "{gone}");
    }
    assert!(!server.user_ok(&["list"]).contains("erin@localhost"));
}

fn is_live(state: SubscriptionState) -> bool {
    state != SubscriptionState::Terminated
}

/// What an account may take back by has a bound: it comes to its end, nobody else's does, and there
/// is a new part when there was room again.
#[tokio::test]
async fn g8_who_uses_up_its_part_of_the_reserve_takes_it_from_nobody() {
    let start = at_once().accounts(["alice", "mallory"]);
    let Some((disk, server)) = on_small_disk(start) else { return };
    server.add("carol");
    let mut mallory = Peer::sign_in(&server, "mallory").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    for _ in 0..2 {
        try_rules(&mut mallory, "").await.unwrap();
        fill(&disk, &mut mallory).await;
        let mut steps = 0;
        let error = loop {
            steps += 1;
            assert!(steps < STEPS_MAX, "there is no bound");
            let text = format!("#{}", "x".repeat(steps * 1000));
            if let Err(error) = try_rules(&mut mallory, &text).await {
                break error;
            }
        };
        assert_eq!(error.code, Code::Storage);
        assert!(steps > 1, "it takes back");
        let text = rule("carol", "block", "");
        try_rules(&mut alice, &text).await.expect("another has its own part");
        server.user_ok(&["disable", "carol@localhost"]);
        server.user_ok(&["enable", "carol@localhost"]);
        std::fs::remove_file(disk.path().join("filler")).unwrap();
        eventually("room", async || (server.http("/healthz").0 == 200).then_some(())).await;
    }
}

/// Whoever fills the disk takes all that the server gives up, until it has nothing more to give to
/// anybody; the operator can still take back.
#[tokio::test]
async fn g8_what_is_kept_for_the_operator_nobody_else_uses_up() {
    let start = at_once().accounts(["alice", "bob", "mallory"]);
    let Some((disk, server)) = on_small_disk(start) else { return };
    let mut mallory = Peer::sign_in(&server, "mallory").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    fill(&disk, &mut mallory).await;
    exhaust(&disk, &mut alice).await;
    assert!(try_rules(&mut alice, "").await.is_err(), "there is no room for anything");
    server.user_ok(&["disable", "bob@localhost"]);
    disk.fill();
    server.user_ok(&["disable", "mallory@localhost"]);
}

/// Whose part of the reserve is used up, and whoever else's: an account goes with all that it has, where it
/// is watched and where it watches. What is not done at once is not forgotten over a kill -9 either.
#[tokio::test]
async fn g8_i9_accounts_are_removed_on_the_operators_last_part() {
    let start = at_once().accounts(["alice", "bob", "mallory"]);
    let Some((disk, mut server)) = on_small_disk(start) else { return };
    full_life(&server).await;
    let mut erin = Peer::sign_in(&server, "erin").await;
    let mut mallory = Peer::sign_in(&server, "mallory").await;
    fill(&disk, &mut mallory).await;
    exhaust(&disk, &mut mallory).await;
    // Whom alice follows has used up her part, too.
    exhaust(&disk, &mut erin).await;
    assert!(try_rules(&mut erin, "").await.is_err(), "there is no room for anything");
    let records_of = |name: &str| -> Vec<u8> {
        let store = rusqlite::Connection::open(disk.path().join("store/store.sqlite")).unwrap();
        let sql = "SELECT kind FROM record WHERE substr(key, 1, length(?1)) = CAST(?1 AS BLOB)";
        let mut statement = store.prepare(sql).unwrap();
        let kinds = statement.query_map([name], |row| row.get(0)).unwrap();
        kinds.map(Result::unwrap).collect()
    };
    for name in ["alice", "dave", "mallory", "bob"] {
        disk.fill();
        assert!(records_of(name).len() > 1, "{name} has something");
        server.user_ok(&["remove", &format!("{name}@localhost")]);
        assert_eq!(records_of(name), [1], "{name}");
        if name == "dave" {
            server.kill9();
            server.restart();
        }
    }
    let mut erin = Peer::sign_in(&server, "erin").await;
    assert!(erin.watchers().await.iter().all(|watcher| !is_live(watcher.state)));
    let listed = server.user_ok(&["list"]);
    assert!(listed.contains("erin@") && !listed.contains("alice@"), "{listed}");
}

/// Where not even a refresh can be stored, what it would have renewed stands as before, and who asked
/// is told that: a subscription and a publication.
#[tokio::test]
async fn g8_a_refresh_that_is_refused_leaves_what_stands() {
    let start = at_once().accounts(["alice", "mallory"]);
    let Some((disk, server)) = on_small_disk(start) else { return };
    server.add("bob");
    let mut mallory = Peer::sign_in(&server, "mallory").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    alice.show_for(&open("before"), 3600).await.unwrap();
    bob.follow_for("alice@localhost", 3600).await.unwrap();
    fill(&disk, &mut mallory).await;
    exhaust(&disk, &mut mallory).await;
    for refused in [
        bob.follow_for("alice@localhost", 3600).await,
        alice.show_for(&open("longer, and so refused"), 3600).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code, Code::Storage);
        let text = error.text.unwrap();
        assert!(text.contains("nothing was stored, and what stood before stands"), "{text}");
    }
    let kept = bob.subscriptions().await;
    assert!(kept.iter().any(|s| s.state == SubscriptionState::Active && s.expires_in.is_some()));
    let mut other = Peer::sign_in_on(&server, "alice", 2).await;
    other.show(&open("after")).await;
    let mut bob = Watcher { peer: bob, presentity: "alice@localhost".into(), held: <_>::default() };
    bob.until_note("after").await;
    other.hide().await;
    bob.until_note("before").await;
}

/// The disks of two domains are full. Each watcher of the other domain stays for several leases, and
/// sees what there is to see; also over a new link.
#[tokio::test(flavor = "multi_thread")]
async fn g8_on_full_disks_watchers_of_other_domains_stay() {
    let names = ["a.example", "b.example"];
    let mut disks = Vec::new();
    for _ in names {
        let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
        std::fs::create_dir(disk.path().join("store")).unwrap();
        disks.push(disk);
    }
    let on = |name: &str| &disks[names.iter().position(|n| *n == name).unwrap()];
    let domains = Domains::with(&names, |name, start| {
        let start = start.set("times.lease_min_seconds", 1);
        let start = start.set("federation.lease_seconds", LEASE.as_secs() as i64);
        let start = start.no_rates();
        start.store(&on(name).path().join("store"))
    })
    .await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    let rules = "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n\
                 fields = [\"all\"]\n";
    bob.set_rules(rules).await;
    bob.show(&open("before")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", "bob@b.example").await;
    alice.until_note("before").await;
    for name in names {
        let mut carol = Peer::sign_in(&domains[name], "carol").await;
        fill(on(name), &mut carol).await;
    }
    for round in ["first", "second"] {
        // Longer than the home keeps a watcher that is not renewed.
        tokio::time::sleep(LEASE * 2).await;
        let told = alice.peer.fenced().await;
        let void = [SubscriptionState::Terminated, SubscriptionState::Unknown];
        assert!(told.iter().all(|notify| !void.contains(&notify.state)), "{told:?}");
        told.iter().for_each(|notify| alice.held.take(notify));
        bob.show(&open(round)).await;
        alice.until_note(round).await;
        if round == "first" {
            domains.cable("b.example").pull();
            domains.cable("b.example").plug();
            bob.show(&open("over a new link")).await;
            alice.until_note("over a new link").await;
        }
    }
    for name in names {
        assert_eq!(domains[name].http("/healthz").0, 503);
    }
}
