//! Devices that come and go over a store in memory.

use std::path::Path;

use impp_protocol::sasl::resume::Binding;
use impp_protocol::state::ItemKind;
use impp_storage::{MemoryStore, Options, ReadLog, SqliteStore, Store};

use super::room::DAY;
use super::*;
use crate::core::accounts::tests::verifier;
use crate::core::config::Config;
use crate::core::records::Services;
use crate::life::Server;
use crate::session::Session;
use crate::session::entry::enter as sign_in;
use crate::session::sign_in::Device;
use impp_presence::Lease;

const DAY_MILLIS: u64 = 86_400_000;

fn acting() -> Acting<scope::Account> {
    Acting::administrator(&alice())
}

fn alice() -> Address {
    Address::parse("alice@a.example").unwrap()
}

/// A server with one account that may have so many devices.
async fn start(max: usize) -> Server {
    start_on(Arc::new(MemoryStore::new().unwrap()), max).await
}

async fn start_on(store: Arc<dyn Store>, max: usize) -> Server {
    let text = format!(
        "[limits]\ndevices_max = {max}\n\
         [[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n"
    );
    let config = Config::parse(&text, Path::new("imppd.toml")).unwrap();
    let server = Server::load(config, store).await.unwrap();
    let (services, now) = (Services { pres: true, im: true }, server.ground.clock.now());
    let (accounts, verifier) = (&server.ground.accounts, verifier());
    accounts.add(&*server.ground.store, now, &alice(), services, verifier, vec![]).await.unwrap();
    server
}

async fn session(server: &Server, device: u8) -> Result<Session, Error> {
    let account = server.ground.accounts.get(&alice()).unwrap();
    let device = Device {
        id: DeviceId([device; 16]),
        name: Some(format!("device {device}")),
        binding: Binding::Exporter,
    };
    sign_in(&server.entrance.serving, &server.ground.accounts, account, device, true).await
}

/// Signs in on a device and leaves.
async fn visit(server: &Server, device: u8) -> Result<(), Code> {
    match session(server, device).await {
        Ok(session) => {
            session.end().await;
            Ok(())
        }
        Err(error) => Err(error.code),
    }
}

/// Has a device been used for the last time so long ago.
async fn last_used(server: &Server, device: u8, ago: u64) {
    let place = place::device(&alice(), DeviceId([device; 16]));
    let last_seen = server.ground.clock.now().as_millis() - ago;
    let record = DeviceRecord { name: None, last_seen };
    let unit = Unit::of(server.ground.clock.now(), vec![place.set(Some(&record))]);
    server.ground.store.submit(unit).await.unwrap();
}

async fn ids(server: &Server) -> Vec<u8> {
    server
        .entrance
        .serving
        .devices
        .all(&alice())
        .await
        .unwrap()
        .iter()
        .map(|known| known.id.0[0])
        .collect()
}

/// The devices of which the log says that they are gone.
async fn told_gone(server: &Server) -> Vec<(u8, DeviceEvent, Option<u8>)> {
    let query = ReadLog { owner: alice(), after: 0, items_max: 100, bytes_max: 1 << 20 };
    let items = server.ground.store.read(query).await.unwrap().items.into_iter();
    let device = u8::try_from(ItemKind::Device.number()).unwrap();
    let reports = items.filter(|item| item.kind == device).map(|item| {
        let report: DeviceReport = impp_protocol::state::decode(item.head).unwrap();
        (report.id.0[0], report.event, report.newcomer.map(|id| id.0[0]))
    });
    reports.collect()
}

/// The device unused longest goes with its layer, and the log says for which.
#[tokio::test]
async fn the_device_unused_longest_makes_room_and_shows_nothing_any_more() {
    let server = start(2).await;
    for (device, days) in [(1, 20), (2, 30)] {
        visit(&server, device).await.unwrap();
        last_used(&server, device, days * DAY_MILLIS).await;
    }
    let lease = Lease::Until(server.ground.clock.now().after(DAY));
    let patch = impp_protocol::presence::Patch::default();
    let publish = Change::Publish { device: DeviceId([2; 16]), patch, replace: true, lease };
    server.rooms.principals.change(&alice(), publish).await.unwrap();
    assert_eq!(scan(&*server.ground.store, &alice(), records::LAYER).await.unwrap().len(), 1);
    visit(&server, 3).await.unwrap();
    assert_eq!(ids(&server).await, [1, 3]);
    assert_eq!(told_gone(&server).await, [(2, DeviceEvent::MadeRoom, Some(3))]);
    assert_eq!(scan(&*server.ground.store, &alice(), records::LAYER).await.unwrap().len(), 0);
    let layer = |principal: &mut crate::core::principals::Principal, _| {
        principal.presentity.layers().of(DeviceId([2; 16])).is_some()
    };
    assert!(!server.rooms.principals.look(&alice(), layer).await.unwrap());
}

