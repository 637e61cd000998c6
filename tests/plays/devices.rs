//! Devices of an account that has as many as it may: which one makes room for a new one, who is told,
//! and what the operator can do about it.

use impp_protocol::command::ByeReason;
use impp_protocol::state::ItemKind;
use impp_protocol::{Code, Error};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::Impp;
use impp_tests::presence::{Held, Watcher, open, person};
use impp_tests::{Peer, Server, Wire, records};
use serde_json::Value;

use crate::settings::OPEN_PRESENCE;

/// What the store's table is called in `server/src/core/records/mod.rs`.
const DEVICE: u8 = 4;

/// Has devices, of a server that does not run, been used for the last time so many days before they
/// were; all of them, or the one of [`Peer`] with this number.
pub(crate) fn unused_for(server: &Server, device: Option<u8>, days: u32) {
    let name = device.map(|device| format!("device {device}"));
    let edited = records::edit(server, DEVICE, |_, value| {
        let mut record: Value = serde_json::from_slice(value).unwrap();
        if name.is_some() && record["name"].as_str() != name.as_deref() {
            return None;
        }
        let seen = record["last_seen"].as_u64().unwrap();
        record["last_seen"] = (seen - u64::from(days) * 86_400_000).into();
        Some(record.to_string().into())
    });
    assert!(edited > 0);
}

/// Signs in as alice on a device of hers, and leaves.
pub(crate) async fn visit(server: &Server, device: u8) -> Result<(), Error> {
    let wire = Wire::dial(server).await;
    Peer::over(wire, &server.profile("alice"), device).await?.leave().await;
    Ok(())
}

