//! A log that nobody takes: lines are lost, counted, and the server goes on and stops as ever.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use impp_tests::binaries::imppd;
use impp_tests::{Server, eventually};

/// A server whose standard error is this serves its control socket, and stops in good order.
async fn goes_on_and_stops(stderr: impl Into<Stdio>) {
    let mut server = Server::with().set("log.level", "trace").start();
    server.stop();
    let mut child = Command::new(imppd())
        .args(["serve", "--config"])
        .arg(server.config())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .env_remove("RUST_LOG")
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready:");
    // Each says lines at this level.
    let file = server.config().display().to_string();
    for _ in 0..8 {
        let reloaded = Command::new(imppd()).args(["reload", "--config", &file]).output().unwrap();
        assert!(reloaded.status.success(), "{reloaded:?}");
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let status = eventually("the end", async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn b10_a_log_on_a_full_disk_is_lost_and_nothing_else() {
    goes_on_and_stops(File::options().write(true).open("/dev/full").unwrap()).await;
}

#[tokio::test]
async fn b10_a_log_whose_reader_has_gone_is_lost_and_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    goes_on_and_stops(OwnedFd::from(writer)).await;
}

#[tokio::test]
async fn b10_a_log_whose_reader_stalls_holds_up_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds: the next line would wait for a reader.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    goes_on_and_stops(OwnedFd::from(writer)).await;
    drop(reader);
}
