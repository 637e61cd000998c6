//! The wall clock is set while the server runs: fault G12, and what of E12 and I8 hangs on time.
//!
//! The server's clock is set by libfaketime, which reads from a file what the time is; its monotonic
//! clock is left alone, as whoever sets a clock leaves it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use impp_protocol::command::{Message, Outcome, Ping};
use impp_protocol::presence::Document;
use impp_protocol::state::{Fate, SubscriptionState};
use impp_protocol::{By, Code, MessageId, Timestamp, What};
use impp_tests::peer::{Peer, fetch, id_at, message};
use impp_tests::presence::{Watcher, at_once, open};
use impp_tests::wait::skipped;
use impp_tests::{Domains, Server, eventually};

use crate::presence_leases::{alice_and_dave, brief};

const DAY: i64 = 86_400;
const TEN_YEARS: i64 = 3650 * DAY;

/// The clock of a server.
struct WallClock {
    library: PathBuf,
    folder: tempfile::TempDir,
}

impl WallClock {
    /// So many seconds ahead; none where the clock cannot be set for one program alone.
    fn ahead(seconds: i64) -> Option<WallClock> {
        let of_machine = |folder: std::fs::DirEntry| {
            let library = folder.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        };
        let mut folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
        let Some(library) = folders.find_map(of_machine) else {
            skipped("libfaketime is not there");
            return None;
        };
        let clock = WallClock { library, folder: tempfile::tempdir().unwrap() };
        clock.set(seconds);
        Some(clock)
    }

