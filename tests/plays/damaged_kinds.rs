//! A record of each kind, with a bit that was flipped: what hangs on it is closed, and nothing else; nothing
//! stands in for it, and it is named. Faults D8, G6.
//!
//! What each kind looks like when it is damaged otherwise is in `damaged` and `damaged_operator`.

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::command::Outcome;
use impp_protocol::{Code, Error, What};
use impp_tests::peer::{fetch, message};
use impp_tests::presence::{at_once, open};
use impp_tests::server::refused_start;
use impp_tests::wire::Dial;
use impp_tests::{Peer, Server, records};
use rusqlite::types::Value;

use crate::damaged::check_deep;
use crate::removal::full_life;

/// What is asked of alice, or for her. On a store that is well each goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// Signing in on the device that has a record of its own.
    Device,
    /// On another one that is known.
    OtherDevice,
    /// On one that is new.
    NewDevice,
    /// What others see of her.
    Presence,
    /// A message to her.
    Message,
    /// One of her own things.
    Own(&'static str),
}

use Asks::{Device, Message, NewDevice, OtherDevice, Own, Presence};

const OWN: [(What, &str); 9] = [
    (What::Rules, "rules"),
    (What::Contacts, "contacts"),
    (What::Devices, "devices"),
    (What::Requests, "requests"),
    (What::Watchers, "watchers"),
    (What::Subscriptions, "subscriptions"),
    (What::ReadMarks, "read-marks"),
    (What::Acts, "acts"),
    (What::Log, "log"),
];

/// A kind of record: how it is called where all are listed, its number, one of it, and what hangs on that.
struct Kind {
    name: &'static str,
    number: u8,
    key: &'static str,
    /// What is stored there, if the play has not made it.
    value: Option<&'static str>,
    closed: &'static [Asks],
}

const fn kind(name: &'static str, number: u8, key: &'static str, closed: &'static [Asks]) -> Kind {
    Kind { name, number, key, value: None, closed }
}

const fn added(
    (name, number): (&'static str, u8),
    key: &'static str,
    value: &'static str,
    closed: &'static [Asks],
) -> Kind {
    Kind { name, number, key, value: Some(value), closed }
}

/// All that hangs on what others see of her: that, what they send, and her own look at it.
const SEEN: &[Asks] =
    &[Presence, Message, Own("contacts"), Own("requests"), Own("rules"), Own("watchers")];

const KINDS: &[Kind] = &[
    kind("ACCOUNT", 1, "alice", &[Device, OtherDevice, NewDevice, Presence, Message]),
    kind("RULES", 2, "alice", SEEN),
    kind("CONTACT", 3, "alice\0bob@localhost", SEEN),
    kind("DEVICE", 4, "alice\0", &[Device, NewDevice, Own("devices")]),
    kind("LAYER", 5, "alice\0", SEEN),
    kind("WATCHER", 6, "alice\0", SEEN),
    kind("HELD", 7, "alice\0", &[]),
    kind("META", 8, "clock", &[]),
    kind("META", 8, "domains", &[]),
    kind("META", 8, "dedup-floor", &[]),
    added(("META", 8), "running", "1", &[]),
    added(("META", 8), "recovering", "1", &[]),
    added(("META", 8), "recovering-from", "1", &[]),
    added(("META", 8), "removing\0nobody@localhost", "1", &[]),
    kind("FOLLOWED", 9, "alice\0", &[Own("subscriptions")]),
    added(("QUEUED", 10), "alice\x000000000000000001", "{}", &[]),
    added(("LINKED", 11), "far.example", "{\"open\":false,\"until\":1}", &[]),
    kind("ROOM", 12, "alice\0made", &[]),
    added(("ROOM", 12), "alice\0password", "1", &[]),
    added(("GHOST", 13), "nobody\0far.example", "\"far.example\"", &[]),
    added(("DECIDED", 14), "alice\0dave@localhost", "{}", &[]),
    added(
        ("ACTS", 15),
        "alice\x0000000001\0dave@localhost\0presence",
        "{\"count\":1,\"first\":1,\"last\":1}",
        &[Own("acts")],
    ),
    added(("READ_MARK", 16), "alice\0bob@localhost", "{\"told\":{\"received\":0,\"read\":0}}", &[]),
    added(
        ("TRACE", 17),
        "alice\0bob@localhost",
        "{\"changed\":1,\"granted\":1,\"removed\":0,\"removed_at\":0}",
        SEEN,
    ),
    added(("TRACE", 17), "alice\0floor", "1", SEEN),
    added(("ASIDE", 18), "alice\0far.example", "1", &[]),
    added(
        ("DROPPED", 19),
        "alice\x000000000000000001\0dave@localhost\x0001000000000000000000000000000001",
        "7",
        &[],
    ),
];

/// What is the server's own.
const META: u8 = 8;

/// The domain in which a kind has its records.
fn domain(kind: &Kind) -> &'static str {
    if kind.number == META { "server.invalid" } else { "localhost" }
}

