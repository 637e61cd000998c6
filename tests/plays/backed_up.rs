//! Another process that reads the database while the server runs, as a backup does; and what such a
//! backup holds.

use std::os::unix::fs::DirBuilderExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use impp_protocol::command::{Fetch, Message, Outcome};
use impp_protocol::{Code, What};
use impp_tests::peer::{fetch, message};
use impp_tests::wait::skipped;
use impp_tests::{Peer, Server, eventually};
use tokio::task::JoinHandle;

use crate::damaged::check_deep;

/// Opens a database, reads it, and closes it.
const READS: &str = "import sqlite3, sys\n\
    store = sqlite3.connect(sys.argv[1])\n\
    store.execute('SELECT count(*) FROM item').fetchone()\n\
    store.close()";

/// Copies a database that is in use, as the documents say.
const BACKS_UP: &str = "import sqlite3, sys\n\
    copy = sqlite3.connect(sys.argv[2])\n\
    sqlite3.connect(sys.argv[1]).backup(copy)\n\
    copy.close()";
/// Messages before the backup begins, and after it has ended.
const AROUND: usize = 40;
/// A body of some pages.
const BODY_BYTES: usize = 20_000;

/// Whether there is a Python with SQLite; if not, that is said.
fn is_there() -> bool {
    let ran = Command::new("python3").args(["-c", "import sqlite3"]).stderr(Stdio::null()).status();
    let there = ran.is_ok_and(|status| status.success());
    if !there {
        skipped("there is no python3 with SQLite");
    }
    there
}

/// Whoever closes the database last takes the log away: while the server has it open that is nobody
/// else, in its first run and in later ones. What is acknowledged afterwards outlives a kill.
#[tokio::test(flavor = "multi_thread")]
async fn g2_who_reads_the_database_leaves_its_log_to_the_server() {
    if !is_there() {
        return;
    }
    let mut server = Server::quickstart();
    let log = server.data().join("store/store.sqlite-wal");
    let mut expected = Vec::new();
    for run in 0..3 {
        let mut alice = Peer::sign_in(&server, "alice").await;
        for when in ["before", "after"] {
            let body = format!("{when} {run}");
            alice.send("bob@localhost", &body).await;
            expected.push(body);
            let mut reads = Command::new("python3");
            reads.args(["-c", READS]).arg(server.data().join("store/store.sqlite"));
            assert!(reads.status().unwrap().success());
            assert!(log.exists(), "the log was taken away in run {run}");
        }
        alice.send("bob@localhost", "last").await;
        expected.push("last".to_owned());
        server.kill9();
        server.restart();
        let inbox = Peer::sign_in(&server, "bob").await.inbox().await;
        let found = inbox.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}

/// What alice has sent and was answered, in order.
type Answered = Arc<Mutex<Vec<Message>>>;

/// Sends to bob, one message after the other, until it is ended.
fn load(mut alice: Peer, answered: &Answered) -> JoinHandle<()> {
    let answered = Arc::clone(answered);
    tokio::spawn(async move {
        for n in 0.. {
            let text = format!("{n} {}", "x".repeat(BODY_BYTES));
            let next = message("bob@localhost", &text);
            assert_eq!(alice.done(next.clone()).await.outcome, Some(Outcome::Delivered));
            answered.lock().unwrap().push(next);
        }
    })
}

async fn until_sent(answered: &Answered, count: usize) -> usize {
    let sent = async || Some(answered.lock().unwrap().len()).filter(|sent| *sent >= count);
    eventually("messages under way", sent).await
}

/// A backup that is made while messages come in holds all that was answered before it began, and
/// nothing by half. Put back by itself it is another store: what clients hold of before is of no use.
#[tokio::test(flavor = "multi_thread")]
async fn g15_a_backup_under_load_is_whole_and_known_as_one() {
    if !is_there() {
        return;
    }
    let mut server = Server::with().no_rates().start();
    let answered = Answered::default();
    let loading = load(Peer::sign_in(&server, "alice").await, &answered);
    let before = until_sent(&answered, AROUND).await;
    let cursor = Peer::sign_in(&server, "bob").await.log().await.pop().unwrap().cursor;
    let copy = server.data().join("copy.sqlite");
    let mut backs_up = Command::new("python3");
    backs_up.args(["-c", BACKS_UP]).arg(server.data().join("store/store.sqlite")).arg(&copy);
    assert!(backs_up.status().unwrap().success());
    let sent = answered.lock().unwrap().len();
    until_sent(&answered, sent + AROUND).await;
    loading.abort();
    // It was ended in the midst of a message, perhaps.
    let _ = loading.await;
    server.stop();

    let store = server.data().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::DirBuilder::new().mode(0o700).create(&store).unwrap();
    std::fs::rename(copy, store.join("store.sqlite")).unwrap();
    let (code, found) = check_deep(&server);
    let is_whole = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|message| message.ends_with(": nothing is damaged"))
    };
    assert!(code == Some(0) && found.iter().any(is_whole), "{code:?} {found:?}");
    server.restart();
    assert_eq!(server.logged("the store is a copy that was put back"), 1);

    let answered = std::mem::take(&mut *answered.lock().unwrap());
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox = bob.inbox().await;
    assert!(inbox.len() >= before, "{} of {before}", inbox.len());
    assert!(inbox.len() < answered.len(), "the backup was made after all of it");
    for (found, sent) in inbox.iter().zip(&answered) {
        assert!(
            found.id == sent.id && found.body == sent.body,
            "{} is not as it was sent",
            sent.id
        );
    }
    let read = Fetch { cursor: Some(cursor), ..fetch("bob@localhost", What::Log) };
    assert_eq!(bob.refused(read).await, Code::BadCursor);
    let mut alice = Peer::sign_in(&server, "alice").await;
    for (n, sent) in answered.into_iter().enumerate() {
        let outcome = alice.done(sent).await.outcome;
        let is_there = n < inbox.len();
        let expected = if is_there { Outcome::Duplicate } else { Outcome::Delivered };
        assert_eq!(outcome, Some(expected), "message {n} of {}", inbox.len());
    }
}
