//! Opening the store: faults G13, G14.

use std::collections::BTreeMap;
use std::path::Path;

use impp_protocol::command::Ping;
use impp_tests::server::{Process, refused_start};
use impp_tests::{Peer, Server};

/// A second server on the same store is refused, with the number of the first.
#[tokio::test]
async fn g13_a_second_process_on_the_store_is_refused() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (config, data) = (server.config(), server.data().to_owned());
    for args in [
        ["serve", "--config", config.to_str().unwrap()],
        ["quickstart", "--data", data.to_str().unwrap()],
    ] {
        let (code, stderr) = refused_start(&args);
        assert_eq!(code, Some(5), "{stderr}");
        assert!(stderr.contains(&server.pid().to_string()), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    alice.done(Ping::empty()).await;
    assert_eq!(server.user(&["list"]).status.code(), Some(0));
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    // The lock's file names whoever tried last.
    let files = entries.filter(|entry| entry.file_name() != "lock");
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    files.map(read).collect()
}

/// A store that is not ours, or not yet ours, is refused and left as it is.
#[tokio::test]
async fn g14_a_store_that_is_not_ours_is_refused_and_untouched() {
    let mut server = Server::quickstart();
    server.stop();
    let (config, store) = (server.config(), server.data().join("store"));
    let database = store.join("store.sqlite");
    let good = std::fs::read(&database).unwrap();
    let with = |offset: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let mut random = vec![0; 8192];
    getrandom::fill(&mut random).unwrap();
    // SQLite's header: the format's version at 60, whose file it is at 68.
    let bad = [
        ("newer", with(60, u32::MAX)),
        ("foreign", with(68, 0x1234_5678)),
        ("random", random),
        ("empty", vec![]),
        ("text", b"not a database".to_vec()),
    ];
    for (what, bytes) in bad {
        std::fs::write(&database, &bytes).unwrap();
        let before = contents(&store);
        let (code, stderr) = refused_start(&["serve", "--config", config.to_str().unwrap()]);
        assert_eq!(code, Some(5), "{what}: {stderr}");
        assert!(stderr.starts_with("error: "), "{what}: {stderr}");
        assert!(contents(&store) == before, "{what}: the store was touched");
    }
    std::fs::write(&database, &good).unwrap();
    server.restart();
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

/// Quickstart on what quickstart has made changes nothing, and says what it always says.
#[test]
fn quickstart_run_again_changes_nothing() {
    let mut server = Server::quickstart();
    let read = |server: &Server| {
        let files = ["imppd.toml", "tls/ca.pem", "profiles/alice.toml"];
        files.map(|file| std::fs::read(server.data().join(file)).unwrap())
    };
    let before = read(&server);
    server.stop();
    let data = server.data().display().to_string();
    let again = Process::spawn(&["quickstart".as_ref(), "--data".as_ref(), data.as_ref()]);
    assert_eq!(again.line(), format!("ready: localhost on {}", server.address()));
    assert_eq!(read(&server), before);
    again.stop();
}

/// Port 0 is a free one, and is named.
#[test]
fn quickstart_names_the_real_port() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&[
        "quickstart".as_ref(),
        "--data".as_ref(),
        folder.path().as_os_str(),
        "--listen".as_ref(),
        "127.0.0.1:0".as_ref(),
    ]);
    let line = server.line();
    let port = line.strip_prefix("ready: localhost on 127.0.0.1:").expect(&line);
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    server.stop();
}