/// All columns of a row.
type Row = Vec<Value>;

fn connection(server: &Server) -> rusqlite::Connection {
    rusqlite::Connection::open(server.store().join("store.sqlite")).unwrap()
}

/// Flips a bit of the value of a kind's record in a stopped server's store; the row as it was.
fn flip(server: &Server, kind: &Kind) -> Row {
    let store = connection(server);
    let sql = "SELECT domain, kind, key, version, value, sum FROM record WHERE domain = ?1
               AND kind = ?2 AND substr(key, 1, length(?3)) = ?3 ORDER BY key LIMIT 1";
    let place = (domain(kind), kind.number, kind.key.as_bytes());
    let row: Row = store
        .query_row(sql, place, |row| (0..6usize).map(|column| row.get(column)).collect())
        .unwrap_or_else(|error| panic!("{} {:?}: {error}", kind.name, kind.key));
    let Value::Blob(mut value) = row[4].clone() else { panic!("{row:?}") };
    // What has no value has a key alone.
    let Some(middle) = value.len().checked_sub(1).map(|last| last / 2) else {
        panic!("{} has no value", kind.name)
    };
    value[middle] ^= 1;
    let sql = "UPDATE record SET value = ?4 WHERE domain = ?1 AND kind = ?2 AND key = ?3";
    let changed = store.execute(sql, (&row[0], &row[1], &row[2], value)).unwrap();
    assert_eq!(changed, 1);
    row
}

/// The row is as it was, or is not there, if the play has added it.
fn put_right(server: &Server, kind: &Kind, row: &Row) {
    let store = connection(server);
    let sql = "DELETE FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3";
    store.execute(sql, (&row[0], &row[1], &row[2])).unwrap();
    if kind.value.is_none() {
        let sql = "INSERT INTO record (domain, kind, key, version, value, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        store.execute(sql, rusqlite::params_from_iter(row)).unwrap();
    }
}

async fn sign_in(server: &Server, device: u8) -> Result<Peer, Error> {
    let wire = Dial::to(server).connect().await.unwrap();
    Peer::over(wire, &server.profile("alice"), device).await
}

/// What of it does not go well, and with which code. What she asks herself is asked on another device than
/// that which has a record of its own.
async fn closed(server: &Server, new_device: u8) -> BTreeMap<Asks, Code> {
    let mut closed = BTreeMap::new();
    let mut note = |asks, code: Option<Code>| closed.extend(code.map(|code| (asks, code)));
    for (asks, device) in [(Device, 1), (NewDevice, new_device)] {
        match sign_in(server, device).await {
            Ok(peer) => peer.leave().await,
            Err(error) => note(asks, Some(error.code)),
        }
    }
    let mut bob = Peer::sign_in(server, "bob").await;
    let seen = bob.request(fetch("alice@localhost", What::Presence)).await;
    note(Presence, seen.err().map(|error| error.code));
    let sent = bob.request(message("alice@localhost", "x")).await;
    note(Message, sent.err().map(|error| error.code));
    match sign_in(server, 2).await {
        Ok(mut alice) => {
            for (what, name) in OWN {
                let asked = alice.request(fetch("alice@localhost", what)).await;
                note(Own(name), asked.err().map(|error| error.code));
            }
            alice.leave().await;
        }
        Err(error) => note(OtherDevice, Some(error.code)),
    }
    // Nobody else has anything to do with it.
    assert_eq!(bob.send("carol@localhost", "x").await, Outcome::Delivered);
    bob.done(fetch("carol@localhost", What::Presence)).await;
    bob.done(fetch("bob@localhost", What::Rules)).await;
    closed
}

