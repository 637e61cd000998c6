//! A running `imppd`: its lines, its end.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::binaries;
use crate::wait::DEADLINE;

/// How much of stderr is kept for a play that fails.
const STDERR_BYTES_MAX: usize = 256 * 1024;

/// See the module. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Mutex<Receiver<String>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `imppd` with these arguments.
    pub fn spawn(args: &[&OsStr]) -> Process {
        Process::spawn_under(&[], args)
    }

    /// Starts it by another command, which must become `imppd` and stay the same process.
    pub fn spawn_under(command: &[OsString], args: &[&OsStr]) -> Process {
        let imppd = binaries::imppd().as_os_str().to_owned();
        let words: Vec<&OsString> = command.iter().chain([&imppd]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (mut pipe, kept) = (child.stderr.take().unwrap(), stderr.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut kept = kept.lock().unwrap();
                kept.extend(&buffer[..count]);
                let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
                kept.drain(..excess);
            }
        });
        Process { child, lines: Mutex::new(lines), stderr, reader: Some(reader) }
    }

    /// The next line of its stdout.
    pub fn line(&self) -> String {
        match self.lines.lock().unwrap().recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(error) => panic!("no line from imppd: {error}; stderr:\n{}", self.stderr()),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr, or the newest part of it.
    pub fn stderr(&self) -> String {
        let bytes: Vec<u8> = self.stderr.lock().unwrap().iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "imppd had ended before: {status}");
    }

    /// SIGTERM, and waits for an end in good order.
    pub fn stop(self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let (status, stderr) = self.ended();
        assert!(status.success(), "imppd stopped with {status}:\n{stderr}");
    }

    /// Waits until it has ended: how, and what it wrote to stderr.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let _ = self.reader.take().map(JoinHandle::join);
                return (status, self.stderr());
            }
            assert!(Instant::now() < deadline, "imppd does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "beside the test that fails, where it is captured")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- stderr of imppd {}\n{}---", self.child.id(), self.stderr());
        }
    }
}
