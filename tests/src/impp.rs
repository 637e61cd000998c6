//! The client's program: run with a profile and `--json`, its objects and its exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::binaries;
use crate::server::Server;

/// `impp` as one account.
#[derive(Clone, Debug)]
pub struct Impp {
    profile: PathBuf,
}

/// What a run of `impp` gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// The objects on stdout.
    pub objects: Vec<Value>,
    /// Its words.
    pub stderr: String,
}

impl Impp {
    /// As an account that quickstart made.
    pub fn of(server: &Server, name: &str) -> Impp {
        Impp { profile: server.profile_path(name) }
    }

    /// With another profile.
    pub fn with_profile(profile: &Path) -> Impp {
        Impp { profile: profile.to_owned() }
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, b"")
    }

    /// Begins it, for who wants to kill it; its words are nobody's.
    pub fn begin(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries::impp());
        command.arg("--json").arg("--profile").arg(&self.profile).args(args);
        command.env_remove("IMPP_PROFILE");
        command
    }

    /// Runs it to its end with something on stdin.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read its stdin may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Ran {
            code: output.status.code().expect("an exit, not a signal"),
            objects: stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The one object of a run that has to succeed.
    pub fn one(self) -> Value {
        assert_eq!((self.code, self.objects.len()), (0, 1), "{self:?}");
        self.objects.into_iter().next().unwrap()
    }
}
