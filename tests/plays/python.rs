//! The second client, `client/python/impp.py`: written from `docs/protocol.md` alone, with Python's
//! standard library, and played together with `impp`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use impp_tests::Server;
use impp_tests::cable::Cable;
use impp_tests::impp::Impp;
use impp_tests::wait::{DEADLINE, eventually, skipped};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::outbox::through;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

/// `impp.py` as one account.
pub(crate) struct Python {
    pub(crate) profile: PathBuf,
}

/// One that runs on, and says objects, each on a line. Killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<Value>,
}

/// Whether there is a Python that can run it; if not, that is said.
pub(crate) fn is_there() -> bool {
    let new_enough = "import ssl, sys; sys.exit(sys.version_info < (3, 9) or not ssl.HAS_TLSv1_3)";
    let ran = Command::new("python3").args(["-c", new_enough]).stderr(Stdio::null()).status();
    let there = ran.is_ok_and(|status| status.success());
    if !there {
        skipped("there is no python3 of 3.9 or later with TLS 1.3");
    }
    there
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/python"))
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

impl Python {
    fn of(server: &Server, name: &str) -> Python {
        Python { profile: server.profile_path(name) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = python();
        command.arg(folder().join("impp.py")).arg("--profile").arg(&self.profile);
        command.args(["--timeout", &DEADLINE.as_secs().to_string()]).args(args);
        command.stderr(Stdio::inherit());
        command
    }

    /// Runs it to its end: its exit code and its objects.
    pub(crate) fn run(&self, args: &[&str]) -> (i32, Vec<Value>) {
        let output = self.command(args).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let objects = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code().expect("an exit, not a signal"), objects)
    }

    /// The one object of a run that has to succeed.
    fn one(&self, args: &[&str]) -> Value {
        let (code, objects) = self.run(args);
        assert_eq!((code, objects.len()), (0, 1), "{args:?}: {objects:?}");
        objects.into_iter().next().unwrap()
    }

    /// What a run of `inbox` has read, without the word of its end.
    fn inbox(&self, args: &[&str]) -> Vec<Value> {
        let (code, mut objects) = self.run(&[&["inbox"], args].concat());
        assert_eq!(code, 0, "{objects:?}");
        assert_eq!(objects.pop().unwrap()["item"], "end");
        objects
    }

    fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (told, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = told.send(serde_json::from_str(&line).unwrap());
            }
        });
        Running { child, lines }
    }

    pub(crate) fn next(&self) -> Value {
        self.lines.recv_timeout(DEADLINE).expect("another line")
    }

    /// Passes over lines until one shows this note.
    fn until_note(&self, note: &str) -> Value {
        loop {
            let line = self.next();
            if line["document"]["person"]["note"] == note {
                return line;
            }
        }
    }

    /// Waits for its end, which has to be a good one: what it said.
    async fn done(mut self) -> Vec<Value> {
        let status = eventually("its end", async || self.child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0));
        self.lines.iter().collect()
    }

    /// Asks it to stop, and waits for that: what else it said.
    async fn stop(self) -> Vec<Value> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.done().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bodies of items of one kind.
fn bodies<'a>(items: &'a [Value], kind: &str) -> Vec<&'a str> {
    let of_kind = items.iter().filter(|item| item["item"] == kind);
    of_kind.map(|item| item["body"].as_str().unwrap()).collect()
}

/// Another implementation reads the vectors, the specification's examples, and everything that is
/// refused, to the same verdict.
#[test]
fn a16_d_6_3_a_second_decoder_reads_and_writes_the_vectors_alike() {
    if !is_there() {
        return;
    }
    let ran = python().args(["-m", "unittest", "discover"]).arg(folder()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("Ran "), "{said}");
}