/// Alice has a record of each kind that is no word of others, and a second device.
async fn prepared() -> Server {
    let start = at_once().set("limits.devices_max", 64).set("limits.pending_max", 1000);
    let server = start.no_rates().start();
    full_life(&server).await;
    let all = "[[rule]]\nid = \"all\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n";
    for name in ["alice", "carol"] {
        let mut peer = Peer::sign_in_on(&server, name, 2).await;
        let known = peer.done(fetch(peer.address.clone().as_str(), What::Rules)).await;
        let rules = String::from_utf8(known.content.unwrap().to_vec()).unwrap();
        peer.set_rules(&(rules + all)).await;
        peer.show_for(&open("here"), 3600).await.unwrap();
        peer.leave().await;
    }
    server
}

#[tokio::test]
async fn d8_g6_a_flipped_bit_closes_what_hangs_on_a_record_of_each_kind_and_no_more() {
    let mut server = prepared().await;
    assert_eq!(closed(&server, 3).await, BTreeMap::new(), "all is well");
    let mut wrong = Vec::new();
    for (device, kind) in (4..).zip(KINDS) {
        server.stop();
        if let Some(value) = kind.value {
            let key = kind.key.as_bytes().to_vec();
            records::add(&server, &[records::put_in(domain(kind), kind.number, key, value)]);
        }
        let row = flip(&server, kind);
        let name =
            format!("record {} of {} ({}", kind.number, domain(kind), kind.key.replace('\0', " "));
        let (_, found) = check_deep(&server);
        assert!(found.iter().any(|found| found.to_string().contains(&name)), "{name}: {found:?}");
        server.restart();
        let found = closed(&server, device).await;
        let expected: BTreeMap<Asks, Code> =
            kind.closed.iter().map(|asks| (*asks, Code::Storage)).collect();
        if found != expected {
            wrong.push(format!("{} {:?}: {found:?}, not {expected:?}", kind.name, kind.key));
        }
        server.stop();
        if kind.number == META && !kind.key.starts_with("removing") {
            assert_eq!(check_deep(&server).0, Some(0), "{} is not written anew", kind.key);
        }
        put_right(&server, kind, &row);
        server.restart();
    }
    assert_eq!(closed(&server, 3).await, BTreeMap::new(), "all is well again");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All hangs on the server's secrets: it does not start, and says why.
#[tokio::test]
async fn d8_g6_without_its_secrets_a_server_does_not_start() {
    let mut server = Server::quickstart();
    server.stop();
    let secrets = kind("META", 8, "secrets", &[]);
    let row = flip(&server, &secrets);
    let config = server.config().display().to_string();
    let (code, said) = refused_start(&["serve", "--config", &config]);
    assert!(code == Some(5) && said.contains("secrets"), "{code:?}: {said}");
    put_right(&server, &secrets, &row);
    server.restart();
}

/// A kind that is not tried here has been forgotten; nor is one forgotten that the operator reads of.
#[test]
fn d8_g6_each_kind_of_record_is_damaged_here() {
    let source = include_str!("../../server/src/core/records/mod.rs");
    let of = |line: &str| {
        let (name, number) = line.strip_prefix("pub const ")?.split_once(": Table = Table(")?;
        Some((name.to_owned(), number.strip_suffix(");")?.parse().ok()?))
    };
    let all: BTreeSet<(String, u8)> = source.lines().filter_map(of).collect();
    let tried = KINDS.iter().map(|kind| (kind.name.to_owned(), kind.number)).collect();
    assert!(all.len() >= 17 && all == tried, "{all:?}, and not {tried:?}");
    let told = include_str!("../../docs/operating.md");
    for (name, number) in all {
        let row = |line: &&str| {
            line.starts_with(&format!("| {number} | ")) && line.ends_with(&format!("| `{name}` |"))
        };
        assert!(told.lines().any(|line| row(&line)), "{name} is not told in operating.md");
    }
}
