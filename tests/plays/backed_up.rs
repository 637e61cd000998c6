//! Another process that reads the database while the server runs, as a backup does.

use std::process::{Command, Stdio};

use impp_tests::wait::skipped;
use impp_tests::{Peer, Server};

/// Opens a database, reads it, and closes it.
const READS: &str = "import sqlite3, sys\n\
    store = sqlite3.connect(sys.argv[1])\n\
    store.execute('SELECT count(*) FROM item').fetchone()\n\
    store.close()";

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