/// Presence goes both ways between the two clients: leased, patched, ended, and in the contact list.
#[tokio::test]
async fn d_6_3_presence_goes_both_ways_between_two_clients() {
    if !is_there() {
        return;
    }
    let server = impp_tests::presence::at_once().start();
    let (alice, bob) = (Impp::of(&server, "alice"), Python::of(&server, "bob"));
    let watch = bob.start(&["watch"]);
    for note in ["one", "two"] {
        let set = ["status", "set", "open", "--note", note, "--lease", "600"];
        assert_eq!(alice.run(&set).code, 0);
        let seen = watch.until_note(note);
        assert_eq!((&seen["presentity"], &seen["state"]), (&ALICE.into(), &"active".into()));
    }
    // The other way: leased, and then bound to a session that ends.
    assert_eq!(bob.one(&["status", "open", "--note", "here", "--lease", "600"])["lease"], 600);
    let note = || alice.run(&["fetch", BOB]).one()["document"]["person"]["note"].clone();
    assert_eq!(note(), "here");
    let held = bob.start(&["status", "closed", "--note", "at the desk", "--hold"]);
    assert_eq!(held.next()["held"], true);
    assert_eq!(note(), "at the desk");
    held.stop().await;
    assert_eq!(note(), Value::Null);
    assert_eq!(bob.run(&["fetch"]).0, 2);
    let explained = bob.one(&["explain", ALICE]);
    assert_eq!((&explained["decision"], &explained["watcher"]), (&"allow".into(), &ALICE.into()));
    // Blocked, it sees no more, and forgets what it held.
    let rules = server.data().join("block.toml");
    let block = "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n";
    std::fs::write(&rules, block).unwrap();
    assert_eq!(alice.run(&["rules", "set", rules.to_str().unwrap()]).code, 0);
    let ended = watch.next();
    assert_eq!((&ended["state"], &ended["reason"]), (&"terminated".into(), &"rejected".into()));
    assert!(ended.get("document").is_none(), "{ended}");
    watch.stop().await;
}

