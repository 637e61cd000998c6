//! The file system beneath a running server fails, and is only to be read from then on: fault G9.

use impp_protocol::{Code, What};
use impp_tests::Server;
use impp_tests::disk::JournalDisk;
use impp_tests::peer::{Peer, fetch, message};
use impp_tests::presence::{Watcher, at_once, open};
use impp_tests::server::refused_start;

use crate::settings::OPEN_PRESENCE;

const DISK_BYTES: u64 = 64 * 1024 * 1024;
/// What the system says then.
const CAUSE: &str = "Read-only file system";

/// A server whose store is on a disk that can fail; none where none can be mounted.
fn on_disk_that_fails() -> Option<(JournalDisk, Server)> {
    let disk = JournalDisk::mount(DISK_BYTES)?;
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let start = at_once().accounts(["alice", "bob", "carol"]).no_rates();
    let server = start.set("inbox.items_max", 1_000_000).store(&store).start();
    Some((disk, server))
}

/// Lines of the log that say that something is wrong.
fn complaints(server: &Server) -> usize {
    let said = server.stderr();
    said.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).count()
}

async fn bodies(server: &Server, name: &str) -> Vec<String> {
    let inbox = Peer::sign_in(server, name).await.inbox().await;
    inbox.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()).collect()
}

/// Whoever sends while it fails is told what was stored, and of the rest that it is not known; what can be
/// read or needs no storing goes on; the cause is told once. When it is mounted again all is there that was
/// acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn g9_a_file_system_that_fails_takes_nothing_that_was_acknowledged() {
    let Some((disk, mut server)) = on_disk_that_fails() else { return };
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show(&open("known")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    bob.until_note("known").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let mut stored = 0;
    let of = |n: usize| message("bob@localhost", &n.to_string());
    while stored < 50 {
        carol.done(of(stored)).await;
        stored += 1;
    }
    // Nothing is being synced: a sync that is caught by this abort may be told, by the system, to have gone well.
    disk.fail();
    let (unsure, error) = loop {
        let next = of(stored);
        match carol.request(next.clone()).await {
            Ok(_) => stored += 1,
            Err(error) => break (next, error),
        }
    };
    assert_eq!(error.code, Code::Storage);
    assert!(error.text.as_ref().unwrap().contains("not known"), "{error:?}");

    let (status, said) = server.http("/healthz");
    assert!(status == 503 && said.contains(CAUSE), "{status}: {said}");
    server.until_logged(CAUSE, 1).await;
    let before = complaints(&server);
    for n in 0..20 {
        let code = carol.refused(message("bob@localhost", &format!("refused {n}"))).await;
        assert_eq!(code, Code::Storage);
        assert!(alice.show_for(&open("cannot be stored"), 3600).await.is_err());
    }
    // What is known is shown, and what nobody has to store; what was stored can be read.
    alice.show(&open("goes on")).await;
    bob.until_note("goes on").await;
    bob.peer.done(fetch("alice@localhost", What::Presence)).await;
    assert!(bob.peer.inbox().await.len() >= stored);
    assert_eq!(complaints(&server), before, "told for each: {}", server.stderr());
    assert_eq!(server.logged(CAUSE), 1, "{}", server.stderr());

    server.kill9();
    let config = server.config().display().to_string();
    let (code, said) = refused_start(&["serve", "--config", &config]);
    assert!(code == Some(5) && said.contains(CAUSE), "{code:?}: {said}");
    disk.mend();
    server.restart();
    assert!(!server.stderr().contains("put back"), "{}", server.stderr());
    let found = bodies(&server, "bob").await;
    let expected: Vec<String> = (0..stored).map(|n| n.to_string()).collect();
    assert_eq!(&found[..stored.min(found.len())], expected);
    // Whether the last one is there, nobody knew: it is repeated, and is there once.
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.done(unsure).await;
    let found = bodies(&server, "bob").await;
    assert_eq!((found.len(), found.last().unwrap()), (stored + 1, &stored.to_string()));
    assert_eq!(server.http("/healthz").0, 200);
}
