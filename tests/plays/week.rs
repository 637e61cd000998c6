//! A week of one person with three devices: two laptops with `impp`, and a script with `impp.py`. Each is
//! offline at odd hours, cut while it reads or sends, and writes, reads, marks, deletes and edits meanwhile,
//! on what it knew when it was last connected; the server is killed now and then. Hours pass by order.
//! `IMPP_WEEK` draws another week.

mod device;

use std::collections::{BTreeMap, BTreeSet};

use impp_tests::Server;
use impp_tests::dice::Dice;
use impp_tests::impp::Impp;
use impp_tests::wait::eventually;
use rusqlite::{Connection, OpenFlags};

use crate::python::is_there;
use device::{Device, Known, Program, Wish};

const ALICE: &str = "alice@localhost";
const FRIENDS: [&str; 2] = ["bob@localhost", "carol@localhost"];
/// Those of a week in which its person is awake.
const HOURS: usize = 7 * 8;
/// A connection is cut somewhere in so many bytes.
const CUT_BYTES: usize = 5_000;

/// What was acknowledged to somebody: that is not lost.
#[derive(Debug, Default)]
struct Acknowledged {
    written: BTreeSet<(&'static str, String)>,
    /// What friends wrote: from whom, and its id.
    arrived: Vec<(&'static str, String)>,
    /// Up to which of these was read.
    read: BTreeMap<String, usize>,
    deleted: BTreeSet<String>,
    /// What was asked to be deleted, whether or not the answer came.
    doomed: BTreeSet<String>,
    names: BTreeMap<&'static str, String>,
    grants: BTreeMap<&'static str, &'static str>,
    rules: BTreeSet<String>,
}

impl Acknowledged {
    fn take(&mut self, wish: &Wish) {
        match wish {
            Wish::Written { to, text } => drop(self.written.insert((to, text.clone()))),
            Wish::Read { with, message } => {
                let at = self.arrived.iter().position(|(_, id)| *id == message.id).unwrap();
                let upto = self.read.entry(with.clone()).or_default();
                *upto = at.max(*upto);
            }
            Wish::Deleted(message) => drop(self.deleted.insert(message.id.clone())),
            Wish::Named { who, name } => drop(self.names.insert(who, name.clone())),
            Wish::Granted { who, grant } => drop(self.grants.insert(who, grant)),
            Wish::Ruled(id) => drop(self.rules.insert(id.clone())),
        }
    }
}

/// One hour: the server may fall, devices come and go, friends write, and the person does something.
fn hour(
    now: usize,
    dice: &mut Dice,
    server: &mut Server,
    devices: &mut [Device],
    acknowledged: &mut Acknowledged,
) {
    if dice.roll(8) == 0 {
        server.kill9();
        server.restart();
    }
    if dice.roll(2) == 0 {
        let from = *dice.pick(&FRIENDS);
        let friend = Impp::of(server, from.split('@').next().unwrap());
        let sent = friend.run(&["send", ALICE, &format!("at {now}")]).one();
        acknowledged.arrived.push((from, sent["id"].as_str().unwrap().to_owned()));
    }
    for (number, device) in devices.iter_mut().enumerate() {
        if dice.roll(3) == 0 {
            device.toggle();
        }
        if dice.roll(2) == 0 {
            let wish = device.wishes(dice, &format!("{number} at {now}"));
            let is_kept = matches!(wish, Wish::Written { .. })
                || matches!(device.program, Program::Script(_));
            if device.is_on && is_kept && dice.roll(3) == 0 {
                device.cable.cut_after(dice.roll(CUT_BYTES) as u64);
            }
            device.does(wish, acknowledged);
        }
        if device.is_on && dice.roll(2) == 0 {
            if dice.roll(3) == 0 {
                device.cable.cut_after(dice.roll(CUT_BYTES) as u64);
            }
            device.reads(dice.roll(2) == 0);
        }
        if device.is_on {
            device.cable.plug();
        }
    }
}

/// What all three have in the end, and that it is what was acknowledged.
fn compare(server: &Server, devices: &[Device], acknowledged: &Acknowledged) {
    let log = &devices[0].known.log;
    let once: BTreeSet<_> = log.iter().collect();
    assert_eq!(once.len(), log.len(), "something is there twice: {log:?}");
    let of = |kind: &str| -> Vec<&str> {
        log.iter().filter(|(item, _)| item == kind).map(|(_, id)| id.as_str()).collect()
    };
    let is_left = |id: &&str| !acknowledged.deleted.contains(*id);
    let arrived = acknowledged.arrived.iter().map(|(_, id)| id.as_str()).filter(is_left);
    assert_eq!(of("message"), arrived.collect::<Vec<_>>());
    let deleted: BTreeSet<_> = of("deleted").into_iter().map(str::to_owned).collect();
    assert_eq!(deleted, acknowledged.deleted);
    assert_eq!(
        (of("sent").len(), of("fate").len()),
        (acknowledged.written.len(), of("sent").len())
    );
    for friend in FRIENDS {
        let inbox = Impp::of(server, friend.split('@').next().unwrap()).run(&["inbox"]).objects;
        let texts = inbox.iter().filter_map(|item| item["body"].as_str());
        let mut texts: Vec<_> = texts.map(|text| (friend, text.to_owned())).collect();
        texts.sort_unstable();
        let written = acknowledged.written.iter().filter(|(to, _)| *to == friend);
        assert_eq!(texts, written.cloned().collect::<Vec<_>>());
    }
    let marks = acknowledged.read.iter();
    let marks: BTreeMap<_, _> =
        marks.map(|(with, at)| (with.clone(), acknowledged.arrived[*at].1.clone())).collect();
    for device in devices {
        assert_eq!(&device.known.log, log);
        assert_eq!(device.marks(), marks);
        assert_eq!(device.known.rules, acknowledged.rules);
        assert_eq!(device.known.contacts, devices[0].known.contacts);
    }
    for (who, (name, grant)) in &devices[0].known.contacts {
        assert_eq!(name, acknowledged.names.get(who.as_str()).map_or("", String::as_str));
        assert_eq!(grant, acknowledged.grants.get(who.as_str()).unwrap_or(&"all"));
    }
}

/// How many items of alice's log the store has.
fn stored(server: &Server) -> i64 {
    let path = server.data().join("store/store.sqlite");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let items = "SELECT count(*) FROM item JOIN log ON item.log = log.id WHERE log.local = 'alice'";
    store.query_row(items, [], |row| row.get(0)).unwrap()
}

/// All devices have the same log, marks, contacts and rules in the end: all that was acknowledged, once. And
/// what a device acknowledged is gone from the store when its retention is over; what none did, is not.
#[tokio::test(flavor = "multi_thread")]
async fn e1_e2_e4_g2_a_week_of_three_devices_ends_with_the_same_everywhere() {
    if !is_there() {
        return;
    }
    let mut server = Server::with().no_rates().start();
    let mut devices = vec![
        Device::laptop(&server).await,
        Device::laptop(&server).await,
        Device::script(&server).await,
    ];
    let week = std::env::var("IMPP_WEEK").map_or(7, |week| week.parse().unwrap());
    let (mut dice, mut acknowledged) = (Dice::new(week), Acknowledged::default());
    for now in 0..HOURS {
        hour(now, &mut dice, &mut server, &mut devices, &mut acknowledged);
    }
    for device in &mut devices {
        device.comes_home(&mut acknowledged);
    }
    for device in &mut devices {
        device.reads(false);
        device.look();
    }
    compare(&server, &devices, &acknowledged);
    let Acknowledged { written, arrived, read, deleted, names, grants, rules, .. } = &acknowledged;
    let quiet = [written.is_empty(), arrived.is_empty(), read.is_empty(), deleted.is_empty()];
    let quiet = quiet.contains(&true) || names.is_empty() || grants.is_empty() || rules.is_empty();
    assert!(!quiet, "nothing is shown of some of these: {acknowledged:?}");
    server.stop();
    server.set("inbox.retention_days", 0);
    server.restart();
    devices[0].known.since = None;
    devices[0].reads(true);
    let last = Impp::of(&server, "bob").run(&["send", ALICE, "last"]).one();
    eventually("what was acknowledged to go", async || (stored(&server) == 1).then_some(())).await;
    let left = [("message".to_owned(), last["id"].as_str().unwrap().to_owned())];
    for device in &mut devices {
        device.known = Known::default();
        device.reads(false);
        assert_eq!(device.known.log, left);
    }
}
