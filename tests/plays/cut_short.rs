//! Calls on the store's files that are interrupted, do less than they were asked, or fail at some places of
//! the disk alone. Faults G9, G11.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use impp_protocol::command::Message;
use impp_protocol::{Code, What};
use impp_tests::peer::{Peer, fetch, message};
use impp_tests::power::Recorder;
use impp_tests::trace::Trace;
use impp_tests::wait::DEADLINE;
use impp_tests::{Server, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const STORE: [&str; 5] =
    ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm", "reserve", "witness"];
/// Calls on these files that may be interrupted before they have done anything.
const INTERRUPTED: &str = "openat,read,pread64,write,pwrite64,ftruncate";
/// Of a frame of the log: its header, and how much of its page is written at first.
const FRAME_HEADER_BYTES: u64 = 24;
const WRITTEN_BYTES: u64 = 1000;
/// So long nothing is written before a play takes it that nothing waits to be.
const QUIET: Duration = Duration::from_secs(2);

async fn bodies(server: &Server, name: &str) -> Vec<String> {
    let inbox = Peer::sign_in(server, name).await.inbox().await;
    inbox.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()).collect()
}

/// Whatever is interrupted is done again: from the first start on, over a kill, nobody is told of it and
/// nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn g11_interrupted_calls_are_made_again() {
    if Recorder::new().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, record) = (folder.path().join("store"), folder.path().join("calls"));
    std::fs::create_dir(&store).unwrap();
    let (trace, inject) =
        (format!("trace={INTERRUPTED}"), format!("inject={INTERRUPTED}:error=EINTR:when=1+2"));
    let mut strace: Vec<&str> = vec!["strace", "-D", "-f", "-e", &trace, "-e", &inject, "-o"];
    strace.push(record.to_str().unwrap());
    let paths = STORE.map(|file| store.join(file).to_str().unwrap().to_owned());
    strace.extend(paths.iter().flat_map(|path| ["-P", path]));
    let command = strace.into_iter().map(Into::into).collect();
    let mut server = Server::with().store(&store).under(command).start();
    let mut sent = Vec::new();
    for life in 0..2 {
        let mut alice = Peer::sign_in(&server, "alice").await;
        for n in 0..5 {
            sent.push(format!("{n} of life {life}"));
            alice.send("bob@localhost", sent.last().unwrap()).await;
        }
        assert_eq!(bodies(&server, "bob").await, sent);
        assert_eq!(server.http("/healthz").0, 200);
        server.kill9();
        server.restart();
    }
    assert_eq!(bodies(&server, "bob").await, sent);
    server.stop();
    let record = std::fs::read_to_string(record).unwrap();
    let interrupted = |call: &str| {
        let call = format!("{call}(");
        record.lines().any(|line| line.contains(&call) && line.contains("EINTR"))
    };
    for call in ["openat", "pread64", "pwrite64"] {
        assert!(interrupted(call), "no {call} was interrupted");
    }
}

/// A write that does less than it was asked goes on where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn g11_a_write_that_is_cut_short_goes_on() {
    let mut server = limited();
    let (mut alice, log, cut) = soon_cut(&server).await;
    // The header is the first write, and the page the second: what that has done is told late.
    let inject = "inject=pwrite64:delay_exit=600000000:when=2";
    let options = ["-e", "trace=pwrite64", "-e", inject, "-P", log.to_str().unwrap()];
    let Some(trace) = Trace::attach(&server, &options) else { return };
    let number = alice.ask(message("bob@localhost", "in two parts")).await;
    eventually("a write that is cut short", async || (length(&log) == cut).then_some(())).await;
    eventually("the writer to be held", async || Trace::holds(&server)).await;
    limit(&server, None);
    drop(trace);
    alice.answer(number).await.expect("a message that is taken");
    server.kill9();
    server.restart();
    assert_eq!(bodies(&server, "bob").await, ["before", "in two parts"]);
}

/// And one that cannot go on is not acknowledged; after a restart what was is there, and the rest can come
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn g11_a_write_that_is_cut_short_and_cannot_go_on_is_not_acknowledged() {
    let mut server = limited();
    let (mut alice, log, cut) = soon_cut(&server).await;
    let refused = message("bob@localhost", "in one part");
    let error = alice.request(refused.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Storage);
    assert!(error.text.unwrap().contains("not known"));
    assert_eq!(length(&log), cut);
    assert_eq!(server.http("/healthz").0, 503);
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(refused).await;
    assert_eq!(bodies(&server, "bob").await, ["before", "in one part"]);
}

/// One message is there, and what is written next is cut short: who sends it, the log, and how long that may be.
async fn soon_cut(server: &Server) -> (Peer, PathBuf, u64) {
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.send("bob@localhost", "before").await;
    let log = server.store().join("store.sqlite-wal");
    let cut = quiet(&log) + FRAME_HEADER_BYTES + WRITTEN_BYTES;
    limit(server, Some(cut));
    (alice, log, cut)
}

/// A server that is refused longer files, and not killed for it.
fn limited() -> Server {
    let ignoring = ["env", "--ignore-signal=XFSZ"].map(Into::into).to_vec();
    Server::with().under(ignoring).start()
}

/// From now on no file of the server's gets longer than this.
fn limit(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_raw(server.pid() as i32), Resource::Fsize, limit).unwrap();
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).unwrap().len()
}

/// The length of the log once nothing is written to it any more.
fn quiet(log: &Path) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    let mut found = length(log);
    loop {
        std::thread::sleep(QUIET);
        let before = std::mem::replace(&mut found, length(log));
        if before == found {
            return found;
        }
        assert!(Instant::now() < deadline, "the log grows and grows");
    }
}

/// Places of the database cannot be read: who asks for what stands there is told so, and is answered again
/// once it can be read. Nothing else is answered, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn g9_what_cannot_be_read_is_told_and_takes_nothing_else() {
    let mut server = Server::with().no_rates().start();
    let mut sent = Vec::new();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for n in 0..20 {
        sent.push(format!("{n} {}", "x".repeat(3000)));
        alice.send("bob@localhost", sent.last().unwrap()).await;
    }
    // Nothing of it is in anybody's memory.
    server.stop();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let database = server.store().join("store.sqlite");
    let options = ["-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=1+2", "-P"];
    let options = [&options[..], &[database.to_str().unwrap()]].concat();
    let Some(trace) = Trace::attach(&server, &options) else { return };
    let mut told = 0;
    let mut open: Vec<Message> = Vec::new();
    for n in 0..20 {
        match bob.request(fetch("bob@localhost", What::Log)).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code, Code::Storage, "{error:?}");
                told += 1;
            }
        }
        let next = message("bob@localhost", &format!("meanwhile {n}"));
        match alice.request(next.clone()).await {
            Ok(_) => sent.push(String::from_utf8(next.body.to_vec()).unwrap()),
            Err(error) => {
                assert_eq!(error.code, Code::Storage, "{error:?}");
                open.push(next);
            }
        }
    }
    let record = trace.detach();
    assert!(told > 0 && record.contains("(INJECTED)"), "nobody has met it: {record}");
    // What can be read again is, without a restart. Whether the others are there, nobody knows.
    let mut found = bodies(&server, "bob").await;
    found.retain(|text| sent.contains(text));
    assert_eq!(found, sent);
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for message in open {
        alice.done(message.clone()).await;
        sent.push(String::from_utf8(message.body.to_vec()).unwrap());
    }
    let mut found = bodies(&server, "bob").await;
    found.sort();
    sent.sort();
    assert_eq!(found, sent);
}
