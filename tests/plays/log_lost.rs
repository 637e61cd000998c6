//! A log that nobody takes: lines are lost, counted, and the server goes on and stops as ever.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};

use impp_tests::binaries::imppd;
use impp_tests::{Server, eventually};

/// A server that says much, whose standard error is this.
struct Told {
    server: Server,
    child: Child,
    _stdout: ChildStdout,
}

impl Told {
    fn to(stderr: impl Into<Stdio>) -> Told {
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
        Told { server, child, _stdout: stdout }
    }

    /// It serves its control socket. Each time it says lines at this level.
    fn reload(&self) {
        let file = self.server.config().display().to_string();
        let reloaded = Command::new(imppd()).args(["reload", "--config", &file]).output().unwrap();
        assert!(reloaded.status.success(), "{reloaded:?}");
    }

    fn dropped(&self) -> f64 {
        self.server.metrics().get("impp_log_lines_dropped_total")
    }

    /// It stops in good order.
    async fn stops(mut self) {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let status = eventually("the end", async || self.child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

/// It goes on, counts what is lost, and stops.
async fn counts_and_stops(stderr: impl Into<Stdio>) {
    let told = Told::to(stderr);
    let before = told.dropped();
    for _ in 0..8 {
        told.reload();
    }
    eventually("what is lost to be counted", async || {
        (told.dropped() >= before + 8.0).then_some(())
    })
    .await;
    told.stops().await;
}

#[tokio::test]
async fn b10_a_log_on_a_full_disk_is_lost_and_nothing_else() {
    counts_and_stops(File::options().write(true).open("/dev/full").unwrap()).await;
}

#[tokio::test]
async fn b10_a_log_whose_reader_has_gone_is_lost_and_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    counts_and_stops(OwnedFd::from(writer)).await;
}

#[tokio::test]
async fn b10_a_log_whose_reader_stalls_holds_up_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds: the next line would wait for a reader.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    let told = Told::to(OwnedFd::from(writer));
    for _ in 0..8 {
        told.reload();
    }
    told.stops().await;
    drop(reader);
}

/// When lines are taken again, the log says how many are missing.
#[tokio::test]
async fn b10_what_is_missing_in_a_log_is_told_in_it() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    filler.write_all(&[b'x'; 65_536]).unwrap();
    // What a full disk is to a file, and mends when somebody reads.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let told = Told::to(OwnedFd::from(writer));
    drop(filler);
    let lost = eventually("lines to be lost", async || {
        told.reload();
        Some(told.dropped()).filter(|lost| *lost >= 8.0)
    })
    .await;
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    for _ in 0..8 {
        told.reload();
    }
    told.stops().await;
    let text = reading.join().unwrap().unwrap();
    let words = " lines of the log were dropped";
    let counts = text.lines().filter_map(|line| line.split("WARN ").last()?.strip_suffix(words));
    let missing: f64 = counts.map(|count| count.parse::<f64>().unwrap()).sum();
    assert!(missing >= lost, "{missing} told, {lost} lost");
}
