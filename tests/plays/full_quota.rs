//! What a disk lacks is told apart: bytes, a quota, inodes; and a disk that lacks nothing but fails.
//! Faults G8, G11.

use impp_protocol::Code;
use impp_tests::disk::{SmallDisk, use_up_inodes};
use impp_tests::peer::{Peer, message};
use impp_tests::server::refused_start;
use impp_tests::trace::Trace;
use impp_tests::{Server, eventually};

/// From now on writing into these files of the store fails so; `None` if strace cannot be used.
fn refuse(server: &Server, files: &[&str], error: &str) -> Option<Trace> {
    let store = server.data().join("store");
    let paths: Vec<String> = files.iter().map(|f| store.join(f).display().to_string()).collect();
    let inject = format!("inject=write,pwrite64:error={error}");
    let mut options = vec!["-e", "trace=write,pwrite64", "-e", &inject];
    options.extend(paths.iter().flat_map(|path| ["-P", path.as_str()]));
    Trace::attach(server, &options)
}

const STORE: [&str; 4] = ["store.sqlite", "store.sqlite-wal", "reserve", "probe"];

/// A quota is used up: senders are told so and that nothing was stored, `/healthz` and the log too;
/// with room it goes on by itself, and after a kill -9 there is what was acknowledged, and no more.
#[tokio::test]
async fn g11_a_quota_is_told_as_that_and_heals() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "before").await;
    let Some(trace) = refuse(&server, &STORE, "EDQUOT") else { return };
    let refused = message("bob@localhost", "refused at first");
    for _ in 0..2 {
        let error = alice.request(refused.clone()).await.unwrap_err();
        assert_eq!(error.code, Code::Storage);
        let text = error.text.unwrap();
        assert!(text.contains("quota") && text.contains("nothing was stored"), "{text}");
    }
    let (status, text) = server.http("/healthz");
    assert!(status == 503 && text.contains("quota"), "{text}");
    server.until_logged("quota", 1).await;
    assert!(!server.data().join("store/probe").exists());
    drop(trace);
    eventually("the store to go on", async || alice.request(refused.clone()).await.ok()).await;
    assert_eq!(server.http("/healthz").0, 200);
    server.kill9();
    server.restart();
    let inbox = Peer::sign_in(&server, "bob").await.inbox().await;
    let bodies: Vec<_> = inbox.iter().map(|message| message.body.to_vec()).collect();
    assert_eq!(bodies, [b"before".to_vec(), b"refused at first".to_vec()]);
}

/// A disk that cannot be written to, and lacks nothing, is not told as full: what it has is not known
/// until a restart.
#[tokio::test]
async fn g7_g11_an_error_of_writing_is_no_full_disk() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "before").await;
    let Some(trace) = refuse(&server, &["store.sqlite-wal"], "EIO") else { return };
    let refused = message("bob@localhost", "refused at first");
    let error = alice.request(refused.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Storage);
    assert!(error.text.unwrap().contains("not known"));
    assert!(!server.http("/healthz").1.contains("full"));
    drop(trace);
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(refused).await;
}

/// Without free inodes a server that runs goes on; one that starts says what is lacking, and starts
/// when that is there.
#[tokio::test]
async fn g11_a_lack_of_inodes_is_told_as_that() {
    let Some(disk) = SmallDisk::mount_with(64 * 1024 * 1024, ",nr_inodes=200") else { return };
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let mut server = Server::with().store(&store).start();
    let files = disk.path().join("files");
    std::fs::create_dir(&files).unwrap();
    use_up_inodes(&files);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "stored").await;
    assert_eq!(server.http("/healthz").0, 200);
    server.stop();
    use_up_inodes(&files);
    let config = server.config().display().to_string();
    let (code, said) = refused_start(&["serve", "--config", &config]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("inodes"), "{said}");
    std::fs::remove_dir_all(&files).unwrap();
    server.restart();
    assert_eq!(Peer::sign_in(&server, "bob").await.inbox().await.len(), 1);
}
