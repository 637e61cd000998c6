//! An `impp` that runs until it is stopped: its objects and words as they come.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binaries;
use crate::server::Server;
use crate::wait::DEADLINE;

/// See the module. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    objects: Receiver<String>,
    words: Receiver<String>,
}

impl Running {
    /// Starts `impp` as one account.
    pub fn start(server: &Server, name: &str, args: &[&str]) -> Running {
        Running::with_profile(&server.profile_path(name), args)
    }

    /// Starts `impp` with another profile.
    pub fn with_profile(profile: &Path, args: &[&str]) -> Running {
        let mut child = Command::new(binaries::impp())
            .args(["--json", "--profile"])
            .arg(profile)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let objects = lines(child.stdout.take().unwrap());
        let words = lines(child.stderr.take().unwrap());
        Running { child, objects, words }
    }

    /// The next object on its stdout.
    pub fn object(&mut self) -> Value {
        let line = self.objects.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|error| panic!("no object ({error}): {:?}", self.said()));
        serde_json::from_str(&line).unwrap()
    }

    /// The next object that is as wanted; others are passed over.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let object = self.object();
            if wanted(&object) {
                return object;
            }
            assert!(Instant::now() < deadline, "not what was awaited, but {object}");
        }
    }

    /// Waits until it says a line with this in it on stderr.
    pub fn until_it_says(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.words.recv_timeout(left) {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(error) => panic!("it does not say {text:?}: {error}"),
            }
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and waits until it has ended: its exit code.
    pub fn interrupt(self) -> Option<i32> {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::INT).unwrap();
        self.ended().0
    }

    /// Ctrl-C, and waits until it has ended: its exit code, and what it still prints.
    pub fn interrupt_and_rest(mut self) -> (Option<i32>, Vec<Value>) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::INT).unwrap();
        let code = self.exit_code();
        // Its stdout is closed now.
        (code, self.objects.iter().map(|line| serde_json::from_str(&line).unwrap()).collect())
    }

    /// Waits until it has ended by itself: its exit code, and its last word.
    pub fn ended(mut self) -> (Option<i32>, Option<Value>) {
        let code = self.exit_code();
        // Its stderr is closed now.
        let last = self.words.iter().last();
        (code, last.and_then(|line| serde_json::from_str(&line).ok()))
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("impp does not end: {:?}", self.said());
    }

    fn said(&self) -> Vec<String> {
        self.words.try_iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    receiver
}