/// A device with a session, though it has no connection and is old, is in use.
#[tokio::test]
async fn a_device_whose_session_waits_to_be_resumed_makes_no_room() {
    let server = start(2).await;
    let parked = session(&server, 1).await.unwrap();
    parked.park(Duration::from_secs(600)).await;
    visit(&server, 2).await.unwrap();
    last_used(&server, 1, 30 * DAY_MILLIS).await;
    last_used(&server, 2, 20 * DAY_MILLIS).await;
    visit(&server, 3).await.unwrap();
    assert_eq!(ids(&server).await, [1, 3]);
}

/// However many come at once, there are never more devices than may be, and no more than four make
/// room.
#[tokio::test]
async fn new_devices_at_once_take_no_more_places_than_there_are() {
    // A store that has to be waited for, so that they do come at once.
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store"), Options::default()).unwrap();
    let server = Arc::new(start_on(Arc::new(store), 8).await);
    for device in 1..=6 {
        visit(&server, device).await.unwrap();
        last_used(&server, device, (10 + u64::from(device)) * DAY_MILLIS).await;
    }
    let newcomers = (101..=130).map(|device| {
        let server = server.clone();
        tokio::spawn(async move { visit(&server, device).await })
    });
    let mut entered = 0;
    for newcomer in newcomers.collect::<Vec<_>>() {
        match newcomer.await.unwrap() {
            Ok(()) => entered += 1,
            Err(code) => assert_eq!(code, Code::Full),
        }
    }
    // Two places were free.
    assert_eq!((entered, ids(&server).await.len()), (6, 8));
    let gone: Vec<u8> = told_gone(&server).await.into_iter().map(|(gone, ..)| gone).collect();
    assert_eq!(gone, [6, 5, 4, 3]);
}