/// Messages go both ways, each with its fate; a repeat is one; the log is read on from a cursor, and
/// what was acknowledged makes room.
#[tokio::test]
async fn d_5_1_1_e2_messages_go_both_ways_between_two_clients() {
    if !is_there() {
        return;
    }
    let server = Server::with().set("inbox.items_max", 8).start();
    let (alice, bob) = (Python::of(&server, "alice"), Impp::of(&server, "bob"));
    let sent = alice.one(&["send", BOB, "gr\u{fc}\u{df}e"]);
    assert_eq!(sent["outcome"], "delivered");
    let id = sent["id"].as_str().unwrap();
    let again = alice.one(&["send", "im:Bob@LOCALHOST", "gr\u{fc}\u{df}e", "--id", id]);
    assert_eq!(again["outcome"], "duplicate");
    assert_eq!(alice.run(&["send", BOB, "other", "--id", id]).0, 1, "one id, two messages");
    let inbox = bob.run(&["inbox"]).objects;
    assert_eq!(bodies(&inbox, "message"), ["gr\u{fc}\u{df}e"]);
    assert_eq!((&inbox[0]["id"], &inbox[0]["from"]), (&id.into(), &ALICE.into()));
    let own = alice.inbox(&[]);
    let kinds: Vec<_> = own.iter().map(|item| item["item"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["sent", "fate"]);
    assert_eq!((&own[1]["fate"], &own[1]["id"]), (&"delivered".into(), &id.into()));
    // The other way, until there is no room.
    for n in 0..8 {
        assert_eq!(bob.run(&["send", ALICE, &n.to_string()]).one()["outcome"], "delivered");
    }
    assert_eq!(bob.run(&["send", ALICE, "8"]).code, 1, "the inbox has room for more");
    assert_eq!(bodies(&alice.inbox(&["--count", "3"]), "message"), ["0", "1", "2"]);
    assert_eq!(bob.run(&["send", ALICE, "8"]).code, 1, "reading alone has made room");
    let rest = alice.inbox(&["--ack"]);
    assert_eq!(bodies(&rest, "message"), ["3", "4", "5", "6", "7"]);
    assert_eq!(bob.run(&["send", ALICE, "8"]).one()["outcome"], "delivered");
    assert_eq!(bodies(&alice.inbox(&["--ack"]), "message"), ["8"]);
    assert_eq!(alice.inbox(&[]), Vec::<Value>::new());
    assert_eq!(alice.run(&["send", "nobody@localhost", "x"]).0, 1);
}

/// What an owner keeps is one to both clients: how far was read, what was deleted, contacts field by field,
/// and what has met another change.
#[tokio::test]
async fn d_6_3_what_an_owner_keeps_is_changed_by_either_client() {
    if !is_there() {
        return;
    }
    let server = Server::quickstart();
    let (script, laptop) = (Python::of(&server, "bob"), Impp::of(&server, "bob"));
    for text in ["one", "two", "three"] {
        Impp::of(&server, "alice").run(&["send", BOB, text]).one();
    }
    let inbox = script.inbox(&[]);
    let of = |n: usize, name: &str| inbox[n][name].as_str().unwrap().to_owned();
    assert_eq!(script.one(&["read"])["unread"], 3);
    let news = script.start(&["follow", "read-marks"]);
    assert_eq!(news.next()["whole"], true);
    laptop.run(&["read", ALICE, &of(1, "id")]).one();
    let told = news.next();
    assert_eq!((&told["whole"], &told["entries"][0]["id"]), (&false.into(), &inbox[1]["id"]));
    news.stop().await;
    assert_eq!(script.one(&["read"])["unread"], 1);
    script.one(&["read", ALICE, &of(0, "cursor")]);
    assert_eq!(script.one(&["read"])["unread"], 1, "it is unread again");
    // What is deleted is gone to the other, and from what was written with somebody.
    assert_eq!(script.one(&["delete", &of(1, "cursor")])["outcome"], "done");
    assert_eq!(laptop.run(&["inbox", "delete", &of(1, "id")]).code, 1);
    assert_eq!(bodies(&script.run(&["history", ALICE]).1, "message"), ["three", "one"]);
    // A name passes by a grant; a grant does not pass by another one, and nobody comes back unasked.
    let number = script.run(&["list", "contacts"]).1.pop().unwrap()["number"].to_string();
    let change = |what: &[&str]| {
        script.run(&[&["contact", ALICE, "--base", number.as_str()], what].concat())
    };
    laptop.run(&["contacts", "add", ALICE, "--grant", "none"]).one();
    assert_eq!(change(&["--grant", "all"]).0, 1);
    assert_eq!(change(&["--name", "Al"]).0, 0);
    let contacts = laptop.run(&["contacts"]).objects;
    assert_eq!((&contacts[0]["name"], &contacts[0]["grants"]), (&"Al".into(), &"none".into()));
    assert_eq!(laptop.run(&["contacts", "remove", ALICE]).code, 0);
    let (code, said) = change(&["--group", "friends"]);
    assert_eq!((code, &said[0]["outcome"]), (1, &"dropped".into()));
}

/// What others let one be told reaches a script too: that they write just now, and what they have received.
#[tokio::test]
async fn d_6_3_who_writes_and_what_was_received_is_told_to_the_second_client() {
    if !is_there() {
        return;
    }
    let server = Server::quickstart();
    let (alice, bob) = (Python::of(&server, "alice"), Python::of(&server, "bob"));
    let rules = server.data().join("marks.toml");
    let marks = "[[rule]]\nid = \"contacts\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n\
                 [[delivery]]\nid = \"all\"\nwho = [\"anyone\"]\naction = \"accept\"\n\
                 marks = [\"typing\", \"received\"]\n";
    std::fs::write(&rules, marks).unwrap();
    assert_eq!(bob.one(&["rules", rules.to_str().unwrap()])["outcome"], "done");
    let typing = alice.start(&["follow", "typing", "--count", "1"]);
    let told = async || {
        assert_eq!(bob.run(&["typing", ALICE]).0, 0);
        typing.lines.try_recv().ok()
    };
    assert_eq!(eventually("who writes", told).await["from"], BOB);
    let sent = alice.one(&["send", BOB, "hello"]);
    assert_eq!(bob.inbox(&["--ack"]).len(), 1);
    let told = async || {
        let marks = alice.run(&["list", "read-marks"]).1;
        marks.into_iter().find(|mark| mark["received"] == sent["id"])
    };
    assert_eq!(eventually("what was received", told).await["address"], BOB);
}

/// A connection that is cut costs no sign-in: the session is taken up by the server's certificate, and the
/// log goes on.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_4_7_2_d_6_3_a_client_without_an_exporter_resumes() {
    if !is_there() {
        return;
    }
    let server = Server::quickstart();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let (bob, carol) =
        (Python { profile: through(&server, "bob", &cable) }, Impp::of(&server, "carol"));
    let reads = bob.start(&["inbox", "--follow"]);
    carol.run(&["send", BOB, "before"]).one();
    assert_eq!(reads.next()["body"], "before");
    cable.pull();
    cable.plug();
    carol.run(&["send", BOB, "after"]).one();
    assert_eq!(reads.next()["body"], "after");
    let resumed = server.metrics().get("impp_sign_ins_total{mechanism=\"resume\",result=\"ok\"}");
    assert_eq!(resumed, 1.0);
    reads.stop().await;
}