    /// Sets it.
    fn set(&self, seconds: i64) {
        let (next, file) = (self.folder.path().join("next"), self.file());
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    /// Sets it, and waits until the server has noticed this time.
    async fn step(&self, server: &Server, seconds: i64) {
        let steps = || server.stderr().matches("clock: stepped by").count();
        let before = steps();
        self.set(seconds);
        eventually("the step to be noticed", async || (steps() > before).then_some(())).await;
        assert_eq!(steps(), before + 1, "{}", server.stderr());
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// What starts a server by this clock.
    fn command(&self) -> Vec<OsString> {
        let of = |name: &str, value: PathBuf| {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            word
        };
        vec![
            "env".into(),
            of("LD_PRELOAD", self.library.clone()),
            of("FAKETIME_TIMESTAMP_FILE", self.file()),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            "NO_FAKE_STAT=1".into(),
        ]
    }
}

/// A message whose id is of the server's time.
fn at(ahead: i64) -> Message {
    Message { id: id_at(ahead), ..message("dave@localhost", "by the clock of now") }
}

async fn assert_holds(alice: &mut Peer, dave: &mut Peer, accepted: &Message, when: &str) {
    assert_eq!(dave.look("alice@localhost").await, open("leased"), "{when}");
    let watchers = alice.watchers().await;
    let standing = watchers.iter().find(|entry| entry.watcher.local() == "dave");
    assert_eq!(standing.map(|entry| entry.state), Some(SubscriptionState::Active), "{when}");
    let repeat = alice.done(accepted.clone()).await.outcome;
    assert_eq!(repeat, Some(Outcome::Duplicate), "{when}");
}

/// Leases go on over every step, and over a restart after it; messages are taken by the clock as it is
/// then, and a repeat is known whatever it says. Each step is told once.
#[tokio::test]
async fn g12_e12_a_step_ends_no_lease_and_makes_no_message_twice() {
    let Some(clock) = WallClock::ahead(0) else { return };
    let mut server = brief().under(clock.command()).start();
    let (mut alice, mut dave) = alice_and_dave(&server).await;
    dave.set_rules("[[delivery]]\nid = \"a\"\nwho = [\"anyone\"]\naction = \"accept\"\n").await;
    alice.show_for(&open("leased"), 4000).await.unwrap();
    dave.follow_for("alice@localhost", 4000).await.unwrap();
    let accepted = at(0);
    alice.done(accepted.clone()).await;
    // Also an hour after the beginning of 1970.
    let now = id_at(0).time().unwrap().as_millis() / 1000;
    for ahead in [3600, TEN_YEARS, -TEN_YEARS, 3600 - now.cast_signed()] {
        clock.step(&server, ahead).await;
        assert_eq!(alice.done(at(ahead)).await.outcome, Some(Outcome::Delivered), "{ahead}");
        assert_eq!(alice.refused(at(ahead + 3600)).await, Code::OutOfWindow, "{ahead}");
        assert_holds(&mut alice, &mut dave, &accepted, &format!("{ahead}")).await;
    }
    clock.step(&server, TEN_YEARS).await;
    server.kill9();
    server.restart();
    alice = Peer::sign_in_on(&server, "alice", 2).await;
    dave = Peer::sign_in(&server, "dave").await;
    assert_holds(&mut alice, &mut dave, &accepted, "after the restart").await;
    assert_eq!(dave.inbox().await.len(), 5);
    assert_eq!(server.metrics().get("impp_clock_steps_total"), 0.0);
    clock.step(&server, 0).await;
    assert_eq!(server.metrics().get("impp_clock_steps_total"), 1.0);
    assert_holds(&mut alice, &mut dave, &accepted, "put right").await;
}

/// A step forward takes no history away: what was acknowledged is old by it, and is not when the clock
/// is put right.
#[tokio::test]
async fn g12_a_step_forward_takes_no_history_away() {
    let Some(clock) = WallClock::ahead(0) else { return };
    let server = at_once().set("inbox.retention_days", 30).under(clock.command()).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("bob@localhost", "kept").await;
    clock.step(&server, TEN_YEARS).await;
    bob.ack_all().await;
    assert_eq!(bob.inbox().await.len(), 1);
}

/// A clock that falls back by years holds no lease for longer than was granted: neither while the
/// server runs, nor where the server is started with it.
#[tokio::test]
async fn g12_a_clock_that_falls_back_holds_nothing() {
    let Some(clock) = WallClock::ahead(0) else { return };
    let mut server = brief().under(clock.command()).start();
    let (mut alice, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    alice.show_for(&open("for a moment"), 4).await.unwrap();
    // It was there, so that its end is one.
    dave.until_note("for a moment").await;
    clock.step(&server, -TEN_YEARS).await;
    dave.until(|held| held.document() == &Document::offline()).await;
    alice.show_for(&open("for another"), 4).await.unwrap();
    dave.until_note("for another").await;
    server.kill9();
    clock.set(-2 * TEN_YEARS);
    server.restart();
    // What is left of it is about what was granted: the moments since time was last noted come on top.
    let mut alice = Peer::sign_in(&server, "alice").await;
    let asked = alice.request(fetch("alice@localhost", What::Layer)).await;
    let left = asked.map_or(Duration::ZERO, |layer| layer.lease.unwrap());
    assert!(left <= Duration::from_secs(60), "{left:?}");
    let mut dave = Peer::sign_in(&server, "dave").await;
    eventually("the lease to end", async || {
        let seen = dave.look("alice@localhost").await;
        (seen == Document::offline()).then_some(())
    })
    .await;
}

/// I8: a server that was first started with a clock that is wrong serves everybody as soon as it is
/// put right, without a restart.
#[tokio::test]
async fn g12_i8_a_clock_that_was_wrong_at_the_start_is_followed() {
    for wrong in [-3 * DAY, TEN_YEARS] {
        let Some(clock) = WallClock::ahead(wrong) else { return };
        let server = at_once().under(clock.command()).start();
        let mut alice = Peer::sign_in(&server, "alice").await;
        let to_bob = |ahead| Message { to: "bob@localhost".parse().unwrap(), ..at(ahead) };
        assert_eq!(alice.refused(to_bob(0)).await, Code::OutOfWindow);
        let early = to_bob(wrong);
        assert_eq!(alice.done(early.clone()).await.outcome, Some(Outcome::Delivered));
        clock.step(&server, 0).await;
        // Who is told by HELLO what the time was asks for it again.
        let told = alice.done(Ping::empty()).await.time.unwrap();
        let now = MessageId::new(told, *id_at(0).0.last_chunk().unwrap());
        let message = Message { id: now, ..to_bob(0) };
        assert_eq!(alice.done(message).await.outcome, Some(Outcome::Delivered));
        assert_eq!(alice.done(to_bob(0)).await.outcome, Some(Outcome::Delivered));
        assert_eq!(alice.done(early).await.outcome, Some(Outcome::Duplicate));
        assert_eq!(alice.refused(to_bob(wrong)).await, Code::OutOfWindow);
    }
}

/// A domain whose clock is wrong refuses what others send; once it is put right, all of them are
/// heard, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn g12_i8_other_domains_are_heard_when_the_clock_is_put_right() {
    let Some(clock) = WallClock::ahead(-3 * DAY) else { return };
    let domains = Domains::with(&["a.example", "b.example"], |name, start| match name {
        "b.example" => start.under(clock.command()),
        _ => start,
    })
    .await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let early = alice.queue("bob@b.example", "too early").await;
    let fate = alice.fate(early).await;
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::OutOfWindow)));
    assert_eq!(fate.by, Some(By::Home));
    clock.step(&domains["b.example"], 0).await;
    let heard = alice.queue("bob@b.example", "heard").await;
    assert_eq!(alice.fate(heard).await.fate, Fate::Delivered);
    assert_eq!(bob.texts(1).await, ["heard"]);
}