/// Alice's devices, as the operator sees them.
fn listed(server: &Server) -> Vec<Value> {
    let text = server.user_ok(&["devices", "alice@localhost"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Their names.
fn names(server: &Server) -> Vec<String> {
    let name = |device: &Value| device["name"].as_str().unwrap_or("(no name)").to_owned();
    let mut names: Vec<String> = listed(server).iter().map(name).collect();
    names.sort();
    names
}

/// The id of one of alice's devices.
fn id_of(server: &Server, name: &str) -> String {
    let listed = listed(server);
    let device = listed.iter().find(|device| device["name"] == name).expect("such a device");
    device["device"].as_str().unwrap().to_owned()
}

/// What is seen of a note.
fn note(held: &Held) -> Option<&str> {
    held.content.as_ref().and_then(|(_, document)| person(document, "note"))
}

/// A server where alice may have two devices and has them, used 20 and 30 days ago; it has stopped.
async fn two_old_devices() -> Server {
    let mut server = Server::with().set("limits.devices_max", 2).start();
    for device in 1..=2 {
        visit(&server, device).await.unwrap();
    }
    server.stop();
    unused_for(&server, Some(1), 20);
    unused_for(&server, Some(2), 30);
    server
}

/// The device unused longest makes room for a new one, with what it showed; alice's other devices are
/// told which has gone and for which.
#[tokio::test(flavor = "multi_thread")]
async fn the_device_unused_longest_makes_room_and_the_others_are_told() {
    let mut server = Server::with().set("limits.devices_max", 2).start();
    visit(&server, 1).await.unwrap();
    let mut alice = Peer::sign_in_on(&server, "alice", 2).await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show_for(&open("from the second"), 86_400).await.unwrap();
    alice.leave().await;
    server.stop();
    unused_for(&server, Some(1), 20);
    unused_for(&server, Some(2), 30);
    server.restart();
    let gone = id_of(&server, "device 2");
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    bob.until_note("from the second").await;
    // The program is a new device.
    let impp = Impp::of(&server, "alice");
    let seen = impp.run(&["inbox"]).objects;
    bob.until(|held| note(held).is_none()).await;
    assert_eq!(names(&server).len(), 2);
    assert!(!names(&server).contains(&"device 2".to_owned()), "{:?}", names(&server));
    let told = seen.iter().find(|item| item["item"] == "device").expect("word of it");
    assert_eq!((&told["device"], &told["event"]), (&gone.into(), &"made-room".into()), "{told}");
    let devices = impp.run(&["devices"]).objects;
    let current = devices.iter().find(|device| device["current"] == true).unwrap();
    assert_eq!(told["newcomer"], current["device"]);
}

/// Who finds the place of each device taken by one used within the week is refused, and told what the
/// operator can do; that helps, with a server that runs and with one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_devices_is_told_the_way_out() {
    let mut server = Server::with().set("limits.devices_max", 2).start();
    for device in 1..=2 {
        visit(&server, device).await.unwrap();
    }
    server.stop();
    // Six days are less than a week.
    unused_for(&server, None, 6);
    server.restart();
    let refused = visit(&server, 3).await.unwrap_err();
    assert_eq!(refused.code, Code::Full);
    let text = refused.text.unwrap_or_default();
    assert!(text.contains("imppd user devices alice@localhost --remove"), "{text}");
    for (device, running) in [(3, true), (4, false)] {
        if !running {
            server.stop();
        }
        let id = id_of(&server, &format!("device {}", device - 2));
        server.user_ok(&["devices", "alice@localhost", "--remove", &id]);
        let again = server.user(&["devices", "alice@localhost", "--remove", &id]);
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        if !running {
            server.restart();
        }
        visit(&server, device).await.unwrap();
    }
    assert_eq!(names(&server), ["device 3", "device 4"]);
    for (wrong, code) in [("12", 2), ("zz", 2)] {
        let output = server.user(&["devices", "alice@localhost", "--remove", wrong]);
        assert_eq!(output.status.code(), Some(code), "{wrong}: {output:?}");
    }
    let nobody = server.user(&["devices", "nobody@localhost"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

/// Four make room in a day, however many come; the fifth is refused.
#[tokio::test(flavor = "multi_thread")]
async fn four_devices_make_room_in_a_day() {
    let mut server = Server::with().set("limits.devices_max", 6).start();
    for device in 1..=6 {
        visit(&server, device).await.unwrap();
    }
    server.stop();
    unused_for(&server, None, 9);
    server.restart();
    for device in 11..=14 {
        visit(&server, device).await.unwrap();
    }
    assert_eq!(visit(&server, 15).await.unwrap_err().code, Code::Full);
    // That stands in the store.
    server.kill9();
    server.restart();
    assert_eq!(visit(&server, 15).await.unwrap_err().code, Code::Full);
    visit(&server, 14).await.unwrap();
    assert_eq!(names(&server).len(), 6);
}

/// A device that is connected makes no room, however long ago it has signed in.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_connected_makes_no_room() {
    let mut server = two_old_devices().await;
    server.restart();
    let mut second = Peer::sign_in_on(&server, "alice", 2).await;
    visit(&server, 3).await.unwrap();
    assert_eq!(names(&server), ["device 2", "device 3"]);
    second.send("bob@localhost", "still here").await;
}

/// The operator gives a new password: the devices that knew the old one make room, though they were
/// used just now, and one that has shown to know the new one does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_frees_the_places_of_devices_that_do_not_know_it() {
    let server = Server::with().set("limits.devices_max", 2).start();
    for device in 1..=2 {
        visit(&server, device).await.unwrap();
    }
    assert_eq!(visit(&server, 3).await.unwrap_err().code, Code::Full);
    let said = server.user_ok(&["passwd", "alice@localhost"]);
    let password = said.trim().strip_prefix("password: ").unwrap().to_owned();
    let profile = impp_tests::server::Profile { password, ..server.profile("alice") };
    let sign_in = async |device| {
        let signed_in = Peer::over(Wire::dial(&server).await, &profile, device).await;
        signed_in.map(drop).map_err(|error| error.code)
    };
    // The second knows it, so that the first is the one to go.
    assert_eq!(sign_in(2).await, Ok(()));
    assert_eq!(sign_in(3).await, Ok(()));
    assert_eq!(names(&server), ["device 2", "device 3"]);
    assert_eq!(sign_in(4).await, Err(Code::Full));
}

/// A device that the operator removes is told goodbye and shows nothing any more; a client that has
/// not said that it takes items of every kind reads a log in which there is one of a device.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_the_operator_removes_is_told_and_shows_nothing() {
    let server = Server::quickstart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    phone.set_rules(&(OPEN_PRESENCE.to_owned() + OPEN_INBOX)).await;
    phone.show_for(&open("from the phone"), 3600).await.unwrap();
    let mut desk = Peer::sign_in_on(&server, "alice", 2).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    bob.until_note("from the phone").await;
    let id = id_of(&server, "device 1");
    server.user_ok(&["devices", "alice@localhost", "--remove", &id]);
    assert_eq!(phone.ending().await.bye.unwrap().reason, ByeReason::Revoked);
    bob.until(|held| note(held).is_none()).await;
    bob.peer.send("alice@localhost", "behind it").await;
    let kinds: Vec<ItemKind> = desk.log().await.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [ItemKind::Received]);
    let seen = Impp::of(&server, "alice").run(&["inbox"]).objects;
    let kinds: Vec<&str> = seen.iter().map(|item| item["item"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["device", "message", "end"], "{seen:?}");
    assert_eq!((&seen[0]["event"], &seen[0]["device"]), (&"removed".into(), &id.into()));
}