/// The use of a device is stored when its session ends, is lost, or is taken up again; not when it
/// was taken away.
#[tokio::test]
async fn the_use_of_a_device_is_stored_when_its_session_ends() {
    let server = start(2).await;
    let long_ago = Timestamp::from_millis(0);
    for how in ["end", "park", "resume", "revoke"] {
        visit(&server, 1).await.unwrap();
        let mut session = session(&server, 1).await.unwrap();
        last_used(&server, 1, 30 * DAY_MILLIS).await;
        session.client.mailbox.seen_at(long_ago);
        let mailbox = session.client.mailbox.clone();
        match how {
            "end" => session.end().await,
            "park" => session.park(Duration::ZERO).await,
            "resume" => {
                session.resume().await.unwrap();
                // It is stored beside it.
                while mailbox.is_use_due(server.ground.clock.now(), LAST_SEEN) {
                    tokio::task::yield_now().await;
                }
            }
            _ => {
                mailbox.end(Bye::new(ByeReason::Revoked, "gone"));
                session.end().await;
            }
        }
        let noted = async || {
            let known = server.entrance.serving.devices.all(&alice()).await.unwrap();
            apart(known[0].last_seen(), server.ground.clock.now()) < LAST_SEEN
        };
        if how == "resume" {
            while !noted().await {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(noted().await, how != "revoke", "{how}");
    }
}

/// What a session that goes on asks is a use, once an hour.
#[tokio::test]
async fn the_use_of_a_device_is_taken_once_an_hour() {
    let server = start(2).await;
    let mailbox = session(&server, 1).await.unwrap().client.mailbox;
    let now = server.ground.clock.now();
    assert!(!mailbox.is_use_due(now, LAST_SEEN), "signing in has stored it");
    let later = now.after(LAST_SEEN);
    assert!(mailbox.is_use_due(later, LAST_SEEN));
    assert!(mailbox.take_use(later, LAST_SEEN) && !mailbox.take_use(later, LAST_SEEN));
}

/// A device that is taken away has no session any more, and what it shows is withdrawn; nor can what
/// is left of its session publish.
#[tokio::test]
async fn a_device_that_is_removed_publishes_nothing_behind_it() {
    let server = start(2).await;
    let mut session = session(&server, 1).await.unwrap();
    assert!(server.entrance.serving.devices.remove(&acting(), DeviceId([1; 16])).await.unwrap());
    assert!(
        !server.entrance.serving.devices.remove(&acting(), DeviceId([1; 16])).await.unwrap(),
        "it is gone"
    );
    assert_eq!(told_gone(&server).await, [(1, DeviceEvent::Removed, None)]);
    // The connection has not taken the goodbye yet.
    let publish = impp_protocol::command::Publish {
        lease: Some(Duration::from_secs(3600)),
        ..impp_protocol::command::Publish::of(alice(), impp_protocol::What::Presence, None)
    };
    let answer = session.handle(publish.into()).await;
    let crate::core::answers::Answer::Now(impp_protocol::Command::Error(error)) = answer else {
        panic!("it was published")
    };
    assert_eq!(error.code, Code::Refused);
    assert_eq!(scan(&*server.ground.store, &alice(), records::LAYER).await.unwrap().len(), 0);
}

/// Writes what cannot be read.
async fn spoil(server: &Server, place: records::place::Place<records::place::Raw>) {
    let put = place.put_bytes(Expect::Any, "X".into());
    server.ground.store.submit(Unit::of(server.ground.clock.now(), vec![put])).await.unwrap();
}

/// What is not known of who made room counts for the worst, for a day: where there is room it is nobody's
/// matter, and an account is closed to new devices by it for no longer.
#[tokio::test]
async fn g6_when_devices_made_room_is_the_worst_where_it_cannot_be_read() {
    let server = start(3).await;
    let made =
        || place::found(&alice().domain(), records::ROOM, place::room_made(&alice()).key().key);
    for device in [1, 2] {
        visit(&server, device).await.unwrap();
        last_used(&server, device, 30 * DAY_MILLIS).await;
    }
    spoil(&server, made()).await;
    assert_eq!(visit(&server, 3).await, Ok(()));
    spoil(&server, made()).await;
    assert_eq!(
        visit(&server, 4).await,
        Err(Code::Full),
        "four have made room today, for all it knows"
    );
    assert!(server.entrance.serving.devices.remove(&acting(), DeviceId([1; 16])).await.unwrap());
    assert_eq!(visit(&server, 4).await, Ok(()), "its place is free");
    let kept = server.ground.store.get(place::room_made(&alice()).key()).await.unwrap().unwrap();
    let RoomRecord { made } = records::from_bytes(&kept.value).unwrap();
    let yesterday = RoomRecord { made: made.iter().map(|time| time - DAY_MILLIS - 1).collect() };
    let put = place::room_made(&alice()).set(Some(&yesterday));
    server.ground.store.submit(Unit::of(server.ground.clock.now(), vec![put])).await.unwrap();
    assert_eq!(visit(&server, 5).await, Ok(()), "a day later it is as before");
    assert_eq!(ids(&server).await, [3, 4, 5]);
}

/// Where it cannot be read when the password was changed, nobody takes another's place by it, and who is
/// known, or finds room, is let in.
#[tokio::test]
async fn g6_when_a_password_was_changed_closes_no_more_than_hangs_on_it() {
    let server = start(2).await;
    let password =
        || place::found(&alice().domain(), records::ROOM, place::room_password(&alice()).key().key);
    visit(&server, 1).await.unwrap();
    spoil(&server, password()).await;
    for device in [1, 2, 1] {
        assert_eq!(visit(&server, device).await, Ok(()), "{device}");
    }
    last_used(&server, 1, 30 * DAY_MILLIS).await;
    assert_eq!(visit(&server, 3).await, Err(Code::Storage));
    assert_eq!(ids(&server).await, [1, 2]);
    // The operator changes it once more.
    let now = server.ground.clock.now();
    let changed = vec![password_changed_op(&alice(), now)];
    server.ground.store.submit(Unit::of(now, changed)).await.unwrap();
    assert_eq!(visit(&server, 3).await, Ok(()));
}