/// Over cuts and a server that is killed, messages of both clients come once each, also to a reader
/// who was away himself.
#[tokio::test(flavor = "multi_thread")]
async fn g2_e2_messages_of_two_clients_over_cuts_and_a_crash() {
    if !is_there() {
        return;
    }
    let mut server = Server::with().no_rates().start();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let bob = Python { profile: through(&server, "bob", &cable) };
    let alice = Python { profile: through(&server, "alice", &cable) };
    let carol = Impp::of(&server, "carol");
    let reads = bob.start(&["inbox", "--follow", "--ack"]);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |line: &Value| {
        if line["item"] == "message" {
            *seen.entry(line["body"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    };
    carol.run(&["send", BOB, "before"]).one();
    count(&reads.next());
    // The cable is pulled, and the server killed, while some are on their way.
    let under_way: Vec<_> =
        (0..4).map(|n| alice.start(&["send", BOB, &format!("cut {n}")])).collect();
    count(&reads.next());
    cable.pull();
    server.kill9();
    server.restart();
    cable.plug();
    for sending in under_way {
        let said = sending.done().await;
        assert!(["delivered", "duplicate"].contains(&said[0]["outcome"].as_str().unwrap()));
    }
    carol.run(&["send", BOB, "after"]).one();
    while !seen_all(&mut count, &reads, "after") {}
    for line in reads.stop().await {
        count(&line);
    }
    // Who was away goes on where he was.
    assert_eq!(alice.one(&["send", BOB, "while away"])["outcome"], "delivered");
    for line in bob.inbox(&["--ack"]) {
        count(&line);
    }
    let expected = ["after", "before", "cut 0", "cut 1", "cut 2", "cut 3", "while away"];
    let expected: BTreeMap<_, _> = expected.map(|body| (body.to_owned(), 1)).into();
    assert_eq!(seen, expected);
}

/// Counts one more line, and whether it is the one that is waited for.
fn seen_all(count: &mut impl FnMut(&Value), reads: &Running, last: &str) -> bool {
    let line = reads.next();
    count(&line);
    line["body"] == last
}

/// What was written goes once and in its order, wherever a connection is cut between the message and its
/// answer, by whichever run of the program.
#[tokio::test(flavor = "multi_thread")]
async fn e1_e2_what_waits_in_the_second_clients_outbox_comes_once() {
    if !is_there() {
        return;
    }
    let server = Server::with().no_rates().start();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let alice = Python { profile: through(&server, "alice", &cable) };
    let carried = || cable.bytes().0 + cable.bytes().1;
    let mut texts = vec!["first".to_owned(), "whole".to_owned()];
    assert_eq!(alice.one(&["send", BOB, "first", "--later"])["outcome"], "delivered");
    let before = carried();
    assert_eq!(alice.one(&["send", BOB, "whole", "--later"])["outcome"], "delivered");
    let whole = carried() - before;
    for cut in (whole - LAST_BYTES..whole).step_by(20) {
        cable.cut_after(cut);
        let text = format!("cut after {cut}");
        // It gives up before it tries a second time.
        assert_eq!(alice.run(&["--timeout", "0.2", "send", BOB, &text, "--later"]).0, 0);
        texts.push(text);
        cable.plug();
        assert_eq!(alice.run(&["outbox", "send"]).0, 0);
        assert_eq!(alice.run(&["outbox", "list"]), (0, vec![]));
    }
    let inbox = Impp::of(&server, "bob").run(&["inbox"]).objects;
    assert_eq!(bodies(&inbox, "message"), texts);
}

/// Of a connection, with a message and its answer in them, and the end of the sign-in.
const LAST_BYTES: u64 = 300;

/// What a client holds, and what it follows, it says and follows again after a crash of the server;
/// a watcher who named what he had is told it no second time.
#[tokio::test]
async fn g2_d_6_6_presence_of_two_clients_over_a_crash() {
    if !is_there() {
        return;
    }
    let mut server = Server::with().set("times.pace_burst", 1_000_000).start();
    let alice = Python::of(&server, "alice");
    let held = alice.start(&["status", "open", "--note", "here", "--hold"]);
    assert_eq!(held.next()["held"], true);
    let watch = Python::of(&server, "bob").start(&["watch", ALICE]);
    let before = watch.until_note("here");
    server.kill9();
    server.restart();
    let carol = Impp::of(&server, "carol");
    eventually("what was said again", async || {
        let seen = carol.run(&["fetch", ALICE]).one();
        (seen["document"]["person"]["note"] == "here").then_some(())
    })
    .await;
    let set = ["status", "set", "open", "--note", "later", "--lease", "600"];
    assert_eq!(Impp::of(&server, "alice").run(&set).code, 0);
    let after = watch.next();
    assert_eq!(after["document"]["person"]["note"], "later", "before: {before}");
    assert_ne!(before["connection"], after["connection"]);
    watch.stop().await;
    held.stop().await;
}
