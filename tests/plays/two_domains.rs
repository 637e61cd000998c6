//! `imppd quickstart --two-domains`: the demonstration works, comes back, and leaves nothing behind.

use std::ffi::OsStr;

use impp_tests::impp::Impp;
use impp_tests::server::Process;
use impp_tests::wait::eventually;

fn start(data: &std::path::Path) -> (Process, Vec<String>) {
    let args: [&OsStr; 4] =
        ["quickstart".as_ref(), "--two-domains".as_ref(), "--data".as_ref(), data.as_os_str()];
    let process = Process::spawn(&args);
    let lines = (0..2).map(|_| process.line()).collect();
    (process, lines)
}

/// The servers that were started from a folder and still run.
fn running(data: &std::path::Path) -> usize {
    let folder = data.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands.filter(|command| String::from_utf8_lossy(command).contains(&folder)).count()
}

/// Two servers that know of each other by DNS alone; started again they are where they were, and
/// none outlives its parent, however that ends.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_1_the_demonstration_of_two_domains() {
    let data = tempfile::tempdir().unwrap();
    let (process, lines) = start(data.path());
    assert!(lines[0].starts_with("ready: a.localhost on 127.0.0.1:"), "{lines:?}");
    assert!(lines[1].starts_with("ready: b.localhost on 127.0.0.1:"), "{lines:?}");
    let profile = |name: &str| Impp::with_profile(&data.path().join("profiles").join(name));
    let (alice, bob) = (profile("alice@a.toml"), profile("bob@b.toml"));
    let sent = alice.run(&["send", "bob@b.localhost", "hello over there"]).one();
    assert_eq!(sent["outcome"], "queued");
    let id = sent["id"].as_str().unwrap().to_owned();
    let delivered = async || (alice.run(&["fate", &id]).one()["fate"] == "delivered").then_some(());
    eventually("the fate", delivered).await;
    process.kill9();
    let none = async || (running(data.path()) == 0).then_some(());
    eventually("the end of both servers", none).await;
    let (process, again) = start(data.path());
    assert_eq!(lines, again, "on the same ports");
    assert_eq!(bob.run(&["requests", "allow", "alice@a.localhost"]).code, 0);
    assert_eq!(bob.run(&["inbox"]).objects[0]["body"], "hello over there");
    process.stop();
    assert_eq!(running(data.path()), 0);
}