/// A queue that wakes with a clock days ahead tries before it gives up: what it could not bring before is
/// brought then, if it can be; by the clock of who gets it, it is not late at all.
#[tokio::test(flavor = "multi_thread")]
async fn g12_a_queue_of_days_ago_is_tried_before_it_ends() {
    let Some(clock) = WallClock::ahead(0) else { return };
    let mut domains = Domains::with(&["a.example", "b.example"], |name, start| match name {
        "a.example" => start.under(clock.command()),
        _ => start,
    })
    .await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    domains.cable("b.example").pull();
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let waits = alice.queue("bob@b.example", "waits").await;
    domains["a.example"].kill9();
    clock.set(3 * DAY);
    domains.cable("b.example").plug();
    domains["a.example"].restart();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    alice.until_delivered(waits).await;
    assert_eq!(bob.texts(1).await, ["waits"]);
}

/// A message's own end is judged by the clock of its recipient's home too, and told as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn g12_what_is_late_by_the_clock_of_its_home_has_expired() {
    let Some(clock) = WallClock::ahead(2 * DAY) else { return };
    let domains = Domains::with(&["a.example", "b.example"], |name, start| match name {
        "b.example" => start.under(clock.command()),
        _ => start,
    })
    .await;
    let mut alice = Peer::open_inbox(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let within = |id: MessageId, hours: u64| {
        let hour = 3_600_000;
        Some(Timestamp::from_millis(id.time().unwrap().as_millis() + hours * hour))
    };
    for (hours, fate, code) in [(1, Fate::Expired, None), (72, Fate::Delivered, None)] {
        let next = message("bob@b.example", &format!("for {hours} hours"));
        let next = Message { expires: within(next.id, hours), ..next };
        let id = next.id;
        assert_eq!(alice.done(next).await.outcome, Some(Outcome::Queued));
        let told = alice.fate(id).await;
        assert_eq!((told.fate, told.code), (fate, code), "{told:?}");
    }
    assert_eq!(bob.texts(1).await, ["for 72 hours"]);
}

/// What rules say of times goes by the clock on the wall, also when that is set: who may see no more
/// is withdrawn, and who may again can.
#[tokio::test]
async fn g12_a_rules_time_is_that_of_the_clock_as_it_is() {
    let Some(clock) = WallClock::ahead(0) else { return };
    let server = at_once().under(clock.command()).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("this week")).await;
    let now = id_at(0).time().unwrap().as_millis();
    let after = |days: u64| Timestamp::from_millis(now + days * 86_400_000);
    alice
        .set_rules(&format!(
            "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"all\"]\nvalid = [\"{}/{}\"]\n\n\
             [[rule]]\nid = \"ask\"\nwho = [\"bob@localhost\"]\nhandling = \"confirm\"\n",
            Timestamp::from_millis(now - 86_400_000),
            after(7),
        ))
        .await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &open("this week"));
    clock.step(&server, 8 * DAY).await;
    bob.until(|held| held.state == Some(SubscriptionState::Pending)).await;
    assert_eq!(bob.held.content, None);
    let looked = bob.peer.done(fetch("alice@localhost", What::Presence)).await;
    assert_eq!(looked.content, None);
    clock.step(&server, 0).await;
    bob.until(|held| held.state == Some(SubscriptionState::Active)).await;
    assert_eq!(bob.held.document(), &open("this week"));
}
